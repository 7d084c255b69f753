//! What must not change a pod, on a real cluster: outages of the MQTT server, restarts, upgrades and
//! roll-backs of controller and handler. In: the images of `cargo xtask e2e`. Out: the same pods.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::time::Duration;

use akri_mqtt_tests::cluster::configuration::{idle, monitor, services};
use akri_mqtt_tests::cluster::helm::{self, RELEASE, helm, values_with};
use akri_mqtt_tests::cluster::pod::TestPod;
use akri_mqtt_tests::cluster::scene::{Scene, names, release_pods, scene};
use akri_mqtt_tests::cluster::{SOON, delete, until};
use kube::ResourceExt;
use serde_json::json;

/// Longer than a killed device takes to lose its pod.
const LONG_ENOUGH: Duration = Duration::from_secs(8);

async fn three_robots(scene: &Scene) {
    let robots = scene.robots("robots").running(monitor()).with(services());
    scene.apply(&robots).await;
    scene.start_devices(&names(3)).await;
    scene.wait_for_running(3).await;
    scene.settled(Duration::from_secs(2)).await;
}

/// A device that dies still loses its pod, and a new one gets one: the controller is at work.
async fn assert_at_work(scene: &Scene, device: &str) {
    let before = scene.record.running().len();
    scene.start_devices(&[device]).await;
    scene.wait_for_running(before + 1).await;
    scene.kill(device).await;
    scene.wait_for_running(before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn outage_of_the_mqtt_server_changes_no_pod() {
    scene("outage", async |scene| {
        three_robots(scene).await;
        let (place, before) = (scene.record.len(), scene.record.fingerprint());

        scene.server.stop().await;
        scene
            .assert_pods_stay(LONG_ENOUGH, "stopped gracefully")
            .await;
        scene.server.begin().await;
        scene.assert_pods_stay(LONG_ENOUGH, "started again").await;

        scene.server.kill().await;
        scene.assert_pods_stay(LONG_ENOUGH, "killed").await;
        scene.server.begin().await;
        scene
            .assert_pods_stay(LONG_ENOUGH, "started after the kill")
            .await;

        scene.server.replace(Duration::from_secs(60)).await;
        scene
            .record
            .assert_pods_unchanged(place, &before, "gone for 60 s");
        // The grace after an outage is 10 s here, and the server has forgotten every device.
        scene
            .assert_pods_stay(Duration::from_secs(20), "back with an empty store")
            .await;
        assert_at_work(scene, "late").await;
        let mut after = scene.record.fingerprint();
        after.retain(|pod| before.contains(pod));
        assert_eq!(after, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn controller_that_is_replaced_in_an_outage_changes_no_pod() {
    scene("replaced", async |scene| {
        let mut robots = scene.robots("robots").running(idle());
        robots.annotations = json!({"mqtt.akri.sh/hold": "15s"});
        scene.apply(&robots).await;
        scene.start_devices(&names(3)).await;
        scene.wait_for_running(3).await;
        scene.settled(Duration::from_secs(2)).await;
        let (place, before) = (scene.record.len(), scene.record.fingerprint());

        scene.server.stop().await;
        for pod in release_pods(&scene.client).await {
            delete(&scene.client, RELEASE, "Pod", &pod.name_any(), true).await;
        }
        wait_for_release(scene, 1).await;
        // The new one remembers no device, and is told of none for twice the hold.
        scene
            .assert_pods_stay(Duration::from_secs(30), "away")
            .await;
        scene.server.begin().await;
        scene
            .assert_pods_stay(Duration::from_secs(25), "back again")
            .await;
        scene
            .record
            .assert_pods_unchanged(place, &before, "replaced in an outage");
        assert_at_work(scene, "late").await;
    })
    .await;
}

/// Waits until every pod of the release is ready and there are `count` of them.
async fn wait_for_release(scene: &Scene, count: usize) {
    until("the release is ready", SOON, async || {
        let pods = release_pods(&scene.client).await;
        let ready = pods.iter().filter(|pod| {
            let status = pod.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_ref());
            pod.metadata.deletion_timestamp.is_none()
                && conditions
                    .into_iter()
                    .flatten()
                    .any(|one| one.type_ == "Ready" && one.status == "True")
        });
        let ready = ready.count();
        if ready == count && pods.len() == count {
            Ok(())
        } else {
            Err(format!("{ready} of {} are ready", pods.len()))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn restart_upgrade_and_rollback_of_the_controller_change_no_pod() {
    scene("restart", async |scene| {
        three_robots(scene).await;
        let (place, before) = (scene.record.len(), scene.record.fingerprint());
        let unchanged = |what: &str| scene.record.assert_pods_unchanged(place, &before, what);

        for now in [false, true] {
            for pod in release_pods(&scene.client).await {
                delete(&scene.client, RELEASE, "Pod", &pod.name_any(), now).await;
            }
            wait_for_release(scene, 1).await;
            scene
                .assert_pods_stay(LONG_ENOUGH, "controller's pod deleted")
                .await;
            unchanged("controller's pod deleted");
        }

        let node = TestPod::start_on_node(&scene.client, &scene.namespace, "killer").await;
        for container in ["controller", "discovery-handler"] {
            kill_container(scene, &node, container).await;
            wait_for_release(scene, 1).await;
            scene
                .assert_pods_stay(LONG_ENOUGH, "container killed")
                .await;
            unchanged("container killed");
        }

        let next = format!("{}-next", akri_mqtt_tests::cluster::tag());
        helm::install(&values_with(&json!({"image": {"tag": next}})));
        wait_for_release(scene, 1).await;
        scene.assert_pods_stay(LONG_ENOUGH, "upgraded").await;
        unchanged("upgraded");

        helm(&["rollback", RELEASE, "--namespace", RELEASE, "--wait"]).unwrap();
        wait_for_release(scene, 1).await;
        scene.assert_pods_stay(LONG_ENOUGH, "rolled back").await;
        unchanged("rolled back");
        drop(node);
        scene.wait_for_running(3).await;
    })
    .await;
    scene_after_rollback().await;
}

/// What was rolled back works.
async fn scene_after_rollback() {
    scene("rolled", async |scene| {
        three_robots(scene).await;
        assert_at_work(scene, "late").await;
    })
    .await;
}

async fn kill_container(scene: &Scene, node: &TestPod, name: &str) {
    let pods = release_pods(&scene.client).await;
    let status = pods.first().and_then(|pod| pod.status.clone()).unwrap();
    let container = status
        .container_statuses
        .into_iter()
        .flatten()
        .find(|one| one.name == name);
    let container = container.unwrap();
    let id = container.container_id.unwrap();
    node.kill_container(id.rsplit('/').next().unwrap()).await;
    until("the container is back", SOON, async || {
        let pods = release_pods(&scene.client).await;
        let status = pods
            .first()
            .and_then(|pod| pod.status.clone())
            .unwrap_or_default();
        let again = status.container_statuses.into_iter().flatten();
        let mut again =
            again.filter(|one| one.name == name && one.restart_count > container.restart_count);
        again.next().map(drop).ok_or("not yet")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn second_replica_takes_over_without_a_change() {
    scene("replicas", async |scene| {
        helm::install(&values_with(&json!({"controller": {"replicas": 2}})));
        wait_for_release(scene, 2).await;
        three_robots(scene).await;
        let (place, before) = (scene.record.len(), scene.record.fingerprint());
        let leader = akri_mqtt_tests::cluster::api(&scene.client, RELEASE, "Lease");
        let holder = async || {
            let lease = leader.get(RELEASE).await.unwrap();
            let holder = lease.data.pointer("/spec/holderIdentity").cloned();
            holder
                .and_then(|holder| holder.as_str().map(str::to_owned))
                .unwrap_or_default()
        };
        let first = holder().await;
        let pods = release_pods(&scene.client).await;
        let pod = pods
            .iter()
            .map(ResourceExt::name_any)
            .find(|pod| first.contains(pod.as_str()));
        let pod = pod.unwrap_or_else(|| panic!("{first} is a pod"));
        delete(&scene.client, RELEASE, "Pod", &pod, true).await;
        until("another one leads", SOON, async || {
            let now = holder().await;
            if !now.is_empty() && now != first {
                Ok(())
            } else {
                Err(now)
            }
        })
        .await;
        scene
            .assert_pods_stay(LONG_ENOUGH, "the leader was killed")
            .await;
        scene
            .record
            .assert_pods_unchanged(place, &before, "the leader was killed");
        assert_at_work(scene, "late").await;
    })
    .await;
    helm::install(&helm::values());
}
