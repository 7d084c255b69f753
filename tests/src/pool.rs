//! Members of a pool as processes of their own, and traffic for their devices. In: a list of devices, a directory.
//! Out: members that join, leave, are killed and stopped. Publishers are `mosquitto_pub`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fixture that fails fails its test"
)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::binary;
use crate::http;
use crate::port::free_address;

const NAME: &str = "akri-mqtt-monitoring-broker";
const LIMIT: Duration = Duration::from_secs(60);
/// Of the pools.
pub const SHARDS: u64 = 16;
/// In their lists.
pub const DEVICES: usize = 24;

/// A member with a store of its own, which outlives its process.
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its HTTP port.
    pub http: SocketAddr,
    /// Its gRPC port.
    pub grpc: SocketAddr,
    data: tempfile::TempDir,
    /// Its process.
    pub child: Option<Child>,
}

impl Member {
    /// One that does not run yet.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self {
            name: format!("member-{number}"),
            http: free_address(),
            grpc: free_address(),
            data: tempfile::tempdir().unwrap(),
            child: None,
        }
    }

    /// Watches the devices of a file, without a pool.
    #[must_use]
    pub fn command(&self, devices: &Path) -> Command {
        let mut command = Command::new(binary(NAME, NAME));
        command
            .args(["--grpc", &self.grpc.to_string()])
            .args(["--http", &self.http.to_string()])
            .args(["--instance", &self.name])
            .arg("--data-dir")
            .arg(self.data.path())
            .arg("--devices-file")
            .arg(devices)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null());
        command
    }

    /// Joins the pool of a directory.
    pub fn join(&mut self, devices: &Path, pool: &Path) {
        self.join_with(devices, pool, &[]);
    }

    /// With further flags.
    pub fn join_with(&mut self, devices: &Path, pool: &Path, flags: &[&str]) {
        let mut command = self.command(devices);
        let shards = SHARDS.to_string();
        command
            .arg("--pool-dir")
            .arg(pool)
            .args(["--shards", &shards])
            .args(flags);
        self.child = Some(command.spawn().unwrap());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; the end is left to [`Member::ended`].
    pub fn stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Any signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end, which has to be a good one.
    pub fn ended(&mut self) {
        let status = self.child.take().unwrap().wait().unwrap();
        assert!(status.success(), "{}: {status}", self.name);
    }

    /// Whether it says so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        http::get(self.http, "/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// A metric without labels; 0 if it is not there.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let body = http::get(self.http, "/metrics").map_or_else(String::new, |(_, body)| body);
        let line = body.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Number and DUP flag of what the pool has stored of a device, as this member answers it.
    #[must_use]
    pub fn stored(&self, device: usize) -> Vec<(u64, bool)> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!(
                "/v1/devices/plant%2Fr{device}/messages?order=asc&limit=10000&page_token={token}"
            );
            let (status, body) = http::get(self.http, &path).unwrap();
            if status == 404 {
                return Vec::new();
            }
            assert_eq!(status, 200, "{body}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            for message in body["messages"].as_array().unwrap() {
                let number = message["payload"].as_u64().unwrap();
                found.push((number, message["duplicate"].as_bool().unwrap_or(false)));
            }
            token = body["next_page_token"].as_str().unwrap_or("").to_owned();
            if token.is_empty() {
                return found;
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for something.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All shards are served by these members, which agree on how many they are.
pub fn settled(members: &[&Member]) {
    let size = u64::try_from(members.len()).unwrap();
    until("every shard has a member", || {
        let shards: u64 = members
            .iter()
            .map(|member| member.metric("akri_mqtt_pool_shards "))
            .sum();
        let agree = |member: &&Member| {
            member.metric("akri_mqtt_pool_members ") == size && member.is_ready()
        };
        shards == SHARDS && members.iter().all(agree)
    });
}

/// Writes the list of the devices, each with the topic `d/r<n>/state`.
pub fn devices_file(path: &Path, server: SocketAddr, qos: u8) {
    let devices: Vec<_> = (0..DEVICES)
        .map(|number| {
            serde_json::json!({
                "MQTT_DEVICE_ID": format!("plant/r{number}"),
                "MQTT_SERVER_URLS": format!("tcp://{server}"),
                "MQTT_TOPICS": [format!("d/r{number}/state")],
                "MQTT_SESSION": {"qos": qos},
            })
        })
        .collect();
    std::fs::write(path, serde_json::to_vec(&devices).unwrap()).unwrap();
}

/// Publishes 0, 1, 2 … on the topic of each device, until it is stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Traffic {
    /// Begins.
    #[must_use]
    pub fn start(server: SocketAddr, qos: u8) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut publishers: Vec<_> = (0..DEVICES)
                .map(|number| publisher(server, number, qos))
                .collect();
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                for publisher in &mut publishers {
                    writeln!(publisher.stdin.as_mut().unwrap(), "{sent}").unwrap();
                }
                sent += 1;
                // The pace of the traffic; nothing is waited for.
                std::thread::sleep(Duration::from_millis(10));
            }
            for mut publisher in publishers {
                drop(publisher.stdin.take());
                // Zero once everything was acknowledged by the server.
                assert!(publisher.wait().unwrap().success());
            }
            sent
        });
        Self { stop, thread }
    }

    /// How many each device has published.
    #[must_use]
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn publisher(server: SocketAddr, number: usize, qos: u8) -> Child {
    let mut command = Command::new("mosquitto_pub");
    command
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string()])
        .args(["-q", &qos.to_string(), "-l", "-t"])
        .arg(format!("d/r{number}/state"))
        .stdin(Stdio::piped());
    command.spawn().unwrap()
}
