//! When to look at which device again. In: a time for a device. Out: the devices whose time has
//! come. A device that shows life is not touched here: its entry stays, and when it comes up the
//! machine sees from the device itself whether there is anything to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::devices::Slot;
use super::tick::Tick;

/// Entries that are overtaken by an earlier one of the same device are dropped when there are this
/// many of them for each device that has a time, and at least [`SPARE`].
const STALE_FACTOR: usize = 2;
/// So few stale entries are never worth a search.
const SPARE: usize = 1024;

/// One entry for each device that waits, and some that are stale.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Tick, Slot)>>,
}

impl Timers {
    pub fn push(&mut self, at: Tick, slot: Slot) {
        self.heap.push(Reverse((at, slot)));
    }

    /// The earliest time, of a stale entry too.
    pub fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub fn pop(&mut self, now: Tick) -> Option<(Tick, Slot)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Drops stale entries if there are many, given the number of devices and what is stale not.
    pub fn tidy(&mut self, devices: usize, is_current: impl Fn(Tick, Slot) -> bool) {
        if self.heap.len() > SPARE + devices.saturating_mul(STALE_FACTOR) {
            self.heap
                .retain(|Reverse((at, slot))| is_current(*at, *slot));
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }
}
