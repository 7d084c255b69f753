//! What a session tells its consumer.

use std::{fmt, time::Instant};

use bytes::Bytes;

use crate::{QoS, ServerUrl, SessionError, Version, Will};

/// Something that happened in the session, in order.
#[derive(Debug)]
pub enum Event {
    /// The server accepted the connection.
    Connected(Connected),
    /// Every wanted filter has its SUBACK on this connection (a snapshot's queued messages were drained before).
    /// Comes again after a change of the wanted set and when a refused filter was tried again.
    Subscribed {
        /// Refused filters, sorted, each with its reason; they are tried again with back-off.
        refused: Vec<(String, String)>,
        /// When.
        at: Instant,
    },
    /// A message.
    Message(Message),
    /// A message above the maximum packet size was skipped.
    TooLarge {
        /// Its topic.
        topic: Topic,
        /// Retained flag: a snapshot lacks it.
        retained: bool,
        /// When.
        at: Instant,
    },
    /// PINGRESP.
    Alive {
        /// When.
        at: Instant,
    },
    /// The connection ended, or an attempt to connect failed.
    Disconnected {
        /// Why.
        error: SessionError,
        /// When the last packet was received from the server; none if there never was one.
        last_packet: Option<Instant>,
        /// When.
        at: Instant,
    },
}

/// Facts about a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The member.
    pub url: ServerUrl,
    /// The protocol version.
    pub version: Version,
    /// Whether the server still had the session.
    pub session_present: bool,
    /// Whether the previous connection was to another member.
    pub member_changed: bool,
    /// The Last Will that the server has of us on this connection.
    pub will: Option<Will>,
    /// When.
    pub at: Instant,
}

/// A received message.
pub struct Message {
    /// Topic name.
    pub topic: Topic,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service of this delivery.
    pub qos: QoS,
    /// Retained flag: part of a snapshot.
    pub retained: bool,
    /// DUP flag: the server may have sent it before.
    pub duplicate: bool,
    /// Subscription identifiers (MQTT 5).
    pub subscription_ids: Vec<u32>,
    /// Other MQTT 5 properties, if there are any.
    pub properties: Option<Box<Properties>>,
    /// What to hand back once the message is safe; none for QoS 0.
    pub ack: Option<Ack>,
    /// When its packet was read.
    pub received: Instant,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("payload_len", &self.payload.len())
            .field("qos", &self.qos)
            .field("retained", &self.retained)
            .field("duplicate", &self.duplicate)
            .field("ack", &self.ack)
            .finish_non_exhaustive()
    }
}

/// A topic name whose bytes share the read buffer; checked to be UTF-8 when it was read.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Bytes);

impl Topic {
    /// None if the bytes are empty, not UTF-8, or hold a null character or a wildcard (MQTT 5.0, 1.5.4, 4.7.1, 4.7.3).
    pub(crate) fn parse(bytes: Bytes) -> Option<Self> {
        let forbidden = |byte: &u8| matches!(byte, 0 | b'+' | b'#');
        let valid = !bytes.is_empty() && !bytes.iter().any(forbidden);
        (valid && std::str::from_utf8(&bytes).is_ok()).then_some(Self(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Checked by `parse`; this crate forbids `unsafe`, so it is checked once more.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The length of the text in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no topic is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl std::ops::Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The MQTT 5 properties of a message that an application may want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Payload Format Indicator: the payload is UTF-8.
    pub payload_is_utf8: bool,
    /// Message Expiry Interval in seconds.
    pub message_expiry: Option<u32>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User Properties, in order.
    pub user: Vec<(String, String)>,
}

/// The right to acknowledge one message. Not cloneable: it is used once.
#[must_use = "a message that is never acknowledged blocks those after it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Ack {
    pub(crate) connection: u64,
    pub(crate) serial: u64,
    pub(crate) packet_id: u16,
    pub(crate) qos: QoS,
}

impl Ack {
    /// The packet id, which the consumer of a QoS 2 message stores together with it.
    #[must_use]
    pub fn packet_id(&self) -> u16 {
        self.packet_id
    }

    /// QoS 1 or 2.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.qos
    }
}
