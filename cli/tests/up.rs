//! `akri-mqtt up` against a real Mosquitto, with devices that are `mosquitto_pub`.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use akri_mqtt_proto::monitoring::monitoring_client::MonitoringClient;
use akri_mqtt_proto::monitoring::watch_response::Event;
use akri_mqtt_proto::monitoring::{Message, WatchRequest};
use akri_mqtt_tests::servers::Redis;
use serde_json::{Value, json};
use support::mosquitto::{Mosquitto, Publisher};
use support::{DEADLINE, Running, eventually, get, post};
use tempfile::TempDir;

/// 5 s are promised for a clean stop; a busy machine needs longer for its work.
const STOP: Duration = Duration::from_secs(20);

/// The form of the Akri MQTT proposal.
fn proposal(server: SocketAddr) -> String {
    format!(
        "\
apiVersion: akri.sh/v0
kind: Configuration
metadata:
  name: akri-mqtt
spec:
  discoveryHandler:
    name: mqtt
    discoveryDetails: |+
      serverUrls:
        - tcp://{server}
      topics:
        - akri-devices/Device23920/temp
        - robots/+/joints
        - system/subsystem1/device2032/#
  brokerSpec:
    brokerPodSpec:
      containers:
        - name: mqtt-broker
          image: ghcr.io/akri-mqtt/monitoring-broker
  capacity: 1
"
    )
}

/// One that says how presence is announced.
fn with_status(server: SocketAddr) -> String {
    let presence = "        offlineDelay: 200ms\n        reconnectGrace: 1s\n";
    let lines = format!("{presence}  brokerProperties: {{SITE: north}}\n");
    support::robots(server, "joints", &lines)
}

fn up(directory: &Path, configuration: &str) -> Running {
    let file = directory.join("configuration.yaml");
    std::fs::write(&file, configuration).unwrap();
    let data = directory.join("data");
    Running::start(&[
        "up",
        "-f",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--json",
    ])
}

fn event(up: &mut Running, event: &str) -> Value {
    support::json(&up.line_with(|line| support::json(line)["event"] == event))
}

/// The first message of a Watch over everything.
fn watch(grpc: SocketAddr) -> Message {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let first = async {
        let mut client = MonitoringClient::connect(format!("http://{grpc}"))
            .await
            .unwrap();
        let mut stream = client
            .watch(WatchRequest::default())
            .await
            .unwrap()
            .into_inner();
        loop {
            if let Some(Event::Message(message)) = stream.message().await.unwrap().unwrap().event {
                return message;
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(DEADLINE, first).await.unwrap() })
}

#[test]
fn the_yaml_of_the_akri_proposal_serves_real_messages_over_http_and_grpc() {
    let server = Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let mut up = up(directory.path(), &proposal(server.address()));
    let http = up.address("http://");
    let grpc = up.address("grpc://");
    let name = format!("127-0-0-1-{}", server.address().port());
    let _robot = Publisher::start(&server, "robots/r1/joints", "{\"axis1\":12.5}");
    let _sensor = Publisher::start(&server, "akri-devices/Device23920/temp", "21.5");
    let mut online = [
        event(&mut up, "device_online"),
        event(&mut up, "device_online"),
    ];
    online.sort_by_key(|event| event["device"].to_string());
    assert_eq!(
        online[0]["device"],
        format!("{name}/akri-devices/Device23920/temp")
    );
    assert_eq!(online[1]["device"], format!("{name}/robots/r1"));
    assert!(
        online[1]["instance"]
            .as_str()
            .unwrap()
            .starts_with("akri-mqtt-")
    );
    let path = format!("/v1/devices/{name}%2Frobots%2Fr1/latest");
    let message = eventually("the latest message", || {
        let (_, answer) = get(http, &path)?;
        Some(answer["messages"].get(0)?.clone())
    });
    assert_eq!(message["topic"], "robots/r1/joints");
    assert_eq!(message["payload"], json!({"axis1": 12.5}));
    let message = watch(grpc);
    assert!(
        [&b"{\"axis1\":12.5}"[..], b"21.5"].contains(&&message.payload[..]),
        "{message:?}"
    );
    up.signal("TERM");
    assert_eq!(up.wait(STOP).code(), Some(0), "{:?}", up.drain());
}

#[test]
fn a_monitor_stops_when_its_device_goes_and_the_data_stays() {
    let server = Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let mut up = up(directory.path(), &with_status(server.address()));
    let http = up.address("http://");
    server.publish("robots/r1/status", "online", true);
    let online = event(&mut up, "device_online");
    assert_eq!(online["device"], "plant-a/r1");
    let latest = || get(http, "/v1/devices/plant-a%2Fr1/latest");
    eventually("data", || {
        server.publish("robots/r1/joints", "7", false);
        latest()?.1["messages"].get(0).cloned()
    });
    server.publish("robots/r1/status", "offline", true);
    let offline = event(&mut up, "device_offline");
    assert_eq!(offline["device"], "plant-a/r1");
    assert!(
        offline["reason"]
            .as_str()
            .unwrap()
            .contains("robots/r1/status"),
        "{offline}"
    );
    let device = eventually("the device is offline", || {
        let (_, device) = get(http, "/v1/devices/plant-a%2Fr1")?;
        (device["presence"]["state"] == "offline").then_some(device)
    });
    assert_eq!(device["id"], "plant-a/r1");
    let (status, answer) = latest().unwrap();
    assert_eq!(status, 200);
    assert_eq!(answer["messages"][0]["payload"], json!(7));
    server.publish("robots/r1/status", "online", true);
    event(&mut up, "device_online");
    eventually("the device is online again", || {
        let (_, device) = get(http, "/v1/devices/plant-a%2Fr1")?;
        (device["presence"]["state"] == "online").then_some(())
    });
}

#[test]
fn a_restart_keeps_devices_and_data() {
    let server = Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let configuration = with_status(server.address());
    for round in 0..3 {
        let mut up = up(directory.path(), &configuration);
        let http = up.address("http://");
        if round == 0 {
            server.publish("robots/r1/status", "online", true);
        }
        event(&mut up, "device_online");
        eventually("data", || {
            if round == 0 {
                server.publish("robots/r1/joints", "7", false);
            }
            let (_, answer) = get(http, "/v1/devices/plant-a%2Fr1/latest")?;
            let message = answer["messages"]
                .as_array()?
                .iter()
                .find(|m| m["topic"] == "robots/r1/joints")?;
            (message["payload"] == json!(7)).then_some(())
        });
        if round == 1 {
            up.kill();
        } else {
            up.signal("TERM");
            assert_eq!(up.wait(STOP).code(), Some(0), "{:?}", up.drain());
        }
    }
}

#[test]
fn wrong_usage_is_told_before_anything_starts() {
    let directory = TempDir::new().unwrap();
    let server: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let secret = proposal(server).replace(
        "  brokerSpec:",
        "    discoveryProperties:\n      - name: MQTT_PASSWORD\n        valueFrom: {secretKeyRef: {name: plant, key: password}}\n  brokerSpec:",
    );
    let cases = [
        (secret, "--secrets-dir"),
        (
            proposal(server).replace("topics", "topcis"),
            "configuration.yaml:11:7: topcis",
        ),
        (
            proposal(server).replace("name: mqtt\n", "name: onvif\n"),
            "no Configuration",
        ),
    ];
    for (configuration, wanted) in cases {
        let mut up = up(directory.path(), &configuration);
        assert_eq!(up.wait(STOP).code(), Some(2), "{wanted}");
        up.error_with(wanted);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = directory.path().join("good.yaml");
    std::fs::write(&file, proposal(server)).unwrap();
    let data = directory.path().join("other");
    for flag in ["--http", "--grpc"] {
        let arguments = [
            "up",
            "-f",
            file.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            flag,
            &address,
        ];
        let mut up = Running::start(&arguments);
        assert_eq!(up.wait(STOP).code(), Some(2), "{flag}");
        up.error_with(&address);
    }
}

#[test]
fn a_password_reaches_the_server_from_a_secrets_directory_or_the_environment() {
    let server = Mosquitto::start_with_password("reader", "s3cret");
    let directory = TempDir::new().unwrap();
    let secrets = directory.path().join("secrets/plant");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("password"), "s3cret").unwrap();
    let properties = "    discoveryProperties:\n      - {name: MQTT_USERNAME, value: reader}\n      - name: MQTT_PASSWORD\n        valueFrom: {secretKeyRef: {name: plant, key: password}}\n  brokerProperties:";
    let referring = with_status(server.address()).replace("  brokerProperties:", properties);
    let plain = with_status(server.address());
    server.publish("robots/r1/status", "online", true);
    for (name, text) in [("referring", &referring), ("plain", &plain)] {
        let file = directory.path().join(format!("{name}.yaml"));
        std::fs::write(&file, text).unwrap();
        let data = directory.path().join(name);
        let secrets = directory.path().join("secrets");
        let arguments = [
            "up",
            "--json",
            "--http",
            "127.0.0.1:0",
            "--grpc",
            "127.0.0.1:0",
            "-f",
            file.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            "--secrets-dir",
            secrets.to_str().unwrap(),
        ];
        let variables: &[_] = if name == "plain" {
            &[("MQTT_USERNAME", "reader"), ("MQTT_PASSWORD", "s3cret")]
        } else {
            &[]
        };
        let mut up = Running::start_with(&arguments, variables);
        let http = up.address("http://");
        assert_eq!(event(&mut up, "device_online")["device"], "plant-a/r1");
        // The monitor has the credentials as well.
        eventually("data", || {
            server.publish("robots/r1/joints", "7", false);
            get(http, "/v1/devices/plant-a%2Fr1/latest")?.1["messages"]
                .get(0)
                .cloned()
        });
        up.signal("TERM");
        assert_eq!(up.wait(STOP).code(), Some(0));
        assert!(!up.drain().join("\n").contains("s3cret"));
    }
}

#[test]
fn commands_reach_the_device_and_every_message_reaches_the_sink() {
    let server = Mosquitto::start();
    let redis = Redis::start(&[]);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("configuration.yaml");
    std::fs::write(&file, with_status(server.address())).unwrap();
    let data = directory.path().join("data");
    let sink = format!("redis://{}", redis.address());
    let arguments = [
        "up",
        "--json",
        "-f",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--sink",
        &sink,
        "--allow-publish",
        "robots/{device}/cmd",
    ];
    let mut up = Running::start(&arguments);
    let http = up.address("http://");
    server.publish("robots/r1/status", "online", true);
    assert_eq!(event(&mut up, "device_online")["device"], "plant-a/r1");
    let message = eventually("the sink has a message", || {
        server.publish("robots/r1/joints", "{\"axis1\":12.5}", false);
        let key = "akri-mqtt:latest:plant-a/r1";
        let answer = redis.ask(&["HGET", key, "robots/r1/joints"]);
        serde_json::from_str::<Value>(answer.first()?).ok()
    });
    assert_eq!(message["payload"], json!({"axis1": 12.5}));
    // Retained, so that the device may come later.
    let command = |topic: &str| {
        let body = json!({"topic": topic, "payload": "home", "retain": true});
        post(http, "/v1/devices/plant-a%2Fr1/commands", &body.to_string())
    };
    assert_eq!(command("robots/r1/cmd").unwrap().0, 200);
    assert_eq!(server.retained("robots/r1/cmd"), "home");
    for topic in ["robots/r2/cmd", "robots/r1/joints"] {
        let (status, problem) = command(topic).unwrap();
        assert_eq!(status, 403, "{topic}");
        assert_eq!(problem["type"], "urn:akri-mqtt:problem:topic-not-allowed");
    }
    up.signal("TERM");
    assert_eq!(up.wait(STOP).code(), Some(0), "{:?}", up.drain());
}
