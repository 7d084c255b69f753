//! The PostgreSQL sink.

use akri_mqtt_tests::certificates::Authority;
use akri_mqtt_tests::servers::Postgres;

use crate::broker::{Broker, TOPIC, assert_complete, numbers, until};

const READINGS: &str = "readings-table=akri_mqtt_readings";

fn sink(postgres: &Postgres, options: &str) -> String {
    format!(
        "postgres://akri:pass%2Fword@{}/postgres?{options}",
        postgres.address()
    )
}

fn count(postgres: &Postgres, table: &str) -> usize {
    let rows = postgres.try_ask(&format!("SELECT count(*) FROM {table}"));
    rows.and_then(|rows| rows.first()?.parse().ok())
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_are_rows_once_each_over_kills_of_both_sides() {
    let mut postgres = Postgres::start(None);
    let mut broker = Broker::start(&[sink(&postgres, READINGS)], &[]).await;
    broker.publish(numbers(0..3_000));
    until("some arrive", || {
        count(&postgres, "akri_mqtt_messages") > 500
    })
    .await;
    postgres.kill();
    broker.publish(numbers(3_000..6_000));
    postgres.restart();
    until("it goes on", || {
        count(&postgres, "akri_mqtt_messages") > 3_500
    })
    .await;
    broker.kill().await;
    broker.publish(numbers(6_000..10_000));
    until("it goes on again", || {
        count(&postgres, "akri_mqtt_messages") > 6_500
    })
    .await;
    postgres.kill();
    broker.kill().await;
    postgres.restart();
    until("all", || count(&postgres, "akri_mqtt_messages") >= 10_000).await;
    until("caught up", || broker.metric("sink_lag_messages") == 0.0).await;
    let rows = postgres.ask("SELECT payload_json FROM akri_mqtt_messages ORDER BY sequence");
    let rows: Vec<u32> = rows.iter().map(|row| row.parse().unwrap()).collect();
    assert_complete(&rows, 10_000);
    assert_eq!(count(&postgres, "akri_mqtt_readings"), rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_have_types_and_whatever_a_device_sends_has_a_row() {
    let postgres = Postgres::start(None);
    let broker = Broker::start(&[sink(&postgres, READINGS)], &[]).await;
    let payloads: [&[u8]; 7] = [
        br#"{"temperature":21.5,"on":true,"count":9223372036854775807,"mode":"a\tb"}"#,
        b"\xff\x00\xfe",
        br#"{"text":"a\u0000b"}"#,
        b"a\0b",
        br#"{"huge":1e999999}"#,
        b"'; DROP TABLE akri_mqtt_messages; --\\.\n\\N",
        b"last",
    ];
    for payload in payloads {
        broker.publish_bytes(TOPIC, payload);
    }
    until("all", || {
        count(&postgres, "akri_mqtt_messages") == payloads.len()
    })
    .await;
    let rows =
        postgres.ask("SELECT encode(payload, 'hex') FROM akri_mqtt_messages ORDER BY sequence");
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    assert_eq!(rows, payloads.map(hex));
    let first = "SELECT device_id, topic, qos, retained, payload_json->>'on', readings->'/count', \
                 received_at > now() - interval '10 minutes' FROM akri_mqtt_messages ORDER BY sequence LIMIT 1";
    assert_eq!(
        postgres.ask(first),
        ["plant-a/r1|robots/r1/x|1|f|true|9223372036854775807|t"]
    );
    let readings = "SELECT name, number, integer, text, boolean FROM akri_mqtt_readings \
                    WHERE sequence = (SELECT min(sequence) FROM akri_mqtt_messages) ORDER BY name";
    assert_eq!(
        postgres.ask(readings),
        [
            "/count|9.223372036854776e+18|9223372036854775807||",
            "/mode|||a\tb|",
            "/on||||t",
            "/temperature|21.5|||",
        ]
    );
    assert_eq!(broker.metric("sink_refused_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_table_holds_the_sink_until_it_is_there() {
    let postgres = Postgres::start(None);
    let url = sink(&postgres, "create=false&table=plant.messages");
    let broker = Broker::start(&[url], &[]).await;
    broker.publish(numbers(0..5));
    until("it is said", || {
        broker.log().contains("reason=configuration")
    })
    .await;
    assert!(broker.log().contains("42P01"), "{}", broker.log());
    let _ = postgres.ask("CREATE SCHEMA plant");
    let columns = "store_id text, sequence bigint, received_at timestamptz, device_id text, topic text, \
                   qos smallint, retained boolean, duplicate boolean, payload bytea, payload_json jsonb, \
                   readings jsonb, content_type text, response_topic text, correlation_data bytea, \
                   user_properties jsonb, extra int DEFAULT 7, PRIMARY KEY (store_id, sequence)";
    let _ = postgres.ask(&format!("CREATE TABLE plant.messages({columns})"));
    until("all", || count(&postgres, "plant.messages") == 5).await;
    assert_eq!(broker.metric("sink_refused_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_password_is_said_without_the_password() {
    let postgres = Postgres::start(None);
    let url = format!(
        "postgres://akri:wrong-s3cret@{}/postgres",
        postgres.address()
    );
    let broker = Broker::start(&[url], &[]).await;
    broker.publish(numbers(0..5));
    until("it is said", || broker.log().contains("reason=auth")).await;
    let log = broker.log();
    assert!(
        log.contains("password authentication failed") && !log.contains("s3cret"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_checked_against_the_authority_of_the_file() {
    let authority = Authority::new("good");
    let postgres = Postgres::start(Some(&authority.server(&["localhost"])));
    let _ = postgres.ask("CREATE TABLE seen(ssl boolean)");
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), authority.pem()).unwrap();
    let port = postgres.address().port();
    let url = |name: &str, file: &str| {
        format!(
            "postgres://akri:pass%2Fword@localhost:{port}/postgres?sslmode=verify-full&name={name}{file}"
        )
    };
    let good = url("good", &format!("&ca-file={}", ca.path().display()));
    let broker = Broker::start(&[good, url("system", "")], &[]).await;
    broker.publish(numbers(0..5));
    until("all", || {
        broker.metric("sink_sent_total{sink=\"good\"}") == 5.0
    })
    .await;
    until("refused", || {
        broker.metric("sink_errors_total{sink=\"system\",reason=\"tls\"}") > 0.0
    })
    .await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name LIKE 'akri-mqtt%'";
    assert_eq!(postgres.ask(encrypted), ["1"]);
}
