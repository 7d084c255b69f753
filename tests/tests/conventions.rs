//! Devices that announce themselves by conventions, on a real Mosquitto: paho-mqtt clients that say what the
//! projects document, found with the Configurations of `examples/`, judged by handler and monitoring broker.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "helpers of tests"
)]

use std::process::Command;
use std::time::Duration;

use akri_mqtt_tests::agent::Agent;
use akri_mqtt_tests::announcing::Announcing;
use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::handler::HandlerFlags;
use akri_mqtt_tests::monitor::MonitorProcess;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// An example, and a device that it must find.
struct Case {
    convention: &'static str,
    devices: &'static [&'static str],
    /// Of the first device.
    topics: &'static [&'static str],
    says: Value,
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            convention: "tasmota",
            devices: &["home/plug"],
            topics: &["plug/stat/#", "plug/tele/#", "stat/plug/#", "tele/plug/#"],
            says: json!({
                "will": [["tele/plug/LWT", "Offline", true]],
                "birth": [["tele/plug/LWT", "Online", true]],
                "data": [["tele/plug/STATE", "{\"POWER\":\"ON\"}", false], ["cmnd/nobody/POWER", "", false]],
            }),
        },
        Case {
            convention: "shelly",
            devices: &["home/shellyplus1-a8032abe54dc"],
            topics: &[
                "shellies/shellyplus1-a8032abe54dc/#",
                "shellyplus1-a8032abe54dc/events/rpc",
                "shellyplus1-a8032abe54dc/status/#",
            ],
            says: json!({
                "will": [["shellyplus1-a8032abe54dc/online", "false", true]],
                "birth": [["shellyplus1-a8032abe54dc/online", "true", true]],
                "data": [["shellyplus1-a8032abe54dc/status/switch:0", "{\"id\":0,\"output\":false}", false]],
            }),
        },
        Case {
            convention: "esphome",
            devices: &["home/livingroom"],
            topics: &["livingroom/#"],
            says: json!({
                "will": [["livingroom/status", "offline", true]],
                "birth": [["livingroom/status", "online", true], ["homeassistant/status", "online", true]],
                "data": [["livingroom/sensor/temperature/state", "21.5", false]],
            }),
        },
        Case {
            convention: "zigbee2mqtt",
            devices: &["home/hall/door", "home/lamp"],
            topics: &["zigbee2mqtt/hall/door"],
            says: json!({
                "will": [["zigbee2mqtt/bridge/state", "{\"state\":\"offline\"}", true]],
                "birth": [
                    ["zigbee2mqtt/bridge/state", "{\"state\":\"online\"}", true],
                    ["zigbee2mqtt/bridge/devices", "[{\"ieee_address\":\"0x00124b00120144ae\",\"type\":\"Coordinator\",\"friendly_name\":\"Coordinator\"},\
                      {\"ieee_address\":\"0x00158d00018255df\",\"type\":\"Router\",\"friendly_name\":\"lamp\"},\
                      {\"ieee_address\":\"0x00158d00018255dd\",\"type\":\"EndDevice\",\"friendly_name\":\"hall/door\"}]", true],
                    ["zigbee2mqtt/lamp/availability", "{\"state\":\"online\"}", true],
                    ["zigbee2mqtt/group/availability", "{\"state\":\"online\"}", true],
                ],
                "data": [["zigbee2mqtt/hall/door", "{\"contact\":true}", false], ["zigbee2mqtt/lamp", "{\"state\":\"ON\"}", false], ["zigbee2mqtt/group", "{\"state\":\"ON\"}", false]],
            }),
        },
        Case {
            convention: "homeAssistant",
            devices: &["home/01ad"],
            topics: &[],
            says: json!({
                "will": [["garden/status", "gone", true]],
                "birth": [
                    ["homeassistant/binary_sensor/garden/config", "{\"~\":\"garden\",\"name\":null,\"dev_cla\":\"motion\",\"stat_t\":\"~/motion\",\
                      \"avty_t\":\"~/status\",\"pl_avail\":\"here\",\"pl_not_avail\":\"gone\",\"uniq_id\":\"motion01ad\",\
                      \"dev\":{\"ids\":[\"01ad\"],\"name\":\"Garden\"}}", true],
                    ["garden/status", "here", true],
                ],
                "data": [["garden/motion", "{\"temperature\":20}", false]],
            }),
        },
        Case {
            convention: "homie",
            devices: &["home/bridge", "home/child"],
            topics: &["homie/5/bridge/#", "homie/bridge/#"],
            says: json!({
                "will": [["homie/5/bridge/$state", "lost", true]],
                "birth": [
                    ["homie/5/bridge/$description", "{\"homie\":\"5.0\",\"version\":1,\"children\":[\"child\"]}", true],
                    ["homie/5/bridge/$state", "ready", true],
                    ["homie/5/child/$description", "{\"homie\":\"5.0\",\"version\":1,\"root\":\"bridge\",\"parent\":\"bridge\"}", true],
                    ["homie/5/child/$state", "ready", true],
                ],
                "data": [["homie/5/child/meter/power", "12.5", true]],
            }),
        },
    ]
}

/// An example for this server.
fn example(convention: &str, server: &Mosquitto) -> String {
    let file = format!(
        "{}/../examples/{convention}.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(file).unwrap();
    text.replace("localhost:1883", &server.address().to_string())
}

/// Its `discoveryDetails`, with short times.
fn details(example: &str) -> String {
    let (_, block) = example.split_once("discoveryDetails: |\n").unwrap();
    format!("{block}      presence: {{offlineDelay: 1s}}\n")
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("      ").unwrap()))
        .collect()
}

/// What `akri-mqtt discover` finds with these files.
fn discovered(files: &[std::path::PathBuf]) -> Vec<String> {
    let mut command = Command::new(binary("akri-mqtt-cli", "akri-mqtt"));
    command.args(["discover", "--for", "4s", "-o", "json"]);
    for file in files {
        command.arg("-f").arg(file);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let configurations = report["configurations"].as_array().unwrap();
    let devices = configurations
        .iter()
        .flat_map(|c| c["devices"].as_array().unwrap());
    let mut ids: Vec<String> = devices
        .map(|device| device["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn each_example_finds_its_devices_and_a_monitoring_broker_judges_them_the_same() {
    let server = Mosquitto::start(Config::default());
    let directory = tempfile::Builder::new().prefix("akri").tempdir().unwrap();
    let agent = Agent::start(directory.path());
    let handler = HandlerFlags::below(directory.path()).start();
    let (mut files, mut expected) = (Vec::new(), Vec::new());
    let mut running = Vec::new();
    for case in cases() {
        let example = example(case.convention, &server);
        let file = directory.path().join(format!("{}.yaml", case.convention));
        std::fs::write(&file, &example).unwrap();
        files.push(file);
        expected.extend(case.devices.iter().map(|id| (*id).to_owned()));
        agent.configure(case.convention, &details(&example), &[]);
        let device = Announcing::start(server.address().port(), case.convention, &case.says);
        running.push((case, device));
    }
    let mut instances = Vec::new();
    for (case, _) in &running {
        agent.wait_for_devices(case.convention, case.devices).await;
        instances.extend(agent.instances(case.convention));
        let of_case = agent.instances(case.convention);
        let first = of_case
            .values()
            .find(|device| device.id == case.devices[0])
            .unwrap();
        let convention: Value = serde_json::from_str(&first.properties["MQTT_CONVENTION"]).unwrap();
        assert!(convention.get(case.convention).is_some(), "{convention}");
        let topics: Vec<String> = serde_json::from_str(&first.properties["MQTT_TOPICS"]).unwrap();
        assert_eq!(topics, case.topics);
    }
    let monitor = MonitorProcess::start(instances);
    for (case, _) in &running {
        for device in case.devices {
            monitor
                .wait_for_presence(device, "online", &format!("by {}", case.convention))
                .await;
        }
    }
    expected.sort();
    // State topics that only a payload has named.
    monitor
        .wait_for_messages_of(&["home/01ad".to_owned()].into())
        .await;
    assert_eq!(discovered(&files), expected);
    for (_, device) in &mut running {
        device.crash();
    }
    for (case, _) in &running {
        agent
            .wait_for("its devices are gone", PATIENCE, |agent| {
                agent.devices(case.convention).is_empty()
            })
            .await;
        for device in case.devices {
            monitor
                .wait_for_presence(device, "offline", &format!("by {}", case.convention))
                .await;
        }
    }
    drop(handler);
}
