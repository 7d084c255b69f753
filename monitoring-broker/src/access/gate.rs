//! The check of each request. In: its path, its `Authorization`, and whether its connection showed a certificate. Out: that it may
//! pass, or why not. How that is said is left to the two fronts.

use std::sync::Arc;

use akri_mqtt_runtime::tls::Peer;
use axum::extract::Request;
use axum::http::header;
use tokio::sync::watch;

use super::metrics::{AccessMetrics, PortName};
use super::tokens::Tokens;

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token.
    #[error(
        "no token, allowed: the header `Authorization: Bearer <token>` with a token of --auth-token-file"
    )]
    NoToken,
    /// The token is not known, or what is there is none.
    #[error(
        "the token is not one of --auth-token-file, or the header is not `Authorization: Bearer <token>`"
    )]
    WrongToken,
    /// The connection showed no certificate.
    #[error("no client certificate, allowed: one of an authority of --tls-client-ca")]
    NoCertificate,
}

impl Denied {
    pub(super) const ALL: [Self; 3] = [Self::NoToken, Self::WrongToken, Self::NoCertificate];

    /// Its label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::NoCertificate => "no_certificate",
        }
    }
}

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// Of the kubelet and of Prometheus, which can show neither certificate nor, in case of the kubelet, a token.
    Probe,
    /// What a browser loads before somebody can give it a token. There is no data in it.
    Page,
    Data,
}

/// See the module.
#[derive(Clone)]
pub struct Gate {
    port: PortName,
    needs_certificate: bool,
    tokens: Option<watch::Receiver<Arc<Tokens>>>,
    metrics: AccessMetrics,
}

impl Gate {
    pub(super) fn new(
        port: PortName,
        needs_certificate: bool,
        tokens: Option<watch::Receiver<Arc<Tokens>>>,
        metrics: AccessMetrics,
    ) -> Self {
        Self {
            port,
            needs_certificate,
            tokens,
            metrics,
        }
    }

    /// Whether a request may pass.
    ///
    /// # Errors
    /// Why it may not; it is counted.
    pub fn check(&self, request: &Request) -> Result<(), Denied> {
        let checked = self.judge(request);
        if let Err(denied) = checked {
            self.metrics.denied(self.port, denied);
            tracing::debug!(port = self.port.as_str(), reason = %denied, "request refused");
        }
        checked
    }

    fn judge(&self, request: &Request) -> Result<(), Denied> {
        let path = match self.port {
            PortName::Http => of_http(request.uri().path()),
            PortName::Grpc => of_grpc(request.uri().path()),
        };
        if path == Path::Probe {
            return Ok(());
        }
        let peer = request.extensions().get::<Peer>();
        if self.needs_certificate && !peer.is_some_and(|peer| peer.certified) {
            return Err(Denied::NoCertificate);
        }
        match &self.tokens {
            Some(tokens) if path == Path::Data => has_token(&tokens.borrow(), request),
            _ => Ok(()),
        }
    }
}

fn of_http(path: &str) -> Path {
    match path {
        "/livez" | "/readyz" | "/metrics" => Path::Probe,
        "/" | "/docs" | "/openapi.json" => Path::Page,
        _ if path.starts_with("/docs/") || path.starts_with("/assets/") => Path::Page,
        _ => Path::Data,
    }
}

fn of_grpc(path: &str) -> Path {
    if path.starts_with("/grpc.health.v1.Health/") {
        Path::Probe
    } else {
        Path::Data
    }
}

/// `Authorization: Bearer <token>` (RFC 6750, 2.1). Two of them are one too many.
fn has_token(tokens: &Tokens, request: &Request) -> Result<(), Denied> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let header = headers.next().ok_or(Denied::NoToken)?;
    let (scheme, token) = header
        .as_bytes()
        .split_at_checked("Bearer ".len())
        .ok_or(Denied::WrongToken)?;
    let is_alone = headers.next().is_none();
    if is_alone && scheme.eq_ignore_ascii_case(b"Bearer ") && tokens.know(token.trim_ascii()) {
        Ok(())
    } else {
        Err(Denied::WrongToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_probes_and_pages_without_data_are_exempt() {
        for (path, expected) in [
            ("/livez", Path::Probe),
            ("/livez/", Path::Data),
            ("//livez", Path::Data),
            ("/", Path::Page),
            ("/docs", Path::Page),
            ("/docsx", Path::Data),
            ("/assets/app.js", Path::Page),
            ("/v1/devices", Path::Data),
            ("/v1/stream", Path::Data),
        ] {
            assert_eq!(of_http(path), expected, "{path}");
        }
        assert_eq!(of_grpc("/grpc.health.v1.Health/Check"), Path::Probe);
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(of_grpc(reflection), Path::Data);
    }

    #[test]
    fn a_token_is_presented_in_one_way_only() {
        let tokens = Tokens::read(b"0123456789abcdef").unwrap();
        let judged = |values: &[&str]| {
            let mut request = Request::new(axum::body::Body::empty());
            for value in values {
                let value = value.parse().unwrap();
                request.headers_mut().append(header::AUTHORIZATION, value);
            }
            has_token(&tokens, &request)
        };
        assert_eq!(judged(&["Bearer 0123456789abcdef"]), Ok(()));
        assert_eq!(judged(&["bearer  0123456789abcdef"]), Ok(()));
        assert_eq!(judged(&[]), Err(Denied::NoToken));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeX",
        ] {
            assert_eq!(judged(&[wrong]), Err(Denied::WrongToken), "{wrong:?}");
        }
        let twice = ["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"];
        assert_eq!(judged(&twice), Err(Denied::WrongToken));
    }
}
