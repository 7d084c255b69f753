//! The webhook over real TLS, and its certificate with an API server in memory. In: reviews,
//! Secrets. Out: verdicts over HTTPS, and what the API server was told to trust.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use akri_mqtt_runtime::Shutdown;
use axum::http;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::client::Body as KubeBody;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::keeper::{KeepError, Keeper};
use super::*;

/// One Secret and one webhook configuration, with versions and conflicts.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    secret: Option<Value>,
    version: u64,
    webhooks: Value,
    /// Everything is answered with 403 for these parts of the path.
    forbidden: Vec<&'static str>,
    /// Requests that are done before the next one of this method, as by another replica.
    between: Option<(&'static str, Value)>,
    writes: Vec<String>,
}

impl Server {
    fn new() -> Self {
        let server = Self::default();
        server.0.lock().unwrap().webhooks = json!({"webhooks": [
            {"name": "a.mqtt.akri.sh", "clientConfig": {"service": {"name": "hook", "namespace": "ns"}}},
            {"name": "b.other", "clientConfig": {"service": {"name": "other", "namespace": "ns"}}},
        ]});
        server
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<KubeBody>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await?;
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                let (code, answer) = server.answer(&parts, body);
                let response = http::Response::builder().status(code);
                Ok::<_, kube::Error>(
                    response
                        .body(KubeBody::from(answer.to_string().into_bytes()))
                        .unwrap(),
                )
            }
        });
        Client::new(service, "ns")
    }

    fn answer(&self, parts: &http::request::Parts, body: Value) -> (u16, Value) {
        let failure = |code: u16, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
            (code, status)
        };
        let path = parts.uri.path();
        let mut objects = self.0.lock().unwrap();
        if objects.forbidden.iter().any(|part| path.contains(part)) {
            return failure(403, "Forbidden");
        }
        let method = parts.method.as_str();
        if method != "GET" {
            objects.writes.push(format!("{method} {path}"));
        }
        if objects
            .between
            .as_ref()
            .is_some_and(|(of, _)| *of == method)
        {
            let (_, secret) = objects.between.take().unwrap();
            objects.store(secret);
        }
        let secret = path.contains("/secrets");
        match (method, secret) {
            ("GET", true) => match objects.secret.clone() {
                Some(secret) => (200, secret),
                None => failure(404, "NotFound"),
            },
            ("POST", true) if objects.secret.is_some() => failure(409, "AlreadyExists"),
            ("PUT", true) if objects.current() != body["metadata"]["resourceVersion"] => {
                failure(409, "Conflict")
            }
            ("POST" | "PUT", true) => (200, objects.store(body)),
            ("GET", false) => (200, objects.webhooks.clone()),
            _ => (200, objects.patch(&body)),
        }
    }

    fn trusted(&self, webhook: usize) -> Option<String> {
        let objects = self.0.lock().unwrap();
        let bundle = objects.webhooks["webhooks"][webhook]["clientConfig"].get("caBundle")?;
        let ByteString(pem) = serde_json::from_value(bundle.clone()).unwrap();
        Some(String::from_utf8(pem).unwrap())
    }

    fn secret(&self) -> Value {
        self.0.lock().unwrap().secret.clone().unwrap()
    }

    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }
}

impl Objects {
    fn current(&self) -> Value {
        let secret = self.secret.clone().unwrap_or_default();
        secret["metadata"]["resourceVersion"].clone()
    }

    fn store(&mut self, mut secret: Value) -> Value {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.secret = Some(secret.clone());
        secret
    }

    /// A strategic merge patch of a list whose key is `name`.
    fn patch(&mut self, patch: &Value) -> Value {
        for change in patch["webhooks"].as_array().unwrap() {
            let webhooks = self.webhooks["webhooks"].as_array_mut().unwrap();
            let webhook = webhooks
                .iter_mut()
                .find(|hook| hook["name"] == change["name"]);
            let bundle = change["clientConfig"]["caBundle"].clone();
            webhook.unwrap()["clientConfig"]["caBundle"] = bundle;
        }
        self.webhooks.clone()
    }
}

fn at(text: &str) -> Timestamp {
    format!("{text}T12:00:00Z").parse().unwrap()
}

fn settings() -> Settings {
    Settings::new("ns", "hook")
}

#[test]
fn names_are_derived_from_the_service() {
    let settings = settings();
    assert_eq!(settings.dns_name(), "hook.ns.svc");
    assert_eq!(settings.secret, "hook-certificate");
    assert_eq!(settings.configuration, "hook-ns");
}

#[tokio::test]
async fn a_missing_or_empty_secret_is_filled_and_trusted_before_it_is_served() {
    for empty in [
        None,
        Some(json!({"metadata": {"name": "hook-certificate"}})),
    ] {
        let server = Server::new();
        if let Some(secret) = empty {
            server.0.lock().unwrap().store(secret);
        }
        let (mut keeper, config) = Keeper::new(settings(), server.client());
        assert!(config.borrow().is_none());
        keeper.round(at("2026-03-01")).await.unwrap();
        assert!(config.borrow().is_some());
        assert!(server.trusted(0).unwrap().contains("BEGIN CERTIFICATE"));
        assert_eq!(server.trusted(1), None, "another's webhook is left alone");
        assert_eq!(server.writes().len(), 2);
        keeper.round(at("2026-03-02")).await.unwrap();
        assert_eq!(server.writes(), [""; 0], "steady state makes no writes");
    }
}

#[tokio::test]
async fn replicas_share_one_certificate() {
    let server = Server::new();
    let (mut first, _) = Keeper::new(settings(), server.client());
    first.round(at("2026-03-01")).await.unwrap();
    let shared = server.secret();
    let (mut second, config) = Keeper::new(settings(), server.client());
    second.round(at("2026-03-01")).await.unwrap();
    assert!(config.borrow().is_some());
    assert_eq!(server.secret(), shared);
}

#[tokio::test]
async fn the_replica_that_comes_second_takes_what_the_first_has_written() {
    let server = Server::new();
    let (mut first, _) = Keeper::new(settings(), server.client());
    first.round(at("2026-03-01")).await.unwrap();
    let written = server.secret();
    {
        let mut objects = server.0.lock().unwrap();
        objects.store(json!({"metadata": {"name": "hook-certificate"}}));
        objects.between = Some(("PUT", written.clone()));
    }
    let (mut second, config) = Keeper::new(settings(), server.client());
    let conflict = second.round(at("2026-03-01")).await;
    assert!(matches!(conflict, Err(KeepError::Conflict)));
    second.round(at("2026-03-01")).await.unwrap();
    assert!(config.borrow().is_some());
    assert_eq!(server.secret()["data"], written["data"]);
}

#[tokio::test]
async fn a_rotation_keeps_the_old_authority_trusted_and_changes_what_is_served() {
    let server = Server::new();
    let (mut keeper, mut config) = Keeper::new(settings(), server.client());
    keeper.round(at("2026-03-01")).await.unwrap();
    let before = server.trusted(0).unwrap();
    config.mark_unchanged();
    keeper.round(at("2027-02-01")).await.unwrap();
    assert!(config.has_changed().unwrap());
    let after = server.trusted(0).unwrap();
    assert!(after.contains(before.trim()) && after.len() > before.len());
}

#[tokio::test]
async fn without_the_right_to_the_webhook_configuration_it_serves_and_complains() {
    let server = Server::new();
    let hooks = "validatingwebhookconfigurations";
    server.0.lock().unwrap().forbidden.push(hooks);
    let (mut keeper, config) = Keeper::new(settings(), server.client());
    let error = keeper.round(at("2026-03-01")).await.unwrap_err();
    assert!(matches!(error, KeepError::Configuration { .. }), "{error}");
    assert!(config.borrow().is_some());
}

#[tokio::test]
async fn without_the_right_to_the_secret_nothing_is_served_and_the_reason_is_given() {
    let server = Server::new();
    server.0.lock().unwrap().forbidden.push("secrets");
    let (mut keeper, config) = Keeper::new(settings(), server.client());
    let error = keeper.round(at("2026-03-01")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the Secret hook-certificate: Forbidden"
    );
    assert!(config.borrow().is_none());
}

/// The whole webhook on a port of its own.
struct Running {
    address: SocketAddr,
    server: Server,
    tasks: Tasks,
}

impl Running {
    async fn start() -> Self {
        let server = Server::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::new(Shutdown::new());
        start(
            settings(),
            listener,
            server.client(),
            Metrics::default(),
            &tasks,
        );
        let running = Self {
            address,
            server,
            tasks,
        };
        for _ in 0..2_000 {
            if running.server.trusted(0).is_some() && running.connect("hook.ns.svc").await.is_ok() {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the webhook does not come up");
    }

    /// A client that trusts what the API server was told to trust.
    async fn connect(
        &self,
        name: &'static str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let bundle = self.server.trusted(0).unwrap();
        for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    async fn ask(&self, head: &str, body: &[u8]) -> String {
        let mut stream = self.connect("hook.ns.svc").await.unwrap();
        let head = format!(
            "{head} HTTP/1.1\r\nhost: hook.ns.svc\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may answer and close before it has read everything.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn stop(self) {
        self.tasks.shutdown().trigger();
        self.tasks.join().await.unwrap();
    }
}

fn review(details: &str) -> Vec<u8> {
    let object =
        json!({"spec": {"discoveryHandler": {"name": "mqtt", "discoveryDetails": details}}});
    let request = json!({"uid": "1", "kind": {"group": "akri.sh", "version": "v0", "kind": "Configuration"}, "operation": "CREATE", "object": object});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_gets_verdicts_over_https() {
    let running = Running::start().await;
    let good = review("serverUrls: [mqtt://m:1883]\ntopics: [\"a/+\"]\n");
    let answer = running.ask("POST /validate", &good).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#""allowed":true"#), "{answer}");
    let answer = running.ask("POST /validate", &review("topics: [")).await;
    assert!(answer.contains(r#""allowed":false"#), "{answer}");
    assert!(answer.contains("line 2, column 1"), "{answer}");
    let wrong = running.connect("other.ns.svc").await;
    assert!(wrong.is_err(), "the certificate is for one name");
    running.stop().await;
}

#[tokio::test]
async fn garbage_other_paths_and_large_bodies_are_refused_and_it_serves_on() {
    let running = Running::start().await;
    for (head, body, code) in [
        ("POST /validate", &b"\x00\xff"[..], "400"),
        ("POST /validate", b"{}", "400"),
        ("POST /validate", &vec![b' '; BODY_BYTES + 1], "413"),
        ("GET /validate", b"", "405"),
        ("POST /else", b"{}", "404"),
    ] {
        let answer = running.ask(head, body).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code}")),
            "{head}: {answer:.100}"
        );
    }
    // Not TLS at all, and a connection that says nothing.
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _silent = TcpStream::connect(running.address).await.unwrap();
    let good = review("serverUrls: [mqtt://m:1883]\ntopics: [\"a/+\"]\n");
    let answer = running.ask("POST /validate", &good).await;
    assert!(answer.contains(r#""allowed":true"#), "{answer}");
    running.stop().await;
}
