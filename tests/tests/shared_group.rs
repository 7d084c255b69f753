//! Monitoring brokers that share the messages of a device: each message is stored by one of them, presence is
//! seen by all. In: real Mosquitto. Out: what each of them has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use akri_mqtt_proto::akri::Device;
use akri_mqtt_tests::devices::publish;
use akri_mqtt_tests::monitor::MonitorProcess;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};

const STATUS: &str = "robots/r1/status";

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn payloads(monitor: &MonitorProcess) -> Vec<i64> {
    let page = monitor.get("/v1/devices/plant-a%2Fr1/messages?topic=robots/r1/data&limit=1000");
    let messages = page["messages"].as_array().cloned().unwrap_or_default();
    let payload = messages.iter().filter_map(|one| one["payload"].as_i64());
    payload.collect()
}

#[test]
fn members_of_a_group_store_each_message_once_and_all_see_presence() {
    let server = Mosquitto::start(Config::default());
    let properties: BTreeMap<String, String> = [
        ("MQTT_DEVICE_ID", "plant-a/r1"),
        ("MQTT_SERVER_URLS", &format!("tcp://{}", server.address())),
        ("MQTT_TOPICS", r#"["robots/r1/data"]"#),
        (
            "MQTT_PRESENCE",
            r#"{"availability":[{"topic":"robots/r1/status"}],"offlineDelay":"0s"}"#,
        ),
        ("MQTT_SHARED_GROUP", "line-1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let member = || {
        let device = Device {
            id: "plant-a/r1".to_owned(),
            properties: properties.clone().into_iter().collect(),
            ..Device::default()
        };
        MonitorProcess::start([("r-0a1b2c".to_owned(), device)])
    };
    let members = [member(), member()];
    let state = |monitor: &MonitorProcess| {
        monitor.get("/v1/devices/plant-a%2Fr1")["presence"]["state"].clone()
    };
    let say = |topic, payload: &str| {
        let flags: &[&str] = if topic == STATUS {
            &["-q", "1", "-r"]
        } else {
            &["-q", "1"]
        };
        publish(server.address(), topic, Some(payload), flags);
    };
    say(STATUS, "online");
    until("both see it online", || {
        members.iter().all(|member| state(member) == "online")
    });
    for number in 0..60 {
        say("robots/r1/data", &number.to_string());
    }
    until("all are stored", || {
        members
            .iter()
            .map(|member| payloads(member).len())
            .sum::<usize>()
            >= 60
    });
    let [one, other] = [&members[0], &members[1]].map(payloads);
    assert!(!one.is_empty() && !other.is_empty(), "{one:?} {other:?}");
    let mut all = [one, other].concat();
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
    let latest = members[0].get("/v1/devices/plant-a%2Fr1/latest");
    assert_eq!(latest["partial"], true);
    say(STATUS, "offline");
    until("both see it offline", || {
        members.iter().all(|member| state(member) == "offline")
    });
}
