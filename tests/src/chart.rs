//! The Helm chart as it renders. In: values and a version of Kubernetes. Out: the objects, as data and
//! as text, or what helm said. No cluster is asked; `cluster::helm` installs the chart on one.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture that fails fails its test"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use akri_mqtt_core::yaml::{Bounds, Kind, Node, Style, parse};
use serde_json::{Map, Value};

/// Path of helm, set by `cargo xtask test`.
const HELM: &str = "AKRI_MQTT_TEST_HELM";
/// The version that manifests are written for.
pub const CURRENT: &str = "1.33.0";
/// The release and its namespace.
pub const RELEASE: &str = "akri-mqtt";
/// Namespace of the release.
pub const NAMESPACE: &str = "devices";

/// An object of the chart.
#[derive(Clone, Debug)]
pub struct Object {
    /// The template's output, comments and all.
    pub text: String,
    /// What it says.
    pub value: Value,
}

impl Object {
    /// `kind`
    #[must_use]
    pub fn kind(&self) -> &str {
        text(&self.value, "/kind")
    }

    /// `metadata.name`
    #[must_use]
    pub fn name(&self) -> &str {
        text(&self.value, "/metadata/name")
    }

    /// Kind and name, for messages.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }
}

/// The text at a JSON pointer, or an empty one.
#[must_use]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The list at a JSON pointer, or an empty one.
#[must_use]
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The objects of these changes to the defaults.
///
/// # Panics
/// When helm refuses them.
#[allow(
    clippy::must_use_candidate,
    reason = "that it renders may be all that is asked"
)]
pub fn with(changes: &Value) -> Vec<Object> {
    render(None, changes, CURRENT).expect("values that the chart takes")
}

/// The only object of a kind.
///
/// # Panics
/// When there is none, or more than one.
#[must_use]
pub fn one<'a>(objects: &'a [Object], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object.kind() == kind);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there are several of {kind}");
    &object.value
}

/// The directory of the chart.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/akri-mqtt")
}

/// The values files under `ci`, sorted.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn values_files() -> Vec<PathBuf> {
    let entries = directory().join("ci").read_dir().expect("there is ci/");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort_unstable();
    assert!(!files.is_empty());
    files
}

/// Helm's rendering with a file of values, if there is one, and with changes to it.
///
/// # Errors
/// What helm said.
///
/// # Panics
/// When helm cannot be started, or its output is no YAML.
pub fn render(
    file: Option<&Path>,
    changes: &Value,
    kubernetes: &str,
) -> Result<Vec<Object>, String> {
    let helm = std::env::var_os(HELM).map_or_else(|| PathBuf::from("helm"), PathBuf::from);
    let mut command = Command::new(helm);
    command.args(["template", RELEASE]).arg(directory()).args([
        "--namespace",
        NAMESPACE,
        "--kube-version",
        kubernetes,
    ]);
    if let Some(file) = file {
        command.arg("--values").arg(file);
    }
    let more = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(more.path(), changes.to_string()).expect("it can be written");
    command.arg("--values").arg(more.path());
    let output = command.output().expect(
        "helm can be started: `cargo xtask tools` fetches it, AKRI_MQTT_TEST_HELM names it",
    );
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let rendered = String::from_utf8(output.stdout).expect("manifests are UTF-8");
    Ok(rendered
        .split("\n---\n")
        .flat_map(|text| {
            documents(text).into_iter().map(|value| Object {
                text: text.to_owned(),
                value,
            })
        })
        .collect())
}

/// The documents of a YAML text.
///
/// # Panics
/// When it is no plain YAML.
#[must_use]
pub fn documents(text: &str) -> Vec<Value> {
    let parsed = parse(text, Bounds::MANIFESTS);
    assert!(parsed.problems.is_empty(), "{:?}\n{text}", parsed.problems);
    let documents = parsed.documents.iter().map(value_of);
    documents.filter(|document| !document.is_null()).collect()
}

fn value_of(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar {
            text,
            style: Style::Plain,
        } => plain(text),
        Kind::Scalar { text, .. } => Value::from(text.as_str()),
        Kind::Sequence(items) => items.iter().map(value_of).collect(),
        Kind::Mapping(entries) => Value::Object(
            entries
                .iter()
                .map(|entry| (entry.key.clone(), value_of(&entry.value)))
                .collect::<Map<_, _>>(),
        ),
        Kind::Refused => Value::Null,
    }
}

/// A scalar without quotes, by the rules of YAML 1.2 as far as JSON has them.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::from(true),
        "false" => Value::from(false),
        _ => serde_json::from_str::<serde_json::Number>(text)
            .map_or_else(|_| Value::from(text), Value::Number),
    }
}
