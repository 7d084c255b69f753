//! Both ports with real certificates, changed while they are served. In: files. Out: who gets in.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_runtime::{Shutdown, serve};
use axum::Router;
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);
const TOKEN: &str = "first-token-0123456789";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Certificate and key.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// What a request met.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    Refused(&'static str),
    Served { by: Vec<u8>, protocol: Vec<u8> },
    NoConnection,
}

struct Scene {
    directory: tempfile::TempDir,
    authority: Authority,
    tasks: Tasks,
    http: SocketAddr,
    grpc: SocketAddr,
    metrics: AccessMetrics,
}

impl Scene {
    async fn start(with_clients: bool, with_tokens: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        let (certificate, key) = authority.issue();
        write("tls.crt", &certificate).unwrap();
        write("tls.key", &key).unwrap();
        write("ca.crt", &authority.pem).unwrap();
        write("tokens", &format!("# one\n{TOKEN}\n")).unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = AccessFiles {
            tls: Some(TlsFiles {
                certificate: path("tls.crt"),
                key: path("tls.key"),
                client_authorities: with_clients.then(|| path("ca.crt")),
            }),
            tokens: with_tokens.then(|| path("tokens")),
        };
        let tasks = Tasks::new(Shutdown::new());
        let access = Access::open(&files, &tasks).unwrap();
        let http = start(&access, PortName::Http, &tasks).await;
        let grpc = start(&access, PortName::Grpc, &tasks).await;
        let metrics = access.metrics().clone();
        Self {
            directory,
            authority,
            tasks,
            http,
            grpc,
            metrics,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    /// The certificate that is served, as DER.
    fn certificate(&self) -> Vec<u8> {
        let pem = self.file("tls.crt");
        CertificateDer::from_pem_slice(pem.as_bytes())
            .unwrap()
            .to_vec()
    }

    async fn ask(&self, port: SocketAddr, request: Ask<'_>) -> Met {
        ask(port, &self.authority.pem, request)
            .await
            .unwrap_or(Met::NoConnection)
    }

    /// Asks the HTTP port with nothing to show.
    async fn plain(&self, path: &str) -> Met {
        let request = Ask {
            path,
            ..Ask::default()
        };
        self.ask(self.http, request).await
    }

    /// Asks the HTTP port with a certificate and its key.
    async fn certified(&self, path: &str, (certificate, key): &(String, String)) -> Met {
        let request = Ask {
            path,
            client: Some((certificate, key)),
            ..Ask::default()
        };
        self.ask(self.http, request).await
    }

    async fn text(&self) -> String {
        let mut registry =
            akri_mqtt_runtime::metrics::registry("test", std::time::SystemTime::now());
        self.metrics.register(&mut registry);
        akri_mqtt_runtime::metrics::encode(&registry).unwrap()
    }

    async fn wait_for_metric(&self, line: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.text().await.contains(line) {
            assert!(Instant::now() < end, "{line}: {}", self.text().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn start(access: &Access, name: PortName, tasks: &Tasks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admit =
        async |State(gate): State<Gate>, request: axum::extract::Request, next: Next| match gate
            .check(&request)
        {
            Ok(()) => next.run(request).await,
            Err(denied) => (axum::http::StatusCode::FORBIDDEN, denied.as_str()).into_response(),
        };
    let router = Router::new().fallback(async || "served");
    let (port, gate) = access.front(name, listener);
    let router = router.layer(from_fn_with_state(gate, admit));
    let shutdown = tasks.shutdown().clone();
    tokio::spawn(serve(port, router, shutdown));
    address
}

#[derive(Clone, Copy, Default)]
struct Ask<'a> {
    path: &'a str,
    token: Option<&'a str>,
    /// Certificate and key.
    client: Option<(&'a str, &'a str)>,
    protocols: &'a [&'a [u8]],
}

async fn ask(address: SocketAddr, authority: &str, request: Ask<'_>) -> std::io::Result<Met> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match request.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = request.protocols.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, tcp).await?;
    let (_, session) = stream.get_ref();
    let protocol = session.alpn_protocol().unwrap_or_default().to_vec();
    let by = session
        .peer_certificates()
        .unwrap()
        .first()
        .unwrap()
        .to_vec();
    let header = request
        .token
        .map(|token| format!("authorization: Bearer {token}\r\n"));
    let (path, header) = (request.path, header.unwrap_or_default());
    let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    // Where only HTTP/2 was offered, this text is no request and there is no answer.
    let read = stream.read_to_string(&mut answer).await;
    for reason in ["no_token", "wrong_token", "no_certificate"] {
        if answer.ends_with(reason) {
            return Ok(Met::Refused(reason));
        }
    }
    if !answer.ends_with("served") && request.protocols != [b"h2"] {
        read?;
        return Ok(Met::NoConnection);
    }
    Ok(Met::Served { by, protocol })
}

fn served(by: &[u8], protocol: &str) -> Met {
    let (by, protocol) = (by.to_vec(), protocol.as_bytes().to_vec());
    Met::Served { by, protocol }
}

#[tokio::test]
async fn each_port_offers_its_protocols() {
    let scene = Scene::start(false, false).await;
    let certificate = scene.certificate();
    let offering = |protocols| Ask {
        path: "/v1/devices",
        protocols,
        ..Ask::default()
    };
    let met = scene.ask(scene.http, offering(&[b"http/1.1"])).await;
    assert_eq!(met, served(&certificate, "http/1.1"));
    let met = scene.ask(scene.http, offering(&[b"h2"])).await;
    assert_eq!(met, served(&certificate, "h2"));
    assert_eq!(
        scene.ask(scene.grpc, offering(&[b"http/1.1"])).await,
        Met::NoConnection
    );
    let met = scene.ask(scene.grpc, offering(&[b"h2"])).await;
    assert_eq!(met, served(&certificate, "h2"));
    // A client that speaks no TLS gets nothing.
    let mut plain = TcpStream::connect(scene.http).await.unwrap();
    plain
        .write_all(b"GET /livez HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    scene
        .wait_for_metric("tls_handshake_failures_total{port=\"http\"} 1")
        .await;
    scene.tasks.shutdown().trigger();
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_a_wrong_pair_changes_nothing() {
    let scene = Scene::start(false, false).await;
    let first = scene.certificate();
    assert_eq!(scene.plain("/").await, served(&first, ""));
    let (certificate, key) = scene.authority.issue();
    // As while a Secret is being swapped: the new certificate with the old key.
    scene.write("tls.crt", &certificate);
    scene
        .wait_for_metric("access_reloads_total{result=\"failed\"} 1")
        .await;
    assert_eq!(scene.plain("/").await, served(&first, ""));
    // Half written.
    scene.write("tls.key", key.split_at(key.len() / 2).0);
    scene
        .wait_for_metric("access_reloads_total{result=\"failed\"} 2")
        .await;
    assert_eq!(scene.plain("/").await, served(&first, ""));
    scene.write("tls.key", &key);
    scene
        .wait_for_metric("access_reloads_total{result=\"ok\"} 1")
        .await;
    let second = scene.certificate();
    assert_ne!(first, second);
    assert_eq!(scene.plain("/").await, served(&second, ""));
    scene.tasks.shutdown().trigger();
}

#[tokio::test]
async fn everything_but_probes_needs_a_certificate_of_a_known_authority() {
    let scene = Scene::start(true, false).await;
    let certificate = scene.certificate();
    let (good, bad) = (scene.authority.issue(), Authority::new().issue());
    for path in ["/livez", "/readyz", "/metrics"] {
        let met = scene.plain(path).await;
        assert_eq!(met, served(&certificate, ""), "{path}");
    }
    for path in ["/", "/docs", "/openapi.json", "/v1/devices", "/nothing"] {
        let met = scene.plain(path).await;
        assert_eq!(met, Met::Refused("no_certificate"), "{path}");
        let met = scene.certified(path, &good).await;
        assert_eq!(met, served(&certificate, ""), "{path}");
        let met = scene.certified(path, &bad).await;
        assert_eq!(met, Met::NoConnection, "{path}");
    }
    // Another authority: who was known is no more.
    scene.write("ca.crt", &Authority::new().pem);
    scene
        .wait_for_metric("access_reloads_total{result=\"ok\"} 1")
        .await;
    assert_eq!(scene.certified("/", &good).await, Met::NoConnection);
    scene.tasks.shutdown().trigger();
}

#[tokio::test]
async fn a_token_is_needed_for_data_and_may_be_changed() {
    let scene = Scene::start(false, true).await;
    let certificate = scene.certificate();
    let good = served(&certificate, "");
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/",
        "/docs",
        "/openapi.json",
        "/assets/x.js",
    ] {
        assert_eq!(scene.plain(path).await, good, "{path}");
    }
    let with = |token| Ask {
        path: "/v1/devices",
        token,
        ..Ask::default()
    };
    assert_eq!(
        scene.ask(scene.http, with(None)).await,
        Met::Refused("no_token")
    );
    assert_eq!(
        scene.ask(scene.http, with(Some("x"))).await,
        Met::Refused("wrong_token")
    );
    assert_eq!(scene.ask(scene.http, with(Some(TOKEN))).await, good);
    let second = "second-token-9876543210";
    scene.write("tokens", "too-short");
    scene
        .wait_for_metric("access_reloads_total{result=\"failed\"} 1")
        .await;
    assert_eq!(scene.ask(scene.http, with(Some(TOKEN))).await, good);
    scene.write("tokens", second);
    scene
        .wait_for_metric("access_reloads_total{result=\"ok\"} 1")
        .await;
    assert_eq!(
        scene.ask(scene.http, with(Some(TOKEN))).await,
        Met::Refused("wrong_token")
    );
    assert_eq!(scene.ask(scene.http, with(Some(second))).await, good);
    let text = scene.text().await;
    let wrong = "auth_failures_total{port=\"http\",reason=\"wrong_token\"} 2";
    assert!(text.contains(wrong), "{text}");
    assert!(!text.contains(TOKEN) && !text.contains(second));
    scene.tasks.shutdown().trigger();
}

#[tokio::test]
async fn handshakes_that_stall_are_ended_and_hold_nobody_up() {
    let scene = Scene::start(false, false).await;
    let mut stalled = Vec::new();
    // One after the other they would take longer than is waited for.
    for number in 0..20 {
        let mut stream = TcpStream::connect(scene.http).await.unwrap();
        if number % 2 == 0 {
            // The head of a ClientHello.
            stream.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
        }
        stalled.push(stream);
    }
    let asked = tokio::time::timeout(DEADLINE, scene.plain("/")).await;
    assert_eq!(asked.unwrap(), served(&scene.certificate(), ""));
    for stream in &mut stalled {
        let closed = tokio::time::timeout(DEADLINE, stream.read(&mut [0])).await;
        assert!(closed.unwrap().is_ok_and(|read| read == 0));
    }
    scene
        .wait_for_metric("tls_handshake_failures_total{port=\"http\"} 20")
        .await;
    scene.tasks.shutdown().trigger();
}

#[test]
fn what_cannot_be_used_at_the_start_is_an_error_that_names_the_file() {
    let tasks = Tasks::new(Shutdown::new());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    let open = |path: &Path| {
        let tokens = Some(path.to_owned());
        let opened = Access::open(&AccessFiles { tls: None, tokens }, &tasks);
        opened.err().unwrap().to_string()
    };
    assert!(open(&path).contains("tokens: No such file"));
    std::fs::write(&path, "secret").unwrap();
    let error = open(&path);
    assert!(
        error.contains("tokens: line 1: found a token of 6 characters"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
}
