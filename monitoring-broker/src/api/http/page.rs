//! The dashboard's files. In: a path and what the browser has and accepts. Out: a file of `assets/`, or that it is
//! still the same. The page reads the API like any other program; nothing in it is secret or made at run time.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::file::{policy, sealed};
use super::problem::Problem;

/// A file as `build.rs` packs it.
struct Asset {
    /// Below `assets/`.
    path: &'static str,
    kind: &'static str,
    tag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

/// Sorted by path.
const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

const INDEX: &str = "index.html";

/// No markup is made from text either.
const POLICY: &str = policy!("; require-trusted-types-for 'script'; trusted-types 'none'");

/// `/`, and everything below `/assets/`.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { answer(INDEX, &headers) }))
        .route(
            "/assets/{*path}",
            get(|Path(path): Path<String>, headers: HeaderMap| async move {
                answer(&path, &headers)
            }),
        )
}

fn answer(path: &str, headers: &HeaderMap) -> Response {
    let found = ASSETS.binary_search_by_key(&path, |asset| asset.path);
    let Some(asset) = found.ok().and_then(|index| ASSETS.get(index)) else {
        return Problem::asset(path).into_response();
    };
    let response = if has(headers, asset.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if accepts_gzip(headers) {
        ([(header::CONTENT_ENCODING, "gzip")], asset.gzip).into_response()
    } else {
        asset.plain.into_response()
    };
    let mut response = sealed(response, asset.kind, POLICY);
    for (name, value) in [(header::ETAG, asset.tag), (header::VARY, "accept-encoding")] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether the browser has this version (RFC 9110, 13.1.2).
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter();
    tags.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag.trim_start_matches("W/"))
}

/// Whether gzip is named and not refused (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, quality) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let quality = quality.trim().trim_start_matches("q=").parse::<f32>();
            name.trim().eq_ignore_ascii_case("gzip") && quality.is_ok_and(|quality| quality > 0.0)
        })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn sent(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn length(response: &Response) -> usize {
        let length = response.headers().get(header::CONTENT_LENGTH);
        length.map_or(0, |value| value.to_str().unwrap().parse().unwrap())
    }

    #[test]
    fn the_whole_page_is_below_150_kib_compressed() {
        let all: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(all < 150 << 10, "{all} bytes");
        assert!(ASSETS.is_sorted_by_key(|asset| asset.path));
    }

    #[test]
    fn gzip_is_sent_to_those_that_take_it() {
        for (accepted, expected) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=nonsense", false),
            ("identity", false),
            ("", false),
        ] {
            let headers = sent(header::ACCEPT_ENCODING, accepted);
            assert_eq!(accepts_gzip(&headers), expected, "{accepted}");
        }
    }

    #[test]
    fn a_copy_that_is_still_the_same_is_not_sent_again() {
        let first = answer(INDEX, &HeaderMap::new());
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned()] {
            let known = HeaderValue::from_str(&known).unwrap();
            let again = answer(
                INDEX,
                &HeaderMap::from_iter([(header::IF_NONE_MATCH, known)]),
            );
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(again.headers()[header::ETAG], *tag);
            assert_eq!(length(&again), 0);
        }
        let other = answer(INDEX, &sent(header::IF_NONE_MATCH, "\"other\""));
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn every_file_has_its_type_and_the_strict_policy() {
        for asset in ASSETS {
            let response = answer(asset.path, &HeaderMap::new());
            let headers = response.headers();
            assert_eq!(headers[header::CONTENT_TYPE], asset.kind);
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
        }
    }
}
