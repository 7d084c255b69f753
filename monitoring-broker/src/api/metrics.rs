//! What the API counts. In: a registry at start. Out: handles. No label per device or topic.

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
