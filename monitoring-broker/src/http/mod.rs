//! The HTTP front: REST and Server-Sent Events. In: requests. Out: JSON, problems, streams.
//! What is answered is the service's; probes and metrics are the runtime's.

mod json;
mod problem;
mod routes;
mod sse;

use akri_mqtt_runtime::metrics::Registry;
use akri_mqtt_runtime::{Health, admin};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::api::service::Service;
use problem::Problem;

/// Longest path and query.
const URL_BYTES: usize = 64 * 1024;

/// All GET paths.
pub fn router(service: Service, health: Health, registry: Registry) -> Router {
    let api = Router::new()
        .route("/v1/devices", get(routes::devices))
        .route("/v1/devices/{id}", get(routes::device))
        .route("/v1/devices/{id}/latest", get(routes::latest))
        .route("/v1/devices/{id}/messages", get(routes::messages))
        .route("/v1/devices/{id}/readings", get(routes::readings))
        .route("/v1/devices/{id}/stream", get(sse::device))
        .route("/v1/stream", get(sse::all))
        .method_not_allowed_fallback(async || Problem::method())
        .fallback(async || Problem::path())
        .with_state(service);
    Router::new()
        .merge(admin::router(health, registry))
        .merge(api)
        .layer(middleware::from_fn(limit_url))
}

async fn limit_url(request: Request, next: Next) -> Response {
    let length = request
        .uri()
        .path_and_query()
        .map_or(0, |url| url.as_str().len());
    if length > URL_BYTES {
        return Problem::url(length, URL_BYTES).into_response();
    }
    next.run(request).await
}
