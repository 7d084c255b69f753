//! A stream of all members, with parts that no server has to send.

use akri_mqtt_core::pool::{Member, ShardCount};
use akri_mqtt_proto::monitoring as pb;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::api::testing::{Bench, DEADLINE};
use crate::api::union::{Caller, ForwardMetrics};

/// A stream from the oldest message on, of a member that is alone.
async fn alone(bench: &Bench, live: &watch::Sender<Live>) -> Box<United> {
    let others = Others::new(
        Member::parse("a").unwrap(),
        ShardCount::default(),
        live.subscribe(),
        None,
        ForwardMetrics::default(),
    );
    bench.service.join(others);
    let asked = Asked::new(bench.service.clone(), Caller::default()).unwrap();
    let query = WatchQuery {
        start: Start::Since(Timestamp::UNIX_EPOCH),
        ..WatchQuery::default()
    };
    match asked.watch(query).await.unwrap() {
        Stream::United(united) => united,
        Stream::Own(_) => panic!("a stream of all members expected"),
    }
}

#[tokio::test]
async fn a_member_that_always_has_something_does_not_hold_up_what_the_disk_has_here() {
    let bench = Bench::new();
    // The first of them are no longer in memory.
    bench.count(0..4_000).await;
    let live = watch::Sender::default();
    let mut united = alone(&bench, &live).await;
    let message = |sequence| {
        let message = pb::Message {
            cursor: format!("b:{sequence}"),
            sequence,
            ..pb::Message::default()
        };
        let event = PartEvent::Event(Box::new(Event::Message(message)));
        ("b".to_owned(), event)
    };
    united.parts.push(stream::iter((1..).map(message)).boxed());
    // With a position of the other member, or before there is one.
    let first = format!("{}:1", bench.service.store.id());
    let is_first = |cursor: &str| {
        let rest = cursor.strip_prefix(&first);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
    };
    let arrived = async {
        loop {
            match united.next().await.unwrap().unwrap() {
                WatchEvent::Message(view) if is_first(&view.cursor) => return,
                _ => yield_now().await,
            }
        }
    };
    timeout(DEADLINE, arrived).await.unwrap();
}
