//! Commands over both fronts to paho-mqtt devices on a real Mosquitto: responses, refusals, outages, bounds.

#![allow(clippy::indexing_slicing, clippy::too_many_lines, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use akri_mqtt_proto::monitoring as pb;
use pb::monitoring_client::MonitoringClient;
use serde_json::{Value, json};
use support::{Broker, Mosquitto, Responder, eventually};
use tonic::Code;
use tonic::transport::Channel;

const TOPIC: &str = "robots/r1/cmd";
const ALLOW: [&str; 2] = ["--allow-publish", "robots/{device}/cmd"];

async fn client(broker: &Broker) -> MonitoringClient<Channel> {
    let channel = Channel::from_shared(format!("http://{}", broker.grpc)).unwrap();
    MonitoringClient::new(channel.connect().await.unwrap())
}

fn request(payload: &'static str) -> pb::PublishRequest {
    pb::PublishRequest {
        device_id: "plant/r1".to_owned(),
        topic: TOPIC.to_owned(),
        payload: payload.as_bytes().into(),
        ..pb::PublishRequest::default()
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// An object with the fields of another one.
fn with(mut object: Value, more: &Value) -> Value {
    let fields = more.as_object().unwrap().clone();
    object.as_object_mut().unwrap().extend(fields);
    object
}

#[track_caller]
fn assert_says(problem: &Value, words: &str) {
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{problem}");
}

fn text_of(base64: &Value) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64.as_str().unwrap());
    String::from_utf8(bytes.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn device_answers_a_command_and_its_response_is_no_data() {
    let server = Mosquitto::start("", "");
    let device = Responder::start(&server, TOPIC, 5);
    let broker = Broker::start(&server, &ALLOW);
    let body = json!({"topic": TOPIC, "payload": {"wrong": true, "secret": 4711}, "expect_response": true, "timeout": 20});
    let (status, answer) = broker.command(&body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["no_subscribers"], false);
    let response = &answer["response"];
    assert_eq!(
        response["payload"]["echo"],
        r#"{"secret":4711,"wrong":true}"#
    );
    assert_eq!(response["content_type"], "application/json");
    assert_eq!(response["device_id"], "plant/r1");
    assert!(response.get("cursor").is_none() && response.get("sequence").is_none());
    assert_eq!(response["readings"][0]["name"], "/echo");

    let mut asked = request("over gRPC");
    asked.expect_response = seconds(20);
    let answer = client(&broker)
        .await
        .publish(asked)
        .await
        .unwrap()
        .into_inner();
    let response = answer.response.unwrap();
    assert_eq!(response.payload, r#"{"echo": "over gRPC"}"#);
    assert_eq!((response.sequence, response.cursor.as_str()), (0, ""));

    let commands = device.commands();
    let topic = commands[0]["response_topic"].as_str().unwrap();
    assert!(
        topic.starts_with("akri-mqtt/responses/") && topic.contains("-pod-0-"),
        "{topic}"
    );
    assert_eq!(commands[0]["correlation_bytes"], 16);
    assert_eq!(commands[0]["qos"], 1);

    // Responses are on no topic of the device.
    let (_, messages) = broker.get("/v1/devices/plant%2Fr1/messages");
    assert!(!messages.contains("echo"), "{messages}");
    assert_eq!(
        broker.metric("akri_mqtt_commands_total{result=\"answered\"}"),
        2.0
    );
    assert_eq!(
        broker.metric("akri_mqtt_command_responses_dropped_total"),
        1.0
    );
    assert_eq!(broker.metric("akri_mqtt_commands_waiting"), 0.0);
    assert_eq!(broker.metric("akri_mqtt_command_seconds_count"), 2.0);
    let audit = broker.logs("command", 2);
    let fields = &audit[0];
    assert_eq!(fields["outcome"], "answered");
    assert_eq!(fields["device"], "\"plant/r1\"");
    assert_eq!(fields["topic"], format!("{TOPIC:?}"));
    assert_eq!((&fields["qos"], &fields["bytes"]), (&json!(1), &json!(28)));
    for line in &audit {
        let peer = line["peer"].as_str().unwrap();
        assert!(peer.starts_with("127.0.0.1:"), "{line}");
    }
    let log = broker.log.all().join("\n");
    assert!(!log.contains("4711") && !log.contains("over gRPC"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_command_says_reaches_the_device() {
    let server = Mosquitto::start("", "");
    let device = Responder::start(&server, TOPIC, 5);
    let broker = Broker::start(&server, &ALLOW);
    let bodies = [
        json!({"topic": TOPIC, "payload": "text \"quoted\" grün", "qos": 0}),
        json!({"topic": TOPIC, "payload": null, "qos": 1}),
        json!({"topic": TOPIC, "payload_base64": "AAH/", "qos": 2, "content_type": "image/x",
               "user_properties": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}),
    ];
    for body in &bodies {
        let (status, answer) = broker.command(body);
        assert_eq!((status, answer), (200, json!({"no_subscribers": false})));
    }
    // A device hears of QoS 2 later than of QoS 1 that comes after it.
    eventually("three commands", || device.commands().len() == 3);
    // Numbers are sent as they were written.
    let raw = format!(r#"{{"topic": "{TOPIC}", "payload": [1.50, 12345678901234567890123]}}"#);
    assert_eq!(
        broker
            .post("plant%2Fr1", "application/json; charset=utf-8", &raw)
            .0,
        200
    );
    eventually("four commands", || device.commands().len() == 4);
    let commands = device.commands();
    assert_eq!(text_of(&commands[0]["payload"]), "text \"quoted\" grün");
    assert_eq!(text_of(&commands[1]["payload"]), "null");
    assert_eq!(commands[2]["payload"], "AAH/");
    assert_eq!(
        text_of(&commands[3]["payload"]),
        "[1.50, 12345678901234567890123]"
    );
    let qos: Vec<_> = commands
        .iter()
        .map(|command| command["qos"].as_u64().unwrap())
        .collect();
    assert_eq!(qos, [0, 1, 2, 1]);
    assert_eq!(commands[2]["content_type"], "image/x");
    assert_eq!(commands[2]["user"], json!([["a", "1"], ["a", "2"]]));
    assert!(commands[2]["response_topic"].is_null());
    let retained = json!({"topic": TOPIC, "payload": "kept", "retain": true});
    assert_eq!(broker.command(&retained).0, 200);
    let follower = server.follow(TOPIC);
    eventually("it is retained", || {
        follower
            .heard()
            .iter()
            .any(|(_, payload)| payload == "kept")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_or_wrong_is_refused_alike_by_both_fronts() {
    let server = Mosquitto::start("", "");
    let everything = [
        "--allow-publish",
        "robots/{device}/cmd/#",
        "--allow-publish",
        "lamps/+/set",
    ];
    let mut broker = Broker::start(&server, &everything);
    let mut grpc = client(&broker).await;
    let cases = [
        ("plant/r1", "robots/r1/cmd/stop", 0, 200, Code::Ok),
        ("plant/r1", "lamps/hall/set", 1, 200, Code::Ok),
        (
            "plant/r1",
            "robots/r2/cmd/stop",
            1,
            403,
            Code::PermissionDenied,
        ),
        (
            "plant/r1",
            "akri-mqtt/monitors/x",
            1,
            403,
            Code::PermissionDenied,
        ),
        ("plant/r1", "$SYS/x", 1, 403, Code::PermissionDenied),
        ("plant/r1", "lamps/+/set", 1, 400, Code::InvalidArgument),
        ("plant/r1", "", 1, 400, Code::InvalidArgument),
        ("plant/r1", "lamps/a/set", 3, 400, Code::InvalidArgument),
        ("plant/r9", "lamps/a/set", 1, 404, Code::NotFound),
    ];
    for (device, topic, qos, status, code) in cases {
        let path = device.replace('/', "%2F");
        let found = broker.command_for(&path, &json!({"topic": topic, "payload": "x", "qos": qos}));
        assert_eq!(found.0, status, "{topic} {}", found.1);
        let mut asked = request("x");
        (asked.device_id, asked.topic, asked.qos) =
            (device.to_owned(), topic.to_owned(), Some(qos));
        let found = grpc.publish(asked).await;
        let found = found.err().map_or(Code::Ok, |status| status.code());
        assert_eq!(found, code, "{topic}");
    }
    let (_, problem) = broker.command(&json!({"topic": "robots/r2/cmd/stop", "payload": "x"}));
    assert_eq!(problem["type"], "urn:akri-mqtt:problem:topic-not-allowed");
    assert_says(
        &problem,
        "allowed: robots/{device}/cmd/#, lamps/+/set, and nothing below akri-mqtt/",
    );
    for (kind, body, status, word) in [
        ("text/plain", "{}", 415, "application/json"),
        (
            "application/json",
            "{",
            400,
            "allowed: an object with topic",
        ),
        (
            "application/json",
            r#"{"topic":"a","payload":1,"nonsense":2}"#,
            400,
            "nonsense",
        ),
        (
            "application/json",
            r#"{"topic":"lamps/a/set"}"#,
            400,
            "found neither",
        ),
        (
            "application/json",
            r#"{"topic":"lamps/a/set","payload":1,"payload_base64":"AA=="}"#,
            400,
            "one of the two",
        ),
        (
            "application/json",
            r#"{"topic":"lamps/a/set","payload_base64":"?"}"#,
            400,
            "base64",
        ),
        (
            "application/json",
            r#"{"topic":"lamps/a/set","payload":1,"timeout":0}"#,
            400,
            "at most 300s",
        ),
        (
            "application/json",
            r#"{"topic":"lamps/a/set","payload":1,"timeout":301}"#,
            400,
            "at most 300s",
        ),
        (
            "application/json",
            r#"{"topic":"lamps/a/set","payload":1,"timeout":-1}"#,
            400,
            "more than 0",
        ),
    ] {
        let (found, problem) = broker.post("plant%2Fr1", kind, body);
        assert_eq!(found, status, "{body}: {problem}");
        assert_says(&problem, word);
    }
    // The same data, another device: the first one is only history now.
    broker.stop();
    broker.set_flags(&[&everything[..], &["--device-id", "plant/r2"]].concat());
    broker.restart();
    let (status, problem) = broker.command(&json!({"topic": "robots/r1/cmd/stop", "payload": "x"}));
    assert_eq!(status, 409, "{problem}");
    broker.stop();
    broker.set_flags(&[]);
    broker.restart();
    let (status, problem) = broker.command(&json!({"topic": "robots/r1/cmd/stop", "payload": "x"}));
    assert_eq!(
        (status, &problem["type"]),
        (403, &json!("urn:akri-mqtt:problem:publishing-off"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_mqtt_3_1_1_commands_go_out_but_a_response_cannot_be_asked_for() {
    let server = Mosquitto::start("", "");
    let device = Responder::start(&server, TOPIC, 4);
    let session = [("MQTT_SESSION", r#"{"version": "3.1.1"}"#)];
    let broker = Broker::start_with(&server, &ALLOW, &session);
    for qos in 0..=2 {
        let (status, answer) =
            broker.command(&json!({"topic": TOPIC, "payload": "go", "qos": qos}));
        assert_eq!(status, 200, "{answer}");
    }
    eventually("three commands", || device.commands().len() == 3);
    for extra in [
        json!({"expect_response": true}),
        json!({"content_type": "x"}),
    ] {
        let body = json!({"topic": TOPIC, "payload": "go"});
        let (status, problem) = broker.command(&with(body, &extra));
        assert_eq!(status, 409, "{problem}");
        assert_says(&problem, "speaks MQTT 3.1.1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_or_cannot_do_is_said_in_words() {
    let acl = "topic read #\ntopic write akri-mqtt/#\ntopic write robots/r1/cmd/good\n";
    let lines = "acl_file ACL\nmax_packet_size 2000\nmax_qos 1\nretain_available false";
    let server = Mosquitto::start(lines, acl);
    let broker = Broker::start(&server, &["--allow-publish", "robots/#"]);
    let small = |topic: &str| json!({"topic": topic, "payload": "x"});
    let (status, problem) = broker.command(&small("robots/r1/cmd/bad"));
    assert_eq!(status, 403, "{problem}");
    assert_says(&problem, "not authorised (0x87)");
    assert_eq!(
        broker.metric("akri_mqtt_commands_total{result=\"denied\"}"),
        1.0
    );
    for (extra, word) in [
        (json!({"qos": 2}), "at most QoS 1"),
        (json!({"retain": true}), "keeps no retained messages"),
        (
            json!({"payload": "x".repeat(3_000)}),
            "the server allows 2000",
        ),
    ] {
        let body = small("robots/r1/cmd/good");
        let (status, problem) = broker.command(&with(body, &extra));
        assert_eq!(status, 409, "{problem}");
        assert_says(&problem, word);
    }
    assert_eq!(broker.command(&small("robots/r1/cmd/good")).0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_subscribed_is_a_success_that_is_said() {
    let server = Mosquitto::start("", "");
    let broker = Broker::start(&server, &["--allow-publish", "nobody"]);
    let (status, answer) = broker.command(&json!({"topic": "nobody", "payload": "x"}));
    assert_eq!((status, answer), (200, json!({"no_subscribers": true})));
    let body = json!({"topic": "nobody", "payload": "x", "expect_response": true, "timeout": 0.5});
    let (status, problem) = broker.command(&body);
    assert_eq!(status, 504, "{problem}");
    assert_says(&problem, "nobody subscribes");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_responses_are_counted_and_dropped() {
    let server = Mosquitto::start("", "");
    let _device = Responder::start(&server, TOPIC, 5);
    let broker = Broker::start(&server, &ALLOW);
    let mut asked = request(r#"{"delay": 1.5}"#);
    asked.expect_response = Some(prost_types::Duration {
        seconds: 0,
        nanos: 500_000_000,
    });
    let error = client(&broker).await.publish(asked).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    let dropped = "akri_mqtt_command_responses_dropped_total";
    assert_eq!(broker.metric(dropped), 0.0);
    eventually("the late response is dropped", || {
        broker.metric(dropped) == 1.0
    });
    assert_eq!(
        broker.metric("akri_mqtt_commands_total{result=\"timeout\"}"),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_the_server_is_said_and_nothing_is_sent_later() {
    let mut server = Mosquitto::start("", "");
    let broker = Broker::start(&server, &ALLOW);
    let body = |payload: &str| json!({"topic": TOPIC, "payload": payload, "timeout": 1});
    server.freeze();
    let began = Instant::now();
    let (status, problem) = broker.command(&body("frozen"));
    assert_eq!(status, 504, "{problem}");
    // Not the 30 s that hold for a command without a time-out.
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_says(&problem, "may still have arrived");
    // Killed while a command waits for its answer.
    let (status, problem) = std::thread::scope(|scope| {
        let waits = scope
            .spawn(|| broker.command(&json!({"topic": TOPIC, "payload": "cut", "timeout": 20})));
        eventually("it waits", || {
            broker.metric("akri_mqtt_commands_waiting") == 1.0
        });
        server.kill();
        waits.join().unwrap()
    });
    assert_eq!(status, 503, "{problem}");
    for payload in ["gone-1", "gone-2"] {
        let (status, problem) = broker.command(&body(payload));
        assert_eq!(status, 503, "{problem}");
        assert_says(&problem, "nothing was sent");
    }
    server.restart();
    let follower = server.follow(TOPIC);
    eventually("commands go out again", || {
        broker.command(&body("back")).0 == 200
    });
    let heard = follower.heard();
    assert!(
        heard.iter().all(|(_, payload)| payload == "back"),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_commands_at_a_time_are_bounded() {
    let server = Mosquitto::start("", "");
    let broker = Broker::start(&server, &ALLOW);
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(client(&broker).await);
    }
    server.freeze();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..2_000 {
        let mut client = clients[number % 10].clone();
        let mut asked = request("x");
        asked.timeout = seconds(300);
        running.spawn(async move { client.publish(asked).await.map_err(|status| status.code()) });
    }
    for _ in 0..976 {
        let refused = running.join_next().await.unwrap().unwrap();
        assert_eq!(refused.unwrap_err(), Code::ResourceExhausted);
    }
    let waiting = || broker.metric("akri_mqtt_commands_waiting");
    eventually("the others wait", || waiting() == 1_024.0);
    server.thaw();
    while let Some(sent) = running.join_next().await {
        sent.unwrap().unwrap();
    }
    assert_eq!(waiting(), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_that_goes_away_leaves_its_place_and_a_line_in_the_log() {
    let server = Mosquitto::start("", "");
    let _device = Responder::start(&server, TOPIC, 5);
    let broker = Broker::start(&server, &ALLOW);
    let mut asked = request(r#"{"silent": true}"#);
    asked.expect_response = seconds(60);
    let mut client = client(&broker).await;
    let call = tokio::spawn(async move { client.publish(asked).await });
    let waiting = "akri_mqtt_commands_waiting";
    eventually("it waits", || broker.metric(waiting) == 1.0);
    call.abort();
    eventually("it no longer waits", || broker.metric(waiting) == 0.0);
    let outcomes = broker.logs("command", 1);
    assert_eq!(outcomes[0]["outcome"], "caller_gone");
}
