//! The one service layer of the monitoring broker and its two fronts, gRPC and HTTP.
//! In: the store, presence, requests. Out: answers. It subscribes to nothing and stores nothing.

pub mod grpc;
pub mod http;
mod json;
pub mod metrics;
mod payload;
pub mod service;
#[cfg(test)]
mod testing;

pub use service::Service;
