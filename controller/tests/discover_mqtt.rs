//! Discovery with the real discovery handler and a real MQTT server.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use akri_mqtt_controller::discover::{Demand, Discovery, DiscoveryState, Finding, Metrics, Parts};
use akri_mqtt_controller::handlers::Handlers;
use akri_mqtt_controller::model::ConfigurationKey;
use akri_mqtt_controller::registration::{self, Socket};
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_tests::devices::{Device, client_ids, connects};
use akri_mqtt_tests::handler::{HandlerFlags, HandlerProcess};
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::scene::{details, status_of};
use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::json;
use tempfile::TempDir;

/// The containers of a controller's pod.
struct Pod {
    handlers: Handlers,
    handler: HandlerProcess,
    flags: HandlerFlags,
    discovery: Option<Discovery>,
    shutdown: Shutdown,
    _directory: TempDir,
}

fn key() -> ConfigurationKey {
    ConfigurationKey {
        namespace: "plant".into(),
        name: "robots".into(),
    }
}

impl Pod {
    async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("akri").tempdir().unwrap();
        let (handlers, shutdown) = (Handlers::new(Metrics::default()), Shutdown::new());
        let socket = Socket::bind(directory.path()).await.unwrap();
        let serving = registration::serve(socket, handlers.clone(), shutdown.clone());
        tokio::spawn(serving);
        let state = directory.path().join("state");
        std::fs::create_dir(&state).unwrap();
        // The chart gives every pod of a release the same one.
        std::fs::write(state.join("cluster-id"), "0123abcd").unwrap();
        let flags = HandlerFlags::below(directory.path())
            .instance("release")
            .with(&["--idle", "2s"]);
        let handler = flags.start();
        handler.wait_for_log("registered with the Agent").await;
        Self {
            handlers,
            handler,
            flags,
            discovery: None,
            shutdown,
            _directory: directory,
        }
    }

    /// Becomes the leader.
    fn reign(&mut self, demand: &Demand) {
        let nothing = tower::service_fn(|_: Request<kube::client::Body>| async {
            let answer = Response::builder().status(503).body(Body::empty());
            Ok::<_, Infallible>(answer.unwrap())
        });
        let status = format!("http://{}", self.handler.admin());
        let discovery = Discovery::start(Parts {
            handlers: self.handlers.clone(),
            client: kube::Client::new(nothing, "default"),
            allowed_secret_namespaces: BTreeSet::new(),
            handler_status: Some(status.parse().unwrap()),
            metrics: Metrics::default(),
        });
        discovery.want(BTreeMap::from([(key(), demand.clone())]));
        self.discovery = Some(discovery);
    }

    async fn abdicate(&mut self) {
        self.discovery.take().unwrap().stop().await;
    }

    fn want(&self, demand: &Demand) {
        let discovery = self.discovery.as_ref().unwrap();
        discovery.want(BTreeMap::from([(key(), demand.clone())]));
    }

    fn finding(&self) -> Option<Finding> {
        self.discovery.as_ref()?.finding(&key())
    }

    fn ids(&self) -> Vec<String> {
        let devices = self.finding().and_then(|finding| finding.devices);
        let devices = devices.unwrap_or_default();
        devices.keys().map(ToString::to_string).collect()
    }

    fn reached(&self) -> Option<bool> {
        Some(self.finding()?.servers?.all_connected())
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            let finding = self.finding();
            let log = self.handler.log();
            assert!(
                Instant::now() < end,
                "not in time: {what}; {finding:?}\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn demand(server: &Mosquitto, properties: serde_json::Value) -> Demand {
    Demand {
        handler: "mqtt".to_owned(),
        details: details(server.address(), ""),
        properties: serde_json::from_value(properties).unwrap(),
    }
}

fn robot(server: &Mosquitto, name: &str) -> Device {
    Device::start(server, &format!("robot-{name}"), &status_of(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_stay_through_the_end_of_server_and_handler_and_the_reason_is_told() {
    let mut server = Mosquitto::start(Config::new().persistent());
    let mut pod = Pod::start().await;
    let demand = demand(&server, json!([]));
    let _a = robot(&server, "a");
    pod.reign(&demand);
    pod.until("the device", |pod| pod.ids() == ["plant-a/a"])
        .await;
    let found = pod.finding().unwrap().devices.unwrap();
    assert_eq!(
        found["plant-a/a"].properties.get("MQTT_DEVICE_ID"),
        Some("plant-a/a")
    );
    pod.until("the server is reached", |pod| pod.reached() == Some(true))
        .await;
    server.stop();
    pod.until("the server is not reached", |pod| {
        pod.reached() == Some(false)
    })
    .await;
    let report = pod.finding().unwrap().servers.unwrap();
    assert!(report.servers[0].error.is_some(), "{report:?}");
    assert_eq!(pod.ids(), ["plant-a/a"]);
    let stream = pod.finding().unwrap().stream;
    pod.handler.kill();
    pod.until("the stream is closed", |pod| {
        pod.finding().unwrap().state != DiscoveryState::Open
    })
    .await;
    assert_eq!(pod.ids(), ["plant-a/a"]);
    pod.handler = pod.flags.start();
    pod.until("the next stream", |pod| {
        pod.finding().unwrap().stream > stream
    })
    .await;
    assert_eq!(pod.ids(), ["plant-a/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leaders_handler_takes_the_session_over_without_a_fight() {
    let server = Mosquitto::start(Config::new().persistent());
    let (mut first, mut second) = (Pod::start().await, Pod::start().await);
    let demand = demand(&server, json!([]));
    let _a = robot(&server, "a");
    first.reign(&demand);
    first
        .until("the device", |pod| pod.ids() == ["plant-a/a"])
        .await;
    let ids = client_ids(&server, "akri-mqtt");
    assert_eq!(ids.len(), 1, "{ids:?}");
    // The worst order: the second one asks while the first one's session is still there.
    first.abdicate().await;
    second.reign(&demand);
    second
        .until("the device", |pod| pod.ids() == ["plant-a/a"])
        .await;
    first
        .until("the first one lets go", |pod| {
            pod.handler.presence("")["requests"] == json!([])
        })
        .await;
    let (fought, connected) = (connects(&server, &ids[0]), Instant::now());
    assert!(fought <= 6, "{fought} connects");
    second
        .until("it stays connected", |pod| {
            pod.reached() == Some(true) && connected.elapsed() > Duration::from_secs(3)
        })
        .await;
    assert!(connects(&server, &ids[0]) <= fought + 1);
    assert_eq!(client_ids(&server, "akri-mqtt"), ids);
    assert_eq!(second.ids(), ["plant-a/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_keeps_session_and_devices() {
    let config = Config::new()
        .persistent()
        .user("u", "old")
        .user("robot", "r");
    let server = Mosquitto::start(config.user("v", "new").line("allow_anonymous true"));
    let mut pod = Pod::start().await;
    let credentials = |user: &str, password: &str| json!([{"name": "MQTT_USERNAME", "value": user}, {"name": "MQTT_PASSWORD", "value": password}]);
    let _a = robot(&server, "a");
    pod.reign(&demand(&server, credentials("u", "old")));
    pod.until("the device", |pod| pod.ids() == ["plant-a/a"])
        .await;
    let ids = client_ids(&server, "akri-mqtt");
    let stream = pod.finding().unwrap().stream;
    pod.want(&demand(&server, credentials("v", "new")));
    pod.until("the next stream", |pod| {
        pod.finding().unwrap().stream > stream
    })
    .await;
    assert_eq!(pod.ids(), ["plant-a/a"]);
    let twice = |pod: &Pod| connects(&server, &ids[0]) == 2 && pod.reached() == Some(true);
    pod.until("the session goes on with the new password", twice)
        .await;
    assert_eq!(client_ids(&server, "akri-mqtt"), ids);
    assert_eq!(pod.ids(), ["plant-a/a"]);
}
