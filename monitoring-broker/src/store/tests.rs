//! The store driven through its public face, in directories of their own, on a clock of their own.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Instant;

use akri_mqtt_session::SessionState as _;
use tempfile::TempDir;

use super::*;

mod backwards;
mod cursors;
mod disk;
mod retention;
mod sessions;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_800_000_000 * SECOND;

struct Bench {
    directory: TempDir,
    time: Arc<AtomicI64>,
    retain_for: Duration,
    retain_bytes: u64,
    window: Duration,
}

impl Bench {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            time: Arc::new(AtomicI64::new(START)),
            retain_for: Duration::from_secs(86_400),
            retain_bytes: 256 << 20,
            window: Duration::from_millis(10),
        }
    }

    fn open(&self) -> Store {
        self.try_open(self.directory.path()).unwrap()
    }

    fn try_open(&self, directory: &Path) -> Result<Store, StoreError> {
        let time = Arc::clone(&self.time);
        Store::open(Config {
            directory: directory.to_owned(),
            retain_for: self.retain_for,
            retain_bytes: self.retain_bytes,
            commit_window: self.window,
            clock: Arc::new(move || time.load(Ordering::Relaxed)),
            observer: Arc::new(|_, _, _| {}),
            metrics: StoreMetrics::default(),
        })
    }

    fn pass_time(&self, seconds: i64) {
        self.time.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }

    fn message(&self, device: &str, topic: &str, payload: impl Into<Bytes>) -> Arrival {
        Arrival {
            place: Arc::new(Place::new(topic, [device.into()])),
            payload: payload.into(),
            qos: 0,
            retained: false,
            duplicate: false,
            time: self.time.load(Ordering::Relaxed),
            properties: None,
            packet: None,
            is_observed: false,
            receipt: None,
        }
    }
}

fn receipt(number: u64, told: impl Fn(&[u64]) + Send + Sync + 'static) -> Receipt {
    Receipt {
        to: Arc::new(told),
        number,
    }
}

async fn all(store: &Store) -> Vec<(u64, String)> {
    let mut topics: Vec<u32> = store.catalog().all().map(|(number, _)| number).collect();
    topics.sort_unstable();
    let scan = Scan {
        topics,
        from: None,
        to: None,
        ascending: true,
        start: 0,
    };
    scanned(store, scan).await
}

async fn scanned(store: &Store, scan: Scan) -> Vec<(u64, String)> {
    let read = store.read(move |reader| {
        let mut found = Vec::new();
        let end = reader.scan(&scan, &mut |stored| {
            let payload = String::from_utf8_lossy(&stored.record.payload).into_owned();
            found.push((stored.sequence, payload));
            ControlFlow::Continue(())
        })?;
        assert_eq!(end, End::Finished);
        Ok(found)
    });
    read.await.unwrap()
}

async fn save(store: &Store, device: &str, served: bool) {
    let record = DeviceRecord {
        id: device.into(),
        record: "{}".to_owned(),
        served,
    };
    store.save_devices(vec![record]).await.unwrap();
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn numbers(found: &[(u64, String)]) -> Vec<u64> {
    found.iter().map(|(sequence, _)| *sequence).collect()
}

#[tokio::test]
async fn messages_come_back_in_order_after_a_restart_with_the_same_store_id() {
    let bench = Bench::new();
    let store = bench.open();
    for number in 0..1_500 {
        let device = format!("s/d{}", number % 7);
        store
            .append(bench.message(&device, "t", number.to_string()))
            .await
            .unwrap();
    }
    store.sync().await.unwrap();
    let (id, before) = (store.id().to_owned(), all(&store).await);
    store.close().await;
    drop(store);
    let store = bench.open();
    assert_eq!(
        (store.id(), all(&store).await),
        (id.as_str(), before.clone())
    );
    assert_eq!(numbers(&before), (1..=1_500).collect::<Vec<_>>());
    assert_eq!(before[41].1, "41");
    assert_eq!(*store.committed().borrow(), 1_500);
    let latest = store.catalog().of_device("s/d3").map(|(_, t)| t.last).max();
    assert_eq!(latest, Some(1_495));
    store
        .append(bench.message("s/d0", "t", "next"))
        .await
        .unwrap();
    store.sync().await.unwrap();
    assert_eq!(
        all(&store).await.last().unwrap(),
        &(1_501, "next".to_owned())
    );
}

#[tokio::test]
async fn scan_finds_by_topic_time_and_position_in_both_orders() {
    let bench = Bench::new();
    let store = bench.open();
    for number in 0..100_u64 {
        let topic = format!("t{}", number % 2);
        store
            .append(bench.message("s/d", &topic, number.to_string()))
            .await
            .unwrap();
        if number % 10 == 9 {
            store.sync().await.unwrap();
        }
        bench.pass_time(1);
    }
    store.sync().await.unwrap();
    let odd = store
        .catalog()
        .of_device("s/d")
        .find(|(_, t)| &*t.name == "t1")
        .unwrap()
        .0;
    let scan = Scan {
        topics: vec![odd],
        from: Some(START + 25 * SECOND),
        to: Some(START + 31 * SECOND),
        ascending: true,
        start: 0,
    };
    assert_eq!(numbers(&scanned(&store, scan.clone()).await), [26, 28, 30]);
    let down = Scan {
        ascending: false,
        start: 29,
        ..scan
    };
    assert_eq!(numbers(&scanned(&store, down).await), [28, 26]);
}

#[tokio::test]
async fn acknowledged_message_does_not_wait_for_the_window_and_others_do() {
    let mut bench = Bench::new();
    bench.window = Duration::from_secs(3_600);
    let store = bench.open();
    let called = Arc::new(AtomicUsize::new(0));
    store
        .append(bench.message("s/d", "t", "qos 0"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(*store.committed().borrow(), 0);
    let counter = Arc::clone(&called);
    let mut message = bench.message("s/d", "t", "qos 1");
    message.receipt = Some(receipt(0, move |numbers| {
        counter.fetch_add(numbers.len(), Ordering::SeqCst);
    }));
    store.append(message).await.unwrap();
    until("receipt", async || called.load(Ordering::SeqCst) == 1).await;
    assert_eq!(*store.committed().borrow(), 2);
}

#[tokio::test]
async fn full_batch_is_committed_before_the_window_ends() {
    let mut bench = Bench::new();
    bench.window = Duration::from_secs(3_600);
    let store = bench.open();
    for number in 0..512 {
        store
            .append(bench.message("s/d", "t", number.to_string()))
            .await
            .unwrap();
    }
    until("commit", async || *store.committed().borrow() == 512).await;
}

#[tokio::test]
async fn second_process_is_refused() {
    let bench = Bench::new();
    let store = bench.open();
    let error = bench.try_open(bench.directory.path()).err().unwrap();
    assert_eq!(error, StoreError::Locked(bench.directory.path().to_owned()));
    store.close().await;
    bench.open();
}

#[tokio::test]
async fn store_that_cannot_be_read_is_moved_aside_and_not_changed() {
    let bench = Bench::new();
    let store = bench.open();
    let first = store.id().to_owned();
    store.append(bench.message("s/d", "t", "x")).await.unwrap();
    store.sync().await.unwrap();
    store.close().await;
    drop(store);
    let path = bench.directory.path().join("store.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let store = bench.open();
    assert_ne!(store.id(), first);
    assert_eq!(all(&store).await, []);
    store.close().await;
    drop(store);
    let aside = rusqlite::Connection::open(path.with_extension("db.aside-0")).unwrap();
    let kept: i64 = aside
        .query_row("SELECT count(*) FROM blocks", (), |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
    let garbage = vec![0x5a; 100_000];
    std::fs::write(&path, &garbage).unwrap();
    let store = bench.open();
    assert_eq!(all(&store).await, []);
    let moved = path.with_extension("db.aside-1");
    assert_eq!(std::fs::read(moved).unwrap(), garbage);
}

#[tokio::test]
async fn damage_in_the_middle_is_named_and_counted_and_hides_nothing_else() {
    let bench = Bench::new();
    let store = bench.open();
    let send = async || {
        let message = bench.message("s/d", "t", "x");
        store.append(message).await.unwrap();
        store.sync().await.unwrap();
    };
    for _ in 0..3 {
        send().await;
    }
    let other = rusqlite::Connection::open(bench.directory.path().join("store.db")).unwrap();
    let sql = "UPDATE blocks SET data=zeroblob(length(data)) WHERE first=2";
    assert_eq!(other.execute(sql, ()).unwrap(), 1);
    let (topic, _) = store.catalog().all().next().unwrap();
    let read = async |sequence| {
        let read = store.read(move |reader| reader.message(sequence, topic));
        read.await.map(|found| found.is_some())
    };
    assert_eq!(read(1).await, Ok(true));
    let error = read(2).await.unwrap_err().to_string();
    assert!(error.contains("the block of messages 2 to 2"), "{error}");
    assert_eq!(read(3).await, Ok(true));
    assert_eq!(store.shared.metrics.unreadable.get(), 1);
    send().await;
    assert_eq!(*store.status().borrow(), Status::Ready);
    assert_eq!(read(4).await, Ok(true));
}

#[tokio::test]
async fn damage_that_the_writer_met_is_moved_aside_at_the_next_start() {
    let bench = Bench::new();
    let store = bench.open();
    let first = store.id().to_owned();
    store.close().await;
    drop(store);
    directory::mark_damaged(bench.directory.path(), "a page is not what it should be");
    let store = bench.open();
    assert_ne!(store.id(), first);
    let second = store.id().to_owned();
    store.close().await;
    drop(store);
    assert_eq!(bench.open().id(), second);
    assert!(bench.directory.path().join("store.db.aside-0").exists());
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_store_was_taken_away() {
    let take_away: [fn(&Path); 3] = [
        |directory| std::fs::remove_dir_all(directory).unwrap(),
        |directory| std::fs::remove_file(directory.join("store.db-wal")).unwrap(),
        |directory| {
            std::fs::rename(directory.join("store.db"), directory.join("old")).unwrap();
            std::fs::write(directory.join("store.db"), b"").unwrap();
        },
    ];
    for take_away in take_away {
        let bench = Bench::new();
        let store = bench.open();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let message = || {
            let mut message = bench.message("s/d", "t", "x");
            let acknowledged = Arc::clone(&acknowledged);
            message.receipt = Some(receipt(0, move |numbers| {
                acknowledged.fetch_add(numbers.len(), Ordering::Relaxed);
            }));
            message
        };
        store.append(message()).await.unwrap();
        store.sync().await.unwrap();
        take_away(bench.directory.path());
        store.append(message()).await.unwrap();
        let mut status = store.status();
        let failed = status.wait_for(|status| matches!(status, Status::Failed(_)));
        let failed = tokio::time::timeout(Duration::from_secs(20), failed).await;
        failed.unwrap().unwrap();
        assert_eq!(acknowledged.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn torn_last_write_costs_nothing_that_was_acknowledged() {
    let bench = Bench::new();
    let store = bench.open();
    for number in 0..100 {
        let message = bench.message("s/d", "t", number.to_string());
        store.append(message).await.unwrap();
        store.sync().await.unwrap();
    }
    // The files as they are after a crash, with a write that was cut off at the end of the log.
    let name = bench.directory.path().join("store.db");
    let log = std::fs::read(name.with_extension("db-wal")).unwrap();
    for torn in [1, 23, 24, 4_000, 4_096 + 24 + 7] {
        let crashed = tempfile::tempdir().unwrap();
        let copy = crashed.path().join("store.db");
        std::fs::copy(&name, &copy).unwrap();
        let mut log = log.clone();
        log.extend_from_within(32..32 + torn);
        std::fs::write(copy.with_extension("db-wal"), log).unwrap();
        let store = bench.try_open(crashed.path()).unwrap();
        let found = all(&store).await;
        assert_eq!(numbers(&found), (1..=100).collect::<Vec<_>>(), "{torn}");
        let later = bench.message("s/d", "t", "later");
        store.append(later).await.unwrap();
        store.sync().await.unwrap();
        assert_eq!(all(&store).await.last().unwrap().0, 101);
        store.close().await;
    }
    store.close().await;
}

#[tokio::test]
async fn reads_do_not_block_the_writer() {
    let bench = Bench::new();
    let store = bench.open();
    for _ in 0..600 {
        store.append(bench.message("s/d", "t", "x")).await.unwrap();
    }
    store.sync().await.unwrap();
    let topics: Vec<u32> = store.catalog().all().map(|(number, _)| number).collect();
    let writer = store.clone();
    let runtime = tokio::runtime::Handle::current();
    let message = bench.message("s/d", "t", "while reading");
    let read = store.read(move |reader| {
        let scan = Scan {
            topics,
            from: None,
            to: None,
            ascending: true,
            start: 0,
        };
        let mut message = Some(message);
        reader.scan(&scan, &mut |_| {
            if let Some(message) = message.take() {
                let written = async {
                    writer.append(message).await.unwrap();
                    let mut committed = writer.committed();
                    committed.wait_for(|last| *last == 601).await.unwrap();
                };
                runtime.block_on(written);
            }
            ControlFlow::Continue(())
        })
    });
    let end = tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .unwrap();
    assert_eq!(end.unwrap(), End::Finished);
}

#[tokio::test]
async fn tail_reaches_back_over_the_buffer_of_a_live_consumer() {
    let bench = Bench::new();
    let store = bench.open();
    for _ in 0..4_000 {
        store.append(bench.message("s/d", "t", "x")).await.unwrap();
    }
    store.sync().await.unwrap();
    let blocks = store.recent(4_000 - 1_024).unwrap();
    let found: Vec<u64> = blocks
        .iter()
        .flat_map(|block| block.records().map(|record| record.unwrap().0))
        .filter(|sequence| *sequence > 4_000 - 1_024)
        .collect();
    assert_eq!(found, (2_977..=4_000).collect::<Vec<_>>());
    assert!(store.recent(1).is_none());
    assert_eq!(store.recent(4_000).unwrap().len(), 0);
    let read = store.read(|reader| reader.blocks_after(100)).await.unwrap();
    assert!(read[0].first <= 101 && read[0].last >= 101);
}

#[tokio::test]
async fn since_is_the_first_message_at_or_after_a_time_whatever_the_clock_did() {
    let bench = Bench::new();
    let store = bench.open();
    for step in [0, 10, 10, -15, 10, 10] {
        bench.pass_time(step);
        store.append(bench.message("s/d", "t", "x")).await.unwrap();
        store.sync().await.unwrap();
    }
    for (after, expected) in [(-5, 1), (1, 2), (20, 3), (21, 6), (99, 7)] {
        let time = START + after * SECOND;
        let found = store
            .read(move |reader| reader.first_since(time))
            .await
            .unwrap();
        assert_eq!(found, expected, "{after} s after the start");
    }
}

#[tokio::test]
async fn read_that_nobody_waits_for_counts_until_it_is_over() {
    let bench = Bench::new();
    let store = bench.open();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let running = Arc::new(AtomicUsize::new(0));
    let reads = (0..READERS).map(|_| {
        let (store, held, running) = (store.clone(), Arc::clone(&held), Arc::clone(&running));
        tokio::spawn(async move {
            let read = store.read(move |_| {
                running.fetch_add(1, Ordering::SeqCst);
                let _ = held.lock().unwrap().recv();
                Ok(())
            });
            read.await
        })
    });
    let reads: Vec<_> = reads.collect();
    until("all reads run", async || {
        running.load(Ordering::SeqCst) == READERS
    })
    .await;
    for read in reads {
        read.abort();
        assert!(read.await.unwrap_err().is_cancelled());
    }
    assert_eq!(store.shared.reading.available_permits(), 0);
    drop(release);
    until("all reads are over", async || {
        store.shared.reading.available_permits() == READERS
    })
    .await;
}
