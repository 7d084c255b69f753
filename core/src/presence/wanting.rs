//! What to subscribe. In: announcing topics and data topics, from entries, conventions and payloads.
//! Out: a sorted set without what another filter covers.

use std::collections::BTreeMap;

use super::Wanted;
use super::machine::Presence;
use crate::details::QoS;
use crate::identity::ServerName;
use crate::topic::TopicFilter;

/// How announcing topics and data are subscribed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanting {
    pub qos: QoS,
    /// Whether retained data is wanted too.
    pub trust: bool,
}

impl Wanting {
    pub fn of<'f>(
        self,
        announcing: impl Iterator<Item = &'f TopicFilter>,
        data: impl Iterator<Item = &'f TopicFilter>,
    ) -> impl Iterator<Item = Wanted> {
        let announcing = announcing.map(move |filter| Wanted {
            filter: filter.clone(),
            qos: self.qos,
            snapshot: true,
        });
        announcing.chain(data.map(move |filter| Wanted {
            filter: filter.clone(),
            qos: QoS::AtMostOnce,
            snapshot: self.trust,
        }))
    }
}

/// The filters that take everything that all of them take: none is covered by one that brings at
/// least as much.
pub(super) fn least(all: impl Iterator<Item = Wanted>) -> Vec<Wanted> {
    let mut merged: BTreeMap<TopicFilter, Wanted> = BTreeMap::new();
    for one in all {
        let entry = merged
            .entry(one.filter.clone())
            .or_insert_with(|| one.clone());
        entry.qos = entry.qos.max(one.qos);
        entry.snapshot |= one.snapshot;
    }
    // Only a wildcard covers another filter; the others may be many.
    let wild: Vec<&Wanted> = merged
        .values()
        .filter(|w| w.filter.has_wildcard())
        .collect();
    let covered = |one: &Wanted| {
        wild.iter().any(|other| {
            other.filter != one.filter
                && other.qos >= one.qos
                && other.snapshot >= one.snapshot
                && other.filter.covers(&one.filter)
                // `#` and its like can cover each other; then the first one stays.
                && !(one.filter.covers(&other.filter) && one.filter < other.filter)
        })
    };
    merged
        .values()
        .filter(|one| !covered(one))
        .cloned()
        .collect()
}

impl Presence {
    /// What to subscribe on every server from the start, sorted. It never changes.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Wanted> {
        self.rules.wanted().to_vec()
    }

    /// The same with what payloads of conventions have named on this server until now.
    #[must_use]
    pub fn subscriptions_on(&self, server: &ServerName) -> Vec<Wanted> {
        let index = self.server_index(server);
        index.map_or_else(Vec::new, |index| self.rules.wanted_on(index))
    }

    /// Whether payloads on a topic of a server decide, by what they have named until now; on all other topics it
    /// counts only that there is a message.
    #[must_use]
    pub fn decides(&self, server: &ServerName, topic: &str) -> bool {
        let index = self.server_index(server);
        index.is_some_and(|index| self.rules.decides(index, topic))
    }

    /// Changes whenever [`Presence::subscriptions_on`] does for one of the servers.
    #[must_use]
    pub fn subscriptions_revision(&self) -> u64 {
        self.rules.revision()
    }
}
