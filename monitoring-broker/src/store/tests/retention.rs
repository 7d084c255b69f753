//! What retention deletes, keeps and gives back.

use super::*;

#[tokio::test]
async fn sequence_never_repeats_after_retention_emptied_the_store_and_the_clock_went_back() {
    let mut bench = Bench::new();
    bench.retain_for = Duration::from_secs(60);
    let store = bench.open();
    for _ in 0..10 {
        store.append(bench.message("s/d", "t", "x")).await.unwrap();
    }
    store.sync().await.unwrap();
    bench.pass_time(120);
    until("retention", async || all(&store).await.is_empty()).await;
    assert_eq!(store.oldest(), 11);
    store.close().await;
    drop(store);
    bench.pass_time(-1_000_000);
    let store = bench.open();
    store.append(bench.message("s/d", "t", "y")).await.unwrap();
    store.sync().await.unwrap();
    assert_eq!(all(&store).await, [(11, "y".to_owned())]);
}

#[tokio::test]
async fn last_message_of_each_topic_of_a_served_device_outlives_its_age() {
    let mut bench = Bench::new();
    bench.retain_for = Duration::from_secs(60);
    let store = bench.open();
    save(&store, "s/served", true).await;
    save(&store, "s/gone", false).await;
    for device in ["s/served", "s/gone"] {
        for topic in ["a", "b"] {
            for number in 0..3 {
                let payload = format!("{device} {topic} {number}");
                store
                    .append(bench.message(device, topic, payload))
                    .await
                    .unwrap();
            }
        }
    }
    store.sync().await.unwrap();
    bench.pass_time(120);
    let expected = [
        (3, "s/served a 2".to_owned()),
        (6, "s/served b 2".to_owned()),
    ];
    until("retention", async || all(&store).await == expected).await;
    let devices = |store: &Store| store.catalog().devices().cloned().collect::<Vec<_>>();
    assert_eq!(devices(&store), [Arc::from("s/served")]);
    store.close().await;
    drop(store);
    let store = bench.open();
    assert_eq!(all(&store).await, expected);
    let saved = store.saved_devices().await.unwrap();
    assert_eq!(saved, [("s/served".to_owned(), "{}".to_owned())]);
    store.catalog().get(1).unwrap();
    // A newer message takes the place of the kept one.
    save(&store, "s/served", true).await;
    store
        .append(bench.message("s/served", "a", "new"))
        .await
        .unwrap();
    store.sync().await.unwrap();
    assert_eq!(numbers(&all(&store).await), [6, 13]);
}

#[tokio::test]
async fn size_on_disk_stays_within_its_limit_and_the_oldest_go_first() {
    let mut bench = Bench::new();
    bench.retain_bytes = 16 << 20;
    let store = bench.open();
    let payload = Bytes::from(vec![b'x'; 1_000]);
    let mut largest = 0;
    for round in 0..80 {
        for _ in 0..512 {
            store
                .append(bench.message("s/d", "t", payload.clone()))
                .await
                .unwrap();
        }
        if round % 8 == 0 {
            store.sync().await.unwrap();
            largest = largest.max(directory::size(bench.directory.path()));
        }
    }
    store.sync().await.unwrap();
    assert!(largest <= bench.retain_bytes, "{largest} bytes on the disk");
    let left = numbers(&all(&store).await);
    assert_eq!(left, (store.oldest()..=80 * 512).collect::<Vec<_>>());
    assert!(
        store.oldest() > 512 * 50 && left.len() > 4_000,
        "{}",
        left.len()
    );
}

#[tokio::test]
async fn message_that_retention_moves_out_of_its_block_during_a_scan_is_found_once() {
    let mut bench = Bench::new();
    bench.retain_for = Duration::from_secs(60);
    for ascending in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let store = bench.try_open(directory.path()).unwrap();
        save(&store, "s/d", true).await;
        for topic in ["a", "b", "c"] {
            store
                .append(bench.message("s/d", topic, topic))
                .await
                .unwrap();
            store.sync().await.unwrap();
        }
        let mut topics: Vec<u32> = store.catalog().all().map(|(number, _)| number).collect();
        topics.sort_unstable();
        let scan = Scan {
            topics,
            from: None,
            to: None,
            ascending,
            start: if ascending { 0 } else { u64::MAX },
        };
        let (time, observed) = (Arc::clone(&bench.time), store.clone());
        let read = store.read(move |reader| {
            let mut found = Vec::new();
            reader.scan(&scan, &mut |stored| {
                if found.is_empty() {
                    time.fetch_add(120 * SECOND, Ordering::Relaxed);
                    let deadline = Instant::now() + Duration::from_secs(30);
                    while observed.oldest() < 4 {
                        assert!(Instant::now() < deadline, "retention never came");
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                found.push(stored.sequence);
                ControlFlow::Continue(())
            })?;
            Ok(found)
        });
        let mut found = read.await.unwrap();
        if !ascending {
            found.reverse();
        }
        assert_eq!(found, [1, 2, 3], "ascending: {ascending}");
        store.close().await;
    }
}

#[tokio::test]
async fn room_of_deleted_messages_is_given_back_to_the_file_system() {
    let mut bench = Bench::new();
    bench.retain_for = Duration::from_secs(60);
    let store = bench.open();
    let payload = Bytes::from(vec![b'x'; 4_000]);
    for _ in 0..2_000 {
        store
            .append(bench.message("s/d", "t", payload.clone()))
            .await
            .unwrap();
    }
    store.sync().await.unwrap();
    let database = bench.directory.path().join("store.db");
    let size = || std::fs::metadata(&database).unwrap().len();
    let before = size();
    assert!(before > 4 << 20, "{before}");
    bench.pass_time(120);
    until("room given back", async || size() < before / 2).await;
}
