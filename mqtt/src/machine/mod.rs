//! The decisions of a session, without I/O: packets, acknowledgements, requests and time go in; bytes, events
//! and releases to commit come out. Lives as long as the session; each connection begins with `connected`.

mod fatal;
mod ids;
mod inbound;
mod liveness;
mod messages;
mod outbound;
mod overlap;
pub(crate) mod reason;
mod slot;
mod subscriptions;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use self::{
    fatal::{Violation, told_to_go},
    ids::PacketIds,
    inbound::Inbound,
    liveness::{Due, Liveness},
    outbound::{Outbound, ServerLimits},
    overlap::Recent,
    subscriptions::{Step, Subscriptions},
};
use crate::{
    Ack, Counters, ErrorKind, Event, Options, Publish, QoS, SessionError, SessionState,
    Subscription, Version,
    codec::{ConnAck, Frame, Packet, decode, encode_ping, encode_subscribe, encode_unsubscribe},
};

pub(crate) use fatal::Fatal;
pub(crate) use outbound::Reply;

/// A SUBSCRIBE without answer for this long, while other packets come, breaks the connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Waits for the queued messages of a resumed session before a snapshot.
#[derive(Debug)]
struct Drain {
    since: Instant,
    last: Instant,
    /// The ping at the start of the connection was answered, so that a round trip is over.
    answered: bool,
}

pub(crate) struct Machine {
    state: Arc<dyn SessionState>,
    counters: Arc<Counters>,
    keep_alive: Duration,
    receive_maximum: u16,
    drain_quiet: Duration,
    drain_limit: Duration,
    version: Version,
    ids: PacketIds,
    inbound: Inbound,
    outbound: Outbound,
    subscriptions: Subscriptions,
    written: Option<Vec<(String, QoS)>>,
    recent: Recent,
    liveness: Liveness,
    drain: Option<Drain>,
    asked_at: Option<Instant>,
    started: bool,
    last_packet: Option<Instant>,
    /// Bytes for the socket.
    pub(crate) out: BytesMut,
    /// Events for the consumer.
    pub(crate) events: Vec<Event>,
    /// QoS 2 ids whose release is to be committed.
    pub(crate) releases: Vec<u16>,
}

impl Machine {
    pub(crate) fn new(
        options: &Options,
        state: Arc<dyn SessionState>,
        counters: Arc<Counters>,
        wanted: Vec<Subscription>,
        now: Instant,
    ) -> Self {
        let held = state.subscriptions();
        Self {
            keep_alive: options.keep_alive,
            receive_maximum: options.receive_maximum.max(1),
            drain_quiet: options.drain_quiet,
            drain_limit: options.drain_limit,
            version: Version::V5,
            ids: PacketIds::starting_at(rand::random()),
            inbound: Inbound::new(),
            outbound: Outbound::default(),
            subscriptions: Subscriptions::new(wanted, held.clone(), now),
            written: Some(held),
            recent: Recent::default(),
            liveness: Liveness::new(options.keep_alive, now),
            drain: None,
            asked_at: None,
            started: false,
            last_packet: None,
            out: BytesMut::new(),
            events: Vec::new(),
            releases: Vec::new(),
            state,
            counters,
        }
    }

    /// A server accepted the connection.
    pub(crate) fn connected(&mut self, connack: &ConnAck, version: Version, now: Instant) {
        let props = &connack.props;
        self.version = version;
        self.out.clear();
        self.recent.clear();
        self.asked_at = None;
        self.started = false;
        self.last_packet = Some(now);
        self.ids.reset(self.outbound.unfinished());
        self.inbound.connected();
        let limits = ServerLimits::of(props, version);
        self.outbound
            .connected(limits, connack.session_present, &mut self.out);
        let with_identifiers = version == Version::V5 && props.identifiers_available != Some(false);
        let caps = (with_identifiers, limits.maximum_packet_size);
        self.subscriptions
            .connected(caps, connack.session_present, now);
        let keep_alive = match props.server_keep_alive {
            Some(seconds) if seconds > 0 => {
                Duration::from_secs(u64::from(seconds)).min(self.keep_alive)
            }
            _ => self.keep_alive,
        };
        self.liveness = Liveness::new(keep_alive, now);
        self.drain = None;
        if connack.session_present && self.subscriptions.has_snapshots() {
            self.drain = Some(Drain {
                since: now,
                last: now,
                answered: false,
            });
            self.ping(now);
        }
    }

    /// The server lost the session and its ids were cleared, or it still has it: subscriptions may begin.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.started = true;
        self.advance(now);
    }

    /// The connection ended: callers of `publish` learn it.
    pub(crate) fn disconnected(&mut self, error: &SessionError) {
        self.started = false;
        self.drain = None;
        self.out.clear();
        self.outbound.disconnected(error);
    }

    pub(crate) fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Whether no QoS 2 id is in the hands of the consumer or in a commit.
    pub(crate) fn may_clear(&self) -> bool {
        self.inbound.may_clear()
    }

    /// Whether the window of unacknowledged messages has room. MQTT 3.1.1 knows no Receive Maximum, and
    /// Mosquitto 2.0 exceeds it when a session is resumed, so the window is kept by not reading on.
    pub(crate) fn window_open(&self) -> bool {
        self.inbound.waiting() < usize::from(self.receive_maximum)
    }

    pub(crate) fn releasing(&self) -> usize {
        self.inbound.releasing()
    }

    pub(crate) fn can_publish(&self) -> bool {
        self.started && self.outbound.has_room()
    }

    pub(crate) fn set_wanted(&mut self, wanted: Vec<Subscription>, now: Instant) {
        self.recent.clear();
        self.subscriptions.set_wanted(wanted, now);
        self.advance(now);
    }

    pub(crate) fn acknowledge(&mut self, ack: &Ack) {
        self.inbound.acknowledge(ack, &mut self.out);
    }

    pub(crate) fn publish(&mut self, publish: &Publish, reply: Reply) {
        if self
            .outbound
            .publish(publish, reply, &mut self.ids, &mut self.out)
        {
            Counters::add(&self.counters.published, 1);
        }
    }

    pub(crate) fn ping(&mut self, now: Instant) {
        encode_ping(&mut self.out);
        self.liveness.pinged(now);
    }

    pub(crate) fn sent(&mut self, now: Instant) {
        self.liveness.sent(now);
    }

    /// Bytes came, or reading goes on after the consumer held it back.
    pub(crate) fn received_bytes(&mut self, now: Instant) {
        self.liveness.received(now);
    }

    pub(crate) fn released(&mut self, id: u16, committed: bool) {
        if committed {
            self.inbound.released(id, &mut self.out);
        } else {
            self.inbound.release_failed(id);
        }
    }

    /// One packet from the server.
    pub(crate) fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Fatal> {
        self.last_packet = Some(now);
        match frame {
            Frame::Oversized(head) => {
                self.oversized(head, now);
                Ok(())
            }
            Frame::Packet { first, body } => {
                let packet =
                    decode(first, body, self.version).map_err(|error| Violation(0x81, error.0))?;
                self.handle_packet(packet, now)
            }
        }
    }

    fn handle_packet(&mut self, packet: Packet, now: Instant) -> Result<(), Fatal> {
        match packet {
            Packet::Publish(publish) => return self.message(publish, now),
            Packet::PubAck { id, reason } => self.outbound.puback(id, reason, &mut self.ids),
            Packet::PubRec { id, reason } => {
                self.outbound
                    .pubrec(id, reason, &mut self.ids, &mut self.out)
            }
            Packet::PubComp { id } => self.outbound.pubcomp(id, &mut self.ids),
            Packet::PubRel { id } => {
                if self.inbound.pubrel(id) {
                    self.releases.push(id);
                }
            }
            Packet::SubAck { id, codes } => {
                let fits = self.subscriptions.suback(id, &codes, now);
                self.answered(id, fits, "a SUBACK fits no SUBSCRIBE", now)?;
            }
            Packet::UnsubAck { id, .. } => {
                let fits = self.subscriptions.unsuback(id);
                self.answered(id, fits, "an UNSUBACK fits no UNSUBSCRIBE", now)?;
            }
            Packet::PingResp => {
                self.liveness.answered();
                if let Some(drain) = &mut self.drain {
                    drain.answered = true;
                    drain.last = drain.last.max(now);
                }
                self.events.push(Event::Alive { at: now });
            }
            Packet::Disconnect { reason, text } => return Err(told_to_go(reason, text)),
            Packet::ConnAck(_) => return Err(Violation(0x82, "a second CONNACK").into()),
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: u16,
        fits: bool,
        text: &'static str,
        now: Instant,
    ) -> Result<(), Fatal> {
        if !fits {
            return Err(Violation(0x82, text).into());
        }
        self.ids.give_back(id);
        self.recent.clear();
        self.asked_at = None;
        self.advance(now);
        Ok(())
    }

    /// When `handle_timeout` wants to be called; `reading` is false while the consumer holds us back.
    pub(crate) fn poll_timeout(&self, reading: bool) -> Instant {
        let mut at = self.liveness.poll_timeout(reading);
        if let Some(drain) = self.drain.as_ref().filter(|_| self.started) {
            let quiet = drain.last + self.drain_quiet;
            at = at.min(drain.since + self.drain_limit);
            if drain.answered && self.inbound.is_idle() {
                at = at.min(quiet);
            }
        }
        let retry = self.subscriptions.poll_timeout().filter(|_| self.started);
        let others = [retry, self.asked_at.map(|since| since + ANSWER_LIMIT)];
        others.into_iter().flatten().fold(at, Instant::min)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, reading: bool) -> Result<(), Fatal> {
        match self.liveness.due(now, reading) {
            Due::Dead => {
                let text = "no packet from the server within one and a half keep-alives";
                return Err(Fatal {
                    error: SessionError::new(ErrorKind::KeepAlive, text),
                    code: 0,
                });
            }
            Due::Ping => self.ping(now),
            Due::Nothing => {}
        }
        if self
            .asked_at
            .is_some_and(|since| now >= since + ANSWER_LIMIT)
        {
            return Err(Violation(0x82, "a SUBSCRIBE was not answered within two minutes").into());
        }
        self.subscriptions.handle_timeout(now);
        self.advance(now);
        Ok(())
    }

    /// Sends what the subscriptions need and reports when they have settled.
    fn advance(&mut self, now: Instant) {
        if !self.started {
            return;
        }
        if let Some(drain) = &self.drain {
            let quiet =
                drain.answered && self.inbound.is_idle() && now >= drain.last + self.drain_quiet;
            if quiet || now >= drain.since + self.drain_limit {
                self.drain = None;
                self.subscriptions.drained();
            }
        }
        let drained = self.drain.is_none();
        let steps = self.subscriptions.plan(drained, now);
        self.remember();
        for step in steps {
            let Some(id) = self.ids.take() else { return };
            match &step {
                Step::Subscribe {
                    filters,
                    identifier,
                } => {
                    encode_subscribe(&mut self.out, id, filters, *identifier, self.version);
                    Counters::add(&self.counters.subscribe_packets, 1);
                }
                Step::Unsubscribe { filters } => {
                    encode_unsubscribe(&mut self.out, id, filters, self.version)
                }
            }
            self.subscriptions.sent(id, &step);
            self.asked_at.get_or_insert(now);
        }
        if let Some(refused) = self.subscriptions.settled(drained, now) {
            self.events.push(Event::Subscribed { refused, at: now });
        }
    }

    /// Writes down what the server may hold before it is told to hold it.
    fn remember(&mut self) {
        let held = self.subscriptions.may_hold();
        if self.written.as_ref() == Some(&held) {
            return;
        }
        match self.state.set_subscriptions(&held) {
            Ok(()) => self.written = Some(held),
            Err(error) => tracing::warn!(%error, "the list of subscriptions could not be stored"),
        }
    }
}
