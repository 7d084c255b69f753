//! Both ports of a monitoring broker with certificates and tokens, asked by clients on TLS libraries that are not ours.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use akri_mqtt_tests::binary::binary;
use akri_mqtt_tests::certificates::Authority;
use akri_mqtt_tests::port::free_port;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-this-test";
const DEVICE: &str = "plant-a/r1";

/// A monitoring broker that ends with this. Its MQTT server is not there; its devices are listed all the same.
struct Broker {
    child: Child,
    http: u16,
    grpc: u16,
    files: tempfile::TempDir,
}

impl Broker {
    fn start(flags: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new("authority");
        let (server, client) = (authority.server(&["localhost"]), authority.client("client"));
        for (name, text) in [
            ("ca.crt", authority.pem()),
            ("tls.crt", server.certificate),
            ("tls.key", server.key),
            ("client.crt", client.certificate),
            ("client.key", client.key),
            ("tokens", TOKEN.to_owned()),
        ] {
            std::fs::write(files.path().join(name), text).unwrap();
        }
        let (http, grpc) = (free_port(), free_port());
        let name = "akri-mqtt-monitoring-broker";
        let mut command = Command::new(binary(name, name));
        command
            .args(["--http", &format!("127.0.0.1:{http}")])
            .args(["--grpc", &format!("127.0.0.1:{grpc}")])
            .args(["--data-dir", "data", "--tls-cert", "tls.crt"])
            .args(["--tls-key", "tls.key"])
            .current_dir(files.path())
            .env("MQTT_DEVICE_ID", DEVICE)
            .env(
                "MQTT_SERVER_URLS",
                format!("tcp://127.0.0.1:{}", free_port()),
            )
            .env("MQTT_TOPICS", r#"["robots/r1/data"]"#)
            .env("RUST_LOG", "error");
        for (flag, file) in flags {
            command.args([flag, file]);
        }
        let child = command.spawn().unwrap();
        let broker = Self {
            child,
            http,
            grpc,
            files,
        };
        let deadline = Instant::now() + LIMIT;
        for port in [http, grpc] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                assert!(Instant::now() < deadline, "nobody listens");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        broker
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// What HTTPS and gRPC say to who comes with nothing, a certificate, a token, both.
    fn ask(&self) -> Vec<Value> {
        let python = std::env::var_os("AKRI_MQTT_TEST_PYTHON");
        let python = python.expect("set by `cargo xtask test`: Python with grpcio-tools");
        let mut client = Command::new(python);
        client.arg(script("access.py")).args(["--token", TOKEN]);
        client.args(["--http", &self.http.to_string()]);
        client.args(["--grpc", &self.grpc.to_string()]);
        for (flag, file) in [
            ("--ca", "ca.crt"),
            ("--certificate", "client.crt"),
            ("--key", "client.key"),
        ] {
            client.arg(flag).arg(self.file(file));
        }
        let lines = output(&mut client);
        let answers = lines.lines().map(serde_json::from_str);
        answers.collect::<Result<_, _>>().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/clients")).join(name)
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{wrong}");
    String::from_utf8(output.stdout).unwrap()
}

fn served() -> Value {
    json!([[200, DEVICE], ["OK", DEVICE]])
}

/// Whether both ports refused, HTTP in this way.
#[track_caller]
fn assert_refused(answer: &Value, status: u16, title: &str) {
    assert_eq!(answer.pointer("/0"), Some(&json!([status, title])));
    assert_eq!(answer.pointer("/1/0"), Some(&json!("UNAUTHENTICATED")));
}

#[test]
fn a_token_opens_both_ports_to_foreign_clients() {
    let broker = Broker::start(&[("--auth-token-file", "tokens")]);
    let answers = broker.ask();
    let [nothing, certificate, token, both] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_refused(nothing, 401, "Unauthorized");
    assert_refused(certificate, 401, "Unauthorized");
    assert_eq!((token, both), (&served(), &served()));

    let mut node = Command::new("node");
    node.arg(script("http2.mjs")).arg(broker.http.to_string());
    let line = output(node.arg(broker.file("ca.crt")).arg(TOKEN));
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer, json!(["h2", 200, DEVICE]));
}

#[test]
fn a_client_certificate_and_a_token_are_both_needed_where_both_are_asked_for() {
    let flags = [
        ("--tls-client-ca", "ca.crt"),
        ("--auth-token-file", "tokens"),
    ];
    let answers = Broker::start(&flags).ask();
    let [nothing, certificate, token, both] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_refused(nothing, 403, "Client certificate required");
    assert_refused(certificate, 401, "Unauthorized");
    assert_refused(token, 403, "Client certificate required");
    assert_eq!(*both, served());
}
