//! The reference in docs/reference is that of the programs: their flags and what they measure.
//! In: the binaries. Out: docs/reference/flags.md, written with `AKRI_MQTT_WRITE_REFERENCE=1`, else compared.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::monitor::MonitorProcess;
use akri_mqtt_tests::scene::{CONFIGURATION, Scene};

/// Package and name of each program, with its subcommands.
const PROGRAMS: &[(&str, &str, &[&str])] = &[
    ("akri-mqtt-controller", "akri-mqtt-controller", &[]),
    (
        "akri-mqtt-discovery-handler",
        "akri-mqtt-discovery-handler",
        &[],
    ),
    (
        "akri-mqtt-monitoring-broker",
        "akri-mqtt-monitoring-broker",
        &[],
    ),
    (
        "akri-mqtt-cli",
        "akri-mqtt",
        &["demo", "up", "check", "discover", "migrate", "completions"],
    ),
];

const HEAD: &str = "# Flags\n\n\
<!-- Generated: AKRI_MQTT_WRITE_REFERENCE=1 cargo test -p akri-mqtt-tests --test reference -->\n\n\
What the programs print with `--help`. [Processes](../processes.md) says what they have in common.\n";

fn reference(page: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference")).join(page)
}

fn help(package: &str, name: &str, subcommand: Option<&str>) -> String {
    let mut program = Command::new(binary(package, name));
    program.env_clear().env("COLUMNS", "120");
    program.args(subcommand).arg("--help");
    let output = program.output().unwrap();
    assert!(output.status.success(), "{name} --help: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[test]
fn flags_in_the_reference_are_those_of_the_programs() {
    let mut page = HEAD.to_owned();
    for (package, name, subcommands) in PROGRAMS {
        let text = help(package, name, None);
        write!(page, "\n## {name}\n\n```text\n{text}\n```\n").unwrap();
        for subcommand in *subcommands {
            let text = help(package, name, Some(subcommand));
            write!(page, "\n### {name} {subcommand}\n\n```text\n{text}\n```\n").unwrap();
        }
    }
    let path = reference("flags.md");
    if std::env::var_os("AKRI_MQTT_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, page).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference/flags.md is stale: its first lines say how to write it"
    );
}

/// Names of the families in OpenMetrics text, with the endings that samples have.
fn families(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect()
}

/// Names in the first column of the tables below a heading of docs/reference/metrics.md.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(reference("metrics.md")).unwrap();
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split(['`', '{']).next())
        .map(str::to_owned)
        .collect()
}

fn assert_documented(program: &str, text: &str) {
    let measured = families(text);
    assert!(measured.len() > 5, "{text}");
    let known: BTreeSet<_> = documented(program)
        .union(&documented("Every program"))
        .cloned()
        .collect();
    let missing: Vec<_> = measured.difference(&known).collect();
    assert!(
        missing.is_empty(),
        "not in docs/reference/metrics.md: {missing:?}"
    );
    let invented: Vec<_> = known.difference(&measured).collect();
    assert!(
        invented.is_empty(),
        "{program} does not measure {invented:?}"
    );
}

/// The document is the generated one: a test of the monitoring broker says so.
#[test]
fn openapi_document_is_valid_for_a_validator_that_others_wrote() {
    let python = std::env::var_os("AKRI_MQTT_TEST_PYTHON");
    let python = python.expect("set by `cargo xtask test`: Python with openapi-spec-validator");
    let mut validator = Command::new(python);
    validator.args(["-m", "openapi_spec_validator", "--schema", "3.1"]);
    let output = validator.arg(reference("openapi.json")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_in_the_reference_are_those_that_the_programs_serve() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let _r1 = scene.robot("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    assert_documented("Discovery handler", &handler.get("/metrics").1);

    let monitor = MonitorProcess::start(scene.agent.instances(CONFIGURATION));
    monitor
        .wait_for_presence("plant-a/r1", "online", "online")
        .await;
    assert_documented("Monitoring broker", &monitor.text("/metrics"));
}
