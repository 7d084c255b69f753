//! What the chart's objects may do: pods as restricted as Kubernetes can ask for, two directories of the
//! node in akri mode and no more, least rights with a reason at each, and no secret in any object.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;

use akri_mqtt_tests::chart::{self, CURRENT, Object, list, text};
use serde_json::{Value, json};

fn everything() -> Vec<(String, Object)> {
    let mut all = Vec::new();
    for file in chart::values_files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let objects = chart::render(Some(&file), &json!({}), CURRENT).unwrap();
        all.extend(objects.into_iter().map(|object| (name.clone(), object)));
    }
    all
}

/// Pod specs of our own programs: the workloads, and the monitoring brokers of Configurations.
fn pods(object: &Object) -> Option<&Value> {
    let value = &object.value;
    let broker = value.pointer("/spec/brokerSpec/brokerPodSpec");
    let own = broker.filter(|pod| text(pod, "/containers/0/name") == "monitoring-broker");
    value.pointer("/spec/template/spec").or(own)
}

fn restricted(title: &str, pod: &Value) {
    let is = |pointer: &str, value: Value| {
        assert_eq!(pod.pointer(pointer), Some(&value), "{title}: {pointer}");
    };
    is("/securityContext/runAsNonRoot", json!(true));
    is(
        "/securityContext/seccompProfile/type",
        json!("RuntimeDefault"),
    );
    is("/automountServiceAccountToken", json!(false));
    for key in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
        assert_eq!(pod.get(key), None, "{title}: {key}");
    }
    for container in list(pod, "/containers") {
        confined(title, container);
    }
    // The kinds that the standard "restricted" allows.
    let allowed = [
        "configMap",
        "downwardAPI",
        "emptyDir",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(pod, "/volumes") {
        let mut kinds = volume
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "name");
        assert!(
            kinds.all(|kind| allowed.contains(&kind.as_str())),
            "{title}: {volume}"
        );
    }
}

fn confined(title: &str, container: &Value) {
    let title = format!("{title}, container {}", text(container, "/name"));
    let security = &container["securityContext"];
    assert_eq!(
        security["allowPrivilegeEscalation"],
        json!(false),
        "{title}"
    );
    assert_eq!(
        security["capabilities"],
        json!({"drop": ["ALL"]}),
        "{title}"
    );
    assert_eq!(security["readOnlyRootFilesystem"], json!(true), "{title}");
    assert_eq!(security.get("privileged"), None, "{title}");
    assert_eq!(security.get("runAsUser"), None, "{title}");
    for port in list(container, "/ports") {
        assert_eq!(port.get("hostPort"), None, "{title}");
    }
}

#[test]
fn pods_of_agentless_mode_meet_the_restricted_standard() {
    let mut seen = 0;
    for (file, object) in everything() {
        let title = format!("{file}: {}", object.title());
        if let Some(pod) = pods(&object).filter(|_| object.kind() != "DaemonSet") {
            restricted(&title, pod);
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn handlers_of_akri_mode_get_two_directories_of_the_node_and_no_more() {
    let mut seen = 0;
    for (file, object) in everything() {
        if object.kind() != "DaemonSet" {
            continue;
        }
        seen += 1;
        let pod = object.value.pointer("/spec/template/spec").unwrap();
        let paths: Vec<_> = list(pod, "/volumes")
            .iter()
            .filter_map(|volume| volume.pointer("/hostPath/path")?.as_str())
            .collect();
        let expected = match file.as_str() {
            "akri-everything-values.yaml" => ["/opt/akri", "/opt/akri-mqtt"],
            _ => ["/var/lib/akri", "/var/lib/akri-mqtt"],
        };
        assert_eq!(paths, expected, "{file}");
        let security = pod.get("securityContext").unwrap();
        let wanted =
            json!({"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(*security, wanted, "{file}");
        assert_eq!(pod["automountServiceAccountToken"], json!(false), "{file}");
        let containers = list(pod, "/containers");
        assert_eq!(containers.len(), 2, "{file}");
        for container in containers {
            confined(&file, container);
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn only_the_controller_and_pools_can_speak_to_the_api_server() {
    for (file, object) in everything() {
        let Some(pod) = pods(&object) else { continue };
        let pool = object.kind() == "StatefulSet";
        for container in list(pod, "/containers") {
            let token = list(container, "/volumeMounts").iter().any(|mount| {
                text(mount, "/mountPath").starts_with("/var/run/secrets/kubernetes.io")
            });
            let may = pool || text(container, "/name") == "controller";
            assert_eq!(token, may, "{file}: {}", object.title());
        }
    }
}

#[test]
fn no_object_holds_a_secret() {
    for (file, object) in everything() {
        let title = format!("{file}: {}", object.title());
        if object.kind() == "Secret" {
            assert_eq!(object.value.get("data"), None, "{title}");
            assert_eq!(object.value.get("stringData"), None, "{title}");
        }
        for property in list(&object.value, "/spec/discoveryHandler/discoveryProperties") {
            if text(property, "/name").ends_with("PASSWORD") {
                assert_eq!(property.get("value"), None, "{title}");
            }
        }
    }
}

#[test]
fn no_object_of_a_role_is_wider_than_it_must_be() {
    for (file, object) in everything() {
        let kind = object.kind();
        if kind != "ClusterRole" && kind != "Role" {
            continue;
        }
        for rule in list(&object.value, "/rules") {
            let title = format!("{file}: {}: {rule}", object.title());
            for part in ["apiGroups", "resources", "verbs", "resourceNames"] {
                assert!(
                    !list(rule, &format!("/{part}")).contains(&json!("*")),
                    "{title}"
                );
            }
            let all: BTreeSet<_> = list(rule, "/resources")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            for kept in ["secrets", "configmaps", "leases", "namespaces"] {
                assert!(
                    !all.contains(kept) || all.len() == 1,
                    "{title}: {kept} has a rule of its own"
                );
            }
            let named = !list(rule, "/resourceNames").is_empty();
            let verbs: BTreeSet<_> = list(rule, "/verbs")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            // What does not exist yet has no name for the API server.
            let creates_leases = all.contains("leases") && verbs == BTreeSet::from(["create"]);
            // Nor have the Leases of members that nobody has counted yet.
            let pool = text(
                &object.value,
                "/metadata/labels/app.kubernetes.io~1component",
            );
            let unnamed = creates_leases || (all.contains("leases") && pool == "pool");
            assert!(!unnamed || kind == "Role", "{title}: only in its own");
            for needs in [
                "leases",
                "namespaces",
                "customresourcedefinitions",
                "validatingwebhookconfigurations",
            ] {
                assert!(
                    !all.contains(needs) || named || unnamed,
                    "{title}: {needs} by name only"
                );
            }
            let events = all.contains("events");
            assert!(
                !events || verbs == BTreeSet::from(["create"]),
                "{title}: Events are only written"
            );
            let references = all.contains("secrets") || all.contains("configmaps");
            assert!(!references || kind == "Role", "{title}: only in namespaces");
            assert!(
                !references || !verbs.contains("list"),
                "{title}: nothing is listed"
            );
            assert!(
                !verbs.contains("deletecollection") && !verbs.contains("escalate"),
                "{title}"
            );
        }
    }
}

#[test]
fn each_right_says_why_it_is_needed() {
    let mut rules = 0;
    for (file, object) in everything() {
        let lines: Vec<&str> = object.text.lines().collect();
        for pair in lines.windows(2) {
            if let [before, line] = pair
                && line.trim_start().starts_with("- apiGroups:")
                && object.kind().ends_with("Role")
            {
                assert!(
                    before.trim_start().starts_with("# "),
                    "{file}: {}: {before}",
                    object.title()
                );
                rules += 1;
            }
        }
    }
    assert!(rules > 20, "{rules}");
}

#[test]
fn members_of_a_pool_write_leases_and_nothing_else() {
    let values = json!({"pools": [{"name": "p", "configuration": "robots", "namespace": "plant"}]});
    let objects = chart::render(None, &values, CURRENT).unwrap();
    let bound = |kind: &str| -> Vec<&Value> {
        let of_pool = |one: &&Object| one.kind() == kind && one.name() == "p";
        let found = objects.iter().filter(of_pool);
        found.map(|object| &object.value).collect()
    };
    let subject = json!([{"kind": "ServiceAccount", "name": "p", "namespace": "plant"}]);
    let subjects = objects.iter().filter_map(|one| one.value.get("subjects"));
    let bindings = subjects.filter(|subjects| **subjects == subject).count();
    assert_eq!(bindings, 1, "by one binding");
    assert_eq!(bound("RoleBinding").len(), 1, "of its own namespace");
    let [role] = bound("Role")[..] else {
        panic!("one Role");
    };
    assert_eq!(text(role, "/metadata/namespace"), "plant");
    let rules: Vec<(&str, bool, bool)> = list(role, "/rules")
        .iter()
        .map(|rule| {
            let reads = |verb: &Value| ["get", "list", "watch"].map(Value::from).contains(verb);
            let resource = rule["resources"][0].as_str().unwrap();
            let named = list(rule, "/resourceNames") == [json!("robots")];
            (resource, named, list(rule, "/verbs").iter().all(reads))
        })
        .collect();
    assert_eq!(
        rules,
        [
            ("instances", false, true),
            ("configurations", true, true),
            ("leases", false, false)
        ]
    );
}

/// The names of a namespace's Secrets or ConfigMaps that may be read; empty for all, none without a rule.
fn readable(objects: &[Object], namespace: &str, resource: &str) -> Option<Vec<String>> {
    let roles = ["-references", "-agent"];
    objects
        .iter()
        .filter(|object| roles.iter().any(|role| object.name().ends_with(role)))
        .filter(|object| object.kind() == "Role")
        .filter(|object| text(&object.value, "/metadata/namespace") == namespace)
        .flat_map(|object| list(&object.value, "/rules").to_vec())
        .find(|rule| list(rule, "/resources") == [json!(resource)])
        .map(|rule| {
            let names = list(&rule, "/resourceNames").iter();
            names.filter_map(Value::as_str).map(str::to_owned).collect()
        })
}

#[test]
fn one_list_of_a_namespace_gives_away_nothing_of_the_other_kind() {
    let given = |entry: &Value| {
        let values = json!({"secretNamespaces": [entry]});
        let objects = chart::render(None, &values, CURRENT).unwrap();
        ["secrets", "configmaps"].map(|kind| readable(&objects, "plant", kind))
    };
    let all = || Some(Vec::new());
    let only = || Some(vec!["a".to_owned()]);
    for (entry, expected) in [
        (json!("plant"), [all(), all()]),
        (json!({"namespace": "plant"}), [all(), all()]),
        (
            json!({"namespace": "plant", "secrets": ["a"]}),
            [only(), None],
        ),
        (
            json!({"namespace": "plant", "secrets": ["a"], "configMaps": []}),
            [only(), None],
        ),
        (
            json!({"namespace": "plant", "configMaps": ["a"]}),
            [None, only()],
        ),
        (
            json!({"namespace": "plant", "secrets": [], "configMaps": ["a"]}),
            [None, only()],
        ),
        (json!({"namespace": "plant", "secrets": []}), [None, None]),
    ] {
        assert_eq!(given(&entry), expected, "{entry}");
    }
}

#[test]
fn a_namespace_is_not_opened_by_a_second_entry() {
    let namespace = chart::NAMESPACE;
    for (values, words) in [
        (
            json!({"secretNamespaces": [{"namespace": "plant", "secrets": ["a"]}, "plant"]}),
            "plant is there twice",
        ),
        (
            json!({"secretAccess": {"secrets": ["a"]}, "secretNamespaces": [namespace]}),
            "secretAccess says",
        ),
        (
            json!({"secretNamespaces": [{"namespace": namespace, "secrets": ["a"]}]}),
            "secretAccess says",
        ),
    ] {
        let error = chart::render(None, &values, CURRENT).expect_err(&values.to_string());
        assert!(error.contains(words), "{values}: {error}");
    }
    // All of it can be read anyway.
    chart::render(None, &json!({"secretNamespaces": [namespace]}), CURRENT).unwrap();
}

#[test]
fn what_the_configurations_of_the_chart_refer_to_is_added_to_the_names() {
    let reference =
        json!({"name": "MQTT_CA_CERT", "valueFrom": {"configMapKeyRef": {"name": "ca"}}});
    let entry = json!({"name": "a", "namespace": "plant", "discoveryDetails": "topics: [a]", "discoveryProperties": [reference]});
    let narrow = |namespace: &str| json!({"namespace": namespace, "secrets": ["b"]});
    // Akri looks in `default` when a reference names no namespace.
    for (mode, namespace, other) in [
        ("agentless", "plant", "default"),
        ("akri", "default", "plant"),
    ] {
        let values = json!({
            "mode": mode,
            "configurations": [entry],
            "secretNamespaces": [narrow("plant"), narrow("default")],
        });
        let objects = chart::render(None, &values, CURRENT).unwrap();
        let found = readable(&objects, namespace, "configmaps");
        assert_eq!(found, Some(vec!["ca".to_owned()]), "{mode}");
        assert_eq!(readable(&objects, other, "configmaps"), None, "{mode}");
    }
}

#[test]
fn secrets_are_read_by_name_where_the_values_name_them() {
    let render = |changes: &Value| chart::render(None, changes, CURRENT).unwrap();
    let all = render(&json!({}));
    assert_eq!(
        readable(&all, chart::NAMESPACE, "secrets"),
        Some(vec![]),
        "the release's own"
    );
    assert_eq!(readable(&all, "plant", "secrets"), None, "nowhere else");
    let named = render(&json!({
        "secretAccess": {"secrets": ["a"]},
        "secretNamespaces": ["lab", {"namespace": "plant", "secrets": ["b"], "configMaps": ["c"]}],
        "configurations": [
            {"name": "one", "discoveryDetails": "topics: [a]", "credentials": {"secretName": "own"}},
            {"name": "two", "namespace": "plant", "discoveryDetails": "topics: [a]", "credentials": {"secretName": "theirs"}},
        ],
    }));
    let of = |namespace, resource| readable(&named, namespace, resource).unwrap();
    assert_eq!(of(chart::NAMESPACE, "secrets"), ["a", "own"]);
    assert_eq!(of("plant", "secrets"), ["b", "theirs"]);
    assert_eq!(of("plant", "configmaps"), ["c"]);
    assert!(
        of("lab", "secrets").is_empty(),
        "all of a namespace that is named alone"
    );
}

#[test]
fn rights_to_make_pods_end_at_the_namespaces_that_are_served() {
    let objects = chart::render(
        None,
        &json!({"controller": {"namespaces": ["plant"]}}),
        CURRENT,
    )
    .unwrap();
    let may_create: BTreeSet<String> = objects
        .iter()
        .filter(|object| object.kind().ends_with("Role"))
        .filter(|object| {
            list(&object.value, "/rules").iter().any(|rule| {
                list(rule, "/verbs").contains(&json!("create"))
                    && list(rule, "/resources").contains(&json!("pods"))
            })
        })
        .map(|object| {
            format!(
                "{} in {}",
                object.kind(),
                text(&object.value, "/metadata/namespace")
            )
        })
        .collect();
    assert_eq!(may_create, BTreeSet::from(["Role in plant".to_owned()]));
}

#[test]
fn the_webhook_lets_everything_pass_while_it_is_away_and_an_upgrade_keeps_its_authority() {
    let objects = chart::render(None, &json!({"webhook": {"enabled": true}}), CURRENT).unwrap();
    let webhook = objects
        .iter()
        .find(|object| object.kind() == "ValidatingWebhookConfiguration")
        .unwrap();
    let webhook = &list(&webhook.value, "/webhooks")[0];
    assert_eq!(webhook["failurePolicy"], "Ignore");
    // What Helm does not render it does not replace.
    assert_eq!(webhook.pointer("/clientConfig/caBundle"), None);
    assert_eq!(
        text(webhook, "/clientConfig/service/name"),
        "akri-mqtt-webhook"
    );
}
