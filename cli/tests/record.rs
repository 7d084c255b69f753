//! `akri-mqtt record` on a real Mosquitto: what it writes leads to what the live decisions were, and gives nothing away.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use akri_mqtt_tests::fleet::{Fleet, FleetOptions, Kind, Library};
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use serde_json::Value;
use support::{DEADLINE, Running, eventually, json, mosquitto, plant};
use tempfile::TempDir;

fn configuration(directory: &TempDir, server: SocketAddr) -> PathBuf {
    plant(
        directory.path(),
        server,
        "data",
        "        offlineDelay: 500ms\n",
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn record(configuration: &Path, trace: &Path, flag: &str, value: &str) -> Running {
    let (configuration, trace) = (text(configuration), text(trace));
    Running::start(&["record", "-f", configuration, "-o", trace, flag, value])
}

/// The lines that are whole by now.
fn lines(trace: &Path) -> Vec<Value> {
    let written = std::fs::read_to_string(trace).unwrap_or_default();
    let whole = written.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(json).collect()
}

fn stopped(mut run: Running) -> String {
    run.signal("INT");
    let printed: Vec<String> = std::iter::from_fn(|| run.line()).collect();
    let code = run.wait(DEADLINE).code();
    assert_eq!(code, Some(0), "{:?}", run.drain());
    printed.join("\n")
}

fn replayed(trace: &Path, configuration: &Path) -> Vec<Value> {
    let mut run = Running::start(&["replay", text(trace), "-f", text(configuration), "--json"]);
    let events = run.events();
    assert_eq!(run.wait(DEADLINE).code(), Some(0));
    assert_eq!(run.drain(), Vec::<String>::new());
    events
}

fn changes(events: &[Value]) -> Vec<String> {
    let changes = events.iter().filter(|event| event["event"] == "change");
    let mut all: Vec<String> = changes
        .map(|c| {
            format!(
                "{} {} {} {}",
                c["id"], c["state"], c["reason"], c["published"]
            )
        })
        .collect();
    // Devices that start at once may be heard in any order.
    all.sort();
    all
}

/// The sentence without its first time: a session hears of a thing a little earlier than another one.
fn timeless(report: &Value) -> Value {
    let mut report = report.clone();
    for device in report["devices"].as_array_mut().unwrap() {
        let sentence = device["evidence"].as_str().unwrap();
        let (_, cause) = sentence.split_once(": ").unwrap();
        device["evidence"] = cause.into();
    }
    report
}

#[test]
fn a_trace_leads_to_what_discover_prints_with_all_payloads_and_with_hashes() {
    let server = Mosquitto::start(Config::new());
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, server.address());
    let (full, hashed) = (
        directory.path().join("full"),
        directory.path().join("hashed"),
    );
    let recorders = [
        record(&file, &full, "--payloads", "full"),
        record(&file, &hashed, "--payloads", "hash"),
    ];
    let discover = Running::start(&["discover", "-f", text(&file), "--for", "10m", "-o", "json"]);
    eventually("three sessions are subscribed", || {
        let log = server.log();
        let acks = log
            .lines()
            .filter_map(|line| line.split_once("Sending SUBACK to "));
        let clients: BTreeSet<&str> = acks.map(|(_, client)| client).collect();
        (clients.len() == 3).then_some(())
    });
    let names = ["r1", "r2"].map(str::to_owned);
    let fleet = |kind, names| {
        Fleet::start(&FleetOptions {
            library: Library::Paho,
            kind,
            port: server.address().port(),
            prefix: "robots",
            names,
            qos: 0,
            every: 0.25,
        })
    };
    let announcing = fleet(Kind::Will, &names);
    let _plain = fleet(Kind::Plain, &["r3".to_owned()]);
    let said = |topic: &str, from: u64| {
        let all = lines(&full);
        all.iter()
            .find(|l| l["topic"] == topic && l["at"].as_u64() >= Some(from))
            .cloned()
    };
    for device in ["r1", "r2", "r3"] {
        eventually("it publishes", || said(&format!("robots/{device}/data"), 0));
    }
    announcing.kill("r1");
    let offline = eventually("its Last Will", || {
        let all = lines(&full);
        all.into_iter().find(|line| line["payload"] == "offline")
    });
    // Long after its offlineDelay, whoever else listens knows it as well.
    let later = offline["at"].as_u64().unwrap() + 3_000_000;
    eventually("another device goes on", || said("robots/r2/data", later));

    let discovered = json(&stopped(discover));
    for recorder in recorders {
        stopped(recorder);
    }
    let played = replayed(&full, &file);
    let summary = played.last().unwrap();
    let found = timeless(&summary["configuration"]);
    assert_eq!(found, timeless(&discovered["configurations"][0]));
    let ids: Vec<_> = found["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["id"])
        .collect();
    assert_eq!(ids, ["plant-a/r2", "plant-a/r3"]);
    // Whether its announcement or its first reading comes first is the device's.
    let seen = changes(&played).into_iter();
    let seen: Vec<_> = seen
        .map(|change| change.replace("\"announced\"", "\"data\""))
        .collect();
    assert_eq!(
        seen,
        [
            "\"plant-a/r1\" \"leaving\" \"will\" true",
            "\"plant-a/r1\" \"offline\" \"will\" false",
            "\"plant-a/r1\" \"online\" \"data\" true",
            "\"plant-a/r2\" \"online\" \"data\" true",
            "\"plant-a/r3\" \"online\" \"data\" true",
        ]
    );
    let of_hashes = replayed(&hashed, &file);
    assert_eq!(changes(&of_hashes), changes(&played));
    assert_eq!(of_hashes.last().unwrap()["undecided"], 0);
    let kept = std::fs::read_to_string(&hashed).unwrap();
    assert!(kept.contains("\"payload\":\"online\"") && !kept.contains("temperature"));
}

#[test]
fn a_trace_is_for_the_user_alone_holds_no_secret_and_is_not_overwritten() {
    let server = mosquitto::Mosquitto::start_with_password("reader", "s3cr3t-pass");
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, server.address());
    let trace = directory.path().join("trace.jsonl");
    let arguments = [
        "record",
        "-f",
        text(&file),
        "-o",
        text(&trace),
        "--payloads",
        "none",
    ];
    let login = [
        ("MQTT_USERNAME", "reader"),
        ("MQTT_PASSWORD", "s3cr3t-pass"),
    ];
    let run = Running::start_with(&arguments, &login);
    eventually("it is subscribed", || {
        lines(&trace)
            .into_iter()
            .find(|line| line["event"] == "subscribed")
    });
    server.publish("robots/r1/status", "online", false);
    server.publish("robots/r1/data", "private", false);
    eventually("the message", || {
        lines(&trace)
            .into_iter()
            .find(|line| line["topic"] == "robots/r1/data")
    });
    stopped(run);
    let written = std::fs::read_to_string(&trace).unwrap();
    for secret in ["reader", "s3cr3t", "127.0.0.1", "private"] {
        assert!(!written.contains(secret), "{written}");
    }
    let mode = std::fs::metadata(&trace).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut replay = Running::start(&["replay", text(&trace), "-f", text(&file), "--json"]);
    let events = replay.events();
    assert_eq!(
        changes(&events),
        ["\"plant-a/r1\" \"online\" \"data\" true"]
    );
    assert_eq!(events.last().unwrap()["undecided"], 1);
    replay.error_with("1 messages would have decided something");

    let mut again = Running::start_with(&arguments, &login);
    assert_eq!(again.wait(DEADLINE).code(), Some(2));
    again.error_with("trace.jsonl: File exists");
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), written);
}

#[test]
fn recording_ends_by_itself_and_says_when_no_server_could_be_reached() {
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, "127.0.0.1:1".parse().unwrap());
    let trace = directory.path().join("trace.jsonl");
    let mut run = record(&file, &trace, "--duration", "2s");
    assert_eq!(run.wait(DEADLINE).code(), Some(1));
    run.error_with("no server could be reached");
    let lines = lines(&trace);
    assert_eq!(lines[1]["event"], "disconnected");
    assert_eq!(lines.last().unwrap()["event"], "end");
}

#[test]
fn recording_ends_when_the_trace_is_large_enough() {
    let server = mosquitto::Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, server.address());
    let trace = directory.path().join("trace.jsonl");
    for device in 0..20 {
        server.publish(&format!("robots/r{device}/status"), "online", true);
    }
    let mut run = record(&file, &trace, "--max-size", "1KiB");
    assert_eq!(run.wait(DEADLINE).code(), Some(0));
    run.error_with("as many bytes as --max-size allows");
    let lines = lines(&trace);
    assert_eq!(lines.last().unwrap()["event"], "end");
    assert!(std::fs::metadata(&trace).unwrap().len() < 1_400);
}

#[test]
fn a_reader_of_the_trace_that_goes_away_ends_it_quietly() {
    let server = mosquitto::Mosquitto::start();
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, server.address());
    let mut run = Running::start(&["record", "-f", text(&file), "-o", "-"]);
    run.line_with(|line| line.contains("subscribed"));
    run.close_stdout();
    eventually("it ends", || {
        server.publish("robots/r1/status", "online", false);
        run.has_ended().then_some(())
    });
    let errors = run.drain();
    assert_eq!(errors, ["recording to - …"]);
    assert_eq!(run.wait(DEADLINE).code(), Some(0));
}
