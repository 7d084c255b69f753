//! Test Agent, MQTT servers, fault proxy; the integration tests.

pub mod agent;
pub mod certificates;
pub mod clients;
pub mod mosquitto;
pub mod proxy;
