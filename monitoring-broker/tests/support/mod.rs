//! The monitoring broker as a process of its own, a real Mosquitto, and devices: what the tests of commands and of
//! announcements work with. In: flags and configuration. Out: answers, log lines, messages. All of it ends with the test.

#![allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared by tests that each need some of it"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What is waited for comes within this time, or never.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, name: &str) {
    let mut command = Command::new("kill");
    command.args(["-s", name, &child.id().to_string()]);
    assert!(command.status().unwrap().success());
}

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines that a process prints, as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn of(from: impl std::io::Read + Send + 'static) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                kept.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn json(&self) -> Vec<Value> {
        let all = self.all();
        all.iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// A port below those that the system gives by itself, or somebody else could get it first.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::random_range(10_000..30_000));
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).unwrap()
}

/// A Mosquitto of its own.
pub struct Mosquitto {
    directory: tempfile::TempDir,
    pub port: u16,
    process: Option<Process>,
}

impl Mosquitto {
    /// Further lines of configuration; `ACL` stands for the path of an access list with the second text.
    pub fn start(lines: &str, acl: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let access = directory.path().join("acl");
        std::fs::write(&access, acl).unwrap();
        // It drops its privileges and reads the list again.
        let lines = lines.replace("ACL", access.to_str().unwrap());
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n{lines}\n");
        std::fs::write(directory.path().join("mosquitto.conf"), text).unwrap();
        let mut server = Self {
            directory,
            port,
            process: None,
        };
        server.restart();
        server
    }

    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new("mosquitto");
        command
            .arg("-c")
            .arg(self.directory.path().join("mosquitto.conf"));
        let child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        self.process = Some(Process(child.unwrap()));
        eventually("mosquitto answers", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn freeze(&self) {
        signal(&self.process.as_ref().unwrap().0, "STOP");
    }

    pub fn thaw(&self) {
        signal(&self.process.as_ref().unwrap().0, "CONT");
    }

    pub fn publish(&self, topic: &str, payload: &str) {
        let port = self.port.to_string();
        let mut command = Command::new("mosquitto_pub");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-q",
            "1",
            "-t",
            topic,
            "-m",
            payload,
        ]);
        assert!(command.status().unwrap().success());
    }

    /// Follows a topic filter, with `<topic> <payload>` lines; returns once it is subscribed.
    pub fn follow(&self, filter: &str) -> Follower {
        let port = self.port.to_string();
        let probe = format!("probe/{}", rand::random::<u32>());
        let mut command = Command::new("mosquitto_sub");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-q",
            "1",
            "-v",
            "-t",
            filter,
            "-t",
            &probe,
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let follower = Follower {
            _process: Process(child),
            lines,
        };
        eventually("the follower is subscribed", || {
            self.publish(&probe, "x");
            follower
                .lines
                .all()
                .iter()
                .any(|line| line.starts_with("probe/"))
        });
        follower
    }
}

/// A subscriber.
pub struct Follower {
    _process: Process,
    lines: Lines,
}

impl Follower {
    /// Topics and payloads so far.
    pub fn heard(&self) -> Vec<(String, String)> {
        let lines = self.lines.all();
        let lines = lines.iter().filter(|line| !line.starts_with("probe/"));
        lines
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
            .map(|(topic, payload)| (topic.to_owned(), payload.to_owned()))
            .collect()
    }

    /// The `state` of what was announced, in order.
    pub fn states(&self) -> Vec<String> {
        let heard = self.heard();
        let states = heard.iter().map(|(_, payload)| {
            let said: Value = serde_json::from_str(payload).unwrap();
            said["state"].as_str().unwrap().to_owned()
        });
        states.collect()
    }
}

/// A paho-mqtt device that takes commands; see its script.
pub struct Responder {
    _process: Process,
    lines: Lines,
}

impl Responder {
    pub fn start(server: &Mosquitto, topic: &str, version: u8) -> Self {
        let python = std::env::var_os("AKRI_MQTT_TEST_PYTHON").unwrap_or_else(|| "python3".into());
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/devices/paho_responder.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(["--port", &server.port.to_string(), "--topic", topic])
            .args(["--version", &version.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let responder = Self {
            _process: Process(child),
            lines,
        };
        eventually("the device is subscribed", || {
            !responder.lines.all().is_empty()
        });
        responder
    }

    /// The commands so far.
    pub fn commands(&self) -> Vec<Value> {
        let lines = self.lines.json();
        lines
            .into_iter()
            .filter(|line| line.get("topic").is_some())
            .collect()
    }
}

/// A monitoring broker for `plant/r1`, which has the topics `robots/r1/#`.
pub struct Broker {
    process: Option<Process>,
    server: u16,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    directory: tempfile::TempDir,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub log: Lines,
}

impl Broker {
    pub fn start(server: &Mosquitto, flags: &[&str]) -> Self {
        Self::start_with(server, flags, &[])
    }

    /// Returns once it has subscribed.
    pub fn start_with(server: &Mosquitto, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut broker = Self {
            process: None,
            server: server.port,
            flags: flags.iter().map(ToString::to_string).collect(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            directory: tempfile::tempdir().unwrap(),
            http: nowhere,
            grpc: nowhere,
            log: Lines::default(),
        };
        broker.restart();
        broker
    }

    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(ToString::to_string).collect();
    }

    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(env!("CARGO_BIN_EXE_akri-mqtt-monitoring-broker"));
        command
            .args([
                "--http",
                "127.0.0.1:0",
                "--grpc",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .args(["--instance", "pod-0", "--data-dir"])
            .arg(self.directory.path())
            .args(&self.flags)
            .env("MQTT_DEVICE_ID", "plant/r1")
            .env(
                "MQTT_SERVER_URLS",
                format!("tcp://127.0.0.1:{}", self.server),
            )
            .env("MQTT_TOPICS", r#"["robots/r1/#"]"#)
            .envs(self.variables.iter().cloned())
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        self.log = Lines::of(child.stderr.take().unwrap());
        self.process = Some(Process(child));
        eventually("the process says where it listens", || {
            let Some(line) = self.logged("starting").pop() else {
                return false;
            };
            let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
            (self.http, self.grpc) = (address("http"), address("grpc"));
            true
        });
        eventually("ready", || self.get("/readyz").0 == 200);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM; returns once it has ended well.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        signal(&process.0, "TERM");
        eventually("the process ends", || match process.0.try_wait().unwrap() {
            None => false,
            Some(status) => {
                assert!(status.success(), "{status}: {:?}", self.log.all());
                true
            }
        });
    }

    /// The lines of the log with this message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let lines = self.log.json();
        lines
            .into_iter()
            .filter(|line| line["message"] == message)
            .collect()
    }

    /// So many lines of the log with this message, once they are there.
    pub fn logs(&self, message: &str, count: usize) -> Vec<Value> {
        eventually("it is in the log", || self.logged(message).len() == count);
        self.logged(message)
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
        .unwrap_or((0, String::new()))
    }

    /// Status and JSON of `POST /v1/devices/plant%2Fr1/commands`.
    pub fn command(&self, body: &Value) -> (u16, Value) {
        self.command_for("plant%2Fr1", body)
    }

    pub fn command_for(&self, device: &str, body: &Value) -> (u16, Value) {
        self.post(device, "application/json", &body.to_string())
    }

    pub fn post(&self, device: &str, kind: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let asked = self.ask(&format!(
            "POST /v1/devices/{device}/commands HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let (status, body) = asked.unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    fn ask(&self, request: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// The value of a metric with its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}
