//! Subscribes for its devices, stores every message, serves live data and history.
//! In: devices from the environment, messages from MQTT servers. Out: gRPC and HTTP.

pub mod api;
pub mod devices;
pub mod metrics;
pub mod store;
