//! Test Agent, MQTT servers, fault proxy; the integration tests.

pub mod agent;
pub mod binary;
pub mod certificates;
pub mod clients;
pub mod devices;
pub mod handler;
pub mod mosquitto;
pub mod proxy;
pub mod scene;
