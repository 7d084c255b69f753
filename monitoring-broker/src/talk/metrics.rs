//! What is counted of commands and announcements. No label per device or topic.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Answered,
    Invalid,
    Off,
    UnknownDevice,
    NotServed,
    NotAllowed,
    NotPossible,
    Denied,
    Quota,
    Unavailable,
    TooMany,
    Late,
    CallerGone,
}

impl Outcome {
    const ALL: [Self; 14] = [
        Self::Accepted,
        Self::Answered,
        Self::CallerGone,
        Self::Denied,
        Self::Invalid,
        Self::Late,
        Self::NotAllowed,
        Self::NotPossible,
        Self::NotServed,
        Self::Off,
        Self::Quota,
        Self::TooMany,
        Self::Unavailable,
        Self::UnknownDevice,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Answered => "answered",
            Self::Invalid => "invalid",
            Self::Off => "off",
            Self::UnknownDevice => "unknown_device",
            Self::NotServed => "not_served",
            Self::NotAllowed => "not_allowed",
            Self::NotPossible => "not_possible",
            Self::Denied => "denied",
            Self::Quota => "quota",
            Self::Unavailable => "unavailable",
            Self::TooMany => "too_many",
            Self::Late => "timeout",
            Self::CallerGone => "caller_gone",
        }
    }
}

/// See the module; clones count the same.
#[derive(Clone, Debug)]
pub(super) struct TalkMetrics {
    results: Results,
    pub(super) seconds: Histogram,
    pub(super) waiting: Gauge,
    pub(super) dropped: Counter,
    pub(super) announcements_failed: Counter,
}

#[derive(Clone, Debug)]
struct Results([(Outcome, Counter); Outcome::ALL.len()]);

impl Default for TalkMetrics {
    fn default() -> Self {
        Self {
            results: Results(Outcome::ALL.map(|outcome| (outcome, Counter::default()))),
            // 1 ms to 524 s: the longest timeout is 300 s.
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            waiting: Gauge::default(),
            dropped: Counter::default(),
            announcements_failed: Counter::default(),
        }
    }
}

impl TalkMetrics {
    pub(super) fn count(&self, outcome: Outcome) {
        let mut known = self.results.0.iter();
        if let Some((_, counter)) = known.find(|(known, _)| *known == outcome) {
            counter.inc();
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.results.clone()));
        registry.register(
            "command_seconds",
            "Time of a command that was sent, with the device's response if that was asked for",
            self.seconds.clone(),
        );
        registry.register(
            "commands_waiting",
            "Commands that wait for the server or for a response",
            self.waiting.clone(),
        );
        registry.register(
            "command_responses_dropped",
            "Responses that came too late, or that no command waits for",
            self.dropped.clone(),
        );
        registry.register(
            "announcements_failed",
            "Announcements of this process, or Last Wills, that a server did not take",
            self.announcements_failed.clone(),
        );
    }
}

impl Collector for Results {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Commands by result";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("commands", help, None, kind)?;
        for (outcome, counter) in &self.0 {
            let labels = [("result", outcome.label())];
            counter.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
