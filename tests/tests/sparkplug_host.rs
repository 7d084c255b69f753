//! The convention `sparkplugB` with real Edge Nodes (Eclipse Tahu's client, pysparkplug) on a real Mosquitto: births,
//! deaths, hosts that join late, and what a Host Application states. Names of assertions are those of Eclipse
//! Sparkplug 3.0.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use akri_mqtt_tests::agent::Agent;
use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::devices::publish;
use akri_mqtt_tests::edge_node::{EdgeNode, Library};
use akri_mqtt_tests::handler::HandlerFlags;
use akri_mqtt_tests::monitor::MonitorProcess;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const TAHU: [&str; 3] = ["line", "tahu", "press"];
const PYTHON: [&str; 3] = ["line", "py", "drill"];
const STATE: &str = "spBv1.0/STATE/plant-host";

/// The example for this server.
fn example(server: &Mosquitto) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/sparkplugB.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    text.replace("localhost:1883", &server.address().to_string())
}

/// Its details, with short times and more options.
fn details(server: &Mosquitto, options: &str) -> String {
    let example = example(server).replace("rebirth: true", options);
    let (_, block) = example.split_once("discoveryDetails: |\n").unwrap();
    let lines = block
        .lines()
        .map(|line| line.strip_prefix("      ").unwrap());
    let lines: Vec<&str> = lines.collect();
    format!("{}\npresence: {{offlineDelay: 1s}}\n", lines.join("\n"))
}

/// What is retained of a Host Application, once it fulfils a condition.
fn stated(server: SocketAddr, condition: impl Fn(bool, i64) -> bool) -> i64 {
    let end = Instant::now() + PATIENCE;
    loop {
        let output = Command::new("mosquitto_sub")
            .args([
                "-p",
                &server.port().to_string(),
                "-t",
                STATE,
                "-C",
                "1",
                "-W",
                "2",
            ])
            .output()
            .unwrap();
        let state: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if let (Some(online), Some(time)) = (state["online"].as_bool(), state["timestamp"].as_i64())
            && condition(online, time)
        {
            return time;
        }
        assert!(Instant::now() < end, "{STATE} says {state}");
    }
}

/// Lets a node speak until something holds.
async fn while_it_speaks(node: &mut EdgeNode, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        node.say("data");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_nodes_and_devices_come_with_births_and_go_with_deaths() {
    let server = Mosquitto::start(Config::default());
    let directory = tempfile::Builder::new().prefix("akri").tempdir().unwrap();
    let agent = Agent::start(directory.path());
    let _handler = HandlerFlags::below(directory.path()).start();
    agent.configure("s", &details(&server, "rebirth: false"), &[]);
    // Births that come before everything is subscribed are missed.
    let first_list = |agent: &Agent| agent.lists("s") > 0;
    agent.wait_for("the first list", PATIENCE, first_list).await;
    let mut tahu = EdgeNode::start(Library::Tahu, server.address(), TAHU);
    let mut python = EdgeNode::start(Library::PySparkplug, server.address(), PYTHON);
    let all = [
        "plant/line/py",
        "plant/line/py/drill",
        "plant/line/tahu",
        "plant/line/tahu/press",
    ];
    agent.wait_for_devices("s", &all).await;
    let press = agent.instances("s");
    let press = press.values().find(|device| device.id == all[3]).unwrap();
    let topics: Vec<String> = serde_json::from_str(&press.properties["MQTT_TOPICS"]).unwrap();
    assert_eq!(
        topics,
        [
            "spBv1.0/line/DBIRTH/tahu/press",
            "spBv1.0/line/DDATA/tahu/press",
            "spBv1.0/line/DDEATH/tahu/press",
        ]
    );
    // tck-id-operational-behavior-edge-node-termination-host-action-ddeath-devices-offline
    tahu.say("death");
    python.say("death");
    agent.wait_for_devices("s", &[all[0], all[2]]).await;
    tahu.say("birth");
    python.say("birth");
    agent.wait_for_devices("s", &all).await;
    // tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-offline, …-ndeath-devices-offline
    tahu.crash();
    agent.wait_for_devices("s", &all[..2]).await;
    python.crash();
    agent.wait_for_devices("s", &[]).await;
    let _tahu = EdgeNode::start(Library::Tahu, server.address(), TAHU);
    let _python = EdgeNode::start(Library::PySparkplug, server.address(), PYTHON);
    agent.wait_for_devices("s", &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_asks_for_births_and_gets_names_for_aliases() {
    let server = Mosquitto::start(Config::default());
    let directory = tempfile::Builder::new().prefix("akri").tempdir().unwrap();
    let mut node = EdgeNode::start(Library::Tahu, server.address(), TAHU);
    // tck-id-operational-behavior-data-commands-ncmd-rebirth-verb, -name and -value
    let agent = Agent::start(directory.path());
    let handler = HandlerFlags::below(directory.path()).start();
    agent.configure("s", &details(&server, "rebirth: true"), &[]);
    let all = ["plant/line/tahu", "plant/line/tahu/press"];
    while_it_speaks(&mut node, "both are found", || agent.devices("s") == all).await;
    let asked = "sparkplug_rebirth_requests_total{result=\"sent\"}";
    assert_eq!(handler.metric(asked), Some(1.0));

    let monitor = MonitorProcess::start(agent.instances("s"));
    let named = || {
        let readings =
            monitor.get("/v1/devices/plant%2Fline%2Ftahu%2Fpress/readings?name=pressure");
        let reading = readings.pointer("/readings/0").cloned().unwrap_or_default();
        reading["name"] == "pressure" && reading["unit"] == "bar"
    };
    while_it_speaks(&mut node, "aliases have names", named).await;
    monitor
        .wait_for_presence(all[1], "online", "by sparkplugB")
        .await;

    let file = directory.path().join("sparkplugB.yaml");
    std::fs::write(&file, example(&server)).unwrap();
    let mut discover = Command::new(binary("akri-mqtt-cli", "akri-mqtt"));
    discover.args(["discover", "--for", "6s", "-o", "json", "-f"]);
    let found = std::thread::spawn(move || discover.arg(file).output().unwrap());
    while_it_speaks(&mut node, "the dry run ends", || found.is_finished()).await;
    let report: Value = serde_json::from_slice(&found.join().unwrap().stdout).unwrap();
    let devices = report["configurations"][0]["devices"].as_array().unwrap();
    let ids: Vec<&str> = devices
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    assert_eq!(ids, all);

    node.crash();
    agent.wait_for_devices("s", &[]).await;
    monitor
        .wait_for_presence(all[1], "offline", "by sparkplugB")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_application_states_that_it_is_there_and_that_it_has_gone() {
    let server = Mosquitto::start(Config::default());
    let at = server.address();
    let directory = tempfile::Builder::new().prefix("akri").tempdir().unwrap();
    let agent = Agent::start(directory.path());
    let flags = HandlerFlags::below(directory.path());
    let mut handler = flags.start();
    let options = "rebirth: true, hostId: plant-host";
    agent.configure("s", &details(&server, options), &[]);
    // tck-id-operational-behavior-host-application-connect-birth-payload
    let born = stated(at, |online, _| online);
    let mut node = EdgeNode::start(Library::Tahu, at, TAHU);
    let all = ["plant/line/tahu", "plant/line/tahu/press"];
    agent.wait_for_devices("s", &all).await;
    // tck-id-message-flow-hid-sparkplug-state-message-delivered
    let denial = format!("{{\"online\":false,\"timestamp\":{}}}", born + 1);
    publish(at, STATE, Some(&denial), &["-r", "-q", "1"]);
    assert_eq!(stated(at, |online, _| online), born);
    // tck-id-operational-behavior-host-application-connect-will-payload
    handler.kill();
    assert_eq!(stated(at, |online, _| !online), born);

    // What was missed meanwhile nobody has queued: the node, which is silent, is asked and answers.
    let mut handler = flags.start();
    let again = stated(at, |online, time| online && time > born);
    handler
        .wait_for("it has answered", |handler| {
            let state = handler.presence("/plant/line/tahu").to_string();
            state.contains("\"state\":\"online\"")
        })
        .await;
    assert_eq!(agent.devices("s"), all);
    // tck-id-host-topic-phid-death-payload-disconnect-clean
    handler.terminate().await;
    assert!(stated(at, |online, _| !online) > again);
    node.crash();
}
