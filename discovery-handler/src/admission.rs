//! Decides which present devices the lists name: Instance-name collisions and the response's size.
//! In: the present devices. Out: the devices to send, sorted, and why each other one is left out.
//! Who is in stays in: a list that would grow too large refuses newcomers, in the order in which
//! they first appeared. The one exception is a collision, which all nodes must decide alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use akri_mqtt_core::identity::{DeviceId, InstanceHash};
use akri_mqtt_proto::akri::Device;
use prost::Message as _;

/// What to do with two devices whose Instances would have the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Collisions {
    /// Send the one whose full hash is smaller: Akri would silently drop one of them
    #[default]
    Withhold,
    /// Send both: the caller makes longer names
    Pass,
}

/// A device as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What the caller gets.
    pub device: Device,
    /// Bytes it takes in a response.
    size: usize,
}

impl Entry {
    /// An entry from an id and its properties.
    #[must_use]
    pub fn new(id: &DeviceId, properties: BTreeMap<String, String>) -> Self {
        let device = Device {
            id: id.to_string(),
            properties,
            mounts: Vec::new(),
            device_specs: Vec::new(),
        };
        let length = device.encoded_len();
        // Field 1 of the response: one byte of tag, the length, the device.
        let size = 1 + prost::length_delimiter_len(length) + length;
        Self { device, size }
    }
}

/// Why a present device is not in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Its Instance would have the name of another device's.
    Collides(DeviceId),
    /// The response would be larger than its limit.
    NoRoom,
}

impl LeftOut {
    /// The sentence that logs and presence show.
    #[must_use]
    pub fn sentence(&self, limit: usize) -> String {
        match self {
            Self::Collides(other) => format!(
                "withheld: its Instance name collides with {other}; set limits.idSalt or identity"
            ),
            Self::NoRoom => format!(
                "waiting: the list would be larger than {limit} bytes; raise limits.maxResponseBytes or split the Configuration"
            ),
        }
    }
}

#[derive(Debug)]
struct Present {
    hash: InstanceHash,
    entry: Arc<Entry>,
    order: u64,
}

/// The decision, kept from one list to the next.
#[derive(Debug)]
pub struct Admission {
    collisions: Collisions,
    limit: usize,
    present: BTreeMap<DeviceId, Present>,
    buckets: BTreeMap<InstanceHash, BTreeSet<DeviceId>>,
    admitted: BTreeMap<DeviceId, Arc<Entry>>,
    bytes: usize,
    next_order: u64,
}

impl Admission {
    /// Nothing present; lists may take `limit` bytes.
    #[must_use]
    pub fn new(collisions: Collisions, limit: usize) -> Self {
        Self {
            collisions,
            limit,
            present: BTreeMap::new(),
            buckets: BTreeMap::new(),
            admitted: BTreeMap::new(),
            bytes: 0,
            next_order: 0,
        }
    }

    /// Takes the devices that are present now, newcomers in the order of their first appearance.
    pub fn update(&mut self, present: &[DeviceId], mut entry: impl FnMut(&DeviceId) -> Arc<Entry>) {
        let now: BTreeSet<&DeviceId> = present.iter().collect();
        let gone: Vec<DeviceId> = self
            .present
            .keys()
            .filter(|id| !now.contains(id))
            .cloned()
            .collect();
        for id in gone {
            self.forget(&id);
        }
        for id in present {
            if !self.present.contains_key(id) {
                self.meet(id, entry(id));
            }
        }
        self.admit();
    }

    /// The devices to send, sorted by id.
    pub fn list(&self) -> impl Iterator<Item = (&DeviceId, &Arc<Entry>)> {
        self.admitted.iter()
    }

    /// Bytes of the response with this list.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The limit of [`Self::bytes`].
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Present devices that are not sent, sorted by id.
    pub fn left_out(&self) -> impl Iterator<Item = (&DeviceId, LeftOut)> {
        self.present
            .keys()
            .filter(|id| !self.admitted.contains_key(*id))
            .map(|id| {
                (
                    id,
                    self.loses_to(id).map_or(LeftOut::NoRoom, LeftOut::Collides),
                )
            })
    }

    fn meet(&mut self, id: &DeviceId, entry: Arc<Entry>) {
        let hash = id.instance_hash();
        self.buckets.entry(hash).or_default().insert(id.clone());
        let order = self.next_order;
        self.next_order += 1;
        let present = Present { hash, entry, order };
        self.present.insert(id.clone(), present);
    }

    fn forget(&mut self, id: &DeviceId) {
        if let Some(present) = self.present.remove(id)
            && let Some(bucket) = self.buckets.get_mut(&present.hash)
        {
            bucket.remove(id);
            if bucket.is_empty() {
                self.buckets.remove(&present.hash);
            }
        }
        self.withdraw(id);
    }

    fn withdraw(&mut self, id: &DeviceId) {
        if let Some(entry) = self.admitted.remove(id) {
            self.bytes -= entry.size;
        }
    }

    /// The present device with the same Instance name that is sent instead of this one.
    fn loses_to(&self, id: &DeviceId) -> Option<DeviceId> {
        if self.collisions == Collisions::Pass {
            return None;
        }
        let bucket = self.buckets.get(&self.present.get(id)?.hash)?;
        if bucket.len() < 2 {
            return None;
        }
        let winner = bucket.iter().min_by_key(|id| id.full_hash())?;
        (winner != id).then(|| winner.clone())
    }

    fn admit(&mut self) {
        let losers: Vec<DeviceId> = self
            .admitted
            .keys()
            .filter(|id| self.loses_to(id).is_some())
            .cloned()
            .collect();
        for id in losers {
            self.withdraw(&id);
        }
        if self.admitted.len() == self.present.len() {
            return;
        }
        let waiting = self
            .present
            .iter()
            .filter(|(id, _)| !self.admitted.contains_key(*id));
        let mut waiting: Vec<(u64, DeviceId, Arc<Entry>)> = waiting
            .filter(|(id, _)| self.loses_to(id).is_none())
            .map(|(id, present)| (present.order, id.clone(), Arc::clone(&present.entry)))
            .collect();
        waiting.sort_by_key(|(order, ..)| *order);
        for (_, id, entry) in waiting {
            if self.bytes + entry.size > self.limit {
                // Nobody overtakes: else a large device might wait for ever.
                break;
            }
            self.bytes += entry.size;
            self.admitted.insert(id, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use akri_mqtt_proto::akri::DiscoverResponse;

    use super::*;

    fn id(name: &str) -> DeviceId {
        DeviceId::parse(&format!("plant-a/{name}")).unwrap()
    }

    fn entry(id: &DeviceId) -> Arc<Entry> {
        let name = ("MQTT_DEVICE_ID".to_owned(), id.to_string());
        Arc::new(Entry::new(id, BTreeMap::from([name])))
    }

    fn listed(admission: &Admission) -> Vec<String> {
        admission.list().map(|(id, _)| id.to_string()).collect()
    }

    fn colliding_pair() -> (DeviceId, DeviceId) {
        let mut seen = HashMap::new();
        for n in 0.. {
            let device = id(&format!("r{n}"));
            if let Some(other) = seen.insert(device.instance_hash(), device.clone()) {
                return if other.full_hash() < device.full_hash() {
                    (other, device)
                } else {
                    (device, other)
                };
            }
        }
        unreachable!()
    }

    #[test]
    fn the_counted_bytes_are_those_of_the_encoded_response() {
        let mut admission = Admission::new(Collisions::Withhold, usize::MAX);
        let long = id(&"x".repeat(300));
        admission.update(&[id("a"), long, id("b")], entry);
        let devices = admission
            .list()
            .map(|(_, entry)| entry.device.clone())
            .collect();
        assert_eq!(
            admission.bytes(),
            DiscoverResponse { devices }.encoded_len()
        );
        admission.update(&[], entry);
        assert_eq!(admission.bytes(), 0);
    }

    #[test]
    fn a_full_list_refuses_newcomers_in_order_of_appearance_and_keeps_who_is_in() {
        let size = entry(&id("a")).size;
        let mut admission = Admission::new(Collisions::Withhold, 2 * size);
        admission.update(&[id("m"), id("z")], entry);
        admission.update(&[id("m"), id("z"), id("c"), id("a")], entry);
        assert_eq!(listed(&admission), ["plant-a/m", "plant-a/z"]);
        let out: Vec<_> = admission.left_out().collect();
        assert_eq!(
            out,
            [(&id("a"), LeftOut::NoRoom), (&id("c"), LeftOut::NoRoom)]
        );
        admission.update(&[id("z"), id("c"), id("a")], entry);
        assert_eq!(listed(&admission), ["plant-a/c", "plant-a/z"]);
        assert!(admission.bytes() <= admission.limit());
    }

    #[test]
    fn of_two_devices_with_one_instance_name_the_smaller_full_hash_is_sent_whoever_came_first() {
        let (wins, loses) = colliding_pair();
        let mut admission = Admission::new(Collisions::Withhold, usize::MAX);
        admission.update(std::slice::from_ref(&loses), entry);
        assert_eq!(listed(&admission), [loses.to_string()]);
        admission.update(&[loses.clone(), wins.clone()], entry);
        assert_eq!(listed(&admission), [wins.to_string()]);
        let out: Vec<_> = admission.left_out().collect();
        assert_eq!(out, [(&loses, LeftOut::Collides(wins.clone()))]);
        admission.update(std::slice::from_ref(&loses), entry);
        assert_eq!(listed(&admission), [loses.to_string()]);
        let mut passing = Admission::new(Collisions::Pass, usize::MAX);
        passing.update(&[loses, wins], entry);
        assert_eq!(passing.list().count(), 2);
    }
}
