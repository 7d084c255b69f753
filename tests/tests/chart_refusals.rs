//! Values that the chart does not take are refused with what is wrong, where, and the way out.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use akri_mqtt_tests::chart::{self, CURRENT, with};
use serde_json::{Value, json};

/// Fails unless each of the values is refused with its words.
fn refused(wrong: &[(Value, &str)]) {
    for (values, words) in wrong {
        let error =
            chart::render(None, values, CURRENT).expect_err(&format!("{values} was accepted"));
        assert!(error.contains(words), "{values}: {error}");
    }
}

/// A pool of the Configuration `a` with more of this.
fn pool(more: Value) -> Value {
    let mut entry = json!({"name": "p", "configuration": "a"});
    let object = entry.as_object_mut().unwrap();
    object.extend(more.as_object().unwrap().clone());
    json!({"pools": [entry]})
}

#[test]
fn wrong_values_are_refused_where_they_are() {
    refused(&[
        (json!({"mode": "both"}), "mode: "),
        (
            json!({"modes": "akri"}),
            "(root): Additional property modes",
        ),
        (
            json!({"controller": {"replica": 2}}),
            "controller: Additional property replica",
        ),
        (
            json!({"controller": {"replicas": 0}}),
            "controller.replicas: ",
        ),
        (
            json!({"controller": {"image": {"digest": "sha256:1"}}}),
            "controller.image.digest: ",
        ),
        (
            json!({"image": {"pullPolicy": "Sometimes"}}),
            "image.pullPolicy: ",
        ),
        (
            json!({"monitoringBroker": {"retainFor": "a day"}}),
            "monitoringBroker.retainFor: ",
        ),
        (
            json!({"monitoringBroker": {"retainFor": "0s"}}),
            "monitoringBroker.retainFor: ",
        ),
        (
            json!({"commonLabels": {"app.kubernetes.io/name": "other"}}),
            "commonLabels: ",
        ),
        (
            json!({"podLabels": {"app.kubernetes.io/component": "other"}}),
            "podLabels: ",
        ),
        (json!({"akri": {"directory": "akri"}}), "akri.directory: "),
        (
            json!({"webhook": {"failurePolicy": "Fail"}}),
            "webhook: Additional property failurePolicy",
        ),
        (
            json!({"secretNamespaces": [{"secrets": ["a"]}]}),
            "secretNamespaces.0: ",
        ),
        (json!({"clusterId": "Not-This"}), "clusterId: "),
        (json!({"pools": [{"name": "a"}]}), "pools.0: configuration"),
        (pool(json!({"name": "1"})), "pools.0.name: "),
        (pool(json!({"name": "a".repeat(53)})), "pools.0.name: "),
        (pool(json!({"shards": 1025})), "pools.0.shards: "),
        (
            pool(json!({"drainTimeout": "0s"})),
            "pools.0.drainTimeout: ",
        ),
        (pool(json!({"sinks": ["redis://a b"]})), "pools.0.sinks.0: "),
        (
            pool(json!({"size": "1Gi"})),
            "pools.0: Additional property size",
        ),
        (
            json!({"poolDefaults": {"configuration": "a"}}),
            "poolDefaults: Additional property configuration",
        ),
    ]);
}

#[test]
fn wrong_values_of_configurations_are_refused_where_they_are() {
    let entry = |more: Value| {
        let mut entry = json!({"name": "a", "discoveryDetails": "topics: [a]"});
        let object = entry.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        json!({"configurations": [entry]})
    };
    let details = |details: Value| entry(json!({"discoveryDetails": details}));
    refused(&[
        (entry(json!({"name": "Robots"})), "configurations.0.name: "),
        (
            entry(json!({"capacity": "2"})),
            "configurations.0.capacity: ",
        ),
        (
            entry(json!({"dataVolume": "big"})),
            "configurations.0.dataVolume: ",
        ),
        (
            entry(json!({"credentials": {"password": "x"}})),
            "configurations.0.credentials: ",
        ),
        (
            entry(json!({"podSpec": {}})),
            "configurations.0.podSpec: containers is required",
        ),
        (
            details(json!({"serverUrl": ["tcp://a"]})),
            "configurations.0.discoveryDetails: ",
        ),
        (
            details(json!({"serverUrls": ["tcp://me:secret@a"]})),
            "configurations.0.discoveryDetails",
        ),
        (
            details(json!({"conventions": ["tasmoto"]})),
            "configurations.0.discoveryDetails.conventions.0: ",
        ),
        (
            details(json!({"presence": {"offlineAfter": "1d"}})),
            "configurations.0.discoveryDetails.presence.offlineAfter: ",
        ),
        (
            details(json!({"mqtt": {"maxPacketSize": "1TiB"}})),
            "configurations.0.discoveryDetails.mqtt.maxPacketSize: ",
        ),
        (
            entry(json!({"labels": {"app.kubernetes.io/part-of": "other"}})),
            "configurations.0.labels: ",
        ),
    ]);
}

#[test]
fn values_that_contradict_each_other_are_refused_with_the_way_out() {
    let named = |name: &str, namespace: &str| json!({"name": name, "namespace": namespace, "discoveryDetails": "topics: [a]"});
    let twice = json!([named("a", "b"), named("a", "b")]);
    let same = json!([named("a", "b"), named("a", "c")]);
    let both = json!([{"name": "a", "discoveryDetails": "", "podSpec": {"containers": []}, "jobSpec": {"template": {}}}]);
    let held = json!([{"name": "a", "discoveryDetails": "", "hold": "5m"}]);
    refused(&[
        (json!({"configurations": twice}), "b/a is there twice"),
        (
            json!({"configurations": same, "mode": "akri"}),
            "two are called a",
        ),
        (json!({"configurations": both}), "podSpec and jobSpec"),
        (
            json!({"configurations": held, "mode": "akri"}),
            "hold is for agentless mode",
        ),
        (
            json!({"mode": "akri", "webhook": {"enabled": true}}),
            "akri-mqtt check",
        ),
        (
            json!({"controller": {"replicas": 2}, "discoveryHandler": {"persistence": {"enabled": true}}}),
            "set controller.replicas to 1",
        ),
        (
            json!({"prometheusRule": {"enabled": true}}),
            "set serviceMonitor.enabled",
        ),
        (
            json!({"configurations": [named("a", "b")], "monitoringBroker": {"tls": {"clientCertificates": true}}}),
            "tls.clientCertificates needs tls.secretName (configuration a)",
        ),
        (
            json!({"configurations": same, "controller": {"namespaces": ["b"]}}),
            "add c to controller.namespaces",
        ),
    ]);
    with(&json!({"configurations": same}));
}

#[test]
fn pools_that_contradict_other_values_are_refused_with_the_way_out() {
    let served = |entry: Value| {
        let mut values = pool(json!({}));
        let mut of = json!({"name": "a", "discoveryDetails": "topics: [a]"});
        let object = of.as_object_mut().unwrap();
        object.extend(entry.as_object().unwrap().clone());
        values["configurations"] = json!([of]);
        values
    };
    let two = |other: Value| json!({"pools": [{"name": "p", "configuration": "a"}, other]});
    refused(&[
        (
            two(json!({"name": "p", "configuration": "b"})),
            "devices/p has a pool already",
        ),
        (
            two(json!({"name": "q", "configuration": "a"})),
            "Configuration a of namespace devices has a pool already",
        ),
        (pool(json!({"name": "akri-mqtt"})), "choose another one"),
        (
            pool(json!({"autoscaling": {"enabled": true, "minReplicas": 3, "maxReplicas": 2}})),
            "maxReplicas is less than minReplicas",
        ),
        (
            pool(json!({"persistence": {"size": "1Gi"}})),
            "smaller than the volume's size, which is 1Gi (pool p)",
        ),
        (
            pool(
                json!({"persistence": {"enabled": false}, "monitoringBroker": {"dataSizeLimit": "1Gi"}}),
            ),
            "smaller than dataSizeLimit, which is 1Gi (pool p)",
        ),
        (
            pool(json!({"monitoringBroker": {"tls": {"clientCertificates": true}}})),
            "tls.clientCertificates needs tls.secretName (pool p)",
        ),
        (
            served(json!({"podSpec": {"containers": []}})),
            "has podSpec, but nothing runs for its devices",
        ),
        (
            served(json!({"instanceService": true})),
            "has instanceService, but nothing runs for its devices",
        ),
        (
            json!({"pools": [{"name": "p", "configuration": "a"}], "controller": {"namespaces": ["b"]}}),
            "add devices to controller.namespaces",
        ),
    ]);
    with(&two(
        json!({"name": "p", "namespace": "b", "configuration": "a"}),
    ));
}

#[test]
fn amounts_that_do_not_fit_each_other_are_refused() {
    let entry = |more: Value| {
        let mut entry = json!({"name": "a", "discoveryDetails": "topics: [a]"});
        let object = entry.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        json!([entry])
    };
    let store = |kept: &str, mut more: Value| {
        more["monitoringBroker"]["retainBytes"] = json!(kept);
        json!({"configurations": entry(more)})
    };
    let akri = |details: Value| json!({"mode": "akri", "configurations": entry(json!({"discoveryDetails": details}))});
    refused(&[
        (store("4095KiB", json!({})), "less than 4MiB"),
        (
            store("512MiB", json!({})),
            "smaller than dataSizeLimit, which is 512Mi",
        ),
        (
            store("1GiB", json!({"dataVolume": "0.9Gi,fast"})),
            "smaller than the volume's size, which is 0.9Gi",
        ),
        (
            akri(json!({"limits": {"maxResponseBytes": "5MiB"}})),
            "maxResponseBytes is 5MiB",
        ),
        (
            akri(json!("limits: {maxResponseBytes: 5000000}")),
            "maxResponseBytes is 5000000",
        ),
    ]);
    with(&store("4MiB", json!({})));
    with(&store("1GiB", json!({"dataVolume": "2Gi"})));
    with(&akri(json!({"limits": {"maxResponseBytes": "4MiB"}})));
    let large = json!({"limits": {"maxResponseBytes": "5MiB"}});
    with(&json!({"configurations": entry(json!({"discoveryDetails": large}))}));
}
