//! Limits refuse newcomers and never withdraw a device that is in; names that collide are withheld.

use std::collections::HashMap;
use std::time::Duration;

use akri_mqtt_proto::akri::DiscoverRequest;
use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_tests::agent::{discover, instance_name};
use akri_mqtt_tests::handler::HandlerProcess;
use akri_mqtt_tests::scene::{CONFIGURATION, Scene, details};

#[tokio::test(flavor = "multi_thread")]
async fn max_devices_refuses_newcomers_and_a_freed_place_goes_to_the_next() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    let details = details(scene.server.address(), "  maxDevices: 2\n");
    scene.configure(&details, &[]).await;
    let mut z = scene.robot("z");
    let _y = scene.robot("y");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/y", "plant-a/z"])
        .await;
    let _a = scene.robot("a");
    handler
        .wait_for("a is refused", |handler| {
            handler.metric("devices_left_out{request").unwrap_or(0.0) >= 1.0
        })
        .await;
    assert!(
        handler
            .get("/readyz")
            .1
            .contains("refused by limits.maxDevices 2")
    );
    assert_eq!(
        scene.agent.devices(CONFIGURATION),
        ["plant-a/y", "plant-a/z"]
    );
    z.crash();
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/a", "plant-a/y"])
        .await;
    assert!(!scene.agent.has_deleted("plant-a/y"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_response_refuses_newcomers_says_so_and_is_never_larger_than_its_limit() {
    let scene = Scene::start();
    let mut handler = scene.handler().await;
    let limit = [("AKRI_MQTT_MAX_RESPONSE", "2500")];
    scene.configure(&scene.details(), &limit).await;
    for name in ["z", "y", "x", "w", "v", "u"] {
        scene.data(name);
        scene
            .agent
            .wait_for("it is known", Duration::from_secs(10), |_| {
                handler.presence(&format!("/plant-a/{name}"))["requests"][0]["published"] == true
            })
            .await;
    }
    let left_out = |handler: &HandlerProcess, device: &str| {
        handler.presence(&format!("/plant-a/{device}"))["requests"][0]["left_out"].clone()
    };
    handler
        .wait_for("the last one waits", |handler| {
            left_out(handler, "u").is_string()
        })
        .await;
    scene
        .agent
        .wait_for_devices_at_least(CONFIGURATION, 1)
        .await;
    let listed = scene.agent.devices(CONFIGURATION);
    assert!(handler.metric("devices_left_out{request").unwrap_or(0.0) >= 1.0);
    assert!(
        listed.contains(&"plant-a/z".to_owned()) && listed.len() < 6,
        "{listed:?}"
    );
    assert!(handler.get("/readyz").1.contains("not listed, such as"));
    assert!(handler.log().contains("device is not listed"));
    let left = left_out(&handler, "u");
    assert!(left.as_str().unwrap().contains("2500 bytes"), "{left}");
    handler
        .wait_for("the roster is written", |_| scene.saved("u"))
        .await;
    handler.kill();
    let _again = scene.handler().await;
    scene
        .agent
        .wait_for("the same are listed", Duration::from_secs(20), |agent| {
            agent.devices(CONFIGURATION) == listed
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_devices_whose_instances_would_have_one_name_the_same_one_is_withheld_everywhere() {
    let (one, other) = colliding_pair();
    let scene = Scene::start();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    scene.data(&one);
    scene.data(&other);
    handler
        .wait_for("one is withheld", |handler| {
            handler.metric("devices_left_out{request").unwrap_or(0.0) >= 1.0
        })
        .await;
    scene
        .agent
        .wait_for_devices_at_least(CONFIGURATION, 1)
        .await;
    let listed = scene.agent.devices(CONFIGURATION);
    // The second handler knows both from the roster of the first.
    handler
        .wait_for("the roster is written", |_| {
            scene.saved(&one) && scene.saved(&other)
        })
        .await;
    let passing = scene
        .flags()
        .instance("n-1")
        .with(&["--collisions", "pass", "--name", "passing"])
        .start();
    passing.wait_for_log("discovery handler serves").await;
    let request = DiscoverRequest {
        discovery_details: scene.details(),
        ..DiscoverRequest::default()
    };
    let socket = scene
        .directory()
        .join("passing-n-1.sock")
        .display()
        .to_string();
    let mut stream = discover(&socket, EndpointType::Uds, 1 << 20, request)
        .await
        .unwrap();
    let list = stream.message().await.unwrap().unwrap();
    assert_eq!(list.devices.len(), 2);
    assert_eq!(listed.len(), 1);
    let withheld = if listed[0] == format!("plant-a/{one}") {
        &other
    } else {
        &one
    };
    let why = handler.presence(&format!("/plant-a/{withheld}"))["requests"][0]["left_out"].clone();
    let expected = format!("withheld: its Instance name collides with {}", listed[0]);
    assert!(why.as_str().unwrap().starts_with(&expected), "{why}");
    assert!(handler.log().contains(&expected));
}

/// Two robots whose Instances Akri would give one name; some 5,000 names are enough to find them.
fn colliding_pair() -> (String, String) {
    let mut seen = HashMap::new();
    for n in 0.. {
        let name = format!("r{n}");
        let instance = instance_name(CONFIGURATION, &format!("plant-a/{name}"));
        if let Some(other) = seen.insert(instance, name.clone()) {
            return (other, name);
        }
    }
    unreachable!()
}
