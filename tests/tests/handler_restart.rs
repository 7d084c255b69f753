//! A restart of the handler, its Agent or a sibling: devices stay, sessions stay.

use std::time::Duration;

use akri_mqtt_tests::agent::{Agent, AgentOptions, Happened};
use akri_mqtt_tests::devices::{client_ids, connects};
use akri_mqtt_tests::mosquitto::Config;
use akri_mqtt_tests::scene::{CONFIGURATION, Scene};

/// The first list that came after the handler's `n`-th registration.
fn first_list_after_registration(happened: &[Happened], n: usize) -> Option<Vec<String>> {
    let registrations = happened
        .iter()
        .enumerate()
        .filter(|(_, what)| matches!(what, Happened::Registered { .. }));
    let (at, _) = registrations.into_iter().nth(n)?;
    happened.iter().skip(at).find_map(|what| match what {
        Happened::List { devices, .. } => Some(devices.clone()),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_first_list_names_every_device_although_the_server_is_away() {
    let mut scene = Scene::start();
    let mut handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    scene.data("a");
    let _b = scene.robot("b");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/a", "plant-a/b"])
        .await;
    handler
        .wait_for("the roster is written", |_| {
            scene.saved("a") && scene.saved("b")
        })
        .await;
    handler.kill();
    scene.server.stop();
    let _second = scene.handler().await;
    let first = |agent: &Agent| first_list_after_registration(&agent.happened(), 1);
    scene
        .agent
        .wait_for(
            "a list of the new handler",
            Duration::from_secs(20),
            |agent| first(agent).is_some(),
        )
        .await;
    let first = first(&scene.agent).unwrap();
    assert_eq!(first, ["plant-a/a", "plant-a/b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_second_handler_on_the_node_a_restart_deletes_no_instance() {
    let scene = Scene::start();
    let mut first = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let _r1 = scene.robot("r1");
    scene.data("r2");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1", "plant-a/r2"])
        .await;
    first
        .wait_for("the roster is written", |_| {
            scene.saved("r1") && scene.saved("r2")
        })
        .await;
    let second = scene.registered(scene.flags().instance("n-1")).await;
    second
        .wait_for("it lists", |handler| {
            handler.presence("")["requests"][0]["listed"] == true
        })
        .await;
    // It knows r2 only from its sibling: r2 has said nothing since.
    assert_eq!(second.presence("")["requests"][0]["restored"], true);
    scene
        .agent
        .wait_for("both have listed", Duration::from_secs(10), |agent| {
            agent.lists(CONFIGURATION) > 1
        })
        .await;
    first.kill();
    let _third = scene.handler().await;
    scene
        .agent
        .wait_for("both serve again", Duration::from_secs(20), |agent| {
            agent.streams(CONFIGURATION) == 2
        })
        .await;
    assert!(!scene.agent.has_deleted("plant-a/r1") && !scene.agent.has_deleted("plant-a/r2"));
    assert_eq!(client_ids(&scene.server, "akri-mqtt-").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_time_keeps_the_session_and_leaves_no_socket() {
    let scene = Scene::start();
    let mut handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let _r1 = scene.robot("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let status = handler.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", handler.log());
    assert!(!handler.log().contains("did not stop in time"));
    assert!(!scene.directory().join("mqtt-n-0.sock").exists());
    assert!(scene.saved("r1"));
    let second = scene.handler().await;
    second.wait_for_log("session_present=true").await;
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    assert_eq!(client_ids(&scene.server, "akri-mqtt-").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_roster_is_set_aside_with_a_warning() {
    let scene = Scene::start();
    let mut handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let _r1 = scene.robot("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    handler.terminate().await;
    let state = scene.flags().state;
    let rosters = || {
        let files = std::fs::read_dir(&state).unwrap().flatten();
        files
            .map(|file| file.path())
            .filter(|path| path.to_string_lossy().contains(".roster.json"))
    };
    for roster in rosters().collect::<Vec<_>>() {
        std::fs::write(roster, "{\"version\":1,").unwrap();
    }
    let second = scene.handler().await;
    second.wait_for_log("damaged state file moved aside").await;
    assert!(rosters().any(|path| path.to_string_lossy().ends_with(".damaged")));
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_restarts_finds_the_same_devices_at_once_on_the_same_session() {
    let mut scene = Scene::start();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    scene.data("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let sessions = connects(&scene.server, "akri-mqtt-");
    scene.agent.restart().await;
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    assert_eq!(connects(&scene.server, "akri-mqtt-"), sessions);
    assert_eq!(scene.agent.registrations(), 2);
    assert_eq!(handler.metric("discover_streams"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_lost_while_it_was_being_deleted_comes_with_the_repeated_list() {
    let options = AgentOptions {
        // Shorter than the 5 s after which the list is repeated.
        deletion: Duration::from_secs(4),
        ..AgentOptions::default()
    };
    let scene = Scene::start_with(options, Config::new());
    let _handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let mut r1 = scene.robot("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    r1.crash();
    scene.agent.wait_for_devices(CONFIGURATION, &[]).await;
    let _r1 = scene.robot("r1");
    scene.agent
        .wait_for("it is listed", Duration::from_secs(20), |agent| {
            matches!(agent.happened().last(), Some(Happened::List { devices, .. }) if !devices.is_empty())
        })
        .await;
    assert!(scene.agent.devices(CONFIGURATION).is_empty());
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
}
