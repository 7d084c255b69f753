//! The HTTP sink, into a server that counts and misbehaves as it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::Value;

use crate::broker::{Broker, assert_complete, numbers, until};

#[derive(Default)]
pub struct Seen {
    /// Data of the events, in order.
    pub events: Vec<Value>,
    pub requests: Vec<(HeaderMap, Bytes)>,
    times: Vec<Instant>,
    /// Answers for the next requests.
    answers: Vec<StatusCode>,
    retry_after: Option<&'static str>,
    delay: Duration,
    poison: Option<&'static str>,
}

type Shared = Arc<Mutex<Seen>>;

pub struct Receiver {
    pub seen: Shared,
    address: SocketAddr,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let mut receiver = Self {
            seen: Shared::default(),
            address: ([127, 0, 0, 1], 0).into(),
            task: None,
        };
        receiver.restart().await;
        receiver
    }

    pub async fn restart(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let app = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&self.seen));
        // Its end refuses new connections; one that is open is served on.
        let serve = async move { axum::serve(listener, app).await.unwrap() };
        self.task = Some(tokio::spawn(serve));
    }

    pub async fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub fn url(&self, options: &str) -> String {
        format!("http://{}/in?{options}", self.address)
    }

    fn payloads(&self) -> Vec<u32> {
        let seen = self.seen.lock().unwrap();
        let payloads = seen.events.iter().map(|event| &event["payload"]);
        payloads
            .map(|payload| u32::try_from(payload.as_u64().unwrap()).unwrap())
            .collect()
    }

    fn len(&self) -> usize {
        self.seen.lock().unwrap().events.len()
    }
}

async fn receive(State(seen): State<Shared>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let delay = seen.lock().unwrap().delay;
    tokio::time::sleep(delay).await;
    let mut seen = seen.lock().unwrap();
    seen.requests.push((headers.clone(), body.clone()));
    seen.times.push(Instant::now());
    let mut answer = HeaderMap::new();
    if !seen.answers.is_empty() {
        if let Some(value) = seen.retry_after {
            answer.insert("retry-after", value.parse().unwrap());
        }
        return (seen.answers.remove(0), answer);
    }
    let is_poisoned = |poison: &str| String::from_utf8_lossy(&body).contains(poison);
    if seen.poison.is_some_and(is_poisoned) {
        return (StatusCode::BAD_REQUEST, answer);
    }
    let value: Value = serde_json::from_slice(&body).unwrap();
    match value {
        Value::Array(events) => {
            let data = events.into_iter().map(|mut event| event["data"].take());
            seen.events.extend(data);
        }
        mut event if event.get("specversion").is_some() => {
            let data = event["data"].take();
            seen.events.push(data);
        }
        data => seen.events.push(data),
    }
    (StatusCode::NO_CONTENT, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_arrive_over_refusals_and_a_kill_of_the_monitoring_broker() {
    let mut receiver = Receiver::start().await;
    let mut broker = Broker::start(&[receiver.url("batch=100")], &[]).await;
    broker.publish(numbers(0..3_000));
    until("some arrive", || receiver.len() > 500).await;
    receiver.end().await;
    broker.publish(numbers(3_000..6_000));
    receiver.seen.lock().unwrap().answers = vec![StatusCode::SERVICE_UNAVAILABLE; 3];
    receiver.restart().await;
    until("it goes on", || receiver.len() > 3_500).await;
    broker.kill().await;
    broker.publish(numbers(6_000..10_000));
    until("all", || receiver.payloads().contains(&9_999)).await;
    assert_complete(&receiver.payloads(), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_cloudevents_in_each_mode() {
    let receiver = Receiver::start().await;
    let modes = ["batch", "structured", "binary"];
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "t0ken\n").unwrap();
    let sinks = modes.map(|mode| {
        let file = token.path().display();
        receiver.url(&format!("mode={mode}&name={mode}&token-file={file}"))
    });
    let broker = Broker::start(&sinks, &[]).await;
    broker.publish_bytes("robots/r1/grün x", br#"{"t":1}"#);
    until("all three", || receiver.len() == 3).await;
    let seen = receiver.seen.lock().unwrap();
    let mut found: BTreeMap<String, (HeaderMap, Value)> = BTreeMap::new();
    for (headers, body) in &seen.requests {
        assert_eq!(headers["authorization"], "Bearer t0ken");
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        found.insert(
            kind,
            (headers.clone(), serde_json::from_slice(body).unwrap()),
        );
    }
    let batch = &found["application/cloudevents-batch+json; charset=utf-8"].1[0];
    assert_eq!(batch["specversion"], "1.0");
    assert_eq!(batch["type"], "sh.akri.mqtt.message.v1");
    assert_eq!(batch["source"], "/v1/devices/plant-a%2Fr1");
    assert_eq!(batch["subject"], "robots/r1/grün x");
    assert_eq!(batch["id"], batch["data"]["cursor"]);
    assert_eq!(batch["time"], batch["data"]["received_at"]);
    assert_eq!(batch["data"]["payload"]["t"], 1);
    let single = &found["application/cloudevents+json; charset=utf-8"].1;
    assert_eq!(
        (&single["id"], &single["type"]),
        (&batch["id"], &batch["type"])
    );
    let (headers, data) = &found["application/json"];
    assert_eq!(headers["ce-id"], batch["id"].as_str().unwrap());
    assert_eq!(headers["ce-subject"], "robots/r1/gr%C3%BCn%20x");
    assert_eq!(data["cursor"], batch["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_is_refused_is_left_out_and_those_around_it_arrive() {
    let receiver = Receiver::start().await;
    {
        let mut seen = receiver.seen.lock().unwrap();
        seen.answers = vec![StatusCode::BAD_GATEWAY; 2];
        seen.poison = Some("poison");
    }
    let broker = Broker::start(&[receiver.url("")], &[]).await;
    let lines = numbers(0..100)
        .chain(["poison".to_owned()])
        .chain(numbers(100..200));
    broker.publish(lines);
    until("all", || receiver.payloads().contains(&199)).await;
    assert_complete(&receiver.payloads(), 200);
    assert_eq!(broker.metric("sink_refused_total"), 1.0);
    let requests = receiver.seen.lock().unwrap().requests.len();
    assert!(requests < 60, "{requests} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_kept() {
    let receiver = Receiver::start().await;
    {
        let mut seen = receiver.seen.lock().unwrap();
        seen.answers = vec![StatusCode::TOO_MANY_REQUESTS];
        seen.retry_after = Some("3");
    }
    let broker = Broker::start(&[receiver.url("")], &[]).await;
    broker.publish(numbers(0..10));
    until("all", || receiver.len() == 10).await;
    let times = receiver.seen.lock().unwrap().times.clone();
    assert!(
        times[1] - times[0] >= Duration::from_millis(2_900),
        "{times:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_sink_does_not_slow_ingestion() {
    let receiver = Receiver::start().await;
    let time = async |sinks: &[String]| {
        let broker = Broker::start(sinks, &[]).await;
        let started = Instant::now();
        broker.publish(numbers(0..10_000));
        until("stored", || {
            broker.metric("store_messages_total") == 10_000.0
        })
        .await;
        (started.elapsed(), broker)
    };
    let (alone, _) = time(&[]).await;
    receiver.seen.lock().unwrap().delay = Duration::from_secs(1);
    let (slow, broker) = time(&[receiver.url("batch=10")]).await;
    println!("10,000 messages stored in {alone:?} without a sink, in {slow:?} with a slow one");
    until("lag", || broker.metric("sink_lag_messages") > 9_000.0).await;
    assert!(
        slow < alone * 3 + Duration::from_secs(3),
        "{slow:?} instead of {alone:?}"
    );
}
