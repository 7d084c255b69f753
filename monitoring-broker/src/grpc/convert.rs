//! Views as messages of the contract, and its fields as what the service takes.

use akri_mqtt_core::decode;
use akri_mqtt_proto::monitoring as proto;
use jiff::Timestamp;
use prost_types::Timestamp as ProtoTime;

use crate::api::service::{DeviceView, MessageView, ReadingView, ServiceError, WatchEvent};
use crate::devices::State;

pub fn limit(limit: u32) -> Result<usize, ServiceError> {
    usize::try_from(limit).map_err(|error| ServiceError::invalid("limit", error))
}

pub fn ascending(order: i32) -> Result<bool, ServiceError> {
    match proto::Order::try_from(order) {
        Ok(order) => Ok(order == proto::Order::Ascending),
        Err(error) => Err(ServiceError::invalid("order", error)),
    }
}

pub fn time(field: &'static str, time: ProtoTime) -> Result<Timestamp, ServiceError> {
    Timestamp::new(time.seconds, time.nanos).map_err(|error| ServiceError::invalid(field, error))
}

pub fn optional_time(
    field: &'static str,
    found: Option<ProtoTime>,
) -> Result<Option<Timestamp>, ServiceError> {
    found.map(|found| time(field, found)).transpose()
}

fn proto_time(time: Timestamp) -> ProtoTime {
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        // Before 1970; the contract wants nanoseconds that count forward.
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    ProtoTime { seconds, nanos }
}

impl From<&DeviceView> for proto::Presence {
    fn from(view: &DeviceView) -> Self {
        let presence = &view.device.presence;
        let state = match presence.state {
            State::Unknown => proto::PresenceState::Unknown,
            State::Online => proto::PresenceState::Online,
            State::Offline => proto::PresenceState::Offline,
        };
        Self {
            state: state.into(),
            since: Some(proto_time(presence.since)),
            reason: presence.reason.clone(),
            last_message_at: view.last_message_at.map(proto_time),
            server_connected: presence.server_connected,
        }
    }
}

impl From<DeviceView> for proto::Device {
    fn from(view: DeviceView) -> Self {
        Self {
            presence: Some((&view).into()),
            id: view.device.id.to_string(),
            name: view.device.name,
            server: view.device.server,
            topics: view.device.topics,
        }
    }
}

fn value(value: decode::Value) -> proto::Value {
    use proto::value::Kind;
    let kind = match value {
        decode::Value::Int(value) => Kind::IntValue(value),
        decode::Value::UInt(value) => Kind::UintValue(value),
        decode::Value::Double(value) => Kind::DoubleValue(value),
        decode::Value::Bool(value) => Kind::BoolValue(value),
        decode::Value::Text(value) => Kind::StringValue(value.into()),
    };
    proto::Value { kind: Some(kind) }
}

impl From<ReadingView> for proto::Reading {
    fn from(view: ReadingView) -> Self {
        Self {
            name: view.name.into(),
            value: Some(value(view.value)),
            unit: None,
            received_at: Some(proto_time(view.received_at)),
            sequence: view.sequence,
            topic: view.topic.to_string(),
            device_id: view.device.to_string(),
        }
    }
}

impl From<MessageView> for proto::Message {
    fn from(view: MessageView) -> Self {
        let stored = view.stored;
        let properties = stored.record.properties.map(|p| *p).unwrap_or_default();
        let readings = view
            .decoded
            .readings
            .into_iter()
            .map(|(name, of)| proto::Reading {
                name: name.into(),
                value: Some(value(of)),
                unit: None,
                received_at: Some(proto_time(view.received_at)),
                sequence: stored.sequence,
                topic: stored.topic.to_string(),
                device_id: stored.device.to_string(),
            });
        let user = properties.user.into_iter();
        Self {
            cursor: view.cursor,
            sequence: stored.sequence,
            device_id: stored.device.to_string(),
            topic: stored.topic.to_string(),
            readings: readings.collect(),
            payload: stored.record.payload,
            qos: stored.record.qos.into(),
            retained: stored.record.retained,
            duplicate: stored.record.duplicate,
            received_at: Some(proto_time(view.received_at)),
            content_type: properties.content_type,
            user_properties: user
                .map(|(name, value)| proto::UserProperty { name, value })
                .collect(),
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data,
            decode_error: view.decoded.error.map(|error| error.to_string()),
            age_ms: view.age_ms,
        }
    }
}

pub fn event(event: WatchEvent) -> proto::WatchResponse {
    use proto::watch_response::Event;
    let event = match event {
        WatchEvent::Message(view) => Event::Message((*view).into()),
        WatchEvent::Presence(view) => Event::Presence(proto::PresenceChange {
            device_id: view.device.id.to_string(),
            presence: Some((&*view).into()),
        }),
        WatchEvent::Gap { from, to, reason } => Event::Gap(proto::Gap { from, to, reason }),
    };
    proto::WatchResponse { event: Some(event) }
}
