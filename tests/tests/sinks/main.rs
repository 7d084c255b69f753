//! Sinks of the monitoring broker as a process, on a real Mosquitto, Redis and PostgreSQL, an HTTP server and one
//! with MongoDB's wire protocol: what is killed, refused or away costs no message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod broker;
mod gaps;
mod http;
mod mongodb;
mod mongodb_server;
mod postgres;
mod redis;
