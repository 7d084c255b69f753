//! The session through a proxy and a server that fail: nothing of QoS 1 is lost, nothing of QoS 2 is lost or
//! doubled, and every failure has its name.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod links;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use akri_mqtt_core::{
    credentials::Credentials,
    details::{QoS, Scheme, VersionChoice},
};
use akri_mqtt_session::{ErrorKind, Event, Handle, MemoryState, Options, Publish, Subscription};
use akri_mqtt_tests::{
    clients::{Publisher, Watched, options},
    mosquitto::{Config, Mosquitto, url},
    proxy::{Direction, PacketType, Proxy, When},
};

const VERSIONS: [VersionChoice; 2] = [VersionChoice::V5, VersionChoice::V311];

/// A server behind a proxy, and options for a client that goes through it.
async fn proxied(config: Config, id: &str, version: VersionChoice) -> (Mosquitto, Proxy, Options) {
    let server = Mosquitto::start(config);
    let proxy = Proxy::start(server.address()).await.unwrap();
    let mut options = options(vec![url(Scheme::Tcp, proxy.address())], id);
    options.version = version;
    (server, proxy, options)
}

fn numbered(topic: &str, qos: QoS, numbers: std::ops::Range<usize>) -> Vec<Publish> {
    let name = if qos == QoS::ExactlyOnce {
        "two"
    } else {
        "one"
    };
    numbers
        .map(|n| Publish::new(topic, format!("{name}-{n}"), qos))
        .collect()
}

/// Every number arrived; QoS 2 once, QoS 1 at least once.
fn assert_all_arrived(watched: &Watched, numbers: std::ops::Range<usize>) {
    let counts = watched.counts();
    for n in numbers {
        assert!(
            counts
                .get(format!("one-{n}").as_str())
                .is_some_and(|count| *count >= 1),
            "one-{n} is lost"
        );
        assert_eq!(counts.get(format!("two-{n}").as_str()), Some(&1), "two-{n}");
    }
}

fn have_all(watched: &Watched, numbers: std::ops::Range<usize>) -> bool {
    let counts = watched.counts();
    numbers.clone().all(|n| {
        counts.contains_key(format!("one-{n}").as_str())
            && counts.contains_key(format!("two-{n}").as_str())
    })
}

fn both(filter: &str) -> Vec<Subscription> {
    vec![Subscription::new(filter, QoS::ExactlyOnce)]
}

/// Publishes 40 messages of QoS 1 and 2 while the connection is cut at one packet; all must arrive.
async fn cut_at(
    direction: Direction,
    packet: PacketType,
    when: When,
    passing: usize,
    version: VersionChoice,
) {
    let id = format!("cut-{packet:?}-{when:?}-{passing}-{version:?}");
    let (server, proxy, options) = proxied(Config::new(), &id, version).await;
    proxy.cut_at(direction, packet, when, passing);
    let mut watched = Watched::start(options, both("cut/#"));
    watched.until_subscribed().await;
    let publisher = Publisher::connect(server.url()).await;
    let messages = numbered("cut/x", QoS::AtLeastOnce, 0..40);
    let messages = messages
        .into_iter()
        .zip(numbered("cut/x", QoS::ExactlyOnce, 0..40));
    publisher
        .publish_all(messages.flat_map(|(one, two)| [one, two]))
        .await;
    watched
        .until("every message", |watched| have_all(watched, 0..40))
        .await;
    watched.watch_for(Duration::from_millis(30)).await;
    assert_all_arrived(&watched, 0..40);
    assert_eq!(proxy.cuts_done(), 1, "the cut at {packet:?} did not happen");
    assert!(
        watched.failed_with(ErrorKind::Closed),
        "{:?}",
        watched.errors
    );
    watched.handle.close().await;
}

macro_rules! cuts {
    ($($name:ident: $direction:ident $packet:ident $passing:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            for version in VERSIONS {
                for when in [When::Before, When::After] {
                    cut_at(Direction::$direction, PacketType::$packet, when, $passing, version).await;
                }
            }
        }
    )*};
}

cuts! {
    cut_before_and_after_connack_loses_nothing: ToClient ConnAck 0;
    cut_before_and_after_suback_loses_nothing: ToClient SubAck 0;
    cut_before_and_after_publish_loses_and_doubles_nothing: ToClient Publish 7;
    cut_before_and_after_puback_loses_and_doubles_nothing: ToServer PubAck 5;
    cut_before_and_after_pubrec_loses_and_doubles_nothing: ToServer PubRec 5;
    cut_before_and_after_pubrel_loses_and_doubles_nothing: ToClient PubRel 5;
    cut_before_and_after_pubcomp_loses_and_doubles_nothing: ToServer PubComp 5;
}

#[tokio::test]
async fn messages_published_while_away_arrive_and_qos_2_once() {
    for version in VERSIONS {
        let (server, proxy, options) =
            proxied(Config::new(), &format!("away-{version:?}"), version).await;
        let mut watched = Watched::start(options, both("away/#"));
        watched.until_subscribed().await;
        proxy.refuse(true);
        proxy.cut();
        watched
            .until("disconnected", |watched| !watched.errors.is_empty())
            .await;
        let publisher = Publisher::connect(server.url()).await;
        publisher
            .publish_all(numbered("away/x", QoS::AtLeastOnce, 0..500))
            .await;
        publisher
            .publish_all(numbered("away/x", QoS::ExactlyOnce, 0..500))
            .await;
        proxy.refuse(false);
        watched
            .until("every message", |watched| have_all(watched, 0..500))
            .await;
        assert_all_arrived(&watched, 0..500);
        assert_eq!(
            watched.connections.last(),
            Some(&true),
            "the session was resumed"
        );
    }
}

#[tokio::test]
async fn client_that_dies_without_disconnect_finds_its_messages_in_the_next_process() {
    for version in VERSIONS {
        let (server, _proxy, options) =
            proxied(Config::new(), &format!("kill-{version:?}"), version).await;
        let state = Arc::new(MemoryState::new());
        let publisher = Publisher::connect(server.url()).await;
        // A runtime of its own whose end drops the session's task wherever it stands, as SIGKILL would.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (first, memory) = (options.clone(), state.clone());
        let mut watched = runtime
            .spawn(async move {
                let mut watched =
                    Watched::start_with(first, both("kill/#"), Credentials::default(), memory);
                watched.until_subscribed().await;
                watched
            })
            .await
            .unwrap();
        publisher
            .publish_all(numbered("kill/x", QoS::AtLeastOnce, 0..100))
            .await;
        publisher
            .publish_all(numbered("kill/x", QoS::ExactlyOnce, 0..100))
            .await;
        watched
            .until("some messages", |watched| watched.messages.len() >= 110)
            .await;
        runtime.shutdown_background();
        let mut seen = std::mem::take(&mut watched.messages);
        drop(watched);
        publisher
            .publish_all(numbered("kill/x", QoS::AtLeastOnce, 100..200))
            .await;
        publisher
            .publish_all(numbered("kill/x", QoS::ExactlyOnce, 100..200))
            .await;

        let mut watched =
            Watched::start_with(options, both("kill/#"), Credentials::default(), state);
        watched.messages.append(&mut seen);
        watched
            .until("every message", |watched| have_all(watched, 0..200))
            .await;
        watched.watch_for(Duration::from_millis(30)).await;
        assert_all_arrived(&watched, 0..200);
        assert_eq!(watched.connections, [true]);
    }
}

#[tokio::test]
async fn server_that_keeps_its_state_comes_back_with_the_session() {
    let (mut server, _proxy, options) =
        proxied(Config::new().persistent(), "kept", VersionChoice::Auto).await;
    let mut watched = Watched::start(options, both("kept/#"));
    watched.until_subscribed().await;
    server.stop();
    server.restart();
    watched
        .until("connected again", |watched| watched.connections.len() == 2)
        .await;
    assert_eq!(watched.connections, [false, true]);
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish_all(numbered("kept/x", QoS::AtLeastOnce, 0..10))
        .await;
    publisher
        .publish_all(numbered("kept/x", QoS::ExactlyOnce, 0..10))
        .await;
    watched
        .until("every message", |watched| have_all(watched, 0..10))
        .await;
    assert_all_arrived(&watched, 0..10);
}

#[tokio::test]
async fn server_that_lost_its_state_is_subscribed_to_again() {
    for version in VERSIONS {
        let (mut server, _proxy, options) =
            proxied(Config::new(), &format!("lost-{version:?}"), version).await;
        let mut watched = Watched::start(options, both("lost/#"));
        watched.until_subscribed().await;
        let publisher = Publisher::connect(server.url()).await;
        publisher
            .publish_all(numbered("lost/x", QoS::ExactlyOnce, 0..3))
            .await;
        watched
            .until("three messages", |watched| watched.messages.len() == 3)
            .await;
        server.kill();
        server.restart();
        watched.until_subscribed().await;
        assert_eq!(watched.connections, [false, false]);
        assert_eq!(
            watched
                .handle
                .status()
                .borrow()
                .counters
                .snapshot()
                .sessions_lost,
            1
        );
        // The new session uses the same packet ids again: they must not be taken for duplicates.
        let publisher = Publisher::connect(server.url()).await;
        publisher
            .publish_all(numbered("lost/x", QoS::AtLeastOnce, 10..20))
            .await;
        publisher
            .publish_all(numbered("lost/x", QoS::ExactlyOnce, 10..20))
            .await;
        watched
            .until("every message", |watched| have_all(watched, 10..20))
            .await;
        assert_all_arrived(&watched, 10..20);
    }
}

#[tokio::test]
async fn large_message_among_small_ones_is_counted_and_skipped() {
    for version in VERSIONS {
        for large in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let (server, _proxy, options) =
                proxied(Config::new(), &format!("large-{version:?}"), version).await;
            let mut watched = Watched::start(options.clone(), both("large/#"));
            watched.until_subscribed().await;
            let publisher = Publisher::connect(server.url()).await;
            publisher
                .publish_all(numbered("large/x", QoS::AtLeastOnce, 0..20))
                .await;
            publisher
                .publish(Publish::new("large/x", vec![b'x'; 5 * 1024 * 1024], large))
                .await;
            publisher
                .publish_all(numbered("large/x", QoS::ExactlyOnce, 0..20))
                .await;
            watched
                .until("every small message", |watched| have_all(watched, 0..20))
                .await;
            let skipped = watched.handle.status().borrow().counters.snapshot().skipped;
            assert_eq!(skipped["too_large"], 1);
            assert_eq!(watched.connections, [false], "{:?}", watched.errors);
            watched.handle.close().await;
            // It was acknowledged: the next process does not get it again.
            let mut again = Watched::start(options, both("large/#"));
            again.until_subscribed().await;
            again.watch_for(Duration::from_millis(50)).await;
            let skipped = again.handle.status().borrow().counters.snapshot().skipped;
            assert_eq!(
                skipped["too_large"],
                0,
                "{version:?}, {large:?}, {}",
                server.log()
            );
        }
    }
}

#[tokio::test]
async fn unacknowledged_message_comes_again_and_is_not_delivered_twice_while_it_is_stored() {
    for version in VERSIONS {
        let (server, proxy, options) =
            proxied(Config::new(), &format!("slow-{version:?}"), version).await;
        let mut watched = Watched::start(options, both("slow/#"));
        watched.until_subscribed().await;
        let publisher = Publisher::connect(server.url()).await;
        publisher
            .publish(Publish::new("slow/x", "two-0", QoS::ExactlyOnce))
            .await;
        let message = loop {
            match watched.events.recv().await.unwrap() {
                Event::Message(message) => break message,
                other => watched.take(other),
            }
        };
        // The consumer is still storing it while the connection breaks and the server sends it again.
        proxy.cut();
        watched.until_subscribed().await;
        let duplicates =
            |handle: &Handle| handle.status().borrow().counters.snapshot().skipped["duplicate"];
        let handle = watched.handle.clone();
        akri_mqtt_tests::clients::eventually("the server sends it again", || async {
            duplicates(&handle) == 1
        })
        .await;
        watched.take(Event::Message(message));
        publisher
            .publish(Publish::new("slow/x", "two-1", QoS::ExactlyOnce))
            .await;
        watched
            .until("the next message", |watched| {
                watched.counts().contains_key("two-1")
            })
            .await;
        assert_eq!(watched.counts().into_values().collect::<Vec<_>>(), [1, 1]);
        let released = || proxy.packets(Direction::ToServer, PacketType::PubComp);
        akri_mqtt_tests::clients::eventually("both are released", || async { released() == 2 })
            .await;
    }
}

#[tokio::test]
async fn consumer_that_takes_nothing_stops_the_reading_and_loses_nothing() {
    let (server, _proxy, mut options) =
        proxied(Config::new(), "pressure", VersionChoice::Auto).await;
    options.event_capacity = 8;
    options.keep_alive = Duration::from_secs(1);
    let mut watched = Watched::start(options, both("pressure/#"));
    watched.until_subscribed().await;
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish_all(numbered("pressure/x", QoS::AtLeastOnce, 0..300))
        .await;
    publisher
        .publish_all(numbered("pressure/x", QoS::ExactlyOnce, 0..300))
        .await;
    // Twice the time after which the watchdog would end a silent connection.
    tokio::time::sleep(Duration::from_secs(3)).await;
    watched
        .until("every message", |watched| have_all(watched, 0..300))
        .await;
    assert_all_arrived(&watched, 0..300);
    assert_eq!(watched.connections, [false], "{:?}", watched.errors);
}

#[tokio::test]
async fn change_of_credentials_reconnects_and_loses_nothing() {
    let config = Config::new()
        .user("old", "one")
        .user("new", "two")
        .user("publisher", "three");
    let (server, _proxy, options) = proxied(config, "rotated", VersionChoice::Auto).await;
    let named = |name: &str, password: &str| Credentials {
        username: Some(name.to_owned()),
        password: Some(akri_mqtt_core::credentials::Secret::new(
            password.as_bytes(),
        )),
        ..Credentials::default()
    };
    let state = Arc::new(MemoryState::new());
    let mut watched = Watched::start_with(options, both("rotated/#"), named("old", "one"), state);
    watched.until_subscribed().await;
    let mut sender = options_for(&server);
    sender.session_expiry = Duration::ZERO;
    let mut publisher = Watched::start_with(
        sender,
        Vec::new(),
        named("publisher", "three"),
        Arc::new(MemoryState::new()),
    );
    publisher
        .until("connected", |watched| !watched.connections.is_empty())
        .await;
    for n in 0..50 {
        publisher
            .handle
            .publish(numbered("rotated/x", QoS::AtLeastOnce, n..n + 1).remove(0))
            .await
            .unwrap();
        publisher
            .handle
            .publish(numbered("rotated/x", QoS::ExactlyOnce, n..n + 1).remove(0))
            .await
            .unwrap();
        if n == 25 {
            watched.set_credentials(named("new", "two"));
        }
    }
    watched
        .until("every message", |watched| have_all(watched, 0..50))
        .await;
    assert_all_arrived(&watched, 0..50);
    assert_eq!(watched.connections, [false, true]);
    assert_eq!(
        watched
            .errors
            .iter()
            .map(|(kind, _)| *kind)
            .collect::<Vec<_>>(),
        [ErrorKind::CredentialsChanged]
    );
}

fn options_for(server: &Mosquitto) -> Options {
    options(vec![server.url()], "sender")
}
