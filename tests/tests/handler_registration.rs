//! When a real handler registers with its Agent, and what it answers to calls that are wrong.

use std::process::Command;
use std::time::Duration;

use akri_mqtt_tests::agent::{Agent, Happened};
use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::scene::{CONFIGURATION, Scene};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_an_agent_that_is_not_there_yet_and_registers_once() {
    let mut scene = Scene::start();
    scene.agent.stop().await;
    std::fs::remove_file(scene.directory().join("agent-registration.sock")).unwrap();
    let handler = scene.flags().start();
    handler.wait_for_log("discovery handler serves").await;
    assert_eq!(handler.get("/readyz").0, 503);
    let agent = Agent::start(scene.directory());
    agent.configure(CONFIGURATION, &scene.details(), &[]);
    agent
        .wait_for("it lists", Duration::from_secs(20), |agent| {
            agent.lists(CONFIGURATION) > 0
        })
        .await;
    assert_eq!(agent.registrations(), 1);
    assert!(matches!(
        &agent.happened()[0],
        Happened::Registered { shared: true, .. }
    ));
    handler
        .wait_for("it is ready", |handler| handler.get("/readyz").0 == 200)
        .await;
    assert_eq!(agent.streams(CONFIGURATION), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_only_the_sibling_serves_makes_it_register_again() {
    let scene = Scene::start();
    let _first = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    scene
        .agent
        .configure("second", &scene.details().replace("robots/", "arms/"), &[]);
    scene
        .agent
        .wait_for("both streams are open", Duration::from_secs(20), |agent| {
            agent.streams("second") == 1
        })
        .await;
    // The Agent asks the sibling once for each Configuration, and one of the two calls fails.
    scene.agent.fail_next(1);
    let second = scene.registered(scene.flags().instance("n-1")).await;
    scene
        .agent
        .wait_for("one is asked for", Duration::from_secs(10), |agent| {
            agent.streams(CONFIGURATION) + agent.streams("second") == 3
        })
        .await;
    // 30 s after it has seen that something is missing.
    scene
        .agent
        .wait_for(
            "it has registered again",
            Duration::from_secs(60),
            |agent| agent.streams(CONFIGURATION) >= 2 && agent.streams("second") >= 2,
        )
        .await;
    second.wait_for_log("reason=Sibling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_details_fail_the_call_with_every_fault_and_leave_instances_alone() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    scene.data("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let faulty = "serverUrls: [tcp://h:1883]\ntopics: ['a/+']\nmqtt: {qos: 7}\nnonsense: 1\n";
    scene.agent.configure("faulty", faulty, &[]);
    let failed = |agent: &Agent, of: &str| {
        agent.happened().into_iter().find_map(|what| match what {
            Happened::Failed {
                configuration,
                code,
                message,
            } if configuration == of => Some((code, message)),
            _ => None,
        })
    };
    scene
        .agent
        .wait_for("it fails", Duration::from_secs(10), |agent| {
            failed(agent, "faulty").is_some()
        })
        .await;
    let (code, message) = failed(&scene.agent, "faulty").unwrap();
    assert_eq!(code, Code::InvalidArgument);
    assert!(
        message.contains("line 3, column") && message.contains("line 4, column"),
        "{message}"
    );
    assert_eq!(scene.agent.devices(CONFIGURATION), ["plant-a/r1"]);
    assert_eq!(handler.metric("discover_streams"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_endpoint_is_registered_and_serves() {
    let scene = Scene::start();
    let flags = scene
        .flags()
        .with(&["--endpoint", "network", "--listen", "127.0.0.1:0"]);
    let _handler = scene.registered(flags).await;
    scene.configure(&scene.details(), &[]).await;
    scene.data("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let happened = scene.agent.happened();
    let registered = happened.iter().find_map(|what| match what {
        Happened::Registered { endpoint, .. } => Some(endpoint.clone()),
        _ => None,
    });
    assert!(registered.unwrap().starts_with("http://127.0.0.1:"));
}

#[test]
fn wrong_flags_end_it_with_2_before_anything_is_started() {
    let path = binary("akri-mqtt-discovery-handler", "akri-mqtt-discovery-handler");
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state").display().to_string();
    let long = format!("/tmp/{}", "x".repeat(100));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases = [
        (vec!["--endpoint", "pipe"], "--endpoint"),
        (vec!["--name", "MQTT!"], "--name"),
        (
            vec!["--directory", &long, "--instance", "n-0"],
            "may have 107",
        ),
        (
            vec!["--endpoint", "network", "--listen", "0.0.0.0:0"],
            "$POD_IP",
        ),
        (
            vec!["--endpoint", "network", "--listen", &taken],
            "cannot listen on",
        ),
    ];
    for (flags, says) in cases {
        let output = Command::new(&path)
            .args(["--admin", "127.0.0.1:0", "--state-dir", &state])
            .args(&flags)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(says), "{flags:?}: {text}");
    }
}
