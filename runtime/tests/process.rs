//! How a process starts and ends: exit codes, signals, variables. Drives `examples/minimal.rs`,
//! which `cargo test` builds before its tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn minimal() -> Command {
    let own = std::env::current_exe().unwrap();
    let built = own.ancestors().nth(2).unwrap().join("examples/minimal");
    assert!(
        built.exists(),
        "build {} with cargo test -p akri-mqtt-runtime",
        built.display()
    );
    let mut command = Command::new(built);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_remove("RUST_LOG");
    command
}

struct Ended {
    code: Option<i32>,
    output: String,
    errors: String,
}

/// Waits for the end; one that takes longer than 20 s is killed and shows by its missing code.
fn end(mut child: Child) -> Ended {
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (mut output, mut errors) = (String::new(), String::new());
    if let Some(mut stream) = child.stdout.take() {
        stream.read_to_string(&mut output).unwrap();
    }
    if let Some(mut stream) = child.stderr.take() {
        stream.read_to_string(&mut errors).unwrap();
    }
    Ended {
        code: status.code(),
        output,
        errors,
    }
}

fn run(arguments: &[&str]) -> Ended {
    end(minimal().args(arguments).spawn().unwrap())
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Starts it and waits for the line that says where it listens.
fn serving(outcome: &str) -> Child {
    let mut child = minimal().args(["--outcome", outcome]).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert!(line.starts_with("http://127.0.0.1:"), "{line}");
    child
}

#[test]
fn both_signals_end_it_cleanly_with_0() {
    for name in ["-TERM", "-INT"] {
        let child = serving("serve");
        signal(&child, name);
        let ended = end(child);
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        assert!(!ended.errors.contains("cancelled"), "{}", ended.errors);
    }
}

#[test]
fn task_that_hangs_is_cancelled_and_named() {
    let child = serving("hang");
    signal(&child, "-TERM");
    let ended = end(child);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.errors.contains("tasks=\"work\""), "{}", ended.errors);
}

#[test]
fn second_signal_ends_it_at_once_with_1() {
    let mut child = serving("hang");
    signal(&child, "-TERM");
    // The first has arrived once it is in the log; two at once would count as one.
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
    }
    signal(&child, "-INT");
    let ended = end(child);
    // A stop that waits for what hangs ends with 0.
    assert_eq!(ended.code, Some(1));
}

#[test]
fn the_same_signal_twice_at_once_is_one() {
    let mut child = serving("serve");
    signal(&child, "-INT");
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
    }
    // It may have ended already: then there is nobody to signal.
    let _ = Command::new("kill")
        .arg("-INT")
        .arg(child.id().to_string())
        .status();
    let ended = end(child);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn loss_of_a_critical_task_ends_it_with_1_and_the_reason() {
    let ended = run(&["--outcome", "fail"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .errors
            .ends_with("error: task work failed: disk full\n"),
        "{}",
        ended.errors
    );
    let ended = run(&["--outcome", "panic"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .errors
            .ends_with("error: task work failed: panicked: index 7\n"),
        "{}",
        ended.errors
    );
}

#[test]
fn wrong_usage_ends_it_with_2_before_anything_starts() {
    for arguments in [&["--refuse"][..], &["--outcome", "no"], &["--no-such-flag"]] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert_eq!(ended.output, "");
        assert!(ended.errors.starts_with("error: "), "{}", ended.errors);
    }
    let ended = end(minimal().env("RUST_LOG", "=,").spawn().unwrap());
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.errors.starts_with("error: RUST_LOG: found"),
        "{}",
        ended.errors
    );
}

#[test]
fn variable_does_what_its_flag_does_and_the_flag_wins() {
    let code = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = minimal();
        command.env(name, value).args(arguments);
        end(command.spawn().unwrap()).code
    };
    assert_eq!(code("AKRI_MQTT_OUTCOME", "no", &[]), Some(2));
    assert_eq!(
        code("AKRI_MQTT_OUTCOME", "no", &["--outcome", "fail"]),
        Some(1)
    );
    for yes in ["1", "true", "yes"] {
        assert_eq!(code("AKRI_MQTT_REFUSE", yes, &[]), Some(2), "{yes}");
    }
    for no in ["", "0", "false"] {
        assert_eq!(
            code("AKRI_MQTT_REFUSE", no, &["--outcome", "fail"]),
            Some(1),
            "{no}"
        );
    }
}

#[test]
fn json_log_has_one_object_a_line() {
    let ended = run(&["--outcome", "fail", "--log-format", "json"]);
    let log: Vec<_> = ended
        .errors
        .lines()
        .filter(|line| !line.starts_with("error: "))
        .collect();
    assert!(!log.is_empty());
    for line in log {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            object.get("level").is_some() && object.get("timestamp").is_some(),
            "{line}"
        );
    }
}

#[test]
fn version_and_help_go_to_standard_output() {
    let ended = run(&["--version"]);
    let expected = format!("minimal {}\n", akri_mqtt_runtime::version::long());
    assert_eq!((ended.code, ended.output), (Some(0), expected));
    let ended = run(&["--help"]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.output.contains("[env: AKRI_MQTT_OUTCOME=]"),
        "{}",
        ended.output
    );
}
