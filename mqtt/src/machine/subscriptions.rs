//! Brings what the server holds to what is wanted. In: the wanted set, SUBACK, UNSUBACK, time. Out: a plan of
//! few packets. Sends nothing itself.
//!
//! A filter with a snapshot is subscribed with QoS 0 after every connect, which brings its retained messages
//! without the server's queue limits, and then raised to its QoS.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use super::{
    overlap,
    slot::{Held, NEVER, Next, Refused, Slot, Spec, Wanted, is_shared, parse},
};
use crate::{
    QoS, Subscription,
    codec::{SubscribeFilter, subscribe_len},
};

/// Filters in one packet; few packets, and none that takes a server long.
const FILTERS_PER_PACKET: usize = 250;
/// Bytes of filters in one packet.
const BYTES_PER_PACKET: usize = 16 * 1024;
/// Packets that may wait for their acknowledgement at once.
const PACKETS_IN_FLIGHT: usize = 16;
/// What a packet in flight asked for.
#[derive(Debug)]
enum Request {
    Subscribe { filters: Vec<(String, Spec)> },
    Unsubscribe { filters: Vec<String> },
}

/// A packet to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Subscribe {
        filters: Vec<SubscribeFilter>,
        identifier: Option<u32>,
    },
    Unsubscribe {
        filters: Vec<String>,
    },
}

#[derive(Debug)]
pub(super) struct Subscriptions {
    slots: BTreeMap<String, Slot>,
    requests: HashMap<u16, Request>,
    asked: Vec<Subscription>,
    with_identifiers: bool,
    /// The server's limit on packets, for our batches.
    packet_bytes: usize,
    announced: bool,
    dirty: bool,
    /// No refused filter is to be tried again before this.
    retry: Option<Instant>,
}

impl Subscriptions {
    pub(super) fn new(wanted: Vec<Subscription>, held: Vec<(String, QoS)>, now: Instant) -> Self {
        let slots = held.into_iter().map(|(filter, qos)| {
            let slot = Slot {
                held: Held::Maybe(qos),
                ..Slot::default()
            };
            (filter, slot)
        });
        let mut subscriptions = Self {
            slots: slots.collect(),
            requests: HashMap::new(),
            asked: Vec::new(),
            with_identifiers: false,
            packet_bytes: BYTES_PER_PACKET,
            announced: false,
            dirty: true,
            retry: None,
        };
        subscriptions.set_wanted(wanted, now);
        subscriptions
    }

    /// Replaces the wanted set.
    pub(super) fn set_wanted(&mut self, wanted: Vec<Subscription>, now: Instant) {
        if wanted == self.asked {
            return;
        }
        self.asked = wanted;
        self.apply(now);
    }

    fn apply(&mut self, now: Instant) {
        let parsed: Vec<_> = self
            .asked
            .iter()
            .map(|entry| parse(&entry.filter))
            .collect();
        let chosen = if self.with_identifiers {
            let plain = self.asked.iter().zip(&parsed);
            let plain = plain
                .map(|(entry, filter)| filter.clone().ok().filter(|_| !is_shared(&entry.filter)));
            overlap::identifiers(&plain.collect::<Vec<_>>())
        } else {
            vec![None; self.asked.len()]
        };
        let old: BTreeMap<String, Option<Wanted>> = self
            .slots
            .iter_mut()
            .map(|(filter, slot)| (filter.clone(), slot.wanted.take()))
            .collect();
        for ((entry, parsed), chosen) in self.asked.iter().zip(parsed).zip(chosen) {
            let identifier = if self.with_identifiers {
                entry.identifier.or(chosen)
            } else {
                None
            };
            let wanted = Wanted {
                spec: Spec {
                    qos: entry.qos,
                    identifier,
                },
                snapshot: entry.snapshot,
                no_local: !is_shared(&entry.filter),
            };
            let slot = self.slots.entry(entry.filter.clone()).or_default();
            if old.get(&entry.filter).copied().flatten() != Some(wanted) {
                slot.refused = None;
                slot.snapshot_taken &= wanted.snapshot;
            }
            slot.wanted = Some(wanted);
            if let Err(reason) = parsed {
                slot.refused = Some(Refused {
                    reason,
                    retry_at: Some(now + NEVER),
                    pause: NEVER,
                });
            }
        }
        self.announced = false;
        self.dirty = true;
    }

    /// A new connection.
    pub(super) fn connected(&mut self, caps: (bool, usize), session_present: bool, now: Instant) {
        let (with_identifiers, packet_bytes) = caps;
        self.packet_bytes = packet_bytes.saturating_sub(32).clamp(16, BYTES_PER_PACKET);
        self.lost(session_present);
        if self.with_identifiers != with_identifiers {
            self.with_identifiers = with_identifiers;
            self.apply(now);
        }
    }

    fn lost(&mut self, session_present: bool) {
        for request in std::mem::take(&mut self.requests).into_values() {
            let unsure = match request {
                Request::Subscribe { filters } => filters,
                Request::Unsubscribe { .. } => Vec::new(),
            };
            for (filter, spec) in unsure {
                if let Some(slot) = self.slots.get_mut(&filter) {
                    slot.held = Held::Maybe(spec.qos);
                }
            }
        }
        for slot in self.slots.values_mut() {
            slot.in_flight = false;
            slot.snapshot_taken = false;
            slot.refused = slot.refused.take().filter(|refused| refused.pause == NEVER);
            if !session_present {
                slot.held = Held::No;
            }
        }
        self.announced = false;
        self.dirty = true;
    }

    pub(super) fn has_snapshots(&self) -> bool {
        self.asked.iter().any(|entry| entry.snapshot)
    }

    /// What the server's session may hold once the plan is carried out.
    pub(super) fn may_hold(&self) -> Vec<(String, QoS)> {
        let held = self.slots.iter().filter_map(|(filter, slot)| {
            let qos = match (slot.wanted, slot.held) {
                (Some(wanted), _) => wanted.spec.qos,
                (None, Held::No) => return None,
                (None, Held::Maybe(qos)) => qos,
                (None, Held::Yes(spec)) => spec.qos,
            };
            Some((filter.clone(), qos))
        });
        held.collect()
    }

    /// The next packets; `drained` allows snapshots.
    pub(super) fn plan(&mut self, drained: bool, now: Instant) -> Vec<Step> {
        if !self.dirty || self.requests.len() >= PACKETS_IN_FLIGHT {
            return Vec::new();
        }
        self.slots
            .retain(|_, slot| slot.wanted.is_some() || slot.held != Held::No || slot.in_flight);
        let mut groups: BTreeMap<Option<u32>, Vec<SubscribeFilter>> = BTreeMap::new();
        let mut gone = Vec::new();
        for (filter, slot) in self.slots.iter().filter(|(_, slot)| !slot.in_flight) {
            match slot.next(drained, now) {
                Next::Nothing => {}
                Next::Unsubscribe => gone.push(filter.clone()),
                Next::Subscribe {
                    spec,
                    retain_handling,
                    no_local,
                } => {
                    let entry = SubscribeFilter {
                        filter: filter.clone(),
                        qos: spec.qos,
                        no_local,
                        retain_handling,
                    };
                    groups.entry(spec.identifier).or_default().push(entry);
                }
            }
        }
        let mut steps = Vec::new();
        for filters in batches(gone, self.packet_bytes, String::as_str) {
            steps.push(Step::Unsubscribe { filters });
        }
        for (identifier, filters) in groups {
            for filters in batches(filters, self.packet_bytes, |entry| &entry.filter) {
                steps.push(Step::Subscribe {
                    filters,
                    identifier,
                });
            }
        }
        let room = PACKETS_IN_FLIGHT.saturating_sub(self.requests.len());
        self.dirty = steps.len() > room;
        steps.truncate(room);
        steps
    }

    /// A step went out under this packet id.
    pub(super) fn sent(&mut self, id: u16, step: &Step) {
        let request = match step {
            Step::Subscribe {
                filters,
                identifier,
            } => Request::Subscribe {
                filters: filters
                    .iter()
                    .map(|entry| {
                        (
                            entry.filter.clone(),
                            Spec {
                                qos: entry.qos,
                                identifier: *identifier,
                            },
                        )
                    })
                    .collect(),
            },
            Step::Unsubscribe { filters } => Request::Unsubscribe {
                filters: filters.clone(),
            },
        };
        let names: Vec<&String> = match &request {
            Request::Subscribe { filters } => filters.iter().map(|(filter, _)| filter).collect(),
            Request::Unsubscribe { filters } => filters.iter().collect(),
        };
        for name in names {
            if let Some(slot) = self.slots.get_mut(name) {
                slot.in_flight = true;
            }
        }
        self.requests.insert(id, request);
    }

    /// SUBACK. False if it does not fit what was sent.
    pub(super) fn suback(&mut self, id: u16, codes: &[u8], now: Instant) -> bool {
        let Some(Request::Subscribe { filters }) = self.requests.remove(&id) else {
            return false;
        };
        if filters.len() != codes.len() {
            return false;
        }
        for ((filter, spec), code) in filters.into_iter().zip(codes) {
            if let Some(slot) = self.slots.get_mut(&filter) {
                slot.answered(spec, *code, now);
                let retry = slot.refused.as_ref().and_then(|refused| refused.retry_at);
                self.retry = self.retry.into_iter().chain(retry).min();
            }
        }
        self.dirty = true;
        true
    }

    /// UNSUBACK. False if it does not fit what was sent.
    pub(super) fn unsuback(&mut self, id: u16) -> bool {
        let Some(Request::Unsubscribe { filters }) = self.requests.remove(&id) else {
            return false;
        };
        for filter in filters {
            if let Some(slot) = self.slots.get_mut(&filter) {
                slot.in_flight = false;
                slot.held = Held::No;
            }
        }
        self.dirty = true;
        true
    }

    /// Once per settling: every wanted filter has its answer. The refused ones, sorted.
    pub(super) fn settled(&mut self, drained: bool, now: Instant) -> Option<Vec<(String, String)>> {
        if self.announced
            || self.dirty
            || !self.requests.is_empty()
            || (self.has_snapshots() && !drained)
        {
            return None;
        }
        let waits = self
            .slots
            .values()
            .any(|slot| slot.next(drained, now) != Next::Nothing);
        if waits {
            return None;
        }
        self.announced = true;
        let refused = self.slots.iter().filter(|(_, slot)| slot.wanted.is_some());
        let refused = refused.filter_map(|(filter, slot)| {
            Some((filter.clone(), slot.refused.as_ref()?.reason.clone()))
        });
        Some(refused.collect())
    }

    /// Asked after each packet: a look at every filter would cost more than the packet.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.retry.is_none_or(|retry| now < retry) {
            return;
        }
        for slot in self.slots.values_mut().filter(|slot| !slot.in_flight) {
            if let Some(refused) = slot
                .refused
                .as_mut()
                .filter(|refused| refused.retry_at.is_some_and(|at| at <= now))
            {
                refused.retry_at = None;
                self.dirty = true;
                self.announced = false;
            }
        }
        let slots = self.slots.values();
        let waiting = slots.filter(|slot| slot.wanted.is_some() && !slot.in_flight);
        let retries = waiting.filter_map(|slot| slot.refused.as_ref()?.retry_at);
        self.retry = retries.min();
    }

    /// A snapshot may begin.
    pub(super) fn drained(&mut self) {
        self.dirty = true;
    }
}

fn batches<T>(all: Vec<T>, bytes: usize, text: impl Fn(&T) -> &str) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut used = 0usize;
    for entry in all {
        let len = subscribe_len(text(&entry));
        match batches.last_mut() {
            Some(last) if last.len() < FILTERS_PER_PACKET && used.saturating_add(len) <= bytes => {
                used = used.saturating_add(len);
                last.push(entry);
            }
            _ => {
                used = len;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;
