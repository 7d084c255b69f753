//! Figures of the agentless controller on a real cluster. In: the images of `cargo xtask bench
//! cluster`, built as they are released. Out: one line for each figure, with its limit; the peer is
//! the same work done by this program itself, straight against the API server.

#![allow(
    missing_docs,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use akri_mqtt_tests::cluster::configuration::{idle, services};
use akri_mqtt_tests::cluster::helm::{self, values_with};
use akri_mqtt_tests::cluster::pod::TestPod;
use akri_mqtt_tests::cluster::record::Change;
use akri_mqtt_tests::cluster::scene::{Scene, release_pods, scene_in};
use akri_mqtt_tests::cluster::{client, create, delete, namespace, until};
use akri_mqtt_tests::pod::now_ms;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// `publishInterval` of the Configurations.
const INTERVAL_MS: u64 = 250;
const ONE_BY_ONE: usize = 200;
const AT_ONCE: usize = 30;
const ROUNDS: usize = 3;
const MANY: usize = 1_000;
const CROWD: usize = 10_000;
/// Of so many devices a few have Instance names that collide, and are withheld.
const COLLISIONS: usize = 20;
/// Requests of the peer that are under way at the same time.
const PARALLEL: usize = 16;
/// Port of the controller's metrics.
const ADMIN_PORT: u16 = 8082;
const QUIET: Duration = Duration::from_secs(3);
const STEADY: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(900);

/// In this order: memory is that of a process that has had nothing else to do.
const FIGURES: [&str; 4] = ["memory", "first-message", "running", "many"];

/// What runs for a device, on a node that is not there.
fn nowhere() -> Value {
    let mut broker = idle();
    broker["brokerPodSpec"]["nodeSelector"] = json!({"akri-mqtt/no": "node"});
    broker
}

/// Announcements of so many devices, all of them retained.
fn announcements(prefix: &str, count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| announcement(prefix, n)).collect()
}

fn announcement(prefix: &str, number: usize) -> (String, String) {
    (format!("{prefix}/d{number}/status"), "online".to_owned())
}

/// A Configuration of devices below `prefix`, which is its name as well.
async fn configure(scene: &Scene, prefix: &str, broker: Value, more: Value) {
    let mut robots = scene.robots(prefix).running(broker).with(more);
    prefix.clone_into(&mut robots.prefix);
    robots.details = "  maxDevices: 20000\n".to_owned();
    scene.apply(&robots).await;
}

/// Deletes a Configuration and waits until nothing of it is left.
async fn remove(scene: &Scene, name: &str) {
    delete(
        &scene.client,
        &scene.namespace,
        "Configuration",
        name,
        false,
    )
    .await;
    until("nothing is left", LONG, async || {
        let left = scene.record.now("Instance").len() + scene.record.brokers().len();
        if left == 0 {
            Ok(())
        } else {
            Err(left.to_string())
        }
    })
    .await;
    scene.settled(QUIET).await;
}

/// The first time that each object since `place` was seen, by `which`.
fn first_seen(
    scene: &Scene,
    place: usize,
    which: impl Fn(&Change) -> bool,
) -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for change in scene.record.since(place).iter().filter(|one| which(one)) {
        times
            .entry(format!("{} {}", change.kind, change.name))
            .or_insert(change.at);
    }
    times
}

fn seconds(from: u64, times: &BTreeMap<String, u64>) -> f64 {
    let last = times.values().copied().max().unwrap_or_default();
    let ms = last.saturating_sub(from) as f64;
    ms / 1_000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// From a device's first message to its pod.
async fn one_by_one(scene: &Scene) {
    configure(scene, "single", nowhere(), json!({})).await;
    let mut took = Vec::new();
    for number in 0..ONE_BY_ONE {
        let place = scene.record.len();
        let message = announcement("single", number);
        let server = &scene.server.address;
        let from = scene.field.publish(server, true, vec![message]).await;
        let at = until("the device has a pod", LONG, async || {
            let pods = first_seen(scene, place, |one| one.is_broker() && !one.gone);
            pods.values().next().copied().ok_or("not yet")
        })
        .await;
        took.push(at.saturating_sub(from));
    }
    took.sort_unstable();
    let beyond = |share: usize| {
        took[(took.len() * share / 100).min(took.len() - 1)].saturating_sub(INTERVAL_MS)
    };
    println!(
        "cluster/first-message-to-pod: {ONE_BY_ONE} devices one by one, beyond publishInterval ({INTERVAL_MS} ms): median {} ms, p99 {} ms (limit 500 ms)",
        beyond(50),
        beyond(99),
    );
    remove(scene, "single").await;
}

/// So many pods made by this program; the times at which each of them was there.
async fn bare_pods(scene: &Scene, name: &str, count: usize, spec: &Value) -> (u64, usize) {
    let (place, from) = (scene.record.len(), now_ms());
    stream::iter(0..count)
        .for_each_concurrent(PARALLEL, async |number| {
            let pod = json!({"metadata": {"name": format!("{name}-{number}"), "labels": {"bare": name}}, "spec": spec});
            create(&scene.client, &scene.namespace, "Pod", pod).await;
        })
        .await;
    (from, place)
}

async fn remove_bare(scene: &Scene, name: &str, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(PARALLEL, async |number| {
            let pod = format!("{name}-{number}");
            delete(&scene.client, &scene.namespace, "Pod", &pod, true).await;
        })
        .await;
    until("the peer's pods are gone", LONG, async || {
        let left = scene.record.now("Pod").into_values();
        let left = left.filter(|pod| is_bare(pod, name)).count();
        if left == 0 {
            Ok(())
        } else {
            Err(left.to_string())
        }
    })
    .await;
    scene.settled(QUIET).await;
}

fn is_bare(pod: &Change, name: &str) -> bool {
    let labels = pod.object.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("bare"))
        .map(String::as_str)
        == Some(name)
}

/// Waits until so many objects since `place` are as `which` says; the seconds that the last one took.
async fn reached(
    scene: &Scene,
    (from, place): (u64, usize),
    count: usize,
    which: impl Fn(&Change) -> bool,
) -> f64 {
    let times = until(&format!("{count} are there"), LONG, async || {
        let times = first_seen(scene, place, &which);
        if times.len() >= count {
            Ok(times)
        } else {
            Err(times.len().to_string())
        }
    })
    .await;
    seconds(from, &times)
}

/// So many devices at once, until the last pod runs.
async fn at_once(scene: &Scene) {
    let spec = idle()["brokerPodSpec"].clone();
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("bare-{round}");
        let start = bare_pods(scene, &name, AT_ONCE, &spec).await;
        let running = |pod: &Change| is_bare(pod, &name) && pod.is_running();
        peers.push(reached(scene, start, AT_ONCE, running).await);
        remove_bare(scene, &name, AT_ONCE).await;

        let name = format!("thirty{round}");
        configure(scene, &name, idle(), json!({})).await;
        let start = publish(scene, &name, AT_ONCE).await;
        let running = |pod: &Change| pod.is_broker() && pod.is_running();
        ours.push(reached(scene, start, AT_ONCE, running).await);
        remove(scene, &name).await;
    }
    let (ours, peer) = (median(ours), median(peers));
    println!(
        "cluster/running: {AT_ONCE} devices at once, {AT_ONCE} pods Running after {ours:.2} s (limit 5 s); bare pods {peer:.2} s, ratio {:.2}; median of {ROUNDS}",
        ours / peer,
    );
}

async fn publish(scene: &Scene, prefix: &str, count: usize) -> (u64, usize) {
    let place = scene.record.len();
    let messages = announcements(prefix, count);
    let from = scene
        .field
        .publish(&scene.server.address, true, messages)
        .await;
    (from, place)
}

/// Requests to the API server so far, by verb and kind.
async fn requests(scene: &Scene) -> BTreeMap<String, f64> {
    let pod = controller(scene).await;
    let ip: IpAddr = pod.status.unwrap().pod_ip.unwrap().parse().unwrap();
    let answer = scene
        .field
        .fetch(SocketAddr::new(ip, ADMIN_PORT), "/metrics")
        .await;
    let (_, text) = answer.unwrap();
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("akri_mqtt_api_requests_total{")?;
        let (labels, value) = rest.split_once("} ")?;
        Some((labels.to_owned(), value.parse().ok()?))
    });
    lines.collect()
}

/// The pod of the controller, once it is the only one.
async fn controller(scene: &Scene) -> Pod {
    until("the release has one pod", LONG, async || {
        let mut pods = release_pods(&scene.client).await;
        match (pods.pop(), pods.len()) {
            (Some(pod), 0) => Ok(pod),
            (_, others) => Err(format!("{others} others")),
        }
    })
    .await
}

/// The requests that were made since `before`, Leases left out.
fn since(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let grown = now.iter().map(|(labels, value)| {
        let before = before.get(labels).copied().unwrap_or_default();
        (labels.clone(), value - before)
    });
    grown
        .filter(|(labels, count)| *count > 0.0 && !labels.contains("leases"))
        .collect()
}

/// A site's power comes back: very many devices at once.
async fn many(scene: &Scene, with_services: bool) {
    let (name, more, words) = if with_services {
        ("served", services(), "with Services")
    } else {
        ("plain", json!({}), "without Services")
    };
    configure(scene, name, nowhere(), more).await;
    scene.settled(QUIET).await;
    let before = requests(scene).await;
    let start = publish(scene, name, MANY).await;
    let mut took = 0_f64;
    let mut kinds = vec![("Instance", MANY), ("Pod", MANY)];
    if with_services {
        kinds.push(("Service", MANY + 1));
    }
    for (kind, count) in kinds {
        took = took.max(reached(scene, start, count, |one| one.kind == kind && !one.gone).await);
    }
    scene.settled(QUIET).await;
    let made = since(&before, &requests(scene).await);
    let each = made.values().sum::<f64>() / MANY as f64;
    println!(
        "cluster/many: {MANY} devices at once {words}: everything made after {took:.1} s (limit 30 s); {each:.2} requests a device: {made:?}"
    );
    let (place, before) = (scene.record.len(), requests(scene).await);
    tokio::time::sleep(STEADY).await;
    let (changed, made) = (
        scene.record.len() - place,
        since(&before, &requests(scene).await),
    );
    println!(
        "cluster/steady: {MANY} devices for {} s: {changed} objects changed, requests {made:?} (limit none)",
        STEADY.as_secs()
    );
    remove(scene, name).await;
}

/// What the API server takes for as many pods from one client.
async fn many_bare(scene: &Scene) {
    let spec = nowhere()["brokerPodSpec"].clone();
    let start = bare_pods(scene, "crate", MANY, &spec).await;
    let took = reached(scene, start, MANY, |pod| is_bare(pod, "crate")).await;
    println!("cluster/many-peer: {MANY} bare pods, {PARALLEL} at a time: {took:.1} s");
    remove_bare(scene, "crate", MANY).await;
}

/// Memory of the controller with very many Instances and pods.
async fn memory(scene: &Scene) {
    let node = TestPod::start_on_node(&scene.client, &scene.namespace, "node").await;
    let resident = async || {
        let status = controller(scene).await.status.unwrap();
        let mut containers = status.container_statuses.unwrap().into_iter();
        let container = containers.find(|one| one.name == "controller").unwrap();
        let id = container.container_id.unwrap();
        node.resident(id.rsplit('/').next().unwrap()).await / 1024
    };
    let without = resident().await;
    let mut broker = idle();
    // Nobody places them: it is the controller that is measured.
    broker["brokerPodSpec"]["schedulerName"] = json!("nobody");
    configure(scene, "crowd", broker, json!({})).await;
    let start = publish(scene, "crowd", CROWD).await;
    let took = reached(scene, start, CROWD - COLLISIONS, |pod| {
        pod.is_broker() && !pod.gone
    })
    .await;
    scene.settled(QUIET).await;
    let instances = scene.record.now("Instance").len();
    println!(
        "cluster/memory: controller {} MiB resident at {instances} Instances and as many pods, made in {took:.0} s (limit 64 MiB); {without} MiB at none",
        resident().await
    );
    remove(scene, "crowd").await;
}

fn bench_values() -> Value {
    values_with(&json!({"controller": {"logLevel": "info"}}))
}

#[tokio::main]
async fn main() {
    let client = client().await;
    helm::install(&bench_values());
    let namespace = namespace(&client, "bench").await;
    scene_in(client, namespace, async |scene| {
        // Arguments name the figures that are wanted.
        let wanted: Vec<String> = std::env::args().skip(1).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let wants =
            |name| !wanted.iter().any(|one| FIGURES.contains(one)) || wanted.contains(&name);
        if wants("memory") {
            memory(scene).await;
        }
        if wants("first-message") {
            one_by_one(scene).await;
        }
        if wants("running") {
            at_once(scene).await;
        }
        if wants("many") {
            many_bare(scene).await;
            many(scene, false).await;
            many(scene, true).await;
        }
    })
    .await;
}
