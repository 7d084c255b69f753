//! The HTTP front: REST, Server-Sent Events and the dashboard. In: a bound listener, the service, health and metrics.
//! Out: returns when it was drained. What is answered is the service's; the forms are in `json`.

mod about;
mod commands;
mod docs;
mod file;
mod openapi;
mod page;
mod params;
mod problem;
mod routes;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_openapi;
#[cfg(test)]
mod tests_stream;

use std::sync::Arc;

use akri_mqtt_runtime::metrics::Registry;
use akri_mqtt_runtime::tls::Port;
use akri_mqtt_runtime::{Health, admin, serve};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Service;
use crate::access::Gate;
use problem::Problem;

/// 64 KiB of URL, of which 256 bytes are left to `http://host:port`. The HTTP library itself refuses longer ones.
const TARGET_BYTES: usize = 64 * 1024 - 256;

/// Serves until the service's shutdown, then drains.
///
/// # Errors
/// As [`akri_mqtt_runtime::serve()`].
pub async fn run(
    port: Port,
    service: Service,
    health: Health,
    registry: Arc<Registry>,
    gate: Gate,
) -> anyhow::Result<()> {
    let shutdown = service.shutdown.clone();
    let router = router(service, health, registry).layer(from_fn_with_state(gate, admit));
    serve(port, router.layer(from_fn(guard)), shutdown).await
}

/// All routes.
pub fn router(service: Service, health: Health, registry: Arc<Registry>) -> Router {
    let (api, document) = documented();
    api.with_state(service)
        .merge(admin::router(health, registry))
        .merge(openapi::router(&document))
        .merge(docs::router())
        .merge(page::router())
        .method_not_allowed_fallback(Problem::method)
        .fallback(Problem::path)
}

/// The routes of the API, each with its part of the OpenAPI document.
fn documented() -> (Router<Service>, OpenApi) {
    let (api, mut document) = OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(routes::devices))
        .routes(routes!(routes::device))
        .routes(routes!(routes::latest))
        .routes(routes!(routes::messages))
        .routes(routes!(routes::readings))
        .routes(routes!(commands::publish))
        .routes(routes!(stream::of_device))
        .routes(routes!(stream::of_all))
        .split_for_parts();
    openapi::complete(&mut document);
    (api, document)
}

/// Lets pass who may, before it is looked whether there is such a route.
async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate.check(&request) {
        Ok(()) => next.run(request).await,
        Err(denied) => Problem::denied(denied).into_response(),
    }
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
