//! Sparkplug B through a monitoring broker: metrics by name, although data messages have aliases only, and
//! units, also after the process was killed. Payloads are written by Eclipse Tahu's JavaScript library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::port::free_address;
use serde_json::{Value, json};

const NAME: &str = "akri-mqtt-monitoring-broker";

/// A monitoring broker of one Sparkplug device.
struct Broker {
    child: Child,
    server: SocketAddr,
    http: SocketAddr,
    data: tempfile::TempDir,
}

impl Broker {
    fn start(server: SocketAddr) -> Self {
        let http = free_address();
        let data = tempfile::tempdir().unwrap();
        Self {
            child: spawn(server, http, data.path()),
            server,
            http,
            data,
        }
    }

    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.server, self.http, self.data.path());
    }

    /// `name value unit` of all readings of a topic, oldest first.
    fn readings(&self, topic: &str) -> Vec<String> {
        let path = format!("/v1/devices/plant-a%2Fpress/readings?topic={topic}&order=asc");
        let Some((200, body)) = http::get(self.http, &path) else {
            return Vec::new();
        };
        let page: Value = serde_json::from_str(&body).unwrap();
        let readings = page["readings"].as_array().unwrap().iter();
        let text = |reading: &Value| {
            let unit = reading["unit"].as_str().unwrap_or("-");
            format!(
                "{} {} {unit}",
                reading["name"].as_str().unwrap(),
                reading["value"]
            )
        };
        readings.map(text).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(server: SocketAddr, http: SocketAddr, data: &Path) -> Child {
    Command::new(binary(NAME, NAME))
        .args(["--http", &http.to_string(), "--grpc", "127.0.0.1:0"])
        .args(["--decode", "spBv1.0/#=sparkplugB", "--data-dir"])
        .arg(data)
        .env("MQTT_DEVICE_ID", "plant-a/press")
        .env("MQTT_SERVER_URLS", format!("tcp://{server}"))
        .env("MQTT_TOPICS", r#"["spBv1.0/plant/+/edge/press"]"#)
        .env("RUST_LOG", "warn")
        .spawn()
        .unwrap()
}

fn publish(server: SocketAddr, kind: &str, metrics: &[Value]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/devices/sparkplug_device.mjs");
    let mut child = Command::new("node")
        .args([script, "--port", &server.port().to_string()])
        .args(["--topic", &format!("spBv1.0/plant/{kind}/edge/press")])
        .stdin(Stdio::piped())
        .spawn()
        .expect("node is installed (Debian: nodejs)");
    let mut input = child.stdin.take().unwrap();
    for metric in metrics {
        writeln!(input, "{metric}").unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn metrics_have_their_names_and_units_although_data_has_aliases_only() {
    let server = Mosquitto::start(Config::default());
    let mut broker = Broker::start(server.address());
    until("ready", || {
        http::get(broker.http, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    let unit = json!({"engUnit": {"type": "String", "value": "bar"}});
    let birth = |second: &str| {
        [
            json!({"name": "pressure", "alias": 1, "type": "Float", "value": 1.5, "properties": unit}),
            json!({"name": second, "alias": 2, "type": "Int16", "value": -3}),
        ]
    };
    let data = |value: i32| {
        [
            json!({"alias": 1, "type": "Float", "value": 2.25}),
            json!({"alias": 2, "type": "Int16", "value": value}),
        ]
    };
    publish(broker.server, "DDATA", &data(1));
    publish(broker.server, "DBIRTH", &birth("level"));
    publish(broker.server, "DDATA", &data(-4));
    publish(broker.server, "DBIRTH", &birth("height"));
    publish(broker.server, "DDATA", &data(-5));
    let expected = [
        "alias:1 2.25 -",
        "alias:2 1 -",
        "level -4 -",
        "pressure 2.25 bar",
        "height -5 -",
        "pressure 2.25 bar",
    ];
    let topic = "spBv1.0/plant/DDATA/edge/press";
    until("six readings", || broker.readings(topic).len() == 6);
    assert_eq!(broker.readings(topic), expected);
    let births = broker.readings("spBv1.0/plant/DBIRTH/edge/press");
    assert_eq!(
        births,
        [
            "level -3 -",
            "pressure 1.5 bar",
            "height -3 -",
            "pressure 1.5 bar"
        ]
    );

    broker.kill_and_restart();
    until("six readings once more", || {
        broker.readings(topic).len() == 6
    });
    assert_eq!(broker.readings(topic), expected);
    let latest = "/v1/devices/plant-a%2Fpress/latest?topic=spBv1.0/plant/DDATA/edge/press";
    let (_, body) = http::get(broker.http, latest).unwrap();
    let latest: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(latest["messages"][0]["readings"][1]["name"], "pressure");
    assert_eq!(latest["messages"][0]["readings"][1]["unit"], "bar");
}
