//! Where the devices are kept: a slab of small records, found by id. In: ids. Out: slots.
//! What the records mean is left to the machine.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::flapping::Flaps;
use super::rules::Source;
use super::tick::Tick;
use super::{Reason, State};
use crate::identity::{DeviceId, ServerName};

/// The place of a device in the slab.
pub(super) type Slot = u32;
/// The place of a server in the list of servers.
pub(super) type ServerIndex = u16;

/// Whether a device has one of the `maxDevices` places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It needs none.
    Out,
    /// It is published.
    In,
    /// It is there, but there was no place.
    Refused,
    /// A place is kept for it until it shows evidence or is gone.
    Invited,
}

/// What was announced last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    Nothing,
    Online,
    Offline,
}

/// All that is known about a device.
#[derive(Debug)]
pub(super) struct Device {
    pub id: DeviceId,
    /// Its place in the order of first appearance.
    pub order: u64,
    /// When its state began.
    pub since: Tick,
    /// When evidence of life came last, by the server's clock, which stands still in outages.
    pub heard: Tick,
    /// The same by the real clock, in this life of the process.
    pub alive: Option<Tick>,
    /// When the last live data came.
    pub last_data: Option<Tick>,
    /// When what makes it leave happened.
    pub struck: Tick,
    /// When it is gone, if it is leaving; `None`: it is only silent in an outage, and its real
    /// deadline is still to come.
    pub due: Option<Tick>,
    /// The time of its entry among the timers.
    pub armed: Option<Tick>,
    /// When what is published about it changed last.
    pub changed: Option<Tick>,
    pub flaps: Option<Box<Flaps>>,
    pub source: Source,
    pub server: ServerIndex,
    /// The first of the conventions that have found it; settled while it is published.
    pub found_by: Option<u16>,
    /// The snapshot in which its retained announcement was last seen; zero: none.
    pub snapshot: u16,
    pub state: State,
    pub reason: Reason,
    pub announced: Announced,
    /// Whether it is unconfirmed without a limit: a list that is kept up to date names it, or its end
    /// would have been told.
    pub vouched: bool,
    pub place: Place,
    /// Whether it stands in its server's list of those that wait for a packet or for the grace.
    pub parked: bool,
}

/// All devices.
#[derive(Debug)]
pub(super) struct Devices {
    slab: Vec<Option<Device>>,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    hasher: RandomState,
    /// Devices that are not there, from the one that went longest ago on.
    idle: BTreeSet<(Tick, Slot)>,
}

impl Devices {
    pub fn new() -> Self {
        Self {
            slab: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            idle: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn get(&self, slot: Slot) -> Option<&Device> {
        self.slab.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Device> {
        self.slab.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    /// The device of a server with this name.
    pub fn find(&self, server: ServerIndex, name: &str) -> Option<Slot> {
        let hash = self.hasher.hash_one((server, name));
        let found = self.index.find(hash, |slot| {
            self.get(*slot)
                .is_some_and(|device| device.server == server && device.id.name() == name)
        });
        found.copied()
    }

    /// A new device that is offline; `None` when there are four billion of them.
    pub fn insert(
        &mut self,
        id: DeviceId,
        server: ServerIndex,
        order: u64,
        now: Tick,
    ) -> Option<Slot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot::try_from(self.slab.len()).ok()?;
                self.slab.push(None);
                slot
            }
        };
        let hash = self.hasher.hash_one((server, id.name()));
        let place = self.slab.get_mut(usize::try_from(slot).ok()?)?;
        *place = Some(Device {
            id,
            order,
            since: now,
            heard: now,
            alive: None,
            last_data: None,
            struck: now,
            due: None,
            armed: None,
            changed: None,
            flaps: None,
            source: Source::Nothing,
            server,
            found_by: None,
            snapshot: 0,
            state: State::Offline,
            reason: Reason::Unproven,
            announced: Announced::Nothing,
            vouched: false,
            place: Place::Out,
            parked: false,
        });
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.index.insert_unique(hash, slot, |other| {
            let device = usize::try_from(*other)
                .ok()
                .and_then(|i| slab.get(i)?.as_ref());
            device.map_or(0, |device| {
                hasher.hash_one((device.server, device.id.name()))
            })
        });
        self.idle.insert((now, slot));
        Some(slot)
    }

    /// Puts a device into another state, which begins at `since`.
    pub fn set_state(&mut self, slot: Slot, state: State, reason: Reason, since: Tick) {
        let Some(device) = self.get_mut(slot) else {
            return;
        };
        let before = (device.since, slot);
        device.state = state;
        device.reason = reason;
        device.since = since;
        self.idle.remove(&before);
        if !state.is_present() {
            self.idle.insert((since, slot));
        }
    }

    /// The device that went longest ago, if more than `kept` are not there.
    pub fn oldest_idle(&self, kept: usize) -> Option<Slot> {
        (self.idle.len() > kept)
            .then(|| self.idle.first().map(|(_, slot)| *slot))
            .flatten()
    }

    /// Forgets a device.
    pub fn remove(&mut self, slot: Slot) -> Option<Device> {
        let place = self.slab.get_mut(usize::try_from(slot).ok()?)?;
        let device = place.take()?;
        let hash = self.hasher.hash_one((device.server, device.id.name()));
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.idle.remove(&(device.since, slot));
        self.free.push(slot);
        Some(device)
    }

    /// The devices that are published, in no order that means anything.
    pub fn published(&self) -> impl Iterator<Item = &Device> {
        let devices = self.slab.iter().flatten();
        devices.filter(|device| device.place == Place::In)
    }

    /// How many records there is room for: slots are below it.
    pub fn room(&self) -> usize {
        self.slab.len()
    }

    /// All devices, in no order that means anything.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, &Device)> {
        self.slab
            .iter()
            .zip(0..)
            .filter_map(|(device, slot)| Some((slot, device.as_ref()?)))
    }
}

/// The full id of a device, which its rules have named.
pub(super) fn id(server: &ServerName, name: &str) -> Option<DeviceId> {
    DeviceId::new(server.clone(), name).ok()
}
