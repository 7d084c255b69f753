//! The rule of Akri's validating webhook: it reads a Configuration with its own Rust types, writes
//! it again, and refuses it unless all that was given comes back. Everything that we write is held
//! against it. In: an object as the API server would send it. Out: what Akri would refuse.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::{PodSpec, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::configuration::default_capacity;

/// Akri 0.13's Configuration, with Kubernetes 1.33's types as it uses them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AkriConfiguration {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: AkriSpec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AkriSpec {
    discovery_handler: AkriHandler,
    #[serde(default = "default_capacity")]
    capacity: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broker_spec: Option<AkriBroker>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance_service_spec: Option<ServiceSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configuration_service_spec: Option<ServiceSpec>,
    #[serde(default)]
    broker_properties: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AkriHandler {
    name: String,
    #[serde(default)]
    discovery_details: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    discovery_properties: Option<Vec<AkriProperty>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AkriProperty {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_from: Option<AkriSource>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum AkriSource {
    ConfigMapKeyRef(AkriSelector),
    SecretKeyRef(AkriSelector),
}

#[derive(Serialize, Deserialize)]
struct AkriSelector {
    key: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    optional: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum AkriBroker {
    BrokerPodSpec(Box<PodSpec>),
    BrokerJobSpec(Box<JobSpec>),
}

/// Why Akri's webhook would refuse a Configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedByAkri {
    /// Akri's types cannot read it.
    #[error("Akri cannot read the Configuration: {0}")]
    Unreadable(String),
    /// These fields, by their paths, do not come back as they were given.
    #[error("Akri does not know these fields, or not these values: {}", .0.join(", "))]
    Fields(Vec<String>),
}

/// Whether Akri's webhook lets `configuration` pass, `status` included.
///
/// # Errors
/// What it would refuse, by path, sorted.
pub fn akri_webhook_accepts(configuration: &Value) -> Result<(), RefusedByAkri> {
    let read: AkriConfiguration = serde_json::from_value(configuration.clone())
        .map_err(|error| RefusedByAkri::Unreadable(error.to_string()))?;
    let written =
        serde_json::to_value(read).map_err(|error| RefusedByAkri::Unreadable(error.to_string()))?;
    let mut faults = Vec::new();
    compare(configuration, &written, "", &mut faults);
    faults.sort_unstable();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(RefusedByAkri::Fields(faults))
    }
}

/// What is given must be in what Akri has read, at every depth; what it adds is its own business.
fn compare(given: &Value, read: &Value, path: &str, faults: &mut Vec<String>) {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            for (key, value) in given {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                // These three are taken out by the webhook before it compares.
                if path == "metadata"
                    && ["creationTimestamp", "deletionTimestamp", "managedFields"]
                        .contains(&key.as_str())
                {
                    continue;
                }
                compare(value, read.get(key).unwrap_or(&Value::Null), &below, faults);
            }
        }
        (Value::Array(given), Value::Array(read)) => {
            for (index, value) in given.iter().enumerate() {
                let below = format!("{path}[{index}]");
                compare(
                    value,
                    read.get(index).unwrap_or(&Value::Null),
                    &below,
                    faults,
                );
            }
        }
        _ if given == read => {}
        _ => faults.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn configuration() -> Value {
        json!({
            "apiVersion": "akri.sh/v0",
            "kind": "Configuration",
            "metadata": {"name": "a", "namespace": "b", "generation": 1, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {
                "discoveryHandler": {
                    "name": "mqtt",
                    "discoveryDetails": "topics: [a]",
                    "discoveryProperties": [
                        {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p", "namespace": "n"}}},
                    ],
                },
                "capacity": 2,
                "brokerSpec": {"brokerPodSpec": {"containers": [{
                    "name": "c", "image": "i",
                    "resources": {"limits": {"{{PLACEHOLDER}}": "1", "memory": "64Mi"}},
                }]}},
                "instanceServiceSpec": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
                "brokerProperties": {"A": "b"},
            },
        })
    }

    fn refused(change: impl FnOnce(&mut Value)) -> RefusedByAkri {
        let mut configuration = configuration();
        change(&mut configuration);
        akri_webhook_accepts(&configuration).unwrap_err()
    }

    #[test]
    fn an_ordinary_configuration_passes() {
        assert_eq!(akri_webhook_accepts(&configuration()), Ok(()));
    }

    #[test]
    fn fields_that_akri_lacks_are_named_by_their_paths() {
        let fields = |refused| match refused {
            RefusedByAkri::Fields(fields) => fields,
            RefusedByAkri::Unreadable(reason) => panic!("{reason}"),
        };
        assert_eq!(
            fields(refused(|c| c["status"] = json!({"devices": 1}))),
            ["status"]
        );
        assert_eq!(
            fields(refused(|c| {
                c["spec"]["brokerSpec"]["brokerPodSpec"]["containers"][0]["imagePullPolcy"] =
                    json!("Never");
                c["spec"]["retention"] = json!("1h");
            })),
            [
                "spec.brokerSpec.brokerPodSpec.containers[0].imagePullPolcy",
                "spec.retention",
            ]
        );
    }

    #[test]
    fn what_akri_cannot_read_is_refused_with_its_reason() {
        const CHANGES: [fn(&mut Value); 5] = [
            |c| {
                c["spec"]["discoveryHandler"]["discoveryProperties"][0]["valueFrom"]["secretKeyRef"]
                    .as_object_mut()
                    .unwrap()
                    .remove("key");
            },
            |c| c["spec"]["brokerSpec"] = json!({}),
            |c| c["spec"]["brokerSpec"]["brokerJobSpec"] = json!({}),
            |c| drop(c.as_object_mut().unwrap().remove("spec")),
            |c| *c = json!([]),
        ];
        for change in CHANGES {
            assert!(matches!(refused(change), RefusedByAkri::Unreadable(_)));
        }
    }
}
