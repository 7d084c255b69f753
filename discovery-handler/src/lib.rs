//! Akri discovery handler for MQTT devices.
