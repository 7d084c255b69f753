//! The gRPC front over real sockets: every call, health, reflection, errors.

use akri_mqtt_proto::monitoring as pb;
use pb::monitoring_client::MonitoringClient;
use pb::{watch_request, watch_response};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::*;
use crate::access::PortName;
use crate::api::testing::{Bench, DEADLINE, START, listener, open_port};
use crate::devices::State;

struct Server {
    bench: Bench,
    health: Health,
    channel: Channel,
    client: MonitoringClient<Channel>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start() -> Server {
    let bench = Bench::new();
    let (listener, address) = listener().await;
    let health = Health::new();
    let (port, gate) = open_port(PortName::Grpc, listener);
    let task = tokio::spawn(run(port, bench.service.clone(), health.clone(), gate));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    Server {
        bench,
        health,
        client: MonitoringClient::new(channel.clone()),
        channel,
        task,
    }
}

const ID: &str = "plant-a/r1";

#[tokio::test]
async fn devices_and_latest_messages_carry_presence() {
    let mut server = start().await;
    server
        .bench
        .send("r1", "a/b", r#"{"t":21.5,"n":18446744073709551615}"#)
        .await;
    let devices = server
        .client
        .list_devices(pb::ListDevicesRequest::default())
        .await;
    let devices = devices.unwrap().into_inner().devices;
    assert_eq!(
        devices.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(),
        [ID, "plant-a/r2"]
    );
    let presence = devices[0].presence.clone().unwrap();
    assert_eq!(presence.state(), pb::PresenceState::Online);
    assert_eq!(
        presence.last_message_at.unwrap().seconds,
        START / 1_000_000_000
    );
    let request = pb::GetLatestRequest {
        device_id: ID.to_owned(),
        topic_filter: "a/+".to_owned(),
    };
    let latest = server
        .client
        .get_latest(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(latest.presence, Some(presence));
    let message = &latest.messages[0];
    assert_eq!(
        (message.sequence, message.topic.as_str(), message.qos),
        (1, "a/b", 1)
    );
    assert!(message.age_ms > 0);
    let values: Vec<_> = message
        .readings
        .iter()
        .map(|r| r.value.clone().unwrap().kind.unwrap())
        .collect();
    use pb::value::Kind::{DoubleValue, UintValue};
    assert_eq!(values, [UintValue(u64::MAX), DoubleValue(21.5)]);
}

#[tokio::test]
async fn history_and_readings_come_in_pages() {
    let mut server = start().await;
    for number in 0..6 {
        server.bench.send("r1", "t", number.to_string()).await;
    }
    let (mut payloads, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::QueryRequest {
            device_id: ID.to_owned(),
            order: pb::Order::Ascending.into(),
            limit: 4,
            page_token: token,
            ..pb::QueryRequest::default()
        };
        let page = server.client.query(request).await.unwrap().into_inner();
        payloads.extend(page.messages.into_iter().map(|message| message.payload));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(payloads, ["0", "1", "2", "3", "4", "5"]);
    let request = pb::QueryReadingsRequest {
        device_id: ID.to_owned(),
        name: Some(String::new()),
        min_value: Some(2.0),
        max_value: Some(3.0),
        ..pb::QueryReadingsRequest::default()
    };
    let page = server
        .client
        .query_readings(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        page.readings.iter().map(|r| r.sequence).collect::<Vec<_>>(),
        [4, 3]
    );
}

#[tokio::test]
async fn watch_sends_presence_then_stored_then_live_messages_and_gaps() {
    let mut server = start().await;
    server.bench.count(0..2).await;
    let request = pb::WatchRequest {
        include_presence: true,
        start: Some(watch_request::Start::Cursor("another:1".to_owned())),
        ..pb::WatchRequest::default()
    };
    let mut stream = server.client.watch(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    for round in 0..7 {
        if round == 5 {
            server.bench.count(2..3).await;
        } else if round == 6 {
            server.bench.set_state("plant-a/r2", State::Offline);
        }
        let event = timeout(DEADLINE, stream.message()).await.unwrap().unwrap();
        seen.push(match event.unwrap().event.unwrap() {
            watch_response::Event::Message(message) => message.cursor,
            watch_response::Event::Presence(change) => change.device_id,
            watch_response::Event::Gap(gap) => format!("gap {} {}", gap.from, gap.to),
            watch_response::Event::Position(position) => panic!("nobody asked for {position:?}"),
        });
    }
    let cursor = |sequence| server.bench.cursor(sequence);
    let expected = [
        "gap 0 0",
        ID,
        "plant-a/r2",
        &cursor(1),
        &cursor(2),
        &cursor(3),
        "plant-a/r2",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn errors_have_their_codes_and_name_the_field() {
    let mut server = start().await;
    let request = |device: &str, filter: &str| pb::GetLatestRequest {
        device_id: device.to_owned(),
        topic_filter: filter.to_owned(),
    };
    let unknown = server
        .client
        .get_latest(request("plant-a/none", ""))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let wrong = server
        .client
        .get_latest(request(ID, "a/#/b"))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(
        wrong.message().starts_with("topic_filter: found "),
        "{}",
        wrong.message()
    );
    let many = pb::ListDevicesRequest {
        page_size: 10_001,
        ..pb::ListDevicesRequest::default()
    };
    let many = server.client.list_devices(many).await.unwrap_err();
    assert_eq!(
        many.message(),
        "page_size: found 10001, allowed: 1 to 10000"
    );
}

#[tokio::test]
async fn devices_are_searched_and_counted_by_state() {
    let mut server = start().await;
    let request = pb::ListDevicesRequest {
        search: "R1".to_owned(),
        state: pb::PresenceState::Online.into(),
        ..pb::ListDevicesRequest::default()
    };
    let page = server.client.list_devices(request).await.unwrap();
    let page = page.into_inner();
    let ids: Vec<_> = page.devices.iter().map(|device| &device.id).collect();
    assert_eq!(ids, ["plant-a/r1"]);
    let counts = pb::DeviceCounts {
        online: 1,
        ..pb::DeviceCounts::default()
    };
    assert_eq!(page.counts, Some(counts));
    assert!(page.servers.iter().all(|server| server.connected));
    let request = pb::ListDevicesRequest {
        state: 9,
        ..pb::ListDevicesRequest::default()
    };
    let wrong = server.client.list_devices(request).await.unwrap_err();
    assert_eq!(wrong.message(), "state: found 9, allowed: a PresenceState");
}

#[tokio::test]
async fn wrong_times_and_orders_are_refused_and_publishing_is_off() {
    let mut server = start().await;
    let time = prost_types::Timestamp {
        seconds: 0,
        nanos: -1,
    };
    let request = pb::QueryRequest {
        device_id: ID.to_owned(),
        from: Some(time),
        ..Default::default()
    };
    let time = server.client.query(request).await.unwrap_err();
    assert!(
        time.message().starts_with("from: found 0 s and -1 ns"),
        "{}",
        time.message()
    );
    let request = pb::QueryRequest {
        device_id: ID.to_owned(),
        order: 7,
        ..Default::default()
    };
    assert_eq!(
        server.client.query(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let off = server
        .client
        .publish(pb::PublishRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (off.code(), off.message()),
        (
            Code::FailedPrecondition,
            "publishing is off; --allow-publish FILTER switches it on for some topics"
        )
    );
}

#[tokio::test]
async fn too_many_streams_and_too_large_requests_are_refused() {
    let mut server = start().await;
    let mut slots = Vec::new();
    while let Ok(slot) = server.bench.service.slot() {
        slots.push(slot);
    }
    let refused = server
        .client
        .watch(pb::WatchRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(slots);
    assert!(
        server
            .client
            .watch(pb::WatchRequest::default())
            .await
            .is_ok()
    );
    let large = pb::PublishRequest {
        payload: vec![0; 2 << 20].into(),
        ..Default::default()
    };
    let refused = server.client.publish(large).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
}

#[tokio::test]
async fn health_follows_readiness() {
    let server = start().await;
    let condition = server.health.condition("subscribed", "not yet");
    let mut client = HealthClient::new(server.channel.clone());
    let request = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let check = client.check(request("")).await.unwrap().into_inner();
    assert_eq!(
        check.status(),
        tonic_health::ServingStatus::NotServing.into()
    );
    let mut watch = client
        .watch(request(SERVICES[0]))
        .await
        .unwrap()
        .into_inner();
    let mut states = vec![watch.message().await.unwrap().unwrap().status];
    condition.ready("subscribed");
    states.push(
        timeout(DEADLINE, watch.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .status,
    );
    assert_eq!(states, [2, 1]);
    let unknown = client.check(request("x")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    let server = start().await;
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
    let list = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    let answers = client
        .server_reflection_info(tokio_stream::once(list))
        .await;
    let answer = answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("a list expected");
    };
    let mut names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    names.sort();
    assert_eq!(names, SERVICES);
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
    let symbol = SERVICES[0].to_owned();
    let file = v1alpha::ServerReflectionRequest {
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol),
        ),
        ..Default::default()
    };
    let answers = client
        .server_reflection_info(tokio_stream::once(file))
        .await;
    let answer = answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(
        answer.message_response,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
}

#[tokio::test]
async fn shutdown_ends_streams_and_the_server() {
    let mut server = start().await;
    let mut stream = server
        .client
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    server.bench.service.shutdown.trigger();
    assert!(
        timeout(DEADLINE, stream.message())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    timeout(DEADLINE, server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
