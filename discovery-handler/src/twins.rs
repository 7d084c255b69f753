//! Devices whose Instances would have one name. In: present devices that come and go. Out: which of them has the
//! name, and who is withheld for it. All nodes must decide alike, so it is the one with the smaller full hash,
//! whoever came first; a change costs a look at the devices of one name.

use std::collections::{BTreeMap, BTreeSet};

use akri_mqtt_core::identity::{DeviceId, InstanceHash};

/// What to do with two devices whose Instances would have the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Collisions {
    /// Send the one whose full hash is smaller: Akri would silently drop one of them
    #[default]
    Withhold,
    /// Send both: the caller makes longer names
    Pass,
}

/// What a newcomer means for the others of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It has the name for itself.
    Alone,
    /// It has the name, and this one is withheld from now on.
    Wins(DeviceId),
    /// It is withheld.
    Loses,
}

/// The devices of one name; of several the first one has it.
#[derive(Debug)]
enum Bearers {
    One(DeviceId),
    Several(Vec<DeviceId>),
}

/// The names of all present devices.
#[derive(Debug)]
pub struct Twins {
    collisions: Collisions,
    names: BTreeMap<InstanceHash, Bearers>,
    withheld: BTreeSet<DeviceId>,
}

impl Twins {
    /// Nobody is present.
    #[must_use]
    pub fn new(collisions: Collisions) -> Self {
        Self {
            collisions,
            names: BTreeMap::new(),
            withheld: BTreeSet::new(),
        }
    }

    /// A device is present from now on.
    pub fn meet(&mut self, id: &DeviceId) -> Arrival {
        if self.collisions == Collisions::Pass {
            return Arrival::Alone;
        }
        let hash = id.instance_hash();
        let Some(bearers) = self.names.get_mut(&hash) else {
            self.names.insert(hash, Bearers::One(id.clone()));
            return Arrival::Alone;
        };
        let mut all = bearers.all().to_vec();
        if all.contains(id) {
            return Arrival::Alone;
        }
        all.push(id.clone());
        all.sort_by_cached_key(DeviceId::full_hash);
        let arrival = if all.first() == Some(id) {
            all.get(1).cloned().map_or(Arrival::Alone, Arrival::Wins)
        } else {
            Arrival::Loses
        };
        let loser = match &arrival {
            Arrival::Wins(other) => other,
            Arrival::Alone | Arrival::Loses => id,
        };
        self.withheld.insert(loser.clone());
        *bearers = Bearers::Several(all);
        arrival
    }

    /// A device is present no more. Returns the one that was withheld for it and has the name now.
    pub fn part(&mut self, id: &DeviceId) -> Option<DeviceId> {
        if self.collisions == Collisions::Pass {
            return None;
        }
        let hash = id.instance_hash();
        let bearers = self.names.get_mut(&hash)?;
        let had_it = bearers.all().first() == Some(id);
        let mut rest = bearers.all().to_vec();
        rest.retain(|other| other != id);
        self.withheld.remove(id);
        let next = rest.first().cloned();
        match (&next, rest.len()) {
            (None, _) => {
                self.names.remove(&hash);
            }
            (Some(only), 1) => *bearers = Bearers::One(only.clone()),
            (Some(_), _) => *bearers = Bearers::Several(rest),
        }
        next.filter(|next| had_it && self.withheld.remove(next))
    }

    /// The present device that is sent instead of this one.
    #[must_use]
    pub fn loses_to(&self, id: &DeviceId) -> Option<&DeviceId> {
        if !self.withheld.contains(id) {
            return None;
        }
        let bearers = self.names.get(&id.instance_hash())?;
        bearers.all().first()
    }

    /// The devices that are not sent for this reason, sorted.
    #[must_use]
    pub fn withheld(&self) -> &BTreeSet<DeviceId> {
        &self.withheld
    }
}

impl Bearers {
    fn all(&self) -> &[DeviceId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(all) => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn colliding_pair() -> (DeviceId, DeviceId) {
        let mut seen = HashMap::new();
        for n in 0.. {
            let device = DeviceId::parse(&format!("plant-a/r{n}")).unwrap();
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
    fn of_two_devices_with_one_instance_name_the_smaller_full_hash_has_it_whoever_came_first() {
        let (wins, loses) = colliding_pair();
        for came in [[&wins, &loses], [&loses, &wins]] {
            let mut twins = Twins::new(Collisions::Withhold);
            assert_eq!(twins.meet(came[0]), Arrival::Alone);
            let second = twins.meet(came[1]);
            if came[1] == &wins {
                assert_eq!(second, Arrival::Wins(loses.clone()));
            } else {
                assert_eq!(second, Arrival::Loses);
            }
            assert_eq!(twins.loses_to(&loses), Some(&wins));
            assert_eq!(twins.loses_to(&wins), None);
        }
    }

    #[test]
    fn who_was_withheld_is_free_once_the_other_has_gone_and_leaves_no_trace() {
        let (wins, loses) = colliding_pair();
        let mut twins = Twins::new(Collisions::Withhold);
        twins.meet(&loses);
        twins.meet(&wins);
        assert_eq!(twins.part(&wins), Some(loses.clone()));
        assert_eq!(twins.loses_to(&loses), None);
        twins.meet(&wins);
        assert_eq!(twins.part(&loses), None);
        assert_eq!(twins.part(&wins), None);
        assert!(twins.names.is_empty() && twins.withheld.is_empty());
    }

    #[test]
    fn both_are_sent_to_a_caller_that_makes_longer_names() {
        let (wins, loses) = colliding_pair();
        let mut twins = Twins::new(Collisions::Pass);
        assert_eq!(twins.meet(&loses), Arrival::Alone);
        assert_eq!(twins.meet(&wins), Arrival::Alone);
        assert!(twins.withheld().is_empty() && twins.names.is_empty());
    }
}
