//! Configurations on a real cluster: what an edit changes and what not, Secrets that are rotated, one
//! name in two namespaces, wrong ones, and the end. In: the images of `cargo xtask e2e`. Out: what
//! became of the objects.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use akri_mqtt_tests::certificates::Authority;
use akri_mqtt_tests::chart;
use akri_mqtt_tests::cluster::configuration::{idle, services};
use akri_mqtt_tests::cluster::helm::{self, RELEASE, values_with};
use akri_mqtt_tests::cluster::pod::TestPod;
use akri_mqtt_tests::cluster::record::Record;
use akri_mqtt_tests::cluster::scene::{Scene, names, release_pods, scene, scene_in};
use akri_mqtt_tests::cluster::{
    SOON, api, api_all, client, create, delete, namespace, patch, tag, until,
};
use akri_mqtt_tests::http::Tls;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

const QUIET: Duration = Duration::from_secs(3);

/// Uid by name of all objects of a kind.
fn uids(record: &Record, kind: &str) -> BTreeMap<String, String> {
    let now = record.now(kind).into_values();
    now.map(|change| (change.name, change.uid)).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn edit_changes_what_it_says_and_nothing_else() {
    scene("edit", async |scene| {
        let robots = scene.robots("robots").running(idle()).with(services());
        scene.apply(&robots).await;
        scene.start_devices(&names(2)).await;
        scene.wait_for_running(2).await;
        let place = scene.settled(QUIET).await;
        let (pods, before) = (scene.record.fingerprint(), scene.record.len());
        assert_eq!(place, before);
        let [instances, services] = ["Instance", "Service"].map(|kind| uids(&scene.record, kind));

        // Another topic of the same devices: pods keep what they were given, and stay.
        let mut other = robots.clone();
        other.details = "  maxDevices: 100\n".to_owned();
        scene.edit("robots", other.object()["spec"].clone()).await;
        scene.settled(QUIET).await;
        scene
            .record
            .assert_pods_unchanged(place, &pods, "a limit was edited");

        // A Service's port: the Services are changed in place.
        let port = json!({"ports": [{"name": "http", "port": 81, "targetPort": 8080}]});
        scene
            .edit("robots", json!({"instanceServiceSpec": port}))
            .await;
        let instance = scene.instance_of("r1").await;
        until("the Service has the other port", SOON, async || {
            let service = scene
                .get("Service", &format!("{}-svc", instance.name))
                .await;
            let port = service["spec"]["ports"][0]["port"].clone();
            if port == json!(81) {
                Ok(())
            } else {
                Err(port.to_string())
            }
        })
        .await;
        scene.settled(QUIET).await;
        scene
            .record
            .assert_pods_unchanged(place, &pods, "a Service was edited");
        assert_eq!(uids(&scene.record, "Service"), services);

        // The pods' template: they are replaced, Instances and Services stay.
        let mut template = idle();
        template["brokerPodSpec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
        scene.edit("robots", json!({"brokerSpec": template})).await;
        until("both pods are others", SOON, async || {
            let running = scene.record.running();
            let all = running.values().filter(|pod| {
                let env = &pod.object.data["spec"]["containers"][0]["env"];
                let fresh = pods.iter().all(|(_, uid, _)| *uid != pod.uid);
                fresh && env.to_string().contains("\"A\"")
            });
            let count = all.count();
            if count == 2 && running.len() == 2 {
                Ok(())
            } else {
                Err(format!("{count}"))
            }
        })
        .await;
        assert_eq!(uids(&scene.record, "Instance"), instances);
        assert_eq!(uids(&scene.record, "Service"), services);

        // The Services' specs are taken away: only the Services go.
        let place = scene.settled(QUIET).await;
        let pods = scene.record.fingerprint();
        let none = json!({"instanceServiceSpec": null, "configurationServiceSpec": null});
        scene.edit("robots", none).await;
        scene.wait_for_count("Service", 1).await;
        scene.settled(QUIET).await;
        scene
            .record
            .assert_pods_unchanged(place, &pods, "Services were taken away");

        // Topics that nobody publishes on: everything goes, after the time for which it is kept.
        let short = json!({"metadata": {"annotations": {"mqtt.akri.sh/hold": "5s"}}});
        patch(
            &scene.client,
            &scene.namespace,
            "Configuration",
            "robots",
            short,
        )
        .await;
        let mut other = robots.clone();
        other.prefix = "nobody".to_owned();
        scene.edit("robots", other.object()["spec"].clone()).await;
        scene.wait_for_count("Instance", 0).await;
        scene.wait_for_running(0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn deleted_configuration_takes_everything_along() {
    scene("delete", async |scene| {
        let robots = scene.robots("robots").running(idle()).with(services());
        scene.apply(&robots).await;
        scene.start_devices(&names(3)).await;
        scene.wait_for_running(3).await;
        scene.wait_for_count("Service", 3 + 1 + 1).await;
        let (client, namespace) = (&scene.client, &scene.namespace);
        delete(client, namespace, "Configuration", "robots", false).await;
        for kind in ["Configuration", "Instance", "Job"] {
            scene.wait_for_count(kind, 0).await;
        }
        scene.wait_for_running(0).await;
        // That of the MQTT server.
        scene.wait_for_count("Service", 1).await;
    })
    .await;
}

/// How often a session with this user was accepted, by the server's log.
async fn sessions_as(scene: &Scene, user: &str) -> usize {
    let log = scene.server.log().await;
    let wanted = format!("u'{user}'");
    log.lines()
        .filter(|line| line.contains("New client connected") && line.contains(&wanted))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn rotated_secret_reconnects_sessions_and_changes_no_pod() {
    let client = client().await;
    let namespace = namespace(&client, "secret").await;
    helm::install(&values_with(&json!({"secretNamespaces": [namespace]})));
    scene_in(client, namespace, async |scene| {
        scene.server.add_user("old", "first").await;
        scene.server.add_user("new", "second").await;
        let secret = json!({"metadata": {"name": "mqtt"}, "stringData": {"user": "old", "password": "first"}});
        create(&scene.client, &scene.namespace, "Secret", secret).await;
        let from = |key: &str| json!({"secretKeyRef": {"name": "mqtt", "key": key}});
        let properties = json!([
            {"name": "MQTT_USERNAME", "valueFrom": from("user")},
            {"name": "MQTT_PASSWORD", "valueFrom": from("password")},
        ]);
        let robots = scene.robots("robots").running(idle());
        let robots = robots.with(json!({"discoveryHandler": {"discoveryProperties": properties}}));
        scene.apply(&robots).await;
        scene.start_devices(&names(2)).await;
        scene.wait_for_running(2).await;
        assert!(sessions_as(scene, "old").await >= 1);
        let place = scene.settled(QUIET).await;
        let pods = scene.record.fingerprint();

        let rotated = json!({"stringData": {"user": "new", "password": "second"}});
        patch(&scene.client, &scene.namespace, "Secret", "mqtt", rotated).await;
        until("a session as the new user", SOON, async || {
            let count = sessions_as(scene, "new").await;
            if count > 0 { Ok(()) } else { Err(scene.server.log().await) }
        })
        .await;
        scene.settled(QUIET).await;
        scene.record.assert_pods_unchanged(place, &pods, "the Secret was rotated");
        scene.start_devices(&["r3"]).await;
        scene.wait_for_running(3).await;

        // No secret is in anything that the controller wrote.
        for change in scene.record.since(0).iter().filter(|change| change.kind != "Secret") {
            let text = change.object.data.to_string();
            assert!(!text.contains("\"first\"") && !text.contains("\"second\""), "{text}");
        }
    })
    .await;
    helm::install(&helm::values());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn one_name_in_two_namespaces_shares_devices_without_taking_sessions_over() {
    scene("twins", async |scene| {
        let robots = scene
            .robots("robots")
            .running(akri_mqtt_tests::cluster::configuration::monitor());
        scene.apply(&robots).await;
        let client = scene.client.clone();
        let other = namespace(&client, "twins").await;
        let record = Record::start(&client, &other);
        create(&client, &other, "Configuration", robots.object()).await;
        scene.start_devices(&names(2)).await;
        scene.wait_for_running(2).await;
        record.wait_for_running(2, SOON).await;
        let names: BTreeSet<String> = record.now("Instance").into_keys().collect();
        let own: BTreeSet<String> = scene.record.now("Instance").into_keys().collect();
        assert_eq!(names, own, "equal devices have equal Instances");
        scene
            .assert_pods_stay(Duration::from_secs(10), "both are there")
            .await;
        let log = scene.server.log().await;
        assert!(
            !log.contains("already connected"),
            "a session was taken over: {log}"
        );
        // One goes, the other stays.
        delete(&client, &other, "Configuration", "robots", false).await;
        let before = (scene.record.len(), scene.record.fingerprint());
        record.wait_for_running(0, SOON).await;
        scene
            .record
            .assert_pods_unchanged(before.0, &before.1, "the twin was deleted");
        akri_mqtt_tests::cluster::scene::remove(&client, &other).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn namespace_that_may_not_be_read_keeps_no_other_waiting() {
    scene("may", async |scene| {
        let client = scene.client.clone();
        let other = namespace(&client, "may-not").await;
        let record = Record::start(&client, &other);
        helm::install(&values_with(
            &json!({"controller": {"namespaces": [scene.namespace, other]}}),
        ));
        let bindings = api(&client, &other, "RoleBinding");
        let binding = bindings.list(&Default::default()).await.unwrap().items;
        assert_eq!(binding.len(), 1, "{binding:#?}");
        let name = binding[0].metadata.name.clone().unwrap();
        delete(&client, &other, "RoleBinding", &name, true).await;
        for pod in release_pods(&client).await {
            let name = pod.metadata.name.unwrap();
            delete(&client, RELEASE, "Pod", &name, true).await;
        }
        let robots = scene.robots("robots").running(idle());
        scene.apply(&robots).await;
        create(&client, &other, "Configuration", robots.object()).await;
        scene.start_devices(&names(2)).await;
        scene.wait_for_running(2).await;
        assert_eq!(record.now("Instance").len(), 0, "who may not, does not");
        let role = json!({
            "metadata": {"name": name},
            "roleRef": binding[0].data["roleRef"],
            "subjects": binding[0].data["subjects"],
        });
        create(&client, &other, "RoleBinding", role).await;
        record.wait_for_running(2, SOON).await;
        akri_mqtt_tests::cluster::scene::remove(&client, &other).await;
    })
    .await;
    helm::install(&helm::values());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn wrong_configuration_says_why_in_its_status() {
    scene("wrong", async |scene| {
        let mut wrong = scene.robots("wrong");
        wrong.details = "topcis: [a]\n".to_owned();
        create(
            &scene.client,
            &scene.namespace,
            "Configuration",
            wrong.object(),
        )
        .await;
        let message = scene
            .wait_for_condition("wrong", "Discovered", "False")
            .await;
        assert!(message.contains("topcis"), "{message}");

        let name = "a-name-that-is-far-too-long-for-a-service-of-one-of-its-devices";
        let long = scene.robots(name).running(idle()).with(services());
        create(
            &scene.client,
            &scene.namespace,
            "Configuration",
            long.object(),
        )
        .await;
        scene.wait_for_condition(name, "InvalidName", "True").await;

        let mut nobody = scene.robots("nobody");
        // Nothing listens there, and the address stays on this machine.
        nobody.server = "10.96.255.254:1883".to_owned();
        create(
            &scene.client,
            &scene.namespace,
            "Configuration",
            nobody.object(),
        )
        .await;
        scene
            .wait_for_condition("nobody", "ServersReachable", "False")
            .await;

        // It is mended by an edit.
        scene
            .edit("wrong", scene.robots("wrong").object()["spec"].clone())
            .await;
        scene
            .wait_for_condition("wrong", "Discovered", "True")
            .await;
    })
    .await;
}

async fn try_create(scene: &Scene, object: &Value) -> Result<(), String> {
    let mut object = object.clone();
    object["apiVersion"] = json!("akri.sh/v0");
    object["kind"] = json!("Configuration");
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let created = api(&scene.client, &scene.namespace, "Configuration")
        .create(&PostParams::default(), &object)
        .await;
    created.map(drop).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn webhook_refuses_a_wrong_configuration_with_line_and_column() {
    let client = client().await;
    let namespace = namespace(&client, "webhook").await;
    helm::install(&values_with(&json!({"webhook": {"enabled": true}})));
    scene_in(client, namespace, async |scene| {
        until("the webhook has its certificate", SOON, async || {
            let all = api_all(&scene.client, "ValidatingWebhookConfiguration");
            let list = all.list(&kube::api::ListParams::default()).await.unwrap();
            let ours = list.items.iter().any(|one| {
                let bundle = one.data.pointer("/webhooks/0/clientConfig/caBundle");
                bundle
                    .and_then(Value::as_str)
                    .is_some_and(|bundle| !bundle.is_empty())
            });
            ours.then_some(()).ok_or("not yet")
        })
        .await;
        let mut wrong = scene.robots("wrong");
        wrong.details = "topcis: [a]\n".to_owned();
        let refused = until("the webhook refuses", SOON, async || {
            let refused = try_create(scene, &wrong.object()).await.err();
            delete(
                &scene.client,
                &scene.namespace,
                "Configuration",
                "wrong",
                false,
            )
            .await;
            refused.ok_or("accepted")
        })
        .await;
        assert!(refused.contains("topcis"), "{refused}");
        assert!(
            refused.contains("line 12") || refused.contains("12:"),
            "{refused}"
        );
        try_create(scene, &scene.robots("right").object())
            .await
            .unwrap();
        let mut other = wrong.clone();
        other.name = "other".to_owned();
        let mut other = other.object();
        other["spec"]["discoveryHandler"]["name"] = json!("onvif");
        try_create(scene, &other).await.unwrap();
    })
    .await;
    helm::install(&helm::values());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn example_with_encrypted_ports_is_probed_and_takes_on_a_new_certificate() {
    const NAME: &str = "robots.default.svc";
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    scene("access", async |scene| {
        let [old, new] = ["old", "new"].map(Authority::new);
        let data = |authority: &Authority| {
            let made = authority.server(&[NAME]);
            json!({"tls.crt": made.certificate, "tls.key": made.key})
        };
        for (name, kind, data) in [
            ("monitoring-broker-tls", "kubernetes.io/tls", data(&old)),
            ("monitoring-broker-tokens", "Opaque", json!({"tokens": TOKEN})),
        ] {
            let secret = json!({"metadata": {"name": name}, "type": kind, "stringData": data});
            create(&scene.client, &scene.namespace, "Secret", secret).await;
        }
        // As it is, but for the address that every reader replaces, and the image under test.
        let example = include_str!("../../examples/kubernetes/access.yaml")
            .replace("mosquitto.default.svc:1883", &scene.server.address)
            .replace(
                "ghcr.io/akri-mqtt/monitoring-broker:0.1.0",
                &format!("akri-mqtt/monitoring-broker:{}", tag()),
            );
        let example = chart::documents(&example).remove(0);
        create(&scene.client, &scene.namespace, "Configuration", example).await;
        scene.start_devices(&names(1)).await;
        let pod = scene.wait_for_running(1).await.remove(0);
        // Ready: the kubelet has asked over TLS.
        let ip = TestPod::ready(&scene.client, &scene.namespace, &pod.name).await.ip;
        let address = format!("{ip}:8080").parse().unwrap();
        let devices = async |authority: &Authority, token: Option<&str>| {
            let (authority, name) = (authority.pem(), NAME.to_owned());
            let token = token.map(str::to_owned);
            let tls = Tls { authority, name, token };
            let answer = scene.field.fetch_encrypted(address, "/v1/devices", &tls).await;
            answer.map(|(status, _)| status)
        };
        assert_eq!(devices(&old, Some(TOKEN)).await, Some(200));
        assert_eq!(devices(&old, None).await, Some(401), "without a token");
        assert_eq!(devices(&new, Some(TOKEN)).await, None, "of another authority");

        let before = scene.record.fingerprint();
        let rotated = json!({"stringData": data(&new)});
        let secret = "monitoring-broker-tls";
        patch(&scene.client, &scene.namespace, "Secret", secret, rotated).await;
        until("the new certificate is served", 2 * SOON, async || {
            // A change of the pod makes the kubelet look at its Secrets now, not within a minute or two.
            let look = json!({"metadata": {"annotations": {"look": akri_mqtt_tests::pod::now_ms().to_string()}}});
            patch(&scene.client, &scene.namespace, "Pod", &pod.name, look).await;
            match devices(&new, Some(TOKEN)).await {
                Some(200) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert_eq!(devices(&old, Some(TOKEN)).await, None, "the old one is not");
        assert_eq!(scene.record.fingerprint(), before, "by the same process");
    })
    .await;
}
