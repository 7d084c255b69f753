//! The control port of a test pod. In: requests of a test. Out: processes started and killed, URLs
//! fetched from inside the cluster, messages published.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OnceCell};

use super::mqtt::Connection;
use super::processes::{self, Processes, Start};
use crate::http::{self, Tls};

/// Header with a number that no other request has.
pub const ONCE: &str = "akri-mqtt-test-once";

/// What is published from inside the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Publish {
    /// The MQTT server, host:port.
    pub server: String,
    /// Whether the server keeps them.
    pub retain: bool,
    /// Topics and payloads.
    pub messages: Vec<(String, String)>,
}

/// What is fetched from inside the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// Address and port.
    pub address: SocketAddr,
    /// Path and query.
    pub path: String,
    /// Unless it is asked without encryption.
    pub tls: Option<Tls>,
}

/// The answer to a [`Fetch`]; `None` while nobody answers.
pub type Fetched = Option<(u16, String)>;

/// An answer, or an error in words.
pub type Answer<T> = Result<Json<T>, (StatusCode, String)>;

/// An error of the test pod.
pub fn failed(error: anyhow::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
}

/// The routes of every test pod.
pub fn routes() -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/processes", get(list).post(start))
        .route("/processes/{name}/{signal}", post(signal))
        .route("/fetch", post(fetch))
        .route("/publish", post(publish))
        .route("/node/kill/{container}", post(kill_container))
        .route("/node/resident/{container}", get(resident))
        .with_state(Processes::default())
}

/// What requests with a number were answered.
type Answers = Arc<Mutex<HashMap<HeaderValue, Arc<OnceCell<(StatusCode, Bytes)>>>>>;

/// What holds for all requests to a test pod.
pub fn once_and_closed(routes: Router) -> Router {
    routes
        .layer(from_fn_with_state(Answers::default(), once))
        .layer(map_response(one_request))
}

/// A request that comes again, because its answer got lost on the way, is answered as it was and not acted on.
async fn once(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let Some(number) = request.headers().get(ONCE).cloned() else {
        return next.run(request).await;
    };
    let answer = Arc::clone(answers.lock().await.entry(number).or_default());
    let answer = answer.get_or_init(async || {
        let (head, body) = next.run(request).await.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        (head.status, body)
    });
    answer.await.clone().into_response()
}

/// Addresses of pods come again: the API server must not send to the next pod on a connection to this one.
async fn one_request(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

async fn list(State(all): State<Processes>) -> Json<BTreeMap<String, processes::State>> {
    Json(all.all())
}

async fn start(State(all): State<Processes>, Json(starts): Json<Vec<Start>>) -> Answer<()> {
    for start in starts {
        all.start(start).map_err(failed)?;
    }
    Ok(Json(()))
}

async fn signal(
    State(all): State<Processes>,
    Path((name, signal)): Path<(String, String)>,
) -> Answer<u64> {
    all.signal(&name, &signal).map(Json).map_err(failed)
}

/// Kills the processes of a container of this node; the pod must see the node's processes.
async fn kill_container(Path(container): Path<String>) -> Answer<u64> {
    processes::kill_container(&container)
        .map(Json)
        .map_err(failed)
}

/// Resident memory of a container of this node, in KiB.
async fn resident(Path(container): Path<String>) -> Answer<u64> {
    processes::resident(&container).map(Json).map_err(failed)
}

async fn fetch(Json(fetch): Json<Fetch>) -> Answer<Fetched> {
    let fetched = tokio::task::spawn_blocking(move || match &fetch.tls {
        None => http::get(fetch.address, &fetch.path),
        Some(tls) => http::get_encrypted(fetch.address, &fetch.path, tls),
    })
    .await;
    fetched.map(Json).map_err(|error| failed(error.into()))
}

/// Answers with the time just before the first message, in milliseconds since 1970.
async fn publish(Json(publish): Json<Publish>) -> Answer<u64> {
    let published = tokio::task::spawn_blocking(move || {
        let id = format!("publisher-{}", std::process::id());
        let mut connection = Connection::open(&publish.server, &id, None)?;
        let at = super::device::now_ms();
        for (topic, payload) in &publish.messages {
            connection
                .publish(topic, payload, publish.retain)
                .with_context(|| topic.clone())?;
        }
        connection.close()?;
        Ok(at)
    });
    published
        .await
        .map_err(anyhow::Error::from)
        .and_then(|result| result)
        .map(Json)
        .map_err(failed)
}
