//! A thousand Watch streams of which most are never read, on real Mosquitto: ingestion goes on, memory stays
//! bounded, and whoever reads again gets everything from the store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use akri_mqtt_proto::monitoring::monitoring_client::MonitoringClient;
use akri_mqtt_proto::monitoring::watch_response::Event;
use akri_mqtt_proto::monitoring::{WatchRequest, WatchResponse};
use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::http;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::port::free_address;
use tonic::Streaming;
use tonic::transport::Endpoint;

const NAME: &str = "akri-mqtt-monitoring-broker";
const LIMIT: Duration = Duration::from_secs(120);
/// As many as may be open.
const CONNECTIONS: usize = 10;
const STREAMS_EACH: usize = 100;
/// Each holds at most so much of a stream that is not read, and enough for all of them together.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Some 10 MB: far more than a stream's window and than what the broker has in memory.
const MESSAGES: usize = 5_000;
const PAYLOAD_BYTES: usize = 2_000;
/// What the process may have more than before, in KiB: 1,024 messages that wait for each stream, some 200 bytes beside
/// their payloads, and twice that for a build that is not optimised.
const MEMORY_KIB: u64 = 400 << 10;
/// After so many the one that stops has stopped.
const STOPS_AFTER: usize = 100;

struct Broker {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
    _data: tempfile::TempDir,
}

impl Broker {
    fn start(server: &Mosquitto) -> Self {
        let data = tempfile::tempdir().unwrap();
        let [http, grpc] = [free_address(), free_address()];
        let child = Command::new(binary(NAME, NAME))
            .args(["--http", &SocketAddr::to_string(&http)])
            .args(["--grpc", &SocketAddr::to_string(&grpc)])
            .args(["--device-id", "plant-a/r1", "--topic", "robots/r1/#"])
            .args(["--server-url", &format!("tcp://{}", server.address())])
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let broker = Self {
            child,
            http,
            grpc,
            _data: data,
        };
        until("it is ready", || {
            http::get(http, "/readyz").is_some_and(|(status, _)| status == 200)
        });
        broker
    }

    fn metric(&self, name: &str) -> usize {
        let (_, body) = http::get(self.http, "/metrics").unwrap_or_default();
        let line = body.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.unwrap().parse().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens streams; each has said the device's presence, and has not been read since.
async fn open(grpc: SocketAddr) -> Vec<Streaming<WatchResponse>> {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
        let endpoint = endpoint
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let mut client = MonitoringClient::new(endpoint.connect().await.unwrap());
        for _ in 0..STREAMS_EACH {
            let request = WatchRequest {
                include_presence: true,
                ..WatchRequest::default()
            };
            let mut stream = client.watch(request).await.unwrap().into_inner();
            let first = stream.message().await.unwrap().unwrap();
            assert!(matches!(first.event, Some(Event::Presence(_))), "{first:?}");
            streams.push(stream);
        }
    }
    streams
}

/// The numbers of so many messages, as they come.
async fn read(stream: &mut Streaming<WatchResponse>, count: usize) -> Vec<usize> {
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        let next = tokio::time::timeout(LIMIT, stream.message()).await;
        match next.expect("a message in time").unwrap().unwrap().event {
            Some(Event::Message(message)) => {
                let text = String::from_utf8(message.payload.to_vec()).unwrap();
                found.push(text.split('.').next().unwrap().parse().unwrap());
            }
            Some(Event::Presence(_)) => {}
            other => panic!("after {} messages: {other:?}", found.len()),
        }
    }
    found
}

fn publish_all(server: &Mosquitto) {
    let mut lines = tempfile::tempfile().unwrap();
    for number in 0..MESSAGES {
        let mut line = format!("{number}.");
        line.extend(std::iter::repeat_n('x', PAYLOAD_BYTES));
        writeln!(lines, "{line}").unwrap();
    }
    rewind(&mut lines);
    let port = server.address().port().to_string();
    let status = Command::new("mosquitto_pub")
        .args(["-p", &port, "-q", "1", "-t", "robots/r1/data", "-l"])
        .stdin(lines)
        .status();
    assert!(status.unwrap().success());
}

fn rewind(file: &mut File) {
    std::io::Seek::rewind(file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_hold_back_neither_ingestion_nor_readers_and_miss_nothing() {
    let server = Mosquitto::start(Config::new());
    let broker = Broker::start(&server);
    let mut streams = open(broker.grpc).await;
    let open = CONNECTIONS * STREAMS_EACH;
    assert_eq!(broker.metric("akri_mqtt_watchers "), open);
    let before = broker.resident_kib();

    let mut reader = streams.pop().unwrap();
    let reading = tokio::spawn(async move { (read(&mut reader, MESSAGES).await, reader) });
    let mut stopped = streams.pop().unwrap();
    let stopping = tokio::spawn(async move { (read(&mut stopped, STOPS_AFTER).await, stopped) });
    tokio::task::block_in_place(|| {
        publish_all(&server);
        until("everything is stored", || {
            broker.metric("akri_mqtt_store_messages_total ") >= MESSAGES
        });
    });
    let expected: Vec<usize> = (0..MESSAGES).collect();
    let (live, _reader) = reading.await.unwrap();
    assert_eq!(live, expected, "the one that reads");
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < MEMORY_KIB, "{grown} KiB more than before");
    assert_eq!(broker.metric("akri_mqtt_watchers "), open, "none was ended");

    let (mut parts, mut stopped) = stopping.await.unwrap();
    parts.extend(read(&mut stopped, MESSAGES - STOPS_AFTER).await);
    assert_eq!(parts, expected, "the one that stopped");
    for place in [0, streams.len() / 2, streams.len() - 1] {
        let late = read(&mut streams[place], MESSAGES).await;
        assert_eq!(late, expected, "the silent one at {place}");
    }
    assert_eq!(broker.metric("akri_mqtt_store_messages_total "), MESSAGES);
}
