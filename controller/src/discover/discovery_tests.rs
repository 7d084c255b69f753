use std::path::Path;
use std::time::{Duration, Instant};

use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::registration_client::RegistrationClient;
use akri_mqtt_proto::akri::{Device, RegisterDiscoveryHandlerRequest};
use akri_mqtt_runtime::Shutdown;
use serde_json::json;
use tonic::Status;
use tonic::transport::Endpoint as Target;

use super::testing::{Conduct, FakeApi, FakeHandler, devices, until};
use super::*;
use crate::registration::{self, Socket};

/// A controller's discovery with everything around it.
struct Scene {
    directory: tempfile::TempDir,
    shutdown: Shutdown,
    api: FakeApi,
    handlers: Handlers,
    metrics: Metrics,
    discovery: Discovery,
}

fn key(name: &str) -> ConfigurationKey {
    ConfigurationKey {
        namespace: "plant".into(),
        name: name.into(),
    }
}

fn demand(details: &str, properties: serde_json::Value) -> Demand {
    Demand {
        handler: "mqtt".to_owned(),
        details: details.to_owned(),
        properties: serde_json::from_value(properties).unwrap(),
    }
}

fn password() -> serde_json::Value {
    let selector = json!({"name": "s", "key": "p"});
    json!([{"name": "MQTT_PASSWORD", "valueFrom": {"secretKeyRef": selector}}])
}

async fn register(directory: &Path, endpoint: &str) -> Result<(), Status> {
    let socket = directory.join(registration::SOCKET);
    let target = Target::from_shared(format!("unix:{}", socket.display())).unwrap();
    let mut client = RegistrationClient::new(target.connect().await.unwrap());
    let request = RegisterDiscoveryHandlerRequest {
        name: "mqtt".to_owned(),
        endpoint: endpoint.to_owned(),
        endpoint_type: EndpointType::Uds.into(),
        shared: true,
    };
    client.register_discovery_handler(request).await.map(drop)
}

impl Scene {
    /// The Secret that the password is in has this value, in base64.
    fn keeps(&self, password: &str) {
        self.api
            .put("plant/secrets/s", "Secret", json!({"p": password}));
    }

    async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("akri").tempdir().unwrap();
        let (shutdown, api) = (Shutdown::new(), FakeApi::new());
        let metrics = Metrics::default();
        let handlers = Handlers::new(metrics.clone());
        let socket = Socket::bind(directory.path()).await.unwrap();
        tokio::spawn(registration::serve(
            socket,
            handlers.clone(),
            shutdown.clone(),
        ));
        let discovery = discovery(&handlers, &api);
        Self {
            directory,
            shutdown,
            api,
            handlers,
            metrics,
            discovery,
        }
    }

    /// Starts a handler and registers it.
    async fn handler(&self, name: &str) -> FakeHandler {
        let handler = FakeHandler::start(self.directory.path().join(format!("{name}.sock")));
        self.register(&handler).await;
        handler
    }

    async fn register(&self, handler: &FakeHandler) {
        let endpoint = handler.path.display().to_string();
        register(self.directory.path(), &endpoint).await.unwrap();
    }

    fn want(&self, demand: Demand) {
        self.discovery.want(BTreeMap::from([(key("c"), demand)]));
    }

    fn finding(&self) -> Option<Finding> {
        self.discovery.finding(&key("c"))
    }

    fn ids(&self) -> Option<Vec<String>> {
        let devices = self.finding()?.devices?;
        Some(devices.keys().map(ToString::to_string).collect())
    }

    fn state(&self) -> Option<DiscoveryState> {
        self.finding().map(|finding| finding.state)
    }

    /// Waits for a list, told of by `changed`.
    async fn listed(&self, ids: &[&str]) {
        let wait = async {
            while self.ids().is_none_or(|found| found != ids) {
                self.discovery.changed().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{:?} instead of {ids:?}", self.finding());
    }

    async fn is_in(&self, state: &DiscoveryState) {
        until(&format!("{state:?}"), || {
            self.state().as_ref() == Some(state)
        })
        .await;
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn discovery(handlers: &Handlers, api: &FakeApi) -> Discovery {
    Discovery::start(Parts {
        handlers: handlers.clone(),
        client: api.client(),
        allowed_secret_namespaces: BTreeSet::new(),
        handler_status: None,
        metrics: handlers.metrics().clone(),
    })
}

fn unresolved(reason: &str) -> DiscoveryState {
    DiscoveryState::Unresolved {
        reason: reason.to_owned(),
    }
}

#[tokio::test]
async fn a_handler_that_registers_is_asked_and_its_lists_replace_each_other() {
    let scene = Scene::start().await;
    scene.want(demand("x", json!([])));
    scene.is_in(&DiscoveryState::NoHandler).await;
    let handler = scene.handler("a").await;
    scene.is_in(&DiscoveryState::Open).await;
    assert_eq!(scene.ids(), None);
    handler.lists("x", &["b", "a"]);
    scene.listed(&["a", "b"]).await;
    handler.lists("x", &[]);
    scene.listed(&[]).await;
    assert_eq!(scene.finding().unwrap().stream, 1);
    assert_eq!(
        handler.property("AKRI_MQTT_MAX_RESPONSE"),
        Some("16777216".to_owned())
    );
}

#[tokio::test]
async fn unchanged_demand_and_repeated_registrations_open_no_further_stream() {
    let scene = Scene::start().await;
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    scene.want(demand("x", json!([])));
    scene.listed(&["a"]).await;
    for _ in 0..3 {
        scene.register(&handler).await;
        scene.want(demand("x", json!([])));
    }
    // What comes later than all of this is seen.
    handler.lists("x", &["b"]);
    scene.listed(&["b"]).await;
    assert_eq!(handler.calls().len(), 1);
}

#[tokio::test]
async fn a_stream_that_ends_keeps_its_list_and_is_opened_again() {
    let scene = Scene::start().await;
    let handler = scene.handler("a").await;
    handler.conduct("x", Conduct::End(devices(&["a"])));
    scene.want(demand("x", json!([])));
    scene.listed(&["a"]).await;
    until("a second call", || handler.calls().len() >= 2).await;
    assert_eq!(scene.ids().unwrap(), ["a"]);
    handler.lists("x", &["a", "b"]);
    scene.listed(&["a", "b"]).await;
    assert!(scene.finding().unwrap().stream >= 2);
}

#[tokio::test]
async fn a_killed_handler_withdraws_nothing_and_is_asked_at_once_when_it_registers_again() {
    let scene = Scene::start().await;
    let mut handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    scene.want(demand("x", json!([])));
    scene.listed(&["a"]).await;
    handler.kill();
    let failed =
        |state: Option<DiscoveryState>| matches!(state, Some(DiscoveryState::Failed { .. }));
    until("the failure is shown", || failed(scene.state())).await;
    // By now the waits have grown to two seconds and more.
    until("five failures", || scene.metrics.failures() >= 5).await;
    assert_eq!(scene.ids().unwrap(), ["a"]);
    handler.start_again();
    handler.lists("x", &["a", "b"]);
    let begin = Instant::now();
    scene.register(&handler).await;
    scene.listed(&["a", "b"]).await;
    assert!(begin.elapsed() < Duration::from_millis(500));
    assert_eq!(scene.finding().unwrap().stream, 2);
}

#[tokio::test]
async fn other_details_take_over_when_they_are_listed_and_no_list_is_empty_meanwhile() {
    let scene = Scene::start().await;
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    scene.want(demand("x", json!([])));
    scene.listed(&["a"]).await;
    scene.want(demand("y", json!([])));
    until("both are open", || handler.open_streams() == 2).await;
    assert_eq!(scene.ids().unwrap(), ["a"]);
    handler.lists("x", &["a", "b"]);
    scene.listed(&["a", "b"]).await;
    handler.lists("y", &["c"]);
    scene.listed(&["c"]).await;
    until("the old one is closed", || handler.open_streams() == 1).await;
}

#[tokio::test]
async fn refused_details_are_shown_in_the_handlers_words_and_tried_again_slowly() {
    let scene = Scene::start().await;
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    let wrong = Status::invalid_argument("discoveryDetails: line 1, column 2: no topics");
    handler.conduct("y", Conduct::Answer(wrong));
    scene.want(demand("x", json!([])));
    scene.listed(&["a"]).await;
    scene.want(demand("y", json!([])));
    let reason = "discoveryDetails: line 1, column 2: no topics".to_owned();
    scene.is_in(&DiscoveryState::Failed { reason }).await;
    handler.lists("x", &["a", "b"]);
    scene.listed(&["a", "b"]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(handler.calls().len(), 2);
}

#[tokio::test]
async fn a_rotated_secret_opens_a_new_stream_and_one_that_vanishes_changes_nothing_but_the_state() {
    let scene = Scene::start().await;
    scene.keeps("b2xk");
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    scene.want(demand("x", password()));
    scene.listed(&["a"]).await;
    assert_eq!(handler.property("MQTT_PASSWORD").unwrap(), "old");
    scene.keeps("bmV3");
    until("the new password", || {
        handler.property("MQTT_PASSWORD").unwrap() == "new"
    })
    .await;
    until("one stream", || handler.open_streams() == 1).await;
    assert_eq!(scene.ids().unwrap(), ["a"]);
    scene.api.delete("plant/secrets/s");
    let reason = "discoveryProperties: MQTT_PASSWORD: there is no Secret plant/s";
    scene.is_in(&unresolved(reason)).await;
    handler.lists("x", &["a", "b"]);
    scene.listed(&["a", "b"]).await;
    scene.keeps("bmV3");
    scene.is_in(&DiscoveryState::Open).await;
    assert_eq!(handler.calls().len(), 2);
    let asked = scene.api.asked();
    let named = |path: &String| path.contains("/secrets/s") || path.contains("metadata.name");
    assert!(asked.iter().all(named), "{asked:?}");
}

#[tokio::test]
async fn refused_credentials_bring_the_old_ones_back_and_the_reason_has_no_secret_in_it() {
    let scene = Scene::start().await;
    scene.keeps("b2xk");
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    scene.want(demand("x", password()));
    scene.listed(&["a"]).await;
    let words = "MQTT_PASSWORD: hunter2 is too short";
    handler.conduct("x", Conduct::Answer(Status::invalid_argument(words)));
    scene.keeps("aHVudGVyMg==");
    let reason = "MQTT_PASSWORD: … is too short".to_owned();
    scene.is_in(&DiscoveryState::Failed { reason }).await;
    handler.lists("x", &["a", "b"]);
    scene.register(&handler).await;
    scene.listed(&["a", "b"]).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_an_api_server_that_is_away_changes_nothing() {
    let scene = Scene::start().await;
    scene.keeps("b2xk");
    scene.api.forbid("plant/secrets/s");
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    scene.want(demand("x", password()));
    let reason = "discoveryProperties: MQTT_PASSWORD: the controller may not read Secret plant/s: add plant to the chart's value secretNamespaces";
    scene.is_in(&unresolved(reason)).await;
    scene.api.allow("plant/secrets/s");
    scene.listed(&["a"]).await;
    scene.api.forbid("");
    let before = scene.api.asked().len();
    scene.api.break_watches();
    until("it was asked again", || {
        scene.api.asked().len() > before + 1
    })
    .await;
    assert_eq!(scene.state(), Some(DiscoveryState::Open));
    // What changed meanwhile is noticed afterwards.
    scene.keeps("bmV3");
    scene.api.allow("");
    until("the new password", || {
        handler.property("MQTT_PASSWORD").unwrap() == "new"
    })
    .await;
}

#[tokio::test]
async fn an_object_is_watched_once_for_all_and_not_any_longer_than_it_is_named() {
    let scene = Scene::start().await;
    scene.keeps("b2xk");
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    handler.lists("y", &["b"]);
    let both = [
        (key("c"), demand("x", password())),
        (key("d"), demand("y", password())),
    ];
    scene.discovery.want(BTreeMap::from(both));
    scene.listed(&["a"]).await;
    until("both", || {
        scene
            .discovery
            .finding(&key("d"))
            .is_some_and(|it| it.devices.is_some())
    })
    .await;
    until("a watch", || scene.api.asked().len() == 2).await;
    scene.discovery.want(BTreeMap::new());
    until("streams are closed", || handler.open_streams() == 0).await;
    assert_eq!(scene.finding(), None);
    scene.keeps("bmV3");
    // A new watch would read anew; the old one is gone.
    scene.want(demand("x", password()));
    until("the new password", || {
        handler.property("MQTT_PASSWORD").unwrap() == "new"
    })
    .await;
    assert_eq!(scene.api.asked().len(), 4);
}

#[tokio::test]
async fn entries_that_are_no_devices_are_counted_and_left_out() {
    let scene = Scene::start().await;
    let handler = scene.handler("a").await;
    let mut list = devices(&["a", "b", "a", "", &"i".repeat(2_000)]);
    list.push(Device {
        id: "large".to_owned(),
        properties: BTreeMap::from([("P".to_owned(), "x".repeat(70_000))]),
        ..Device::default()
    });
    handler.conduct("x", Conduct::List(list));
    scene.want(demand("x", json!([])));
    scene.listed(&["a", "b"]).await;
    let expected = LeftOut {
        nameless: 1,
        duplicates: 1,
        oversized: 2,
        excess: 0,
    };
    assert_eq!(scene.finding().unwrap().left_out, expected);
}

#[tokio::test]
async fn listed_device_that_grows_too_large_stays_as_it_was() {
    let scene = Scene::start().await;
    let handler = scene.handler("a").await;
    handler.conduct("x", Conduct::List(devices(&["a", "b"])));
    scene.want(demand("x", json!([])));
    scene.listed(&["a", "b"]).await;
    let mut list = devices(&["b", "c"]);
    list.push(Device {
        id: "a".to_owned(),
        properties: BTreeMap::from([("P".to_owned(), "x".repeat(70_000))]),
        ..Device::default()
    });
    handler.conduct("x", Conduct::List(list));
    scene.listed(&["a", "b", "c"]).await;
    let finding = scene.finding().unwrap();
    assert_eq!(finding.left_out.oversized, 1);
    let grown = &finding.devices.unwrap()["a"];
    assert_eq!(grown.properties.get("MQTT_DEVICE_ID"), Some("a"));
}

#[tokio::test]
async fn a_response_of_many_megabytes_is_taken_and_one_beyond_the_limit_is_a_failure() {
    let scene = Scene::start().await;
    let handler = scene.handler("a").await;
    let list = |devices: usize| -> Vec<Device> {
        let device = |n| Device {
            id: format!("{n:05}"),
            properties: BTreeMap::from([("P".to_owned(), "x".repeat(1_000))]),
            ..Device::default()
        };
        (0..devices).map(device).collect()
    };
    handler.conduct("x", Conduct::List(list(10_000)));
    scene.want(demand("x", json!([])));
    let count = || scene.ids().map(|ids| ids.len());
    until("the list", || count() == Some(10_000)).await;
    handler.conduct("x", Conduct::List(list(20_000)));
    let reason = "a response has more than 17825792 bytes".to_owned();
    scene.is_in(&DiscoveryState::Failed { reason }).await;
    assert_eq!(count(), Some(10_000));
}

#[tokio::test]
async fn streams_are_closed_when_the_reign_ends_and_handlers_stay_registered_for_the_next() {
    let mut scene = Scene::start().await;
    let handler = scene.handler("a").await;
    handler.lists("x", &["a"]);
    scene.want(demand("x", json!([])));
    scene.listed(&["a"]).await;
    let next = discovery(&scene.handlers, &scene.api);
    std::mem::replace(&mut scene.discovery, next).stop().await;
    until("no stream", || handler.open_streams() == 0).await;
    assert_eq!(scene.metrics.open_streams(), 0);
    assert_eq!(scene.finding(), None);
    scene.want(demand("x", json!([])));
    scene.listed(&["a"]).await;
    // Dropped without a word.
    let next = discovery(&scene.handlers, &scene.api);
    drop(std::mem::replace(&mut scene.discovery, next));
    until("no stream", || handler.open_streams() == 0).await;
}
