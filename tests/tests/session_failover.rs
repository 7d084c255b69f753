//! Failover lists: `ordered` goes back to the preferred member, `roundRobin` stays where it is.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::time::Duration;

use akri_mqtt_core::details::{Failover, QoS, ServerUrl, VersionChoice};
use akri_mqtt_session::{ErrorKind, Options, Publish, Subscription, Will};
use akri_mqtt_tests::{
    clients::{Publisher, Watched, options},
    mosquitto::{Config, Mosquitto},
};

fn two(failover: Failover) -> (Mosquitto, Mosquitto, Options) {
    let (first, second) = (
        Mosquitto::start(Config::new()),
        Mosquitto::start(Config::new()),
    );
    let mut options = options(
        vec![first.url(), second.url()],
        &format!("failover-{failover:?}"),
    );
    options.server.failover = failover;
    options.probe_interval = Duration::from_millis(100);
    options.clean_on_member_change = true;
    (first, second, options)
}

fn wanted() -> Vec<Subscription> {
    vec![Subscription::new("f/#", QoS::AtLeastOnce)]
}

fn connected_to(watched: &Watched) -> Option<ServerUrl> {
    watched.handle.status().borrow().url.clone()
}

async fn gets_messages_from(server: &Mosquitto, watched: &mut Watched) {
    let before = watched.messages.len();
    Publisher::connect(server.url())
        .await
        .publish(Publish::new("f/x", "here", QoS::AtLeastOnce))
        .await;
    watched
        .until("a message", |watched| watched.messages.len() > before)
        .await;
}

#[tokio::test]
async fn ordered_goes_to_the_next_member_and_back_when_the_first_is_back() {
    let (mut first, second, options) = two(Failover::Ordered);
    let mut watched = Watched::start(options, wanted());
    watched.until_subscribed().await;
    assert_eq!(connected_to(&watched), Some(first.url()));
    first.kill();
    watched.until_subscribed().await;
    assert_eq!(connected_to(&watched), Some(second.url()));
    gets_messages_from(&second, &mut watched).await;
    first.restart();
    watched.until_subscribed().await;
    assert_eq!(connected_to(&watched), Some(first.url()));
    assert!(watched.failed_with(ErrorKind::MemberSwitch));
    gets_messages_from(&first, &mut watched).await;
}

#[tokio::test]
async fn round_robin_stays_with_the_member_it_has() {
    let (mut first, mut second, options) = two(Failover::RoundRobin);
    let mut watched = Watched::start(options, wanted());
    watched.until_subscribed().await;
    first.kill();
    watched.until_subscribed().await;
    first.restart();
    watched.watch_for(Duration::from_millis(500)).await;
    assert_eq!(connected_to(&watched), Some(second.url()));
    second.kill();
    watched.until_subscribed().await;
    assert_eq!(connected_to(&watched), Some(first.url()));
    gets_messages_from(&first, &mut watched).await;
}

#[tokio::test]
async fn change_of_the_member_starts_clean_where_it_is_asked_for() {
    for clean in [true, false] {
        let (mut first, second, mut options) = two(Failover::RoundRobin);
        options.client_id = format!("clean-{clean}");
        options.clean_on_member_change = clean;
        // The second member has an old queue for this client.
        let mut old = options.clone();
        old.server.urls = vec![second.url()];
        let mut watched = Watched::start(old, wanted());
        watched.until_subscribed().await;
        watched.handle.close().await;
        Publisher::connect(second.url())
            .await
            .publish(Publish::new("f/x", "stale", QoS::AtLeastOnce))
            .await;

        let mut watched = Watched::start(options, wanted());
        watched.until_subscribed().await;
        first.kill();
        watched.until_subscribed().await;
        assert_eq!(watched.connections, [false, !clean]);
        gets_messages_from(&second, &mut watched).await;
        assert_eq!(watched.counts().contains_key("stale"), !clean);
    }
}

#[tokio::test]
async fn who_goes_back_to_the_preferred_member_leaves_its_last_will_at_the_other() {
    for version in [VersionChoice::V5, VersionChoice::V311] {
        let (mut first, second, mut options) = two(Failover::Ordered);
        options.version = version;
        options.will = Some(Will {
            topic: "w".to_owned(),
            payload: "gone".into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            delay: Duration::ZERO,
            expiry: None,
        });
        first.kill();
        let mut watched = Watched::start(options, wanted());
        watched.until_subscribed().await;
        assert_eq!(connected_to(&watched), Some(second.url()));
        let filter = vec![Subscription::new("w", QoS::AtLeastOnce)];
        let mut listener = Watched::start(alone(&second), filter);
        listener.until_subscribed().await;
        first.restart();
        watched.until_subscribed().await;
        assert_eq!(connected_to(&watched), Some(first.url()));
        listener
            .until("the Last Will", |listener| {
                listener.counts().contains_key("gone")
            })
            .await;
    }
}

fn alone(server: &Mosquitto) -> Options {
    options(vec![server.url()], "listener")
}
