//! Test Agent, MQTT servers, fault proxy; the integration tests.

pub mod agent;
