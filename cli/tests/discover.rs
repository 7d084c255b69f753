//! `akri-mqtt discover` against a real Mosquitto: what a dry run shows, and that it leaves nothing behind.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::mosquitto::{Mosquitto, Publisher};
use support::{Running, plant};
use tempfile::TempDir;

/// Longer than any run below listens.
const END: Duration = Duration::from_secs(30);

fn configuration(directory: &TempDir, server: SocketAddr) -> PathBuf {
    plant(
        directory.path(),
        server,
        "joints",
        "  brokerProperties: {SITE: north}\n",
    )
}

fn discover(file: &Path, output: &str) -> (Option<i32>, Vec<String>, Vec<String>) {
    let mut run = Running::start(&[
        "discover",
        "-f",
        file.to_str().unwrap(),
        "--for",
        "3s",
        "-o",
        output,
    ]);
    let lines = std::iter::from_fn(|| run.line()).collect();
    let code = run.wait(END).code();
    (code, lines, run.drain())
}

#[test]
fn devices_are_shown_with_ids_instances_environment_and_evidence() {
    let server = Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, server.address());
    server.publish("robots/r1/status", "online", true);
    server.publish("robots/r3/status", "offline", true);
    let _robot = Publisher::start(&server, "robots/r2/joints", "7");
    let (code, lines, errors) = discover(&file, "json");
    assert_eq!(code, Some(0), "{errors:?}");
    let report: Value = serde_json::from_str(&lines.join("\n")).unwrap();
    let plant = &report["configurations"][0];
    assert_eq!(plant["name"], "plant");
    assert_eq!(
        plant["servers"],
        json!([{"name": "plant-a", "connected": true}])
    );
    let devices = plant["devices"].as_array().unwrap();
    let ids: Vec<_> = devices.iter().map(|d| d["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["plant-a/r1", "plant-a/r2"]);
    let (announced, publishing) = (&devices[0], &devices[1]);
    let instance = announced["instance"].as_str().unwrap();
    assert!(
        instance.starts_with("plant-") && instance.len() == 12,
        "{instance}"
    );
    assert!(
        announced["evidence"]
            .as_str()
            .unwrap()
            .contains("robots/r1/status"),
        "{announced}"
    );
    assert_eq!(publishing["state"], "online");
    let environment = &publishing["environment"];
    assert_eq!(environment["MQTT_DEVICE_ID"], "plant-a/r2");
    assert_eq!(environment["MQTT_TOPICS"], "[\"robots/r2/joints\"]");
    assert_eq!(environment["SITE"], "north");
}

#[test]
fn the_table_and_yaml_show_the_same_devices() {
    let server = Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, server.address());
    server.publish("robots/r1/status", "online", true);
    let (code, lines, _) = discover(&file, "table");
    assert_eq!(code, Some(0));
    assert!(lines[0].starts_with("DEVICE "), "{lines:?}");
    assert!(lines[1].starts_with("plant-a/r1  plant-"), "{lines:?}");
    assert!(
        lines.contains(&"  MQTT_DEVICE_NAME=r1".to_owned()),
        "{lines:?}"
    );
    let (code, lines, _) = discover(&file, "yaml");
    assert_eq!(code, Some(0));
    assert!(
        lines.contains(&"        id: \"plant-a/r1\"".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn it_leaves_no_session_on_the_server() {
    let server = Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, server.address());
    let (code, _, _) = discover(&file, "json");
    assert_eq!(code, Some(0));
    // Mosquitto counts the clients that are away and have a session.
    let output = Command::new("mosquitto_sub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.address().port().to_string(),
        ])
        .args([
            "-t",
            "$SYS/broker/clients/disconnected",
            "-C",
            "1",
            "-W",
            "20",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
}

#[test]
fn a_server_that_cannot_be_reached_is_named_and_the_exit_code_is_1() {
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, "127.0.0.1:1".parse().unwrap());
    let (code, lines, errors) = discover(&file, "json");
    assert_eq!(code, Some(1));
    let errors = errors.join("\n");
    assert!(
        errors.contains("plant-a") && errors.contains("refused"),
        "{errors}"
    );
    let report: Value = serde_json::from_str(&lines.join("\n")).unwrap();
    assert_eq!(
        report["configurations"][0]["servers"][0]["connected"],
        false
    );
    assert_eq!(report["configurations"][0]["devices"], json!([]));
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, "127.0.0.1:1".parse().unwrap());
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("presence:", "presense:");
    std::fs::write(&file, text).unwrap();
    let (code, lines, errors) = discover(&file, "table");
    assert_eq!((code, lines.len()), (Some(2), 0));
    assert!(
        errors.join("\n").contains("plant.yaml:10:7: presense"),
        "{errors:?}"
    );
}
