//! The Redis sink.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use akri_mqtt_tests::certificates::Authority;
use akri_mqtt_tests::servers::Redis;

use crate::broker::{Broker, TOPIC, assert_complete, numbers, until};

fn sink(address: SocketAddr) -> String {
    format!("redis://{address}?stream=all&linger=5ms")
}

fn length(redis: &Redis) -> usize {
    let answer = redis.ask(&["XLEN", "all"]);
    answer
        .first()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The payloads of the stream, in order.
fn stream(redis: &Redis) -> Vec<u32> {
    let lines = redis.ask(&["XRANGE", "all", "-", "+"]);
    let messages = lines.iter().filter(|line| line.starts_with('{'));
    messages
        .map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            u32::try_from(message["payload"].as_u64().unwrap()).unwrap()
        })
        .collect()
}

fn latest(redis: &Redis) -> serde_json::Value {
    let answer = redis.ask(&["HGET", "akri-mqtt:latest:plant-a/r1", TOPIC]);
    let line = answer.first().map_or("null", String::as_str);
    serde_json::from_str(line).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_reach_redis_over_kills_of_both_sides() {
    let mut redis = Redis::start(&[]);
    let mut broker = Broker::start(&[sink(redis.address())], &[]).await;
    broker.publish(numbers(0..3_000));
    until("some arrive", || length(&redis) > 500).await;
    redis.kill();
    broker.publish(numbers(3_000..6_000));
    redis.restart();
    until("it goes on", || length(&redis) > 3_500).await;
    broker.kill().await;
    broker.publish(numbers(6_000..10_000));
    until("it goes on again", || length(&redis) > 6_500).await;
    redis.kill();
    broker.kill().await;
    redis.restart();
    until("all", || latest(&redis)["payload"] == 9_999).await;
    assert_complete(&stream(&redis), 10_000);
    until("caught up", || broker.metric("sink_lag_messages") == 0.0).await;
    assert_eq!(
        broker.metric("sink_lost_total") + broker.metric("sink_refused_total"),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_and_channel_have_the_message_of_the_api() {
    let redis = Redis::start(&[]);
    let broker = Broker::start(&[sink(redis.address())], &[]).await;
    let port = redis.address().port().to_string();
    let subscriber = std::process::Command::new("redis-cli")
        .args(["-p", &port, "--raw", "SUBSCRIBE", "akri-mqtt:messages"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("subscribed", || {
        redis
            .ask(&["PUBSUB", "NUMSUB", "akri-mqtt:messages"])
            .last()
            .is_some_and(|n| n == "1")
    })
    .await;
    broker.publish([r#"{"temperature":21.5}"#.to_owned()]);
    until("latest", || {
        latest(&redis)["payload"]["temperature"] == 21.5
    })
    .await;
    let message = latest(&redis);
    assert_eq!(message["device_id"], "plant-a/r1");
    assert_eq!(message["topic"], TOPIC);
    assert_eq!(message["readings"][0]["name"], "/temperature");
    let mut subscriber = subscriber;
    subscriber.kill().unwrap();
    let told = String::from_utf8(subscriber.wait_with_output().unwrap().stdout).unwrap();
    let told = told.lines().find(|line| line.starts_with('{')).unwrap();
    let told: serde_json::Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["cursor"], message["cursor"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_does_not_go_back_when_older_messages_are_sent_again() {
    let redis = Redis::start(&[]);
    let mut broker = Broker::start(&[sink(redis.address())], &[]).await;
    broker.publish(numbers(0..10));
    until("latest", || latest(&redis)["payload"] == 9).await;
    until("position", || broker.metric("sink_lag_messages") == 0.0).await;
    assert_eq!(broker.stop(), Some(0));
    // Another sink of the same store that begins again with the oldest.
    let order = redis.ask(&["HGET", "akri-mqtt:order:plant-a/r1", TOPIC]);
    let marked = latest(&redis)
        .to_string()
        .replace("\"payload\":9", "\"payload\":99");
    let _ = redis.ask(&["HSET", "akri-mqtt:latest:plant-a/r1", TOPIC, &marked]);
    let later = order[0].replacen(&order[0][20..40], "00000000000000000020", 1);
    let _ = redis.ask(&["HSET", "akri-mqtt:order:plant-a/r1", TOPIC, &later]);
    broker.add_sink(format!("{}&name=again&from=oldest", sink(redis.address())));
    broker.restart().await;
    until("sent again", || length(&redis) == 20).await;
    assert_eq!(latest(&redis)["payload"], 99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_password_is_said_without_the_password_and_the_right_one_is_taken_from_its_file() {
    let redis = Redis::start(&["--requirepass", "right-s3cret"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong-s3cret\n").unwrap();
    let url = format!(
        "redis://{}?password-file={}",
        redis.address(),
        file.path().display()
    );
    let broker = Broker::start(&[url], &[]).await;
    broker.publish(numbers(0..5));
    until("it fails", || broker.metric("sink_errors_total") > 0.0).await;
    until("log", || {
        broker.log().contains("sink fails and will try again")
    })
    .await;
    let log = broker.log();
    assert!(
        log.contains("reason=auth") && log.contains("authentication failed"),
        "{log}"
    );
    assert!(!log.contains("s3cret"), "{log}");
    // A failing sink is no reason to take the process out of service.
    broker.ready().await;
    std::fs::write(file.path(), "right-s3cret\n").unwrap();
    until("all", || broker.metric("sink_sent_total") == 5.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_checked_against_the_authority_of_the_file() {
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let redis = Redis::start_tls(&good.server(&["localhost"]));
    let directory = tempfile::tempdir().unwrap();
    let ca = |authority: &Authority, name: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        let port = redis.address().port();
        format!(
            "rediss://localhost:{port}?name={name}&ca-file={}",
            path.display()
        )
    };
    let sinks = [ca(&good, "good"), ca(&other, "other")];
    let broker = Broker::start(&sinks, &[]).await;
    broker.publish(numbers(0..5));
    until("all", || {
        broker.metric("sink_sent_total{sink=\"good\"}") == 5.0
    })
    .await;
    until("refused", || broker.log().contains("UnknownIssuer")).await;
    assert_eq!(broker.metric("sink_sent_total{sink=\"other\"}"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_redis_refuses_is_left_out_and_those_around_it_arrive() {
    let redis = Redis::start(&["--proto-max-bulk-len", "1mb"]);
    let broker = Broker::start(&[sink(redis.address())], &[]).await;
    redis_away(&redis, &broker, || {
        broker.publish(numbers(0..50));
        broker.publish_bytes("robots/r1/large", &vec![b'x'; 1_048_400]);
        broker.publish(numbers(50..100));
    });
    until("all", || latest(&redis)["payload"] == 99).await;
    assert_complete(&stream(&redis), 100);
    assert_eq!(broker.metric("sink_refused_total"), 1.0);
    assert_eq!(broker.log().matches("sink refuses a message").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_is_full_or_has_a_key_of_another_type_holds_the_sink() {
    let redis = Redis::start(&[]);
    let broker = Broker::start(&[sink(redis.address())], &[]).await;
    let _ = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    broker.publish(numbers(0..50));
    until("full", || broker.log().contains("reason=unavailable")).await;
    let _ = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    until("all", || length(&redis) == 50).await;
    let _ = redis.ask(&["DEL", "all"]);
    let _ = redis.ask(&["SET", "all", "x"]);
    broker.publish(numbers(50..100));
    until("wrong type", || {
        broker.log().contains("reason=configuration")
    })
    .await;
    let _ = redis.ask(&["DEL", "all"]);
    until("all", || stream(&redis).len() >= 50).await;
    assert_eq!(stream(&redis), (50..100).collect::<Vec<_>>());
    assert_eq!(broker.metric("sink_sent_total"), 100.0);
}

/// Lets messages wait, so that they are in one batch.
fn redis_away(redis: &Redis, broker: &Broker, publish: impl FnOnce()) {
    redis.freeze();
    broker.publish(["0".to_owned()]);
    publish();
    redis.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_is_away_for_long_holds_age_and_loses_only_what_there_is_no_room_for() {
    let mut redis = Redis::start(&[]);
    redis.kill();
    let limits = ["--retain-for", "1s", "--retain-bytes", "4MiB"];
    let broker = Broker::start(&[sink(redis.address())], &limits).await;
    broker.publish(numbers(0..1_000));
    // Retention looks every five seconds; what is too old stays, as it is not sent yet.
    until("retention has looked", || {
        broker.metric("sink_lag_seconds") >= 7.0
    })
    .await;
    assert_eq!(broker.metric("store_expired_total"), 0.0);
    assert_eq!(broker.metric("sink_lag_messages"), 1_000.0);
    let filler = "x".repeat(4_000);
    broker.publish(
        (1_000..4_000).map(|number| format!("{{\"n\":{number},\"filler\":\"{filler}\"}}")),
    );
    until("room was made", || {
        broker.metric("store_expired_total") > 1_000.0
    })
    .await;
    redis.restart();
    until("the last", || latest(&redis)["payload"]["n"] == 3_999).await;
    until("caught up", || broker.metric("sink_lag_messages") == 0.0).await;
    let (sent, lost) = (
        broker.metric("sink_sent_total"),
        broker.metric("sink_lost_total"),
    );
    assert!(lost >= 1_000.0, "{lost} lost");
    assert_eq!(sent + lost, 4_000.0);
    assert!(
        broker.log().contains("sink misses messages"),
        "{}",
        broker.log()
    );
    until("age deletes again", || {
        broker.metric("store_expired_total") == 4_000.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_stop_sends_what_is_ready() {
    let redis = Redis::start(&[]);
    let url = format!("redis://{}?stream=all&linger=1h", redis.address());
    let mut broker = Broker::start(&[url], &[]).await;
    broker.publish(numbers(0..100));
    until("stored", || broker.metric("store_messages_total") == 100.0).await;
    assert_eq!(length(&redis), 0);
    assert_eq!(broker.stop(), Some(0));
    assert_complete(&stream(&redis), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_redis_does_not_hold_ingestion_nor_the_stop() {
    let redis = Redis::start(&[]);
    let mut broker = Broker::start(&[sink(redis.address())], &[]).await;
    redis.freeze();
    broker.publish(numbers(0..10_000));
    until("stored", || {
        broker.metric("store_messages_total") == 10_000.0
    })
    .await;
    let stopped = Instant::now();
    assert_eq!(broker.stop(), Some(0));
    // In time, but for what a busy machine adds.
    assert!(stopped.elapsed() < Duration::from_secs(20));
    redis.thaw();
    broker.restart().await;
    until("all", || latest(&redis)["payload"] == 9_999).await;
    assert_complete(&stream(&redis), 10_000);
}
