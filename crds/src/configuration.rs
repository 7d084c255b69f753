//! Akri's Configuration: which handler looks for which devices, and what runs for each of them.
//!
//! The types accept whatever Akri's schema accepts, so that one odd object cannot blind a watcher.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::raw::RawSpec;
use crate::status::ConfigurationStatus;

/// Which devices to look for, and what to run for each one that is found.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "akri.sh",
    version = "v0",
    kind = "Configuration",
    plural = "configurations",
    singular = "configuration",
    shortname = "akric",
    category = "all",
    namespaced,
    doc = "Which devices to look for, and what runs for each of them.",
    derive = "PartialEq",
    status = "ConfigurationStatus",
    printcolumn = r#"{"name":"Capacity","type":"string","description":"The capacity for each Instance discovered","jsonPath":".spec.capacity"}"#,
    printcolumn = r#"{"name":"Devices","type":"integer","description":"Devices that the handler lists; agentless mode only","jsonPath":".status.devices"}"#,
    printcolumn = r#"{"name":"Brokers","type":"integer","description":"Pods or jobs that should run; agentless mode only","jsonPath":".status.brokers"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","description":"Pods that are ready or jobs that have completed; agentless mode only","jsonPath":".status.brokersReady"}"#,
    printcolumn = r#"{"name":"Discovered","type":"string","priority":1,"description":"Why devices are listed, or not","jsonPath":".status.conditions[?(@.type=='Discovered')].reason"}"#,
    printcolumn = r#"{"name":"Servers","type":"string","priority":1,"description":"Whether the MQTT servers are reachable","jsonPath":".status.conditions[?(@.type=='ServersReachable')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = without_defaults)]
pub struct ConfigurationSpec {
    /// The discovery handler that looks for the devices, and what it is told.
    pub discovery_handler: DiscoveryHandlerInfo,

    /// How many workloads may use one device at a time.
    #[serde(default = "default_capacity")]
    pub capacity: u32,

    /// What runs for each device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BrokerSpec")]
    pub broker_spec: Option<BrokerSpec>,

    /// ServiceSpec of the Service that is made for each Instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_service_spec: Option<RawSpec>,

    /// ServiceSpec of the one Service over all Instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_service_spec: Option<RawSpec>,

    /// Environment variables of every pod that uses a device of this Configuration.
    #[serde(default)]
    pub broker_properties: BTreeMap<String, String>,
}

/// The handler and what it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveryHandlerInfo {
    /// The name that the handler registered, such as `mqtt`.
    pub name: String,

    /// What to look for, in the handler's own language; YAML for `mqtt`.
    #[serde(default)]
    pub discovery_details: String,

    /// Values and references to Secrets and ConfigMaps that are resolved for the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery_properties: Option<Vec<DiscoveryProperty>>,
}

/// A named value for the handler: given here, or kept elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("oneOf" = [{"required": ["value"]}, {"required": ["valueFrom"]}]))]
pub struct DiscoveryProperty {
    /// Its name; the handler says which ones it knows.
    #[schemars(regex(pattern = "^[_A-Za-z][_A-Za-z0-9]*$"))]
    pub name: String,

    /// The value itself; not for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// Where the value is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PropertySource")]
    pub value_from: Option<PropertySource>,
}

/// Where a value is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PropertySource {
    /// In a ConfigMap.
    ConfigMapKeyRef(KeySelector),
    /// In a Secret.
    SecretKeyRef(KeySelector),
}

/// One key of a Secret or a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySelector {
    /// The key in the object's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub key: Option<String>,

    /// The object's name.
    pub name: String,

    /// The object's namespace. Akri looks in `default` when it is left out, agentless mode in the
    /// Configuration's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub namespace: Option<String>,

    /// Whether the object or its key may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub optional: Option<bool>,
}

/// What runs for each device: pods or a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerSpec {
    /// JobSpec of a Job that runs once for each device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_job_spec: Option<RawSpec>,

    /// PodSpec of the pods that run as long as the device is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_pod_spec: Option<RawSpec>,
}

/// Akri's default: one workload at a time.
pub(crate) fn default_capacity() -> u32 {
    1
}

/// Akri's schema of a Configuration sets no defaults; with ours, an object would differ depending
/// on whose definition is installed.
pub(crate) fn without_defaults(schema: &mut Schema) {
    schemars::transform::transform_subschemas(&mut without_defaults, schema);
    schema.remove("default");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn least_configuration_of_akri_is_read_with_akris_defaults() {
        let spec: ConfigurationSpec =
            serde_json::from_value(json!({"discoveryHandler": {"name": "mqtt"}})).unwrap();
        assert_eq!(spec.capacity, 1);
        assert_eq!(spec.discovery_handler.discovery_details, "");
        assert_eq!(spec.broker_spec, None);
        assert!(spec.broker_properties.is_empty());
    }

    #[test]
    fn unknown_fields_of_a_pod_survive() {
        let text = json!({
            "discoveryHandler": {
                "name": "mqtt",
                "discoveryDetails": "topics: [a]",
                "discoveryProperties": [
                    {"name": "MQTT_USERNAME", "value": "u"},
                    {"name": "MQTT_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p", "optional": true}}},
                ],
            },
            "capacity": 2,
            "brokerSpec": {"brokerPodSpec": {"containers": [], "fieldOfTomorrow": {"a": 1}}},
            "instanceServiceSpec": {"ports": [{"port": 80}]},
            "brokerProperties": {"A": "b"},
        });
        let spec: ConfigurationSpec = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), text);
    }
}
