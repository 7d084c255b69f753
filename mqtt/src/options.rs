//! What a session is told at its start, and the requests that may follow.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{Properties, QoS, Server, VersionChoice};

/// How a session behaves. [`Options::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The logical server with its members.
    pub server: Server,
    /// Client id; must outlive the process for the session to be found again.
    pub client_id: String,
    /// Protocol version; `Auto` tries 5 and falls back to 3.1.1.
    pub version: VersionChoice,
    /// Keep-alive announced to the server; the watchdog ends a connection after 1.5 of it without a packet.
    pub keep_alive: Duration,
    /// How long the server keeps the session while we are away; zero asks for clean sessions.
    pub session_expiry: Duration,
    /// A larger packet is counted, acknowledged and skipped; it is never held in memory.
    pub max_packet_size: u32,
    /// Do not verify the server's certificate; warned about at every connect.
    pub insecure_skip_verify: bool,
    /// Last Will. A server that refuses a connection with it is asked for one without it.
    pub will: Option<Will>,
    /// Makes the payload of the Last Will for each attempt to connect, where it is not always the same.
    pub will_payload: Option<WillPayload>,
    /// Messages of QoS 1 and 2 that the server may send ahead of acknowledgements (MQTT 5.0, 3.1.2.11.3).
    pub receive_maximum: u16,
    /// Events that may wait for the consumer.
    pub event_capacity: usize,
    /// Bytes of topics and payloads that may wait for the consumer; a single larger message still passes.
    pub event_bytes: usize,
    /// Pauses between attempts to connect.
    pub backoff: Backoff,
    /// Whether a change of the member asks for a clean start (the new member's old queue would be stale).
    pub clean_on_member_change: bool,
    /// Time for one member to be reached: DNS, TCP, TLS, WebSocket and CONNACK together.
    pub connect_timeout: Duration,
    /// Time in which at least one byte must be taken by the socket.
    pub write_timeout: Duration,
    /// How often a preferred member is looked for (`Failover::Ordered`).
    pub probe_interval: Duration,
    /// No QoS 1 or 2 message for this long means that the queued ones are drained, before a snapshot.
    pub drain_quiet: Duration,
    /// A snapshot waits at most this long for queued messages.
    pub drain_limit: Duration,
}

impl Options {
    /// Options with the defaults of `discovery-details.md`.
    #[must_use]
    pub fn new(server: Server, client_id: impl Into<String>) -> Self {
        Self {
            server,
            client_id: client_id.into(),
            version: VersionChoice::Auto,
            keep_alive: Duration::from_secs(60),
            session_expiry: Duration::from_secs(3600),
            max_packet_size: 1024 * 1024,
            insecure_skip_verify: false,
            will: None,
            will_payload: None,
            receive_maximum: 256,
            event_capacity: 4096,
            event_bytes: 8 * 1024 * 1024,
            backoff: Backoff::default(),
            clean_on_member_change: false,
            connect_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(20),
            probe_interval: Duration::from_secs(30),
            drain_quiet: Duration::from_millis(250),
            drain_limit: Duration::from_secs(5),
        }
    }
}

/// Pauses between attempts: a random time between `min` and a bound that doubles up to `max`.
/// A connection that lasted `max` starts again at `min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest pause.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        }
    }
}

/// Last Will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Retained.
    pub retain: bool,
    /// How long the server waits for us to come back before it publishes the will; MQTT 5 only.
    pub delay: Duration,
    /// After how long the server forgets the will's message; MQTT 5 only, none: never.
    pub expiry: Option<Duration>,
}

/// What a Last Will says at the time of its connection; clones make the same.
#[derive(Clone)]
pub struct WillPayload(Arc<dyn Fn() -> Bytes + Send + Sync>);

impl WillPayload {
    /// By a function that does not block.
    pub fn new(make: impl Fn() -> Bytes + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }
}

impl fmt::Debug for WillPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WillPayload")
    }
}

impl Options {
    /// The Last Will of a connection that is made now.
    pub(crate) fn will_now(&self) -> Option<Will> {
        let mut will = self.will.clone()?;
        if let Some(WillPayload(make)) = &self.will_payload {
            will.payload = make();
        }
        Some(will)
    }
}

/// One wanted subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Topic filter; may be `$share/<group>/<filter>`.
    pub filter: String,
    /// Wanted quality of service.
    pub qos: QoS,
    /// Take the retained snapshot after every connect.
    pub snapshot: bool,
    /// Subscription identifier (MQTT 5); none lets the session choose one where filters intersect.
    pub identifier: Option<u32>,
}

impl Subscription {
    /// A subscription without snapshot.
    #[must_use]
    pub fn new(filter: impl Into<String>, qos: QoS) -> Self {
        Self {
            filter: filter.into(),
            qos,
            snapshot: false,
            identifier: None,
        }
    }

    /// The same with a retained snapshot after every connect.
    #[must_use]
    pub fn with_snapshot(mut self) -> Self {
        self.snapshot = true;
        self
    }
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Retained.
    pub retain: bool,
    /// MQTT 5 properties; ignored on 3.1.1.
    pub properties: Option<Box<Properties>>,
}

/// What the server said of a message that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Nobody subscribes to the topic (MQTT 5.0, 3.4.2.1). Not every server says so, and none of QoS 0 or on 3.1.1.
    pub no_subscribers: bool,
}

impl Published {
    /// By the reason of PUBACK or PUBREC.
    pub(crate) fn of(reason: u8) -> Self {
        Self {
            no_subscribers: reason == 0x10,
        }
    }
}

impl Publish {
    /// A message that is not retained.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>, qos: QoS) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain: false,
            properties: None,
        }
    }

    /// The same, retained.
    #[must_use]
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }
}
