//! What most end-to-end tests need: the chart installed, a namespace with an MQTT server and a pod of
//! devices, and a record of what changes. In: a name and a test. Out: the test's result; when it
//! fails, what the cluster has to say about it. The namespace goes in every case.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::configuration::Robots;
use super::pod::TestPod;
use super::record::{Change, Record};
use super::server::Server;
use super::{SOON, api, client, create, helm, logs, namespace, patch, until};
use crate::pod::processes::Start;

/// A namespace with an MQTT server and devices.
pub struct Scene {
    /// The cluster.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// The MQTT server.
    pub server: Server,
    /// The pod in which the devices run.
    pub field: TestPod,
    /// What has changed in the namespace.
    pub record: Record,
}

/// Runs a test in a scene with the chart as all tests install it.
pub async fn scene(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    let client = client().await;
    helm::install(&helm::values());
    let namespace = namespace(&client, name).await;
    scene_in(client, namespace, test).await;
}

/// Runs a test in a scene in this namespace, with whatever is installed.
///
/// # Panics
/// When the test does.
pub async fn scene_in(client: Client, namespace: String, test: impl AsyncFnOnce(&mut Scene)) {
    let result = AssertUnwindSafe(async {
        let mut scene = Scene::start(client.clone(), namespace.clone()).await;
        test(&mut scene).await;
    })
    .catch_unwind()
    .await;
    if result.is_err() {
        eprintln!("{}", report(&client, &namespace).await);
    }
    remove(&client, &namespace).await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

impl Scene {
    async fn start(client: Client, namespace: String) -> Self {
        until("the default service account", SOON, async || {
            let found = api(&client, &namespace, "ServiceAccount")
                .get("default")
                .await;
            found.map(drop)
        })
        .await;
        let record = Record::start(&client, &namespace);
        let (server, field) = tokio::join!(
            Server::start(&client, &namespace),
            TestPod::start(&client, &namespace, "field")
        );
        Self {
            client,
            namespace,
            server,
            field,
            record,
        }
    }

    /// Robots on the server of the scene.
    #[must_use]
    pub fn robots(&self, name: &str) -> Robots {
        Robots::new(name, &self.server.address)
    }

    /// Creates a Configuration and waits until its devices are looked for.
    pub async fn apply(&self, robots: &Robots) {
        create(
            &self.client,
            &self.namespace,
            "Configuration",
            robots.object(),
        )
        .await;
        self.wait_for_condition(&robots.name, "Discovered", "True")
            .await;
    }

    /// Changes the spec of a Configuration.
    pub async fn edit(&self, name: &str, spec: Value) {
        let change = json!({"spec": spec});
        patch(&self.client, &self.namespace, "Configuration", name, change).await;
    }

    /// The object of a kind and name, `Null` when it is not there.
    pub async fn get(&self, kind: &str, name: &str) -> Value {
        let object = api(&self.client, &self.namespace, kind).get_opt(name).await;
        match object {
            Ok(object) => serde_json::to_value(object).unwrap_or_default(),
            Err(error) => panic!("{kind} {name}: {error}"),
        }
    }

    /// Waits until a Configuration's condition has a status; the message of the condition.
    pub async fn wait_for_condition(&self, name: &str, condition: &str, status: &str) -> String {
        let what = format!("{name}: {condition} is {status}");
        until(&what, SOON, async || {
            let object = self.get("Configuration", name).await;
            let conditions = object
                .pointer("/status/conditions")
                .and_then(Value::as_array);
            let found = conditions.into_iter().flatten().find(|one| {
                one.get("type") == Some(&json!(condition))
                    && one.get("status") == Some(&json!(status))
            });
            let message = found.map(|one| {
                let message = one.get("message").and_then(Value::as_str);
                message.unwrap_or_default().to_owned()
            });
            message.ok_or_else(|| format!("{:?}", object.get("status")))
        })
        .await
    }

    /// Starts devices; each is a process of its own.
    pub async fn start_devices<S: AsRef<str>>(&self, names: &[S]) {
        let starts: Vec<Start> = names
            .iter()
            .map(|name| self.device("robots", name.as_ref()))
            .collect();
        self.field.spawn(&starts).await;
    }

    /// The process of a device.
    #[must_use]
    pub fn device(&self, prefix: &str, name: &str) -> Start {
        let words = [
            "self".to_owned(),
            "device".to_owned(),
            format!("--server={}", self.server.address),
            format!("--client-id=robot-{name}"),
            format!("--status={prefix}/{name}/status"),
            format!("--data={prefix}/{name}/joints"),
        ];
        Start {
            name: name.to_owned(),
            argv: words.into(),
        }
    }

    /// Kills a device with SIGKILL; the time just before, in milliseconds since 1970.
    pub async fn kill(&self, name: &str) -> u64 {
        self.field.signal(name, "KILL").await
    }

    /// Waits until exactly so many of the controller's pods are there and all of them run.
    pub async fn wait_for_running(&self, count: usize) -> Vec<Change> {
        self.wait_for_running_within(count, SOON).await
    }

    /// The same with another deadline.
    pub async fn wait_for_running_within(&self, count: usize, deadline: Duration) -> Vec<Change> {
        self.record.wait_for_running(count, deadline).await
    }

    /// Waits until exactly so many objects of a kind are there.
    pub async fn wait_for_count(&self, kind: &str, count: usize) {
        until(&format!("{count} {kind}s"), SOON, async || {
            let now = self.record.now(kind);
            let names: Vec<&String> = now.keys().collect();
            if now.len() == count {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        })
        .await;
    }

    /// The Instance of a device, by its name without the server's.
    pub async fn instance_of(&self, device: &str) -> Change {
        until(&format!("{device} has an Instance"), SOON, async || {
            let wanted = format!("plant-a/{device}");
            let found = self.record.now("Instance").into_values();
            let mut found = found.filter(|one| {
                one.text("/spec/brokerProperties/MQTT_DEVICE_ID") == wanted && !one.deleting
            });
            found.next().ok_or("there is none")
        })
        .await
    }

    /// Waits until nothing has changed for so long, and returns the record's place and the pods then.
    pub async fn settled(&self, quiet: Duration) -> usize {
        let mut place = self.record.len();
        let mut since = std::time::Instant::now();
        until("nothing changes", SOON, async || {
            let now = self.record.len();
            if now != place {
                place = now;
                since = std::time::Instant::now();
            }
            let changed: Vec<String> = self
                .record
                .since(now.saturating_sub(3))
                .iter()
                .map(|change| format!("{} {}", change.kind, change.name))
                .collect();
            if since.elapsed() > quiet {
                Ok(())
            } else {
                Err(format!("{changed:?}"))
            }
        })
        .await;
        place
    }

    /// Lets time pass in which nothing may change, and asserts that the controller's pods did not.
    pub async fn assert_pods_stay(&self, time: Duration, what: &str) {
        let (place, before) = (self.record.len(), self.record.fingerprint());
        tokio::time::sleep(time).await;
        self.record.assert_pods_unchanged(place, &before, what);
    }
}

/// The names of so many devices.
#[must_use]
pub fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("r{number}")).collect()
}

/// The pods of the release that have a label, by name.
pub async fn release_pods(client: &Client) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), helm::RELEASE);
    let listed = pods.list(&ListParams::default()).await;
    listed.map(|list| list.items).unwrap_or_default()
}

/// Deletes a namespace and what is in it, and waits until it is gone.
pub async fn remove(client: &Client, namespace: &str) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // At once: nobody has to say good-bye.
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let configurations = api(client, namespace, "Configuration");
    let every = ListParams::default();
    let _ = configurations
        .delete_collection(&DeleteParams::default(), &every)
        .await;
    let _ = pods
        .delete_collection(&DeleteParams::default().grace_period(0), &every)
        .await;
    let _ = namespaces.delete(namespace, &DeleteParams::default()).await;
}

/// What the cluster has to say after a failure.
async fn report(client: &Client, namespace: &str) -> String {
    let mut text = format!("===== {namespace}\n");
    for kind in ["Configuration", "Instance", "Pod", "Service", "Job"] {
        let Ok(list) = api(client, namespace, kind)
            .list(&ListParams::default())
            .await
        else {
            continue;
        };
        for object in list.items.iter().take(40) {
            let status = object.data.get("status").cloned().unwrap_or_default();
            let mut status = status.to_string();
            status.truncate(status.floor_char_boundary(1200));
            let deleting = &object.metadata.deletion_timestamp;
            let name = object.name_any();
            text.push_str(&format!("{kind} {name} deleting={deleting:?} {status}\n"));
        }
    }
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Ok(list) = events.list(&ListParams::default()).await {
        for event in list.items.iter().rev().take(60).rev() {
            let about = event.involved_object.name.as_deref().unwrap_or_default();
            let reason = event.reason.as_deref().unwrap_or_default();
            let message = event.message.as_deref().unwrap_or_default();
            text.push_str(&format!("Event {about} {reason}: {message}\n"));
        }
    }
    for pod in release_pods(client).await {
        text.push_str(&logs(client, helm::RELEASE, &pod.name_any(), 80).await);
    }
    for pod in ["mqtt", "field"] {
        text.push_str(&logs(client, namespace, pod, 30).await);
    }
    text
}
