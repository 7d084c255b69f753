//! Between the service and other members. In: queries, a member's messages. Out: its requests, views as if they were
//! of the own store. The way back is `grpc::convert`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_core::decode::{DecodeError, Decoded, PayloadKind, Value};
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_proto::monitoring as pb;
use jiff::Timestamp;
use pb::value::Kind;
use pb::watch_request;

use super::DeviceView;
use crate::api::grpc::timestamp;
use crate::api::service::view::nanoseconds;
use crate::api::service::{
    Counts, DevicePage, DeviceQuery, MessageQuery, MessageView, ReadingQuery, ReadingView, Start,
    WatchQuery,
};
use crate::devices::{Device, Presence, State};
use crate::store::{Properties, Record, Stored};
use crate::talk::Command;

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn filter(filter: Option<&TopicFilter>) -> String {
    filter.map_or_else(String::new, |filter| filter.as_str().to_owned())
}

pub(super) fn device_request(query: &DeviceQuery, page_token: String) -> pb::ListDevicesRequest {
    pb::ListDevicesRequest {
        page_size: count(query.limit),
        page_token,
        search: query.search.clone(),
        state: pb::PresenceState::Unspecified.into(),
        device_ids: query.ids.iter().cloned().collect(),
    }
}

pub(super) fn latest_request(device: &str, topic: Option<&TopicFilter>) -> pb::GetLatestRequest {
    pb::GetLatestRequest {
        device_id: device.to_owned(),
        topic_filter: filter(topic),
    }
}

fn order(ascending: bool) -> i32 {
    let order = if ascending {
        pb::Order::Ascending
    } else {
        pb::Order::Descending
    };
    order.into()
}

pub(super) fn query_request(query: MessageQuery) -> pb::QueryRequest {
    pb::QueryRequest {
        topic_filter: filter(query.topic.as_ref()),
        from: query.from.map(timestamp),
        to: query.to.map(timestamp),
        order: order(query.ascending),
        limit: count(query.limit),
        page_token: query.page_token,
        text: query.text.unwrap_or_default(),
        device_id: query.device,
    }
}

pub(super) fn readings_request(query: ReadingQuery) -> pb::QueryReadingsRequest {
    let messages = query_request(query.messages);
    pb::QueryReadingsRequest {
        device_id: messages.device_id,
        topic_filter: messages.topic_filter,
        name: query.name,
        from: messages.from,
        to: messages.to,
        min_value: query.min,
        max_value: query.max,
        order: messages.order,
        limit: messages.limit,
        page_token: messages.page_token,
    }
}

pub(super) fn watch_request(query: &WatchQuery, start: Start) -> pb::WatchRequest {
    pb::WatchRequest {
        device_ids: query.devices.iter().cloned().collect(),
        topic_filter: filter(query.topic.as_ref()),
        start: match start {
            Start::Now => None,
            Start::Cursor(cursor) => Some(watch_request::Start::Cursor(cursor)),
            Start::Since(since) => Some(watch_request::Start::Since(timestamp(since))),
        },
        include_presence: query.presence,
        include_positions: true,
    }
}

pub(super) fn publish_request(command: Command) -> pb::PublishRequest {
    // Both are within five minutes.
    let timeout = prost_types::Duration::try_from(command.timeout).ok();
    let (expect_response, timeout) = if command.expect_response {
        (timeout, None)
    } else {
        (None, timeout)
    };
    let user = command.user_properties.into_iter();
    pb::PublishRequest {
        device_id: command.device,
        topic: command.topic,
        payload: command.payload,
        qos: Some(command.qos),
        retain: command.retain,
        expect_response,
        content_type: command.content_type,
        user_properties: user
            .map(|(name, value)| pb::UserProperty { name, value })
            .collect(),
        timeout,
    }
}

/// A time; one that is missing or none is that of the epoch.
pub(super) fn time(time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.unwrap_or_default();
    Timestamp::new(time.seconds, time.nanos).unwrap_or_default()
}

pub(super) fn device_page(page: pb::ListDevicesResponse) -> DevicePage {
    let servers = page.servers.into_iter();
    DevicePage {
        devices: page.devices.into_iter().map(device).collect(),
        next_page_token: page.next_page_token,
        counts: Counts::default(),
        servers: servers
            .map(|server| (server.name, server.connected))
            .collect::<BTreeMap<_, _>>(),
        partial: page.partial,
    }
}

fn device(device: pb::Device) -> DeviceView {
    let mut view = device_view(&device.id, device.presence);
    view.device.name = device.name;
    view.device.server = device.server;
    view.device.topics = device.topics;
    view
}

/// A device of which only the presence was told.
pub(super) fn device_view(id: &str, presence: Option<pb::Presence>) -> DeviceView {
    let presence = presence.unwrap_or_default();
    let state = match presence.state() {
        pb::PresenceState::Online => State::Online,
        pb::PresenceState::Offline => State::Offline,
        pb::PresenceState::Unknown | pb::PresenceState::Unspecified => State::Unknown,
    };
    DeviceView {
        device: Device {
            id: id.into(),
            name: String::new(),
            server: String::new(),
            topics: Vec::new(),
            presence: Presence {
                state,
                since: time(presence.since),
                reason: presence.reason,
                server_connected: presence.server_connected,
            },
            is_shared: false,
        },
        last_message_at: presence.last_message_at.map(|at| time(Some(at))),
        watched: presence.watched,
    }
}

pub(super) fn message(message: pb::Message) -> MessageView {
    let kind = match message.payload_kind() {
        pb::PayloadKind::Json => PayloadKind::Json,
        pb::PayloadKind::Text => PayloadKind::Text,
        pb::PayloadKind::Bytes | pb::PayloadKind::Unspecified => PayloadKind::Bytes,
    };
    let received_at = time(message.received_at);
    let (mut readings, mut units) = (Vec::new(), Vec::new());
    for reading in message.readings {
        let name: Box<str> = reading.name.into();
        if let Some(unit) = reading.unit {
            units.push((name.clone(), unit.into()));
        }
        readings.extend(value(reading.value).map(|value| (name, value)));
    }
    let user = message.user_properties.into_iter();
    let properties = Properties {
        content_type: message.content_type,
        user: user
            .map(|property| (property.name, property.value))
            .collect(),
        response_topic: message.response_topic,
        correlation_data: message.correlation_data,
    };
    MessageView {
        cursor: message.cursor,
        stored: Stored {
            sequence: message.sequence,
            device: message.device_id.into(),
            topic: message.topic.into(),
            record: Record {
                previous: 0,
                topic: 0,
                inline: None,
                time: nanoseconds(received_at),
                qos: u8::try_from(message.qos).unwrap_or_default(),
                retained: message.retained,
                duplicate: message.duplicate,
                properties: (properties != Properties::default()).then(|| Box::new(properties)),
                payload: message.payload,
            },
        },
        decoded: Decoded {
            readings,
            units,
            cut: 0,
            error: message.decode_error.as_deref().and_then(DecodeError::read),
            kind,
        },
        received_at,
        age_ms: message.age_ms,
    }
}

/// None if it has no value, which no member of this version sends.
pub(super) fn reading(reading: pb::Reading) -> Option<ReadingView> {
    Some(ReadingView {
        name: reading.name.into(),
        value: value(reading.value)?,
        unit: reading.unit.map(Into::into),
        received_at: time(reading.received_at),
        sequence: reading.sequence,
        topic: Arc::from(reading.topic),
        device: Arc::from(reading.device_id),
    })
}

fn value(value: Option<pb::Value>) -> Option<Value> {
    Some(match value?.kind? {
        Kind::IntValue(value) => Value::Int(value),
        Kind::UintValue(value) => Value::UInt(value),
        Kind::DoubleValue(value) => Value::Double(value),
        Kind::BoolValue(value) => Value::Bool(value),
        Kind::StringValue(value) => Value::Text(value.into()),
    })
}
