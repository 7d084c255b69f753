//! `GET /v1/presence` and `GET /v1/presence/{device}`: why each device is where it is.
//! In: HTTP. Out: JSON, as `docs/presence-api.md` describes it. Nothing here changes anything.

use akri_mqtt_core::identity::DeviceId;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::handler::Presences;

/// The routes, to be merged with those of every process.
pub fn router(presences: Presences) -> Router {
    Router::new()
        .route("/v1/presence", get(all))
        .route("/v1/presence/{*device}", get(one))
        .with_state(presences)
}

/// Whoever only wants to know about servers need not be sent ten thousand devices.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default = "yes")]
    devices: bool,
}

fn yes() -> bool {
    true
}

async fn all(State(presences): State<Presences>, Query(wanted): Query<Wanted>) -> Response {
    let view = if wanted.devices {
        presences.all().await
    } else {
        presences.servers().await
    };
    uncached(Json(view))
}

async fn one(State(presences): State<Presences>, Path(device): Path<String>) -> Response {
    let Ok(id) = DeviceId::parse(&device) else {
        let problem = json!({
            "error": format!("found {device:?}, allowed is <server>/<device>, percent-encoded"),
        });
        return uncached((StatusCode::BAD_REQUEST, Json(problem)));
    };
    let answer = presences.one(&id).await;
    if answer.requests.is_empty() {
        let problem = json!({ "error": format!("no request has ever seen {id}") });
        return uncached((StatusCode::NOT_FOUND, Json(problem)));
    }
    uncached(Json(answer))
}

fn uncached(answer: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}
