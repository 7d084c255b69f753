//! Sessions of a real handler: one for each server however many callers; credentials come and change.

use std::collections::BTreeSet;
use std::time::Duration;

use akri_mqtt_proto::akri::DiscoverRequest;
use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_tests::agent::{AgentOptions, Happened, discover};
use akri_mqtt_tests::devices::{client_ids, connects};
use akri_mqtt_tests::handler::HandlerProcess;
use akri_mqtt_tests::mosquitto::Config;
use akri_mqtt_tests::scene::{CONFIGURATION, Scene};

const USER: [(&str, &str); 2] = [("MQTT_USERNAME", "anna"), ("MQTT_PASSWORD", "s3cret-anna")];
const OTHER: [(&str, &str); 2] = [("MQTT_USERNAME", "bert"), ("MQTT_PASSWORD", "s3cret-bert")];

fn with_users() -> Scene {
    let config = Config::new()
        .user("anna", "s3cret-anna")
        .user("bert", "s3cret-bert");
    Scene::start_with(AgentOptions::default(), config)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_discover_calls_share_one_session_and_both_get_the_lists() {
    let scene = Scene::start();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &[]).await;
    let _r1 = scene.robot("r1");
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let request = DiscoverRequest {
        discovery_details: scene.details(),
        ..DiscoverRequest::default()
    };
    let socket = scene
        .directory()
        .join("mqtt-n-0.sock")
        .display()
        .to_string();
    let mut second = discover(&socket, EndpointType::Uds, 1 << 20, request)
        .await
        .unwrap();
    let list = second.message().await.unwrap().unwrap();
    assert_eq!(list.devices[0].id, "plant-a/r1");
    assert_eq!(handler.metric("discover_streams"), Some(2.0));
    assert_eq!(connects(&scene.server, "akri-mqtt-"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_configuration_with_other_details_shares_the_session_and_gets_its_snapshot() {
    let scene = Scene::start();
    let _handler = scene.handler().await;
    let _r1 = scene.robot("r1");
    scene.configure(&scene.details(), &[]).await;
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let details = scene
        .details()
        .replace("offlineDelay: 300ms", "offlineDelay: 400ms");
    scene.agent.configure("second", &details, &[]);
    scene
        .agent
        .wait_for_devices("second", &["plant-a/r1"])
        .await;
    let more = scene
        .details()
        .replace("robots/{device}/joints", "robots/{device}/other");
    scene.agent.configure("third", &more, &[]);
    scene.agent.wait_for_devices("third", &["plant-a/r1"]).await;
    let _r2 = scene.robot("r2");
    for configuration in [CONFIGURATION, "second", "third"] {
        scene
            .agent
            .wait_for_devices(configuration, &["plant-a/r1", "plant-a/r2"])
            .await;
    }
    assert!(!scene.agent.has_deleted("plant-a/r1"));
    assert_eq!(connects(&scene.server, "akri-mqtt-"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_get_a_session_of_their_own_whose_client_id_is_the_same_after_a_restart()
{
    let scene = with_users();
    let mut handler = scene.handler().await;
    scene.configure(&scene.details(), &USER).await;
    let details = scene
        .details()
        .replace("offlineDelay: 300ms", "offlineDelay: 400ms");
    scene.agent.configure("second", &details, &OTHER);
    handler
        .wait_for("both are connected", |_| {
            client_ids(&scene.server, "akri-mqtt-").len() == 2
        })
        .await;
    let before = client_ids(&scene.server, "akri-mqtt-");
    assert!(before[1] == format!("{}-2", before[0]), "{before:?}");
    handler.terminate().await;
    let again = scene.handler().await;
    again
        .wait_for("both are connected again", |_| {
            connects(&scene.server, "akri-mqtt-") >= 4
        })
        .await;
    assert_eq!(client_ids(&scene.server, "akri-mqtt-"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_credentials_reconnect_the_session_and_change_no_device() {
    let scene = with_users();
    let handler = scene.handler().await;
    scene.configure(&scene.details(), &USER).await;
    let login = ["-u", "anna", "-P", "s3cret-anna"];
    let topic = "robots/r1/joints";
    akri_mqtt_tests::devices::publish(scene.server.address(), topic, Some("1"), &login);
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    let rotated = jiff::Timestamp::now();
    scene
        .agent
        .configure(CONFIGURATION, &scene.details(), &OTHER);
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    handler
        .wait_for("it has connected as bert", |_| {
            scene.server.log().contains("u'bert'")
        })
        .await;
    assert_eq!(client_ids(&scene.server, "akri-mqtt-").len(), 1);
    let after = handler.presence("/plant-a/r1")["requests"][0].clone();
    assert_eq!(after["state"], "online");
    // Computed anew from the wall clock for each answer, so not the same to the digit.
    let since = after["since"].as_str().unwrap();
    assert!(
        since.parse::<jiff::Timestamp>().unwrap() < rotated,
        "{after}"
    );
}

const WRONG: [(&str, &str); 2] = [("MQTT_USERNAME", "anna"), ("MQTT_PASSWORD", "wr0ng")];

/// Waits for one more list of a Configuration than these, and holds that none has ever named a device.
async fn is_told_nothing(scene: &Scene, configuration: &str, before: usize) {
    let limit = Duration::from_secs(20);
    scene
        .agent
        .wait_for("another list has come", limit, |agent| {
            agent.lists(configuration) > before
        })
        .await;
    for what in scene.agent.happened() {
        if let Happened::List {
            configuration: of,
            devices,
            ..
        } = what
            && of == configuration
        {
            assert!(devices.is_empty(), "{configuration}: {devices:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_the_same_details_with_other_credentials_is_told_nothing_of_the_first_ones_devices()
 {
    let config = Config::new()
        .user("anna", "s3cret-anna")
        .user("bert", "s3cret-bert")
        .acl("user anna\ntopic readwrite #\n");
    let scene = Scene::start_with(AgentOptions::default(), config);
    let mut handler = scene.handler().await;
    let login = ["-r", "-u", "anna", "-P", "s3cret-anna"];
    let topic = "robots/r1/status";
    akri_mqtt_tests::devices::publish(scene.server.address(), topic, Some("online"), &login);
    scene.configure(&scene.details(), &USER).await;
    let devices = ["plant-a/r1"];
    scene.agent.wait_for_devices(CONFIGURATION, &devices).await;
    handler
        .wait_for("the roster is written", |_| scene.saved("r1"))
        .await;
    let others: [(&str, &[(&str, &str)]); 3] =
        [("wrong", &WRONG), ("bert", &OTHER), ("nobody", &[])];
    for (configuration, properties) in others {
        scene
            .agent
            .configure(configuration, &scene.details(), properties);
        is_told_nothing(&scene, configuration, 0).await;
    }
    let requests = handler.presence("?devices=false")["requests"].clone();
    assert_eq!(requests.as_array().unwrap().len(), 4);
    let conditions = handler.get("/readyz").1;
    assert!(
        conditions.contains("with other credentials, 4"),
        "{conditions}"
    );
    // Nor after a restart, in whatever order they come; and nobody gets another one's session.
    let before = accounts(&scene);
    assert_eq!(before.len(), 2, "{before:?}");
    let connected = connects(&scene.server, "akri-mqtt-");
    handler.terminate().await;
    let lists = others.map(|(configuration, _)| (configuration, scene.agent.lists(configuration)));
    let again = scene.handler().await;
    scene.agent.wait_for_devices(CONFIGURATION, &devices).await;
    for (configuration, before) in lists {
        is_told_nothing(&scene, configuration, before).await;
    }
    again
        .wait_for("both are connected again", |_| {
            connects(&scene.server, "akri-mqtt-") == connected + 2
        })
        .await;
    assert_eq!(accounts(&scene), before);
}

/// Which user has connected with which client id, both as the server logs them.
fn accounts(scene: &Scene) -> BTreeSet<(String, String)> {
    let log = scene.server.log();
    let ours = log.lines().filter_map(|line| {
        let (id, rest) = line.split_once(" as akri-mqtt-")?.1.split_once(' ')?;
        let user = rest.split_once("u'")?.1.split('\'').next()?;
        Some((id.to_owned(), user.to_owned()))
    });
    ours.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_changed_while_the_handler_was_down_keep_the_devices_once_they_are_accepted()
 {
    let scene = with_users();
    let mut handler = scene.handler().await;
    scene.configure(&scene.details(), &USER).await;
    // Not retained, so only the roster knows it afterwards.
    let login = ["-u", "anna", "-P", "s3cret-anna"];
    let topic = "robots/r1/joints";
    akri_mqtt_tests::devices::publish(scene.server.address(), topic, Some("1"), &login);
    let devices = ["plant-a/r1"];
    scene.agent.wait_for_devices(CONFIGURATION, &devices).await;
    handler
        .wait_for("the roster is written", |_| scene.saved("r1"))
        .await;
    handler.terminate().await;
    scene.agent.remove(CONFIGURATION);
    scene.agent.configure("rotated", &scene.details(), &WRONG);
    let again = scene.handler().await;
    is_told_nothing(&scene, "rotated", 0).await;
    again.wait_for_log("not connected").await;
    let authority = akri_mqtt_tests::certificates::Authority::new("new").pem();
    let right = [USER[0], USER[1], ("MQTT_CA_CERT", authority.as_str())];
    scene.agent.configure("rotated", &scene.details(), &right);
    scene.agent.wait_for_devices("rotated", &devices).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_files_go_only_to_listed_hosts_and_their_change_reconnects() {
    let scene = with_users();
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("MQTT_USERNAME"), "anna").unwrap();
    std::fs::write(secret.path().join("MQTT_PASSWORD"), "wrong").unwrap();
    let path = secret.path().display().to_string();
    let flags = [
        "--credentials-dir",
        &path,
        "--credentials-hosts",
        "127.0.0.1",
    ];
    let handler = scene.registered(scene.flags().with(&flags)).await;
    scene.agent.configure(CONFIGURATION, &scene.details(), &[]);
    handler
        .wait_for("it is refused", |handler| {
            handler
                .metric("connects_total{server=\"plant-a\",result=\"bad_credentials\"")
                .unwrap_or(0.0)
                + handler
                    .metric("connects_total{server=\"plant-a\",result=\"not_authorised\"")
                    .unwrap_or(0.0)
                > 0.0
        })
        .await;
    let last_error = |handler: &HandlerProcess| {
        handler.presence("")["requests"][0]["servers"][0]["last_error"].clone()
    };
    handler
        .wait_for("it says why", |handler| last_error(handler).is_string())
        .await;
    std::fs::write(secret.path().join("MQTT_PASSWORD"), "s3cret-anna\n").unwrap();
    handler
        .wait_for("it is connected", |handler| {
            handler.metric("connected") == Some(1.0)
        })
        .await;
    assert!(last_error(&handler).is_null());
    let elsewhere = scene
        .registered(scene.flags().instance("n-1").with(&flags[..2]))
        .await;
    elsewhere.wait_for_log("not connected").await;
    assert!(!elsewhere.log().contains("s3cret"));
    assert_eq!(elsewhere.metric("connected"), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_in_any_log_metric_answer_instance_or_file() {
    let scene = with_users();
    let mut flags = scene.flags();
    flags.log = "trace";
    let mut handler = scene.registered(flags).await;
    scene.configure(&scene.details(), &USER).await;
    let wrong = [
        ("MQTT_USERNAME", "anna"),
        ("MQTT_PASSWORD", "wr0ng-password"),
    ];
    scene.agent.configure(
        "refused",
        &scene.details().replace("plant-a", "plant-b"),
        &wrong,
    );
    let login = ["-u", "anna", "-P", "s3cret-anna"];
    akri_mqtt_tests::devices::publish(
        scene.server.address(),
        "robots/r1/joints",
        Some("1"),
        &login,
    );
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1"])
        .await;
    handler
        .wait_for("the wrong one is refused", |handler| {
            handler.log().contains("server=plant-b")
        })
        .await;
    let in_url = "serverUrls: ['tcp://anna:in-the-url@127.0.0.1:1883']\ntopics: [a/b]\n";
    scene.agent.configure("faulty", in_url, &[]);
    scene
        .agent
        .wait_for("it is refused", Duration::from_secs(10), |agent| {
            format!("{:?}", agent.happened()).contains("InvalidArgument")
        })
        .await;
    let said = everything_said(&scene, &mut handler).await;
    for secret in ["s3cret-anna", "wr0ng-password", "in-the-url"] {
        let found = said.lines().find(|line| line.contains(secret));
        assert!(found.is_none(), "{secret}: {found:?}");
    }
    assert!(said.len() > 10_000);
}

/// Everything that anybody can read of a handler and its Instances.
async fn everything_said(scene: &Scene, handler: &mut HandlerProcess) -> String {
    let mut said = String::new();
    for path in [
        "/metrics",
        "/readyz",
        "/v1/presence",
        "/v1/presence/plant-a/r1",
    ] {
        said.push_str(&handler.get(path).1);
    }
    said.push_str(&format!("{:?}", scene.agent.happened()));
    said.push_str(&format!("{:?}", scene.agent.instances(CONFIGURATION)));
    handler.terminate().await;
    said.push_str(&handler.log());
    for file in std::fs::read_dir(scene.flags().state)
        .into_iter()
        .flatten()
        .flatten()
    {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        said.push_str(&String::from_utf8_lossy(&bytes));
    }
    said
}
