//! Decides what to make and what to delete. In: a Configuration, what its handler finds, views of
//! what the cluster has, the time. Out: actions, words, and when to ask again.
//! Opens no connection, reads no clock, runs no task; who carries the actions out is `execute`.
//!
//! There are two kinds of plan. [`instances`] holds the list of devices against a Configuration's
//! Instances; [`workloads`] gives one Instance its pods, Job, Service and claims, and takes them from
//! one that is gone. Each looks at what is there, never at what happened: a plan that was not
//! carried out is made again, and one that was is not. What must be remembered between two plans
//! (back-off, holds, a rollout's pace) is in [`Memory`], and may be lost at any time.
//!
//! Three rules for the caller. All watches must have listed before the first plan, pods, Jobs,
//! Services and claims before Instances, and Instances before Configurations. What an action's answer
//! shows must be in the views before the same key is planned again. No two plans of one key are carried
//! out at the same time.

mod action;
mod assign;
mod blueprint;
mod claims;
mod digest;
mod discovery;
mod jobs;
mod memory;
mod naming;
mod nodes;
mod render;
mod rollout;
mod roster;
mod services;
mod settings;
mod slots;
mod status;
mod words;
mod workloads;

pub use action::{About, Action, Notice, Reason};
pub use blueprint::{Blueprint, MAX_CAPACITY, Template};
pub use memory::Memory;
pub use naming::service as service_name;
pub use roster::{BATCH, ConfigurationInput, InstancesPlan, instances};
pub use settings::{DataVolume, Settings, settings};
pub use status::{StatusInput, status};
pub use workloads::{InstanceInput, WorkloadsPlan, workloads};

#[cfg(test)]
mod tests;
