//! What every file that a browser loads is sent with: its type, and that it may load nothing from elsewhere.
//! In: an answer with a file. Out: the same with these headers.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

/// Policies begin so: scripts, styles and data come from here and nowhere else.
macro_rules! policy {
    ($more:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; ",
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            $more
        )
    };
}
pub(super) use policy;

/// Adds the headers.
pub(super) fn sealed(mut response: Response, kind: &'static str, policy: &'static str) -> Response {
    let always: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, kind),
        // A browser asks whether its copy is still the same: an upgrade is seen at once.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
