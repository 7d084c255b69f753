//! The monitoring broker is killed with SIGKILL while real Mosquitto delivers to it: nothing of QoS 1 is lost,
//! nothing of QoS 2 is lost or doubled, and a watcher resumes over it. Clients are `mosquitto_pub`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use akri_mqtt_proto::monitoring::monitoring_client::MonitoringClient;
use akri_mqtt_proto::monitoring::watch_request::Start;
use akri_mqtt_proto::monitoring::watch_response::Event;
use akri_mqtt_proto::monitoring::{Message, WatchRequest};
use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::port::free_address;
use akri_mqtt_tests::proxy::{Direction, PacketType, Proxy, When};

const NAME: &str = "akri-mqtt-monitoring-broker";
const LIMIT: Duration = Duration::from_secs(60);

/// A monitoring broker that can be killed and started again on the same store and ports.
struct Broker {
    child: Child,
    server: SocketAddr,
    http: SocketAddr,
    grpc: SocketAddr,
    data: tempfile::TempDir,
    qos: u8,
}

impl Broker {
    fn start(server: SocketAddr, qos: u8) -> Self {
        let (http, grpc) = (free_address(), free_address());
        let data = tempfile::tempdir().unwrap();
        let child = spawn(server, http, grpc, data.path(), qos);
        Self {
            child,
            server,
            http,
            grpc,
            data,
            qos,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        let data = self.data.path();
        self.child = spawn(self.server, self.http, self.grpc, data, self.qos);
    }

    async fn ready(&self) {
        until("ready", || {
            http::get(self.http, "/readyz").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Payloads of a topic, oldest first.
    fn payloads(&self, topic: &str) -> Vec<String> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!(
                "/v1/devices/plant-a%2Fr1/messages?topic={topic}&order=asc&limit=10000&page_token={token}"
            );
            let Some((200, body)) = http::get(self.http, &path) else {
                return found;
            };
            let page: serde_json::Value = serde_json::from_str(&body).unwrap();
            let messages = page["messages"].as_array().unwrap().iter();
            found.extend(messages.map(|message| message["payload"].to_string()));
            token = page["next_page_token"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if token.is_empty() {
                return found;
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(server: SocketAddr, http: SocketAddr, grpc: SocketAddr, data: &Path, qos: u8) -> Child {
    Command::new(binary(NAME, NAME))
        .args(["--http", &http.to_string(), "--grpc", &grpc.to_string()])
        .arg("--data-dir")
        .arg(data)
        .env("MQTT_DEVICE_ID", "plant-a/r1")
        .env("MQTT_SERVER_URLS", format!("tcp://{server}"))
        .env("MQTT_TOPICS", r#"["robots/r1/#"]"#)
        .env("MQTT_SESSION", format!(r#"{{"qos":{qos}}}"#))
        .env("RUST_LOG", "warn")
        // As in a pod: the client id does not depend on the data directory.
        .env("AKRI_MQTT_CLUSTER", "0a1b2c3d")
        .env("AKRI_MQTT_INSTANCE", "pod-0")
        .spawn()
        .unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn publish(server: SocketAddr, topic: &str, payload: &str) {
    let port = server.port().to_string();
    let status = Command::new("mosquitto_pub")
        .args(["-p", &port, "-q", "2", "-t", topic, "-m", payload])
        .status()
        .unwrap();
    assert!(status.success());
}

/// `mosquitto_pub` that publishes what is written to it, a message a line.
fn feeder(server: SocketAddr, qos: &str, topic: &str) -> Child {
    let port = server.port().to_string();
    Command::new("mosquitto_pub")
        .args(["-p", &port, "-q", qos, "-t", topic, "-l"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Killed so often, at random moments.
async fn killed(config: Config, times: usize) {
    let server = Mosquitto::start(config);
    let mut broker = Broker::start(server.address(), 2);
    broker.ready().await;
    let topics = ["robots/r1/once", "robots/r1/twice"];
    let mut feeders = [
        feeder(server.address(), "1", topics[0]),
        feeder(server.address(), "2", topics[1]),
    ];
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let pipes: Vec<_> = feeders
        .iter_mut()
        .map(|feeder| feeder.stdin.take().unwrap())
        .collect();
    let writing = std::thread::spawn(move || {
        let mut pipes = pipes;
        for number in 0_u64.. {
            for pipe in &mut pipes {
                // In one piece: mosquitto_pub takes a part of a line for a line.
                pipe.write_all(format!("{number}\n").as_bytes()).unwrap();
            }
            let pace = stopped.recv_timeout(Duration::from_millis(10));
            if !matches!(pace, Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
                return number + 1;
            }
        }
        0
    });
    for _ in 0..times {
        let target = broker.payloads(topics[1]).len();
        until("progress", || broker.payloads(topics[1]).len() > target).await;
        let moment = Duration::from_micros(rand::random_range(0..200_000));
        tokio::time::sleep(moment).await;
        broker.kill();
        broker.restart();
        broker.ready().await;
    }
    drop(stop);
    let count = writing.join().unwrap();
    for feeder in &mut feeders {
        assert!(feeder.wait().unwrap().success());
    }
    let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let all: BTreeSet<_> = expected.iter().cloned().collect();
    until("everything of QoS 2", || {
        broker.payloads(topics[1]).len() >= expected.len()
    })
    .await;
    let found: BTreeSet<_> = broker.payloads(topics[0]).into_iter().collect();
    let lost: Vec<_> = all.difference(&found).collect();
    let foreign: Vec<_> = found.difference(&all).collect();
    assert!(
        lost.is_empty() && foreign.is_empty(),
        "of {count} lost {lost:?}, not sent {foreign:?}"
    );
    assert_eq!(broker.payloads(topics[1]), expected);
    println!("{count} messages of each quality over {times} kills");
    assert_resumes(&broker).await;
}

/// A watcher that starts after the first message sees each later one once, in order, also over a restart.
async fn assert_resumes(broker: &Broker) {
    let (_, body) = http::get(
        broker.http,
        "/v1/devices/plant-a%2Fr1/messages?order=asc&limit=1",
    )
    .unwrap();
    let first: serde_json::Value = serde_json::from_str(&body).unwrap();
    let cursor = first["messages"][0]["cursor"].as_str().unwrap();
    let (store, start) = cursor.split_once(':').unwrap();
    let last: u64 = broker.payloads("robots/r1/%23").len().try_into().unwrap();
    let half = format!("{store}:{}", last / 2);
    let start: u64 = start.parse().unwrap();
    for (cursor, from) in [(cursor.to_owned(), start + 1), (half, last / 2 + 1)] {
        let mut client = MonitoringClient::connect(format!("http://{}", broker.grpc))
            .await
            .unwrap();
        let request = WatchRequest {
            start: Some(Start::Cursor(cursor)),
            ..WatchRequest::default()
        };
        let mut stream = client.watch(request).await.unwrap().into_inner();
        for sequence in from..=last {
            let next = tokio::time::timeout(LIMIT, stream.message())
                .await
                .unwrap()
                .unwrap();
            match next.unwrap().event.unwrap() {
                Event::Message(Message {
                    sequence: found, ..
                }) => assert_eq!(found, sequence),
                other => panic!("{other:?} instead of message {sequence}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing_and_double_nothing_of_qos_2() {
    killed(Config::new(), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing_with_the_stock_limits_of_mosquitto() {
    let stock = Config::new()
        .line("max_inflight_messages 20")
        .line("max_queued_messages 1000");
    killed(stock, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes: cargo xtask nightly"]
async fn two_hundred_kills_under_load_lose_nothing() {
    killed(Config::new(), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_ends_when_its_store_is_taken_away_and_what_comes_meanwhile_is_not_lost() {
    let server = Mosquitto::start(Config::new());
    let mut broker = Broker::start(server.address(), 1);
    broker.ready().await;
    publish(server.address(), "robots/r1/x", "1");
    until("the first message", || {
        broker.payloads("robots/r1/x").len() == 1
    })
    .await;
    std::fs::remove_dir_all(broker.data.path()).unwrap();
    publish(server.address(), "robots/r1/x", "2");
    let mut status = None;
    until("the end", || {
        status = broker.child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.unwrap().code(), Some(1));
    broker.restart();
    until("the second message", || {
        broker.payloads("robots/r1/x") == ["2"]
    })
    .await;
}

/// Killed when the connection is cut at a packet of the first message; then that message and the next are there once.
async fn killed_at(direction: Direction, packet: PacketType) {
    let server = Mosquitto::start(Config::new());
    let proxy = Proxy::start(server.address()).await.unwrap();
    let mut broker = Broker::start(proxy.address(), 2);
    broker.ready().await;
    proxy.cut_at(direction, packet, When::Before, 0);
    publish(server.address(), "robots/r1/x", "1");
    until("the cut", || proxy.cuts_done() == 1).await;
    broker.kill();
    broker.restart();
    assert_both_once(&broker, server.address()).await;
}

async fn assert_both_once(broker: &Broker, server: SocketAddr) {
    broker.ready().await;
    until("the first message", || {
        !broker.payloads("robots/r1/x").is_empty()
    })
    .await;
    publish(server, "robots/r1/x", "2");
    until("the second message", || {
        broker.payloads("robots/r1/x").len() >= 2
    })
    .await;
    assert_eq!(broker.payloads("robots/r1/x"), ["1", "2"]);
    let counts =
        broker
            .payloads("robots/r1/x")
            .into_iter()
            .fold(BTreeMap::new(), |mut counts, payload| {
                *counts.entry(payload).or_insert(0) += 1;
                counts
            });
    assert!(counts.values().all(|count| *count == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_is_exactly_once_when_killed_before_the_commit() {
    let server = Mosquitto::start(Config::new());
    let proxy = Proxy::start(server.address()).await.unwrap();
    let mut broker = Broker::start(proxy.address(), 2);
    broker.ready().await;
    // Another writer holds the database, so that the commit waits.
    let hold = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1],isolation_level=None); \
                c.execute('BEGIN IMMEDIATE'); print('held',flush=True); sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", hold])
        .arg(broker.data.path().join("store.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "held\n");
    publish(server.address(), "robots/r1/x", "1");
    until("PUBLISH", || {
        proxy.packets(Direction::ToClient, PacketType::Publish) == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        proxy.packets(Direction::ToServer, PacketType::PubRec),
        0,
        "acknowledged before the commit"
    );
    broker.kill();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    broker.restart();
    assert_both_once(&broker, server.address()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_is_exactly_once_when_killed_after_the_commit_before_pubrec() {
    killed_at(Direction::ToServer, PacketType::PubRec).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_is_exactly_once_when_killed_after_pubrec_before_pubrel() {
    killed_at(Direction::ToClient, PacketType::PubRel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_is_exactly_once_when_killed_after_the_release_before_pubcomp() {
    killed_at(Direction::ToServer, PacketType::PubComp).await;
}
