//! What the API counts. In: a registry at start. Out: handles. No label per device or topic.

use std::fmt;

use akri_mqtt_core::decode::Decoder;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ApiMetrics {
    /// Open streams.
    pub watchers: Gauge,
    /// How many messages the last watcher that looked into the store was behind.
    pub watch_lag: Gauge,
    /// Gaps that were sent to watchers.
    pub gaps: Counter,
}

impl ApiMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("watchers", "Open streams", self.watchers.clone());
        registry.register(
            "watch_lag_messages",
            "Messages that the watcher served last was behind",
            self.watch_lag.clone(),
        );
        registry.register(
            "watch_gaps",
            "Gaps that were sent to watchers",
            self.gaps.clone(),
        );
    }
}

/// Payloads that could not be read, by decoder. A payload is read when it is asked for, so one that is asked for
/// twice counts twice.
#[derive(Clone, Debug)]
pub struct DecodeErrors([(Decoder, Counter); Decoder::ALL.len()]);

impl Default for DecodeErrors {
    fn default() -> Self {
        Self(Decoder::ALL.map(|decoder| (decoder, Counter::default())))
    }
}

impl DecodeErrors {
    /// Counts one.
    pub fn count(&self, decoder: Decoder) {
        let mut known = self.0.iter();
        if let Some((_, counter)) = known.find(|(known, _)| *known == decoder) {
            counter.inc();
        }
    }

    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

impl Collector for DecodeErrors {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Payloads that could not be read when they were asked for";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("decode_errors", help, None, kind)?;
        for (decoder, counter) in &self.0 {
            let labels = [("decoder", decoder.as_str())];
            counter.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
