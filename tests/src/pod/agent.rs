//! The control of a test Agent in a pod. In: Configurations of a test. Out: what happened to the
//! handlers that registered, and to the Instances.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;

/// A Configuration for the Agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Configure {
    /// Its name.
    pub name: String,
    /// Its discoveryDetails.
    pub details: String,
}

/// What the Agent has seen so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Devices with an Instance, sorted.
    pub devices: Vec<String>,
    /// Open Discover streams.
    pub streams: usize,
    /// What each of them listed last.
    pub listed: Vec<Vec<String>>,
    /// Registrations so far.
    pub registrations: usize,
    /// Streams that ended so far.
    pub ended: usize,
    /// Everything that happened, in words, in order.
    pub happened: Vec<String>,
}

/// The routes of an Agent's pod.
pub fn routes(agent: Option<Agent>) -> Router {
    let Some(agent) = agent else {
        return Router::new();
    };
    Router::new()
        .route("/agent/configure", post(configure))
        .route("/agent/seen", get(seen))
        .with_state(Arc::new(agent))
}

async fn configure(State(agent): State<Arc<Agent>>, Json(configure): Json<Configure>) -> Json<()> {
    agent.configure(&configure.name, &configure.details, &[]);
    Json(())
}

/// Looks at the Configuration `robots`, the only one that the tests use here.
async fn seen(State(agent): State<Arc<Agent>>) -> Json<Seen> {
    let name = crate::scene::CONFIGURATION;
    Json(Seen {
        devices: agent.devices(name),
        streams: agent.streams(name),
        listed: agent.listed(name),
        registrations: agent.registrations(),
        ended: agent.ended(),
        happened: agent
            .happened()
            .iter()
            .map(|what| format!("{what:?}"))
            .collect(),
    })
}
