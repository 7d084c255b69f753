//! Devices that are listed again soon after they were withdrawn. In: who is withdrawn and who appears, with the time.
//! Out: how often one came back. What a caller is sent for it is left to `streams`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use akri_mqtt_core::identity::DeviceId;

/// Who was withdrawn lately.
#[derive(Debug)]
pub struct Comebacks {
    within: Duration,
    most: usize,
    withdrawn: BTreeMap<DeviceId, Instant>,
    /// The same in the order of time, with entries that are overtaken.
    by_time: VecDeque<(Instant, DeviceId)>,
    count: u64,
}

impl Comebacks {
    /// Nobody; whoever appears `within` this time has come back, and at most so many are remembered.
    #[must_use]
    pub fn new(within: Duration, most: usize) -> Self {
        Self {
            within,
            most,
            withdrawn: BTreeMap::new(),
            by_time: VecDeque::new(),
            count: 0,
        }
    }

    /// How often somebody came back; devices that came back at the same time count once.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Forgets those that have been gone for too long.
    pub fn forget(&mut self, now: Instant) {
        let within = self.within;
        let is_old = |at: Instant| now.saturating_duration_since(at) >= within;
        while let Some((at, id)) = self.by_time.pop_front_if(|(at, _)| is_old(*at)) {
            if self.withdrawn.get(&id) == Some(&at) {
                self.withdrawn.remove(&id);
            }
        }
        if self.by_time.is_empty() {
            // A burst of withdrawals is over: its room is not needed any more.
            self.by_time = VecDeque::new();
        }
    }

    /// A listed device is withdrawn.
    pub fn withdraw(&mut self, id: &DeviceId, now: Instant) {
        if self.by_time.len() < self.most {
            self.withdrawn.insert(id.clone(), now);
            self.by_time.push_back((now, id.clone()));
        }
    }

    /// A device appears; true if it was withdrawn lately.
    pub fn appear(&mut self, id: &DeviceId) -> bool {
        self.withdrawn.remove(id).is_some()
    }

    /// Some have come back.
    pub fn add(&mut self) {
        self.count += 1;
    }
}
