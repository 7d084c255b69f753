//! Messages as CloudEvents 1.0. In: messages and gaps. Out: bodies and headers of requests in the three content
//! modes of the HTTP binding. The data of an event is the message in the form that our HTTP API gives it.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::feed::Gap;
use crate::api::message_json;
use crate::api::service::MessageView;

/// Of a message.
const MESSAGE_TYPE: &str = "sh.akri.mqtt.message.v1";
/// Of messages that are missing.
const GAP_TYPE: &str = "sh.akri.mqtt.gap.v1";
const JSON: &str = "application/json";
/// What a header's value must not hold as it is (CloudEvents HTTP binding 1.0, 3.1.3.2).
const IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// What stays in a segment of a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How events are put into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Many, as a JSON array.
    Batch,
    /// One, as a JSON object.
    Structured,
    /// One: its attributes are headers, its data is the body.
    Binary,
}

/// A request without its address.
#[derive(Debug)]
pub struct Body {
    /// The header.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    data: Box<RawValue>,
}

/// Many messages.
pub fn batch(messages: &[MessageView]) -> Body {
    let events: Vec<_> = messages.iter().map(of_message).collect();
    Body {
        content_type: "application/cloudevents-batch+json; charset=utf-8",
        headers: Vec::new(),
        body: json(&events),
    }
}

/// One message, in any mode.
pub fn single(mode: Mode, message: &MessageView) -> Body {
    body(mode, of_message(message))
}

/// Messages that are missing.
pub fn gap(mode: Mode, store_id: &str, gap: &Gap) -> Body {
    let data = serde_json::json!({"from": gap.from, "to": gap.to, "reason": gap.reason});
    let event = Event {
        specversion: "1.0",
        id: format!("{store_id}:{}-{}", gap.from, gap.to),
        source: "/v1/stream".to_owned(),
        kind: GAP_TYPE,
        subject: None,
        time: None,
        datacontenttype: JSON,
        data: raw(data.to_string()),
    };
    body(mode, event)
}

fn of_message(message: &MessageView) -> Event<'_> {
    let stored = &message.stored;
    let device = utf8_percent_encode(&stored.device, IN_PATH);
    Event {
        specversion: "1.0",
        id: message.cursor.clone(),
        source: format!("/v1/devices/{device}"),
        kind: MESSAGE_TYPE,
        subject: Some(&stored.topic),
        time: Some(format!("{:.9}", message.received_at)),
        datacontenttype: JSON,
        data: raw(message_json(message)),
    }
}

fn body(mode: Mode, event: Event<'_>) -> Body {
    match mode {
        Mode::Batch => Body {
            content_type: "application/cloudevents-batch+json; charset=utf-8",
            headers: Vec::new(),
            body: json(&[event]),
        },
        Mode::Structured => Body {
            content_type: "application/cloudevents+json; charset=utf-8",
            headers: Vec::new(),
            body: json(&event),
        },
        Mode::Binary => {
            let header = |text: &str| utf8_percent_encode(text, IN_HEADER).to_string();
            let mut headers = vec![
                ("ce-specversion", event.specversion.to_owned()),
                ("ce-id", header(&event.id)),
                ("ce-source", header(&event.source)),
                ("ce-type", event.kind.to_owned()),
            ];
            headers.extend(event.subject.map(|subject| ("ce-subject", header(subject))));
            headers.extend(event.time.map(|time| ("ce-time", time)));
            Body {
                content_type: JSON,
                headers,
                body: event.data.get().to_owned(),
            }
        }
    }
}

fn raw(json: String) -> Box<RawValue> {
    // What we have just written is valid.
    RawValue::from_string(json).unwrap_or_default()
}

fn json(value: &impl Serialize) -> String {
    // Strings and values that are JSON already: nothing of it can fail.
    serde_json::to_string(value).unwrap_or_default()
}
