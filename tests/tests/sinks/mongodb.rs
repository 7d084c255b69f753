//! The MongoDB sink: the official driver, and `mongodb_server` for what it writes to.

use std::time::Duration;

use akri_mqtt_tests::certificates::Authority;
use bson::{Bson, doc};

use crate::broker::{Broker, TOPIC, assert_complete, numbers, until};
use crate::mongodb_server::{Fault, Server};

fn sink(server: &Server, options: &str) -> String {
    format!("mongodb://{}/plant?{options}", server.address)
}

fn errors(broker: &Broker, sink: &str, reason: &str) -> f64 {
    broker.metric(&format!(
        "sink_errors_total{{sink=\"{sink}\",reason=\"{reason}\"}}"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_are_documents_once_each_over_kills_of_both_sides() {
    let mut server = Server::start(None).await;
    // The first host is not there; the driver asks the second.
    let url = format!("mongodb://127.0.0.1:1,{}/plant", server.address);
    let mut broker = Broker::start(&[url], &[]).await;
    broker.publish(numbers(0..3_000));
    until("some arrive", || server.len() > 500).await;
    server.end().await;
    broker.publish(numbers(3_000..6_000));
    server.restart().await;
    until("it goes on", || server.len() > 3_500).await;
    broker.kill().await;
    broker.publish(numbers(6_000..10_000));
    until("it goes on again", || server.len() > 6_500).await;
    server.end().await;
    broker.kill().await;
    server.restart().await;
    until("all", || server.len() >= 10_000).await;
    until("caught up", || broker.metric("sink_lag_messages") == 0.0).await;
    assert_complete(&server.payloads(), 10_000);
    assert_eq!(server.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_have_the_fields_that_are_promised() {
    let server = Server::start(None).await;
    let url = sink(&server, "collection=robots&replicaSet=rs0");
    let broker = Broker::start(&[url], &[]).await;
    let payload =
        br#"{"temperature":21.5,"count":18446744073709551615,"a.b":{"$c":[true,null,-1]}}"#;
    broker.publish_bytes(TOPIC, payload);
    broker.publish_bytes(TOPIC, b"\xff\x00\xfe");
    until("both", || server.len() == 2).await;
    let state = server.state.lock().unwrap();
    let (first, second) = (&state.documents[0], &state.documents[1]);
    let meta = first.get_document("meta").unwrap();
    let store = meta.get_str("store_id").unwrap();
    let sequence = first.get_i64("sequence").unwrap();
    assert_eq!(first.get_str("_id").unwrap(), format!("{store}:{sequence}"));
    assert_eq!(
        meta,
        &doc! {"store_id": store, "device_id": "plant-a/r1", "topic": TOPIC}
    );
    let age =
        bson::DateTime::now().checked_duration_since(*first.get_datetime("received_at").unwrap());
    assert!(age.unwrap() < Duration::from_secs(600));
    assert_eq!(first.get_i32("qos").unwrap(), 1);
    assert!(!first.get_bool("retained").unwrap() && !first.get_bool("duplicate").unwrap());
    assert_eq!(first.get_binary_generic("payload").unwrap(), payload);
    let most = Bson::Decimal128("18446744073709551615".parse().unwrap());
    let json = doc! {"temperature": 21.5, "count": &most, "a.b": {"$c": [true, null, -1_i64]}};
    assert_eq!(
        serde_json::to_value(first.get_document("payload_json").unwrap()).unwrap(),
        serde_json::to_value(json).unwrap()
    );
    let readings = first.get_array("readings").unwrap();
    for reading in [
        doc! {"name": "/temperature", "value": 21.5},
        doc! {"name": "/count", "value": most},
    ] {
        assert!(readings.contains(&Bson::Document(reading)), "{readings:?}");
    }
    assert_eq!(
        second.get_binary_generic("payload").unwrap(),
        b"\xff\x00\xfe"
    );
    assert!(!second.contains_key("payload_json") && !second.contains_key("readings"));
    assert_eq!(second.get_i64("sequence").unwrap(), sequence + 1);
    let insert = &state.commands["insert"];
    assert_eq!(insert.get_str("insert").unwrap(), "robots");
    assert_eq!(insert.get_str("$db").unwrap(), "plant");
    assert!(!insert.get_bool("ordered").unwrap());
    assert_eq!(
        insert.get_document("writeConcern").unwrap(),
        &doc! {"w": "majority", "j": true}
    );
    let index = state.commands["createIndexes"]
        .get_array("indexes")
        .unwrap()[0]
        .as_document();
    let key = index.unwrap().get_document("key").unwrap();
    assert_eq!(
        key.keys().collect::<Vec<_>>(),
        ["meta.device_id", "received_at"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_is_sent_again_and_nothing_is_there_twice() {
    let server = Server::start(None).await;
    // The driver tries again once by itself.
    let not_primary = Fault::Command(10_107, "not primary");
    let not_allowed = Fault::Command(
        13,
        "not authorized on plant to execute command { insert: \"c\", documents: [ \"s3cret\" ] }",
    );
    server.state.lock().unwrap().faults.extend([
        not_primary,
        not_primary,
        Fault::WriteConcern,
        Fault::Cut,
        Fault::Cut,
        not_allowed,
        Fault::Slow(Duration::from_secs(20)),
    ]);
    let url = sink(&server, "name=plant&timeout=6s&linger=300ms");
    let broker = Broker::start(&[url], &[]).await;
    broker.publish(numbers(0..100));
    until("all", || server.state.lock().unwrap().faults.is_empty()).await;
    until("caught up", || broker.metric("sink_lag_messages") == 0.0).await;
    assert_complete(&server.payloads(), 100);
    assert_eq!(server.len(), 100);
    assert!(server.state.lock().unwrap().duplicates > 0);
    for reason in ["unavailable", "connection", "auth", "timeout"] {
        assert!(
            errors(&broker, "plant", reason) > 0.0,
            "{reason}: {}",
            broker.log()
        );
    }
    assert!(!broker.log().contains("s3cret"), "{}", broker.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_is_refused_goes_without_its_json_or_is_left_out_and_those_around_it_arrive() {
    let server = Server::start(None).await;
    {
        let mut state = server.state.lock().unwrap();
        state.refused_field = Some("poison");
        state.refused_payload = Some(b"twice");
    }
    let url = sink(&server, "linger=1s");
    let broker = Broker::start(&[url], &[]).await;
    let large = |bytes: usize| format!("\"{}\"", "x".repeat(bytes)).into_bytes();
    broker.publish(numbers(0..20));
    broker.publish_bytes(TOPIC, br#"{"poison":1}"#);
    broker.publish_bytes(TOPIC, b"twice");
    // Too large with its JSON, and too large at all.
    broker.publish_bytes(TOPIC, &large(60_000));
    broker.publish_bytes(TOPIC, &large(150_000));
    broker.publish(numbers(20..40));
    until("caught up", || {
        broker.metric("sink_sent_total") + broker.metric("sink_refused_total") == 44.0
    })
    .await;
    assert_eq!(broker.metric("sink_refused_total"), 2.0, "{}", broker.log());
    let log = broker.log();
    assert!(!log.contains("s3cret"), "{log}");
    assert_eq!(log.matches("sink refuses a message").count(), 2, "{log}");
    let state = server.state.lock().unwrap();
    let with_json = |document: &&bson::Document| document.contains_key("payload_json");
    assert_eq!(state.documents.len(), 42);
    assert_eq!(state.documents.iter().filter(with_json).count(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_checked_against_the_authority_of_the_file_and_no_password_is_shown() {
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let server = Server::start(Some(&good.server(&["localhost", "127.0.0.1"]))).await;
    let directory = tempfile::tempdir().unwrap();
    let url = |login: &str, name: &str, authority: &Authority| {
        let path = directory.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        let port = server.address.port();
        let file = path.display();
        format!("mongodb://{login}localhost:{port}/plant?tls=true&name={name}&ca-file={file}")
    };
    let sinks = [
        url("", "good", &good),
        url("", "other", &other),
        url("akri:s3cret@", "login", &good),
    ];
    let broker = Broker::start(&sinks, &[]).await;
    broker.publish(numbers(0..5));
    until("all", || {
        broker.metric("sink_sent_total{sink=\"good\"}") == 5.0
    })
    .await;
    until("refused", || errors(&broker, "other", "tls") > 0.0).await;
    until("wrong password", || errors(&broker, "login", "auth") > 0.0).await;
    until("log", || broker.log().contains("Authentication failed")).await;
    assert!(!broker.log().contains("s3cret"), "{}", broker.log());
    assert_eq!(broker.metric("sink_sent_total"), 5.0);
    let asked = &server.state.lock().unwrap().commands["saslStart"];
    assert!(!format!("{asked:?}").contains("s3cret"));
}
