//! What the monitoring broker counts. In: a registry at start. Out: handles for the parts.
//! No label per device or topic.

use akri_mqtt_session::SessionMetrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What the store counts.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    /// Messages stored.
    pub messages: Counter,
    /// Transactions committed.
    pub commits: Counter,
    /// Their time, with the sync.
    pub commit_seconds: Histogram,
    /// Bytes on the disk.
    pub bytes: Gauge,
    /// Age of the oldest message.
    pub oldest_seconds: Gauge,
    /// Messages deleted by retention.
    pub expired: Counter,
    /// QoS 2 messages that were stored before and came again.
    pub repeated: Counter,
    /// Messages whose topic found no room in the catalog.
    pub unnumbered: Counter,
    /// Reads that failed.
    pub unreadable: Counter,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            messages: Counter::default(),
            commits: Counter::default(),
            // 0.1 ms to 3.3 s.
            commit_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            bytes: Gauge::default(),
            oldest_seconds: Gauge::default(),
            expired: Counter::default(),
            repeated: Counter::default(),
            unnumbered: Counter::default(),
            unreadable: Counter::default(),
        }
    }
}

impl StoreMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("store_messages", "Messages stored", &self.messages),
            ("store_commits", "Transactions committed", &self.commits),
            (
                "store_expired",
                "Messages deleted by retention",
                &self.expired,
            ),
            (
                "store_repeated",
                "QoS 2 messages that came again and were not stored again",
                &self.repeated,
            ),
            (
                "store_unnumbered",
                "Messages whose topic found no room in the catalog",
                &self.unnumbered,
            ),
            (
                "store_unreadable",
                "Reads that failed because the store is damaged or the disk fails",
                &self.unreadable,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "store_commit_seconds",
            "Time of a commit with its sync",
            self.commit_seconds.clone(),
        );
        registry.register(
            "store_bytes",
            "Bytes of the store on the disk",
            self.bytes.clone(),
        );
        registry.register(
            "store_oldest_seconds",
            "Age of the oldest message",
            self.oldest_seconds.clone(),
        );
    }
}

/// What ingestion counts.
#[derive(Clone, Debug, Default)]
pub struct IngestMetrics {
    /// What the sessions count.
    pub sessions: SessionMetrics,
    /// Messages of other devices that a filter took.
    pub foreign: Counter,
    /// Messages whose acknowledgement waits for a commit.
    pub acks_pending: Gauge,
    rebirths: Family<[(&'static str, &'static str); 1], Counter>,
}

impl IngestMetrics {
    /// Requests for the births of Edge Nodes, by result: `sent` or `lost`.
    pub fn rebirths(&self, result: &'static str) -> Counter {
        self.rebirths.get_or_create_owned(&[("result", result)])
    }

    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.sessions.clone()));
        registry.register(
            "messages_foreign",
            "Messages of other devices that a filter took and that were dropped",
            self.foreign.clone(),
        );
        registry.register(
            "acks_pending",
            "Messages whose acknowledgement waits for a commit",
            self.acks_pending.clone(),
        );
        for result in ["sent", "lost"] {
            drop(self.rebirths(result));
        }
        registry.register(
            "sparkplug_rebirth_requests",
            "Edge Nodes that were asked for their births",
            self.rebirths.clone(),
        );
    }
}
