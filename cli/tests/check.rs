//! `akri-mqtt check` as users and CI systems run it: exit codes, places and messages.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: plant
data: &anchor
  password: c2VjcmV0
other: *anchor
---
apiVersion: akri.sh/v0
kind: Configuration
metadata:
  name: plant
spec:
  discoveryHandler:
    name: mqtt
    discoveryDetails: |+
      serverUrls:
        - tcp://10.0.0.5:1883
        - ssl://mqtt.example.com:8883
      topics:
        - akri-devices/Device23920/temp
        - robots/+/joints
        - system/subsystem1/device2032/#
    discoveryProperties:
      - name: MQTT_PASSWORD
        valueFrom:
          secretKeyRef: {name: plant, key: password}
  brokerSpec:
    brokerPodSpec:
      containers:
        - name: monitor
          image: ghcr.io/akri-mqtt/monitoring-broker:0.1.0
          resources:
            requests: {\"{{PLACEHOLDER}}\": \"1\", cpu: 1}
            limits: {\"{{PLACEHOLDER}}\": \"1\"}
  instanceServiceSpec:
    ports: [{name: http, port: 80, targetPort: 8080}]
  brokerProperties: {SITE: north}
  capacity: 2
";

const BAD: &str = "\
apiVersion: akri.sh/v0
kind: Configuration
metadata:
  name: plant
spec:
  discoveryHandler:
    nam: mqtt
  capacity: many
  brokerSpec:
    brokerPodSpec:
      containers:
        - nmae: monitor
          ports: [{containerPort: x}]
  brokerProperties: {PORT: 80}
status: {}
";

fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn check(directory: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_akri-mqtt"))
        .arg("check")
        .args(arguments)
        .current_dir(directory.path())
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn good_files_get_a_line_each_and_exit_code_0() {
    let directory = TempDir::new().unwrap();
    file(&directory, "good.yaml", GOOD);
    file(&directory, "other.yaml", "kind: Pod\napiVersion: v1\n");
    let output = check(&directory, &["-f", "good.yaml", "-f", "other.yaml"]);
    assert_eq!(
        stdout(&output),
        "good.yaml: 1 Configuration, no fault; 1 other document passed over\n\
         other.yaml: no Configuration in it; 1 other document passed over\n"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn every_fault_of_the_structure_has_its_line_and_column_and_the_exit_code_is_2() {
    let directory = TempDir::new().unwrap();
    file(&directory, "bad.yaml", BAD);
    let output = check(&directory, &["-f", "bad.yaml"]);
    let lines: Vec<&str> = stdout(&output).lines().collect();
    let expected = [
        "bad.yaml:7:5: spec.discoveryHandler.nam: unknown field, which Akri's webhook refuses; did you mean name?",
        "bad.yaml:7:5: spec.discoveryHandler.name: missing",
        "bad.yaml:8:13: spec.capacity: found \"many\", allowed is a whole number",
        "bad.yaml:12:11: spec.brokerSpec.brokerPodSpec.containers[0].name: missing",
        "bad.yaml:12:11: spec.brokerSpec.brokerPodSpec.containers[0].nmae: unknown field, which Akri's webhook refuses; did you mean name?",
        "bad.yaml:13:35: spec.brokerSpec.brokerPodSpec.containers[0].ports[0].containerPort: found \"x\", allowed is a whole number",
        "bad.yaml:14:28: spec.brokerProperties.PORT: found 80, allowed is a text; put it in quotes",
        "bad.yaml:15:1: status: unknown field, which Akri's webhook refuses; allowed are apiVersion, kind, metadata, spec",
    ];
    assert_eq!(lines, expected);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stderr, b"error: 8 faults\n");
}

#[test]
fn a_fault_inside_discovery_details_is_shown_where_it_is_in_the_file() {
    let directory = TempDir::new().unwrap();
    let text = GOOD.replace("robots/+/joints", "robots/#/joints");
    file(&directory, "plant.yaml", &text);
    let output = check(&directory, &["-f", "plant.yaml"]);
    let line = stdout(&output).lines().next().unwrap_or_default();
    assert!(line.starts_with("plant.yaml:22:11: topics[1]: "), "{line}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn unknown_keys_of_discovery_details_are_faults_and_so_are_missing_details() {
    let directory = TempDir::new().unwrap();
    let text = GOOD.replace("      topics:\n", "      presense: {}\n      topics:\n");
    file(&directory, "plant.yaml", &text);
    let output = check(&directory, &["-f", "plant.yaml"]);
    let line = stdout(&output).lines().next().unwrap_or_default();
    assert!(line.starts_with("plant.yaml:20:7: presense: "), "{line}");
    let least = "apiVersion: akri.sh/v0\nkind: Configuration\nmetadata: {name: a}\nspec: {discoveryHandler: {name: mqtt}}\n";
    file(&directory, "least.yaml", least);
    let output = check(&directory, &["-f", "least.yaml"]);
    let line = stdout(&output);
    assert!(
        line.starts_with("least.yaml:4:26: spec.discoveryHandler.discoveryDetails: missing"),
        "{line}"
    );
}

#[test]
fn other_handlers_have_their_structure_checked_but_not_their_details() {
    let directory = TempDir::new().unwrap();
    let text = GOOD
        .replace("name: mqtt", "name: onvif")
        .replace("serverUrls:", "whatever:");
    file(&directory, "onvif.yaml", &text);
    let output = check(&directory, &["-f", "onvif.yaml"]);
    assert_eq!(
        stdout(&output),
        "onvif.yaml: 1 Configuration, no fault; 1 other document passed over; plant: discoveryDetails of the handler onvif are not checked\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn json_output_holds_the_same_for_programs() {
    let directory = TempDir::new().unwrap();
    file(&directory, "good.yaml", GOOD);
    file(&directory, "bad.yaml", BAD);
    let output = check(
        &directory,
        &["-f", "good.yaml", "-f", "bad.yaml", "-o", "json"],
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["faults"], 8);
    assert_eq!(report["files"][0]["configurations"][0]["name"], "plant");
    assert_eq!(report["files"][0]["configurations"][0]["line"], 9);
    assert_eq!(report["files"][1]["faults"][2]["line"], 8);
    assert_eq!(report["files"][1]["faults"][2]["column"], 13);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn standard_input_is_read_and_named() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_akri-mqtt"))
        .args(["check", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(BAD.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        stdout(&output).starts_with("<stdin>:7:5: "),
        "{}",
        stdout(&output)
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_is_no_yaml_and_what_is_too_much_is_a_fault_and_no_crash() {
    let directory = TempDir::new().unwrap();
    let deep = "[".repeat(10_000);
    let large = format!("a: {}", "x".repeat(2 << 20));
    for (name, text) in [
        ("broken", "a: [1\nb: }"),
        ("deep", &deep),
        ("large", &large),
    ] {
        file(&directory, name, text);
        let output = check(&directory, &["-f", name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            stdout(&output).starts_with(&format!("{name}:")),
            "{name}: {}",
            stdout(&output)
        );
    }
}

#[test]
fn two_configurations_of_one_name_are_a_fault_of_the_second() {
    let directory = TempDir::new().unwrap();
    file(&directory, "a.yaml", GOOD);
    file(&directory, "b.yaml", GOOD);
    let output = check(&directory, &["-f", "a.yaml", "-f", "b.yaml"]);
    assert!(
        stdout(&output).starts_with(
            "b.yaml:9:1: a Configuration of the name plant stands already at a.yaml:9\n"
        ),
        "{}",
        stdout(&output)
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_file_that_is_not_there_is_wrong_usage() {
    let directory = TempDir::new().unwrap();
    let output = check(&directory, &["-f", "missing.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("missing.yaml"), "{stderr}");
    assert!(!Path::new("missing.yaml").exists());
}
