//! The list of a real handler grows and shrinks with real devices on a real Mosquitto.

use std::time::{Duration, Instant};

use akri_mqtt_tests::agent::Happened;
use akri_mqtt_tests::devices::{self, publish};
use akri_mqtt_tests::scene::{CONFIGURATION, Scene, details, status_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_listed_when_it_announces_itself_and_withdrawn_by_its_last_will() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    let mut r1 = scene.robot("r1");
    scene.configure(&scene.details(), &[]).await;
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let _r2 = scene.robot("r2");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1", "plant-a/r2"])
        .await;
    r1.crash();
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r2"])
        .await;
    let answer = handler.presence("/plant-a%2Fr1");
    let r1 = &answer["requests"][0];
    assert_eq!(
        (r1["state"].as_str(), r1["reason"].as_str()),
        (Some("offline"), Some("will"))
    );
    let sentence = r1["explanation"].as_str().unwrap();
    assert!(
        sentence.contains("Last Will on robots/r1/status"),
        "{sentence}"
    );
    assert_eq!(r1["server"]["connected"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_falls_silent_or_disconnects_cleanly_goes_after_offline_after() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    let more = "";
    let details = details(scene.server.address(), more)
        .replace("  offlineDelay", "  offlineAfter: 3s\n  offlineDelay");
    scene.configure(&details, &[]).await;
    scene.data("silent");
    let mut clean = scene.robot("clean");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/clean", "plant-a/silent"])
        .await;
    clean.leave();
    scene.agent.wait_for_devices(CONFIGURATION, &[]).await;
    let answer = handler.presence("/plant-a/silent");
    assert_eq!(answer["requests"][0]["reason"], "silence");
    scene.data("silent");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/silent"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_and_goes_is_withdrawn_later_than_its_delay() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let device = ["plant-a/r1"];
    for _ in 0..2 {
        let mut r1 = scene.robot("r1");
        scene.agent.wait_for_devices(CONFIGURATION, &device).await;
        assert_eq!(handler.metric("flapping_devices"), Some(0.0));
        r1.crash();
        scene.agent.wait_for_devices(CONFIGURATION, &[]).await;
    }
    let mut r1 = scene.robot("r1");
    scene.agent.wait_for_devices(CONFIGURATION, &device).await;
    handler
        .wait_for("the fifth change is flapping", |handler| {
            handler.metric("flapping_devices") == Some(1.0)
        })
        .await;
    assert_eq!(
        handler.presence("/plant-a/r1")["requests"][0]["flapping"],
        true
    );
    let crashed = Instant::now();
    r1.crash();
    scene.agent.wait_for_devices(CONFIGURATION, &[]).await;
    // Twice one second instead of 300 ms.
    assert!(crashed.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_retained_announcement_is_deleted_is_removed() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let _r1 = scene.robot("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    publish(scene.server.address(), &status_of("r1"), None, &["-q", "1"]);
    scene.agent.wait_for_devices(CONFIGURATION, &[]).await;
    let answer = handler.presence("/plant-a/r1");
    assert_eq!(answer["requests"][0]["state"], "removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_are_the_same_bytes_in_every_list_while_the_device_is_present() {
    let scene = Scene::start();
    let mut handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let _r1 = scene.robot("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let before = scene.agent.instances(CONFIGURATION);
    for n in 0..20 {
        scene.data("r1");
        scene.data(&format!("more-{n:02}"));
    }
    scene
        .agent
        .wait_for("all are there", Duration::from_secs(10), |agent| {
            agent.devices(CONFIGURATION).len() == 21
        })
        .await;
    let (name, device) = before.first_key_value().unwrap();
    assert_eq!(scene.agent.instances(CONFIGURATION).get(name), Some(device));
    handler
        .wait_for("the roster is written", |_| scene.saved("more-19"))
        .await;
    handler.kill();
    let _second = scene.handler().await;
    scene
        .agent
        .wait_for_devices_at_least(CONFIGURATION, 21)
        .await;
    assert_eq!(scene.agent.instances(CONFIGURATION).get(name), Some(device));
    let names: Vec<&str> = device.properties.keys().map(String::as_str).collect();
    assert!(
        names.contains(&"MQTT_DEVICE_ID") && names.contains(&"MQTT_TOPICS"),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn client_ids_and_topics_of_ours_are_never_devices() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    let details = format!(
        "servers:\n- {{name: plant-a, urls: ['tcp://{}']}}\ntopics: ['{{device}}/+/state']\n",
        scene.server.address()
    );
    scene.configure(&details, &[]).await;
    handler
        .wait_for("it is subscribed", |handler| {
            handler.metric("connected") == Some(1.0)
        })
        .await;
    devices::publish(scene.server.address(), "akri-mqtt/x/state", Some("1"), &[]);
    devices::publish(scene.server.address(), "robot/x/state", Some("1"), &[]);
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/robot"])
        .await;
    devices::publish(scene.server.address(), "akri-mqtt/x/state", Some("1"), &[]);
    handler
        .wait_for("it was counted", |handler| {
            handler
                .metric("messages_ignored_total{reason=\"own\"")
                .unwrap_or(0.0)
                >= 1.0
        })
        .await;
    assert_eq!(scene.agent.devices(CONFIGURATION), ["plant-a/robot"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_sorted_and_only_changes_are_sent() {
    let scene = Scene::start();
    let _handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    for name in ["c", "a", "b"] {
        scene.data(name);
    }
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/a", "plant-a/b", "plant-a/c"])
        .await;
    for _ in 0..20 {
        scene.data("a");
    }
    let lists: Vec<(Instant, Vec<String>)> = scene
        .agent
        .timeline()
        .into_iter()
        .filter_map(|(at, happened)| match happened {
            Happened::List { devices, .. } => Some((at, devices)),
            _ => None,
        })
        .collect();
    assert!(lists.iter().all(|(_, list)| list.is_sorted()), "{lists:?}");
    let first = lists[0].0;
    // The same list goes out again 5 s and 15 s after the first.
    let early: Vec<_> = lists
        .iter()
        .filter(|(at, _)| *at < first + Duration::from_millis(4_900))
        .collect();
    assert!(
        early.windows(2).all(|pair| pair[0].1 != pair[1].1),
        "{lists:?}"
    );
}
