//! What reading backwards finds: the same as forwards, whatever lies between, and without looking at all of it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Messages of 5 topics in batches, on a clock that is set back now and then, with retention in between.
#[derive(Clone, Debug)]
enum Step {
    Message(u8),
    Pass(i64),
    Commit,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0_u8..5).prop_map(Step::Message),
        2 => Just(Step::Message(4)),
        3 => (-30_i64..60).prop_map(Step::Pass),
        2 => Just(Step::Commit),
        1 => Just(Step::Restart),
    ]
}

async fn run(bench: &Bench, steps: Vec<Step>) -> Store {
    let mut store = bench.open();
    save(&store, "s/d", true).await;
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Message(topic) => {
                let message = bench.message("s/d", &format!("t{topic}"), number.to_string());
                store.append(message).await.unwrap();
            }
            Step::Pass(seconds) => bench.pass_time(seconds),
            Step::Commit => store.sync().await.unwrap(),
            Step::Restart => {
                store.close().await;
                drop(store);
                store = bench.open();
                save(&store, "s/d", true).await;
            }
        }
    }
    store.sync().await.unwrap();
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn backwards_is_forwards_turned_round(
        steps in proptest::collection::vec(step(), 1..400),
        wanted in proptest::collection::btree_set(0_u8..5, 1..4),
        start in proptest::option::of(0_u64..400),
        from in proptest::option::of(-40_i64..80),
        to in proptest::option::of(-20_i64..120),
        retain in prop_oneof![Just(45_u64), Just(86_400)],
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new();
            bench.retain_for = Duration::from_secs(retain);
            let store = run(&bench, steps).await;
            let names: BTreeSet<_> = wanted.iter().map(|topic| format!("t{topic}")).collect();
            let mut topics: Vec<u32> = store
                .catalog()
                .of_device("s/d")
                .filter(|(_, topic)| names.contains(&*topic.name))
                .map(|(number, _)| number)
                .collect();
            topics.sort_unstable();
            let at = |seconds: i64| START + seconds * SECOND;
            let down = Scan {
                topics,
                from: from.map(at),
                to: to.map(at),
                ascending: false,
                start: start.unwrap_or(u64::MAX),
            };
            // Nothing more is deleted: the writer looks for what is due every 5 s only, and has just begun.
            let up = Scan { ascending: true, start: 0, ..down.clone() };
            let mut expected = scanned(&store, up).await;
            expected.retain(|(sequence, _)| *sequence <= down.start);
            expected.reverse();
            prop_assert_eq!(scanned(&store, down).await, expected);
            store.close().await;
            Ok(())
        })?;
    }
}

/// The latest messages of a topic.
async fn last(store: &Store, name: &str, count: usize) -> Vec<u64> {
    let number = store
        .catalog()
        .of_device("s/d")
        .find(|(_, topic)| &*topic.name == name)
        .unwrap()
        .0;
    let scan = Scan {
        topics: vec![number],
        from: None,
        to: None,
        ascending: false,
        start: u64::MAX,
    };
    let read = store.read(move |reader| {
        let mut found = Vec::new();
        reader.scan(&scan, &mut |stored| {
            found.push(stored.sequence);
            if found.len() == count {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(found)
    });
    read.await.unwrap()
}

/// Damages the data of all blocks but those in which one of these messages is.
fn damage_all_but(directory: &Path, needed: &[u64]) {
    let database = rusqlite::Connection::open(directory.join("store.db")).unwrap();
    let list: Vec<_> = needed.iter().map(u64::to_string).collect();
    let sql = format!(
        "UPDATE blocks SET data = zeroblob(length(data)), topics = x'80'
         WHERE NOT EXISTS (SELECT 1 FROM json_each('[{}]') WHERE value BETWEEN first AND last)",
        list.join(",")
    );
    let changed = database.execute(&sql, ()).unwrap();
    assert!(changed > 100, "{changed}");
}

#[tokio::test]
async fn the_latest_messages_of_a_topic_are_found_without_a_look_at_what_lies_between() {
    let bench = Bench::new();
    let store = bench.open();
    let (mut rare, mut sequence) = (Vec::new(), 0);
    for number in 0..12_000 {
        let topic = if number % 1_000 == 17 {
            "rare"
        } else {
            "often"
        };
        sequence += 1;
        if topic == "rare" {
            rare.push(sequence);
        }
        let message = bench.message("s/d", topic, number.to_string());
        store.append(message).await.unwrap();
    }
    store.sync().await.unwrap();
    damage_all_but(bench.directory.path(), &rare);
    rare.reverse();
    assert_eq!(last(&store, "rare", 12).await, rare);
}

/// Blocks of one message each, as they were.
fn as_version_1(directory: &Path) {
    // Its records pointed at none.
    let database = rusqlite::Connection::open(directory.join("store.db")).unwrap();
    let blocks: Vec<(u64, Vec<u8>)> = {
        let mut query = database.prepare("SELECT first, data FROM blocks").unwrap();
        let rows = query
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    for (first, data) in blocks {
        let block = Block {
            first,
            last: first,
            time_min: 0,
            time_max: 0,
            topics: Box::default(),
            data: data.into(),
        };
        let (_, mut record) = block.records().next().unwrap().unwrap();
        assert_eq!(record.previous, first - 1);
        record.previous = 0;
        let block = Block::encode(first, &[record]).unwrap();
        let row = (first, block.data.as_ref());
        database
            .execute("UPDATE blocks SET data=?2 WHERE first=?1", row)
            .unwrap();
    }
    database
        .execute("DELETE FROM meta WHERE key='unlinked'", ())
        .unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
}

#[tokio::test]
async fn store_of_the_version_before_is_read_in_whole_and_goes_on() {
    let bench = Bench::new();
    let store = bench.open();
    for number in 0..3 {
        store
            .append(bench.message("s/d", "t", number.to_string()))
            .await
            .unwrap();
        store.sync().await.unwrap();
    }
    store.close().await;
    drop(store);
    as_version_1(bench.directory.path());
    let store = bench.open();
    assert_eq!(last(&store, "t", 5).await, [3, 2, 1]);
    store.append(bench.message("s/d", "t", "3")).await.unwrap();
    store.sync().await.unwrap();
    assert_eq!(last(&store, "t", 5).await, [4, 3, 2, 1]);
    store.close().await;
    drop(store);
    let store = bench.open();
    assert_eq!(last(&store, "t", 5).await, [4, 3, 2, 1]);
    assert!(
        std::fs::read_dir(bench.directory.path())
            .unwrap()
            .all(|entry| {
                !entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .contains("aside")
            })
    );
}
