//! Between the service and gRPC's messages. In: requests, views, errors. Out: checked queries, responses, statuses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::decode;
use akri_mqtt_proto::monitoring as pb;
use jiff::Timestamp;
use pb::value::Kind;
use pb::{watch_request, watch_response};
use prost_types::{Duration as PbDuration, Timestamp as PbTimestamp};
use tonic::Status;

use crate::api::service::{
    DevicePage, DeviceQuery, DeviceView, MessageQuery, MessageView, ReadingQuery, ReadingView,
    ServiceError, Start, WatchEvent, WatchQuery, bound, limit, ordered, topic_filter,
};
use crate::devices::State;
use crate::store::StoreError;
use crate::talk::{self, Command, CommandError};

/// An error with its code.
pub(super) fn status(error: ServiceError) -> Status {
    let text = error.to_string();
    match error {
        ServiceError::Invalid { .. } => Status::invalid_argument(text),
        ServiceError::UnknownDevice(_) => Status::not_found(text),
        ServiceError::TooManyStreams(_) => Status::resource_exhausted(text),
        ServiceError::PublishingIsOff => Status::failed_precondition(text),
        ServiceError::Command(error) => command_status(&error, text),
        ServiceError::Unreachable(_) => Status::unavailable(text),
        ServiceError::Store(StoreError::Closed) => Status::unavailable(text),
        ServiceError::Store(_) => Status::internal(text),
    }
}

fn command_status(error: &CommandError, text: String) -> Status {
    match error {
        CommandError::NotServed(_) | CommandError::NotPossible(_) => {
            Status::failed_precondition(text)
        }
        CommandError::NotAllowed { .. } | CommandError::Denied(_) => {
            Status::permission_denied(text)
        }
        CommandError::Quota(_) | CommandError::TooMany(_) => Status::resource_exhausted(text),
        CommandError::Unavailable(_) => Status::unavailable(text),
        CommandError::Late(_) => Status::deadline_exceeded(text),
    }
}

/// A command; its two times exclude each other.
pub(super) fn command(
    request: pb::PublishRequest,
    peer: Option<SocketAddr>,
) -> Result<Command, ServiceError> {
    let expect_response = request.expect_response.is_some();
    if expect_response && request.timeout.is_some() {
        let why = "found it beside expect_response, allowed: one of the two";
        return Err(ServiceError::invalid("timeout", why));
    }
    let (field, asked) = match request.expect_response {
        Some(asked) => ("expect_response", Some(asked)),
        None => ("timeout", request.timeout),
    };
    let asked = asked.map(|asked| span(field, asked)).transpose()?;
    let user = request.user_properties.into_iter();
    Ok(Command {
        device: request.device_id,
        topic: request.topic,
        payload: request.payload,
        qos: request.qos.unwrap_or(1),
        retain: request.retain,
        content_type: request.content_type,
        user_properties: user
            .map(|property| (property.name, property.value))
            .collect(),
        expect_response,
        timeout: talk::timeout(field, asked)?,
        peer,
    })
}

fn span(field: &str, asked: PbDuration) -> Result<Duration, ServiceError> {
    let PbDuration { seconds, nanos } = asked;
    Duration::try_from(asked).map_err(|_| {
        let why = format!("found {seconds} s and {nanos} ns, allowed: a positive time");
        ServiceError::invalid(field, why)
    })
}

/// A number of items.
pub(super) fn count(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

pub(super) fn device_query(request: pb::ListDevicesRequest) -> Result<DeviceQuery, ServiceError> {
    let state = match pb::PresenceState::try_from(request.state) {
        Ok(pb::PresenceState::Unspecified) => None,
        Ok(pb::PresenceState::Unknown) => Some(State::Unknown),
        Ok(pb::PresenceState::Online) => Some(State::Online),
        Ok(pb::PresenceState::Offline) => Some(State::Offline),
        Err(_) => {
            let why = format!("found {}, allowed: a PresenceState", request.state);
            return Err(ServiceError::invalid("state", why));
        }
    };
    Ok(DeviceQuery {
        search: request.search,
        ids: request.device_ids.into_iter().collect(),
        state,
        limit: limit("page_size", count(request.page_size))?,
        page_token: request.page_token,
    })
}

pub(super) fn device_page(page: DevicePage) -> pb::ListDevicesResponse {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let servers = page.servers.into_iter();
    pb::ListDevicesResponse {
        devices: page.devices.into_iter().map(device).collect(),
        next_page_token: page.next_page_token,
        counts: Some(pb::DeviceCounts {
            online: number(page.counts.online),
            offline: number(page.counts.offline),
            unknown: number(page.counts.unknown),
        }),
        servers: servers
            .map(|(name, connected)| pb::MqttServer { name, connected })
            .collect(),
        partial: page.partial,
    }
}

pub(super) fn message_query(request: pb::QueryRequest) -> Result<MessageQuery, ServiceError> {
    Ok(MessageQuery {
        topic: topic_filter("topic_filter", &request.topic_filter)?,
        from: time("from", request.from)?,
        to: time("to", request.to)?,
        text: Some(request.text).filter(|text| !text.is_empty()),
        ascending: is_ascending(request.order)?,
        limit: limit("limit", count(request.limit))?,
        page_token: request.page_token,
        device: request.device_id,
    })
}

pub(super) fn reading_query(
    request: pb::QueryReadingsRequest,
) -> Result<ReadingQuery, ServiceError> {
    let bound = |field, value: Option<f64>| value.map(|value| bound(field, value)).transpose();
    let min = bound("min_value", request.min_value)?;
    let max = bound("max_value", request.max_value)?;
    ordered("max_value", min, max)?;
    Ok(ReadingQuery {
        min,
        max,
        name: request.name,
        messages: message_query(pb::QueryRequest {
            device_id: request.device_id,
            topic_filter: request.topic_filter,
            from: request.from,
            to: request.to,
            order: request.order,
            limit: request.limit,
            page_token: request.page_token,
            text: String::new(),
        })?,
    })
}

pub(super) fn watch_query(request: pb::WatchRequest) -> Result<WatchQuery, ServiceError> {
    let start = match request.start {
        None => Start::Now,
        Some(watch_request::Start::Cursor(cursor)) => Start::Cursor(cursor),
        Some(watch_request::Start::Since(since)) => Start::Since(checked("since", since)?),
    };
    Ok(WatchQuery {
        devices: request.device_ids.into_iter().collect(),
        topic: topic_filter("topic_filter", &request.topic_filter)?,
        start,
        presence: request.include_presence,
        positions: request.include_positions,
        part: false,
    })
}

pub(super) fn watch_event(event: WatchEvent) -> pb::WatchResponse {
    let event = match event {
        WatchEvent::Message(view) => watch_response::Event::Message(message(*view)),
        WatchEvent::Presence(view) => {
            let device_id = view.device.id.to_string();
            let presence = device(*view).presence;
            watch_response::Event::Presence(pb::PresenceChange {
                device_id,
                presence,
            })
        }
        WatchEvent::Gap { from, to, reason } => {
            watch_response::Event::Gap(pb::Gap { from, to, reason })
        }
        WatchEvent::Position {
            cursor,
            received_at,
        } => {
            let received_at = received_at.map(timestamp);
            watch_response::Event::Position(pb::Position {
                cursor,
                received_at,
            })
        }
    };
    pb::WatchResponse { event: Some(event) }
}

pub(super) fn device(view: DeviceView) -> pb::Device {
    let (device, presence) = (view.device.clone(), view.device.presence);
    let state = match presence.state {
        State::Unknown => pb::PresenceState::Unknown,
        State::Online => pb::PresenceState::Online,
        State::Offline => pb::PresenceState::Offline,
    };
    pb::Device {
        id: device.id.to_string(),
        name: device.name,
        server: device.server,
        topics: device.topics,
        presence: Some(pb::Presence {
            state: state.into(),
            since: Some(timestamp(presence.since)),
            reason: presence.reason,
            last_message_at: view.last_message_at.map(timestamp),
            server_connected: presence.server_connected,
            watched: view.watched,
        }),
    }
}

pub(super) fn message(view: MessageView) -> pb::Message {
    let (stored, record) = (view.stored.clone(), view.stored.record);
    let received_at = timestamp(view.received_at);
    let mut decoded = view.decoded;
    let kind = match decoded.kind {
        decode::PayloadKind::Json => pb::PayloadKind::Json,
        decode::PayloadKind::Text => pb::PayloadKind::Text,
        decode::PayloadKind::Bytes => pb::PayloadKind::Bytes,
    };
    let readings = std::mem::take(&mut decoded.readings).into_iter();
    let readings = readings.map(|(name, value)| pb::Reading {
        unit: decoded.unit(&name).map(str::to_owned),
        name: name.into(),
        value: Some(self::value(value)),
        received_at: Some(received_at),
        sequence: stored.sequence,
        topic: stored.topic.to_string(),
        device_id: stored.device.to_string(),
    });
    let properties = record.properties.map(|properties| *properties);
    let properties = properties.unwrap_or_default();
    let user = properties.user.into_iter();
    pb::Message {
        cursor: view.cursor,
        sequence: stored.sequence,
        device_id: stored.device.to_string(),
        topic: stored.topic.to_string(),
        payload: record.payload,
        qos: record.qos.into(),
        retained: record.retained,
        duplicate: record.duplicate,
        received_at: Some(received_at),
        content_type: properties.content_type,
        user_properties: user
            .map(|(name, value)| pb::UserProperty { name, value })
            .collect(),
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        readings: readings.collect(),
        decode_error: decoded.error.map(|error| error.to_string()),
        age_ms: view.age_ms,
        payload_kind: kind.into(),
    }
}

pub(super) fn reading(view: ReadingView) -> pb::Reading {
    let text = |text: &Arc<str>| text.to_string();
    pb::Reading {
        name: view.name.into(),
        value: Some(value(view.value)),
        unit: view.unit.map(Into::into),
        received_at: Some(timestamp(view.received_at)),
        sequence: view.sequence,
        topic: text(&view.topic),
        device_id: text(&view.device),
    }
}

fn value(value: decode::Value) -> pb::Value {
    let kind = match value {
        decode::Value::Int(value) => Kind::IntValue(value),
        decode::Value::UInt(value) => Kind::UintValue(value),
        decode::Value::Double(value) => Kind::DoubleValue(value),
        decode::Value::Bool(value) => Kind::BoolValue(value),
        decode::Value::Text(value) => Kind::StringValue(value.into()),
    };
    pb::Value { kind: Some(kind) }
}

fn is_ascending(order: i32) -> Result<bool, ServiceError> {
    match pb::Order::try_from(order) {
        Ok(pb::Order::Ascending) => Ok(true),
        Ok(pb::Order::Descending | pb::Order::Unspecified) => Ok(false),
        Err(_) => {
            let why = format!("found {order}, allowed: ORDER_ASCENDING or ORDER_DESCENDING");
            Err(ServiceError::invalid("order", why))
        }
    }
}

fn time(field: &str, time: Option<PbTimestamp>) -> Result<Option<Timestamp>, ServiceError> {
    time.map(|time| checked(field, time)).transpose()
}

fn checked(field: &str, time: PbTimestamp) -> Result<Timestamp, ServiceError> {
    let PbTimestamp { seconds, nanos } = time;
    let in_range = (0..1_000_000_000).contains(&nanos);
    let read = in_range.then(|| Timestamp::new(seconds, nanos).ok());
    read.flatten().ok_or_else(|| {
        let why = format!(
            "found {seconds} s and {nanos} ns, allowed: years -9999 to 9999, 0 to 999,999,999 ns"
        );
        ServiceError::invalid(field, why)
    })
}

/// gRPC counts the nanoseconds upwards also before 1970.
pub(in crate::api) fn timestamp(time: Timestamp) -> PbTimestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        return PbTimestamp {
            seconds: seconds - 1,
            nanos: nanos + 1_000_000_000,
        };
    }
    PbTimestamp { seconds, nanos }
}
