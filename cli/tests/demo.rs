//! `akri-mqtt demo` end to end, as a newcomer runs it.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use support::{Running, eventually, get, json};

/// 5 s are promised for a clean stop; a busy machine needs longer for its work.
const STOP: Duration = Duration::from_secs(20);

fn demo(more: &[&str]) -> Running {
    let mut arguments = vec!["demo", "--http", "127.0.0.1:0"];
    arguments.extend(more);
    Running::start(&arguments)
}

fn of(events: &[Value], event: &str) -> usize {
    events.iter().filter(|e| e["event"] == event).count()
}

#[test]
fn five_devices_are_seen_one_crashes_and_comes_back_and_the_summary_says_so() {
    let mut demo = demo(&["--devices", "5", "--duration", "12s", "--json"]);
    let events = demo.events();
    assert_eq!(demo.wait(STOP).code(), Some(0), "{:?}", demo.drain());
    for event in &events {
        let time = event["time"].as_str().unwrap();
        time.parse::<jiff::Timestamp>().unwrap();
        let name = event["event"].as_str().unwrap();
        match name {
            "device_online" | "device_offline" | "message" => {
                let device = event["device"].as_str().unwrap();
                assert!(device.starts_with("demo/"), "{event}");
            }
            "summary" => {}
            other => panic!("event {other}"),
        }
    }
    let summary = events.last().unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["devices_seen"], 5);
    assert_eq!(summary["messages"], of(&events, "message"));
    assert_eq!(summary["offline_events"], of(&events, "device_offline"));
    assert!(of(&events, "message") > 20, "{summary}");
    let states: Vec<_> = events
        .iter()
        .filter(|e| e["device"] == "demo/robot-1" && e["event"] != "message")
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["device_online", "device_offline", "device_online"]);
    let gone = events
        .iter()
        .find(|e| e["event"] == "device_offline")
        .unwrap();
    assert!(
        gone["reason"].as_str().unwrap().contains("Last Will"),
        "{gone}"
    );
}

#[test]
fn all_devices_are_on_one_http_address_with_their_latest_data() {
    let mut demo = demo(&["--devices", "3", "--duration", "0", "--json"]);
    let http = demo.address("http://");
    let devices = eventually("three devices with data", || {
        let (status, answer) = get(http, "/v1/devices")?;
        let devices = answer["devices"].as_array()?.clone();
        let seen = devices
            .iter()
            .all(|device| device["presence"]["last_message_at"].is_string());
        (status == 200 && devices.len() == 3 && seen).then_some(devices)
    });
    let ids: Vec<_> = devices.iter().map(|d| d["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["demo/door-3", "demo/robot-1", "demo/thermometer-2"]);
    let (_, latest) = get(http, "/v1/devices/demo%2Fthermometer-2/latest").unwrap();
    let message = &latest["messages"][0];
    assert_eq!(message["topic"], "demo/thermometer-2/temperature");
    assert!(message["payload"].is_number(), "{message}");
    demo.signal("TERM");
    assert_eq!(demo.wait(STOP).code(), Some(0));
}

#[test]
fn ctrl_c_and_sigterm_give_the_summary_as_well() {
    for signal in ["INT", "TERM"] {
        let mut demo = demo(&["--devices", "2", "--duration", "0", "--json"]);
        demo.line_with(|line| json(line)["event"] == "message");
        demo.signal(signal);
        let events = demo.events();
        let summary = events.last().unwrap();
        assert_eq!(summary["event"], "summary", "{signal}");
        assert!(summary["messages"].as_u64().unwrap() > 0, "{signal}");
        assert_eq!(demo.wait(STOP).code(), Some(0), "{signal}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    for mode in [&["--json"][..], &[]] {
        let mut demo = demo(&[&["--devices", "2", "--duration", "0"], mode].concat());
        demo.line().unwrap();
        demo.close_stdout();
        assert_eq!(demo.wait(support::DEADLINE).code(), Some(0));
        let errors = demo.drain().join("\n");
        assert!(
            !errors.contains("panic") && !errors.contains("error"),
            "{errors}"
        );
    }
}

#[test]
fn plain_lines_tell_of_devices_and_messages() {
    let mut demo = demo(&["--devices", "2", "--duration", "6s"]);
    let lines: Vec<String> = std::iter::from_fn(|| demo.line()).collect();
    assert!(
        lines
            .iter()
            .any(|l| l.contains("  online   demo/robot-1  demo-")),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.contains("  message  demo/robot-1  demo/robot-1/joints  {")),
        "{lines:?}"
    );
    assert!(
        lines.last().unwrap().starts_with("2 devices seen, "),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|l| l.contains('\x1b')), "{lines:?}");
}

#[test]
fn an_address_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--http", "--mqtt"] {
        let mut demo = Running::start(&["demo", "--duration", "1s", flag, &address]);
        assert_eq!(demo.wait(STOP).code(), Some(2), "{flag}");
        let message = demo.error_with("error: ");
        assert!(
            message.contains(&address) && message.contains(flag),
            "{message}"
        );
    }
}

#[test]
fn the_default_port_gives_way_when_it_is_taken_and_that_is_said() {
    // Taken by this test, or by somebody else already.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let mut demo = Running::start(&["demo", "--devices", "1", "--duration", "0", "--json"]);
    let note = demo.error_with("is taken");
    assert!(
        note.contains("127.0.0.1:8080") && note.contains("--http"),
        "{note}"
    );
    demo.line_with(|line| json(line)["event"] == "message");
    demo.signal("INT");
    assert_eq!(demo.wait(STOP).code(), Some(0));
}

#[test]
fn two_hundred_devices_appear_and_one_of_them_crashes() {
    let mut demo = demo(&["--devices", "200", "--duration", "15s", "--json"]);
    let events = demo.events();
    assert_eq!(demo.wait(STOP).code(), Some(0), "{:?}", demo.drain());
    let summary = events.last().unwrap();
    assert_eq!(summary["devices_seen"], 200, "{summary}");
    assert!(summary["messages"].as_u64().unwrap() > 200, "{summary}");
    assert!(
        summary["offline_events"].as_u64().unwrap() >= 1,
        "{summary}"
    );
}

#[test]
fn the_configuration_can_be_printed_and_is_right() {
    let mut demo = Running::start(&["demo", "--print-configuration", "--mqtt", "127.0.0.1:1883"]);
    let lines: Vec<String> = std::iter::from_fn(|| demo.line()).collect();
    assert_eq!(demo.wait(STOP).code(), Some(0));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("demo.yaml");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let mut check = Running::start(&["check", "-f", file.to_str().unwrap()]);
    assert_eq!(check.wait(STOP).code(), Some(0), "{:?}", check.line());
}

#[test]
fn on_a_terminal_a_table_is_drawn_and_nothing_is_left_behind() {
    // Python's pty module gives the program a terminal and copies what it writes there.
    let script =
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let output = std::process::Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_akri-mqtt")])
        .args([
            "demo",
            "--devices",
            "3",
            "--duration",
            "4s",
            "--http",
            "127.0.0.1:0",
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let screen = String::from_utf8_lossy(&output.stdout);
    for wanted in ["DEVICE", "demo/robot-1", "online", "axis1", "\x1b[K"] {
        assert!(screen.contains(wanted), "{wanted:?} in {screen}");
    }
    // Neither an alternate screen nor a hidden cursor, so that there is nothing to restore.
    assert!(!screen.contains("\x1b[?"), "{screen}");
    let last = screen.trim_end().lines().last().unwrap();
    assert!(last.contains("3 devices seen"), "{last}");
}
