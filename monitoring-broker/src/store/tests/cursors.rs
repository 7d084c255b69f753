//! Positions of sinks: what they hold, what they do not, and that they outlive the process.

use super::*;

/// Stores messages of 1 kB, in batches of ten.
async fn fill(bench: &Bench, store: &Store, messages: usize) {
    for number in 0..messages {
        let message = bench.message("s/d", "t", vec![b'x'; 1_000]);
        store.append(message).await.unwrap();
        if number % 10 == 9 {
            store.sync().await.unwrap();
        }
    }
    store.sync().await.unwrap();
}

/// Waits until retention has looked at everything again.
async fn until_oldest(store: &Store, oldest: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.oldest() != oldest {
        assert!(Instant::now() < deadline, "oldest is {}", store.oldest());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn new_sink_begins_with_the_next_message_or_with_the_oldest() {
    let bench = Bench::new();
    let store = bench.open();
    fill(&bench, &store, 20).await;
    assert_eq!(store.follow("now", false).await.unwrap(), 20);
    assert_eq!(store.follow("oldest", true).await.unwrap(), 0);
}

#[tokio::test]
async fn position_is_that_of_the_last_run_also_after_a_kill() {
    let bench = Bench::new();
    let store = bench.open();
    store.follow("a", false).await.unwrap();
    fill(&bench, &store, 30).await;
    store.advance("a", 10);
    assert!(store.save_cursors());
    store.sync().await.unwrap();
    store.advance("a", 20);
    // As a kill leaves it: the files without the end of the process.
    let copy = tempfile::tempdir().unwrap();
    for file in ["store.db", "store.db-wal"] {
        std::fs::copy(bench.directory.path().join(file), copy.path().join(file)).unwrap();
    }
    let killed = bench.try_open(copy.path()).unwrap();
    assert_eq!(killed.follow("a", false).await.unwrap(), 10);
    store.close().await;
    drop(store);
    let stopped = bench.open();
    assert_eq!(stopped.follow("a", true).await.unwrap(), 20);
}

#[tokio::test]
async fn age_deletes_only_what_every_sink_has_sent() {
    let mut bench = Bench::new();
    bench.retain_for = Duration::from_secs(60);
    let store = bench.open();
    store.follow("fast", false).await.unwrap();
    store.follow("slow", false).await.unwrap();
    fill(&bench, &store, 100).await;
    store.advance("fast", 100);
    store.advance("slow", 50);
    bench.pass_time(1_000);
    until_oldest(&store, 51).await;
    store.advance("slow", 100);
    until_oldest(&store, 101).await;
}

#[tokio::test]
async fn sink_that_is_no_longer_there_holds_nothing() {
    let mut bench = Bench::new();
    bench.retain_for = Duration::from_secs(60);
    let store = bench.open();
    store.follow("gone", false).await.unwrap();
    fill(&bench, &store, 50).await;
    store.close().await;
    drop(store);
    let store = bench.open();
    bench.pass_time(1_000);
    until_oldest(&store, 51).await;
    // When it comes back it sees that it has missed something.
    assert_eq!(store.follow("gone", false).await.unwrap(), 0);
}

#[tokio::test]
async fn size_deletes_also_what_no_sink_has_sent() {
    let mut bench = Bench::new();
    bench.retain_bytes = 16 << 20;
    let store = bench.open();
    store.follow("stuck", false).await.unwrap();
    fill(&bench, &store, 24_000).await;
    assert!(store.oldest() > 1_000, "oldest is {}", store.oldest());
    assert!(directory::size(bench.directory.path()) <= bench.retain_bytes);
}

#[tokio::test]
async fn store_without_positions_of_an_earlier_version_gets_them() {
    let bench = Bench::new();
    bench.open().close().await;
    let file = bench.directory.path().join("store.db");
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.execute_batch("DROP TABLE sinks").unwrap();
    drop(connection);
    let store = bench.open();
    assert_eq!(store.follow("a", false).await.unwrap(), 0);
}
