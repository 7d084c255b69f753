//! `GET /v1/presence` and `GET /v1/presence/{device}`: why each device is where it is.
//! In: HTTP. Out: JSON, as `docs/presence-api.md` describes it. Nothing here changes anything.

use std::convert::Infallible;
use std::sync::Arc;

use akri_mqtt_core::identity::DeviceId;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::handler::Presences;

/// The routes, to be merged with those of every process.
pub fn router(presences: Presences) -> Router {
    Router::new()
        .route("/v1/presence", get(all))
        .route("/v1/presence/{*device}", get(one))
        .with_state(Asked {
            presences,
            listings: Arc::new(Semaphore::new(LISTINGS)),
        })
}

/// Answers with all devices that are made at once: each holds the ids of all of them.
const LISTINGS: usize = 2;

#[derive(Clone)]
struct Asked {
    presences: Presences,
    listings: Arc<Semaphore>,
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

async fn all(State(asked): State<Asked>, Query(wanted): Query<Wanted>) -> Response {
    if !wanted.devices {
        return uncached(Json(asked.presences.servers().await));
    }
    let Ok(permit) = asked.listings.try_acquire_owned() else {
        let problem = json!({
            "error": format!("{LISTINGS} answers with all devices are under way; ask again, or for one device"),
        });
        return uncached((StatusCode::SERVICE_UNAVAILABLE, Json(problem)));
    };
    let listing = asked.presences.listing(permit).await;
    let pieces = stream::unfold(listing, |mut listing| async move {
        let piece = listing.next().await?;
        Some((Ok::<_, Infallible>(piece), listing))
    });
    let json = [(header::CONTENT_TYPE, "application/json")];
    uncached((json, Body::from_stream(pieces)))
}

async fn one(State(asked): State<Asked>, Path(device): Path<String>) -> Response {
    let presences = asked.presences;
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
