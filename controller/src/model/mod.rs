//! What the controller looks at: names of objects, and small views of what the cluster has.
//! In: metadata and the few facts that the watches read. Out: values that plans compare.
//!
//! Ten thousand Instances and their pods are in memory, so a view keeps what decisions need and
//! nothing else. Reading objects is left to `world`, deciding to `plan`.

mod keys;
mod views;

pub use keys::{ConfigurationKey, InstanceKey, ObjectRef};
pub use views::{
    ClaimView, InstanceView, JobState, JobView, NodeView, Phase, PodFacts, PodView, PropertyText,
    ServiceView,
};
