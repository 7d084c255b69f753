//! Answers in the form that HTTP gives them. In: views of the service. Out: JSON.

use akri_mqtt_core::decode::Value;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::payload::{Payload, base64, survives};
use super::service::{Counts, DeviceView, MessageView, ReadingView, age_ms};
use crate::devices::State;
use crate::store::Properties;

/// A device.
#[derive(Serialize)]
pub(super) struct DeviceJson<'a> {
    id: &'a str,
    name: &'a str,
    server: &'a str,
    topics: &'a [String],
    presence: PresenceJson<'a>,
}

/// How many devices there are in each state.
#[derive(Serialize)]
pub(super) struct CountsJson {
    online: usize,
    offline: usize,
    unknown: usize,
}

/// An MQTT server.
#[derive(Serialize)]
pub(super) struct ServerJson<'a> {
    name: &'a str,
    connected: bool,
}

/// The presence of a device.
#[derive(Serialize)]
pub(super) struct PresenceJson<'a> {
    state: State,
    #[serde(serialize_with = "time")]
    since: Timestamp,
    reason: &'a str,
    #[serde(serialize_with = "optional_time")]
    last_message_at: Option<Timestamp>,
    server_connected: bool,
}

/// A change of presence in a stream.
#[derive(Serialize)]
pub(super) struct PresenceChangeJson<'a> {
    device_id: &'a str,
    presence: PresenceJson<'a>,
}

/// A gap in a stream.
#[derive(Serialize)]
pub(super) struct GapJson<'a> {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) reason: &'a str,
}

/// A message.
#[derive(Serialize)]
pub(super) struct MessageJson<'a> {
    /// The response to a command has neither: it is not stored.
    #[serde(skip_serializing_if = "str::is_empty")]
    cursor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    device_id: &'a str,
    topic: &'a str,
    #[serde(flatten)]
    payload: Payload<'a>,
    qos: u8,
    retained: bool,
    duplicate: bool,
    #[serde(serialize_with = "time")]
    received_at: Timestamp,
    age_ms: i64,
    readings: Vec<NamedJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_error: Option<String>,
    #[serde(flatten)]
    properties: Option<PropertiesJson<'a>>,
}

#[derive(Serialize)]
struct NamedJson<'a> {
    name: &'a str,
    value: ValueJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
}

#[derive(Serialize)]
struct PropertiesJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<UserPropertyJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
}

#[derive(Serialize)]
struct UserPropertyJson<'a> {
    name: &'a str,
    value: &'a str,
}

/// A reading with where it is from.
#[derive(Serialize)]
pub(super) struct ReadingJson<'a> {
    name: &'a str,
    value: ValueJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(serialize_with = "time")]
    received_at: Timestamp,
    age_ms: i64,
    sequence: u64,
    topic: &'a str,
    device_id: &'a str,
}

/// A value; a number that would not survive in a double is a text.
struct ValueJson<'a>(&'a Value);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Int(value) if !survives(self.0) => serializer.collect_str(value),
            Value::UInt(value) if !survives(self.0) => serializer.collect_str(value),
            value => value.serialize(serializer),
        }
    }
}

impl<'a> DeviceJson<'a> {
    pub(super) fn new(view: &'a DeviceView) -> Self {
        let device = &view.device;
        Self {
            id: &device.id,
            name: &device.name,
            server: &device.server,
            topics: &device.topics,
            presence: PresenceJson::new(view),
        }
    }
}

impl CountsJson {
    pub(super) fn new(counts: Counts) -> Self {
        Self {
            online: counts.online,
            offline: counts.offline,
            unknown: counts.unknown,
        }
    }
}

impl<'a> ServerJson<'a> {
    pub(super) fn new((name, connected): (&'a String, &bool)) -> Self {
        Self {
            name,
            connected: *connected,
        }
    }
}

impl<'a> PresenceJson<'a> {
    fn new(view: &'a DeviceView) -> Self {
        let presence = &view.device.presence;
        Self {
            state: presence.state,
            since: presence.since,
            reason: &presence.reason,
            last_message_at: view.last_message_at,
            server_connected: presence.server_connected,
        }
    }
}

impl<'a> PresenceChangeJson<'a> {
    pub(super) fn new(view: &'a DeviceView) -> Self {
        Self {
            device_id: &view.device.id,
            presence: PresenceJson::new(view),
        }
    }
}

impl<'a> MessageJson<'a> {
    pub(super) fn new(view: &'a MessageView) -> Self {
        let record = &view.stored.record;
        let readings = view.decoded.readings.iter();
        Self {
            cursor: &view.cursor,
            sequence: Some(view.stored.sequence).filter(|sequence| *sequence > 0),
            device_id: &view.stored.device,
            topic: &view.stored.topic,
            payload: Payload::new(view.decoded.kind, &record.payload),
            qos: record.qos,
            retained: record.retained,
            duplicate: record.duplicate,
            received_at: view.received_at,
            age_ms: view.age_ms,
            readings: readings
                .map(|(name, value)| NamedJson {
                    name,
                    value: ValueJson(value),
                    unit: view.decoded.unit(name),
                })
                .collect(),
            decode_error: view.decoded.error.map(|error| error.to_string()),
            properties: record.properties.as_deref().map(PropertiesJson::new),
        }
    }
}

/// A message as the HTTP API shows it, on one line.
#[must_use]
pub fn message_json(view: &MessageView) -> String {
    // Texts, numbers and JSON that was checked: nothing of it can fail.
    serde_json::to_string(&MessageJson::new(view)).unwrap_or_default()
}

impl<'a> PropertiesJson<'a> {
    fn new(properties: &'a Properties) -> Self {
        let user = properties.user.iter();
        Self {
            content_type: properties.content_type.as_deref(),
            user_properties: user
                .map(|(name, value)| UserPropertyJson { name, value })
                .collect(),
            response_topic: properties.response_topic.as_deref(),
            correlation_data: properties.correlation_data.as_deref().map(base64),
        }
    }
}

impl<'a> ReadingJson<'a> {
    pub(super) fn new(view: &'a ReadingView) -> Self {
        Self {
            name: &view.name,
            value: ValueJson(&view.value),
            unit: view.unit.as_deref(),
            received_at: view.received_at,
            age_ms: age_ms(view.received_at),
            sequence: view.sequence,
            topic: &view.topic,
            device_id: &view.device,
        }
    }
}

/// RFC 3339 with nanoseconds.
fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.9}"))
}

fn optional_time<S: Serializer>(time: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => self::time(time, s),
        None => s.serialize_none(),
    }
}
