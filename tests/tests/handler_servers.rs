//! Several MQTT servers of one Configuration, real ones: independent servers and failover lists at once, members that
//! die and come back, one that is never there, one that speaks 3.1.1 only.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use akri_mqtt_core::details::QoS;
use akri_mqtt_session::Publish;
use akri_mqtt_tests::agent::AgentOptions;
use akri_mqtt_tests::clients::Publisher;
use akri_mqtt_tests::devices::{Device, publish};
use akri_mqtt_tests::handler::HandlerProcess;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::port::free_address;
use akri_mqtt_tests::proxy::{OldServer, Proxy};
use akri_mqtt_tests::scene::{CONFIGURATION, Scene, details, status_of};

/// A robot on any server; its client id is its name.
fn robot(server: &Mosquitto, name: &str) -> Device {
    Device::start(server, &format!("robot-{name}"), &status_of(name))
}

/// Details of the scene's server `plant-a` and one more, as a line of `servers`.
fn with_server(scene: &Scene, server: &str) -> String {
    let own = format!("urls: ['tcp://{}']}}\n", scene.server.address());
    scene.details().replace(&own, &format!("{own}- {server}\n"))
}

async fn is_connected_to(handler: &HandlerProcess, server: &str, member: &Mosquitto) {
    let url = member.url().to_string();
    handler
        .wait_for(&format!("{server} is {url}"), |handler| {
            let view = handler.presence("?devices=false");
            let servers = view["requests"][0]["servers"].as_array().cloned();
            servers.unwrap_or_default().iter().any(|found| {
                found["name"] == server && found["connected"] == true && found["url"] == url
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_on_two_servers_is_two_devices_and_on_the_members_of_a_failover_list_one() {
    let mut scene = Scene::start_with(AgentOptions::default(), Config::new());
    let [mut first, mut second] = [(); 2].map(|()| Mosquitto::start(Config::new()));
    let handler = scene.handler().await;
    let (a, b) = (first.url(), second.url());
    let list = format!("{{name: plant-b, urls: ['{a}', '{b}']}}");
    let robots = [scene.robot("r1"), robot(&first, "r1"), robot(&first, "r2")];
    scene.configure(&with_server(&scene, &list), &[]).await;
    let all = ["plant-a/r1", "plant-b/r1", "plant-b/r2"];
    scene.agent.wait_for_devices(CONFIGURATION, &all).await;
    is_connected_to(&handler, "plant-b", &first).await;
    let before = scene.agent.instances(CONFIGURATION);

    // Its member dies; r1 goes to the other one, r2 does not. An independent server is not concerned.
    let _moved = robot(&second, "r1");
    first.kill();
    is_connected_to(&handler, "plant-b", &second).await;
    let left = ["plant-a/r1", "plant-b/r1"];
    scene.agent.wait_for_devices(CONFIGURATION, &left).await;

    // The other member dies as well; the first one is back, with r1.
    first.restart();
    let _back = robot(&first, "r1");
    second.kill();
    is_connected_to(&handler, "plant-b", &first).await;
    publish(first.address(), &status_of("r3"), Some("online"), &["-r"]);
    let all = ["plant-a/r1", "plant-b/r1", "plant-b/r3"];
    scene.agent.wait_for_devices(CONFIGURATION, &all).await;

    // The independent server dies: its device stands, and the list's go on.
    scene.server.kill();
    publish(first.address(), &status_of("r4"), Some("online"), &["-r"]);
    let all = ["plant-a/r1", "plant-b/r1", "plant-b/r3", "plant-b/r4"];
    scene.agent.wait_for_devices(CONFIGURATION, &all).await;
    for device in left {
        assert!(!scene.agent.has_deleted(device), "{device}");
    }
    let now = scene.agent.instances(CONFIGURATION);
    let same = before
        .iter()
        .filter(|(name, device)| now.get(*name) == Some(*device));
    assert_eq!(
        same.count(),
        2,
        "the properties of both r1 are the same bytes"
    );
    assert_eq!(scene.agent.ended(), 0);
    drop(robots);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_list_has_every_retained_announcement_and_waits_for_no_server_that_is_not_there()
{
    const COUNT: usize = 200;
    let scene = Scene::start();
    let handler = scene.handler().await;
    let announced = (0..COUNT)
        .map(|n| Publish::new(status_of(&format!("r{n}")), "online", QoS::AtLeastOnce).retained());
    let publisher = Publisher::connect(scene.server.url()).await;
    publisher.publish_all(announced).await;
    let nowhere = format!("{{name: nowhere, urls: ['tcp://{}']}}", free_address());
    scene.configure(&with_server(&scene, &nowhere), &[]).await;
    let lists = scene.agent.listed(CONFIGURATION);
    assert_eq!(lists.first().unwrap().len(), COUNT);
    let (ready, text) = handler.get("/readyz");
    assert!(
        ready == 200 && text.contains("nowhere is not connected: "),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_only_311_may_repeat_what_it_says_for_every_filter_and_every_snapshot()
{
    let scene = Scene::start();
    let link = Proxy::start(scene.server.address()).await.unwrap();
    link.speak_only_311(OldServer::Refuses);
    let handler = scene.handler().await;
    let mut crashes = scene.robot("crashes");
    let _lives = scene.robot("lives");
    // Each message matches two filters, neither of which covers the other.
    let overlapping = details(link.address(), "").replace(
        "- robots/{device}/joints\n",
        "- robots/{device}/joints\n- robots/{device}/#\n- +/{device}/joints\n",
    );
    scene.configure(&overlapping, &[]).await;
    let both = ["plant-a/crashes", "plant-a/lives"];
    scene.agent.wait_for_devices(CONFIGURATION, &both).await;
    handler.wait_for_log("version=3.1.1").await;
    scene.data("lives");
    let transitions = |to: &str| {
        let name = format!("transitions_total{{to=\"{to}\"");
        handler.metric(&name).unwrap_or(0.0)
    };
    assert_eq!(transitions("online"), 2.0);

    // The snapshot comes again with each connection.
    link.cut();
    handler
        .wait_for("it has connected again", |handler| {
            let connects = "connects_total{server=\"plant-a\",result=\"ok\"";
            handler.metric(connects) == Some(2.0) && handler.metric("connected") == Some(1.0)
        })
        .await;
    crashes.crash();
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/lives"])
        .await;
    assert!(!scene.agent.has_deleted("plant-a/lives"));
    assert_eq!((transitions("online"), transitions("offline")), (2.0, 1.0));
    assert_eq!(handler.metric("flapping_devices"), Some(0.0));
}
