//! The one service layer of the monitoring broker and its two fronts, gRPC and HTTP.
//! In: the store, presence, requests. Out: answers. It subscribes to nothing and stores nothing.

use std::net::SocketAddr;

use akri_mqtt_runtime::tls::Peer;

pub mod grpc;
pub mod http;
mod json;
pub mod metrics;
mod payload;
pub mod service;
#[cfg(test)]
mod testing;
pub mod union;

pub use json::message_json;
pub use service::Service;

/// Who asks, as the server of a front noted it.
fn peer(noted: Option<&Peer>) -> Option<SocketAddr> {
    noted.map(|peer| peer.address)
}
