//! The chart against a real API server: it takes every object of every values file, the notes tell what is
//! wrong in this cluster, an upgrade leaves alone what the controller wrote, and uninstalling leaves nothing.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use akri_mqtt_tests::chart;
use akri_mqtt_tests::cluster::helm::{self, chart as chart_path, helm};
use akri_mqtt_tests::cluster::{SOON, api, api_all, client, create, delete, patch, until};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

/// The namespaces that the values files name.
const NAMESPACES: [&str; 4] = [chart::NAMESPACE, "plant", "lab", "shared-secrets"];
/// A release in the place of the one of the other tests. Its pods find no node.
const RELEASE: &str = "notes";

fn definitions() -> Vec<Value> {
    chart::documents(include_str!("../manifests/prometheus-operator.yaml"))
}

/// An API for the kind that an object says it is.
fn api_of(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (group, version) = match chart::text(object, "/apiVersion").split_once('/') {
        Some(parts) => parts,
        None => ("", chart::text(object, "/apiVersion")),
    };
    let kind = GroupVersionKind::gvk(group, version, chart::text(object, "/kind"));
    let resource = ApiResource::from_gvk(&kind);
    match object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
    {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn apply(client: &Client, object: &Value, dry_run: bool) -> Result<DynamicObject, String> {
    let parameters = PatchParams {
        dry_run,
        ..PatchParams::apply("e2e").force()
    };
    api_of(client, object)
        .patch(
            chart::text(object, "/metadata/name"),
            &parameters,
            &Patch::Apply(object),
        )
        .await
        .map_err(|error| error.to_string())
}

async fn established(client: &Client, definitions: &[Value]) {
    for definition in definitions {
        apply(client, definition, false).await.unwrap();
        let name = chart::text(definition, "/metadata/name");
        until(name, SOON, async || {
            let found = api_all(client, "CustomResourceDefinition")
                .get(name)
                .await
                .unwrap();
            let conditions = chart::list(&found.data, "/status/conditions").iter();
            let mut conditions = conditions.filter(|condition| condition["status"] == "True");
            match conditions.any(|condition| condition["type"] == "Established") {
                true => Ok(()),
                false => Err("not established"),
            }
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn the_api_server_takes_every_object_of_every_values_file() {
    let client = client().await;
    for name in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        apply(&client, &object, false).await.unwrap();
    }
    let mut ours = definitions();
    for file in chart::directory().join("crds").read_dir().unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        // One that is there belongs to whoever installed it.
        for definition in chart::documents(&text) {
            let name = chart::text(&definition, "/metadata/name").to_owned();
            if api_all(&client, "CustomResourceDefinition")
                .get_opt(&name)
                .await
                .unwrap()
                .is_none()
            {
                ours.push(definition);
            }
        }
    }
    established(&client, &ours).await;
    let version = client.apiserver_version().await.unwrap().git_version;
    let mut refused = Vec::new();
    let mut taken = 0;
    for file in chart::values_files() {
        for object in chart::render(Some(&file), &json!({}), &version).unwrap() {
            match apply(&client, &object.value, true).await {
                Ok(_) => taken += 1,
                Err(error) => {
                    refused.push(format!("{}: {}: {error}", file.display(), object.title()))
                }
            }
        }
    }
    for definition in definitions() {
        let name = chart::text(&definition, "/metadata/name");
        let all = api_all(&client, "CustomResourceDefinition");
        all.delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in NAMESPACES {
        let namespaces = api_all(&client, "Namespace");
        namespaces
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(taken > 60, "{taken}");
}

/// Removes the release of the other tests, which the chart takes for a rival.
fn alone() {
    // A test that comes first finds none.
    let _ = helm(&[
        "uninstall",
        helm::RELEASE,
        "--namespace",
        helm::RELEASE,
        "--wait",
    ]);
}

/// Installs or upgrades the release and returns what helm tells the user.
fn upgrade(values: &Value) -> String {
    try_upgrade(RELEASE, values).unwrap()
}

/// The same with a release of another name, or what helm said against it.
fn try_upgrade(release: &str, values: &Value) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut all = json!({"nodeSelector": {"there-is": "no-such-node"}});
    all.as_object_mut()
        .unwrap()
        .extend(values.as_object().unwrap().clone());
    std::fs::write(file.path(), all.to_string()).unwrap();
    let path = file.path().to_string_lossy().into_owned();
    helm(&[
        "upgrade",
        "--install",
        release,
        &chart_path(),
        "--namespace",
        RELEASE,
        "--create-namespace",
        "--values",
        &path,
    ])
}

fn uninstall() {
    helm(&["uninstall", RELEASE, "--namespace", RELEASE]).unwrap();
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn notes_tell_what_is_wrong_in_this_cluster() {
    let client = client().await;
    alone();
    let quiet = upgrade(&json!({}));
    assert!(quiet.contains("runs in agentless mode"), "{quiet}");
    assert!(!quiet.contains("WARNING"), "{quiet}");
    let rival = try_upgrade("rival", &json!({})).unwrap_err();
    assert!(
        rival.contains("the controller of release notes/notes"),
        "{rival}"
    );
    let alone = upgrade(&json!({"mode": "akri"}));
    assert!(
        alone.contains("there is no Akri in this cluster"),
        "{alone}"
    );

    let labels = json!({"app.kubernetes.io/name": "akri-agent"});
    let pod = json!({"nodeSelector": {"there-is": "no-such-node"}, "containers": [{"name": "a", "image": "a:1"}]});
    let agent = json!({
        "metadata": {"name": "akri-agent", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    });
    create(&client, RELEASE, "DaemonSet", agent).await;
    let both = upgrade(&json!({}));
    assert!(
        both.contains("WARNING: Akri is in this cluster (notes/akri-agent)"),
        "{both}"
    );
    for namespace in ["default", RELEASE] {
        let reference = json!({"name": "MQTT_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "mqtt", "namespace": "elsewhere", "key": "p"}}});
        let handler = json!({"name": "other", "discoveryDetails": "none", "discoveryProperties": [reference]});
        let configuration = json!({"metadata": {"name": "twin"}, "spec": {"discoveryHandler": handler, "capacity": 1}});
        create(&client, namespace, "Configuration", configuration).await;
    }
    let twins = upgrade(&json!({"mode": "akri"}));
    for words in [
        "are all called twin",
        "secretKeyRef",
        "namespace elsewhere",
        "no service account notes/akri-agent-sa",
    ] {
        // The kind of a reference is told without its suffix.
        let words = words.trim_end_matches("KeyRef");
        assert!(twins.contains(words), "{words}: {twins}");
    }
    assert!(!twins.contains("there is no Akri"), "{twins}");
    let label =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    api_all(&client, "Namespace")
        .patch(RELEASE, &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    let strict = upgrade(&json!({"mode": "akri", "secretNamespaces": ["default"]}));
    assert!(
        strict.contains("enforces the pod security standard restricted"),
        "{strict}"
    );

    for namespace in ["default", RELEASE] {
        delete(&client, namespace, "Configuration", "twin", true).await;
    }
    delete(&client, RELEASE, "DaemonSet", "akri-agent", true).await;
    uninstall();
    api_all(&client, "Namespace")
        .delete(RELEASE, &DeleteParams::default())
        .await
        .unwrap();
    gone(&client).await;
}

async fn gone(client: &Client) {
    until("the namespace is gone", SOON, async || {
        match api_all(client, "Namespace").get_opt(RELEASE).await.unwrap() {
            None => Ok(()),
            Some(_) => Err("it is still there"),
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn an_upgrade_keeps_what_the_controller_wrote_and_nothing_outlives_the_release() {
    let client = client().await;
    alone();
    upgrade(&json!({"webhook": {"enabled": true}}));
    let (webhooks, secret) = (
        api_all(&client, "ValidatingWebhookConfiguration"),
        "notes-akri-mqtt-webhook-certificate",
    );
    let webhook = "notes-akri-mqtt-webhook-notes";
    let authority =
        json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "YQ=="}]);
    let authority: Patch<()> = Patch::Json(serde_json::from_value(authority).unwrap());
    webhooks
        .patch(webhook, &PatchParams::default(), &authority)
        .await
        .unwrap();
    patch(
        &client,
        RELEASE,
        "Secret",
        secret,
        json!({"data": {"tls.crt": "YQ=="}}),
    )
    .await;
    patch(
        &client,
        RELEASE,
        "Lease",
        "notes-akri-mqtt",
        json!({"spec": {"holderIdentity": "me"}}),
    )
    .await;

    upgrade(&json!({"webhook": {"enabled": true, "timeoutSeconds": 7}, "podLabels": {"a": "b"}}));
    let found = webhooks.get(webhook).await.unwrap();
    assert_eq!(found.data["webhooks"][0]["timeoutSeconds"], 7);
    assert_eq!(
        found.data["webhooks"][0]["clientConfig"]["caBundle"],
        "YQ=="
    );
    let found = api(&client, RELEASE, "Secret").get(secret).await.unwrap();
    assert_eq!(found.data["data"]["tls.crt"], "YQ==");
    let found = api(&client, RELEASE, "Lease")
        .get("notes-akri-mqtt")
        .await
        .unwrap();
    assert_eq!(found.data["spec"]["holderIdentity"], "me");

    uninstall();
    nothing_is_left(&client).await;
    // CRDs stay: deleting them would delete every Configuration and Instance.
    api_all(&client, "CustomResourceDefinition")
        .get("configurations.akri.sh")
        .await
        .unwrap();
    api_all(&client, "Namespace")
        .delete(RELEASE, &DeleteParams::default())
        .await
        .unwrap();
    gone(&client).await;
}

/// Waits until no object of the release is there.
async fn nothing_is_left(client: &Client) {
    let of_release = ListParams::default().labels("app.kubernetes.io/instance=notes");
    for kind in [
        "Deployment",
        "Pod",
        "Service",
        "Secret",
        "ConfigMap",
        "ServiceAccount",
        "Lease",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingWebhookConfiguration",
        "Configuration",
    ] {
        until(kind, SOON, async || {
            let left = api_all(client, kind).list(&of_release).await.unwrap();
            let names: Vec<_> = left.iter().map(|object| object.name_any()).collect();
            if names.is_empty() {
                Ok(())
            } else {
                Err(names.join(", "))
            }
        })
        .await;
    }
}
