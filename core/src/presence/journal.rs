//! What has changed, one entry for each change, for those who want to see every one of them. In: devices
//! that have just changed. Out: the changes since they were last taken. Off until somebody asks.

use super::devices::{Place, Slot};
use super::machine::Presence;
use super::{Reason, State};
use crate::identity::DeviceId;

/// The changes that nobody has taken yet.
pub(super) type Journal = Vec<Change>;

/// A device is in another state, or is published or not for another reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The device.
    pub device: DeviceId,
    /// What is believed now.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Whether callers are told that it is there.
    pub published: bool,
}

impl Presence {
    /// Notes every change from now on. [`Presence::take_changes`] has to be called after each step, else they pile up.
    pub fn keep_journal(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// The changes since the last call, in their order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.journal
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Notes that a device has changed.
    pub(super) fn note(&mut self, slot: Slot) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        if let Some(device) = self.devices.get(slot) {
            journal.push(Change {
                device: device.id.clone(),
                state: device.state,
                reason: device.reason,
                published: device.place == Place::In,
            });
        }
    }
}
