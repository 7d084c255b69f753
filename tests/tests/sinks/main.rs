//! Sinks of the monitoring broker as a process, on a real Mosquitto, Redis and PostgreSQL and an HTTP server:
//! what is killed, refused or away costs no message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod broker;
mod http;
mod postgres;
mod redis;
