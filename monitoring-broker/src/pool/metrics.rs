//! What a member of a pool counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api::union::ForwardMetrics;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct PoolMetrics {
    /// Members that live.
    pub members: Gauge,
    /// Shards that this member has.
    pub held: Gauge,
    /// Shards that it took.
    pub taken: Counter,
    /// Shards that it gave back in order.
    pub handed_over: Counter,
    /// Requests to other members.
    pub forwarded: ForwardMetrics,
}

impl PoolMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "pool_members",
            "Members of the pool that live",
            self.members.clone(),
        );
        registry.register(
            "pool_shards",
            "Shards of the pool that this member has",
            self.held.clone(),
        );
        registry.register(
            "pool_shards_taken",
            "Shards that this member took",
            self.taken.clone(),
        );
        registry.register(
            "pool_shards_handed_over",
            "Shards that this member gave back in order",
            self.handed_over.clone(),
        );
        self.forwarded.register(registry);
    }
}
