//! A monitor in this process on a real Mosquitto: many devices, the end of a session, what is counted.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use akri_mqtt_core::credentials::Credentials;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_monitoring_broker::{Monitor, MonitorOptions};
use akri_mqtt_runtime::{Health, Shutdown, Tasks, metrics};
use tokio::sync::watch;

mod support;
use support::Mosquitto;

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Bench {
    server: Mosquitto,
    monitor: Monitor,
    registry: metrics::Registry,
    credentials: watch::Receiver<Credentials>,
    _source: watch::Sender<Credentials>,
    _data: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let server = Mosquitto::start("", "");
        let data = tempfile::tempdir().unwrap();
        let tasks = Arc::new(Tasks::new(Shutdown::new()));
        let options = MonitorOptions::new(data.path());
        let monitor = Monitor::open(options, Health::new(), tasks).await.unwrap();
        let mut registry = metrics::registry("test", SystemTime::now());
        monitor.register(&mut registry);
        let (source, credentials) = watch::channel(Credentials::default());
        Self {
            server,
            monitor,
            registry,
            credentials,
            _source: source,
            _data: data,
        }
    }

    async fn add(&self, name: &str) {
        let variables = BTreeMap::from([
            ("MQTT_DEVICE_ID".to_owned(), format!("plant/{name}")),
            (
                "MQTT_SERVER_URLS".to_owned(),
                format!("tcp://127.0.0.1:{}", self.server.port),
            ),
            ("MQTT_TOPICS".to_owned(), format!("[\"d/{name}/#\"]")),
        ]);
        let device = DeviceSpec::from_env(variables).unwrap().remove(0);
        let credentials = self.credentials.clone();
        self.monitor.add(device, credentials).await.unwrap();
    }

    fn text(&self) -> String {
        metrics::encode(&self.registry).unwrap()
    }

    /// The value of a metric with its labels.
    fn value(&self, metric: &str) -> u64 {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(metric));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    async fn until(&self, metric: &str, value: u64) {
        eventually(&format!("{metric} {value}"), || self.value(metric) == value).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_devices_added_one_after_the_other_are_all_heard_soon() {
    let bench = Bench::start().await;
    let started = Instant::now();
    for number in 0..200 {
        bench.add(&format!("r{number}")).await;
    }
    eventually("the last device is heard", || {
        bench.server.publish("d/r199/state", "x");
        bench.value("akri_mqtt_store_messages_total") > 0
    })
    .await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    println!("200 devices took {took:?}");
    bench.monitor.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_without_devices_is_unsubscribed_and_its_counters_stay() {
    let bench = Bench::start().await;
    bench.add("r1").await;
    bench
        .until("akri_mqtt_connected{server=\"plant\"}", 1)
        .await;
    eventually("a message is stored", || {
        bench.server.publish("d/r1/state", "before");
        bench.value("akri_mqtt_store_messages_total") > 0
    })
    .await;
    let device = bench.monitor.service().devices.after(None, 1).remove(0);
    let id = akri_mqtt_core::identity::DeviceId::parse(&device.id).unwrap();
    bench.monitor.remove(&id).await.unwrap();
    bench
        .until("akri_mqtt_connected{server=\"plant\"}", 0)
        .await;
    let heard = bench.value("akri_mqtt_messages_received_total{server=\"plant\",qos=\"1\"}");
    assert!(heard > 0, "{}", bench.text());
    for _ in 0..5 {
        bench.server.publish("d/r1/state", "nobody is there");
    }
    let stored = bench.value("akri_mqtt_store_messages_total");
    bench.add("r1").await;
    eventually("a message after the return is stored", || {
        bench.server.publish("d/r1/state", "after");
        bench.value("akri_mqtt_store_messages_total") > stored
    })
    .await;
    let text = bench.text();
    for line in [
        "akri_mqtt_connects_total{server=\"plant\",result=\"ok\"} 2",
        "akri_mqtt_session_lost_total{server=\"plant\"} 0",
        "akri_mqtt_messages_skipped_total{server=\"plant\",reason=\"duplicate\"} 0",
        "akri_mqtt_decode_errors_total{decoder=\"json\"} 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    let stored = bench.monitor.service().store.read(|reader| {
        let blocks = reader.blocks_after(0)?;
        let records = blocks.iter().flat_map(|block| block.records());
        records
            .map(|record| Ok(String::from_utf8_lossy(&record?.1.payload).into_owned()))
            .collect::<Result<Vec<_>, _>>()
    });
    let stored = stored.await.unwrap();
    assert!(
        !stored.iter().any(|payload| payload == "nobody is there"),
        "{stored:?}"
    );
    bench.monitor.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_goes_is_not_waited_for_while_its_server_is_frozen() {
    let bench = Bench::start().await;
    bench.add("r1").await;
    let connected = "akri_mqtt_connected{server=\"plant\"}";
    bench.until(connected, 1).await;
    let device = bench.monitor.service().devices.after(None, 1).remove(0);
    let id = akri_mqtt_core::identity::DeviceId::parse(&device.id).unwrap();
    bench.server.freeze();
    bench.monitor.remove(&id).await.unwrap();
    // Its session waits for the answer to its UNSUBSCRIBE.
    assert_eq!(bench.value(connected), 1);
    bench.server.thaw();
    // The next one has its client id, and comes after it.
    bench.add("r1").await;
    let connects = "akri_mqtt_connects_total{server=\"plant\",result=\"ok\"}";
    bench.until(connects, 2).await;
    bench.until(connected, 1).await;
    let lost = bench.value("akri_mqtt_session_lost_total{server=\"plant\"}");
    assert_eq!(lost, 0, "{}", bench.text());
    bench.monitor.close().await.unwrap();
}
