//! Subscribes for its devices, stores every message, serves live data and history.
//! In: devices from the environment, messages from MQTT servers. Out: gRPC and HTTP.

pub mod access;
pub mod api;
mod args;
pub mod devices;
pub mod ingest;
mod kept;
pub mod metrics;
mod monitor;
mod run;
mod session_metrics;
mod session_options;
pub mod sink;
pub mod store;
pub mod talk;

pub use args::Args;
pub use monitor::{Monitor, MonitorError, MonitorOptions};
pub use run::{credentials, run};
pub use sink::SinkOptions;
