//! Events as lines for people, where standard output is no terminal. In: events. Out: lines.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Event, Kind, Summary};
use crate::output::printable;

/// How much of a payload a line shows, in characters.
const PAYLOAD: usize = 100;
/// How much of a name, topic or reason a line shows.
const NAME: usize = 300;

/// The line of an event; `None` for messages unless they are asked for.
pub fn event(event: &Event, messages: bool) -> Option<String> {
    let time = clock(event.time);
    let device = printable(&event.device, NAME);
    Some(match &event.kind {
        Kind::Online { instance } => format!("{time}  online   {device}  {instance}\n"),
        Kind::Offline { reason } => match reason {
            Some(reason) => format!("{time}  offline  {device}  {}\n", printable(reason, NAME)),
            None => format!("{time}  offline  {device}\n"),
        },
        Kind::Message { topic, payload } if messages => format!(
            "{time}  message  {device}  {}  {}\n",
            printable(topic, NAME),
            printable(&text(payload), PAYLOAD)
        ),
        Kind::Message { .. } => return None,
    })
}

/// The last line.
pub fn summary(summary: Summary) -> String {
    let Summary {
        devices_seen,
        messages,
        offline_events,
    } = summary;
    format!(
        "{} seen, {} stored, {}\n",
        count(devices_seen, "device"),
        count(messages, "message"),
        count(offline_events, "departure")
    )
}

/// A number with its noun: `1 device`, `2 devices`.
pub fn count<N: PartialEq + From<u8> + std::fmt::Display>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A payload as text: strings without their quotes, anything else as JSON.
pub fn text(payload: &Value) -> String {
    match payload {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The time of day in the user's time zone.
pub fn clock(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system())
        .strftime("%H:%M:%S%.3f")
        .to_string()
}
