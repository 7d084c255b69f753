//! Streams against a real store: order, resumption, gaps, presence, bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::api::testing::{Bench, DEADLINE, SECOND, START};
use crate::devices::State;

async fn next(watcher: &mut Watcher) -> WatchEvent {
    let event = tokio::time::timeout(DEADLINE, watcher.next()).await;
    event.expect("an event in time").unwrap().unwrap()
}

async fn message(watcher: &mut Watcher) -> (u64, String, String) {
    match next(watcher).await {
        WatchEvent::Message(view) => {
            let payload = view.stored.record.payload.to_vec();
            let payload = String::from_utf8(payload).unwrap();
            (view.stored.sequence, payload, view.cursor)
        }
        other => panic!("a message expected, found {other:?}"),
    }
}

async fn numbers(watcher: &mut Watcher, count: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(message(watcher).await.1.parse().unwrap());
    }
    numbers
}

async fn gap(watcher: &mut Watcher) -> (u64, u64) {
    match next(watcher).await {
        WatchEvent::Gap { from, to, .. } => (from, to),
        other => panic!("a gap expected, found {other:?}"),
    }
}

fn after(cursor: impl Into<String>) -> WatchQuery {
    WatchQuery {
        start: Start::Cursor(cursor.into()),
        ..WatchQuery::default()
    }
}

#[tokio::test]
async fn stream_without_a_start_begins_with_the_next_message() {
    let bench = Bench::new();
    bench.count(0..3).await;
    let mut watcher = bench.service.watch(WatchQuery::default()).await.unwrap();
    assert_eq!(watcher.cursor(), bench.cursor(3));
    bench.count(3..5).await;
    assert_eq!(numbers(&mut watcher, 2).await, [3, 4]);
}

#[tokio::test]
async fn stream_goes_on_behind_what_is_damaged() {
    let bench = Bench::new();
    // More than the memory of the latest holds.
    bench.count(0..3_000).await;
    bench.damage(1);
    let mut watcher = bench.service.watch(after(bench.cursor(0))).await.unwrap();
    let WatchEvent::Gap {
        from, to, reason, ..
    } = next(&mut watcher).await
    else {
        panic!("a gap expected");
    };
    assert_eq!(
        (from, reason.as_str()),
        (1, "These messages cannot be read any more.")
    );
    assert_eq!(message(&mut watcher).await.0, to + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher_that_reconnects_while_messages_arrive_gets_each_once() {
    const ALL: usize = 5_000;
    let bench = std::sync::Arc::new(Bench::new());
    let mut cursor = bench.cursor(0);
    let sender = tokio::spawn({
        let bench = std::sync::Arc::clone(&bench);
        async move {
            for start in (0..ALL).step_by(50) {
                bench.count(start..start + 50).await;
            }
        }
    });
    let mut seen = 0;
    for round in 0.. {
        if seen == ALL {
            break;
        }
        let mut watcher = bench.service.watch(after(cursor.clone())).await.unwrap();
        for _ in 0..(ALL - seen).min(1 + round * 37 % 301) {
            let (_, payload, at) = message(&mut watcher).await;
            assert_eq!(payload, seen.to_string());
            (seen, cursor) = (seen + 1, at);
        }
        assert_eq!(watcher.cursor(), cursor);
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn watcher_slower_than_its_buffer_is_served_from_the_store() {
    let bench = Bench::new();
    let mut watcher = bench.service.watch(WatchQuery::default()).await.unwrap();
    bench.count(0..10).await;
    assert_eq!(numbers(&mut watcher, 1).await, [0]);
    // Far more than buffer and memory of the latest blocks.
    bench.count(10..6_000).await;
    assert!(bench.service.store.recent(10).is_none());
    let rest = numbers(&mut watcher, 5_999).await;
    assert_eq!(rest, (1..6_000).collect::<Vec<_>>());
    assert!(watcher.queue_len() <= 1_024 + 512);
}

#[tokio::test]
async fn watcher_behind_retention_gets_a_gap_with_both_ends_and_goes_on() {
    let bench = Bench::retaining(Duration::from_secs(60));
    bench.count(0..5).await;
    let mut watcher = bench.service.watch(after(bench.cursor(2))).await.unwrap();
    bench.forget(6).await;
    bench.count(5..6).await;
    assert_eq!(gap(&mut watcher).await, (3, 5));
    assert_eq!(watcher.cursor(), bench.cursor(5));
    assert_eq!(numbers(&mut watcher, 1).await, [5]);
}

#[tokio::test]
async fn gap_comes_at_once_when_nothing_is_left() {
    let bench = Bench::retaining(Duration::from_secs(60));
    bench.count(0..5).await;
    bench.forget(6).await;
    let mut watcher = bench.service.watch(after(bench.cursor(2))).await.unwrap();
    assert_eq!(gap(&mut watcher).await, (3, 5));
}

#[tokio::test]
async fn cursor_of_another_store_or_of_the_future_gives_a_gap_and_the_oldest_message() {
    let bench = Bench::new();
    bench.count(0..2).await;
    for cursor in ["another:1".to_owned(), bench.cursor(3)] {
        let mut watcher = bench.service.watch(after(cursor)).await.unwrap();
        assert_eq!(gap(&mut watcher).await, (0, 0));
        assert_eq!(numbers(&mut watcher, 2).await, [0, 1]);
    }
    for cursor in ["", "x", "a:", "a:-1"] {
        let error = bench.service.watch(after(cursor)).await.err().unwrap();
        assert!(matches!(error, ServiceError::Invalid { .. }), "{cursor}");
    }
}

#[tokio::test]
async fn since_begins_with_the_first_message_of_that_time() {
    let bench = Bench::new();
    for number in 0..5 {
        bench.send("r1", "t", number.to_string()).await;
    }
    let query = WatchQuery {
        start: Start::Since(view::timestamp(START + 2 * SECOND)),
        ..WatchQuery::default()
    };
    let mut watcher = bench.service.watch(query).await.unwrap();
    assert_eq!(numbers(&mut watcher, 3).await, [2, 3, 4]);
}

#[tokio::test]
async fn filters_take_devices_and_topics_and_the_cursor_moves_on_past_others() {
    let bench = Bench::new();
    let query = WatchQuery {
        devices: BTreeSet::from(["plant-a/r2".to_owned()]),
        topic: Some(TopicFilter::parse("a/+").unwrap()),
        ..WatchQuery::default()
    };
    let mut watcher = bench.service.watch(query).await.unwrap();
    for (name, topic, payload) in [
        ("r1", "a/1", "0"),
        ("r2", "b", "1"),
        ("r2", "a/2", "2"),
        ("r1", "b", "3"),
    ] {
        bench.send(name, topic, payload).await;
    }
    assert_eq!(numbers(&mut watcher, 1).await, [2]);
    let quiet = tokio::time::timeout(Duration::from_millis(200), watcher.next()).await;
    assert!(quiet.is_err());
    assert_eq!(watcher.cursor(), bench.cursor(4));
}

#[tokio::test]
async fn presence_of_each_device_comes_first_then_changes() {
    let bench = Bench::new();
    let query = WatchQuery {
        presence: true,
        ..after(bench.cursor(0))
    };
    bench.count(0..1).await;
    let mut watcher = bench.service.watch(query).await.unwrap();
    let mut presence = Vec::new();
    for _ in 0..2 {
        match next(&mut watcher).await {
            WatchEvent::Presence(view) => {
                presence.push((view.device.name, view.device.presence.state))
            }
            other => panic!("presence expected, found {other:?}"),
        }
    }
    let online = |name: &str| (name.to_owned(), State::Online);
    assert_eq!(presence, [online("r1"), online("r2")]);
    assert_eq!(numbers(&mut watcher, 1).await, [0]);
    bench.set_state("plant-a/r2", State::Offline);
    match next(&mut watcher).await {
        WatchEvent::Presence(view) => {
            assert_eq!(
                (&*view.device.id, view.device.presence.state),
                ("plant-a/r2", State::Offline)
            );
        }
        other => panic!("presence expected, found {other:?}"),
    }
}

#[tokio::test]
async fn number_of_streams_is_bounded_and_a_closed_one_makes_room() {
    let bench = Bench::new();
    let mut watchers = Vec::new();
    for _ in 0..STREAMS {
        watchers.push(bench.service.watch(WatchQuery::default()).await.unwrap());
    }
    let refused = bench.service.watch(WatchQuery::default()).await.err();
    assert_eq!(refused, Some(ServiceError::TooManyStreams(STREAMS)));
    watchers.pop();
    assert!(bench.service.watch(WatchQuery::default()).await.is_ok());
    drop(watchers);
    assert_eq!(bench.service.metrics.watchers.get(), 0);
}

#[tokio::test]
async fn streams_end_with_the_shutdown() {
    let bench = Bench::new();
    let mut watcher = bench.service.watch(WatchQuery::default()).await.unwrap();
    bench.service.shutdown.trigger();
    assert!(watcher.next().await.unwrap().is_none());
}

#[tokio::test]
async fn stream_of_an_unknown_device_is_refused() {
    let bench = Bench::new();
    let query = WatchQuery {
        devices: BTreeSet::from(["plant-a/none".to_owned()]),
        ..WatchQuery::default()
    };
    let refused = bench.service.watch(query).await.err();
    assert!(matches!(refused, Some(ServiceError::UnknownDevice(_))));
}
