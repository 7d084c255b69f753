//! One MQTT session: servers, TLS, failover, persistence, acknowledgement, back-off.
