//! Agentless mode: from Configurations to Instances, and from those to pods, jobs and Services.

pub mod admin;
pub mod akri;
pub mod args;
pub mod court;
pub mod crd_upgrade;
pub mod discover;
pub mod events;
pub mod execute;
pub mod handlers;
pub mod leader;
pub mod limiter;
pub mod metrics;
pub mod model;
pub mod names;
mod panics;
pub mod plan;
pub mod queue;
pub mod realm;
pub mod reconciler;
pub mod references;
pub mod registration;
pub mod reign;
pub mod requests;
mod run;
pub mod status;
pub mod webhook;
pub mod world;

pub use args::Args;
pub use run::{Meters, run};
