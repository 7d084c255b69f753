//! What one Instance has: pods, Job, Service, claims. In: Configuration, Instance, what is there, time.
//! Out: what to make and to delete. Which Instances there are is left to `roster`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::clock::Now;

use super::action::Action;
use super::blueprint::Blueprint;
use super::memory::Memory;
use crate::model::{ClaimView, InstanceKey, InstanceView, JobView, NodeView, PodView, ServiceView};

/// What a plan of an Instance looks at. Pods, Jobs, Services and claims are those with the label
/// `akri.sh/instance` of its name.
#[derive(Clone, Copy, Debug)]
pub struct InstanceInput<'a> {
    /// Which Instance.
    pub key: &'a InstanceKey,
    /// The name of its Configuration: of `spec.configurationName`, or of its objects' label
    /// `akri.sh/configuration` when there is no Instance.
    pub configuration: &'a str,
    /// What its Configuration says; `None` when there is none (any more).
    pub blueprint: Option<&'a Blueprint>,
    /// The Instance; `None` when there is none (any more).
    pub instance: Option<&'a InstanceView>,
    /// How many Instances of ours its Configuration has.
    pub siblings: usize,
    /// Its pods.
    pub pods: &'a [&'a PodView],
    /// Its Jobs.
    pub jobs: &'a [&'a JobView],
    /// Its Service.
    pub service: Option<&'a ServiceView>,
    /// Its claims.
    pub claims: &'a [&'a ClaimView],
    /// All nodes.
    pub nodes: &'a BTreeMap<Arc<str>, NodeView>,
    /// `AKRI_MQTT_CLUSTER`: what tells this cluster's client ids from those of another one.
    pub cluster: &'a str,
}

/// What to do about an Instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkloadsPlan {
    /// In this order.
    pub actions: Vec<Action>,
    /// When to plan again although nothing has changed.
    pub next: Option<Duration>,
    /// Instances of the same Configuration to plan now: it is their turn in a rollout.
    pub wake: Vec<InstanceKey>,
}

/// Decides what becomes of an Instance's pods, Job, Service and claims.
pub fn workloads(memory: &mut Memory, input: &InstanceInput<'_>, now: Now) -> WorkloadsPlan {
    let _ = (memory, input, now);
    WorkloadsPlan::default()
}
