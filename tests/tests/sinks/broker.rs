//! A monitoring broker with sinks on a Mosquitto of its own, and what is published to it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::port::free_address;

const NAME: &str = "akri-mqtt-monitoring-broker";
pub const LIMIT: Duration = Duration::from_secs(90);
pub const TOPIC: &str = "robots/r1/x";

/// It can be killed and started again on the same store and port.
pub struct Broker {
    pub mosquitto: Mosquitto,
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Broker {
    /// Starts both, with these sinks and further arguments.
    pub async fn start(sinks: &[String], arguments: &[&str]) -> Self {
        let mosquitto = Mosquitto::start(Config::new().line("message_size_limit 0"));
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut all: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        for sink in sinks {
            all.extend(["--sink".to_owned(), sink.clone()]);
        }
        let child = spawn(&mosquitto, address, &directory, &all);
        let broker = Self {
            mosquitto,
            child,
            address,
            directory,
            arguments: all,
        };
        broker.ready().await;
        broker
    }

    pub async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.restart().await;
    }

    /// SIGTERM; returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        self.child.wait().unwrap().code()
    }

    /// From the next start on there is one more.
    pub fn add_sink(&mut self, sink: String) {
        self.arguments.extend(["--sink".to_owned(), sink]);
    }

    pub async fn restart(&mut self) {
        self.child = spawn(
            &self.mosquitto,
            self.address,
            &self.directory,
            &self.arguments,
        );
        self.ready().await;
    }

    pub async fn ready(&self) {
        until("ready", || {
            http::get(self.address, "/readyz").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// What it has logged in all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The sum of the samples of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = http::get(self.address, "/metrics").unwrap_or_default();
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("akri_mqtt_")?.strip_prefix(name)?;
            let is_it = rest.starts_with([' ', '{']);
            is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        samples.sum()
    }

    /// Publishes lines with QoS 1 and returns once the server has them.
    pub fn publish(&self, lines: impl IntoIterator<Item = String>) {
        let port = self.mosquitto.address().port().to_string();
        let mut client = Command::new("mosquitto_pub")
            .args(["-p", &port, "-q", "1", "-t", TOPIC, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        client
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(client.wait().unwrap().success());
    }

    /// Publishes the bytes of one message.
    pub fn publish_bytes(&self, topic: &str, payload: &[u8]) {
        let port = self.mosquitto.address().port().to_string();
        let mut client = Command::new("mosquitto_pub")
            .args(["-p", &port, "-q", "1", "-t", topic, "-s"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(payload).unwrap();
        assert!(client.wait().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    mosquitto: &Mosquitto,
    address: SocketAddr,
    directory: &tempfile::TempDir,
    arguments: &[String],
) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.path().join("log"))
        .unwrap();
    Command::new(binary(NAME, NAME))
        .args(["--http", &address.to_string(), "--grpc", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .args(arguments)
        .env("MQTT_DEVICE_ID", "plant-a/r1")
        .env("MQTT_SERVER_URLS", format!("tcp://{}", mosquitto.address()))
        .env("MQTT_TOPICS", r#"["robots/r1/#"]"#)
        .env("NO_COLOR", "1")
        .stderr(log)
        .spawn()
        .unwrap()
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The numbers of a range as texts.
pub fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

/// Checks that each number up to a count is there, and that their first appearances are in order.
pub fn assert_complete(found: &[u32], count: u32) {
    let mut next = 0;
    for number in found {
        assert!(*number <= next, "{number} came before {next}: {found:?}");
        next = next.max(number + 1);
    }
    assert_eq!(next, count, "the rest is missing");
    println!("{count} messages in {} entries", found.len());
}
