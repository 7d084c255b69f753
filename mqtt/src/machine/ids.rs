//! Packet identifiers of our own packets (SUBSCRIBE, UNSUBSCRIBE, PUBLISH).

use std::collections::HashSet;

/// Hands out identifiers that are not in use.
#[derive(Debug)]
pub(super) struct PacketIds {
    next: u16,
    used: HashSet<u16>,
}

impl PacketIds {
    /// Starts anywhere, so that a new process rarely meets an id that an old one left unfinished at the server.
    pub(super) fn starting_at(next: u16) -> Self {
        Self {
            next,
            used: HashSet::new(),
        }
    }

    pub(super) fn take(&mut self) -> Option<u16> {
        for _ in 0..=u16::MAX {
            let id = self.next.max(1);
            self.next = id.wrapping_add(1);
            if self.used.insert(id) {
                return Some(id);
            }
        }
        None
    }

    pub(super) fn give_back(&mut self, id: u16) {
        self.used.remove(&id);
    }

    /// A new connection: only these are still in use.
    pub(super) fn reset(&mut self, kept: impl Iterator<Item = u16>) {
        self.used = kept.collect();
    }
}
