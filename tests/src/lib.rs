//! Test Agent, MQTT servers, fault proxy; the integration tests.

pub mod agent;
pub mod announcing;
pub mod binary;
pub mod certificates;
pub mod chart;
pub mod clients;
pub mod cluster;
pub mod devices;
pub mod edge_node;
pub mod fleet;
pub mod handler;
pub mod http;
pub mod monitor;
pub mod mosquitto;
pub mod pod;
pub mod pool;
pub mod port;
pub mod proxy;
pub mod scene;
pub mod secret;
pub mod servers;
pub mod told;
