//! How the list of published devices differs from what was last taken of it. In: each change.
//! Out: the devices that came, went, or have another place in the order, whatever happened meanwhile.
//! It holds no more than the devices of both lists; what is told to whom is left to the shell.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::devices::Place;
use super::machine::Presence;
use crate::identity::DeviceId;

/// A device whose place in the list is another one than before: its place in the order of first appearance, `None`
/// where it was or is not in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The device.
    pub id: DeviceId,
    /// Its place when changes were last taken.
    pub was: Option<u64>,
    /// Its place now.
    pub is: Option<u64>,
}

/// What is settled about a published device while it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its place in the order of first appearance.
    pub order: u64,
    /// The place in `conventions` of the one that found it.
    pub convention: Option<u16>,
}

/// The changes that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    moved: HashMap<DeviceId, (Option<u64>, Option<u64>)>,
    published: usize,
    revision: u64,
}

impl Changes {
    /// A device has come into the list or gone out of it.
    pub fn note(&mut self, id: &DeviceId, order: u64, published: bool) {
        self.revision += 1;
        let (was, is) = if published {
            self.published += 1;
            (None, Some(order))
        } else {
            self.published = self.published.saturating_sub(1);
            (Some(order), None)
        };
        match self.moved.entry(id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert((was, is));
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.1 = is;
                if known.0 == is {
                    entry.remove();
                }
            }
        }
    }
}

impl Presence {
    /// Changes whenever the list of published devices changes.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.changes.revision
    }

    /// How many devices are published.
    #[must_use]
    pub fn published_count(&self) -> usize {
        self.changes.published
    }

    /// Whether the list of published devices is another one than what was last taken.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        !self.changes.moved.is_empty()
    }

    /// What is settled about a device; `None` if it is not published.
    #[must_use]
    pub fn listing(&self, id: &DeviceId) -> Option<Listed> {
        let server = self.server_index(id.server())?;
        let slot = self.devices.find(server, id.name())?;
        let device = self.devices.get(slot)?;
        (device.place == Place::In).then_some(Listed {
            order: device.order,
            convention: device.found_by,
        })
    }

    /// How the list has changed since this was last called: those that went by id, then those that came, in the order
    /// of their first appearance.
    pub fn take_moved(&mut self) -> Vec<Moved> {
        let moved = std::mem::take(&mut self.changes.moved);
        let mut moved: Vec<Moved> = moved
            .into_iter()
            .map(|(id, (was, is))| Moved { id, was, is })
            .collect();
        moved.sort_unstable_by(|a, b| a.is.cmp(&b.is).then_with(|| a.id.cmp(&b.id)));
        moved
    }
}
