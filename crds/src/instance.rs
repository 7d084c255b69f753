//! Akri's Instance: one device that was found, with what its pods get as environment.

use std::collections::{BTreeMap, BTreeSet};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One device that was found for a Configuration.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "akri.sh",
    version = "v0",
    kind = "Instance",
    plural = "instances",
    singular = "instance",
    shortname = "akrii",
    category = "all",
    namespaced,
    doc = "One device that was found, and who may use it.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Config","type":"string","description":"The Configuration this Instance belongs to","jsonPath":".spec.configurationName"}"#,
    printcolumn = r#"{"name":"Shared","type":"boolean","description":"Describes whether this Instance is shared","jsonPath":".spec.shared"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","description":"Nodes that expose this Instance","jsonPath":".spec.nodes"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSpec {
    /// The Configuration that this device was found for.
    pub configuration_name: String,

    /// The fully qualified CDI name of the device.
    pub cdi_name: String,

    /// How many workloads may use the device at a time.
    pub capacity: u32,

    /// Environment variables of the pods that use the device: the Configuration's
    /// `brokerProperties` over the properties that the handler reported.
    #[serde(default)]
    pub broker_properties: BTreeMap<String, String>,

    /// Whether more than one node can reach the device.
    #[serde(default)]
    pub shared: bool,

    /// The nodes that see the device.
    #[serde(default)]
    #[schemars(with = "Vec<String>", extend("x-kubernetes-list-type" = "set"))]
    pub nodes: BTreeSet<String>,

    /// From each usage slot to the node that has claimed it; an empty name is a free slot.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub device_usage: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn instance_of_the_agent_is_read_and_written_sorted() {
        let text = json!({
            "configurationName": "c", "cdiName": "akri.sh/c=8120fe", "capacity": 1,
            "nodes": ["n2", "n1"], "shared": true,
            "deviceUsage": {"c-8120fe-0": ""}, "brokerProperties": {"B": "2", "A": "1"},
        });
        let spec: InstanceSpec = serde_json::from_value(text).unwrap();
        assert_eq!(
            serde_json::to_string(&spec).unwrap(),
            r#"{"configurationName":"c","cdiName":"akri.sh/c=8120fe","capacity":1,"brokerProperties":{"A":"1","B":"2"},"shared":true,"nodes":["n1","n2"],"deviceUsage":{"c-8120fe-0":""}}"#
        );
    }
}
