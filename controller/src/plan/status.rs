//! The status of a Configuration. In: what plans know. Out: counts, and conditions with reasons in words.
//! Writing it is left to others.

use akri_mqtt_core::clock::Now;
use akri_mqtt_crds::ConfigurationStatus;

use super::blueprint::Blueprint;
use super::memory::Memory;
use crate::discover::Finding;

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct StatusInput<'a> {
    /// The Configuration.
    pub blueprint: &'a Blueprint,
    /// What its handler finds.
    pub finding: Option<&'a Finding>,
    /// How many Instances of ours it has.
    pub instances: usize,
    /// Its status now; times of conditions that do not change are taken from it.
    pub previous: Option<&'a ConfigurationStatus>,
}

/// The status as it should be. It equals `previous` as long as nothing has changed.
#[must_use]
pub fn status(memory: &Memory, input: &StatusInput<'_>, now: Now) -> ConfigurationStatus {
    let _ = (memory, input, now);
    ConfigurationStatus::default()
}
