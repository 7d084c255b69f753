//! The one service layer of the monitoring broker and its two fronts, gRPC and HTTP.
//! In: the store, presence, requests. Out: answers. It subscribes to nothing and stores nothing.

pub mod metrics;
pub mod service;
