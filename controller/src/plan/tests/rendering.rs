//! Whole objects, as they are sent to the API server.

use super::*;
use crate::discover::{Mount, NodeDevice};

fn template() -> Value {
    json!({
        "serviceAccountName": "monitor",
        "fieldOfTomorrow": {"a": [1]},
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"name": "wait", "image": "busybox"}],
        "containers": [{
            "name": "monitor",
            "image": "one",
            "imagePullPolicy": "Never",
            "env": [{"name": "AKRI_MQTT_CLUSTER", "value": "mine"}],
            "resources": {
                "limits": {"{{PLACEHOLDER}}": "1", "memory": "64Mi"},
                "requests": {"{{PLACEHOLDER}}": "1", "cpu": "10m"},
            },
        }],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    })
}

fn variables(cluster: bool) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut all = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        json!({"name": "AKRI_MQTT_INSTANCE", "value": "c-35ced2"}),
    ];
    if cluster {
        all.push(json!({"name": "AKRI_MQTT_CLUSTER", "value": "0a1b2c3d"}));
    }
    all.push(json!({"name": "MQTT_DEVICE_ID", "value": "plant-a/r1"}));
    all.push(json!({"name": "MQTT_DEVICE_ID_35CED2", "value": "plant-a/r1"}));
    all
}

fn labels() -> Value {
    json!({
        "akri.sh/configuration": "c",
        "akri.sh/instance": "c-35ced2",
        "app.kubernetes.io/name": "akri-mqtt-broker",
        "app.kubernetes.io/instance": "c",
        "app.kubernetes.io/managed-by": "akri-mqtt-controller",
    })
}

fn owners() -> Value {
    json!([{
        "apiVersion": "akri.sh/v0", "kind": "Instance", "name": "c-35ced2", "uid": "uid-2",
        "controller": true, "blockOwnerDeletion": true,
    }])
}

#[test]
fn a_pod_is_its_template_with_what_the_instance_says() {
    let mut cluster = Cluster::new(json!({"brokerSpec": {"brokerPodSpec": template()}}));
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    let mut env = variables(false);
    env.push(json!({"name": "AKRI_MQTT_CLUSTER", "value": "mine"}));
    assert_eq!(
        cluster.pods["c-35ced2-0"].json,
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": "plant",
                "name": "c-35ced2-0",
                "uid": "uid-3",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": labels(),
                "annotations": {"mqtt.akri.sh/template-hash": "1-f02053456f9f4bfb"},
                "ownerReferences": owners(),
            },
            "spec": {
                "serviceAccountName": "monitor",
                "fieldOfTomorrow": {"a": [1]},
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"name": "wait", "image": "busybox", "env": variables(true)}],
                "containers": [{
                    "name": "monitor",
                    "image": "one",
                    "imagePullPolicy": "Never",
                    "env": env,
                    "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m"}},
                }],
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
                    {
                        "key": "node.kubernetes.io/unreachable", "operator": "Exists",
                        "effect": "NoExecute", "tolerationSeconds": 30,
                    },
                ],
                "topologySpreadConstraints": [{
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"akri.sh/configuration": "c"}},
                }],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"akri.sh/instance": "c-35ced2"}},
                    },
                }]}},
            },
        })
    );
}

#[test]
fn a_template_that_says_where_pods_run_is_left_alone() {
    for own in [
        json!({"topologySpreadConstraints": []}),
        json!({"affinity": {"podAntiAffinity": {}}}),
    ] {
        let mut template = pod_spec("one");
        for (field, value) in own.as_object().unwrap() {
            template[field] = value.clone();
        }
        template["tolerations"] = json!([{"operator": "Exists"}]);
        let mut cluster = Cluster::new(json!({"brokerSpec": {"brokerPodSpec": template}}));
        cluster.list(&["plant-a/r1"]);
        cluster.settle();
        let mut spec = cluster.pods["c-35ced2-0"].json["spec"].clone();
        spec["containers"][0].as_object_mut().unwrap().remove("env");
        assert_eq!(spec, template);
    }
}

#[test]
fn a_job_is_its_spec_with_what_the_instance_says() {
    let mut cluster = Cluster::new(json!({"brokerSpec": {"brokerJobSpec": {
        "backoffLimit": 2,
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "once"}], "restartPolicy": "Never"},
        },
    }}}));
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    let (job, _) = &cluster.jobs["c-35ced2-1-job"];
    let digest = job.json["metadata"]["annotations"][names::TEMPLATE].clone();
    assert_eq!(
        job.json,
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "namespace": "plant",
                "name": "c-35ced2-1-job",
                "uid": "uid-3",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": labels(),
                "annotations": {"mqtt.akri.sh/template-hash": digest},
                "ownerReferences": owners(),
            },
            "spec": {
                "backoffLimit": 2,
                "template": {
                    "metadata": {"labels": {
                        "a": "b", "akri.sh/configuration": "c", "akri.sh/instance": "c-35ced2",
                    }},
                    "spec": {
                        "containers": [{"name": "once", "env": variables(true)}],
                        "restartPolicy": "Never",
                    },
                },
            },
        })
    );
}

#[test]
fn mounts_and_device_nodes_reach_pods_and_outlive_a_restart() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&["plant-a/r1"]);
    let found = FoundDevice {
        mounts: Box::new([Mount {
            container_path: "/in".into(),
            host_path: "/out".into(),
            read_only: true,
        }]),
        device_specs: Box::new([NodeDevice {
            container_path: "/dev/a".into(),
            host_path: "/dev/b".into(),
            permissions: "rw".into(),
        }]),
        ..(*device("plant-a/r1")).clone()
    };
    let devices: Devices = [(found.id.clone(), Arc::new(found))].into();
    cluster.finding.as_mut().unwrap().devices = Some(Arc::new(devices));
    cluster.settle();
    let spec = &cluster.pods["c-35ced2-0"].json["spec"];
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "akri-device-0", "hostPath": {"path": "/out"}},
            {"name": "akri-device-1", "hostPath": {"path": "/dev/b"}},
        ])
    );
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([
            {"name": "akri-device-0", "mountPath": "/in", "readOnly": true},
            {"name": "akri-device-1", "mountPath": "/dev/a"},
        ])
    );
    cluster.done();
    cluster.restart();
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn a_template_that_is_no_pod_is_left_to_the_api_server_to_refuse() {
    for template in [
        json!({}),
        json!({"containers": 1, "volumes": "x", "tolerations": {}}),
        json!({"containers": [1, {"env": 2, "resources": [], "volumeMounts": 3}]}),
    ] {
        let mut cluster = Cluster::new(json!({
            "brokerSpec": {"brokerPodSpec": template, "brokerJobSpec": {"template": 1}},
        }));
        cluster.annotate(names::DATA_VOLUME, "1Gi");
        cluster.list(&["plant-a/r1"]);
        cluster.settle();
        assert_eq!(cluster.names().1, ["c-35ced2-0"]);
    }
}

#[test]
fn properties_that_cannot_be_variables_are_left_out_and_told_once() {
    let mut cluster = Cluster::with_pods();
    cluster.edit(|spec| {
        spec.broker_properties
            .insert("no name".to_owned(), "1".to_owned());
    });
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    cluster.settle();
    assert!(cluster.words().contains(
        &"InvalidSetting: 1 property left out, since no environment variable may have its name: no name".to_owned()
    ));
    let env = &cluster.pods["c-35ced2-0"].json["spec"]["containers"][0]["env"];
    assert_eq!(env.as_array().unwrap().len(), variables(true).len());
}
