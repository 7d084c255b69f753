//! A pool of monitoring brokers around real Mosquitto: members come, go and are killed under traffic of QoS 1.
//! Publishers are `mosquitto_pub`. What the stores of all members hold together must be everything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto, free_port};
use rustix::process::{Pid, Signal, kill_process};

const NAME: &str = "akri-mqtt-monitoring-broker";
const LIMIT: Duration = Duration::from_secs(60);
const SHARDS: u64 = 16;
const DEVICES: usize = 24;

/// A member with a store of its own, which outlives its process.
struct Member {
    name: String,
    http: SocketAddr,
    data: tempfile::TempDir,
    child: Option<Child>,
}

impl Member {
    fn new(number: usize) -> Self {
        Self {
            name: format!("member-{number}"),
            http: SocketAddr::from(([127, 0, 0, 1], free_port())),
            data: tempfile::tempdir().unwrap(),
            child: None,
        }
    }

    fn command(&self, devices: &Path) -> Command {
        let mut command = Command::new(binary(NAME, NAME));
        command
            .args(["--grpc", "127.0.0.1:0", "--http", &self.http.to_string()])
            .args(["--instance", &self.name])
            .arg("--data-dir")
            .arg(self.data.path())
            .arg("--devices-file")
            .arg(devices)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null());
        command
    }

    fn join(&mut self, devices: &Path, pool: &Path) {
        let mut command = self.command(devices);
        let shards = SHARDS.to_string();
        command
            .arg("--pool-dir")
            .arg(pool)
            .args(["--shards", &shards]);
        self.child = Some(command.spawn().unwrap());
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; the end is left to [`Member::ended`].
    fn stop(&self) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, Signal::TERM).unwrap();
    }

    fn ended(&mut self) {
        let status = self.child.take().unwrap().wait().unwrap();
        assert!(status.success(), "{}: {status}", self.name);
    }

    fn is_ready(&self) -> bool {
        http::get(self.http, "/readyz").is_some_and(|(status, _)| status == 200)
    }

    fn metric(&self, name: &str) -> u64 {
        let body = http::get(self.http, "/metrics").map_or_else(String::new, |(_, body)| body);
        let line = body.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Number and DUP flag of what is stored of a device, in the order of the store.
    fn stored(&self, device: usize) -> Vec<(u64, bool)> {
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

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All shards are served by these members, which agree on how many they are.
fn settled(members: &[&Member]) {
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

fn devices_file(path: &Path, server: SocketAddr) {
    let devices: Vec<_> = (0..DEVICES)
        .map(|number| {
            serde_json::json!({
                "MQTT_DEVICE_ID": format!("plant/r{number}"),
                "MQTT_SERVER_URLS": format!("tcp://{server}"),
                "MQTT_TOPICS": [format!("d/r{number}/state")],
            })
        })
        .collect();
    std::fs::write(path, serde_json::to_vec(&devices).unwrap()).unwrap();
}

/// Publishes 0, 1, 2 … on the topic of each device with QoS 1, until it is stopped.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Traffic {
    fn start(server: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut publishers: Vec<_> = (0..DEVICES)
                .map(|number| publisher(server, number))
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
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn publisher(server: SocketAddr, number: usize) -> Child {
    let mut command = Command::new("mosquitto_pub");
    command
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string()])
        .args(["-q", "1", "-l", "-t", &format!("d/r{number}/state")])
        .stdin(Stdio::piped());
    command.spawn().unwrap()
}

/// What the stores of all members hold: nothing is missing, each store has its part in order, and of what is
/// there more than once all but one was recognised. Returns how many were there more than once.
fn judge(members: &mut [Member], sent: u64) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let nothing = directory.path().join("devices.json");
    std::fs::write(&nothing, "[]").unwrap();
    let mut copies: BTreeMap<(usize, u64), Vec<bool>> = BTreeMap::new();
    for member in members {
        member.child = Some(member.command(&nothing).spawn().unwrap());
        until("a store is served", || member.is_ready());
        for device in 0..DEVICES {
            let stored = member.stored(device);
            let mut seen = BTreeSet::new();
            for (number, duplicate) in stored {
                let is_new = seen.insert(number);
                assert!(
                    !is_new || seen.last() == Some(&number),
                    "{}: r{device}: {number} after {:?}",
                    member.name,
                    seen.last()
                );
                copies.entry((device, number)).or_default().push(duplicate);
            }
        }
        member.kill();
    }
    let expected: BTreeSet<_> = (0..DEVICES)
        .flat_map(|device| (0..sent).map(move |number| (device, number)))
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|key| !copies.contains_key(key))
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} are missing: {missing:?}",
        missing.len(),
        expected.len()
    );
    assert_eq!(copies.len(), expected.len());
    let unmarked = copies
        .values()
        .filter(|copies| copies.iter().filter(|dup| !**dup).count() > 1);
    assert_eq!(unmarked.count(), 0);
    let more: usize = copies.values().map(|copies| copies.len() - 1).sum();
    u64::try_from(more).unwrap()
}

#[test]
fn members_that_come_go_and_are_killed_lose_no_message_of_qos_1() {
    let server = Mosquitto::start(Config::new().line("max_queued_messages 0"));
    let shared = tempfile::tempdir().unwrap();
    let (devices, pool) = (
        shared.path().join("devices.json"),
        shared.path().join("pool"),
    );
    devices_file(&devices, server.address());
    let mut members: Vec<_> = (0..5).map(Member::new).collect();
    for member in &mut members[..3] {
        member.join(&devices, &pool);
    }
    settled(&members.iter().take(3).collect::<Vec<_>>());
    let traffic = Traffic::start(server.address());
    let some = |member: &Member| member.metric("akri_mqtt_store_messages_total ") > 200;
    until("messages arrive", || members[..3].iter().all(some));

    members[1].kill();
    let killed = Instant::now();
    settled(&[&members[0], &members[2]]);
    println!(
        "after SIGKILL all shards were served within {:?}",
        killed.elapsed()
    );

    for number in [1, 3, 4] {
        members[number].join(&devices, &pool);
    }
    settled(&members.iter().collect::<Vec<_>>());
    until("messages arrive everywhere", || members.iter().all(some));

    for member in &members[2..] {
        member.stop();
    }
    for member in &mut members[2..] {
        member.ended();
    }
    settled(&[&members[0], &members[1]]);
    let handed_over: u64 = members[..2]
        .iter()
        .map(|member| member.metric("akri_mqtt_pool_shards_handed_over_total "))
        .sum();
    let sent = traffic.end();
    until("everything has arrived", || {
        let pending = members[..2]
            .iter()
            .map(|member| member.metric("akri_mqtt_acks_pending "));
        let last = |device: usize| {
            let mut stores = members[..2].iter().map(|member| member.stored(device));
            stores.any(|stored| stored.last().is_some_and(|(number, _)| number + 1 == sent))
        };
        pending.sum::<u64>() == 0 && (0..DEVICES).all(last)
    });
    for member in &members[..2] {
        member.stop();
    }
    for member in &mut members[..2] {
        member.ended();
    }
    let more = judge(&mut members, sent);
    let messages = sent * u64::try_from(DEVICES).unwrap();
    println!(
        "{messages} messages, {more} copies more, {handed_over} shards handed over by the last two"
    );
    // A server has 20 messages in flight per session: only the kill may repeat some.
    assert!(more <= 20 * SHARDS, "{more}");
}
