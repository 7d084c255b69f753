//! The HTTP front: REST, Server-Sent Events and the dashboard. In: a bound listener, the service, health and metrics.
//! Out: returns when it was drained. What is answered is the service's; the forms are in `json`.

mod commands;
mod page;
mod params;
mod problem;
mod routes;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_stream;

use std::sync::Arc;

use akri_mqtt_runtime::metrics::Registry;
use akri_mqtt_runtime::{Health, admin, serve};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use super::Service;
use problem::Problem;

/// 64 KiB of URL, of which 256 bytes are left to `http://host:port`. The HTTP library itself refuses longer ones.
const TARGET_BYTES: usize = 64 * 1024 - 256;

/// Serves until the service's shutdown, then drains.
///
/// # Errors
/// As [`akri_mqtt_runtime::serve()`].
pub async fn run(
    listener: TcpListener,
    service: Service,
    health: Health,
    registry: Arc<Registry>,
) -> anyhow::Result<()> {
    let shutdown = service.shutdown.clone();
    let listener = listener.tap_io(|io| {
        // Events are small and must not wait for the acknowledgement of the one before.
        let _ = io.set_nodelay(true);
    });
    serve(listener, router(service, health, registry), shutdown).await
}

/// All routes.
pub fn router(service: Service, health: Health, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/v1/devices", get(routes::devices))
        .route("/v1/devices/{id}", get(routes::device))
        .route("/v1/devices/{id}/latest", get(routes::latest))
        .route("/v1/devices/{id}/messages", get(routes::messages))
        .route("/v1/devices/{id}/readings", get(routes::readings))
        .route("/v1/devices/{id}/commands", post(commands::publish))
        .route("/v1/devices/{id}/stream", get(stream::of_device))
        .route("/v1/stream", get(stream::of_all))
        .with_state(service)
        .merge(admin::router(health, registry))
        .merge(page::router())
        .method_not_allowed_fallback(Problem::method)
        .fallback(Problem::path)
        .layer(from_fn(guard))
}

/// Bounds the URL before a route is looked for, and marks every answer but the page's files as not to be kept.
async fn guard(request: Request, next: Next) -> Response {
    let target = request.uri().path_and_query();
    let length = target.map_or(0, |target| target.as_str().len());
    let mut response = if length > TARGET_BYTES {
        Problem::url_too_long(length).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    // What a device sends is never taken for a page.
    let as_it_says = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, as_it_says);
    response
}
