//! The chart renders objects that Kubernetes knows, field for field, refuses values that it does not know,
//! and calls the programs with flags that they have.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use akri_mqtt_core::details::Details;
use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::chart::{self, CURRENT, Object, list, one, text, with};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, PodSpec, Secret, Service, ServiceAccount, ServiceSpec,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn rendered(file: &Path) -> Vec<Object> {
    chart::render(Some(file), &json!({}), CURRENT).unwrap()
}

/// Decodes as `T` and fails for everything that `T` does not keep: unknown fields, and values of another form.
fn strictly<T: Serialize + DeserializeOwned>(title: &str, value: &Value) {
    let typed: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{title}: {error}"));
    let kept = serde_json::to_value(typed).unwrap();
    let mut lost = Vec::new();
    compare("", value, &kept, &mut lost);
    assert!(lost.is_empty(), "{title}: unknown: {lost:?}");
}

fn compare(at: &str, given: &Value, kept: &Value, lost: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                let at = format!("{at}.{key}");
                match kept.get(key) {
                    Some(kept) => compare(&at, value, kept, lost),
                    None => lost.push(at),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(&format!("{at}[{index}]"), given, kept, lost);
            }
        }
        _ if given == kept => {}
        _ => lost.push(format!("{at}: {given} became {kept}")),
    }
}

fn decode(object: &Object) {
    let (title, value) = (object.title(), &object.value);
    let check = match (text(value, "/apiVersion"), object.kind()) {
        ("v1", "ConfigMap") => strictly::<ConfigMap>,
        ("v1", "PersistentVolumeClaim") => strictly::<PersistentVolumeClaim>,
        ("v1", "Secret") => strictly::<Secret>,
        ("v1", "Service") => strictly::<Service>,
        ("v1", "ServiceAccount") => strictly::<ServiceAccount>,
        ("apps/v1", "DaemonSet") => strictly::<DaemonSet>,
        ("apps/v1", "Deployment") => strictly::<Deployment>,
        ("apps/v1", "StatefulSet") => strictly::<StatefulSet>,
        ("autoscaling/v2", "HorizontalPodAutoscaler") => strictly::<HorizontalPodAutoscaler>,
        ("coordination.k8s.io/v1", "Lease") => strictly::<Lease>,
        ("networking.k8s.io/v1", "NetworkPolicy") => strictly::<NetworkPolicy>,
        ("policy/v1", "PodDisruptionBudget") => strictly::<PodDisruptionBudget>,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => strictly::<ClusterRole>,
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => strictly::<ClusterRoleBinding>,
        ("rbac.authorization.k8s.io/v1", "Role") => strictly::<Role>,
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => strictly::<RoleBinding>,
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration") => {
            strictly::<ValidatingWebhookConfiguration>
        }
        ("akri.sh/v0", "Configuration") => {
            configuration(&title, value);
            strictly::<akri_mqtt_crds::Configuration>
        }
        // The end-to-end tests hold these against definitions of the Prometheus operator.
        ("monitoring.coreos.com/v1", "ServiceMonitor" | "PodMonitor" | "PrometheusRule") => return,
        other => panic!("no type for {other:?}"),
    };
    check(&title, value);
}

fn configuration(title: &str, value: &Value) {
    type Check = fn(&str, &Value);
    let parts: [(&str, Check); 4] = [
        ("/spec/brokerSpec/brokerPodSpec", strictly::<PodSpec>),
        ("/spec/brokerSpec/brokerJobSpec", strictly::<JobSpec>),
        ("/spec/instanceServiceSpec", strictly::<ServiceSpec>),
        ("/spec/configurationServiceSpec", strictly::<ServiceSpec>),
    ];
    for (pointer, check) in parts {
        if let Some(part) = value.pointer(pointer) {
            check(&format!("{title}{pointer}"), part);
        }
    }
    akri_mqtt_crds::akri_webhook_accepts(value)
        .unwrap_or_else(|refused| panic!("{title}: {refused}"));
    let details = text(value, "/spec/discoveryHandler/discoveryDetails");
    Details::parse(details).unwrap_or_else(|faults| panic!("{title}: {faults}\n{details}"));
}

#[test]
fn every_values_file_renders_objects_without_a_field_that_kubernetes_lacks() {
    for file in chart::values_files() {
        let objects = rendered(&file);
        assert!(objects.len() > 3, "{}", file.display());
        for object in &objects {
            decode(object);
        }
    }
}

#[test]
fn an_unknown_field_would_be_found() {
    let object = |extra: &str| json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80, extra: "x"}]}});
    strictly::<Service>("known", &object("name"));
    let unknown = std::panic::catch_unwind(|| strictly::<Service>("", &object("nome")));
    assert!(unknown.is_err());
}

#[test]
fn objects_follow_the_version_of_kubernetes() {
    let values = json!({"podDisruptionBudget": {"enabled": true}});
    let budget = |version| {
        let objects = chart::render(None, &values, version).unwrap();
        text(one(&objects, "PodDisruptionBudget"), "/apiVersion").to_owned()
    };
    assert_eq!(budget("1.20.2"), "policy/v1beta1");
    assert_eq!(budget("1.33.1+k3s1"), "policy/v1");
    let rolling = |version| {
        let objects = chart::render(None, &json!({"mode": "akri"}), version).unwrap();
        let strategy = one(&objects, "DaemonSet").pointer("/spec/updateStrategy/rollingUpdate");
        strategy.unwrap().clone()
    };
    // An older API server drops maxSurge and refuses what is left.
    assert_eq!(rolling("1.20.2"), json!({"maxUnavailable": 1}));
    for version in ["1.22.0", "1.29.3-eks-508b6b3", CURRENT] {
        assert_eq!(
            rolling(version),
            json!({"maxSurge": 1, "maxUnavailable": 0}),
            "{version}"
        );
    }
}

#[test]
fn pools_follow_the_version_of_kubernetes() {
    let values =
        json!({"pools": [{"name": "a", "configuration": "a", "autoscaling": {"enabled": true}}]});
    let rendered = |version| {
        let objects = chart::render(None, &values, version).unwrap();
        let autoscaler = one(&objects, "HorizontalPodAutoscaler");
        let retention = one(&objects, "StatefulSet")
            .pointer("/spec/persistentVolumeClaimRetentionPolicy/whenScaled");
        (
            text(autoscaler, "/apiVersion").to_owned(),
            retention.cloned(),
        )
    };
    let retain = Some(json!("Retain"));
    let [old, new] = ["autoscaling/v2beta2", "autoscaling/v2"].map(str::to_owned);
    assert_eq!(rendered("1.20.2"), (old, None));
    assert_eq!(rendered("1.26.9"), (new.clone(), None));
    assert_eq!(rendered("1.27.1-gke.9"), (new.clone(), retain.clone()));
    assert_eq!(rendered(CURRENT), (new, retain));
}

#[test]
fn a_pool_takes_the_place_of_the_pods_of_its_configuration() {
    let values = |mode: &str| {
        json!({
            "mode": mode,
            "configurations": [
                {"name": "a", "discoveryDetails": "topics: [a]", "credentials": {"secretName": "mqtt"}},
                {"name": "b", "discoveryDetails": "topics: [b]"},
            ],
            "pools": [{"name": "p", "configuration": "a", "shards": 8, "drainTimeout": "1500ms", "replicas": 0}],
            "networkPolicy": {"enabled": true},
            "serviceMonitor": {"enabled": true, "monitoringBrokers": true},
        })
    };
    for (mode, pool) in [("agentless", Some("p")), ("akri", None)] {
        let objects = with(&values(mode));
        let configuration = |name: &str| {
            let of_name = |one: &&Object| one.kind() == "Configuration" && one.name() == name;
            objects.iter().find(of_name).unwrap().value.clone()
        };
        let (served, other) = (configuration("a"), configuration("b"));
        for field in [
            "brokerSpec",
            "instanceServiceSpec",
            "configurationServiceSpec",
        ] {
            assert_eq!(served["spec"].get(field), None, "{mode}: {field}");
            assert_ne!(other["spec"].get(field), None, "{mode}: {field}");
        }
        let annotations = &served["metadata"]["annotations"];
        // Akri knows no pools, and needs to know none: without brokerSpec it makes Instances alone.
        let named = annotations.get("mqtt.akri.sh/pool").and_then(Value::as_str);
        assert_eq!(named, pool, "{mode}");
        assert_eq!(annotations["mqtt.akri.sh/shards"], "8", "{mode}");
        for kind in ["NetworkPolicy", "PodMonitor"] {
            let of_kind = objects.iter().filter(|one| one.kind() == kind);
            let names: BTreeSet<&str> = of_kind.map(Object::name).collect();
            assert!(names.contains("p") && names.contains("akri-mqtt-b"));
            assert!(!names.contains("akri-mqtt-a"), "{mode}: {kind}");
        }
        let pod = one(&objects, "StatefulSet").pointer("/spec/template/spec");
        let pod = pod.unwrap();
        let replicas = one(&objects, "StatefulSet").pointer("/spec/replicas");
        assert_eq!(
            replicas,
            Some(&json!(0)),
            "{mode}: nothing is not the default"
        );
        // The time for the sinks in whole seconds, and half a minute.
        assert_eq!(pod["terminationGracePeriodSeconds"], 32);
        let credentials = list(pod, "/volumes");
        assert!(
            credentials
                .iter()
                .any(|one| text(one, "/secret/secretName") == "mqtt")
        );
    }
}

#[test]
fn probes_services_and_monitors_know_that_the_ports_are_encrypted() {
    let objects = rendered(&chart::directory().join("ci/pools-values.yaml"));
    let mut seen = 0;
    for object in &objects {
        let place = object.title();
        for container in list(&object.value, "/spec/template/spec/containers") {
            if text(container, "/name") == "monitoring-broker" {
                for probe in ["livenessProbe", "readinessProbe"] {
                    assert_eq!(
                        text(container, &format!("/{probe}/httpGet/scheme")),
                        "HTTPS"
                    );
                    seen += 1;
                }
            }
        }
        for endpoint in list(&object.value, "/spec/podMetricsEndpoints") {
            assert_eq!(text(endpoint, "/scheme"), "https", "{place}");
            seen += 1;
        }
        if object.kind() == "Service" && ["robots", "sensors", "others"].contains(&object.name()) {
            let ports = list(&object.value, "/spec/ports");
            assert_eq!(ports[0]["port"], 443, "{place}");
            seen += 1;
        }
    }
    assert_eq!(seen, 13);
}

#[test]
fn schema_and_defaults_name_the_same_values() {
    let schema = std::fs::read_to_string(chart::directory().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let values = std::fs::read_to_string(chart::directory().join("values.yaml")).unwrap();
    let values = chart::documents(&values).remove(0);
    let mut differences = Vec::new();
    same_keys("", &schema, &schema, &values, &mut differences);
    // What a parent chart may set, and what has no default on purpose.
    let allowed = [
        ".global",
        "Probe.successThreshold",
        "Probe.initialDelaySeconds",
    ];
    differences.retain(|place| !allowed.iter().any(|end| place.ends_with(end)));
    // What a pool leaves out is said by the value of that name.
    differences.retain(|place| !place.starts_with(".poolDefaults.monitoringBroker."));
    assert_eq!(differences, Vec::<String>::new());
}

fn same_keys(at: &str, all: &Value, schema: &Value, values: &Value, differences: &mut Vec<String>) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(path) => all.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let (Some(properties), Some(values)) = (
        schema.get("properties").and_then(Value::as_object),
        values.as_object(),
    ) else {
        return;
    };
    let keys: BTreeSet<&String> = properties.keys().chain(values.keys()).collect();
    for key in keys {
        let at = format!("{at}.{key}");
        match (properties.get(key), values.get(key)) {
            (Some(schema), Some(value)) => same_keys(&at, all, schema, value, differences),
            _ => differences.push(at),
        }
    }
}

#[test]
fn configurations_are_rendered_from_few_values() {
    let details = json!({"serverUrls": ["tcp://a:1883"], "topics": ["robots/{device}"], "limits": {"maxDevices": 1_000_000}});
    let objects = with(
        &json!({"configurations": [{"name": "robots", "discoveryDetails": details,
        "credentials": {"secretName": "mqtt"}}]}),
    );
    let configuration = one(&objects, "Configuration");
    let text = text(configuration, "/spec/discoveryHandler/discoveryDetails");
    assert_eq!(chart::documents(text), [details]);
    let names: Vec<_> = list(configuration, "/spec/discoveryHandler/discoveryProperties")
        .iter()
        .map(|property| chart::text(property, "/name"))
        .collect();
    assert_eq!(
        names,
        [
            "MQTT_USERNAME",
            "MQTT_PASSWORD",
            "MQTT_CA_CERT",
            "MQTT_CLIENT_CERT",
            "MQTT_CLIENT_KEY"
        ]
    );
    for service in ["instanceServiceSpec", "configurationServiceSpec"] {
        let ports = list(configuration, &format!("/spec/{service}/ports"));
        let ports: Vec<_> = ports.iter().map(|port| port["port"].as_u64()).collect();
        assert_eq!(ports, [Some(80), Some(50051)], "{service}");
    }
}

#[test]
fn a_configuration_given_as_text_stays_as_it_is() {
    let details = "# why\ntopics: [a]\n\nserverUrls: [tcp://a]\n";
    let objects = with(&json!({"configurations": [{"name": "a", "discoveryDetails": details}]}));
    let rendered = text(
        one(&objects, "Configuration"),
        "/spec/discoveryHandler/discoveryDetails",
    );
    assert_eq!(rendered.trim_end(), details.trim_end());
}

#[test]
fn programs_know_the_flags_that_they_are_called_with() {
    let programs = BTreeMap::from([
        ("controller", "akri-mqtt-controller"),
        ("discovery-handler", "akri-mqtt-discovery-handler"),
        ("discovery-handler-0", "akri-mqtt-discovery-handler"),
        ("discovery-handler-1", "akri-mqtt-discovery-handler"),
        ("monitoring-broker", "akri-mqtt-monitoring-broker"),
    ]);
    let help: BTreeMap<&str, BTreeSet<String>> = programs
        .iter()
        .map(|(container, program)| (*container, flags_of(program)))
        .collect();
    let mut seen = BTreeSet::new();
    for file in chart::values_files() {
        for object in rendered(&file) {
            for pointer in ["/spec/template/spec", "/spec/brokerSpec/brokerPodSpec"] {
                for container in list(&object.value, &format!("{pointer}/containers")) {
                    let Some(known) = help.get(text(container, "/name")) else {
                        continue;
                    };
                    let mut given = BTreeSet::new();
                    for argument in list(container, "/args") {
                        let flag = argument.as_str().unwrap().split('=').next().unwrap();
                        let place = format!("{}: {}: {flag}", file.display(), object.title());
                        assert!(known.contains(flag), "{place}: unknown");
                        assert!(given.insert(flag), "{place}: twice");
                    }
                    seen.insert(text(container, "/name").to_owned());
                }
            }
        }
    }
    assert_eq!(seen.len(), programs.len(), "{seen:?}");
}

fn flags_of(program: &str) -> BTreeSet<String> {
    let output = Command::new(binary(program, program))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// The address that a reader replaces by their own.
const ADDRESS: &str = "tcp://mosquitto.default.svc:1883";

#[test]
fn examples_name_their_mqtt_server_once_and_run_pods_that_kubernetes_knows() {
    let directory = chart::directory().join("../../examples/kubernetes");
    let mut found = 0;
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let manifest = std::fs::read_to_string(&path).unwrap();
        for value in chart::documents(&manifest) {
            let title = format!("{}: {}", path.display(), text(&value, "/metadata/name"));
            if text(&value, "/kind") != "Configuration" {
                strictly_one_of_the_others(&title, &value);
                continue;
            }
            found += 1;
            assert_eq!(manifest.matches(ADDRESS).count(), 1, "{title}");
            configuration(&title, &value);
            strictly::<akri_mqtt_crds::Configuration>(&title, &value);
        }
    }
    assert!(found >= 6, "{found}");
}

#[test]
fn examples_pass_akris_webhook() {
    let mut files = Vec::new();
    files_under(&chart::directory().join("../../examples"), &mut files);
    let mut found = 0;
    for path in files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
    {
        for value in chart::documents(&std::fs::read_to_string(path).unwrap()) {
            if text(&value, "/kind") == "Configuration" {
                found += 1;
                akri_mqtt_crds::akri_webhook_accepts(&value)
                    .unwrap_or_else(|refused| panic!("{}: {refused}", path.display()));
            }
        }
    }
    assert!(found >= 8, "{found}");
}

fn strictly_one_of_the_others(title: &str, value: &Value) {
    match text(value, "/kind") {
        "ConfigMap" => strictly::<ConfigMap>(title, value),
        "Deployment" => strictly::<Deployment>(title, value),
        "Pod" => strictly::<Pod>(title, value),
        "Service" => strictly::<Service>(title, value),
        other => panic!("{title}: no type for {other}"),
    }
}

#[test]
fn example_of_a_workload_names_the_instance_of_its_device() {
    use blake2::digest::{Digest as _, consts::U3};
    let hash = blake2::Blake2b::<U3>::digest("plant-a/r1");
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = chart::directory().join("../../examples/kubernetes/workload.yaml");
    let manifest = std::fs::read_to_string(path).unwrap();
    assert!(
        manifest.contains(&format!("http://robots-{hash}-svc")),
        "{manifest}"
    );
}

#[test]
fn names_that_look_like_numbers_stay_names() {
    let entry = json!({
        "name": "12", "namespace": "34", "discoveryDetails": "serverUrls: [tcp://a]\ntopics: [a]",
        "credentials": {"secretName": "56", "keys": {"MQTT_PASSWORD": "78"}},
    });
    for mode in ["agentless", "akri"] {
        let objects = with(&json!({
            "mode": mode,
            "fullnameOverride": "90",
            "nameOverride": "1",
            "configurations": [entry],
            "pools": [{"name": "a", "configuration": "7", "namespace": "8", "serviceAccountName": "9"}],
            "secretNamespaces": ["34"],
            "serviceAccount": {"name": "2"},
            "discoveryHandler": {"credentials": {"secretName": "3"}},
            "monitoringBroker": {"serviceAccountName": "4"},
            "serviceMonitor": {"enabled": true, "monitoringBrokers": true},
            "prometheusRule": {"enabled": true},
            "networkPolicy": {"enabled": true},
        }));
        for object in &objects {
            decode(object);
            assert_ne!(object.name(), "", "{}", object.title());
            let namespace = object.value.pointer("/metadata/namespace");
            assert!(namespace.is_none_or(Value::is_string), "{}", object.title());
        }
        let configuration = one(&objects, "Configuration");
        assert_eq!(text(configuration, "/metadata/name"), "12");
    }
}

#[test]
fn names_of_long_configurations_are_not_cut() {
    let name = "a".repeat(56);
    let objects = with(&json!({
        "fullnameOverride": "b".repeat(50),
        "configurations": [{"name": name, "discoveryDetails": "topics: [a]"}],
        "networkPolicy": {"enabled": true},
        "serviceMonitor": {"enabled": true, "monitoringBrokers": true},
    }));
    for kind in ["NetworkPolicy", "PodMonitor"] {
        let whole = objects
            .iter()
            .any(|object| object.kind() == kind && object.name().ends_with(&name));
        assert!(whole, "{kind}");
    }
}

#[test]
fn labels_of_several_values_are_there_once() {
    let objects = with(&json!({
        "commonLabels": {"line": "all", "team": "plant"},
        "podLabels": {"line": "one"},
        "configurations": [{"name": "a", "discoveryDetails": "topics: [a]", "labels": {"line": "two"}}],
    }));
    let deployment = one(&objects, "Deployment");
    for (pointer, line) in [
        ("/metadata/labels", "all"),
        ("/spec/template/metadata/labels", "one"),
    ] {
        let labels = deployment.pointer(pointer).unwrap();
        assert_eq!(labels["line"], json!(line), "{pointer}");
        assert_eq!(labels["team"], json!("plant"), "{pointer}");
        let component = &labels["app.kubernetes.io/component"];
        assert_eq!(*component, json!("controller"), "{pointer}");
    }
    let labels = &one(&objects, "Configuration")["metadata"]["labels"];
    assert_eq!(labels["line"], json!("two"));
}

/// Every file under a path.
fn files_under(path: &Path, found: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        found.push(path.to_owned());
        return;
    }
    for entry in path.read_dir().unwrap() {
        files_under(&entry.unwrap().path(), found);
    }
}

#[test]
fn images_are_named_with_this_version_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let root = chart::directory().join("../..");
    let mut files = Vec::new();
    for path in [
        "docs",
        "examples",
        "charts",
        "README.md",
        "Dockerfile",
        ".pre-commit-hooks.yaml",
    ] {
        files_under(&root.join(path), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        for rest in text.split("akri-mqtt/").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
            let Some(tag) = rest[end.unwrap_or(rest.len())..].strip_prefix(':') else {
                continue;
            };
            let end = tag.find(|c: char| !c.is_ascii_alphanumeric() && !".-_".contains(c));
            let tag = &tag[..end.unwrap_or(tag.len())];
            if tag.starts_with(|c: char| c.is_ascii_digit()) {
                assert_eq!(tag, version, "{}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 7, "{seen}");
    let chart = std::fs::read_to_string(chart::directory().join("Chart.yaml")).unwrap();
    for (file, line) in [
        ("Dockerfile", "ARG VERSION"),
        ("docs/kubernetes/air-gapped.md", "VERSION"),
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(&format!("\n{line}={version}\n")), "{file}");
    }
    for key in ["version", "appVersion"] {
        assert!(chart.contains(&format!("\n{key}: {version}\n")), "{key}");
    }
}
