//! What the watches read of each object, and nothing else of it: managed fields alone would be more
//! than all that is needed. In: JSON of the API server. Out: metadata and facts, from which `model`
//! makes views. No object is refused because of what a field holds: one odd object in a list would
//! hide all the others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use akri_mqtt_crds::{Configuration, ConfigurationSpec, Instance, InstanceSpec};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::model::{JobState, NodeView, Phase, PodFacts};

/// Taint of a node that will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// How long a kubelet may take from a pod's start to its first conditions.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(5);
/// Longest reason that is kept of a pod.
const REASON_CHARS: usize = 200;

/// A Configuration as it came.
#[derive(Clone, Debug, Deserialize)]
pub struct ConfigurationSeen {
    #[serde(default, deserialize_with = "thin")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl ConfigurationSeen {
    /// The Configuration, or why it is none.
    pub fn into_configuration(self) -> (ObjectMeta, Result<Box<Configuration>, String>) {
        let meta = self.metadata.clone();
        let spec = match serde_json::from_value::<ConfigurationSpec>(self.spec) {
            Ok(spec) => spec,
            Err(error) => return (meta, Err(error.to_string())),
        };
        // A status that somebody else wrote otherwise is as good as none.
        let status = serde_json::from_value(self.status).unwrap_or_default();
        let configuration = Configuration {
            metadata: self.metadata,
            spec,
            status,
        };
        (meta, Ok(Box::new(configuration)))
    }
}

/// An Instance as it came.
#[derive(Clone, Debug, Deserialize)]
pub struct InstanceSeen {
    #[serde(default, deserialize_with = "thin")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

impl InstanceSeen {
    /// Its spec, unless it is none.
    #[must_use]
    pub fn spec(&mut self) -> Option<InstanceSpec> {
        serde_json::from_value(self.spec.take()).ok()
    }
}

/// A pod as it came.
#[derive(Clone, Debug, Deserialize)]
pub struct PodSeen {
    #[serde(default, deserialize_with = "thin")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpecSeen,
    #[serde(default)]
    status: PodStatusSeen,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpecSeen {
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatusSeen {
    phase: Option<String>,
    start_time: Option<Time>,
    reason: Option<String>,
    message: Option<String>,
    conditions: Option<Vec<ConditionSeen>>,
    init_container_statuses: Option<Vec<ContainerSeen>>,
    container_statuses: Option<Vec<ContainerSeen>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConditionSeen {
    r#type: String,
    status: String,
    message: Option<String>,
    last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerSeen {
    state: Option<StateSeen>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct StateSeen {
    waiting: Option<WaitingSeen>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WaitingSeen {
    reason: Option<String>,
}

impl PodSeen {
    /// What counts of it.
    #[must_use]
    pub fn facts(&self) -> PodFacts {
        let status = &self.status;
        let ready = holds(status.conditions.as_ref(), "Ready");
        PodFacts {
            served: ready || status.was_ready(),
            node: self.spec.node_name.as_deref().map(Into::into),
            phase: Phase::read(status.phase.as_deref()),
            ready,
            reason: if ready { None } else { status.why_not() },
        }
    }
}

impl PodStatusSeen {
    /// A pod that was never ready has its condition since its kubelet has seen it.
    fn was_ready(&self) -> bool {
        let conditions = self.conditions.iter().flatten();
        let mut ready = conditions.filter(|condition| condition.r#type == "Ready");
        let changed = ready
            .next()
            .and_then(|ready| ready.last_transition_time.as_ref());
        match (changed, &self.start_time) {
            (Some(changed), Some(start)) => changed.0.duration_since(start.0) > AT_ONCE,
            _ => false,
        }
    }

    fn why_not(&self) -> Option<Box<str>> {
        if let Some(reason) = &self.reason {
            return Some(shortened(match &self.message {
                Some(message) => format!("{reason}: {message}"),
                None => reason.clone(),
            }));
        }
        let containers = self.init_container_statuses.iter();
        let mut containers = containers.chain(&self.container_statuses).flatten();
        let waiting = containers.find_map(|container| {
            let reason = container.state.as_ref()?.waiting.as_ref()?.reason.clone()?;
            // What every pod goes through is no reason.
            (reason != "ContainerCreating" && reason != "PodInitializing").then_some(reason)
        });
        if let Some(reason) = waiting {
            return Some(shortened(reason));
        }
        let conditions = self.conditions.as_ref()?;
        let scheduled = conditions
            .iter()
            .find(|condition| condition.r#type == "PodScheduled" && condition.status == "False")?;
        scheduled.message.clone().map(shortened)
    }
}

/// A Job as it came.
#[derive(Clone, Debug, Deserialize)]
pub struct JobSeen {
    #[serde(default, deserialize_with = "thin")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    status: ConditionsSeen,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionsSeen {
    conditions: Option<Vec<ConditionSeen>>,
}

impl JobSeen {
    /// How far it is.
    #[must_use]
    pub fn state(&self) -> JobState {
        let conditions = self.status.conditions.as_ref();
        if holds(conditions, "Complete") {
            JobState::Complete
        } else if holds(conditions, "Failed") {
            JobState::Failed
        } else {
            JobState::Active
        }
    }
}

/// A Service as it came.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceSeen {
    #[serde(default, deserialize_with = "thin")]
    pub(super) metadata: ObjectMeta,
}

/// A PersistentVolumeClaim as it came.
#[derive(Clone, Debug, Deserialize)]
pub struct ClaimSeen {
    #[serde(default, deserialize_with = "thin")]
    pub(super) metadata: ObjectMeta,
}

/// A node as it came.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeSeen {
    #[serde(default, deserialize_with = "thin")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpecSeen,
    #[serde(default)]
    status: ConditionsSeen,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpecSeen {
    taints: Option<Vec<TaintSeen>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TaintSeen {
    key: String,
}

impl NodeSeen {
    /// What counts of it.
    #[must_use]
    pub fn view(&self) -> NodeView {
        let conditions = self.status.conditions.iter().flatten();
        let unknown = conditions
            .filter(|condition| condition.r#type == "Ready" && condition.status == "Unknown")
            .find_map(|condition| condition.last_transition_time.as_ref());
        let mut taints = self.spec.taints.iter().flatten();
        NodeView {
            unreachable_since: unknown.map(|time| time.0),
            out_of_service: taints.any(|taint| taint.key == OUT_OF_SERVICE),
        }
    }
}

fn holds(conditions: Option<&Vec<ConditionSeen>>, name: &str) -> bool {
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.r#type == name && condition.status == "True")
}

fn shortened(reason: String) -> Box<str> {
    if reason.len() <= REASON_CHARS {
        return reason.into();
    }
    reason.chars().take(REASON_CHARS).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThinMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    owner_references: Option<Vec<OwnerReference>>,
}

fn thin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = ThinMeta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        generation: meta.generation,
        labels: meta.labels,
        annotations: meta.annotations,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        owner_references: meta.owner_references,
        ..ObjectMeta::default()
    })
}

macro_rules! resource {
    ($seen:ty, $full:ty, $scope:ty) => {
        impl kube::Resource for $seen {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(_: &()) -> Cow<'_, str> {
                <$full as kube::Resource>::kind(&())
            }

            fn group(_: &()) -> Cow<'_, str> {
                <$full as kube::Resource>::group(&())
            }

            fn version(_: &()) -> Cow<'_, str> {
                <$full as kube::Resource>::version(&())
            }

            fn plural(_: &()) -> Cow<'_, str> {
                <$full as kube::Resource>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(ConfigurationSeen, Configuration, NamespaceResourceScope);
resource!(InstanceSeen, Instance, NamespaceResourceScope);
resource!(PodSeen, Pod, NamespaceResourceScope);
resource!(JobSeen, Job, NamespaceResourceScope);
resource!(ServiceSeen, Service, NamespaceResourceScope);
resource!(ClaimSeen, PersistentVolumeClaim, NamespaceResourceScope);
resource!(NodeSeen, Node, ClusterResourceScope);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: Value) -> PodFacts {
        let pod: PodSeen = serde_json::from_value(json!({
            "metadata": {"name": "c-35ced2-0", "uid": "u", "managedFields": [{"manager": "x"}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "a"}]},
            "status": status,
        }))
        .unwrap();
        pod.facts()
    }

    #[test]
    fn pod_that_cannot_be_scheduled_says_why() {
        let facts = pod(json!({
            "phase": "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"},
            ],
        }));
        assert_eq!(facts.phase, Phase::Pending);
        assert_eq!(facts.reason.as_deref(), Some("0/1 nodes are available"));
    }

    #[test]
    fn pod_that_was_ready_once_has_served() {
        let since = |ready: &str, changed: &str| {
            pod(json!({
                "phase": "Running",
                "startTime": "2026-01-02T03:04:05Z",
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": changed}],
            }))
            .served
        };
        assert!(since("True", "2026-01-02T03:04:06Z"));
        assert!(since("False", "2026-01-02T03:05:05Z"));
        assert!(!since("False", "2026-01-02T03:04:06Z"));
    }

    #[test]
    fn pod_that_crashes_says_so_and_one_that_starts_says_nothing() {
        let waiting = |reason: &str| {
            pod(json!({
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"state": {"running": {}}}, {"state": {"waiting": {"reason": reason}}}],
            }))
            .reason
        };
        assert_eq!(
            waiting("CrashLoopBackOff").as_deref(),
            Some("CrashLoopBackOff")
        );
        assert_eq!(waiting("ContainerCreating"), None);
    }

    #[test]
    fn ready_pod_needs_no_reason_and_an_evicted_one_gives_it() {
        let ready = pod(json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        }));
        assert!(ready.ready && ready.reason.is_none());
        assert_eq!(ready.node.as_deref(), Some("n1"));
        let evicted =
            pod(json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
        assert_eq!(evicted.reason.as_deref(), Some("Evicted: low on memory"));
    }

    #[test]
    fn configuration_that_is_none_says_why() {
        let seen: ConfigurationSeen = serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "n"},
            "spec": {"discoveryHandler": {"name": "mqtt"}, "capacity": -1},
        }))
        .unwrap();
        let (meta, read) = seen.into_configuration();
        assert_eq!(meta.name.as_deref(), Some("c"));
        assert!(read.unwrap_err().contains("-1"));
    }

    #[test]
    fn node_is_unreachable_when_its_kubelet_says_nothing() {
        let node = |status: &str, taints: Value| {
            let seen: NodeSeen = serde_json::from_value(json!({
                "metadata": {"name": "n"},
                "spec": {"taints": taints},
                "status": {"conditions": [
                    {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-02T03:04:05Z"},
                ]},
            }))
            .unwrap();
            seen.view()
        };
        assert_eq!(node("True", Value::Null), NodeView::default());
        assert_eq!(node("False", Value::Null), NodeView::default());
        let lost = node("Unknown", json!([{"key": OUT_OF_SERVICE}]));
        assert!(lost.unreachable_since.is_some() && lost.out_of_service);
    }
}
