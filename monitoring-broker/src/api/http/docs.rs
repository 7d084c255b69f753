//! The interactive page over the OpenAPI document at `GET /docs`. In: a path. Out: a file of `docs-page/`; those of Swagger UI are
//! sent compressed as they are kept, since every browser takes gzip. No file is asked for elsewhere.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::file::{policy, sealed};

const POLICY: &str = policy!("");

struct File {
    path: &'static str,
    kind: &'static str,
    is_packed: bool,
    bytes: &'static [u8],
}

const FILES: &[File] = &[
    File {
        path: "/docs",
        kind: "text/html; charset=utf-8",
        is_packed: false,
        bytes: include_bytes!("../../../docs-page/page.html"),
    },
    File {
        path: "/docs/start.js",
        kind: "text/javascript; charset=utf-8",
        is_packed: false,
        bytes: include_bytes!("../../../docs-page/start.js"),
    },
    File {
        path: "/docs/swagger-ui-bundle.js",
        kind: "text/javascript; charset=utf-8",
        is_packed: true,
        bytes: include_bytes!("../../../docs-page/swagger-ui-bundle.js.gz"),
    },
    File {
        path: "/docs/swagger-ui.css",
        kind: "text/css; charset=utf-8",
        is_packed: true,
        bytes: include_bytes!("../../../docs-page/swagger-ui.css.gz"),
    },
];

/// `/docs` and what it loads.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move || async move { answer(file) }))
    })
}

fn answer(file: &File) -> Response {
    let mut response = sealed(file.bytes.into_response(), file.kind, POLICY);
    if file.is_packed {
        let gzip = HeaderValue::from_static("gzip");
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, gzip);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_server_and_only_files_that_are_there() {
        let page = FILES.first().unwrap();
        let text = std::str::from_utf8(page.bytes).unwrap();
        assert!(!text.contains("//"), "{text}");
        for name in text.split("=\"docs/").skip(1) {
            let name = name.split('"').next().unwrap();
            let path = format!("/docs/{name}");
            assert!(FILES.iter().any(|file| file.path == path), "{path}");
        }
        assert!(!POLICY.contains("unsafe"));
    }

    #[test]
    fn all_files_together_are_below_480_kib() {
        let all: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(all < 480 << 10, "{all} bytes");
        for file in FILES.iter().filter(|file| file.is_packed) {
            assert!(file.bytes.starts_with(&[0x1f, 0x8b]), "{}", file.path);
            assert_eq!(answer(file).headers()[header::CONTENT_ENCODING], "gzip");
        }
    }
}
