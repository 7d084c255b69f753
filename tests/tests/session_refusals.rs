//! What a server or a certificate can refuse: each a clear error without a secret, tried again with back-off.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::{sync::Arc, time::Duration};

use akri_mqtt_core::{
    credentials::{Credentials, Secret},
    details::{QoS, Scheme, ServerUrl, VersionChoice},
};
use akri_mqtt_session::{ErrorKind, MemoryState, Options, Publish, Subscription, Version};
use akri_mqtt_tests::{
    certificates::Authority,
    clients::{Publisher, Watched, eventually, options},
    mosquitto::{Config, Mosquitto, url},
    port::free_address,
    proxy::{Direction, OldServer, PacketType, Proxy},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECRET: &str = "correct-horse-battery";

fn named(name: &str, password: &str) -> Credentials {
    let password = Some(Secret::new(password.as_bytes()));
    Credentials {
        username: Some(name.to_owned()),
        password,
        ..Credentials::default()
    }
}

fn with(options: Options, credentials: Credentials) -> Watched {
    let wanted = vec![Subscription::new("x/#", QoS::AtLeastOnce)];
    Watched::start_with(options, wanted, credentials, Arc::new(MemoryState::new()))
}

/// Three failures of this kind, so that it is tried again; the last sentence.
async fn fails_with(watched: &mut Watched, kind: ErrorKind) -> String {
    watched
        .until("three failures", |watched| watched.errors.len() >= 3)
        .await;
    for (found, text) in &watched.errors {
        assert_eq!(*found, kind, "{text}");
        assert!(!text.contains(SECRET), "a secret in {text}");
    }
    let status = watched.handle.status().borrow().clone();
    assert!(!status.connected);
    assert!(status.counters.snapshot().connects[kind.label()] >= 3);
    watched.errors[2].1.clone()
}

#[tokio::test]
async fn wrong_password_is_named_and_the_right_one_connects() {
    let server = Mosquitto::start(Config::new().user("robot", "right"));
    for version in [VersionChoice::Auto, VersionChoice::V311] {
        let mut options = options(vec![server.url()], "password");
        options.version = version;
        let mut watched = with(options, named("robot", SECRET));
        let text = fails_with(&mut watched, ErrorKind::NotAuthorised).await;
        assert!(text.contains("MQTT_PASSWORD"), "{text}");
        watched.set_credentials(named("robot", "right"));
        watched.until_subscribed().await;
        watched.handle.close().await;
    }
}

#[tokio::test]
async fn client_without_credentials_is_not_authorised() {
    let server = Mosquitto::start(Config::new().user("robot", "right"));
    let mut watched = with(
        options(vec![server.url()], "anonymous"),
        Credentials::default(),
    );
    let text = fails_with(&mut watched, ErrorKind::NotAuthorised).await;
    assert!(text.contains("not authorised"), "{text}");
}

#[tokio::test]
async fn refused_filter_is_reported_and_the_others_work() {
    // Mosquitto's access lists act on messages; it refuses a SUBSCRIBE only by a malformed filter or a plug-in.
    // A server that answers 0x87 to one filter of three is played here.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, mut sizes) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0u8; 4096];
        let _ = stream.read(&mut buffer).await.unwrap();
        stream.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
        while let Ok(count) = stream.read(&mut buffer).await {
            if count == 0 {
                return;
            }
            if buffer[0] == 0x82 {
                // Every filter is 3 bytes and its length and options 3 more.
                let filters = (count - 5) / 6;
                seen.send(filters).await.unwrap();
                let mut reply = vec![
                    0x90,
                    3 + u8::try_from(filters).unwrap(),
                    buffer[2],
                    buffer[3],
                    0,
                ];
                reply.extend((0..filters).map(|n| if n == 1 { 0x87 } else { 1 }));
                stream.write_all(&reply).await.unwrap();
            }
        }
    });
    let mut options = options(vec![url(Scheme::Tcp, address)], "refused");
    options.version = VersionChoice::V5;
    let wanted = ["a/1", "a/2", "a/3"].map(|filter| Subscription::new(filter, QoS::AtLeastOnce));
    let mut watched = Watched::start(options, wanted.to_vec());
    watched.until_subscribed().await;
    assert_eq!(sizes.recv().await, Some(3));
    assert_eq!(
        watched.subscribed,
        [vec![("a/2".to_owned(), "not authorised (0x87)".to_owned())]]
    );
    assert_eq!(watched.handle.status().borrow().refused.len(), 1);
    assert_eq!(watched.connections, [false], "the connection stands");
}

#[tokio::test]
async fn invalid_filter_is_reported_and_the_others_work() {
    let server = Mosquitto::start(Config::new());
    let wanted = ["a/#/b", "good/#"].map(|filter| Subscription::new(filter, QoS::AtLeastOnce));
    let mut watched = Watched::start(options(vec![server.url()], "invalid"), wanted.to_vec());
    watched.until_subscribed().await;
    assert_eq!(watched.subscribed[0].len(), 1);
    assert_eq!(watched.subscribed[0][0].0, "a/#/b");
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish(Publish::new("good/x", "here", QoS::AtLeastOnce))
        .await;
    watched
        .until("a message", |watched| watched.messages.len() == 1)
        .await;
}

#[tokio::test]
async fn server_that_speaks_only_311_is_found_by_auto_and_named_by_5() {
    let server = Mosquitto::start(Config::new());
    for how in [OldServer::Refuses, OldServer::Closes] {
        let proxy = Proxy::start(server.address()).await.unwrap();
        proxy.speak_only_311(how);
        let mut watched = Watched::start(
            options(vec![url(Scheme::Tcp, proxy.address())], "old"),
            vec![Subscription::new("x", QoS::AtLeastOnce)],
        );
        watched.until_subscribed().await;
        assert_eq!(
            watched.handle.status().borrow().version,
            Some(Version::V311)
        );
        assert_eq!(watched.errors, []);
        watched.handle.close().await;
    }
    let proxy = Proxy::start(server.address()).await.unwrap();
    proxy.speak_only_311(OldServer::Refuses);
    let mut options = options(vec![url(Scheme::Tcp, proxy.address())], "new");
    options.version = VersionChoice::V5;
    let mut watched = with(options, Credentials::default());
    let text = fails_with(&mut watched, ErrorKind::UnsupportedVersion).await;
    assert!(text.contains("mqtt.version"), "{text}");
}

fn tls_server(
    certificate: akri_mqtt_tests::certificates::ServerCertificate,
    clients: Option<String>,
) -> (Mosquitto, ServerUrl) {
    let server = Mosquitto::start(Config::new().tls(certificate, clients));
    let mut address = url(Scheme::Tls, server.tls_address());
    address.host = "localhost".to_owned();
    (server, address)
}

fn trusting(authority: &Authority) -> Credentials {
    Credentials {
        ca_cert: Some(authority.pem().into_bytes()),
        ..Credentials::default()
    }
}

#[tokio::test]
async fn tls_with_own_authority_and_client_certificate_connects() {
    let authority = Authority::new("test authority");
    let (_server, url) = tls_server(authority.server(&["localhost"]), Some(authority.pem()));
    let client = authority.client("robot");
    let credentials = Credentials {
        client_cert: Some(client.certificate.into_bytes()),
        client_key: Some(Secret::new(client.key.as_bytes())),
        ..trusting(&authority)
    };
    let mut watched = with(options(vec![url.clone()], "tls"), credentials);
    watched.until_subscribed().await;
    assert_eq!(watched.errors, []);
    let mut without = with(options(vec![url], "tls-without"), trusting(&authority));
    fails_with(&mut without, ErrorKind::ClientCertificate).await;
}

#[tokio::test]
async fn websocket_over_tls_connects_and_carries_messages() {
    let authority = Authority::new("test authority");
    let config = Config::new()
        .tls(authority.server(&["localhost"]), None)
        .websockets();
    let server = Mosquitto::start(config);
    let mut address = url(Scheme::Wss, server.ws_address());
    address.host = "localhost".to_owned();
    let mut watched = with(options(vec![address], "wss"), trusting(&authority));
    watched.until_subscribed().await;
    let payload = "x".repeat(300_000);
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish(Publish::new("x/y", payload.clone(), QoS::AtLeastOnce))
        .await;
    watched
        .until("the message", |watched| !watched.messages.is_empty())
        .await;
    assert_eq!(watched.messages, [("x/y".to_owned(), payload)]);
    assert_eq!(watched.errors, []);
}

#[tokio::test]
async fn expired_certificate_is_named() {
    let authority = Authority::new("test authority");
    let (_server, url) = tls_server(authority.expired_server(&["localhost"]), None);
    let mut watched = with(options(vec![url], "expired"), trusting(&authority));
    let text = fails_with(&mut watched, ErrorKind::CertificateExpired).await;
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn certificate_of_another_host_is_named() {
    let authority = Authority::new("test authority");
    let (_server, url) = tls_server(authority.server(&["elsewhere.example"]), None);
    let mut watched = with(options(vec![url], "host"), trusting(&authority));
    let text = fails_with(&mut watched, ErrorKind::CertificateHost).await;
    assert!(text.contains("names other hosts"), "{text}");
}

#[tokio::test]
async fn unknown_authority_is_named_and_skipped_when_asked() {
    let authority = Authority::new("test authority");
    let (_server, url) = tls_server(authority.server(&["localhost"]), None);
    let other = Authority::new("another authority");
    let mut watched = with(options(vec![url.clone()], "issuer"), trusting(&other));
    let text = fails_with(&mut watched, ErrorKind::CertificateUnknownIssuer).await;
    assert!(text.contains("MQTT_CA_CERT"), "{text}");
    let mut careless = options(vec![url], "careless");
    careless.insecure_skip_verify = true;
    with(careless, Credentials::default())
        .until_subscribed()
        .await;
}

#[tokio::test]
async fn unknown_host_and_closed_port_are_named() {
    let nowhere = ServerUrl {
        scheme: Scheme::Tcp,
        host: "nowhere.invalid".to_owned(),
        port: 1883,
        path: String::new(),
    };
    let mut watched = with(options(vec![nowhere], "dns"), Credentials::default());
    let text = fails_with(&mut watched, ErrorKind::Dns).await;
    assert!(text.contains("nowhere.invalid"), "{text}");
    let closed = url(Scheme::Tcp, free_address());
    let mut watched = with(options(vec![closed], "closed"), Credentials::default());
    fails_with(&mut watched, ErrorKind::ConnectionRefused).await;
}

#[tokio::test]
async fn take_over_is_reported_and_makes_no_storm() {
    let server = Mosquitto::start(Config::new());
    for version in [VersionChoice::V5, VersionChoice::V311] {
        let proxy = Proxy::start(server.address()).await.unwrap();
        let mut options = options(
            vec![url(Scheme::Tcp, proxy.address())],
            &format!("taken-{version:?}"),
        );
        options.version = version;
        options.backoff.min = Duration::from_millis(100);
        options.backoff.max = Duration::from_secs(2);
        let mut first = with(options.clone(), Credentials::default());
        first.until_subscribed().await;
        let mut second = with(options, Credentials::default());
        tokio::join!(
            first.until("taken over", |watched| watched
                .failed_with(ErrorKind::TakenOver)),
            second.until("subscribed", |watched| !watched.subscribed.is_empty()),
        );
        let before = proxy.connections();
        tokio::join!(
            first.watch_for(Duration::from_secs(3)),
            second.watch_for(Duration::from_secs(3))
        );
        let more = proxy.connections() - before;
        assert!(more <= 12, "{more} connections in three seconds");
    }
}

#[tokio::test]
async fn garbage_from_the_server_ends_the_connection_with_a_reason() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for round in 0u8.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0u8; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = match round % 3 {
                0 => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
                1 => {
                    stream
                        .write_all(&[0x20, 3, 0, 0, 0, 0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
                        .await
                }
                _ => {
                    stream
                        .write_all(&[0x20, 3, 0, 0, 0, 0x36, 4, 0, 1, b'x', 0])
                        .await
                }
            };
            let _ = stream.read(&mut buffer).await;
        }
    });
    let mut options = options(vec![url(Scheme::Tcp, address)], "garbage");
    options.version = VersionChoice::V5;
    let mut watched = with(options, Credentials::default());
    watched
        .until("six failures", |watched| watched.errors.len() >= 6)
        .await;
    assert!(
        watched
            .errors
            .iter()
            .all(|(kind, _)| *kind == ErrorKind::Protocol),
        "{:?}",
        watched.errors
    );
}

#[tokio::test]
async fn close_keeps_the_session_and_says_goodbye() {
    let server = Mosquitto::start(Config::new());
    let proxy = Proxy::start(server.address()).await.unwrap();
    let options = options(vec![url(Scheme::Tcp, proxy.address())], "goodbye");
    let mut watched = with(options.clone(), Credentials::default());
    watched.until_subscribed().await;
    watched.handle.close().await;
    eventually("DISCONNECT", || async {
        proxy.packets(Direction::ToServer, PacketType::Disconnect) == 1
    })
    .await;
    let publisher = Publisher::connect(server.url()).await;
    publisher
        .publish(Publish::new("x/y", "while away", QoS::AtLeastOnce))
        .await;
    let mut again = with(options, Credentials::default());
    again
        .until("the message", |watched| !watched.messages.is_empty())
        .await;
    assert_eq!(again.connections, [true]);
    assert!(
        again
            .handle
            .publish(Publish::new("a/+", "x", QoS::AtLeastOnce))
            .await
            .is_err()
    );
}
