//! Who is published. In: beliefs about devices. Out: the changes of the list, the places that `maxDevices` gives,
//! and what is forgotten. Who is in stays in; newcomers are refused in order of first appearance.

use std::collections::BTreeSet;

use super::Reason;
use super::devices::{Place, Slot};
use super::flapping::Flaps;
use super::machine::Presence;
use super::states::Belief;
use super::tick::Tick;

/// The places that `maxDevices` gives.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Published and invited devices.
    pub taken: usize,
    /// Devices that found no place, in order of first appearance.
    pub refused: BTreeSet<(u64, Slot)>,
}

impl Presence {
    /// Puts a device into a state and gives or takes its place.
    pub(super) fn enter(&mut self, slot: Slot, belief: Belief, now: Tick) {
        let Belief {
            state,
            reason,
            since,
        } = belief;
        let Some(before) = self.devices.get(slot).map(|device| device.state) else {
            return;
        };
        self.devices.set_state(slot, state, reason, since);
        self.counters.moved(Some(before), Some(state));
        *self
            .counters
            .transitions
            .entry((state, reason))
            .or_default() += 1;
        match (before.is_present(), state.is_present()) {
            (false, true) => self.take_place(slot, now),
            (true, false) => self.give_place(slot, now),
            _ => {}
        }
        self.note(slot);
    }

    fn take_place(&mut self, slot: Slot, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        // A restored device was in, so it stays in, whatever the limit is now.
        if device.reason == Reason::Restored || self.places.taken < self.max_devices {
            device.place = Place::In;
            self.places.taken += 1;
            self.move_place(slot, true, now);
        } else {
            device.place = Place::Refused;
            self.places.refused.insert((device.order, slot));
            self.counters.refusals += 1;
            self.count_refused();
        }
    }

    fn give_place(&mut self, slot: Slot, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        device.due = None;
        let order = device.order;
        match std::mem::replace(&mut device.place, Place::Out) {
            Place::In => {
                self.places.taken = self.places.taken.saturating_sub(1);
                self.move_place(slot, false, now);
            }
            Place::Invited => self.places.taken = self.places.taken.saturating_sub(1),
            Place::Refused => {
                self.places.refused.remove(&(order, slot));
            }
            Place::Out => {}
        }
        self.invite(now);
        self.count_refused();
    }

    /// Keeps freed places for those that were refused, in order of first appearance.
    fn invite(&mut self, now: Tick) {
        while self.places.taken < self.max_devices {
            let Some((_, slot)) = self.places.refused.pop_first() else {
                return;
            };
            self.places.taken += 1;
            if let Some(device) = self.devices.get_mut(slot) {
                device.place = Place::Invited;
            }
            if self.settings.offline_after.is_none() {
                self.accept_invitation(slot, now);
            }
        }
    }

    pub(super) fn accept_invitation(&mut self, slot: Slot, now: Tick) {
        if let Some(device) = self.devices.get_mut(slot)
            && device.place == Place::Invited
        {
            device.place = Place::In;
            self.move_place(slot, true, now);
            self.note(slot);
        }
    }

    fn count_refused(&mut self) {
        self.counters.refused = u64::try_from(self.places.refused.len()).unwrap_or(u64::MAX);
    }

    /// The place of a device has become one on the list, or is none any more.
    fn move_place(&mut self, slot: Slot, published: bool, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        self.changes.note(&device.id, device.order, published);
        let last = device.changed.replace(now);
        let before = device.is_flapping().then_some(last).flatten();
        Flaps::note(&mut device.flaps, last, now);
        let after = device.is_flapping().then_some(now);
        self.flapping.moved(slot, before, after);
        self.counters.flapping = u64::try_from(self.flapping.len()).unwrap_or(u64::MAX);
    }

    /// Forgets what went longest ago, where more is remembered than should be.
    pub(super) fn forget(&mut self) {
        while let Some(slot) = self.devices.oldest_idle(self.options.remembered) {
            if let Some(device) = self.devices.remove(slot) {
                self.counters.moved(Some(device.state), None);
                let last = device.is_flapping().then_some(device.changed).flatten();
                self.flapping.moved(slot, last, None);
            }
        }
    }
}
