//! Events as JSON, one object a line, for programs. In: events. Out: lines. The keys are a contract: see `akri-mqtt demo --help`.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Event, Kind, Summary};

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    #[serde(serialize_with = "nanoseconds")]
    time: Timestamp,
    device: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Value>,
}

/// The line of an event.
pub fn event(event: &Event) -> String {
    let mut line = Line {
        event: "message",
        time: event.time,
        device: &event.device,
        instance: None,
        reason: None,
        topic: None,
        payload: None,
    };
    match &event.kind {
        Kind::Online { instance } => {
            line.event = "device_online";
            line.instance = Some(instance);
        }
        Kind::Offline { reason } => {
            line.event = "device_offline";
            line.reason = reason.as_deref();
        }
        Kind::Message { topic, payload } => {
            line.topic = Some(topic);
            line.payload = Some(payload);
        }
    }
    render(&line)
}

#[derive(Serialize)]
struct Last {
    event: &'static str,
    devices_seen: usize,
    messages: u64,
    offline_events: u64,
    #[serde(serialize_with = "nanoseconds")]
    time: Timestamp,
}

/// The last line.
pub fn summary(summary: Summary, time: Timestamp) -> String {
    render(&Last {
        event: "summary",
        devices_seen: summary.devices_seen,
        messages: summary.messages,
        offline_events: summary.offline_events,
        time,
    })
}

/// RFC 3339 with nine digits, as the API writes times: such texts sort as the times do.
fn nanoseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.9}"))
}

fn render(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).unwrap_or_else(|error| {
        // Only a map with keys that are no strings cannot be written, and there is none here.
        format!("{{\"event\":\"error\",\"reason\":\"{error}\"}}")
    });
    text.push('\n');
    text
}
