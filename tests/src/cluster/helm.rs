//! The chart, installed and removed by helm as a user would. In: values. Out: a release whose pods
//! are ready, or what helm said.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::tag;

/// Name and namespace of the release.
pub const RELEASE: &str = "akri-mqtt";
/// Path of helm, set by `cargo xtask e2e`.
const HELM: &str = "AKRI_MQTT_TEST_HELM";

/// The values of all tests: the loaded images, and short probes.
#[must_use]
pub fn values() -> Value {
    json!({
        "image": {"registry": "", "tag": tag(), "pullPolicy": "IfNotPresent"},
        "controller": {
            "image": {"repository": "akri-mqtt/controller"},
            "logLevel": "info,akri_mqtt=debug",
            "readinessProbe": {"periodSeconds": 1},
        },
        "discoveryHandler": {
            "image": {"repository": "akri-mqtt/discovery-handler"},
            "readinessProbe": {"periodSeconds": 1},
        },
        "monitoringBroker": {"image": {"repository": "akri-mqtt/monitoring-broker"}},
    })
}

/// [`values`] with some of them replaced.
#[must_use]
pub fn values_with(changes: &Value) -> Value {
    let mut all = values();
    merge(&mut all, changes);
    all
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(into.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

/// Runs helm.
///
/// # Panics
/// When it cannot be started.
pub fn helm(arguments: &[&str]) -> Result<String, String> {
    let program = std::env::var_os(HELM).map_or_else(|| PathBuf::from("helm"), PathBuf::from);
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("helm can be started; `cargo xtask e2e` names it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("helm {arguments:?}: {}", text(&output.stderr)))
    }
}

/// Path of the chart.
#[must_use]
pub fn chart() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/akri-mqtt").to_owned()
}

/// Installs the chart, or upgrades it to these values, and waits until it is ready.
///
/// # Panics
/// When it does not become ready.
pub fn install(values: &Value) {
    install_as(RELEASE, values).unwrap_or_else(|error| panic!("{error}"));
}

/// The same as a release of another name, in a namespace of that name.
///
/// # Errors
/// What helm said.
pub fn install_as(release: &str, values: &Value) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), values.to_string()).expect("it can be written");
    helm(&[
        "upgrade",
        "--install",
        release,
        &chart(),
        "--namespace",
        release,
        "--create-namespace",
        "--values",
        &file.path().to_string_lossy(),
        "--wait",
        "--timeout",
        "120s",
    ])
}

/// Removes the release.
///
/// # Panics
/// When it cannot.
pub fn uninstall() {
    let removed = helm(&["uninstall", RELEASE, "--namespace", RELEASE, "--wait"]);
    removed.unwrap_or_else(|error| panic!("{error}"));
}
