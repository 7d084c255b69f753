//! The state of a session for metrics, readiness and people.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{ErrorKind, QoS, ServerUrl, SessionError, Version};

/// The state of a session; changes are announced, the counters are always current.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether a server has accepted the connection.
    pub connected: bool,
    /// Whether every wanted filter has its SUBACK on this connection.
    pub subscribed: bool,
    /// The member that is connected, or was last.
    pub url: Option<ServerUrl>,
    /// The version of the connection.
    pub version: Option<Version>,
    /// Whether the server accepted the connection only without our Last Will.
    pub will_refused: bool,
    /// Since when `connected` has its value.
    pub since: Instant,
    /// The last failure; stays after a reconnect.
    pub last_error: Option<SessionError>,
    /// Filters that the server refuses, with its reasons, sorted.
    pub refused: Vec<(String, String)>,
    /// Counters.
    pub counters: Arc<Counters>,
}

/// Counters of a session; every one only grows.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) received: [AtomicU64; 3],
    pub(crate) received_bytes: AtomicU64,
    pub(crate) skipped_too_large: AtomicU64,
    pub(crate) skipped_duplicate: AtomicU64,
    pub(crate) skipped_overlap: AtomicU64,
    pub(crate) skipped_invalid_topic: AtomicU64,
    pub(crate) sessions_lost: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) subscribe_packets: AtomicU64,
    pub(crate) connects_ok: AtomicU64,
    pub(crate) disconnects: Mutex<BTreeMap<ErrorKind, u64>>,
}

/// The values of [`Counters`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountersSnapshot {
    /// Messages handed to the consumer, by QoS 0, 1, 2.
    pub received: [u64; 3],
    /// Bytes read from the server.
    pub received_bytes: u64,
    /// Messages not handed to the consumer, by reason (`too_large`, `duplicate`, `overlap`, `invalid_topic`).
    pub skipped: BTreeMap<&'static str, u64>,
    /// Attempts to connect by result: `ok` or the label of an [`ErrorKind`]; ends of connections likewise.
    pub connects: BTreeMap<&'static str, u64>,
    /// Times that the server had lost the session.
    pub sessions_lost: u64,
    /// Messages published.
    pub published: u64,
    /// SUBSCRIBE packets sent.
    pub subscribe_packets: u64,
}

impl Counters {
    /// The values now.
    #[must_use]
    pub fn snapshot(&self) -> CountersSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failures = self
            .disconnects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut connects: BTreeMap<_, _> = failures
            .iter()
            .map(|(kind, n)| (kind.label(), *n))
            .collect();
        connects.insert("ok", get(&self.connects_ok));
        CountersSnapshot {
            received: self.received.each_ref().map(get),
            received_bytes: get(&self.received_bytes),
            skipped: BTreeMap::from([
                ("duplicate", get(&self.skipped_duplicate)),
                ("invalid_topic", get(&self.skipped_invalid_topic)),
                ("overlap", get(&self.skipped_overlap)),
                ("too_large", get(&self.skipped_too_large)),
            ]),
            connects,
            sessions_lost: get(&self.sessions_lost),
            published: get(&self.published),
            subscribe_packets: get(&self.subscribe_packets),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: ErrorKind) {
        let mut failures = self
            .disconnects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(kind).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn received(&self, qos: QoS) {
        let [zero, one, two] = &self.received;
        Self::add(
            match qos {
                QoS::AtMostOnce => zero,
                QoS::AtLeastOnce => one,
                QoS::ExactlyOnce => two,
            },
            1,
        );
    }
}

impl Status {
    pub(crate) fn new(now: Instant, counters: Arc<Counters>) -> Self {
        Self {
            connected: false,
            subscribed: false,
            url: None,
            version: None,
            will_refused: false,
            since: now,
            last_error: None,
            refused: Vec::new(),
            counters,
        }
    }
}
