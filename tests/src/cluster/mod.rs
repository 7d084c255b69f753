//! A real Kubernetes cluster for the end-to-end tests. In: $KUBECONFIG and the images that
//! `cargo xtask e2e` has loaded. Out: scenes, each in a namespace of its own, with MQTT servers and
//! devices as pods, and records of everything that changed. Reaches pods only through the API server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture that fails fails its test"
)]

pub mod configuration;
pub mod helm;
pub mod pod;
pub mod record;
pub mod scene;
pub mod server;

use std::fmt::Display;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, LogParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

/// Set by `cargo xtask e2e`: the tag of the images under test.
pub const ENABLED: &str = "AKRI_MQTT_E2E";
/// What runs in the pods of the tests.
pub const TEST_IMAGE: &str = "akri-mqtt/test-pod:e2e";
/// How long something may take that takes a few seconds.
pub const SOON: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(100);

/// The tag of the images under test.
///
/// # Panics
/// Outside `cargo xtask e2e`.
#[must_use]
pub fn tag() -> String {
    std::env::var(ENABLED)
        .expect("this test needs a cluster and loaded images: run it by `cargo xtask e2e`")
}

/// A client of the cluster.
///
/// # Panics
/// Without a cluster.
pub async fn client() -> Client {
    let _ = tag();
    Client::try_default()
        .await
        .expect("KUBECONFIG names a cluster")
}

/// An API of a resource that is known by its names, in a namespace.
#[must_use]
pub fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// The same over all namespaces, or for resources without one.
#[must_use]
pub fn api_all(client: &Client, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind))
}

/// The resources that the tests look at.
fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "Configuration" | "Instance" => ("akri.sh", "v0"),
        "Deployment" | "DaemonSet" | "StatefulSet" => ("apps", "v1"),
        "Job" => ("batch", "v1"),
        "Lease" => ("coordination.k8s.io", "v1"),
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => {
            ("rbac.authorization.k8s.io", "v1")
        }
        "CustomResourceDefinition" => ("apiextensions.k8s.io", "v1"),
        "ValidatingWebhookConfiguration" => ("admissionregistration.k8s.io", "v1"),
        _ => ("", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Creates an object from JSON.
///
/// # Panics
/// When the API server refuses it.
pub async fn create(
    client: &Client,
    namespace: &str,
    kind: &str,
    mut object: Value,
) -> DynamicObject {
    let known = resource(kind);
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), json!(known.api_version));
        object.insert("kind".into(), json!(kind));
    }
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    let name = object.name_any();
    let api = api(client, namespace, kind);
    // Right after its namespace was made, an older API server asks to be tried again.
    until(
        &format!("{kind} {namespace}/{name} is made"),
        SOON,
        async || match api.create(&PostParams::default(), &object).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) if status.code >= 500 => Err(status.message.clone()),
            Err(error) => panic!("{kind} {namespace}/{name}: {error}"),
        },
    )
    .await
}

/// Changes an object by a merge patch.
///
/// # Panics
/// When the API server refuses it.
pub async fn patch(client: &Client, namespace: &str, kind: &str, name: &str, patch: Value) {
    api(client, namespace, kind)
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap_or_else(|error| panic!("{kind} {namespace}/{name}: {error}"));
}

/// Deletes an object if it is there, at once if `now`.
///
/// # Panics
/// When the API server refuses it.
pub async fn delete(client: &Client, namespace: &str, kind: &str, name: &str, now: bool) {
    let parameters = DeleteParams {
        grace_period_seconds: now.then_some(0),
        ..DeleteParams::default()
    };
    match api(client, namespace, kind).delete(name, &parameters).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{kind} {namespace}/{name}: {error}"),
    }
}

/// Creates a namespace with a name that was never there before.
///
/// # Panics
/// When the API server refuses it.
pub async fn namespace(client: &Client, name: &str) -> String {
    let name = format!("e2e-{name}-{:04x}", rand::random::<u16>());
    let object: Namespace =
        serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .expect("a namespace can be created");
    name
}

/// Waits until `look` finds something.
///
/// # Panics
/// After `deadline`, with what the last look said.
pub async fn until<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        let missing = match look().await {
            Ok(found) => return found,
            Err(missing) => missing,
        };
        assert!(
            Instant::now() < end,
            "not within {deadline:?}: {what}; at last: {missing}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// The end of the log of each container of a pod.
pub async fn logs(client: &Client, namespace: &str, pod: &str, lines: i64) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut text = String::new();
    let containers = match pods.get(pod).await {
        Ok(pod) => pod.spec.map(|spec| spec.containers).unwrap_or_default(),
        Err(error) => return error.to_string(),
    };
    for container in containers {
        let parameters = LogParams {
            container: Some(container.name.clone()),
            tail_lines: Some(lines),
            ..LogParams::default()
        };
        let log = pods
            .logs(pod, &parameters)
            .await
            .unwrap_or_else(|error| error.to_string());
        text.push_str(&format!("--- {pod} {}\n{log}\n", container.name));
    }
    text
}
