//! Plays a trace to the machine that has decided when it was recorded, with the trace's own clock. In: entries.
//! Out: each change with its reason. Knows no other clock; when to go on is left to the caller.
//!
//! Between two entries every timer goes off exactly when it is due. A live handler is a little later than that,
//! by as much as its process had to wait; nothing else differs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Event, Message, Payload};
use crate::clock::Now;
use crate::details::Details;
use crate::identity::ServerName;
use crate::presence::{Change, Ignored, Inbound, Options, Presence};

/// Stands for a payload that was not kept, on topics where it counts only that there is one.
const ANY: &[u8] = b"?";

/// A change, and what is known of the device after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub time: Timestamp,
    /// What has changed.
    pub change: Change,
    /// The whole story in one sentence; `None` for a change that another one has followed at once.
    pub explanation: Option<String>,
}

/// A machine on the clock of a trace.
#[derive(Debug)]
pub struct Replay {
    presence: Presence,
    start: Now,
    /// As far as it has come.
    at: Duration,
    /// The timer that went off last.
    woken: Option<Duration>,
    undecided: u64,
}

impl Replay {
    /// A machine that is made when the trace begins. The monotonic clock starts wherever the caller likes.
    #[must_use]
    pub fn new(details: Arc<Details>, time: Timestamp, mono: Instant) -> Self {
        let start = Now { mono, wall: time };
        let mut presence = Presence::new(details, Options::default(), start);
        presence.keep_journal();
        Self {
            presence,
            start,
            at: Duration::ZERO,
            woken: None,
            undecided: 0,
        }
    }

    /// The machine.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Where the clock stands.
    #[must_use]
    pub fn now(&self) -> Now {
        self.start.plus(self.at)
    }

    /// Messages that would have decided something, had their payloads been kept.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.undecided
    }

    /// When the next timer goes off, if that is before `until`.
    #[must_use]
    pub fn next_timer(&self, until: Duration) -> Option<Duration> {
        let due = self.presence.poll_timeout()?;
        let due = due.saturating_duration_since(self.start.mono).max(self.at);
        // What is still due after it went off waits for something else than time.
        (due <= until && self.woken != Some(due)).then_some(due)
    }

    /// Lets a timer go off; or the time pass until then, if there is none before.
    pub fn wake(&mut self, at: Duration) -> Vec<Seen> {
        self.woken = Some(at);
        self.turn(at)
    }

    /// Takes what has happened on a server.
    pub fn take(&mut self, at: Duration, server: &ServerName, event: &Event<'_>) -> Vec<Seen> {
        let now = self.start.plus(at);
        match event {
            Event::Connected { resumed } => {
                self.presence.on_connected(server, now);
                if !resumed {
                    self.presence.on_session_lost(server, now);
                }
            }
            Event::Subscribed => self.presence.on_subscribed(server, now),
            Event::Alive => self.presence.on_packet(server, now.mono),
            Event::Disconnected { last_packet } => {
                let last_packet = self.start.plus(*last_packet).mono;
                self.presence.on_disconnected(server, last_packet, now);
            }
            Event::TooLarge { topic, retained } => {
                self.presence.on_packet(server, now.mono);
                if *retained {
                    self.presence.on_too_large(server, topic, now);
                }
            }
            Event::Message(message) => {
                self.presence.on_packet(server, now.mono);
                self.message(server, message, now);
            }
        }
        self.woken = None;
        self.turn(at)
    }

    /// Whether the payload of a message on this topic decides something, by what is known until now.
    #[must_use]
    pub fn decides(&self, server: &ServerName, topic: &str) -> bool {
        self.presence.decides(server, topic)
    }

    fn message(&mut self, server: &ServerName, message: &Message<'_>, now: Now) {
        let (payload, stands_in) = match &message.payload {
            Payload::Kept(payload) => (&payload[..], false),
            Payload::Left { bytes: 0, .. } => (&b""[..], false),
            Payload::Left { .. } if self.decides(server, &message.topic) => {
                self.undecided += 1;
                return;
            }
            Payload::Left { .. } => (ANY, true),
        };
        let inbound = Inbound {
            topic: &message.topic,
            payload,
            retained: message.retained,
            qos: message.qos,
        };
        let misread = stands_in.then(|| self.unknown_payloads());
        self.presence.on_message(server, inbound, now);
        if misread.is_some_and(|before| self.unknown_payloads() > before) {
            self.undecided += 1;
        }
    }

    fn unknown_payloads(&self) -> u64 {
        let ignored = self.presence.counters().ignored();
        let unknown = ignored.filter(|(why, _)| *why == Ignored::UnknownPayload);
        unknown.map(|(_, count)| count).sum()
    }

    /// What follows everything that has happened, as in a live handler.
    fn turn(&mut self, at: Duration) -> Vec<Seen> {
        // Two servers have two connections: their events may overtake each other by a little.
        self.at = self.at.max(at);
        let now = self.now();
        self.presence.handle_timeout(now);
        // Nobody hears it; but that it was said counts.
        let _ = self.presence.outgoing(now);
        let changes = self.presence.take_changes();
        let mut seen: Vec<Seen> = Vec::with_capacity(changes.len());
        let mut later = HashSet::new();
        for change in changes.into_iter().rev() {
            let is_last = later.insert(change.device.clone());
            let explained = is_last.then(|| self.presence.explain(&change.device, now));
            seen.push(Seen {
                time: now.wall,
                change,
                explanation: explained.flatten().map(|it| it.explanation),
            });
        }
        seen.reverse();
        seen
    }
}
