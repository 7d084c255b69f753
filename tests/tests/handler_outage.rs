//! An MQTT outage is not a device outage, whatever kind of outage it is; and the stream outlives it.

use std::time::{Duration, Instant};

use akri_mqtt_tests::agent::AgentOptions;
use akri_mqtt_tests::devices::Device;
use akri_mqtt_tests::handler::HandlerProcess;
use akri_mqtt_tests::mosquitto::Config;
use akri_mqtt_tests::proxy::Proxy;
use akri_mqtt_tests::scene::{CONFIGURATION, Scene, details};

const LIVES: &str = "plant-a/lives";
const DIES: &str = "plant-a/dies";

async fn begin(scene: &Scene, details: &str) -> (HandlerProcess, Device, Device) {
    let handler = scene.handler().await;
    scene.configure(details, &[]).await;
    let (lives, dies) = (scene.robot("lives"), scene.robot("dies"));
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &[DIES, LIVES])
        .await;
    (handler, lives, dies)
}

/// The device that died in the outage goes after the grace; the living one never went, and no stream ended.
async fn only_the_dead_goes(scene: &Scene) {
    scene.agent.wait_for_devices(CONFIGURATION, &[LIVES]).await;
    assert!(
        !scene.agent.has_deleted(LIVES),
        "{:#?}",
        scene.agent.happened()
    );
    assert_eq!(scene.agent.ended(), 0);
}

async fn disconnected(handler: &HandlerProcess) {
    handler
        .wait_for("it is not connected", |handler| {
            handler.metric("connected") == Some(0.0)
        })
        .await;
    handler.wait_for_log("not connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_withdraws_nobody_but_who_died_in_it() {
    let scene = Scene::start();
    let link = Proxy::start(scene.server.address()).await.unwrap();
    let (handler, _lives, mut dies) = begin(&scene, &details(link.address(), "")).await;
    link.refuse(true);
    link.cut();
    disconnected(&handler).await;
    dies.crash();
    assert_eq!(scene.agent.devices(CONFIGURATION), [DIES, LIVES]);
    link.refuse(false);
    only_the_dead_goes(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_withdraws_nobody_but_who_died_in_it() {
    let scene = Scene::start();
    let more = "mqtt:\n  keepAlive: 5s\n";
    let (handler, _lives, mut dies) = begin(&scene, &details(scene.server.address(), more)).await;
    scene.server.freeze();
    disconnected(&handler).await;
    dies.crash();
    scene.server.thaw();
    only_the_dead_goes(&scene).await;
}

/// What living devices do when their server comes back.
fn come_back(scene: &Scene, name: &str) -> Device {
    scene.robot(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_withdraws_nobody_but_who_did_not_come_back() {
    let mut scene = Scene::start();
    let (handler, _lives, mut dies) = begin(&scene, &scene.details()).await;
    dies.crash();
    let _dies = scene.robot("dies");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &[DIES, LIVES])
        .await;
    scene.server.save();
    scene.server.kill();
    disconnected(&handler).await;
    scene.server.restart();
    let _back = come_back(&scene, "lives");
    scene.data("lives");
    handler
        .wait_for("it is connected", |handler| {
            handler.metric("connected") == Some(1.0)
        })
        .await;
    scene.data("lives");
    assert!(
        !scene.agent.has_deleted(LIVES),
        "{:#?}",
        scene.agent.happened()
    );
    assert_eq!(scene.agent.ended(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_of_the_server_which_publishes_every_last_will_withdraws_nobody_that_comes_back()
 {
    let mut scene = Scene::start_with(AgentOptions::default(), Config::new().persistent());
    let (handler, lives, dies) = begin(&scene, &scene.details()).await;
    scene.server.stop();
    disconnected(&handler).await;
    drop((lives, dies));
    scene.server.restart();
    let _back = come_back(&scene, "lives");
    only_the_dead_goes(&scene).await;
    let answer = handler.presence("/plant-a/lives");
    assert_eq!(answer["requests"][0]["state"], "online");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_silence_stands_still_while_the_server_is_away() {
    const SILENCE: Duration = Duration::from_secs(3);
    let scene = Scene::start();
    let link = Proxy::start(scene.server.address()).await.unwrap();
    let handler = scene.handler().await;
    let details =
        details(link.address(), "").replace("  offlineDelay", "  offlineAfter: 3s\n  offlineDelay");
    scene.configure(&details, &[]).await;
    scene.data("r1");
    let device = "plant-a/r1";
    scene.agent.wait_for_devices(CONFIGURATION, &[device]).await;
    link.refuse(true);
    link.cut();
    disconnected(&handler).await;
    // It is there throughout an outage that is longer than it may be silent.
    let long = Instant::now() + SILENCE + Duration::from_secs(1);
    while Instant::now() < long {
        assert_eq!(scene.agent.devices(CONFIGURATION), [device]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let back = Instant::now();
    link.refuse(false);
    scene.agent.wait_for_devices(CONFIGURATION, &[]).await;
    let answer = handler.presence("/plant-a/r1");
    assert_eq!(answer["requests"][0]["reason"], "silence");
    // The outage began 5 s before the cut, so all of its 3 s are left, and run after the grace of 1.5 s.
    assert!(back.elapsed() > SILENCE + Duration::from_secs(1));
}
