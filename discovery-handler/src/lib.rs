//! Akri's discovery handler for MQTT devices: tells an Agent which devices are there.
//!
//! In: Discover calls of Akri's protocol `v0`, and what MQTT servers say. Out: lists of devices.

pub mod admission;
pub mod config;
pub mod credentials;
pub mod endpoint;
pub mod naming;
pub mod registration;
pub mod siblings;
pub mod state_dir;
pub mod streams;
pub mod vital;

pub use config::{Args, Config, Environment};
