//! Devices on a real cluster, agentless: on, off, back, many pods for one device, jobs. In: the images
//! of `cargo xtask e2e`. Out: what pods, Services and Instances became of them.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use akri_mqtt_tests::chart;
use akri_mqtt_tests::cluster::configuration::{idle, monitor, services};
use akri_mqtt_tests::cluster::pod::{TestPod, container};
use akri_mqtt_tests::cluster::record::Change;
use akri_mqtt_tests::cluster::scene::{Scene, names, scene};
use akri_mqtt_tests::cluster::{SOON, create, delete, tag, until};
use serde_json::{Value, json};

/// `offlineDelay` and `publishInterval` of the tests' Configurations, and what the issue allows on top.
const NOTICED: Duration = Duration::from_millis(2_000 + 250 + 2_000);
/// From the deletion's begin to the end of the pod's container. What comes after that is its kubelet's, which
/// looks at most every 10 s whether a pod's volumes are gone.
const ENDED: Duration = Duration::from_secs(6);

/// The address of a Service, which has no name here: there is no DNS.
async fn service(scene: &Scene, name: &str) -> SocketAddr {
    until(&format!("Service {name}"), SOON, async || {
        let service = scene.get("Service", name).await;
        let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        format!("{ip}:80").parse::<SocketAddr>()
    })
    .await
}

/// The newest reading of the only device behind an address; `None` while there is none.
async fn reading(workload: &TestPod, address: SocketAddr) -> Option<(String, Value)> {
    let devices = workload.fetch_json(address, "/v1/devices").await;
    let device = devices["devices"][0]["id"].as_str()?.to_owned();
    let path = format!("/v1/devices/{}/latest", device.replace('/', "%2F"));
    let latest = workload.fetch_json(address, &path).await;
    let temperature = latest.pointer("/messages/0/payload/temperature")?;
    Some((device, temperature.clone()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn devices_get_pods_and_services_that_hand_out_their_data() {
    scene("devices", async |scene| {
        let workload = TestPod::start(&scene.client, &scene.namespace, "workload").await;
        let robots = scene.robots("robots").running(monitor()).with(services());
        scene.apply(&robots).await;
        let robots = names(5);
        scene.start_devices(&robots).await;
        scene.wait_for_running(robots.len()).await;
        scene.wait_for_count("Instance", robots.len()).await;
        // One for each, one for all, one of the MQTT server.
        scene.wait_for_count("Service", robots.len() + 1 + 1).await;

        let instance = scene.instance_of("r2").await;
        let own = service(scene, &format!("{}-svc", instance.name)).await;
        let found = until("data of r2 through its own Service", SOON, async || {
            reading(&workload, own).await.ok_or("none")
        })
        .await;
        assert_eq!(found.0, "plant-a/r2");
        assert!(found.1.is_number(), "{found:?}");

        let all = service(scene, "robots-svc").await;
        let found = until("data through the common Service", SOON, async || {
            reading(&workload, all).await.ok_or("none")
        })
        .await;
        assert!(found.0.starts_with("plant-a/r"), "{found:?}");

        let status = scene.get("Configuration", "robots").await["status"].clone();
        assert_eq!(status["devices"], json!(robots.len()), "{status}");
        scene
            .wait_for_condition("robots", "BrokersReady", "True")
            .await;
        scene
            .wait_for_condition("robots", "ServersReachable", "True")
            .await;
        assert_environment(&workload, scene).await;
    })
    .await;
}

/// The Configuration of an example, with the images under test and another server's address.
fn example(file: &str, server: &str) -> Value {
    let path = chart::directory()
        .join("../../examples/kubernetes")
        .join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let image = |tag: &str| format!("akri-mqtt/monitoring-broker:{tag}");
    let text = text.replace("mosquitto.default.svc:1883", server).replace(
        &format!("ghcr.io/{}", image(env!("CARGO_PKG_VERSION"))),
        &image(&tag()),
    );
    let mut found = chart::documents(&text)
        .into_iter()
        .filter(|document| document["kind"] == "Configuration");
    found.next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn examples_work_as_they_are_but_for_the_servers_address() {
    scene("examples", async |scene| {
        let workload = TestPod::start(&scene.client, &scene.namespace, "workload").await;
        let server = &scene.server.address;
        for (file, status, data) in [
            (
                "demo.yaml",
                Some("demo/device-1/status"),
                "demo/device-1/state",
            ),
            (
                "availability.yaml",
                Some("robots/r1/status"),
                "robots/r1/joints",
            ),
            ("plain.yaml", None, "robots/r1/joints"),
        ] {
            let example = example(file, server);
            let name = example["metadata"]["name"].as_str().unwrap().to_owned();
            create(&scene.client, &scene.namespace, "Configuration", example).await;
            scene.wait_for_condition(&name, "Discovered", "True").await;
            if let Some(status) = status {
                let online = (status.to_owned(), "online".to_owned());
                scene.field.publish(server, true, vec![online]).await;
            }
            let message = (data.to_owned(), r#"{"temperature": 21}"#.to_owned());
            scene
                .field
                .publish(server, false, vec![message.clone()])
                .await;
            scene.wait_for_running(1).await;
            scene
                .wait_for_condition(&name, "BrokersReady", "True")
                .await;
            let address = service(scene, &format!("{name}-svc")).await;
            let found = until(&format!("{file}: data"), SOON, async || {
                scene
                    .field
                    .publish(server, false, vec![message.clone()])
                    .await;
                reading(&workload, address).await.ok_or("none")
            })
            .await;
            assert_eq!(found.1, json!(21), "{file}: {found:?}");
            delete(
                &scene.client,
                &scene.namespace,
                "Configuration",
                &name,
                false,
            )
            .await;
            scene.wait_for_running(0).await;
            scene.wait_for_count("Service", 1).await;
        }
    })
    .await;
}

/// A pod of ours tells its device's variables, plain and with the Instance's hash.
async fn assert_environment(_workload: &TestPod, scene: &Scene) {
    let instance = scene.instance_of("r1").await;
    let pod = scene.record.brokers().into_values();
    let pod = pod
        .into_iter()
        .find(|pod| {
            pod.object
                .metadata
                .labels
                .as_ref()
                .is_some_and(|l| l["akri.sh/instance"] == instance.name)
        })
        .expect("r1 has a pod");
    let variables: BTreeSet<String> = pod.object.data["spec"]["containers"][0]["env"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|variable| variable["name"].as_str().map(str::to_owned))
        .collect();
    let hash = instance.name.rsplit('-').next().unwrap().to_uppercase();
    for name in ["MQTT_DEVICE_ID", "MQTT_SERVER_URLS", "MQTT_TOPICS"] {
        assert!(variables.contains(name), "{name}: {variables:?}");
        let suffixed = format!("{name}_{hash}");
        assert!(variables.contains(&suffixed), "{suffixed}: {variables:?}");
    }
    for name in [
        "POD_NAME",
        "POD_NAMESPACE",
        "AKRI_MQTT_INSTANCE",
        "AKRI_MQTT_CLUSTER",
    ] {
        assert!(variables.contains(name), "{name}: {variables:?}");
    }
}

/// How a pod that is gone went.
struct End {
    /// When its deletion began and when it was gone, in milliseconds since 1970.
    begun: u64,
    gone: u64,
    /// Its container's `terminated` state.
    container: Value,
}

fn end(scene: &Scene, place: usize, pod: &Change) -> Result<End, String> {
    let changes = scene.record.since(place);
    let of_pod = || changes.iter().filter(|change| change.uid == pod.uid);
    let begun = of_pod().find(|change| change.deleting || change.gone);
    let gone = of_pod().find(|change| change.gone);
    let (Some(begun), Some(gone)) = (begun, gone) else {
        return Err(format!("deletion begun: {}", begun.is_some()));
    };
    let state = "/status/containerStatuses/0/state/terminated";
    let container = of_pod().find_map(|change| change.object.data.pointer(state).cloned());
    Ok(End {
        begun: begun.at,
        gone: gone.at,
        container: container.unwrap_or_default(),
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn killed_device_loses_its_pod_in_time_and_gets_one_when_it_is_back() {
    scene("kill", async |scene| {
        let robots = scene.robots("robots").running(monitor()).with(services());
        scene.apply(&robots).await;
        scene.start_devices(&names(3)).await;
        scene.wait_for_running(3).await;
        let instance = scene.instance_of("r2").await;
        let brokers = scene.record.brokers();
        let pod = brokers
            .values()
            .find(|pod| pod.name.starts_with(&instance.name))
            .unwrap();
        let before = scene.record.fingerprint();

        let place = scene.record.len();
        let killed = scene.kill("r2").await;
        let end = until("the pod is gone", SOON, async || end(scene, place, pod)).await;
        let (noticed, gone) = (end.begun - killed, end.gone - end.begun);
        println!("NUMBER killed device: its pod's deletion began after {noticed} ms, gone {gone} ms later");
        let limit = |limit: Duration| u64::try_from(limit.as_millis()).unwrap();
        assert!(noticed <= limit(NOTICED), "noticed after {noticed} ms");
        assert_eq!(end.container["exitCode"], json!(0), "{}", end.container);
        let finished = end.container["finishedAt"].as_str().unwrap();
        let finished: jiff::Timestamp = finished.parse().unwrap();
        let ended = u64::try_from(finished.as_millisecond()).unwrap().saturating_sub(end.begun);
        assert!(ended <= limit(ENDED), "ended after {ended} ms");
        scene.wait_for_running(2).await;
        scene.wait_for_count("Instance", 2).await;
        scene.wait_for_count("Service", 2 + 1 + 1).await;
        let after = scene.record.fingerprint();
        assert!(after.is_subset(&before), "the others' pods changed");

        scene.start_devices(&["r2"]).await;
        scene.wait_for_running(3).await;
        let back = scene.instance_of("r2").await;
        assert_eq!(back.name, instance.name, "an Instance's name is a function of its device");
        assert!(
            after.is_subset(&scene.record.fingerprint()),
            "the others' pods changed"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn capacity_of_two_makes_two_pods_for_each_device() {
    scene("capacity", async |scene| {
        let robots = scene.robots("robots").running(idle());
        scene.apply(&robots.with(json!({"capacity": 2}))).await;
        scene.start_devices(&names(2)).await;
        let pods = scene.wait_for_running(4).await;
        let names: BTreeSet<String> = pods.into_iter().map(|pod| pod.name).collect();
        for device in ["r1", "r2"] {
            let instance = scene.instance_of(device).await;
            for n in 0..2 {
                let name = format!("{}-{n}", instance.name);
                assert!(names.contains(&name), "{name}: {names:?}");
            }
        }
        // Deleted by hand, it comes back; the others are left alone.
        let before = scene.record.fingerprint();
        let victim = names.first().unwrap();
        akri_mqtt_tests::cluster::delete(&scene.client, &scene.namespace, "Pod", victim, false)
            .await;
        until("the pod is another one", SOON, async || {
            let running = scene.record.running();
            let again = running
                .get(victim)
                .is_some_and(|pod| before.iter().all(|(_, uid, _)| *uid != pod.uid));
            again.then_some(()).ok_or("no")
        })
        .await;
        let after = scene.record.fingerprint();
        assert_eq!(before.intersection(&after).count(), 3);

        scene.edit("robots", json!({"capacity": 1})).await;
        scene.wait_for_running(2).await;
        let names: Vec<String> = scene.record.brokers().into_keys().collect();
        assert!(names.iter().all(|name| name.ends_with("-0")), "{names:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn job_runs_once_for_each_device() {
    scene("jobs", async |scene| {
        let mut container = container(&["done"]);
        container.as_object_mut().unwrap().remove("readinessProbe");
        let job = json!({"brokerJobSpec": {
            "backoffLimit": 1,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }});
        scene.apply(&scene.robots("robots").running(job)).await;
        scene.start_devices(&names(2)).await;
        scene.wait_for_count("Job", 2).await;
        until("both jobs are done", SOON, async || {
            let jobs = scene.record.now("Job");
            let done = jobs
                .values()
                .filter(|job| job.object.data["status"]["succeeded"] == json!(1))
                .count();
            if done == 2 {
                Ok(())
            } else {
                Err(format!("{done} done"))
            }
        })
        .await;
        let jobs: BTreeSet<String> = scene.record.now("Job").into_keys().collect();
        let place = scene.settled(Duration::from_secs(3)).await;
        assert_eq!(scene.record.now("Job").len(), 2, "no job runs again");
        assert!(scene.record.since(place).is_empty());
        assert!(jobs.iter().all(|name| name.ends_with("-job")), "{jobs:?}");

        scene.kill("r1").await;
        scene.wait_for_count("Job", 1).await;
        scene.wait_for_count("Instance", 1).await;
    })
    .await;
}
