//! What the sinks count. In: a registry at start. Out: handles for a sink. The label `sink` is its name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::failure::Reason;

/// Which sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabel {
    sink: String,
}

/// Which sink, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    sink: String,
    reason: &'static str,
}

/// What all sinks count.
#[derive(Clone, Debug)]
pub struct SinkMetrics {
    lag_messages: Family<SinkLabel, Gauge>,
    lag_seconds: Family<SinkLabel, Gauge>,
    sent: Family<SinkLabel, Counter>,
    refused: Family<SinkLabel, Counter>,
    lost: Family<SinkLabel, Counter>,
    errors: Family<ReasonLabels, Counter>,
    batch_seconds: Family<SinkLabel, Histogram, fn() -> Histogram>,
}

/// 1 ms to 33 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Default for SinkMetrics {
    fn default() -> Self {
        Self {
            lag_messages: Family::default(),
            lag_seconds: Family::default(),
            sent: Family::default(),
            refused: Family::default(),
            lost: Family::default(),
            errors: Family::default(),
            batch_seconds: Family::new_with_constructor(seconds),
        }
    }
}

impl SinkMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "sink_lag_messages",
            "Stored messages that the sink has not sent yet",
            self.lag_messages.clone(),
        );
        registry.register(
            "sink_lag_seconds",
            "Age of the oldest message that the sink has not sent yet",
            self.lag_seconds.clone(),
        );
        let counters = [
            ("sink_sent", "Messages that the sink has taken", &self.sent),
            (
                "sink_refused",
                "Messages that the sink refuses for good; they were left out",
                &self.refused,
            ),
            (
                "sink_lost",
                "Messages that were deleted before the sink could send them",
                &self.lost,
            ),
        ];
        for (name, help, family) in counters {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "sink_errors",
            "Attempts that failed, by reason",
            self.errors.clone(),
        );
        registry.register(
            "sink_batch_seconds",
            "Time until the sink has taken a batch",
            self.batch_seconds.clone(),
        );
    }

    /// Those of one sink.
    #[must_use]
    pub fn of(&self, sink: &str) -> OneSink {
        let label = SinkLabel {
            sink: sink.to_owned(),
        };
        OneSink {
            lag_messages: self.lag_messages.get_or_create(&label).clone(),
            lag_seconds: self.lag_seconds.get_or_create(&label).clone(),
            sent: self.sent.get_or_create(&label).clone(),
            refused: self.refused.get_or_create(&label).clone(),
            lost: self.lost.get_or_create(&label).clone(),
            batch_seconds: self.batch_seconds.get_or_create(&label).clone(),
            errors: self.errors.clone(),
            sink: sink.to_owned(),
        }
    }
}

/// What one sink counts.
#[derive(Clone, Debug)]
pub struct OneSink {
    /// Stored messages that are not sent yet.
    pub lag_messages: Gauge,
    /// Age of the oldest of them.
    pub lag_seconds: Gauge,
    /// Messages taken.
    pub sent: Counter,
    /// Messages left out, because the other side refuses them.
    pub refused: Counter,
    /// Messages that retention deleted first.
    pub lost: Counter,
    /// Time of a batch.
    pub batch_seconds: Histogram,
    errors: Family<ReasonLabels, Counter>,
    sink: String,
}

impl OneSink {
    /// An attempt failed.
    pub fn failed(&self, reason: Reason) {
        let labels = ReasonLabels {
            sink: self.sink.clone(),
            reason: reason.as_str(),
        };
        self.errors.get_or_create(&labels).inc();
    }
}
