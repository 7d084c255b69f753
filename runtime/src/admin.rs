//! The admin routes of every process: `/livez`, `/readyz`, `/metrics`. In: health and metrics.
//! Out: a router that the caller may merge with its own routes and serves with `serve`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::health::Health;
use crate::metrics::{self, Registry};

/// `/livez` (200 while the process serves), `/readyz` (200 or 503, with the conditions as JSON)
/// and `/metrics` (OpenMetrics). No answer is to be cached.
pub fn router(health: Health, registry: impl Into<Arc<Registry>>) -> Router {
    let registry: Arc<Registry> = registry.into();
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(metrics_text).with_state(registry))
}

async fn livez() -> Response {
    uncached((StatusCode::OK, "ok\n"))
}

async fn readyz(State(health): State<Health>) -> Response {
    let report = health.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    uncached((status, Json(report)))
}

async fn metrics_text(State(registry): State<Arc<Registry>>) -> Response {
    match metrics::encode(&registry) {
        Ok(text) => uncached(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            uncached((
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be encoded\n",
            ))
        }
    }
}

fn uncached(answer: impl axum::response::IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use std::time::SystemTime;
    use tower::ServiceExt as _;

    async fn ask(health: &Health, path: &str) -> (StatusCode, String, String) {
        let router = router(health.clone(), metrics::registry("test", SystemTime::now()));
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn livez_is_ok_while_the_process_is_not_ready() {
        let health = Health::new();
        health.condition("store", "not open yet");
        assert_eq!(ask(&health, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn readyz_says_what_is_missing() {
        let health = Health::new();
        let store = health.condition("store", "not open yet");
        let (status, kind, body) = ask(&health, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kind, "application/json");
        assert_eq!(
            body,
            r#"{"ready":false,"conditions":[{"name":"store","ready":false,"reason":"not open yet"}]}"#
        );
        store.ready("open");
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_openmetrics() {
        let (status, kind, body) = ask(&Health::new(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            kind,
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        assert!(body.ends_with("# EOF\n"));
    }
}
