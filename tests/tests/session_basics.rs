//! The session against a real Mosquitto where nothing goes wrong: versions, transports, subscriptions.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::time::Duration;

use akri_mqtt_core::details::{QoS, Scheme, VersionChoice};
use akri_mqtt_session::{Publish, Subscription, Version};
use akri_mqtt_tests::{
    clients::{Publisher, Watched, options},
    mosquitto::{Config, Mosquitto, url},
    proxy::{Direction, PacketType, Proxy},
};

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[tokio::test]
async fn messages_of_each_qos_arrive_once_over_each_version_and_transport() {
    let server = Mosquitto::start(Config::new().websockets());
    let publisher = Publisher::connect(server.url()).await;
    for (version, spoken) in [
        (VersionChoice::V5, Version::V5),
        (VersionChoice::V311, Version::V311),
    ] {
        for url in [server.url(), url(Scheme::Ws, server.ws_address())] {
            let mut options = options(vec![url], &format!("basic-{spoken}"));
            options.version = version;
            let mut watched = Watched::start(
                options,
                vec![Subscription::new("basic/#", QoS::ExactlyOnce)],
            );
            watched.until_subscribed().await;
            assert_eq!(watched.handle.status().borrow().version, Some(spoken));
            for qos in ALL {
                publisher
                    .publish(Publish::new("basic/x", format!("{qos:?}"), qos))
                    .await;
            }
            watched
                .until("three messages", |watched| watched.messages.len() >= 3)
                .await;
            watched.watch_for(Duration::from_millis(50)).await;
            let payloads: Vec<&str> = watched
                .messages
                .iter()
                .map(|(_, payload)| payload.as_str())
                .collect();
            assert_eq!(payloads, ["AtMostOnce", "AtLeastOnce", "ExactlyOnce"]);
            watched.handle.close().await;
        }
    }
}

#[tokio::test]
async fn thousand_topics_take_few_subscribe_packets_and_all_are_acknowledged() {
    let server = Mosquitto::start(Config::new());
    let proxy = Proxy::start(server.address()).await.unwrap();
    let wanted = |n: usize| {
        (0..n)
            .map(|i| Subscription::new(format!("many/{i}"), QoS::AtLeastOnce))
            .collect::<Vec<_>>()
    };
    let mut watched = Watched::start(
        options(vec![url(Scheme::Tcp, proxy.address())], "many"),
        wanted(1000),
    );
    watched.until_subscribed().await;
    assert_eq!(watched.subscribed, [Vec::new()]);
    let packets = proxy.packets(Direction::ToServer, PacketType::Subscribe);
    assert!(packets <= 4, "{packets} SUBSCRIBE packets");

    // What is no longer wanted is unsubscribed, what is wanted stays.
    watched.handle.subscribe(wanted(10));
    watched.until_subscribed().await;
    assert!(proxy.packets(Direction::ToServer, PacketType::Unsubscribe) <= 4);
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish(Publish::new("many/500", "gone", QoS::AtLeastOnce))
        .await;
    publisher
        .publish(Publish::new("many/5", "here", QoS::AtLeastOnce))
        .await;
    watched
        .until("the wanted message", |watched| !watched.messages.is_empty())
        .await;
    assert_eq!(watched.messages, [("many/5".to_owned(), "here".to_owned())]);
}
