//! What agentless mode says about a Configuration. Akri's definition has no status; it writes none
//! and its webhook refuses an object that has one, so only the agentless controller writes this.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::without_defaults;

/// What is known about a Configuration, as counts and as conditions with reasons in words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = without_defaults)]
pub struct ConfigurationStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,

    /// Devices in the handler's last list; left out until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub devices: Option<u32>,

    /// Instances that exist.
    #[serde(default)]
    pub instances: u32,

    /// Pods or jobs that should run.
    #[serde(default)]
    pub brokers: u32,

    /// Pods that are ready, or jobs that have completed.
    #[serde(default)]
    pub brokers_ready: u32,

    /// `Discovered`, `ServersReachable`, `BrokersReady` and, when a name cannot fit, `InvalidName`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Condition: the handler has given a list of devices, and Instances follow it.
pub const DISCOVERED: &str = "Discovered";
/// Condition: the handler reaches the MQTT servers.
pub const SERVERS_REACHABLE: &str = "ServersReachable";
/// Condition: every pod that should run is ready.
pub const BROKERS_READY: &str = "BrokersReady";
/// Condition: a name made from the Configuration's would not fit Kubernetes' rules.
pub const INVALID_NAME: &str = "InvalidName";

impl ConfigurationStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_have_the_shape_that_kubectl_wait_reads() {
        let text = json!({
            "observedGeneration": 3,
            "devices": 30,
            "instances": 30,
            "brokers": 30,
            "brokersReady": 29,
            "conditions": [{
                "type": "Discovered", "status": "True", "reason": "Listed", "message": "30 devices",
                "observedGeneration": 3, "lastTransitionTime": "2026-01-02T03:04:05Z",
            }],
        });
        let status: ConfigurationStatus = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(status.condition(DISCOVERED).unwrap().reason, "Listed");
        assert_eq!(status.condition(INVALID_NAME), None);
        assert_eq!(serde_json::to_value(&status).unwrap(), text);
    }

    #[test]
    fn a_status_of_a_later_version_is_read() {
        let status: ConfigurationStatus =
            serde_json::from_value(json!({"fieldOfTomorrow": 1})).unwrap();
        assert_eq!(status, ConfigurationStatus::default());
    }
}
