//! Views as JSON. In: devices, messages, readings. Out: what `monitoring-api` says they look like.

use akri_mqtt_core::decode::{PayloadKind, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::service::{DeviceView, MessageView, ReadingView};
use crate::devices::State;

/// The presence of a device.
#[derive(Serialize)]
pub struct PresenceJson {
    state: State,
    since: String,
    reason: String,
    last_message_at: Option<String>,
    server_connected: bool,
}

/// A device.
#[derive(Serialize)]
pub struct DeviceJson {
    id: String,
    name: String,
    server: String,
    topics: Vec<String>,
    presence: PresenceJson,
}

#[derive(Serialize)]
struct UserProperty {
    name: String,
    value: String,
}

/// A reading, alone or in its message.
#[derive(Serialize)]
pub struct ReadingJson {
    name: String,
    value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
}

/// A message.
#[derive(Serialize)]
pub struct MessageJson {
    cursor: String,
    sequence: u64,
    device_id: String,
    topic: String,
    payload: Box<RawValue>,
    payload_encoding: &'static str,
    qos: u8,
    retained: bool,
    duplicate: bool,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<UserProperty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    readings: Vec<ReadingJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_error: Option<String>,
    age_ms: i64,
}

/// RFC 3339 with nanoseconds.
pub fn time(time: Timestamp) -> String {
    format!("{time:.9}")
}

impl From<DeviceView> for PresenceJson {
    fn from(view: DeviceView) -> Self {
        let presence = view.device.presence;
        Self {
            state: presence.state,
            since: time(presence.since),
            reason: presence.reason,
            last_message_at: view.last_message_at.map(time),
            server_connected: presence.server_connected,
        }
    }
}

impl From<DeviceView> for DeviceJson {
    fn from(view: DeviceView) -> Self {
        Self {
            id: view.device.id.to_string(),
            name: view.device.name.clone(),
            server: view.device.server.clone(),
            topics: view.device.topics.clone(),
            presence: view.into(),
        }
    }
}

impl From<ReadingView> for ReadingJson {
    fn from(view: ReadingView) -> Self {
        Self {
            name: view.name.into(),
            value: view.value,
            received_at: Some(time(view.received_at)),
            sequence: Some(view.sequence),
            topic: Some(view.topic.to_string()),
            device_id: Some(view.device.to_string()),
        }
    }
}

impl From<MessageView> for MessageJson {
    fn from(view: MessageView) -> Self {
        let record = view.stored.record;
        let (payload, payload_encoding) = payload(&record.payload, view.decoded.kind);
        let properties = record
            .properties
            .map(|properties| *properties)
            .unwrap_or_default();
        let user = properties.user.into_iter();
        let readings = view.decoded.readings.into_iter();
        Self {
            cursor: view.cursor,
            sequence: view.stored.sequence,
            device_id: view.stored.device.to_string(),
            topic: view.stored.topic.to_string(),
            payload,
            payload_encoding,
            qos: record.qos,
            retained: record.retained,
            duplicate: record.duplicate,
            received_at: time(view.received_at),
            content_type: properties.content_type,
            user_properties: user
                .map(|(name, value)| UserProperty { name, value })
                .collect(),
            response_topic: properties.response_topic,
            correlation_data: properties
                .correlation_data
                .map(|data| STANDARD.encode(data)),
            readings: readings.map(|(name, value)| reading(name, value)).collect(),
            decode_error: view.decoded.error.map(|error| error.to_string()),
            age_ms: view.age_ms,
        }
    }
}

fn reading(name: Box<str>, value: Value) -> ReadingJson {
    ReadingJson {
        name: name.into(),
        value,
        received_at: None,
        sequence: None,
        topic: None,
        device_id: None,
    }
}

/// The payload as a JSON value with its encoding: `json`, `text` or `base64`.
fn payload(bytes: &[u8], kind: PayloadKind) -> (Box<RawValue>, &'static str) {
    let text = std::str::from_utf8(bytes).ok();
    let json = text
        .filter(|_| kind == PayloadKind::Json)
        .and_then(|text| RawValue::from_string(exact_numbers(text)).ok());
    if let Some(json) = json {
        return (json, "json");
    }
    match text {
        Some(text) => (quoted(text), "text"),
        None => (quoted(&STANDARD.encode(bytes)), "base64"),
    }
}

fn quoted(text: &str) -> Box<RawValue> {
    // A text is always a JSON value.
    serde_json::value::to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Puts numbers that a reader with double precision would change between quotes. Takes valid JSON; the
/// line breaks between its tokens become spaces, because Server-Sent Events end a line there.
fn exact_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '-' | '0'..='9' => {
                let is_number =
                    |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
                rest.find(|c| !is_number(c)).unwrap_or(rest.len())
            }
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        match first {
            '-' | '0'..='9' if !survives(token) => {
                out.push('"');
                out.push_str(token);
                out.push('"');
            }
            '\n' | '\r' => out.push(' '),
            _ => out.push_str(token),
        }
        rest = after;
    }
    out
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// Whether a double gives the number back as it was written.
fn survives(token: &str) -> bool {
    let Some(double) = token
        .parse::<f64>()
        .ok()
        .filter(|double| double.is_finite())
    else {
        return false;
    };
    normal(token) == normal(&format!("{double:e}"))
}

/// Sign, digits without outer zeros, and the exponent of the last digit.
fn normal(number: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 2);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = whole
        .chars()
        .chain(fraction.chars())
        .filter(char::is_ascii_digit)
        .collect();
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).unwrap_or(0);
    let shift = dropped - i64::try_from(fraction.len()).unwrap_or(0);
    let kept = kept.trim_start_matches('0').to_owned();
    if kept.is_empty() {
        return (false, kept, 0);
    }
    (
        number.starts_with('-'),
        kept,
        exponent.saturating_add(shift),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_double_cannot_hold_become_text_and_nothing_else_changes() {
        let cases = [
            (
                r#"{"a":1,"b":[-2.50,1e3],"c":"12345678901234567890 \" 1"}"#,
                None,
            ),
            ("9007199254740993", Some("\"9007199254740993\"")),
            (
                "[9007199254740992,0.1,1e400,-0.0,1.5e-7]",
                Some("[9007199254740992,0.1,\"1e400\",-0.0,1.5e-7]"),
            ),
            (
                "{\"x\":0.1234567890123456789}",
                Some("{\"x\":\"0.1234567890123456789\"}"),
            ),
            ("{\n \"x\": 1\r\n}", Some("{  \"x\": 1  }")),
        ];
        for (text, expected) in cases {
            assert_eq!(exact_numbers(text), expected.unwrap_or(text));
        }
    }

    #[test]
    fn payload_is_json_text_or_base64() {
        let shown = |bytes: &[u8], kind| {
            let (value, encoding) = payload(bytes, kind);
            (value.get().to_owned(), encoding)
        };
        assert_eq!(shown(b"[1]", PayloadKind::Json), ("[1]".to_owned(), "json"));
        assert_eq!(
            shown(b"on", PayloadKind::Text),
            ("\"on\"".to_owned(), "text")
        );
        assert_eq!(
            shown(&[0xff], PayloadKind::Bytes),
            ("\"/w==\"".to_owned(), "base64")
        );
    }
}
