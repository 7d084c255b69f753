//! How long a Lease has stood still. In: what it says each time that it is seen, and the time. Out: whether its
//! holder may be taken for dead.
//!
//! The clocks of two machines are never compared: a Lease is stale when *this* process has not seen
//! it change for as long as its holder promised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The longest promise of a holder that is believed; a Lease that was edited by hand must not lock
/// everybody out.
const LONGEST_LEASE: Duration = Duration::from_secs(120);

/// What a Lease says, as far as anybody here cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; none when it was given back.
    pub holder: Option<Arc<str>>,
    /// How long the holder may be silent, if it says so.
    pub lease: Option<Duration>,
    /// The holder's clock at its last renewal: only ever compared for being equal.
    pub renewed: Option<Timestamp>,
    /// How often the Lease changed hands.
    pub transitions: i32,
}

/// A Lease as this process knows it.
#[derive(Clone, Debug)]
pub struct Observed {
    record: Record,
    since: Instant,
}

impl Observed {
    /// A Lease that is seen for the first time.
    #[must_use]
    pub fn new(record: Record, now: Instant) -> Self {
        Self { record, since: now }
    }

    /// Sees it once more. Returns whether it has changed.
    pub fn see(&mut self, record: Record, now: Instant) -> bool {
        let changed = self.record != record;
        if changed {
            *self = Self::new(record, now);
        }
        changed
    }

    /// What it says.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether it has stood still for as long as its holder promised to renew it within, or for `otherwise`.
    #[must_use]
    pub fn is_stale(&self, otherwise: Duration, now: Instant) -> bool {
        let promised = self.record.lease.unwrap_or(otherwise);
        now.saturating_duration_since(self.since) >= promised.min(LONGEST_LEASE)
    }
}
