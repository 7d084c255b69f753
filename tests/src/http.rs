//! The smallest HTTP client: one request, one answer. In: an address and a path. Out: status and body.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::{Deserialize, Serialize};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a server is asked that encrypts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tls {
    /// The authority of its certificate, PEM.
    pub authority: String,
    /// A name that its certificate has.
    pub name: String,
    /// Shown to it, if there is one.
    pub token: Option<String>,
}

/// The answer to `GET path`; `None` while nobody answers.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    get_within(address, path, PATIENCE)
}

/// As [`get`], of somebody who may need longer.
#[must_use]
pub fn get_within(address: SocketAddr, path: &str, within: Duration) -> Option<(u16, String)> {
    ask(connect(address, within)?, &request("GET", path, ""))
}

/// The answer to `POST path` with a JSON body.
#[must_use]
pub fn post(
    address: SocketAddr,
    path: &str,
    body: &str,
    within: Duration,
) -> Option<(u16, String)> {
    let length = body.len();
    let headers = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    let request = request("POST", path, &headers) + body;
    ask(connect(address, within)?, &request)
}

/// The same over TLS; `None` also when the certificate is not what it has to be.
#[must_use]
pub fn get_encrypted(address: SocketAddr, path: &str, tls: &Tls) -> Option<(u16, String)> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(tls.authority.as_bytes()).ok()?;
    roots.add(authority).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(tls.name.clone()).ok()?;
    let session = ClientConnection::new(Arc::new(config), name).ok()?;
    let header = tls
        .token
        .as_ref()
        .map(|token| format!("Authorization: Bearer {token}\r\n"));
    let stream = StreamOwned::new(session, connect(address, PATIENCE)?);
    ask(stream, &request("GET", path, &header.unwrap_or_default()))
}

fn connect(address: SocketAddr, within: Duration) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(within)).ok()?;
    Some(stream)
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}Connection: close\r\n\r\n")
}

fn ask(mut stream: impl Read + Write, request: &str) -> Option<(u16, String)> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Some((
        status,
        if chunked {
            unchunk(body)
        } else {
            body.to_owned()
        },
    ))
}

fn unchunk(body: &str) -> String {
    let mut rest = body;
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        whole.push_str(chunk);
        rest = after
            .get(size..)
            .unwrap_or_default()
            .trim_start_matches("\r\n");
    }
    whole
}
