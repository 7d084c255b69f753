//! Akri mode on a real cluster: the chart's DaemonSet of handlers beside a test Agent that does what
//! Akri's does. In: the images of `cargo xtask e2e`. Out: what the Agent saw of restarts and updates.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::time::Duration;

use akri_mqtt_tests::cluster::helm::{helm, install_as, values_with};
use akri_mqtt_tests::cluster::pod::{TestPod, on_node};
use akri_mqtt_tests::cluster::scene::{Scene, scene_in};
use akri_mqtt_tests::cluster::{SOON, api, client, create, namespace, until};
use akri_mqtt_tests::scene::CONFIGURATION;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

/// Waits out the kubelet's pause before it restarts a container for the second time.
const RESTART: Duration = Duration::from_secs(60);

/// The Agent as a DaemonSet, its socket in a directory of the node.
async fn agent(scene: &Scene, directory: &str) -> TestPod {
    let mut spec = on_node(&["agent", "--directory=/var/lib/akri"]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "akri", "mountPath": "/var/lib/akri"}]);
    spec["volumes"] =
        json!([{"name": "akri", "hostPath": {"path": directory, "type": "DirectoryOrCreate"}}]);
    let set = json!({
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": spec},
        },
    });
    create(&scene.client, &scene.namespace, "DaemonSet", set).await;
    let name = until("the Agent has a pod", SOON, async || {
        let agents = ListParams::default().labels("app=agent");
        let pods = api(&scene.client, &scene.namespace, "Pod");
        let pods = pods
            .list(&agents)
            .await
            .map_err(|error| error.to_string())?;
        let pod = pods.items.first().map(ResourceExt::name_any);
        pod.ok_or_else(|| "none".to_owned())
    })
    .await;
    TestPod::ready(&scene.client, &scene.namespace, &name).await
}

/// The pod of a release with its containers' states, by container.
async fn handlers(scene: &Scene, release: &str) -> (String, Vec<Value>) {
    let pods = api(&scene.client, release, "Pod");
    let listed = pods.list(&ListParams::default()).await.unwrap();
    let pod = listed.items.first().expect("the DaemonSet has a pod");
    let mut states = pod.data["status"]["containerStatuses"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    states.sort_by_key(|state| state["name"].to_string());
    let ip = pod.data["status"]["podIP"].as_str().unwrap_or_default();
    (ip.to_owned(), states)
}

/// Waits until the Agent has open streams to exactly so many handlers.
async fn wait_for_streams(agent: &TestPod, count: usize) {
    until(&format!("{count} streams"), RESTART, async || {
        let seen = agent.seen().await;
        if seen.streams == count {
            Ok(())
        } else {
            Err(format!("{seen:#?}"))
        }
    })
    .await;
}

/// Waits until exactly so many handlers list exactly these devices: before that, one of them has
/// nothing to take over with.
async fn wait_for_lists(agent: &TestPod, handlers: usize, devices: &[&str]) {
    let what = format!("{handlers} handlers list {devices:?}");
    until(&what, RESTART, async || {
        let seen = agent.seen().await;
        let whole = seen.listed.iter().filter(|list| *list == devices).count();
        if seen.devices == devices && seen.streams == handlers && whole == handlers {
            Ok(())
        } else {
            Err(format!("{seen:#?}"))
        }
    })
    .await;
}

/// No Instance was deleted since `from` things had happened.
async fn assert_nothing_deleted(agent: &TestPod, from: usize, what: &str) {
    let seen = agent.seen().await;
    let deleted: Vec<&String> = seen
        .happened
        .iter()
        .skip(from)
        .filter(|what| what.starts_with("Deleted"))
        .collect();
    assert!(deleted.is_empty(), "{what}: {:#?}", seen.happened);
}

/// Kills one of the two handlers and waits until it is back with its stream.
async fn kill_and_wait(scene: &Scene, agent: &TestPod, release: &str, which: usize) {
    let (_, before) = handlers(scene, release).await;
    let id = before[which]["containerID"].as_str().unwrap();
    let id = id.rsplit('/').next().unwrap();
    agent.kill_container(id).await;
    let restarts = &before[which]["restartCount"];
    until("the handler is back", RESTART, async || {
        let (_, now) = handlers(scene, release).await;
        let back = now.iter().all(|state| state["ready"] == json!(true))
            && now[which]["restartCount"] != *restarts;
        if back {
            Ok(())
        } else {
            Err(format!("{now:#?}"))
        }
    })
    .await;
    wait_for_streams(agent, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn agents_devices_outlive_killed_handlers_and_updates() {
    let client = client().await;
    let namespace = namespace(&client, "akri").await;
    scene_in(client, namespace, async |scene| {
        let directory = format!("/var/lib/{}", scene.namespace);
        let values = values_with(&json!({
            "mode": "akri",
            "akri": {
                "directory": directory,
                "stateDirectory": format!("{directory}-state"),
                "agentServiceAccount": {"name": ""},
            },
        }));
        let agent = agent(scene, &directory).await;
        let releases = ["a", "b"].map(|which| format!("{}-{which}", scene.namespace));
        let [first, second] = &releases;
        install_as(first, &values).unwrap();

        let robots = scene.robots(CONFIGURATION);
        agent
            .configure(CONFIGURATION, &robots.discovery_details())
            .await;
        wait_for_streams(&agent, 2).await;
        assert!(agent.seen().await.registrations >= 2);
        scene.start_devices(&["r1", "r2", "r3"]).await;
        let all = ["plant-a/r1", "plant-a/r2", "plant-a/r3"];
        wait_for_lists(&agent, 2, &all).await;

        let from = agent.seen().await.happened.len();
        for which in [0, 1, 0] {
            kill_and_wait(scene, &agent, first, which).await;
            assert_nothing_deleted(&agent, from, "a handler was killed").await;
            wait_for_lists(&agent, 2, &all).await;
        }

        // A rolling update: this version of Kubernetes has no maxSurge for DaemonSets, so the next
        // one is a DaemonSet of its own.
        install_as(second, &values).unwrap();
        wait_for_lists(&agent, 4, &all).await;
        helm(&["uninstall", first, "--namespace", first, "--wait"]).unwrap();
        wait_for_streams(&agent, 2).await;
        assert_nothing_deleted(&agent, from, "handlers were updated").await;
        wait_for_lists(&agent, 2, &all).await;

        let admin = until("the handlers' pod has an address", SOON, async || {
            let (ip, _) = handlers(scene, second).await;
            format!("{ip}:8081").parse()
        })
        .await;
        let presence = scene.field.fetch_json(admin, "/v1/presence").await;
        assert!(
            presence.to_string().contains("plant-a/r1"),
            "presence: {presence}"
        );

        scene.kill("r2").await;
        wait_for_lists(&agent, 2, &["plant-a/r1", "plant-a/r3"]).await;
        scene.start_devices(&["r2"]).await;
        wait_for_lists(&agent, 2, &all).await;

        helm(&["uninstall", second, "--namespace", second]).unwrap();
        for release in &releases {
            akri_mqtt_tests::cluster::scene::remove(&scene.client, release).await;
        }
    })
    .await;
}
