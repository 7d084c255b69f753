//! The HTTP front over real sockets: envelopes, forms, problems.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::access::PortName;
use crate::api::testing::{Bench, listener, open_port};
use crate::store::Properties;

pub(super) struct Server {
    pub(super) bench: Bench,
    pub(super) address: SocketAddr,
    pub(super) health: Health,
    pub(super) task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::over(Bench::new()).await
    }

    pub(super) async fn over(bench: Bench) -> Self {
        let (listener, address) = listener().await;
        let health = Health::new();
        let registry = akri_mqtt_runtime::metrics::registry("test", SystemTime::now());
        let (port, gate) = open_port(PortName::Http, listener);
        let service = bench.service.clone();
        let served = run(port, service, health.clone(), Arc::new(registry), gate);
        Self {
            bench,
            address,
            health,
            task: tokio::spawn(served),
        }
    }

    /// Status, headers and body of one request.
    pub(super) async fn ask(&self, method: &str, target: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    pub(super) async fn get(&self, target: &str) -> Value {
        let (status, head, body) = self.ask("GET", target).await;
        assert_eq!(status, 200, "{target}: {body}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        serde_json::from_str(&body).unwrap()
    }

    pub(super) async fn problem(&self, method: &str, target: &str) -> (u16, Value) {
        let (status, head, body) = self.ask(method, target).await;
        assert!(
            head.contains("content-type: application/problem+json"),
            "{head}"
        );
        assert!(head.contains("cache-control: no-store"), "{head}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].is_string() && problem["title"].is_string());
        (status, problem)
    }
}

#[tokio::test]
async fn devices_are_in_an_envelope_and_in_pages() {
    let server = Server::start().await;
    let page = server.get("/v1/devices?limit=1").await;
    let expected = json!({
        "id": "plant-a/r1", "name": "r1", "server": "plant-a", "topics": ["robots/r1/#"],
        "presence": {
            "state": "online", "since": "2025-01-01T00:00:00.000000000Z", "reason": "It sent a message.",
            "last_message_at": null, "server_connected": true, "watched": true,
        },
    });
    assert_eq!(page["devices"], json!([expected]));
    let token = page["next_page_token"].as_str().unwrap();
    let page = server.get(&format!("/v1/devices?page_token={token}")).await;
    assert_eq!(page["devices"][0]["id"], "plant-a/r2");
    assert!(page.get("next_page_token").is_none());
    assert_eq!(
        page["counts"],
        json!({"online": 2, "offline": 0, "unknown": 0})
    );
    assert_eq!(
        page["servers"],
        json!([{"name": "plant-a", "connected": true}])
    );
    assert_eq!(server.get("/v1/devices/plant-a%2Fr1").await, expected);
}

#[tokio::test]
async fn devices_and_messages_are_searched() {
    let server = Server::start().await;
    let page = server.get("/v1/devices?search=R2&state=online").await;
    assert_eq!(page["devices"][0]["id"], "plant-a/r2");
    assert_eq!(page["devices"].as_array().unwrap().len(), 1);
    let (status, problem) = server.problem("GET", "/v1/devices?state=ill").await;
    assert_eq!((status, &problem["field"]), (400, &json!("state")));
    for payload in ["Door open", "door closed", "{\"window\":\"OPEN\"}"] {
        server.bench.send("r1", "t", payload).await;
    }
    let page = server
        .get("/v1/devices/plant-a%2Fr1/messages?text=open&limit=1")
        .await;
    assert_eq!(page["messages"][0]["payload"]["window"], "OPEN");
    let token = page["next_page_token"].as_str().unwrap();
    let target = format!("/v1/devices/plant-a%2Fr1/messages?text=open&limit=1&page_token={token}");
    let page = server.get(&target).await;
    assert_eq!(page["messages"][0]["payload"], "Door open");
    assert!(page.get("next_page_token").is_none());
}

#[tokio::test]
async fn the_dashboard_is_at_the_root_and_its_files_below_assets() {
    let server = Server::start().await;
    let (status, head, body) = server.ask("GET", "/").await;
    assert_eq!(status, 200);
    assert!(body.starts_with("<!doctype html>"), "{body}");
    for expected in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-cache",
        "vary: accept-encoding",
        "etag: w/\"",
    ] {
        assert!(head.contains(expected), "{expected} in {head}");
    }
    let (status, head, _) = server
        .ask("GET", "/assets/vendor/uplot/uPlot.iife.min.js")
        .await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/javascript; charset=utf-8"));
    for target in [
        "/assets/nothing.js",
        "/assets/..%2fCargo.toml",
        "/assets/vendor/uplot/LICENSE",
    ] {
        assert_eq!(server.problem("GET", target).await.0, 404, "{target}");
    }
    assert_eq!(server.problem("POST", "/").await.0, 405);
}

#[tokio::test]
async fn message_has_every_field_of_the_vocabulary() {
    let server = Server::start().await;
    let mut arrival = server
        .bench
        .arrival("r1", "a/b", r#"{"t": 21.5, "n": 9007199254740993}"#);
    arrival.duplicate = true;
    arrival.properties = Some(Box::new(Properties {
        content_type: Some("application/json".to_owned()),
        user: vec![("k".to_owned(), "v".to_owned())],
        response_topic: Some("r".to_owned()),
        correlation_data: Some(vec![0xff].into()),
    }));
    server.bench.service.store.append(arrival).await.unwrap();
    server.bench.service.store.sync().await.unwrap();
    let answer = server
        .get("/v1/devices/plant-a%2Fr1/latest?topic=a/+")
        .await;
    let mut message = answer["messages"][0].clone();
    assert!(message["age_ms"].take().as_i64().unwrap() > 0);
    assert_eq!(
        message,
        json!({
            "cursor": server.bench.cursor(1), "sequence": 1, "device_id": "plant-a/r1", "topic": "a/b",
            "payload": {"t": 21.5, "n": "9007199254740993"}, "payload_encoding": "json",
            "qos": 1, "retained": false, "duplicate": true,
            "received_at": "2025-01-01T00:00:00.000000000Z", "age_ms": null,
            "readings": [{"name": "/n", "value": "9007199254740993"}, {"name": "/t", "value": 21.5}],
            "content_type": "application/json", "user_properties": [{"name": "k", "value": "v"}],
            "response_topic": "r", "correlation_data": "/w==",
        })
    );
}

#[tokio::test]
async fn history_is_bounded_by_time_and_order_and_goes_on_with_its_token() {
    let server = Server::start().await;
    for number in 0..6 {
        server.bench.send("r1", "t", number.to_string()).await;
    }
    let payloads = |page: &Value| -> Vec<i64> {
        let messages = page["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["payload"].as_i64().unwrap())
            .collect()
    };
    let target = "/v1/devices/plant-a%2Fr1/messages?from=2025-01-01T00:00:01Z&to=1735689605.5&order=asc&limit=3";
    let page = server.get(target).await;
    assert_eq!(payloads(&page), [1, 2, 3]);
    let token = page["next_page_token"].as_str().unwrap();
    let page = server.get(&format!("{target}&page_token={token}")).await;
    assert_eq!(payloads(&page), [4, 5]);
    assert!(page.get("next_page_token").is_none());
    let readings = server
        .get("/v1/devices/plant-a%2Fr1/readings?name=&min=2&max=3")
        .await;
    let values: Vec<_> = readings["readings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["value"])
        .collect();
    assert_eq!(values, [3, 2]);
}

/// Request, parameter, part of the detail.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "messages?limt=5",
        "limt",
        "allowed: topic, text, from, to, order, limit, page_token",
    ),
    ("messages?limit=0", "limit", "found 0, allowed: 1 to 10000"),
    (
        "messages?limit=10001",
        "limit",
        "found 10001, allowed: 1 to 10000",
    ),
    (
        "messages?limit=x",
        "limit",
        "found \"x\", allowed: 1 to 10000",
    ),
    ("messages?limit=1&limit=2", "limit", "found it twice"),
    (
        "messages?from=yesterday",
        "from",
        "found \"yesterday\", allowed: RFC 3339",
    ),
    ("messages?from=20&to=10", "to", "allowed: not before `from`"),
    (
        "messages?order=up",
        "order",
        "found \"up\", allowed: desc or asc",
    ),
    ("messages?topic=a/%23/b", "topic", "an MQTT topic filter"),
    ("messages?topic=%ff", "topic", "not UTF-8"),
    ("messages?page_token=x", "page_token", "next_page_token"),
    (
        "readings?min=NaN",
        "min",
        "found NaN, allowed: a finite number",
    ),
    (
        "readings?max=hot",
        "max",
        "found \"hot\", allowed: a number",
    ),
    (
        "readings?min=5&max=1",
        "max",
        "found 1, allowed: at least the lower bound, which is 5",
    ),
    ("latest?limit=5", "limit", "allowed: topic"),
    (
        "stream?last_event_id=x",
        "last_event_id",
        "<store_id>:<sequence>",
    ),
    (
        "stream?presence=no",
        "presence",
        "found \"no\", allowed: true or false",
    ),
];

#[tokio::test]
async fn wrong_parameters_are_problems_that_name_them() {
    let server = Server::start().await;
    for (rest, field, text) in WRONG {
        let target = format!("/v1/devices/plant-a%2Fr1/{rest}");
        let (status, problem) = server.problem("GET", &target).await;
        assert_eq!((status, &problem["field"]), (400, &json!(*field)), "{rest}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(text), "{rest}: {detail}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let server = Server::start().await;
    for rest in ["", "/latest", "/messages", "/readings", "/stream"] {
        let target = format!("/v1/devices/plant-a%2Fnone{rest}");
        let (status, problem) = server.problem("GET", &target).await;
        assert_eq!(
            (status, &problem["title"]),
            (404, &json!("Unknown device")),
            "{rest}"
        );
        assert!(problem["detail"].as_str().unwrap().contains("plant-a/none"));
    }
    let (status, problem) = server.problem("GET", "/v1/devices/plant-a/r1").await;
    assert_eq!((status, &problem["title"]), (404, &json!("Unknown path")));
    assert!(problem["detail"].as_str().unwrap().contains("%2F"));
}

#[tokio::test]
async fn wrong_methods_and_long_urls_are_problems() {
    let server = Server::start().await;
    for path in ["/v1/devices", "/v1/stream", "/livez"] {
        let (status, head, _) = server.ask("DELETE", path).await;
        assert_eq!(status, 405);
        assert!(head.contains("allow: get,head"), "{head}");
        assert_eq!(
            server.problem("DELETE", path).await.1["title"],
            "Method not allowed"
        );
    }
    let long = format!("/v1/devices?page_token={}", "x".repeat(65_300));
    let (status, problem) = server.problem("GET", &long).await;
    assert_eq!((status, &problem["title"]), (414, &json!("URL too long")));
}

#[tokio::test]
async fn probes_and_metrics_are_served_beside_the_api_and_no_other_site_may_read() {
    let server = Server::start().await;
    assert_eq!(server.ask("GET", "/livez").await.0, 200);
    let condition = server.health.condition("subscribed", "not yet");
    assert_eq!(server.ask("GET", "/readyz").await.0, 503);
    condition.ready("all");
    assert_eq!(server.ask("GET", "/readyz").await.0, 200);
    assert!(server.ask("GET", "/metrics").await.2.ends_with("# EOF\n"));
    let (_, head, _) = server.ask("GET", "/v1/devices").await;
    assert!(!head.contains("access-control"), "{head}");
}
