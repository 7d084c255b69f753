//! Holds the list of devices against the Instances of a Configuration.
//! In: Configuration, finding, Instances, time. Out: Instances to apply and to delete, the Service over
//! all of them, and words. Pods are left to `workloads`.

use std::time::Duration;

use akri_mqtt_core::clock::Now;

use super::action::Action;
use super::blueprint::Blueprint;
use super::memory::Memory;
use crate::discover::Finding;
use crate::model::{ConfigurationKey, InstanceView, ServiceView};

/// What a plan of a Configuration looks at.
#[derive(Clone, Copy, Debug)]
pub struct ConfigurationInput<'a> {
    /// Which Configuration.
    pub key: &'a ConfigurationKey,
    /// What it says; `None` when there is none (any more).
    pub blueprint: Option<&'a Blueprint>,
    /// What its handler finds.
    pub finding: Option<&'a Finding>,
    /// All Instances of its namespace whose `spec.configurationName` is its name, whoever made them.
    pub instances: &'a [&'a InstanceView],
    /// The Service `<configuration>-svc`, if it has our label or its own.
    pub service: Option<&'a ServiceView>,
    /// How many pods of ours have its label.
    pub pods: usize,
}

/// What to do about a Configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstancesPlan {
    /// In this order.
    pub actions: Vec<Action>,
    /// When to plan again although nothing has changed.
    pub next: Option<Duration>,
}

/// Decides what becomes of a Configuration's Instances and of its Service.
pub fn instances(memory: &mut Memory, input: &ConfigurationInput<'_>, now: Now) -> InstancesPlan {
    let _ = (memory, input, now);
    InstancesPlan::default()
}
