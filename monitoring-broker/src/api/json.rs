//! Answers in the form that HTTP gives them. In: views of the service. Out: JSON.

use akri_mqtt_core::decode::Value;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use super::payload::{Payload, base64, survives};
use super::service::{Counts, DeviceView, MessageView, ReadingView, age_ms};
use crate::devices::State;
use crate::store::Properties;

/// A device.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct DeviceJson<'a> {
    /// `<server>/<device>`; in a path the `/` is written %2F.
    id: &'a str,
    /// The part after the server's name.
    name: &'a str,
    /// The name of the MQTT server.
    server: &'a str,
    /// The topic filters that belong to the device.
    topics: &'a [String],
    /// Its presence.
    presence: PresenceJson<'a>,
}

/// How many devices there are in each state.
#[derive(Serialize, ToSchema)]
#[schema(as = Counts)]
pub(super) struct CountsJson {
    /// There is evidence of life.
    online: usize,
    /// Gone.
    offline: usize,
    /// Nothing is known yet.
    unknown: usize,
}

/// An MQTT server.
#[derive(Serialize, ToSchema)]
#[schema(as = Server)]
pub(super) struct ServerJson<'a> {
    /// Its name.
    name: &'a str,
    /// Whether it is connected now.
    connected: bool,
}

/// The presence of a device.
#[derive(Serialize, ToSchema)]
#[schema(as = Presence)]
pub(super) struct PresenceJson<'a> {
    /// The state.
    state: State,
    /// When the state was entered.
    #[serde(serialize_with = "time")]
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Why, in one sentence.
    reason: &'a str,
    /// When the last message was received; null: never.
    #[serde(serialize_with = "optional_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_message_at: Option<Timestamp>,
    /// Whether the MQTT server is connected now; if not, all of this is as old as the outage.
    server_connected: bool,
    /// Whether something is subscribed for the device now; if not, all there is of it is what it said before.
    watched: bool,
}

/// A change of presence in a stream.
#[derive(Serialize, ToSchema)]
#[schema(as = PresenceChange)]
pub(super) struct PresenceChangeJson<'a> {
    /// The device.
    device_id: &'a str,
    /// Its presence now.
    presence: PresenceJson<'a>,
}

/// A gap in a stream.
#[derive(Serialize, ToSchema)]
#[schema(as = Gap)]
pub(super) struct GapJson<'a> {
    /// The first missing sequence; 0 with `to` 0: of an unknown store.
    pub(super) from: u64,
    /// The last missing sequence.
    pub(super) to: u64,
    /// Why, in one sentence.
    pub(super) reason: &'a str,
}

/// A message.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct MessageJson<'a> {
    /// After which a stream goes on; a response to a command has none: it is not stored.
    #[serde(skip_serializing_if = "str::is_empty")]
    cursor: &'a str,
    /// Strictly increasing in its store; a response to a command has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// The device.
    device_id: &'a str,
    /// The topic that it was published on.
    topic: &'a str,
    #[serde(flatten)]
    payload: Payload<'a>,
    /// Quality of service of the delivery: 0, 1 or 2.
    qos: u8,
    /// Sent by the MQTT server because of a new subscription.
    retained: bool,
    /// The packet's DUP flag.
    duplicate: bool,
    /// When it was received.
    #[serde(serialize_with = "time")]
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// Milliseconds between that and this answer.
    age_ms: i64,
    /// What was decoded from the payload.
    readings: Vec<NamedJson<'a>>,
    /// Why the payload could not be decoded; missing: it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_error: Option<String>,
    #[serde(flatten)]
    properties: Option<PropertiesJson<'a>>,
}

/// A reading without where it is from.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedValue)]
struct NamedJson<'a> {
    /// A JSON pointer or the name of a metric; empty for a plain value.
    name: &'a str,
    /// A number that would not survive in a double is a text.
    #[schema(schema_with = value_schema)]
    value: ValueJson<'a>,
    /// If the payload states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
}

/// What MQTT 5 adds to a message.
#[derive(Serialize, ToSchema)]
#[schema(as = MessageProperties)]
struct PropertiesJson<'a> {
    /// MQTT 5 content type.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    /// MQTT 5 user properties in their order; names may repeat.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<UserPropertyJson<'a>>,
    /// MQTT 5 response topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    /// MQTT 5 correlation data, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
}

/// A user property of MQTT 5.
#[derive(Serialize, ToSchema)]
#[schema(as = UserProperty)]
struct UserPropertyJson<'a> {
    /// Its name.
    name: &'a str,
    /// Its value.
    value: &'a str,
}

/// A reading with where it is from.
#[derive(Serialize, ToSchema)]
#[schema(as = Reading)]
pub(super) struct ReadingJson<'a> {
    /// A JSON pointer or the name of a metric; empty for a plain value.
    name: &'a str,
    /// A number that would not survive in a double is a text.
    #[schema(schema_with = value_schema)]
    value: ValueJson<'a>,
    /// If the payload states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    /// When its message was received.
    #[serde(serialize_with = "time")]
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// Milliseconds between that and this answer.
    age_ms: i64,
    /// The sequence of its message.
    sequence: u64,
    /// The topic of its message.
    topic: &'a str,
    /// The device of its message.
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
            watched: view.watched,
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

fn value_schema() -> ObjectBuilder {
    let kinds = vec![Type::Number, Type::Boolean, Type::String];
    let description = "A number that would not survive in a double is a text.";
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(kinds))
        .description(Some(description))
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
