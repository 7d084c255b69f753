//! Figures of the discovery handler: a plant's first list, a Last Will's way, memory, start.
//! In: a release build and a Mosquitto of this machine. Out: one line for each figure, with its limit.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::{ByteData, DiscoverRequest, DiscoverResponse};
use akri_mqtt_session::{Publish, QoS};
use akri_mqtt_tests::agent::discover;
use akri_mqtt_tests::clients::Publisher;
use akri_mqtt_tests::handler::{HandlerFlags, HandlerProcess};
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::proxy::{Direction, PacketType, Proxy};
use tonic::Streaming;

const DEVICES: usize = 10_000;
const WILLS: usize = 100;
const STARTS: usize = 10;
const MAX_RESPONSE: &str = "67108864";
/// The server's retained messages count as complete after so long without one.
const SETTLE: Duration = Duration::from_secs(1);

struct Bench {
    directory: tempfile::TempDir,
    server: Mosquitto,
}

impl Bench {
    fn new() -> Self {
        Self {
            directory: tempfile::Builder::new().prefix("akri").tempdir().unwrap(),
            server: Mosquitto::start(Config::new()),
        }
    }

    fn flags(&self) -> HandlerFlags {
        // Of 10,000 devices some Instance names collide; callers that take 64 MiB make longer ones.
        let mut flags = HandlerFlags::below(self.directory.path()).with(&["--collisions", "pass"]);
        flags.log = "info";
        flags
    }

    fn request(&self, address: std::net::SocketAddr, interval: &str) -> DiscoverRequest {
        let details = format!(
            "servers: [{{name: plant-a, urls: ['tcp://{address}']}}]\ntopics: ['robots/{{device}}/joints']\n\
             presence: {{availability: [{{topic: 'robots/{{device}}/status'}}], offlineDelay: 0s}}\n\
             limits: {{publishInterval: {interval}, maxDevices: 20000}}\n"
        );
        let property = ByteData {
            vec: Some(MAX_RESPONSE.into()),
        };
        DiscoverRequest {
            discovery_details: details,
            discovery_properties: [("AKRI_MQTT_MAX_RESPONSE".to_owned(), property)].into(),
        }
    }
}

async fn open(directory: &Path, request: DiscoverRequest) -> Streaming<DiscoverResponse> {
    let socket = directory.join("mqtt-n-0.sock");
    let path = socket.display().to_string();
    loop {
        if socket.exists()
            && let Ok(stream) = discover(&path, EndpointType::Uds, 64 << 20, request.clone()).await
        {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn status(name: usize, payload: &'static str) -> Publish {
    Publish::new(format!("robots/r{name}/status"), payload, QoS::AtLeastOnce).retained()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

async fn first_list() {
    let bench = Bench::new();
    let publisher = Publisher::connect(bench.server.url()).await;
    publisher
        .publish_all((0..DEVICES).map(|n| status(n, "online")))
        .await;
    let link = Proxy::start(bench.server.address()).await.unwrap();
    let _handler = bench.flags().start();
    let mut stream = open(
        bench.directory.path(),
        bench.request(link.address(), "250ms"),
    )
    .await;
    let suback = async {
        while link.packets(Direction::ToClient, PacketType::SubAck) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Instant::now()
    };
    let complete = async {
        let mut responses = 0;
        loop {
            let list = stream.message().await.unwrap().unwrap();
            responses += 1;
            if list.devices.len() == DEVICES {
                return (Instant::now(), responses);
            }
        }
    };
    let (subscribed, (at, responses)) = tokio::join!(suback, complete);
    println!(
        "handler/first-list: {DEVICES} retained announcements listed {:.0} ms after SUBACK (limit {:.0} ms), in {responses} responses (limit 5)",
        millis(at - subscribed),
        millis(SETTLE + Duration::from_secs(1)),
    );
}

async fn last_will() {
    let bench = Bench::new();
    let publisher = Publisher::connect(bench.server.url()).await;
    publisher
        .publish_all((0..=WILLS).map(|n| status(n, "online")))
        .await;
    let _handler = bench.flags().start();
    let interval = Duration::from_millis(250);
    let request = bench.request(bench.server.address(), "250ms");
    let mut stream = open(bench.directory.path(), request).await;
    while stream.message().await.unwrap().unwrap().devices.len() != WILLS + 1 {}
    let mut times = Vec::with_capacity(WILLS);
    for n in 0..WILLS {
        let begin = Instant::now();
        publisher.publish(status(n, "offline")).await;
        let id = format!("plant-a/r{n}");
        loop {
            let list = stream.message().await.unwrap().unwrap();
            if list.devices.iter().all(|device| device.id != id) {
                break;
            }
        }
        times.push(begin.elapsed());
    }
    println!(
        "handler/last-will: median {:.1} ms from its publication to the response (limit {:.0} ms: 5 ms and publishInterval)",
        millis(median(times)),
        millis(interval + Duration::from_millis(5)),
    );
}

async fn memory_and_start() {
    let bench = Bench::new();
    let publisher = Publisher::connect(bench.server.url()).await;
    publisher.publish(status(0, "online")).await;
    let (mut starts, mut resident) = (Vec::new(), 0);
    for _ in 0..STARTS {
        let link = Proxy::start(bench.server.address()).await.unwrap();
        let mut handler: HandlerProcess = bench.flags().start();
        let mut stream = open(
            bench.directory.path(),
            bench.request(link.address(), "250ms"),
        )
        .await;
        while link.packets(Direction::ToClient, PacketType::SubAck) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        starts.push(handler.started.elapsed());
        while stream.message().await.unwrap().unwrap().devices.is_empty() {}
        resident = handler.resident().unwrap_or_default();
        handler.terminate().await;
    }
    println!(
        "handler/start: median {:.0} ms from process start to SUBACK (limit 100 ms)",
        millis(median(starts))
    );
    println!("handler/memory: {resident} KiB resident with one idle device (limit 16384 KiB)");
}

#[tokio::main]
async fn main() {
    first_list().await;
    last_will().await;
    memory_and_start().await;
}
