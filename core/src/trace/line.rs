//! The lines of a trace. In: entries, or lines. Out: lines, or entries and what is wrong with which line.
//! Reading is strict: an unknown field, or one that does not belong there, is an error.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Entry, Event, Header, MAX_LINE, Message, Payload, PayloadHash, Payloads, VERSION, What,
};
use crate::details::QoS;
use crate::identity::ServerName;
use crate::topic::TopicName;

/// What the first line says that it is.
const FORMAT: &str = "akri-mqtt-trace";
/// A payload and a topic need at most twice their bytes, and a line little besides.
const MAX_PAYLOAD: usize = MAX_LINE / 4;

/// What is wrong with a trace, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Fault {
    /// From 1.
    pub line: u64,
    /// What was found, and what is allowed.
    pub what: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    format: String,
    version: u32,
    time: Timestamp,
    program: String,
    details: String,
    payloads: Payloads,
    servers: Vec<String>,
}

/// What every version has.
#[derive(Deserialize)]
struct AnyFirst {
    format: String,
    version: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Connected,
    Subscribed,
    Alive,
    Disconnected,
    Message,
    TooLarge,
    End,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Other<'a> {
    at: u64,
    event: Kind,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    server: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_packet: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    topic: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retained: Option<bool>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    hash: Option<Cow<'a, str>>,
}

/// The first line, with its end.
#[must_use]
pub fn header_line(header: &Header) -> String {
    line(&First {
        format: FORMAT.to_owned(),
        version: VERSION,
        time: header.time,
        program: header.program.clone(),
        details: header.details.clone(),
        payloads: header.payloads,
        servers: header.servers.iter().map(ToString::to_string).collect(),
    })
}

/// The line of an entry, with its end. Of a payload that is too long for a line only the length is written.
#[must_use]
pub fn entry_line(entry: &Entry<'_>) -> String {
    let mut other = Other::new(micros(entry.at), Kind::End);
    if let What::Event(server, event) = &entry.what {
        other.server = Some(server.as_str().into());
        match event {
            Event::Connected { resumed } => {
                other.event = Kind::Connected;
                other.resumed = Some(*resumed);
            }
            Event::Subscribed => other.event = Kind::Subscribed,
            Event::Alive => other.event = Kind::Alive,
            Event::Disconnected { last_packet } => {
                other.event = Kind::Disconnected;
                other.last_packet = Some(micros(*last_packet));
            }
            Event::Message(message) => other.set(message),
            Event::TooLarge { topic, retained } => {
                other.event = Kind::TooLarge;
                other.topic = Some(topic.as_ref().into());
                other.retained = Some(*retained);
            }
        }
    }
    line(&other)
}

fn line(value: &impl Serialize) -> String {
    // Structs of text, numbers and lists always have a JSON form.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

impl<'a> Other<'a> {
    fn new(at: u64, event: Kind) -> Self {
        Self {
            at,
            event,
            server: None,
            resumed: None,
            last_packet: None,
            topic: None,
            qos: None,
            retained: None,
            payload: None,
            base64: None,
            bytes: None,
            hash: None,
        }
    }

    fn set(&mut self, message: &'a Message<'a>) {
        self.event = Kind::Message;
        self.topic = Some(message.topic.as_ref().into());
        self.qos = Some(level(message.qos));
        self.retained = Some(message.retained);
        match &message.payload {
            Payload::Kept(payload) if payload.len() > MAX_PAYLOAD => {
                self.bytes = u64::try_from(payload.len()).ok();
            }
            // Control characters would take six bytes each.
            Payload::Kept(payload) => match std::str::from_utf8(payload) {
                Ok(text) if !text.chars().any(is_long) => self.payload = Some(text.into()),
                _ => self.base64 = Some(STANDARD.encode(payload).into()),
            },
            Payload::Left { bytes, hash } => {
                self.bytes = Some(*bytes);
                self.hash = hash.as_ref().map(|hash| hash.0.as_str().into());
            }
        }
    }
}

fn is_long(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

fn level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

/// Reads a trace, line by line.
#[derive(Debug)]
pub struct Reader {
    servers: BTreeSet<ServerName>,
    line: u64,
    ended: bool,
}

impl Reader {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is no trace, or one of another version.
    pub fn new(first: &[u8]) -> Result<(Self, Header), Fault> {
        let header = header(first).map_err(|what| Fault { line: 1, what })?;
        let reader = Self {
            servers: header.servers.iter().cloned().collect(),
            line: 1,
            ended: false,
        };
        Ok((reader, header))
    }

    /// Reads the next line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read<'a>(&mut self, line: &'a [u8]) -> Result<Entry<'a>, Fault> {
        self.line += 1;
        let fault = |what| Fault {
            line: self.line,
            what,
        };
        if self.ended {
            return Err(fault("nothing may follow the line with `end`".to_owned()));
        }
        let other: Other<'a> = json(line).map_err(fault)?;
        let entry = other.entry(&self.servers).map_err(fault)?;
        self.ended = entry.what == What::End;
        Ok(entry)
    }

    /// Whether the line with `end` was read.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The line that was read last, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }
}

fn json<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        // Each line is a text of its own, so its place within the text says the column only.
        let text = error.to_string();
        let what = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(what, _)| what);
        format!("{what}, at column {}", error.column())
    })
}

fn header(line: &[u8]) -> Result<Header, String> {
    let first: AnyFirst = json(line).map_err(|why| format!("this is no trace: {why}"))?;
    if first.format != FORMAT {
        let found = &first.format;
        return Err(format!(
            "this is no trace: its format is {found:?}, not {FORMAT:?}"
        ));
    }
    if first.version != VERSION {
        let found = first.version;
        return Err(format!(
            "the trace has version {found}; this program reads version {VERSION}"
        ));
    }
    let first: First = json(line)?;
    let servers = first.servers.iter().map(|name| server(name));
    Ok(Header {
        time: first.time,
        program: first.program,
        details: first.details,
        payloads: first.payloads,
        servers: servers.collect::<Result<_, _>>()?,
    })
}

fn server(name: &str) -> Result<ServerName, String> {
    ServerName::parse(name).map_err(|error| format!("server: found {name:?}; {error}"))
}

impl<'a> Other<'a> {
    fn entry(mut self, servers: &BTreeSet<ServerName>) -> Result<Entry<'a>, String> {
        let (at, event) = (Duration::from_micros(self.at), self.event);
        let what = match event {
            Kind::End => What::End,
            _ => {
                let name = need(self.server.take(), "server")?;
                let name = server(&name)?;
                if !servers.contains(&name) {
                    return Err(format!("server: the first line does not name {name}"));
                }
                What::Event(name, self.event(event)?)
            }
        };
        self.nothing_left()?;
        Ok(Entry { at, what })
    }

    fn event(&mut self, kind: Kind) -> Result<Event<'a>, String> {
        Ok(match kind {
            Kind::Connected => Event::Connected {
                resumed: need(self.resumed.take(), "resumed")?,
            },
            Kind::Disconnected => Event::Disconnected {
                last_packet: Duration::from_micros(need(self.last_packet.take(), "last_packet")?),
            },
            Kind::Message => Event::Message(self.message()?),
            Kind::TooLarge => Event::TooLarge {
                topic: self.topic()?,
                retained: need(self.retained.take(), "retained")?,
            },
            Kind::Subscribed => Event::Subscribed,
            Kind::Alive | Kind::End => Event::Alive,
        })
    }

    fn topic(&mut self) -> Result<Cow<'a, str>, String> {
        let topic = need(self.topic.take(), "topic")?;
        TopicName::parse(&topic).map_err(|error| format!("topic: {error}"))?;
        Ok(topic)
    }

    fn message(&mut self) -> Result<Message<'a>, String> {
        let topic = self.topic()?;
        let qos = match need(self.qos.take(), "qos")? {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            other => return Err(format!("qos: found {other}; allowed are 0, 1 and 2")),
        };
        Ok(Message {
            topic,
            qos,
            retained: need(self.retained.take(), "retained")?,
            payload: self.payload()?,
        })
    }

    fn payload(&mut self) -> Result<Payload<'a>, String> {
        match (self.payload.take(), self.base64.take(), self.bytes.take()) {
            (Some(Cow::Borrowed(text)), None, None) => Ok(Payload::Kept(text.as_bytes().into())),
            (Some(Cow::Owned(text)), None, None) => Ok(Payload::Kept(text.into_bytes().into())),
            (None, Some(text), None) => {
                let bytes = STANDARD.decode(text.as_bytes());
                let bytes = bytes.map_err(|error| format!("base64: {error}"))?;
                Ok(Payload::Kept(bytes.into()))
            }
            (None, None, Some(bytes)) => {
                let hash = match self.hash.take() {
                    Some(text) => Some(PayloadHash::parse(&text).ok_or_else(|| {
                        format!("hash: found {text:?}; allowed are 16 digits of 0-9 and a-f")
                    })?),
                    None => None,
                };
                Ok(Payload::Left { bytes, hash })
            }
            _ => Err("a message has one of payload, base64 and bytes".to_owned()),
        }
    }

    fn nothing_left(&self) -> Result<(), String> {
        let left = [
            ("server", self.server.is_some()),
            ("resumed", self.resumed.is_some()),
            ("last_packet", self.last_packet.is_some()),
            ("topic", self.topic.is_some()),
            ("qos", self.qos.is_some()),
            ("retained", self.retained.is_some()),
            ("payload", self.payload.is_some()),
            ("base64", self.base64.is_some()),
            ("bytes", self.bytes.is_some()),
            ("hash", self.hash.is_some()),
        ];
        match left.iter().find(|(_, is_left)| *is_left) {
            Some((field, _)) => Err(format!("`{field}` does not belong to this event")),
            None => Ok(()),
        }
    }
}

fn need<T>(field: Option<T>, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("`{name}` is missing"))
}
