//! `akri-mqtt replay`: recorded traces lead to the changes that they led to when they were recorded. The traces of
//! `tests/data` are of a real Mosquitto with paho-mqtt devices; what each is of stands in [`TRACES`].

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{DEADLINE, Running, json};
use tempfile::TempDir;

/// Each is `<name>.jsonl`, `<name>.yaml` and what is printed, `<name>.txt`.
const TRACES: [&str; 5] = [
    // Two devices with birth and Last Will: one is killed, the other says good-bye.
    "will",
    // The server is stopped, publishes everybody's Last Will, and comes back; one device does not.
    "restart",
    // Devices without announcements: one falls silent and speaks again, the other is killed.
    "silence", // A device that crashes four times in 20 s.
    "flapping",
    // A Tasmota plug that is switched off, recorded with `--payloads hash`.
    "tasmota",
];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn replay(trace: &Path, configuration: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut arguments = vec!["replay", text(trace), "-f", text(configuration)];
    arguments.extend(more);
    let mut run = Running::start(&arguments);
    let mut printed = String::new();
    while let Some(line) = run.line() {
        printed.push_str(&line);
        printed.push('\n');
    }
    let code = run.wait(DEADLINE).code();
    (code, printed, run.drain().join("\n"))
}

/// What is committed for the trace `will`, as a file that a test may spoil.
fn spoiled(directory: &TempDir, spoil: impl FnOnce(String) -> String) -> PathBuf {
    let file = directory.path().join("trace.jsonl");
    let good = std::fs::read_to_string(data("will.jsonl")).unwrap();
    std::fs::write(&file, spoil(good)).unwrap();
    file
}

#[test]
fn recorded_traces_lead_to_the_changes_that_they_led_to() {
    for name in TRACES {
        let (trace, configuration) = (
            data(&format!("{name}.jsonl")),
            data(&format!("{name}.yaml")),
        );
        let (code, printed, errors) = replay(&trace, &configuration, &[]);
        assert_eq!((code, &*errors), (Some(0), ""), "{name}");
        let expected = data(&format!("{name}.txt"));
        if std::env::var_os("AKRI_MQTT_WRITE_EXPECTED").is_some() {
            std::fs::write(&expected, &printed).unwrap();
        }
        assert_eq!(
            printed,
            std::fs::read_to_string(&expected).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn json_says_the_same_as_text() {
    let (_, printed, _) = replay(&data("restart.jsonl"), &data("restart.yaml"), &["--json"]);
    let lines: Vec<Value> = printed.lines().map(json).collect();
    let (summary, changes) = lines.split_last().unwrap();
    let short: Vec<String> = changes
        .iter()
        .map(|c| {
            format!(
                "{} {} {} {}",
                c["id"], c["state"], c["reason"], c["published"]
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            "\"plant-a/r1\" \"online\" \"announced\" true",
            "\"plant-a/r2\" \"online\" \"announced\" true",
            "\"plant-a/r1\" \"leaving\" \"will\" true",
            "\"plant-a/r2\" \"leaving\" \"will\" true",
            "\"plant-a/r1\" \"online\" \"announced\" true",
            "\"plant-a/r2\" \"offline\" \"will\" false",
        ]
    );
    assert_eq!(
        (&summary["event"], &summary["undecided"]),
        (&"summary".into(), &0.into())
    );
    let plant = &summary["configuration"];
    assert_eq!(
        (&plant["name"], &plant["servers"][0]["connected"]),
        (&"plant".into(), &true.into())
    );
    assert_eq!(plant["devices"].as_array().unwrap().len(), 1);
    assert_eq!(plant["devices"][0]["id"], "plant-a/r1");
    assert_eq!(plant["devices"][0]["environment"]["MQTT_DEVICE_NAME"], "r1");
}

#[test]
fn another_configuration_shows_what_it_would_have_decided() {
    let directory = TempDir::new().unwrap();
    let other = directory.path().join("other.yaml");
    let text = std::fs::read_to_string(data("silence.yaml")).unwrap();
    std::fs::write(
        &other,
        text.replace("offlineAfter: 4s", "offlineAfter: 30s"),
    )
    .unwrap();
    let (code, printed, errors) = replay(&data("silence.jsonl"), &other, &[]);
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("28 messages, 2 changes, 2 devices at the end"),
        "{printed}"
    );
    assert!(
        errors.contains("recorded with other discoveryDetails"),
        "{errors}"
    );
}

#[test]
fn a_last_line_that_is_cut_off_is_passed_over_with_a_note() {
    let directory = TempDir::new().unwrap();
    // Within the message with r2's offline.
    let trace = spoiled(&directory, |mut good| {
        good.truncate(good.rfind("\"offline\"").unwrap());
        good
    });
    let (code, printed, errors) = replay(&trace, &data("will.yaml"), &[]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        errors.contains("the last line is cut off (line 15: EOF"),
        "{errors}"
    );
    assert!(
        printed.contains("11 messages, 3 changes, 2 devices at the end"),
        "{printed}"
    );
}

#[test]
fn a_recording_without_its_end_is_played_with_a_note() {
    let directory = TempDir::new().unwrap();
    let trace = spoiled(&directory, |mut good| {
        good.truncate(good.rfind("{\"at\"").unwrap());
        good
    });
    let (code, printed, errors) = replay(&trace, &data("will.yaml"), &[]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("the recording was interrupted"), "{errors}");
    assert!(
        printed.contains("12 messages, 6 changes, 0 devices at the end"),
        "{printed}"
    );
}

#[test]
fn a_wrong_line_is_told_with_its_number() {
    let directory = TempDir::new().unwrap();
    let trace = spoiled(&directory, |good| {
        good.replacen("\"qos\":1", "\"qos\":7", 1)
    });
    let (code, _, errors) = replay(&trace, &data("will.yaml"), &[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("trace.jsonl: line 4: qos: found 7; allowed are 0, 1 and 2"),
        "{errors}"
    );
}

#[test]
fn what_is_no_trace_of_the_configuration_is_refused_before_anything_is_played() {
    let directory = TempDir::new().unwrap();
    let foreign = spoiled(&directory, |good| good.replace("plant-a", "plant-b"));
    let missing = directory.path().join("missing");
    for (trace, what) in [
        (
            data("will.yaml"),
            "line 1: this is no trace: expected value",
        ),
        (
            foreign,
            "the trace is of the servers plant-b, but Configuration plant has plant-a",
        ),
        (missing, "missing: No such file"),
    ] {
        let (code, printed, errors) = replay(&trace, &data("will.yaml"), &[]);
        assert_eq!((code, &*printed), (Some(2), ""), "{errors}");
        assert!(errors.contains(what), "{errors}");
    }
}

#[test]
fn a_replay_can_be_as_fast_as_it_was_and_be_interrupted() {
    let (trace, configuration) = (data("will.jsonl"), data("will.yaml"));
    let started = Instant::now();
    let (code, printed, _) = replay(&trace, &configuration, &["--speed", "8x"]);
    // 10.7 s of trace.
    assert!(started.elapsed() >= Duration::from_millis(1_300));
    assert_eq!(code, Some(0));
    assert_eq!(printed, std::fs::read_to_string(data("will.txt")).unwrap());

    let arguments = [
        "replay",
        text(&trace),
        "-f",
        text(&configuration),
        "--speed",
        "0.5x",
    ];
    let mut run = Running::start(&arguments);
    // The first of a replay that takes 21 s.
    run.line_with(|line| line.contains("plant-a/r1"));
    run.signal("INT");
    assert_eq!(run.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_replay_that_waits_for_its_input_can_be_interrupted() {
    let configuration = data("will.yaml");
    let arguments = ["replay", "-", "-f", text(&configuration), "--json"];
    let (mut run, mut input) = Running::start_fed(&arguments);
    // Neither the end of the trace nor that of the input comes.
    let trace = std::fs::read_to_string(data("will.jsonl")).unwrap();
    let (begun, _) = trace.trim_end().rsplit_once('\n').unwrap();
    writeln!(input, "{begun}").unwrap();
    run.line_with(|line| line.contains("change"));
    run.signal("INT");
    run.line_with(|line| line.contains("summary"));
    assert_eq!(run.wait(DEADLINE).code(), Some(0));
    drop(input);
}
