//! What others see of a monitoring broker on a real Mosquitto: birth, Last Will, good-bye, and that no refusal of them
//! stops ingestion.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Broker, Follower, Mosquitto, eventually};

const MONITORS: &str = "akri-mqtt/monitors/#";

fn until(follower: &Follower, states: &[&str]) {
    let what = format!("{states:?}");
    eventually(&what, || {
        let found = follower.states();
        let fits = found.len() <= states.len() && found.iter().zip(states).all(|(a, b)| a == b);
        assert!(fits, "{found:?}, not {what}");
        found.len() == states.len()
    });
}

/// A message of the device is stored.
fn assert_ingests(server: &Mosquitto, broker: &Broker) {
    let before = broker.metric("akri_mqtt_store_messages_total");
    server.publish("robots/r1/state", "x");
    eventually("a message is stored", || {
        broker.metric("akri_mqtt_store_messages_total") > before
    });
}

#[test]
fn crash_shows_the_last_will_and_a_restart_and_a_clean_stop_say_so() {
    let server = Mosquitto::start("", "");
    let follower = server.follow(MONITORS);
    let mut broker = Broker::start(&server, &[]);
    until(&follower, &["online"]);
    let (topic, payload) = follower.heard().remove(0);
    assert!(
        topic.starts_with("akri-mqtt/monitors/akri-mqtt-"),
        "{topic}"
    );
    assert!(topic.contains("-default-pod-0-"), "{topic}");
    let said: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(said["instance"], "pod-0");
    assert_eq!(said["devices"], 1);
    assert_eq!(said["device_ids"], serde_json::json!(["plant/r1"]));
    assert!(said["version"].as_str().unwrap().contains('.'));
    said["since"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();

    broker.kill();
    until(&follower, &["online", "offline"]);
    broker.restart();
    until(&follower, &["online", "offline", "online"]);
    let latecomer = server.follow(MONITORS);
    until(&latecomer, &["online"]);
    assert_ingests(&server, &broker);

    broker.stop();
    until(&follower, &["online", "offline", "online", "offline"]);
    let latecomer = server.follow(MONITORS);
    until(&latecomer, &["offline"]);
    // Nothing that it announces is data of a device.
    broker.restart();
    until(&latecomer, &["offline", "online"]);
    let (_, messages) = broker.get("/v1/devices/plant%2Fr1/messages");
    assert!(!messages.contains("akri-mqtt/monitors"), "{messages}");
}

#[test]
fn crash_of_which_it_recovers_soon_is_no_news() {
    const WILL_DELAY: Duration = Duration::from_secs(10);
    // A loaded machine may take too long once. What it has left at the server would be news to the next attempt.
    for attempt in 1.. {
        assert!(attempt <= 5, "never soon enough");
        let server = Mosquitto::start("", "");
        let mut broker = Broker::start(&server, &[]);
        let follower = server.follow(MONITORS);
        until(&follower, &["online"]);
        let began = Instant::now();
        broker.kill();
        broker.restart();
        if began.elapsed() > WILL_DELAY / 2 {
            continue;
        }
        until(&follower, &["online", "online"]);
        // The Last Will would come within this time.
        std::thread::sleep(WILL_DELAY + Duration::from_secs(2));
        broker.stop();
        until(&follower, &["online", "online", "offline"]);
        return;
    }
}

#[test]
fn mqtt_3_1_1_has_birth_last_will_and_good_bye_too() {
    let server = Mosquitto::start("", "");
    let follower = server.follow("tools/monitors/#");
    let session = [
        ("MQTT_SESSION", r#"{"version": "3.1.1"}"#),
        ("AKRI_MQTT_ANNOUNCE_TOPIC", "tools/monitors"),
    ];
    let mut broker = Broker::start_with(&server, &[], &session);
    until(&follower, &["online"]);
    broker.kill();
    until(&follower, &["online", "offline"]);
    broker.restart();
    until(&follower, &["online", "offline", "online"]);
    broker.stop();
    until(&follower, &["online", "offline", "online", "offline"]);
}

#[test]
fn server_that_forbids_the_topic_is_ingested_all_the_same() {
    let acl = "topic read #\ntopic write robots/#\n";
    let server = Mosquitto::start("acl_file ACL", acl);
    let broker = Broker::start(&server, &[]);
    let failed = "akri_mqtt_announcements_failed_total";
    eventually("it is counted", || broker.metric(failed) == 1.0);
    assert_ingests(&server, &broker);
    let warnings = broker.logs("the server does not take our announcement", 1);
    assert!(
        warnings[0]["why"]
            .as_str()
            .unwrap()
            .contains("not authorised"),
        "{warnings:?}"
    );
}

#[test]
fn server_that_refuses_the_last_will_is_asked_for_a_connection_without_it() {
    // Mosquitto refuses the CONNECT itself: the will is retained.
    let server = Mosquitto::start("retain_available false", "");
    let broker = Broker::start(&server, &[]);
    let failed = "akri_mqtt_announcements_failed_total";
    eventually("will and birth are counted", || {
        broker.metric(failed) == 2.0
    });
    assert_ingests(&server, &broker);
    broker.logs("the server does not take our announcement", 1);
}

#[test]
fn an_empty_topic_announces_nothing() {
    let server = Mosquitto::start("", "");
    let follower = server.follow("#");
    let mut broker = Broker::start(&server, &["--announce-topic", ""]);
    assert_ingests(&server, &broker);
    broker.stop();
    server.publish("end", "x");
    eventually("the end", || {
        follower.heard().iter().any(|(topic, _)| topic == "end")
    });
    let heard = follower.heard();
    assert!(
        !heard
            .iter()
            .any(|(topic, _)| topic.starts_with("akri-mqtt")),
        "{heard:?}"
    );
}
