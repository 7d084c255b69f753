//! Retained snapshots and intersecting filters, with Mosquitto's stock limits.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use akri_mqtt_core::details::{QoS, Scheme, VersionChoice};
use akri_mqtt_session::{Publish, Subscription};
use akri_mqtt_tests::{
    clients::{Publisher, Watched, options},
    mosquitto::{Config, Mosquitto, url},
    proxy::Proxy,
};

const VERSIONS: [VersionChoice; 2] = [VersionChoice::V5, VersionChoice::V311];

/// The limits of a Mosquitto without configuration.
fn stock() -> Config {
    Config::new()
        .line("max_queued_messages 1000")
        .line("max_inflight_messages 20")
}

fn announcing() -> Vec<Subscription> {
    vec![Subscription::new("r/+/status", QoS::AtLeastOnce).with_snapshot()]
}

#[tokio::test]
async fn twenty_thousand_retained_messages_all_arrive_from_a_server_with_stock_limits() {
    let server = Mosquitto::start(stock());
    let publisher = Publisher::connect(server.url()).await;
    let online =
        |n: usize| Publish::new(format!("r/{n}/status"), "online", QoS::AtLeastOnce).retained();
    publisher.publish_all((0..20_000).map(online)).await;
    for version in VERSIONS {
        let mut options = options(vec![server.url()], &format!("snapshot-{version:?}"));
        options.version = version;
        let mut watched = Watched::start(options, announcing());
        watched
            .until("all of them", |watched| {
                watched.messages.len() >= 20_000 && !watched.subscribed.is_empty()
            })
            .await;
        let mut topics: Vec<_> = watched
            .messages
            .iter()
            .map(|(topic, _)| topic.clone())
            .collect();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), 20_000);
        if version == VersionChoice::V5 {
            assert_eq!(
                watched.messages.len(),
                20_000,
                "raising the QoS sends nothing twice"
            );
        }
    }
}

#[tokio::test]
async fn queued_messages_come_before_the_snapshot_of_a_resumed_session() {
    for version in VERSIONS {
        let server = Mosquitto::start(stock());
        let proxy = Proxy::start(server.address()).await.unwrap();
        let mut options = options(vec![url(Scheme::Tcp, proxy.address())], "order");
        options.version = version;
        let publisher = Publisher::connect(server.url()).await;
        let say =
            |text: &str| Publish::new("r/1/status", text.to_owned(), QoS::AtLeastOnce).retained();
        publisher.publish(say("online")).await;
        let mut watched = Watched::start(options, announcing());
        watched.until_subscribed().await;
        watched
            .until("the snapshot", |watched| !watched.messages.is_empty())
            .await;
        proxy.refuse(true);
        proxy.cut();
        watched
            .until("disconnected", |watched| !watched.errors.is_empty())
            .await;
        for text in ["offline", "online", "offline", "back"] {
            publisher.publish(say(text)).await;
        }
        watched.messages.clear();
        proxy.refuse(false);
        watched.until_subscribed().await;
        let twice = |watched: &Watched| {
            watched
                .counts()
                .get("back")
                .is_some_and(|count| *count >= 2)
        };
        watched.until("queue and snapshot", twice).await;
        // On 3.1.1 raising the QoS repeats the retained message, which may have been in flight at the cut.
        let texts = watched.messages.iter().map(|(_, text)| text.as_str());
        let texts: Vec<&str> = texts.skip_while(|text| *text == "online").take(5).collect();
        assert_eq!(
            texts,
            ["offline", "online", "offline", "back", "back"],
            "{version:?}"
        );
        // The subscription was raised again: a message at QoS 1 is queued while we are away.
        proxy.refuse(true);
        proxy.cut();
        let failures = watched.errors.len();
        watched
            .until("disconnected", |watched| watched.errors.len() > failures)
            .await;
        publisher
            .publish(Publish::new("r/2/status", "queued", QoS::AtLeastOnce))
            .await;
        proxy.refuse(false);
        watched
            .until("the queued message", |watched| {
                watched.counts().contains_key("queued")
            })
            .await;
    }
}

#[tokio::test]
async fn message_that_two_intersecting_filters_match_is_delivered_once() {
    let server = Mosquitto::start(Config::new().line("allow_duplicate_messages true"));
    let publisher = Publisher::connect(server.url()).await;
    let wanted =
        ["o/+/a", "o/r1/#", "o/#", "p/#"].map(|filter| Subscription::new(filter, QoS::ExactlyOnce));
    let mut options = options(vec![server.url()], "overlap");
    options.version = VersionChoice::V5;
    let mut watched = Watched::start(options, wanted.to_vec());
    watched.until_subscribed().await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        // Two equal messages are two.
        publisher
            .publish(Publish::new("o/r1/a", format!("{qos:?}"), qos))
            .await;
        publisher
            .publish(Publish::new("o/r1/a", format!("{qos:?}"), qos))
            .await;
    }
    publisher
        .publish(Publish::new("p/x", "end", QoS::ExactlyOnce))
        .await;
    watched
        .until("the last message", |watched| {
            watched.counts().contains_key("end")
        })
        .await;
    assert_eq!(
        watched.counts().into_values().collect::<Vec<_>>(),
        [2, 2, 2, 1]
    );
}

#[tokio::test]
async fn filters_of_an_earlier_process_that_are_not_wanted_are_unsubscribed() {
    let server = Mosquitto::start(Config::new());
    let options = options(vec![server.url()], "earlier");
    let subscription = |filter: &str| Subscription::new(filter, QoS::AtLeastOnce);
    let mut watched = Watched::start(
        options.clone(),
        vec![subscription("old/#"), subscription("kept/#")],
    );
    watched.until_subscribed().await;
    let state = watched.state.clone();
    watched.handle.close().await;
    let mut watched = Watched::start_with(
        options,
        vec![subscription("kept/#")],
        Default::default(),
        state,
    );
    watched.until_subscribed().await;
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish(Publish::new("old/x", "old", QoS::AtLeastOnce))
        .await;
    publisher
        .publish(Publish::new("kept/x", "kept", QoS::AtLeastOnce))
        .await;
    watched
        .until("a message", |watched| !watched.messages.is_empty())
        .await;
    assert_eq!(watched.messages, [("kept/x".to_owned(), "kept".to_owned())]);
}
