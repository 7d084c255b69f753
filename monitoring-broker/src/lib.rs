//! Subscribes for its devices, stores every message, serves live data and history.
//! In: devices from the environment, messages from MQTT servers. Out: gRPC and HTTP.

pub mod access;
pub mod api;
mod args;
pub mod devices;
mod devices_file;
mod error;
pub mod ingest;
mod instances;
mod kept;
pub mod metrics;
mod monitor;
mod pool;
mod run;
mod servers;
mod session_options;
pub mod sink;
mod source;
pub mod store;
pub mod talk;
mod watching;

pub use args::Args;
pub use error::MonitorError;
pub use monitor::{Monitor, MonitorOptions};
pub use run::run;
pub use servers::credentials;
pub use sink::SinkOptions;
