//! What the Leases of a pool say, as this process has seen them. In: events of their watch, and the time. Out: who
//! lives, which shards are free, whose silence is to be looked into. Sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_cluster::{Observed, Record, lease};
use akri_mqtt_core::pool::{Member, Shard};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::Event;

use super::names::{About, Facts, Identity, Names, facts, is_held_by, is_leaving, peer};
use crate::pool::peer::{Live, Peer};

/// A member as it was last seen, or one that a shard names and of which nothing was seen.
#[derive(Debug)]
struct Seen {
    observed: Observed,
    /// Whether there is a Lease, and whether there ever was one.
    there: bool,
    known: bool,
    leaving: bool,
    says: Option<Peer>,
    /// It was silent for too long.
    dead: bool,
}

impl Seen {
    /// One whose Lease was deleted is silent, not dead: it may make another one.
    fn is_live(&self) -> bool {
        self.known && !self.leaving && !self.dead && self.observed.record().holder.is_some()
    }

    /// What others act on.
    fn told(&self) -> (bool, Option<Arc<str>>, Option<Peer>) {
        let holder = self.observed.record().holder.clone();
        (self.is_live(), holder, self.says.clone())
    }
}

/// What became of the pool's own Lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It says what it said.
    Stands,
    /// Somebody deleted it.
    Gone,
    /// It says something else.
    Other(String),
}

/// See the module.
#[derive(Debug)]
pub struct View {
    names: Names,
    agreed: Facts,
    /// How long a silent member is waited for that does not say it itself.
    patience: Duration,
    members: BTreeMap<Member, Seen>,
    /// One without a version was deleted: who had it may have it.
    shards: BTreeMap<Shard, Lease>,
    pool: Option<Result<Facts, String>>,
    /// What a list that is under way has named.
    listing: BTreeSet<About>,
    listed: bool,
}

impl View {
    pub fn new(names: Names, agreed: Facts, patience: Duration) -> Self {
        Self {
            names,
            agreed,
            patience,
            members: BTreeMap::new(),
            shards: BTreeMap::new(),
            pool: None,
            listing: BTreeSet::new(),
            listed: false,
        }
    }

    /// Whether everything was listed once.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Returns whether anybody may have to act on it: a renewal alone is no reason.
    pub fn on_event(&mut self, event: Event<Lease>, now: Instant) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(lease) => {
                let about = self.about(&lease);
                self.listing.extend(about);
                self.put(lease, now)
            }
            Event::Apply(lease) => self.put(lease, now),
            Event::Delete(lease) => {
                let about = self.about(&lease);
                about.is_some_and(|about| self.gone(&about))
            }
            Event::InitDone => {
                let named = std::mem::take(&mut self.listing);
                let members = self.members.keys().cloned().map(About::Member);
                let shards = self.shards.keys().copied().map(About::Shard);
                let known: Vec<_> = members.chain(shards).chain([About::Pool]).collect();
                for about in known.iter().filter(|about| !named.contains(about)) {
                    self.gone(about);
                }
                self.listed = true;
                true
            }
        }
    }

    /// A Lease as it stands.
    pub fn put(&mut self, lease: Lease, now: Instant) -> bool {
        match self.about(&lease) {
            None => false,
            Some(About::Pool) => {
                self.pool = Some(facts(&lease));
                true
            }
            Some(About::Member(member)) => self.put_member(member, &lease, now),
            Some(About::Shard(shard)) => {
                self.expect(lease::record(&lease).holder, now);
                self.shards.insert(shard, lease);
                true
            }
        }
    }

    fn put_member(&mut self, member: Member, lease: &Lease, now: Instant) -> bool {
        let record = lease::record(lease);
        let before = self.members.get(&member).map(Seen::told);
        let seen = self.members.entry(member).or_insert_with(|| Seen {
            observed: Observed::new(record.clone(), now),
            there: true,
            known: true,
            leaving: false,
            says: None,
            dead: false,
        });
        if seen.observed.see(record, now) {
            seen.dead = false;
        }
        (seen.there, seen.known) = (true, true);
        (seen.leaving, seen.says) = (is_leaving(lease), peer(lease));
        before != Some(seen.told())
    }

    /// The holder of a shard without a Lease of its own may live: it is silent from now on.
    fn expect(&mut self, holder: Option<Arc<str>>, now: Instant) {
        let Some(member) = holder.as_deref().and_then(Identity::member_of) else {
            return;
        };
        let is_known = |seen: &Seen| seen.there || seen.observed.record().holder == holder;
        if self.members.get(&member).is_some_and(is_known) {
            return;
        }
        let record = Record {
            holder,
            ..Record::default()
        };
        let silent = Seen {
            observed: Observed::new(record, now),
            there: false,
            known: false,
            leaving: false,
            says: None,
            dead: false,
        };
        self.members.insert(member, silent);
    }

    /// What was deleted is as good as silent for those whom it names: they may run on.
    fn gone(&mut self, about: &About) -> bool {
        match about {
            About::Pool => self.pool.take().is_some(),
            About::Shard(shard) => {
                let lease = self.shards.get_mut(shard);
                let version = lease.and_then(|lease| {
                    lease.metadata.uid = None;
                    lease.metadata.creation_timestamp = None;
                    lease.metadata.resource_version.take()
                });
                version.is_some()
            }
            About::Member(member) => {
                let seen = self.members.get_mut(member);
                seen.is_some_and(|seen| std::mem::take(&mut seen.there))
            }
        }
    }

    fn about(&self, lease: &Lease) -> Option<About> {
        self.names.about(lease, self.agreed.shards)
    }

    /// The members that shards may be placed on.
    pub fn live(&self) -> Live {
        let live = self.members.iter().filter(|(_, seen)| seen.is_live());
        live.map(|(member, seen)| (member.clone(), seen.says.clone()))
            .collect()
    }

    /// The shard's Lease as it stands, if nobody else who may live holds it: none is to be made.
    pub fn free(&self, shard: Shard, me: &Identity) -> Option<Option<&Lease>> {
        if !self.listed {
            return None;
        }
        let lease = self.shards.get(&shard);
        let holder = lease.and_then(|lease| lease::record(lease).holder);
        let is_held = holder.is_some_and(|holder| *holder != *me.as_str() && self.holds(&holder));
        (!is_held).then_some(lease)
    }

    /// Whether the one who stands in a shard's Lease may still serve it.
    fn holds(&self, holder: &Arc<str>) -> bool {
        let member = Identity::member_of(holder);
        let seen = member.and_then(|member| self.members.get(&member));
        seen.is_some_and(|seen| {
            !seen.dead && seen.observed.record().holder.as_ref() == Some(holder)
        })
    }

    /// The shards whose Leases name somebody.
    pub fn held_by(&self, holder: &Identity) -> Vec<(Shard, Lease)> {
        let shards = self.shards.iter();
        let shards = shards.filter(|(_, lease)| is_held_by(lease, holder));
        shards
            .map(|(shard, lease)| (*shard, lease.clone()))
            .collect()
    }

    /// Whether there is a Lease of a shard.
    pub fn has(&self, shard: Shard) -> bool {
        let lease = self.shards.get(&shard);
        lease.is_some_and(|lease| lease.metadata.resource_version.is_some())
    }

    /// Others of whom nothing was heard for too long. Each is to be read once more, for the watch may be the one
    /// that is silent.
    pub fn silent(&self, me: &Member, now: Instant) -> Vec<Member> {
        let silent = self.members.iter().filter(|(member, seen)| {
            *member != me && !seen.dead && seen.observed.is_stale(self.patience, now)
        });
        silent.map(|(member, _)| member.clone()).collect()
    }

    /// A silent member's Lease was read. Returns whether anybody has to act on it.
    pub fn confirm(&mut self, member: &Member, lease: Option<&Lease>, now: Instant) -> bool {
        let changed = match lease {
            Some(lease) => self.put_member(member.clone(), lease, now),
            None => false,
        };
        let patience = self.patience;
        let Some(seen) = self.members.get_mut(member) else {
            return changed;
        };
        seen.there = lease.is_some();
        if !seen.observed.is_stale(patience, now) {
            return changed;
        }
        seen.dead = true;
        true
    }

    /// Forgets the dead whom nothing names any more.
    pub fn prune(&mut self) {
        let holders = self
            .shards
            .values()
            .map(|lease| lease::record(lease).holder);
        let holders: BTreeSet<_> = holders.flatten().collect();
        self.members.retain(|_, seen| {
            let holder = &seen.observed.record().holder;
            let is_named = holder
                .as_ref()
                .is_some_and(|holder| holders.contains(holder));
            seen.there || !seen.dead || is_named
        });
    }

    /// What became of what all members agree on.
    pub fn agreement(&self) -> Agreement {
        match &self.pool {
            None if self.listed => Agreement::Gone,
            None => Agreement::Stands,
            Some(Ok(facts)) if *facts == self.agreed => Agreement::Stands,
            Some(Ok(facts)) => {
                Agreement::Other(format!("id {}, {} shards", facts.id, facts.shards))
            }
            Some(Err(reason)) => Agreement::Other(reason.clone()),
        }
    }
}
