//! Compares the generated definitions with what Akri ships (0.13, `akri.sh/v0`).
//! In: the facts of Akri's definitions, written down here. Out: a difference by its path.
//! Descriptions, titles and number formats are left out: they decide nothing.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest as _};
use serde_json::{Value, json};

fn generated(file: &str) -> Value {
    let (_, definition) = akri_mqtt_crds::definitions()
        .into_iter()
        .find(|(name, _)| *name == file)
        .unwrap();
    serde_json::to_value(definition).unwrap()
}

/// Removes what has no meaning for a server, and gives lists without order one.
fn plain(value: &mut Value, is_schema: bool) {
    match value {
        Value::Object(map) => {
            if is_schema {
                for key in ["description", "title", "format"] {
                    map.remove(key);
                }
                if map.get("minimum").and_then(Value::as_f64) == Some(0.0) {
                    map.remove("minimum");
                }
            }
            for (key, child) in map.iter_mut() {
                // The keys below `properties` are names of fields, not words of the schema.
                plain(child, key != "properties");
                if let (true, Value::Array(items)) = (key == "required" || key == "oneOf", child) {
                    items.sort_by_key(Value::to_string);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| plain(item, true)),
        _ => {}
    }
}

fn schema(definition: &Value) -> Value {
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    plain(&mut schema, true);
    schema
}

fn reference() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "key": {"type": "string"},
            "name": {"type": "string"},
            "namespace": {"type": "string"},
            "optional": {"type": "boolean"},
        },
    })
}

fn raw() -> Value {
    json!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

fn property() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[_A-Za-z][_A-Za-z0-9]*$"},
            "value": {"type": "string", "nullable": true},
            "valueFrom": {
                "type": "object",
                "properties": {"secretKeyRef": reference(), "configMapKeyRef": reference()},
                "oneOf": [{"required": ["configMapKeyRef"]}, {"required": ["secretKeyRef"]}],
            },
        },
        "oneOf": [{"required": ["value"]}, {"required": ["valueFrom"]}],
    })
}

#[test]
fn configuration_has_the_schema_of_akri() {
    let properties = json!({"type": "array", "nullable": true, "items": property()});
    let mut expected = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "discoveryHandler": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "discoveryDetails": {"type": "string"},
                            "discoveryProperties": properties,
                        },
                    },
                    "capacity": {"type": "integer"},
                    "brokerSpec": {
                        "type": "object",
                        "properties": {"brokerJobSpec": raw(), "brokerPodSpec": raw()},
                    },
                    "instanceServiceSpec": raw(),
                    "configurationServiceSpec": raw(),
                    "brokerProperties": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
    });
    // Akri's schema lets these be left out; its programs cannot read an object without them.
    expected["required"] = json!(["spec"]);
    expected["properties"]["spec"]["required"] = json!(["discoveryHandler"]);
    expected["properties"]["spec"]["properties"]["discoveryHandler"]["required"] = json!(["name"]);
    let mut schema = schema(&generated("akri-configuration-crd.yaml"));
    // The one difference: agentless mode writes a status.
    let ours = schema["properties"].as_object_mut().unwrap();
    assert!(ours.remove("status").is_some());
    assert_eq!(schema, expected);
}

#[test]
fn only_the_configuration_has_a_status_and_it_is_a_subresource() {
    let version = |file| generated(file)["spec"]["versions"][0].clone();
    let configuration = version("akri-configuration-crd.yaml");
    assert_eq!(configuration["subresources"], json!({"status": {}}));
    let mut status = configuration["schema"]["openAPIV3Schema"]["properties"]["status"].clone();
    plain(&mut status, true);
    assert_eq!(status["nullable"], json!(true));
    let conditions = &status["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    assert_eq!(
        conditions["items"]["required"],
        json!(["lastTransitionTime", "message", "reason", "status", "type"])
    );
    assert_eq!(status.get("required"), None, "every part may be left out");
    assert_eq!(version("akri-instance-crd.yaml").get("subresources"), None);
}

#[test]
fn instance_has_the_schema_of_akri() {
    let texts =
        json!({"type": "object", "additionalProperties": {"type": "string"}, "default": {}});
    let mut usage = texts.clone();
    usage["x-kubernetes-map-type"] = json!("granular");
    let expected = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["capacity", "cdiName", "configurationName"],
                "properties": {
                    "brokerProperties": texts,
                    "capacity": {"type": "integer"},
                    "cdiName": {"type": "string"},
                    "configurationName": {"type": "string"},
                    "deviceUsage": usage,
                    "nodes": {
                        "type": "array",
                        "items": {"type": "string"},
                        "default": [],
                        "x-kubernetes-list-type": "set",
                    },
                    "shared": {"type": "boolean", "default": false},
                },
            },
        },
    });
    assert_eq!(schema(&generated("akri-instance-crd.yaml")), expected);
}

#[test]
fn names_and_versions_are_those_of_akri() {
    let configuration = generated("akri-configuration-crd.yaml");
    let instance = generated("akri-instance-crd.yaml");
    for (definition, plural, singular, kind, short) in [
        (
            &configuration,
            "configurations",
            "configuration",
            "Configuration",
            "akric",
        ),
        (&instance, "instances", "instance", "Instance", "akrii"),
    ] {
        assert_eq!(definition["metadata"]["name"], format!("{plural}.akri.sh"));
        let spec = &definition["spec"];
        assert_eq!(spec["group"], "akri.sh");
        assert_eq!(spec["scope"], "Namespaced");
        assert_eq!(
            spec["names"],
            json!({"plural": plural, "singular": singular, "kind": kind, "shortNames": [short], "categories": ["all"]})
        );
        let versions = spec["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0]["name"], "v0");
        assert_eq!(
            (&versions[0]["served"], &versions[0]["storage"]),
            (&json!(true), &json!(true))
        );
    }
}

#[test]
fn columns_are_those_of_akri_and_of_the_status() {
    let configuration = generated("akri-configuration-crd.yaml");
    let instance = generated("akri-instance-crd.yaml");
    let columns = configuration["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap();
    let (of_status, of_akri): (Vec<_>, Vec<_>) = columns.iter().partition(|column| {
        column["jsonPath"]
            .as_str()
            .is_some_and(|path| path.starts_with(".status."))
    });
    assert_eq!(
        json!(of_akri),
        json!([
            {"name": "Capacity", "type": "string", "jsonPath": ".spec.capacity",
             "description": "The capacity for each Instance discovered"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ])
    );
    let names: Vec<_> = of_status.iter().map(|column| &column["name"]).collect();
    assert_eq!(
        names,
        ["Devices", "Brokers", "Ready", "Discovered", "Servers"]
    );
    assert_eq!(
        instance["spec"]["versions"][0]["additionalPrinterColumns"],
        json!([
            {"name": "Config", "type": "string", "jsonPath": ".spec.configurationName",
             "description": "The Configuration this Instance belongs to"},
            {"name": "Shared", "type": "boolean", "jsonPath": ".spec.shared",
             "description": "Describes whether this Instance is shared"},
            {"name": "Nodes", "type": "string", "jsonPath": ".spec.nodes",
             "description": "Nodes that expose this Instance"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ])
    );
}

#[test]
fn a_changed_definition_has_a_new_revision() {
    const DIGEST_OF_REVISION_1: &str = "9e3fcd1c7810bfd0";
    let mut digest = Blake2b::<U8>::new();
    for (_, definition) in akri_mqtt_crds::definitions() {
        let mut spec = serde_json::to_value(definition).unwrap()["spec"].take();
        plain(&mut spec, true);
        digest.update(spec.to_string());
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        (akri_mqtt_crds::REVISION, digest.as_str()),
        (1, DIGEST_OF_REVISION_1),
        "raise REVISION and note the new digest here"
    );
}
