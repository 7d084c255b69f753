//! Devices as processes: `mosquitto_sub` with a Last Will, and messages of `mosquitto_pub`.
//! In: a server's address. Out: what real devices do: announce themselves, talk, crash, leave.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::mosquitto::Mosquitto;

const DEADLINE: Duration = Duration::from_secs(15);

/// Publishes one message with `mosquitto_pub`; `None` is an empty retained one.
///
/// # Panics
/// When it cannot.
#[allow(clippy::expect_used)]
pub fn publish(server: SocketAddr, topic: &str, payload: Option<&str>, flags: &[&str]) {
    let mut command = Command::new("mosquitto_pub");
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &server.port().to_string(),
        "-t",
        topic,
    ]);
    match payload {
        Some(payload) => command.args(["-m", payload]),
        None => command.args(["-n", "-r"]),
    };
    let status = command.args(flags).status();
    let status = status.expect("mosquitto_pub is installed (Debian: mosquitto-clients)");
    assert!(status.success(), "{topic} cannot be published: {status}");
}

/// How often a client whose id starts so has connected, by the server's log.
#[must_use]
pub fn connects(server: &Mosquitto, client_id: &str) -> usize {
    let start = format!(" as {client_id}");
    let log = server.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("New client connected"));
    lines.filter(|line| line.contains(&start)).count()
}

/// The different client ids that have connected and start so, sorted.
#[must_use]
pub fn client_ids(server: &Mosquitto, prefix: &str) -> Vec<String> {
    let log = server.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("New client connected"));
    let ids = lines.filter_map(|line| line.split(" as ").nth(1)?.split(' ').next());
    let mut ids: Vec<String> = ids
        .filter(|id| id.starts_with(prefix))
        .map(str::to_owned)
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// A device that is connected and has a retained Last Will `offline`.
pub struct Device {
    child: Child,
}

impl Device {
    /// Connects, then announces itself as `online`, retained, on the topic of its Last Will.
    ///
    /// # Panics
    /// When it does not connect.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn start(server: &Mosquitto, client_id: &str, topic: &str) -> Self {
        let before = connects(server, &format!("{client_id} "));
        let port = server.address().port().to_string();
        let child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-i", client_id])
            .args(["-t", &format!("nobody/{client_id}"), "-q", "1"])
            .args(["--will-topic", topic, "--will-payload", "offline"])
            .args(["--will-qos", "1", "--will-retain"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub is installed (Debian: mosquitto-clients)");
        let device = Self { child };
        let end = Instant::now() + DEADLINE;
        while connects(server, &format!("{client_id} ")) == before {
            assert!(
                Instant::now() < end,
                "{client_id} does not connect: {}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        publish(server.address(), topic, Some("online"), &["-r", "-q", "1"]);
        device
    }

    /// SIGKILL: the server publishes its Last Will.
    pub fn crash(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Disconnects as MQTT asks for, so that no Last Will is published.
    pub fn leave(&mut self) {
        // mosquitto_sub disconnects cleanly on SIGINT; the process is ours.
        let _ = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.crash();
    }
}
