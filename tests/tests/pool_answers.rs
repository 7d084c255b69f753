//! Any member of a pool answers for every device: lists, history, streams and commands, with members that are killed,
//! leave, come back and hang, around real Mosquitto.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akri_mqtt_proto::monitoring::monitoring_client::MonitoringClient;
use akri_mqtt_proto::monitoring::watch_request::Start;
use akri_mqtt_proto::monitoring::watch_response::Event;
use akri_mqtt_proto::monitoring::{Order, PublishRequest, QueryRequest, WatchRequest};
use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::pool::{DEVICES, Member, Traffic, devices_file, settled, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Of an answer while a member hangs.
const WITHIN: Duration = Duration::from_secs(40);
const FLAGS: [&str; 2] = ["--allow-publish", "cmd/#"];

fn get(member: &Member, path: &str) -> Value {
    let (status, body) = http::get_within(member.http, path, WITHIN).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Store, sequence, number and time of all messages of a device, by pages of seven.
fn history(member: &Member, device: usize, order: &str) -> Vec<(String, u64, String)> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!(
            "/v1/devices/plant%2Fr{device}/messages?order={order}&limit=7&page_token={token}"
        );
        let page = get(member, &path);
        assert!(page.get("partial").is_none(), "{page}");
        for message in page["messages"].as_array().unwrap() {
            let text = |key: &str| message[key].as_str().unwrap().to_owned();
            let number = message["payload"].as_u64().unwrap();
            found.push((text("cursor"), number, text("received_at")));
        }
        token = page["next_page_token"].as_str().unwrap_or("").to_owned();
        if token.is_empty() {
            return found;
        }
    }
}

async fn history_grpc(member: &Member, device: usize) -> Vec<String> {
    let mut client = client(member.grpc).await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = QueryRequest {
            device_id: format!("plant/r{device}"),
            order: Order::Ascending.into(),
            limit: 7,
            page_token,
            ..QueryRequest::default()
        };
        let page = client.query(request).await.unwrap().into_inner();
        assert!(!page.partial);
        found.extend(page.messages.into_iter().map(|message| message.cursor));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

async fn client(address: SocketAddr) -> MonitoringClient<tonic::transport::Channel> {
    let endpoint = format!("http://{address}");
    MonitoringClient::connect(endpoint).await.unwrap()
}

/// What a stream of all devices has sent: device and number; and its last cursor.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Seen>>);

type Seen = (Vec<(String, u64)>, String);

impl Watched {
    async fn start(address: SocketAddr, start: Start) -> Self {
        let request = WatchRequest {
            start: Some(start),
            ..WatchRequest::default()
        };
        let mut client = client(address).await;
        let mut stream = client.watch(request).await.unwrap().into_inner();
        let watched = Self::default();
        let into = watched.clone();
        tokio::spawn(async move {
            while let Ok(Some(response)) = stream.message().await {
                match response.event {
                    Some(Event::Message(message)) => {
                        let number = std::str::from_utf8(&message.payload).unwrap();
                        let mut seen = into.0.lock().unwrap();
                        seen.0.push((message.device_id, number.parse().unwrap()));
                        seen.1 = message.cursor;
                    }
                    Some(Event::Gap(gap)) => println!("a gap was told: {}", gap.reason),
                    _ => {}
                }
            }
        });
        watched
    }

    fn distinct(&self) -> BTreeSet<(String, u64)> {
        self.0.lock().unwrap().0.iter().cloned().collect()
    }

    fn cursor(&self) -> String {
        self.0.lock().unwrap().1.clone()
    }
}

struct Pool {
    members: Vec<Member>,
    server: Mosquitto,
    shared: tempfile::TempDir,
}

impl Pool {
    fn start() -> Self {
        let server = Mosquitto::start(Config::new().line("max_queued_messages 0"));
        let shared = tempfile::tempdir().unwrap();
        devices_file(&shared.path().join("devices.json"), server.address(), 1);
        let mut pool = Self {
            server,
            members: (0..3).map(Member::new).collect(),
            shared,
        };
        for number in 0..3 {
            pool.join(number);
        }
        pool.settled(&[0, 1, 2]);
        pool
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shared.path().join(name)
    }

    fn join(&mut self, number: usize) {
        let (devices, pool) = (self.path("devices.json"), self.path("pool"));
        self.members[number].join_with(&devices, &pool, &FLAGS);
    }

    fn settled(&self, numbers: &[usize]) {
        let members = numbers.iter().map(|number| &self.members[*number]);
        settled(&members.collect::<Vec<_>>());
    }

    fn publish(&self, device: usize, number: u64) {
        let port = self.server.address().port().to_string();
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", "127.0.0.1", "-p", &port, "-q", "1"]);
        publish.args([
            "-t",
            &format!("d/r{device}/state"),
            "-m",
            &number.to_string(),
        ]);
        assert!(publish.status().unwrap().success());
    }

    /// The list as a member has it.
    fn list(&self, member: usize) -> Value {
        get(&self.members[member], "/v1/devices?limit=1000")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_and_streams_of_all_members_are_whole_whoever_is_asked() {
    let mut pool = Pool::start();
    let ever = Start::Since(prost_types::Timestamp::default());
    let watched = Watched::start(pool.members[0].grpc, ever).await;
    let traffic = Traffic::start(pool.server.address(), 1);
    until("messages come", || watched.distinct().len() > 500);
    pool.members[1].kill();
    pool.settled(&[0, 2]);
    pool.join(1);
    pool.settled(&[0, 1, 2]);
    pool.members[2].stop();
    pool.members[2].ended();
    pool.settled(&[0, 1]);
    let sent = traffic.end();
    pool.join(2);
    pool.settled(&[0, 1, 2]);

    let expected: BTreeSet<_> = (0..DEVICES)
        .flat_map(|device| (0..sent).map(move |number| (format!("plant/r{device}"), number)))
        .collect();
    until("the stream has everything that was stored", || {
        watched.distinct() == expected
    });
    // The last cursor resumes with another member, after what the stream had.
    let resumed = Start::Cursor(watched.cursor());
    let resumed = Watched::start(pool.members[2].grpc, resumed).await;
    for device in 0..DEVICES {
        pool.publish(device, 1_000_000);
    }
    until("the resumed stream has the new ones", || {
        resumed.distinct().len() >= DEVICES
    });
    assert!(
        resumed
            .distinct()
            .iter()
            .all(|(_, number)| *number == 1_000_000)
    );

    until("all members list the same", || {
        let lists: Vec<_> = (0..3).map(|number| pool.list(number)).collect();
        let count = lists[0]["devices"].as_array().unwrap().len();
        let is_whole = lists[0]["counts"]["online"] == DEVICES && lists[0].get("partial").is_none();
        lists.iter().all(|list| *list == lists[0]) && count == DEVICES && is_whole
    });
    for device in 0..2 {
        let found = history(&pool.members[0], device, "asc");
        let numbers: BTreeSet<_> = found.iter().map(|(_, number, _)| *number).collect();
        let expected: BTreeSet<_> = (0..sent).chain([1_000_000]).collect();
        assert_eq!(numbers, expected);
        assert!(found.is_sorted_by_key(|(_, _, time)| time.clone()));
        let cursors: Vec<_> = found.iter().map(|(cursor, _, _)| cursor.clone()).collect();
        assert_eq!(cursors.iter().collect::<BTreeSet<_>>().len(), cursors.len());
        for member in &pool.members {
            assert_eq!(history_grpc(member, device).await, cursors);
            let mut newest_first = history(member, device, "desc");
            newest_first.reverse();
            assert_eq!(newest_first, found);
        }
    }
}

/// Everything that is published below `cmd`, as lines of a file.
fn listen(server: SocketAddr, into: &Path) -> Child {
    let mut listen = Command::new("mosquitto_sub");
    listen.args(["-h", "127.0.0.1", "-p", &server.port().to_string()]);
    listen.args(["-q", "1", "-v", "-t", "cmd/#"]);
    let file = std::fs::File::create(into).unwrap();
    listen.stdout(Stdio::from(file)).spawn().unwrap()
}

fn command(member: &Member, device: usize, topic: &str) -> (u16, Value) {
    let path = format!("/v1/devices/plant%2Fr{device}/commands");
    let body = json!({"topic": topic, "payload": "on"}).to_string();
    let (status, body) = http::post(member.http, &path, &body, WITHIN).unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_reach_the_device_once() {
    let pool = Pool::start();
    let heard = pool.path("heard");
    let mut listener = listen(pool.server.address(), &heard);
    until("somebody listens for commands", || {
        let (status, answer) = command(&pool.members[0], 0, "cmd/probe");
        status == 200 && answer["no_subscribers"] == false
    });
    let mut expected = BTreeSet::new();
    for (number, member) in pool.members.iter().enumerate() {
        let mut client = client(member.grpc).await;
        for device in 0..DEVICES {
            let topic = format!("cmd/{device}/{number}");
            if device % 2 == 0 {
                assert_eq!(command(member, device, &topic).0, 200);
            } else {
                let request = PublishRequest {
                    device_id: format!("plant/r{device}"),
                    topic: topic.clone(),
                    payload: "on".into(),
                    ..PublishRequest::default()
                };
                client.publish(request).await.unwrap();
            }
            expected.insert(format!("{topic} on"));
        }
    }
    let lines = || {
        let text = std::fs::read_to_string(&heard).unwrap();
        let lines = text.lines().filter(|line| !line.contains("probe"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    until("every command is heard", || lines().len() >= expected.len());
    let heard = lines();
    assert_eq!(heard.len(), expected.len());
    assert_eq!(heard.into_iter().collect::<BTreeSet<_>>(), expected);
    listener.kill().unwrap();
    listener.wait().unwrap();
    // Errors are those of the member of the device.
    for member in &pool.members {
        let (status, problem) = command(member, 3, "other");
        assert_eq!(status, 403);
        assert_eq!(problem["type"], "urn:akri-mqtt:problem:topic-not-allowed");
    }
}

#[test]
fn member_that_hangs_blocks_nobody() {
    let pool = Pool::start();
    for device in 0..DEVICES {
        pool.publish(device, 7);
    }
    until("everything is stored", || {
        (0..DEVICES).all(|device| !pool.members[0].stored(device).is_empty())
    });
    pool.members[1].signal(Signal::STOP);
    // Its threads stop one after the other.
    until("the member hangs", || {
        pool.list(0)["partial"].as_bool() == Some(true)
    });
    let (mut answered, mut refused) = (false, false);
    for device in 0..DEVICES {
        if answered && refused {
            break;
        }
        match command(&pool.members[0], device, "cmd/frozen") {
            (200, _) => answered = true,
            (status, problem) => {
                assert_eq!(status, 503, "{problem}");
                assert_eq!(problem["type"], "urn:akri-mqtt:problem:member-unreachable");
                refused = true;
            }
        }
    }
    assert!(answered && refused);
    pool.members[1].signal(Signal::CONT);
    until("the member answers again", || {
        pool.list(0).get("partial").is_none()
    });
    assert_eq!(pool.list(0)["counts"]["online"], DEVICES);
}
