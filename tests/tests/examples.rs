//! The programs in `examples/workloads` and `proto/examples`, as a user starts them, on a monitoring broker and
//! real Mosquitto. Those in `examples/kubernetes` are applied by the end-to-end tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::devices::publish;
use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::port::{free_address, free_port};

const LIMIT: Duration = Duration::from_secs(60);

/// A process that ends with this, and the lines that it prints.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line with this in it; does something every now and then until it comes.
    fn line(&self, part: &str, mut meanwhile: impl FnMut()) -> String {
        let deadline = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            match self.lines.recv_timeout(Duration::from_millis(500)) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        panic!("no line with {part:?} in {seen:#?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A monitoring broker of one robot.
struct Scene {
    server: Mosquitto,
    http: SocketAddr,
    grpc: SocketAddr,
    _broker: Program,
    _data: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let server = Mosquitto::start(Config::default());
        let (http, grpc) = (free_address(), free_address());
        let data = tempfile::tempdir().unwrap();
        let name = "akri-mqtt-monitoring-broker";
        let broker = Program::start(
            Command::new(binary(name, name))
                .args(["--http", &http.to_string(), "--grpc", &grpc.to_string()])
                .args(["--allow-publish", "robots/+/cmd", "--data-dir"])
                .arg(data.path())
                .env("MQTT_DEVICE_ID", "plant-a/r1")
                .env("MQTT_SERVER_URLS", format!("tcp://{}", server.address()))
                .env("MQTT_TOPICS", r#"["robots/r1/data"]"#)
                .env("RUST_LOG", "warn"),
        );
        let deadline = Instant::now() + LIMIT;
        while http::get(http, "/readyz").is_none_or(|(status, _)| status != 200) {
            assert!(
                Instant::now() < deadline,
                "the monitoring broker is not ready"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            server,
            http,
            grpc,
            _broker: broker,
            _data: data,
        }
    }

    fn publish(&self, payload: &str) {
        let address = self.server.address();
        publish(address, "robots/r1/data", Some(payload), &["-q", "1"]);
    }
}

/// A file of the checkout.
fn file(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn python() -> Command {
    let interpreter = std::env::var_os("AKRI_MQTT_TEST_PYTHON");
    Command::new(interpreter.expect("set by `cargo xtask test`: Python with grpcio-tools"))
}

#[test]
fn latest_readings_are_printed_by_plain_python() {
    let scene = Scene::start();
    scene.publish(r#"{"temperature": 21.5}"#);
    let base = format!("http://{}", scene.http);
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut script = Command::new("python3");
        script
            .arg(file("examples/workloads/read_latest.py"))
            .arg(&base);
        let output = script.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        if text.contains("robots/r1/data /temperature = 21.5") {
            assert!(text.starts_with("plant-a/r1: online"), "{text}");
            return;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
}

#[test]
fn stream_is_followed_in_javascript() {
    let scene = Scene::start();
    let script = file("examples/workloads/watch.mjs");
    let base = format!("http://{}", scene.http);
    let program = Program::start(Command::new("node").arg(script).arg(base));
    let line = program.line("temperature", || scene.publish(r#"{"temperature":22}"#));
    assert!(
        line.ends_with(r#"plant-a/r1 robots/r1/data {"temperature":22}"#),
        "{line}"
    );
}

#[test]
fn stream_is_followed_in_rust() {
    let scene = Scene::start();
    // This test's own binary is `<target>/<profile>/deps/<test>`; cargo builds examples with the tests.
    let own = std::env::current_exe().unwrap();
    let example = own.ancestors().nth(2).unwrap().join("examples/watch");
    if !example.exists() {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap());
        build.args([
            "build",
            "--package",
            "akri-mqtt-proto",
            "--example",
            "watch",
        ]);
        assert!(build.status().unwrap().success());
    }
    let address = format!("http://{}", scene.grpc);
    let program = Program::start(Command::new(example).arg(address));
    let line = program.line("temperature", || scene.publish(r#"{"temperature": 23.5}"#));
    assert_eq!(line, "robots/r1/data /temperature = 23.5");
}

#[test]
fn command_is_sent_once_while_a_reading_is_too_high() {
    let scene = Scene::start();
    let port = scene.server.address().port().to_string();
    // It comes once the device has subscribed.
    publish(
        scene.server.address(),
        "robots/r1/hello",
        Some("hello"),
        &["-r"],
    );
    let topics = ["-t", "robots/r1/cmd", "-t", "robots/r1/hello"];
    let mut device = Command::new("mosquitto_sub");
    let device = Program::start(device.args(["-p", &port, "-v"]).args(topics));
    device.line("hello", || {});
    let program = Program::start(python().arg(file("examples/workloads/react.py")).args([
        &scene.grpc.to_string(),
        "--above",
        "30",
    ]));
    program.line("/temperature = 20", || {
        scene.publish(r#"{"temperature": 20}"#)
    });
    for value in [31, 32, 20, 33] {
        scene.publish(&format!(r#"{{"temperature": {value}}}"#));
    }
    program.line("sent 'slow' to robots/r1/cmd", || {});
    program.line("sent 'slow' to robots/r1/cmd", || {});
    device.line("robots/r1/cmd slow", || {});
    device.line("robots/r1/cmd slow", || {});
    scene.publish(r#"{"temperature": 40}"#);
    let last = program.line("/temperature", || {});
    assert!(last.ends_with("= 40"), "{last}");
}

#[test]
fn tasks_of_a_classic_stack_are_done_on_mosquitto_and_redis() {
    let port = || free_port().to_string();
    let mut run = Command::new(file("examples/classic/run"));
    run.env("AKRI_MQTT", binary("akri-mqtt-cli", "akri-mqtt"))
        .env("MQTT_PORT", port())
        .env("REDIS_PORT", port())
        .env("HTTP_PORT", port());
    let output = run.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{wrong}");
    for line in [
        "[40,41,42,43,44,45,46,47,48,49]",
        "[10.5,12.5,14.5,16.5,18.5,20.5,22.5,24.5,26.5,28.5]",
        r#"{"temperature":40.5,"humidity":40}"#,
        r#"received: {"temperature": 19.5, "humidity": 50}"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
