//! The gRPC contracts: Akri's discovery protocol, unchanged, and our monitoring API.
//! The only crate that runs protobuf code generation.

/// Akri's protocol between Agent and discovery handlers (`v0`), from `proto/akri/v0/discovery.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::as_conversions,
    clippy::too_many_lines
)]
pub mod akri {
    tonic::include_proto!("v0");
}

/// The monitoring broker's API (`akri_mqtt.monitoring.v1`), from `proto/monitoring/v1/monitoring.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::as_conversions,
    clippy::too_many_lines
)]
pub mod monitoring {
    tonic::include_proto!("akri_mqtt.monitoring.v1");
}

/// The encoded descriptors of both contracts, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
