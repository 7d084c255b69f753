//! The cluster around the controller: Akri appears and goes, definitions without a status, helm
//! uninstall, a lost node. In: the images of `cargo xtask e2e`. Out: what was written and what was left.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::time::Duration;

use akri_mqtt_tests::cluster::configuration::{idle, services};
use akri_mqtt_tests::cluster::helm::{self, RELEASE};
use akri_mqtt_tests::cluster::pod::{TestPod, container};
use akri_mqtt_tests::cluster::scene::{Scene, names, scene};
use akri_mqtt_tests::cluster::{SOON, api, api_all, client, create, delete, until};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

const QUIET: Duration = Duration::from_secs(3);

async fn three_robots(scene: &Scene) {
    let robots = scene.robots("robots").running(idle()).with(services());
    scene.apply(&robots).await;
    scene.start_devices(&names(3)).await;
    scene.wait_for_running(3).await;
    scene.settled(QUIET).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn writes_stop_while_akri_is_there_and_resume_when_it_is_gone() {
    scene("akri-appears", async |scene| {
        three_robots(scene).await;
        let mut stand_in = container(&["serve"]);
        stand_in["name"] = json!("agent");
        let pod = json!({
            "metadata": {"name": "akri-agent", "labels": {"app.kubernetes.io/name": "akri-agent"}},
            "spec": {"containers": [stand_in], "terminationGracePeriodSeconds": 1},
        });
        create(&scene.client, &scene.namespace, "Pod", pod).await;
        TestPod::ready(&scene.client, &scene.namespace, "akri-agent").await;
        until("the controller is not ready", SOON, async || {
            let pods = akri_mqtt_tests::cluster::scene::release_pods(&scene.client).await;
            let status = pods
                .first()
                .and_then(|pod| pod.status.clone())
                .unwrap_or_default();
            let controller = status.container_statuses.into_iter().flatten();
            let mut controller = controller.filter(|one| one.name == "controller");
            let ready = controller.next().is_none_or(|one| one.ready);
            if ready { Err("it is") } else { Ok(()) }
        })
        .await;
        let place = scene.settled(QUIET).await;
        scene.start_devices(&["r4"]).await;
        scene.kill("r1").await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let written = scene.record.written(place);
        assert!(written.is_empty(), "written beside Akri: {written:#?}");

        delete(&scene.client, &scene.namespace, "Pod", "akri-agent", true).await;
        until("r4 has a pod and r1 has none", SOON, async || {
            let devices: Vec<String> = scene
                .record
                .now("Instance")
                .values()
                .map(|one| {
                    one.text("/spec/brokerProperties/MQTT_DEVICE_NAME")
                        .to_owned()
                })
                .collect();
            let mut sorted = devices.clone();
            sorted.sort();
            if sorted == ["r2", "r3", "r4"] {
                Ok(())
            } else {
                Err(format!("{devices:?}"))
            }
        })
        .await;
        scene.wait_for_running(3).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn definition_without_a_status_as_akri_installs_it_is_tolerated() {
    let all = api_all(&client().await, "CustomResourceDefinition");
    scene("no-status", async |scene| {
        // Another controller process must not bring our definition back meanwhile.
        helm::install(&helm::values_with(
            &json!({"controller": {"manageCrds": false}}),
        ));
        let name = "configurations.akri.sh";
        let definition = all.get(name).await.unwrap();
        let mut versions = definition.data["spec"]["versions"].clone();
        versions[0].as_object_mut().unwrap().remove("subresources");
        let schema = versions[0]
            .pointer_mut("/schema/openAPIV3Schema/properties")
            .unwrap();
        schema.as_object_mut().unwrap().remove("status");
        let kubernetes = json!({"spec": {"versions": versions}});
        let parameters = kube::api::PatchParams::default();
        all.patch(name, &parameters, &kube::api::Patch::Merge(kubernetes))
            .await
            .unwrap();
        let robots = scene.robots("robots").running(idle()).with(services());
        create(
            &scene.client,
            &scene.namespace,
            "Configuration",
            robots.object(),
        )
        .await;
        scene.start_devices(&names(2)).await;
        scene.wait_for_running(2).await;
        scene.kill("r1").await;
        scene.wait_for_running(1).await;
        assert!(scene.get("Configuration", "robots").await["status"].is_null());
    })
    .await;
    // The controller brings the definition up to date at its start.
    helm::install(&helm::values());
    until("the status is back", SOON, async || {
        let definition = all
            .get("configurations.akri.sh")
            .await
            .map_err(|error| error.to_string())?;
        let subresources = definition
            .data
            .pointer("/spec/versions/0/subresources/status");
        subresources.map(drop).ok_or_else(|| "no".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn uninstall_leaves_configurations_and_definitions_and_nothing_of_the_release() {
    scene("uninstall", async |scene| {
        three_robots(scene).await;
        helm::uninstall();
        for kind in [
            "Deployment",
            "Service",
            "Lease",
            "Secret",
            "ConfigMap",
            "Role",
            "RoleBinding",
            "ServiceAccount",
        ] {
            let left = api(&scene.client, RELEASE, kind)
                .list(&ListParams::default())
                .await
                .unwrap();
            let left: Vec<String> = left
                .items
                .iter()
                .filter(|one| {
                    one.labels()
                        .get("app.kubernetes.io/instance")
                        .is_some_and(|name| name == RELEASE)
                })
                .map(ResourceExt::name_any)
                .collect();
            assert!(left.is_empty(), "{kind}: {left:?}");
        }
        for kind in [
            "ClusterRole",
            "ClusterRoleBinding",
            "ValidatingWebhookConfiguration",
        ] {
            let left = api_all(&scene.client, kind)
                .list(&ListParams::default())
                .await
                .unwrap();
            let left: Vec<String> = left.items.iter().map(ResourceExt::name_any).collect();
            assert!(
                left.iter().all(|name| !name.contains("akri-mqtt")),
                "{kind}: {left:?}"
            );
        }
        // Kept by policy: definitions and Configurations, and what runs for them until those go.
        assert_eq!(scene.record.running().len(), 3);
        delete(
            &scene.client,
            &scene.namespace,
            "Configuration",
            "robots",
            false,
        )
        .await;
        scene.wait_for_count("Instance", 0).await;
        scene.wait_for_running(0).await;
        scene.wait_for_count("Service", 1).await;
    })
    .await;
    helm::install(&helm::values());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn pods_of_a_lost_node_are_made_anew() {
    scene("node", async |scene| {
        three_robots(scene).await;
        let before = scene.record.fingerprint();
        let nodes = api_all(&scene.client, "Node");
        let node = scene.record.running().into_values().next().unwrap();
        let name = node.text("/spec/nodeName").to_owned();
        let mut lost = nodes.get(&name).await.unwrap();
        nodes.delete(&name, &DeleteParams::default()).await.unwrap();
        until("the pods of the lost node are others", SOON, async || {
            let now = scene.record.brokers();
            let fresh = now
                .values()
                .filter(|pod| before.iter().all(|(_, uid, _)| *uid != pod.uid));
            let fresh = fresh.count();
            if fresh == 3 {
                Ok(())
            } else {
                Err(format!("{fresh} of {}", now.len()))
            }
        })
        .await;
        // The node comes back, under its old name: a kubelet registers only once.
        lost.metadata = kube::api::ObjectMeta {
            name: Some(name.clone()),
            labels: lost.metadata.labels.clone(),
            ..kube::api::ObjectMeta::default()
        };
        lost.data.as_object_mut().unwrap().remove("status");
        match nodes.create(&PostParams::default(), &lost).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
        until("the node is ready", SOON, async || {
            let node = nodes.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = node.data["status"]["conditions"].as_array();
            let ready = conditions
                .into_iter()
                .flatten()
                .any(|one| one["type"] == "Ready" && one["status"] == "True");
            ready
                .then_some(())
                .ok_or_else(|| node.data["status"].to_string())
        })
        .await;
        let untainted = kube::api::Patch::Merge(json!({"spec": {"taints": null}}));
        nodes
            .patch(&name, &kube::api::PatchParams::default(), &untainted)
            .await
            .unwrap();
        scene.wait_for_running(3).await;
    })
    .await;
}
