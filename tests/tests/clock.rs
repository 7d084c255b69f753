//! A monitoring broker whose clock is set while it runs. In: real Mosquitto, a clock of its own by libfaketime.
//! Out: nothing is lost, nothing changes its place, no device dies of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use akri_mqtt_proto::akri::Device;
use akri_mqtt_tests::devices::publish;
use akri_mqtt_tests::monitor::MonitorProcess;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use serde_json::Value;

/// The library that gives a process its own clock; each architecture has a directory of its own.
fn faketime() -> PathBuf {
    let directories = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let found = directories
        .map(|one| one.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists());
    found.expect("libfaketime.so.1 is not installed: apt-get install faketime")
}

fn messages(monitor: &MonitorProcess) -> Vec<Value> {
    let page = monitor.get("/v1/devices/plant-a%2Fr1/messages?topic=robots/r1/data&limit=1000");
    page["messages"].as_array().cloned().unwrap_or_default()
}

/// The oldest first.
fn numbers(messages: &[Value], field: &str) -> Vec<i64> {
    let mut found: Vec<(u64, i64)> = messages
        .iter()
        .map(|one| {
            let value = &one[field];
            let time = value.as_str().and_then(|text| text.parse().ok());
            let time = time.map(|time: jiff::Timestamp| time.as_second());
            let sequence = one["sequence"].to_string().replace('"', "").parse();
            (sequence.unwrap(), value.as_i64().or(time).unwrap())
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, value)| value).collect()
}

#[test]
fn clock_set_back_or_forth_loses_nothing_and_ends_no_device() {
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    let set = |offset: &str| {
        let new = directory.path().join("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(&new, &clock).unwrap();
    };
    set("+0");
    let server = Mosquitto::start(Config::default());
    let properties: BTreeMap<String, String> = [
        ("MQTT_DEVICE_ID", "plant-a/r1"),
        ("MQTT_SERVER_URLS", &format!("tcp://{}", server.address())),
        ("MQTT_TOPICS", r#"["robots/r1/data"]"#),
        (
            "MQTT_PRESENCE",
            r#"{"availability":[{"topic":"robots/r1/status"}],"offlineDelay":"0s","offlineAfter":"10m"}"#,
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let device = Device {
        id: "plant-a/r1".to_owned(),
        properties: properties.into_iter().collect(),
        ..Device::default()
    };
    let monitor = MonitorProcess::start_with([("r-0a1b2c".to_owned(), device)], |command| {
        command
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .args(["--retain-for", "90m"]);
    });
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let presence = || monitor.get("/v1/devices/plant-a%2Fr1")["presence"]["state"].clone();
    let flags: &[&str] = &["-q", "1"];
    publish(
        server.address(),
        "robots/r1/status",
        Some("online"),
        &["-q", "1", "-r"],
    );
    until("it is online", &|| presence() == "online");
    let mut said = 0;
    // As many as it takes until the clock is seen to be so far off, and ten more.
    let mut say_at = |offset: i64| {
        set(&format!("{offset:+}"));
        let mut since = None;
        while since.is_none_or(|since| said < since + 10) {
            let payload = said.to_string();
            publish(server.address(), "robots/r1/data", Some(&payload), flags);
            said += 1;
            let stored = || numbers(&messages(&monitor), "payload").last() == Some(&(said - 1));
            until("it is stored", &stored);
            let last = *numbers(&messages(&monitor), "received_at").last().unwrap();
            let here = jiff::Timestamp::now().as_second() + offset;
            if since.is_none() && (here - last).abs() < 600 {
                since = Some(said - 1);
            }
            assert!(said < 900, "the clock is not set");
        }
        since.unwrap()
    };

    let first = say_at(0);
    let back = say_at(-3_600);
    let forth = say_at(3_000);

    let all = messages(&monitor);
    assert_eq!(
        numbers(&all, "payload"),
        (0..forth + 10).collect::<Vec<_>>()
    );
    assert_eq!(first, 0);
    assert_eq!(presence(), "online");
    // By time it is found where its clock said that it was.
    let hour_ago = numbers(&all, "received_at")[usize::try_from(back).unwrap()];
    let path = format!(
        "/v1/devices/plant-a%2Fr1/messages?topic=robots/r1/data&limit=1000&from={hour_ago}&to={}",
        hour_ago + 1_800
    );
    let then = monitor.get(&path)["messages"].as_array().cloned();
    let then = numbers(&then.unwrap_or_default(), "payload");
    assert_eq!(then.first(), Some(&back));
    assert!(
        then.contains(&(back + 9)) && !then.contains(&(forth + 9)),
        "{then:?}"
    );
}
