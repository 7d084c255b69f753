//! Counters of registrations and discovery. In: what happens. Out: metrics, with closed sets of labels.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::LeftOut;

/// Why a Discover call failed or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Failure {
    /// The handler refuses what it is asked for.
    Refused,
    /// It cannot be reached.
    Unreachable,
    /// It answered with another error.
    Error,
    /// A response was larger than one may be.
    TooLarge,
    /// It ended the stream.
    Ended,
}

/// Why a device is no device for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Unlisted {
    /// Without an id.
    Nameless,
    /// The id of another one.
    Duplicate,
    /// Too large.
    Oversized,
    /// Too many.
    Excess,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Registered {
    /// It was taken.
    Accepted,
    /// It was refused.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFailure {
    reason: Failure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfUnlisted {
    reason: Unlisted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRegistered {
    result: Registered,
}

/// Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    streams: Gauge,
    lists: Counter,
    failures: Family<OfFailure, Counter>,
    unlisted: Family<OfUnlisted, Counter>,
    registrations: Family<OfRegistered, Counter>,
    endpoints: Gauge,
    references: Gauge,
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "discover_streams",
            "Discover streams that are open",
            self.streams.clone(),
        );
        registry.register(
            "discover_lists",
            "Lists of devices received",
            self.lists.clone(),
        );
        registry.register(
            "discover_failures",
            "Discover calls that failed and streams that ended, by reason",
            self.failures.clone(),
        );
        registry.register(
            "unlisted_devices",
            "Entries of received lists that were left out, by reason",
            self.unlisted.clone(),
        );
        registry.register(
            "handler_registrations",
            "Registrations of discovery handlers, by result",
            self.registrations.clone(),
        );
        registry.register(
            "handler_endpoints",
            "Endpoints of discovery handlers that are registered",
            self.endpoints.clone(),
        );
        registry.register(
            "watched_references",
            "Secrets and ConfigMaps that discoveryProperties name and that are watched",
            self.references.clone(),
        );
    }

    pub(crate) fn registration(&self, accepted: bool) {
        let result = if accepted {
            Registered::Accepted
        } else {
            Registered::Refused
        };
        self.registrations
            .get_or_create(&OfRegistered { result })
            .inc();
    }

    pub(crate) fn endpoints(&self, count: usize) {
        self.endpoints.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn references(&self, count: usize) {
        self.references
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn failed(&self, reason: Failure) {
        self.failures.get_or_create(&OfFailure { reason }).inc();
    }

    pub(crate) fn list(&self, left_out: &LeftOut) {
        self.lists.inc();
        let counts = [
            (Unlisted::Nameless, left_out.nameless),
            (Unlisted::Duplicate, left_out.duplicates),
            (Unlisted::Oversized, left_out.oversized),
            (Unlisted::Excess, left_out.excess),
        ];
        for (reason, count) in counts {
            if count > 0 {
                let counter = self.unlisted.get_or_create(&OfUnlisted { reason });
                counter.inc_by(count.into());
            }
        }
    }

    /// Counts a stream as open until the guard is dropped.
    pub(crate) fn stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }
}

/// An open stream.
#[derive(Debug)]
pub(crate) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
impl Metrics {
    pub(crate) fn failures(&self) -> u64 {
        let reasons = [
            Failure::Refused,
            Failure::Unreachable,
            Failure::Error,
            Failure::TooLarge,
            Failure::Ended,
        ];
        let count = |reason| self.failures.get_or_create(&OfFailure { reason }).get();
        reasons.into_iter().map(count).sum()
    }

    pub(crate) fn open_streams(&self) -> i64 {
        self.streams.get()
    }
}
