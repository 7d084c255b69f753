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

fn devices_file(path: &Path, server: SocketAddr, qos: u8) {
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
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Traffic {
    fn start(server: SocketAddr, qos: u8) -> Self {
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
    fn end(self) -> u64 {
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

/// Waits until the last message of each device is stored by one of the members.
fn arrived(members: &[Member], sent: u64) {
    until("everything has arrived", || {
        let pending = members.iter();
        let pending = pending.map(|member| member.metric("akri_mqtt_acks_pending "));
        let last = |device: usize| {
            let mut stores = members.iter().map(|member| member.stored(device));
            stores.any(|stored| stored.last().is_some_and(|(number, _)| number + 1 == sent))
        };
        pending.sum::<u64>() == 0 && (0..DEVICES).all(last)
    });
}

#[test]
fn members_that_come_go_and_are_killed_lose_no_message_of_qos_1() {
    let server = Mosquitto::start(Config::new().line("max_queued_messages 0"));
    let shared = tempfile::tempdir().unwrap();
    let (devices, pool) = (
        shared.path().join("devices.json"),
        shared.path().join("pool"),
    );
    devices_file(&devices, server.address(), 1);
    let mut members: Vec<_> = (0..5).map(Member::new).collect();
    for member in &mut members[..3] {
        member.join(&devices, &pool);
    }
    settled(&members.iter().take(3).collect::<Vec<_>>());
    let traffic = Traffic::start(server.address(), 1);
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
    arrived(&members[..2], sent);
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

#[test]
fn in_orderly_hand_overs_a_message_of_qos_2_is_stored_once_in_the_whole_pool() {
    let server = Mosquitto::start(Config::new().line("max_queued_messages 0"));
    let shared = tempfile::tempdir().unwrap();
    let (devices, pool) = (
        shared.path().join("devices.json"),
        shared.path().join("pool"),
    );
    devices_file(&devices, server.address(), 2);
    let mut members: Vec<_> = (0..2).map(Member::new).collect();
    members[0].join(&devices, &pool);
    settled(&[&members[0]]);
    let traffic = Traffic::start(server.address(), 2);
    // Each time shards go to the second member and come back, so that packet ids are used again meanwhile.
    for _ in 0..3 {
        members[1].join(&devices, &pool);
        settled(&[&members[0], &members[1]]);
        let before = members[1].metric("akri_mqtt_store_messages_total ");
        until("messages arrive", || {
            members[1].metric("akri_mqtt_store_messages_total ") > before + 200
        });
        members[1].stop();
        members[1].ended();
        settled(&[&members[0]]);
    }
    let sent = traffic.end();
    arrived(&members[..1], sent);
    members[0].stop();
    members[0].ended();
    assert_eq!(judge(&mut members, sent), 0);
}

#[test]
fn devices_of_a_file_come_and_go_with_it_and_a_wrong_file_changes_nothing() {
    let server = Mosquitto::start(Config::new());
    let shared = tempfile::tempdir().unwrap();
    let devices = shared.path().join("devices.yaml");
    let device = |name: &str| {
        let port = server.address().port();
        format!(
            "- MQTT_DEVICE_ID: plant/{name}\n  MQTT_SERVER_URLS: tcp://127.0.0.1:{port}\n  MQTT_TOPICS: [d/{name}/state]\n"
        )
    };
    let wrong = "- MQTT_DEVICE_ID: plant/r0\n  MQTT_TOPICS: [a]\n";
    let mut member = Member::new(0);

    std::fs::write(&devices, wrong).unwrap();
    let refused = member
        .command(&devices)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("devices.yaml: line 1, column 3: MQTT_SERVER_URLS"),
        "{said}"
    );

    std::fs::write(&devices, device("r0")).unwrap();
    member.child = Some(member.command(&devices).spawn().unwrap());
    let heard = |number: usize| {
        let mut publish = Command::new("mosquitto_pub");
        publish.args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.address().port().to_string(),
        ]);
        let status = publish
            .args(["-q", "1", "-m", "1", "-t", &format!("d/r{number}/state")])
            .status();
        assert!(status.unwrap().success());
        !member.stored(number).is_empty()
    };
    until("the first device is heard", || {
        member.is_ready() && heard(0)
    });
    std::fs::write(&devices, device("r0") + &device("r1")).unwrap();
    until("the second device is heard", || heard(1));

    std::fs::write(&devices, wrong).unwrap();
    until("the wrong file is counted", || {
        member.metric("akri_mqtt_devices_file_errors_total ") == 1
    });
    assert_eq!(member.metric("akri_mqtt_devices_listed "), 2);
    let before = member.stored(1).len();
    until("the second device is still heard", || {
        heard(1) && member.stored(1).len() > before
    });

    std::fs::write(&devices, device("r0")).unwrap();
    until("the second device has gone", || {
        let path = "/v1/devices/plant%2Fr1";
        let body = http::get(member.http, path).map_or_else(String::new, |(_, body)| body);
        body.contains("withdrawn")
    });
    assert_eq!(member.metric("akri_mqtt_devices_listed "), 1);
}
