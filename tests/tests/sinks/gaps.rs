//! Messages that retention deleted before a sink could send them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use akri_mqtt_tests::servers::Redis;
use serde_json::Value;

use crate::broker::{Broker, until};
use crate::http::Receiver;

/// From, to and reason.
fn gap(value: &Value) -> Option<(u64, u64, String)> {
    let reason = value["reason"].as_str()?.to_owned();
    Some((value["from"].as_u64()?, value["to"].as_u64()?, reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_retention_deleted_are_told_to_redis_and_http() {
    let redis = Redis::start(&[]);
    let mut receiver = Receiver::start().await;
    let port = redis.address().port().to_string();
    let mut subscriber = Command::new("redis-cli")
        .args(["-p", &port, "--raw", "SUBSCRIBE", "akri-mqtt:gaps"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("subscribed", || {
        let answer = redis.ask(&["PUBSUB", "NUMSUB", "akri-mqtt:gaps"]);
        answer.last().is_some_and(|n| n == "1")
    })
    .await;
    let sinks = [
        format!("redis://{}?name=redis&batch=50", redis.address()),
        receiver.url("name=http&batch=50"),
    ];
    let broker = Broker::start(&sinks, &["--retain-bytes", "4MiB"]).await;
    receiver.end().await;
    redis.freeze();
    let filler = "x".repeat(4_000);
    broker.publish((0..2_500).map(|number| format!("{{\"n\":{number},\"filler\":\"{filler}\"}}")));
    until("room was made", || {
        broker.metric("store_expired_total") > 500.0
    })
    .await;
    redis.thaw();
    receiver.restart().await;
    until("caught up", || broker.metric("sink_lag_messages") == 0.0).await;
    subscriber.kill().unwrap();
    let told = String::from_utf8(subscriber.wait_with_output().unwrap().stdout).unwrap();
    let redis: BTreeSet<_> = told
        .lines()
        .filter_map(|line| gap(&serde_json::from_str(line).ok()?))
        .collect();
    let seen = receiver.seen.lock().unwrap();
    let http: BTreeSet<_> = seen.events.iter().filter_map(gap).collect();
    for (sink, gaps) in [("redis", redis), ("http", http)] {
        let missing: u64 = gaps.iter().map(|(from, to, _)| to - from + 1).sum();
        let lost = broker.metric(&format!("sink_lost_total{{sink=\"{sink}\"}}"));
        assert!(missing >= 500, "{sink}: {gaps:?}");
        assert_eq!(missing.to_string(), lost.to_string(), "{sink}: {gaps:?}");
        let reason = "Retention has deleted these messages.";
        assert!(gaps.iter().all(|(_, _, why)| why == reason), "{gaps:?}");
        let sent = broker.metric(&format!("sink_sent_total{{sink=\"{sink}\"}}"));
        assert_eq!(sent + lost, 2_500.0, "{sink}");
    }
    let bodies = seen.requests.iter();
    let types = bodies.filter(|(_, body)| {
        let text = String::from_utf8_lossy(body);
        text.contains("sh.akri.mqtt.gap.v1") && text.contains("\"source\":\"/v1/stream\"")
    });
    assert!(types.count() > 0);
}
