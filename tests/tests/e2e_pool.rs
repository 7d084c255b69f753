//! A pool on a real cluster: members come, go and are killed while devices publish, and nothing that the
//! MQTT server has taken is missing afterwards. In: the images of `cargo xtask e2e`. Out: what the stores hold.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use akri_mqtt_tests::cluster::configuration::idle;
use akri_mqtt_tests::cluster::helm::{self, values_with};
use akri_mqtt_tests::cluster::pod::{TestPod, container};
use akri_mqtt_tests::cluster::scene::{Scene, names, scene};
use akri_mqtt_tests::cluster::{SOON, api, api_all, delete, patch, until};
use akri_mqtt_tests::pod::processes::Start;
use serde_json::{Value, json};

const POOL: &str = "monitors";
const SHARDS: u64 = 64;
const DEVICES: usize = 20;
/// Members that there are at most, and volumes.
const MOST: usize = 5;

/// A stored reading: the store, its place there, and whether the server had said that it may be a repetition.
type Copy = (String, u64, bool);
/// The copies of each reading of a device.
type Stored = BTreeMap<u64, BTreeSet<Copy>>;

/// The address of a member that is ready.
async fn member(scene: &Scene, number: usize) -> SocketAddr {
    let name = format!("{POOL}-{number}");
    let pod = TestPod::ready(&scene.client, &scene.namespace, &name).await;
    format!("{}:8080", pod.ip).parse().unwrap()
}

/// A number that a member counts, if it answers.
async fn metric(scene: &Scene, of: SocketAddr, name: &str) -> Option<u64> {
    let (_, text) = scene.field.fetch(of, "/metrics").await?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.parse().ok()
}

/// Waits until exactly so many members share all shards; where they are.
async fn shared_by(scene: &Scene, count: usize) -> Vec<SocketAddr> {
    until(
        &format!("{count} members share the shards"),
        2 * SOON,
        async || {
            let pods = scene.record.now("Pod").into_values();
            let pods: Vec<_> = pods.filter(|pod| pod.name.starts_with(POOL)).collect();
            let running: Vec<_> = pods.iter().filter(|pod| pod.is_running()).collect();
            if pods.len() != count || running.len() != count {
                return Err(format!("{} pods, {} run", pods.len(), running.len()));
            }
            let (mut addresses, mut shards) = (Vec::new(), Vec::new());
            for pod in running {
                let address: SocketAddr = format!("{}:8080", pod.text("/status/podIP"))
                    .parse()
                    .unwrap();
                let members = metric(scene, address, "akri_mqtt_pool_members").await;
                let of_it = metric(scene, address, "akri_mqtt_pool_shards").await;
                let knows_all = members == u64::try_from(count).ok();
                shards.push(of_it.filter(|_| knows_all).unwrap_or_default());
                addresses.push(address);
            }
            if shards.iter().sum::<u64>() == SHARDS && shards.iter().all(|shards| *shards > 0) {
                Ok(addresses)
            } else {
                Err(format!("{shards:?}"))
            }
        },
    )
    .await
}

/// What the members have of a device, as any one of them answers.
async fn stored(scene: &Scene, member: SocketAddr, device: &str) -> Stored {
    let mut found = Stored::new();
    let path = format!("/v1/devices/plant-a%2F{device}/messages?limit=10000&order=asc");
    let page = scene.field.fetch_json(member, &path).await;
    assert_eq!(page.get("next_page_token"), None, "one page is enough");
    // Asked again until all members have answered.
    if page["partial"] == true {
        return found;
    }
    for message in page["messages"].as_array().into_iter().flatten() {
        let Some(reading) = message["payload"]["reading"].as_u64() else {
            continue;
        };
        let (store, _) = message["cursor"].as_str().unwrap().split_once(':').unwrap();
        let duplicate = message["duplicate"].as_bool().unwrap();
        let sequence = message["sequence"].as_u64().unwrap();
        let copy = (store.to_owned(), sequence, duplicate);
        found.entry(reading).or_default().insert(copy);
    }
    found
}

/// The last reading of each device that the MQTT server has taken.
async fn taken(scene: &Scene) -> BTreeMap<String, u64> {
    let processes = scene.field.processes().await.into_iter();
    let taken = processes.filter_map(|(name, process)| {
        assert_eq!(process.ended, None, "{name}");
        let last = process.last?.strip_prefix("taken ")?.parse().ok()?;
        Some((name, last))
    });
    taken.collect()
}

/// Waits until each device has had so many more readings taken.
async fn publish_on(scene: &Scene, more: u64) {
    let before = taken(scene).await;
    assert_eq!(before.len(), DEVICES);
    until("devices publish", SOON, async || {
        let now = taken(scene).await;
        let slow = before
            .iter()
            .find(|(name, last)| now[*name] < **last + more);
        slow.map_or(Ok(()), |slow| Err(format!("{slow:?}")))
    })
    .await;
}

/// Volumes that outlive the members: directories of a pod, since a cluster of tests may make none by itself.
async fn volumes(scene: &Scene) -> Vec<String> {
    let mut room = container(&["serve"]);
    let all: Vec<String> = (0..MOST).map(|n| format!("v{n}")).collect();
    let mounts = all
        .iter()
        .map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
    room["volumeMounts"] = mounts.collect();
    let volumes: Value = all
        .iter()
        .map(|name| json!({"name": name, "emptyDir": {}}))
        .collect();
    let spec =
        json!({"containers": [room], "volumes": volumes, "terminationGracePeriodSeconds": 1});
    TestPod::start_with(&scene.client, &scene.namespace, "room", spec).await;
    let pod = scene.get("Pod", "room").await;
    let node = pod["spec"]["nodeName"].as_str().unwrap();
    let node = api_all(&scene.client, "Node").get(node).await.unwrap();
    let host = &node.metadata.labels.unwrap()["kubernetes.io/hostname"];
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let mut made = Vec::new();
    for name in all {
        let path = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/{name}");
        let there = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [host]});
        let volume = format!("{}-{name}", scene.namespace);
        let object = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": scene.namespace,
                "hostPath": {"path": path, "type": "Directory"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}},
            },
        });
        let object = serde_json::from_value(object).unwrap();
        let all = api_all(&scene.client, "PersistentVolume");
        all.create(&Default::default(), &object).await.unwrap();
        made.push(volume);
    }
    made
}

async fn scale(scene: &Scene, members: usize) -> Vec<SocketAddr> {
    let replicas = json!({"spec": {"replicas": members}});
    patch(
        &scene.client,
        &scene.namespace,
        "StatefulSet",
        POOL,
        replicas,
    )
    .await;
    shared_by(scene, members).await
}

/// Fails unless a device's readings are all there, in order, and twice only where the server had said so.
fn assert_complete(device: &str, stored: &Stored, from: u64, to: u64) {
    let missing: Vec<u64> = (from..=to).filter(|n| !stored.contains_key(n)).collect();
    assert_eq!(missing, Vec::<u64>::new(), "{device}: {from} to {to}");
    let mut stores: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for (reading, copies) in stored {
        let first: Vec<_> = copies.iter().filter(|(.., duplicate)| !duplicate).collect();
        assert!(first.len() <= 1, "{device}: {reading}: {copies:?}");
        for (store, sequence, _) in first {
            stores.entry(store).or_default().push((*sequence, *reading));
        }
    }
    // By reading, and so by place: the order of the topic within each store.
    for (store, places) in stores {
        assert!(places.is_sorted(), "{device}: {store}: {places:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn pool_that_grows_shrinks_and_is_killed_stores_all_that_the_server_has_taken() {
    scene("pool", async |scene| {
        let volumes = volumes(scene).await;
        let mut robots = scene.robots("robots").running(idle());
        robots.annotations = json!({"mqtt.akri.sh/pool": POOL});
        scene.apply(&robots).await;
        let starts = names(DEVICES).into_iter().map(|name| {
            let mut argv = scene.device("robots", &name).argv;
            argv.extend(["--acknowledged".to_owned(), "--every=250".to_owned()]);
            Start { name, argv }
        });
        scene.field.spawn(&starts.collect::<Vec<_>>()).await;
        helm::install(&values_with(&json!({"pools": [{
            "name": POOL,
            "namespace": scene.namespace,
            "configuration": "robots",
            "drainTimeout": "1s",
            "persistence": {"size": "1Gi", "storageClass": scene.namespace},
            "monitoringBroker": {
                "retainBytes": "64MiB",
                "readinessProbe": {"periodSeconds": 1},
                "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}},
            },
        }]})));
        scene.wait_for_count("Instance", DEVICES).await;
        let members = shared_by(scene, 3).await;
        // From here on everything counts: each device is watched.
        let mut first = BTreeMap::new();
        for (device, member) in names(DEVICES).into_iter().zip(members.iter().cycle()) {
            let reading = until(&format!("{device} is watched"), SOON, async || {
                let stored = stored(scene, *member, &device).await;
                stored.keys().next().copied().ok_or("nothing is stored")
            })
            .await;
            first.insert(device, reading);
        }

        scale(scene, MOST).await;
        publish_on(scene, 4).await;
        let killer = TestPod::start_on_node(&scene.client, &scene.namespace, "killer").await;
        let victim = scene.get("Pod", &format!("{POOL}-1")).await;
        let container = &victim["status"]["containerStatuses"][0]["containerID"];
        let (_, id) = container.as_str().unwrap().split_once("://").unwrap();
        killer.kill_container(id).await;
        publish_on(scene, 4).await;
        shared_by(scene, MOST).await;
        let gone = format!("{POOL}-0");
        delete(&scene.client, &scene.namespace, "Pod", &gone, true).await;
        publish_on(scene, 4).await;
        member(scene, 0).await;
        shared_by(scene, MOST).await;
        scale(scene, 2).await;
        publish_on(scene, 4).await;

        // The members that went come back with what they had.
        let members = scale(scene, MOST).await;
        for ((device, last), member) in taken(scene).await.into_iter().zip(members.iter().cycle()) {
            let stored = until(&format!("{device}: {last} is stored"), SOON, async || {
                let stored = stored(scene, *member, &device).await;
                let there = stored.contains_key(&last);
                there.then_some(stored).ok_or("not yet")
            })
            .await;
            assert_complete(&device, &stored, first[&device], last);
        }
        let brokers = scene
            .record
            .since(0)
            .into_iter()
            .filter(|change| change.is_broker());
        assert_eq!(brokers.count(), 0, "no pod for a device");

        // Without the annotation each device has its pod again.
        let annotations = json!({"metadata": {"annotations": {"mqtt.akri.sh/pool": null}}});
        patch(
            &scene.client,
            &scene.namespace,
            "Configuration",
            "robots",
            annotations,
        )
        .await;
        until("each device has a pod", SOON, async || {
            let pods = scene.record.brokers().len();
            if pods == DEVICES { Ok(()) } else { Err(pods) }
        })
        .await;
        helm::install(&helm::values());
        scene.wait_for_count("PersistentVolumeClaim", MOST).await;
        let left = api(&scene.client, &scene.namespace, "StatefulSet")
            .get_opt(POOL)
            .await;
        assert!(left.unwrap().is_none(), "the chart takes its pool away");
        for volume in volumes {
            let all = api_all(&scene.client, "PersistentVolume");
            all.delete(&volume, &Default::default()).await.unwrap();
        }
    })
    .await;
}
