//! Many devices at once: few responses, none larger than its limit, and nobody who is listed is put out by newcomers.
//! `tests/bench/scale` does the same with a million.

#![allow(
    clippy::unwrap_used,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "helpers of a test"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use akri_mqtt_core::details::QoS;
use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::{ByteData, DiscoverRequest};
use akri_mqtt_session::Publish;
use akri_mqtt_tests::agent::discover;
use akri_mqtt_tests::clients::Publisher;
use akri_mqtt_tests::handler::HandlerProcess;
use akri_mqtt_tests::http;
use akri_mqtt_tests::scene::{Scene, details, status_of};

const DEVICES: usize = 20_000;
const BURST: usize = 5_000;
/// What a response may have; some hundred devices.
const LIMIT: usize = 400_000;
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);
/// Within which all of it happens on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// The lists of one Discover call, whose caller takes no larger response.
#[derive(Clone, Default)]
struct Lists(Arc<Mutex<Vec<Vec<String>>>>);

impl Lists {
    async fn of(scene: &Scene, details: &str) -> Self {
        let limit = ByteData {
            vec: Some(LIMIT.to_string().into_bytes().into()),
        };
        let request = DiscoverRequest {
            discovery_details: details.to_owned(),
            discovery_properties: [("AKRI_MQTT_MAX_RESPONSE".to_owned(), limit)].into(),
        };
        let socket = scene.directory().join("mqtt-n-0.sock");
        let socket = socket.display().to_string();
        let mut stream = discover(&socket, EndpointType::Uds, LIMIT, request)
            .await
            .unwrap();
        let lists = Self::default();
        let filled = lists.clone();
        tokio::spawn(async move {
            while let Ok(Some(list)) = stream.message().await {
                let ids = list.devices.into_iter().map(|device| device.id).collect();
                filled.0.lock().unwrap().push(ids);
            }
        });
        lists
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn last(&self) -> Vec<String> {
        self.0.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// That none of the lists after the first so many has lost a device, and all are sorted.
    fn assert_only_growing(&self, from: usize) {
        let lists = self.0.lock().unwrap();
        for pair in lists.get(from..).unwrap().windows(2) {
            let [before, after] = pair else {
                unreachable!()
            };
            assert!(after.is_sorted());
            let after: BTreeSet<&String> = after.iter().collect();
            assert!(before.iter().all(|id| after.contains(id)));
        }
    }
}

/// Asks `livez` all the time.
struct Prober {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<usize>,
}

impl Prober {
    fn start(handler: &HandlerProcess) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(AtomicUsize::new(0));
        let (admin, stopped, failures) = (handler.admin(), Arc::clone(&stop), Arc::clone(&failed));
        let thread = std::thread::spawn(move || {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = http::get_within(admin, "/livez", Duration::from_secs(10));
                if answer.is_none_or(|(status, _)| status != 200) {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
                asked += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            asked
        });
        Self {
            stop,
            failed,
            thread,
        }
    }

    fn assert_always_answered(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.thread.join().unwrap() > 0);
        assert_eq!(self.failed.load(Ordering::Relaxed), 0);
    }
}

async fn announce(publisher: &Publisher, devices: std::ops::Range<usize>, payload: &'static str) {
    let message = |n| Publish {
        topic: status_of(&format!("d{n:05}")),
        payload: payload.into(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: None,
    };
    publisher.publish_all(devices.map(message)).await;
}

async fn published(handler: &HandlerProcess, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = handler.presence("?devices=false");
        if view["requests"][0]["published"] == count {
            return;
        }
        assert!(Instant::now() < deadline, "never {count} devices: {view}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One response for each `publishInterval`, and what is repeated after the first one and after a comeback.
fn few(began: Instant) -> usize {
    let intervals = began.elapsed().as_millis() / PUBLISH_INTERVAL.as_millis();
    usize::try_from(intervals).unwrap() + 4
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_devices_that_come_and_go_is_few_bounded_responses_and_puts_nobody_out() {
    let scene = Scene::start();
    let mut handler = scene.handler().await;
    let details = details(scene.server.address(), "  maxDevices: 1000000\n");
    let began = Instant::now();
    let lists = Lists::of(&scene, &details).await;
    handler
        .wait_for("it is subscribed", |_| lists.count() > 0)
        .await;
    let prober = Prober::start(&handler);
    let publisher = Publisher::connect(scene.server.url()).await;

    announce(&publisher, 0..DEVICES, "online").await;
    published(&handler, DEVICES).await;
    handler
        .wait_for("the list is full", |handler| {
            handler.metric("list_missing_bytes").unwrap_or(0.0) > 0.0 && lists.last().len() > 100
        })
        .await;
    lists.assert_only_growing(0);
    assert!(lists.count() <= few(began), "{} lists", lists.count());
    let listed = lists.last();
    assert!(listed.len() < BURST, "{}", listed.len());
    assert!(handler.metric("list_bytes").unwrap() <= 400_000.0);
    let ready = handler.get("/readyz").1;
    for told in [
        "not listed, such as",
        "bytes more than 400000",
        "share out the topics",
    ] {
        assert!(ready.contains(told), "{told}: {ready}");
    }
    let known = handler.presence("");
    let devices = known["requests"][0]["devices"].as_array().unwrap();
    assert_eq!(devices.len(), DEVICES);
    assert!(devices.is_sorted_by_key(|device| device["device"].as_str()));

    // All that are listed are among them.
    let (before, began) = (lists.count(), Instant::now());
    announce(&publisher, 0..BURST, "offline").await;
    published(&handler, DEVICES - BURST).await;
    handler
        .wait_for("others are listed", |_| {
            let now = lists.last();
            now.len() > 100 && now.iter().all(|id| id.as_str() >= "plant-a/d05000")
        })
        .await;
    let responses = lists.count() - before;
    assert!(responses <= few(began), "{responses} lists");
    prober.assert_always_answered();

    // Who was listed is listed after a crash as well, although most wait.
    let listed = lists.last();
    handler
        .wait_for("the roster is written", |_| {
            scene.saved("d19999") && !scene.saved("d04999")
        })
        .await;
    handler.kill();
    let again = scene.handler().await;
    let lists = Lists::of(&scene, &details).await;
    again.wait_for("a list", |_| lists.count() > 0).await;
    assert!(lists.last() == listed, "others are listed than before");
}
