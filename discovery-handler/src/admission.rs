//! Decides which present devices a list names, so that no response is larger than its limit.
//! In: devices that come and go. Out: the devices to send, sorted, and how many wait for room.
//! Who is in stays in: a list that would grow too large refuses newcomers, in the order in which
//! they first appeared. A change costs a look-up, however many wait. Collisions are left to `twins`.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_proto::akri::Device;
use prost::Message as _;

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
                "waiting: the list would be larger than {limit} bytes; share out the topics over several Configurations, or use agentless mode, whose lists are longer"
            ),
        }
    }
}

/// A place in the line of those that wait: whether it waited before a restart too, and the order of first appearance.
pub type Turn = (bool, u64);

/// The decision, kept from one list to the next.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    admitted: BTreeMap<DeviceId, Arc<Entry>>,
    waiting: BTreeMap<Turn, DeviceId>,
    bytes: usize,
    /// Bytes of the first one that waits.
    next: usize,
    revision: u64,
}

impl Admission {
    /// Nothing present; lists may take `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            admitted: BTreeMap::new(),
            waiting: BTreeMap::new(),
            bytes: 0,
            next: 0,
            revision: 0,
        }
    }

    /// A device is to be sent, once there is room.
    pub fn add(&mut self, id: DeviceId, turn: Turn) {
        if !self.admitted.contains_key(&id) {
            self.waiting.insert(turn, id);
        }
    }

    /// A device that was added under this place in the order is not to be sent any more. True if it was in the list.
    pub fn remove(&mut self, id: &DeviceId, order: u64) -> bool {
        if let Some(entry) = self.admitted.remove(id) {
            self.bytes = self.bytes.saturating_sub(entry.size);
            self.revision += 1;
            return true;
        }
        self.leave_line(id, order);
        false
    }

    /// A device has another place in the order.
    pub fn reorder(&mut self, id: &DeviceId, was: u64, is: u64) {
        if self.leave_line(id, was) {
            self.waiting.insert((false, is), id.clone());
        }
    }

    fn leave_line(&mut self, id: &DeviceId, order: u64) -> bool {
        [(false, order), (true, order)].into_iter().any(|turn| {
            let is_there = self.waiting.get(&turn) == Some(id);
            is_there && self.waiting.remove(&turn).is_some()
        })
    }

    /// Takes in those that wait, as long as there is room.
    pub fn admit(&mut self, mut entry: impl FnMut(&DeviceId) -> Entry) {
        while let Some(first) = self.waiting.first_entry() {
            let entry = entry(first.get());
            self.next = entry.size;
            if self.bytes.saturating_add(entry.size) > self.limit {
                // Nobody overtakes: else a large device might wait for ever.
                return;
            }
            self.bytes += entry.size;
            self.revision += 1;
            self.admitted.insert(first.remove(), Arc::new(entry));
        }
    }

    /// The devices to send, sorted by id.
    pub fn list(&self) -> impl ExactSizeIterator<Item = (&DeviceId, &Arc<Entry>)> {
        self.admitted.iter()
    }

    /// Changes whenever the list does.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
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

    /// The devices that wait for room, in their order.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &DeviceId> {
        self.waiting.values()
    }

    /// Whether a device waits that was added under this place in the order.
    #[must_use]
    pub fn waits(&self, id: &DeviceId, order: u64) -> bool {
        [(false, order), (true, order)]
            .iter()
            .any(|turn| self.waiting.get(turn) == Some(id))
    }

    /// About how many bytes more a list with all of them would have: as if those that wait were like those that are in.
    #[must_use]
    pub fn missing(&self) -> usize {
        let each = self
            .bytes
            .checked_div(self.admitted.len())
            .unwrap_or(self.next);
        let all = self.waiting.len().saturating_mul(each);
        all.saturating_sub(self.limit.saturating_sub(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_proto::akri::DiscoverResponse;

    use super::*;

    fn id(name: &str) -> DeviceId {
        DeviceId::parse(&format!("plant-a/{name}")).unwrap()
    }

    fn entry(id: &DeviceId) -> Entry {
        let name = ("MQTT_DEVICE_ID".to_owned(), id.to_string());
        Entry::new(id, BTreeMap::from([name]))
    }

    fn listed(admission: &Admission) -> Vec<String> {
        admission.list().map(|(id, _)| id.to_string()).collect()
    }

    #[test]
    fn the_counted_bytes_are_those_of_the_encoded_response() {
        let mut admission = Admission::new(usize::MAX);
        for (order, name) in (0..).zip(["a", &"x".repeat(300), "b"]) {
            admission.add(id(name), (false, order));
        }
        admission.admit(entry);
        let devices = admission
            .list()
            .map(|(_, entry)| entry.device.clone())
            .collect();
        let encoded = DiscoverResponse { devices }.encoded_len();
        assert_eq!(admission.bytes(), encoded);
        for (order, name) in (0..).zip(["a", &"x".repeat(300), "b"]) {
            assert!(admission.remove(&id(name), order));
        }
        assert_eq!(admission.bytes(), 0);
    }

    #[test]
    fn a_full_list_refuses_newcomers_in_order_of_appearance_and_keeps_who_is_in() {
        let size = entry(&id("a")).size;
        let mut admission = Admission::new(2 * size);
        for (order, name) in (0..).zip(["m", "z", "c", "a"]) {
            admission.add(id(name), (false, order));
            admission.admit(entry);
        }
        assert_eq!(listed(&admission), ["plant-a/m", "plant-a/z"]);
        assert_eq!(
            admission.waiting().collect::<Vec<_>>(),
            [&id("c"), &id("a")]
        );
        assert_eq!(admission.missing(), 2 * size);
        assert!(admission.waits(&id("c"), 2) && !admission.waits(&id("m"), 0));
        admission.remove(&id("m"), 0);
        admission.admit(entry);
        assert_eq!(listed(&admission), ["plant-a/c", "plant-a/z"]);
        assert!(admission.bytes() <= admission.limit());
    }

    #[test]
    fn who_waited_before_a_restart_waits_behind_those_who_were_listed() {
        let size = entry(&id("a")).size;
        let mut admission = Admission::new(size);
        admission.add(id("a"), (true, 1));
        admission.add(id("b"), (false, 2));
        admission.admit(entry);
        assert_eq!(listed(&admission), ["plant-a/b"]);
        assert!(
            !admission.remove(&id("a"), 1),
            "it waited and was not listed"
        );
        assert_eq!(admission.waiting().len(), 0);
    }

    #[test]
    fn a_device_that_waits_under_another_place_is_moved_there() {
        let mut admission = Admission::new(0);
        admission.add(id("a"), (false, 1));
        admission.add(id("b"), (false, 2));
        admission.reorder(&id("a"), 1, 3);
        assert_eq!(
            admission.waiting().collect::<Vec<_>>(),
            [&id("b"), &id("a")]
        );
    }

    #[test]
    fn what_is_missing_is_told_even_where_nobody_fits() {
        let mut admission = Admission::new(10);
        admission.add(id("a"), (false, 1));
        admission.admit(entry);
        assert_eq!(admission.missing(), entry(&id("a")).size - 10);
    }
}
