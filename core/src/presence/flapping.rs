//! Devices that come and go. In: the times at which what is published changed. Out: how much
//! longer such a device must be away before it is believed to be gone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::devices::Slot;
use super::tick::Tick;

/// So many transitions within [`WINDOW`] are flapping, and each further so many count again.
const STEP: u32 = 5;
/// In which they are counted, and after which a device without any is calm again.
pub(super) const WINDOW: Duration = Duration::from_secs(600);
/// The most by which a delay is multiplied.
const MAX_FACTOR: u32 = 16;
/// The least delay that is multiplied.
const LEAST_DELAY: Duration = Duration::from_secs(1);
/// The longest stretched delay.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// The transitions of a device that has had two within ten minutes.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    /// The last four, from the latest on; the fifth is the one that comes.
    recent: [Option<Tick>; 4],
    /// Transitions since the first of the five; zero while it is calm.
    count: u32,
}

impl Flaps {
    /// Notes a transition; `last` is the one before it.
    pub fn note(slot: &mut Option<Box<Self>>, last: Option<Tick>, now: Tick) {
        let Some(last) = last.filter(|last| now.since(*last) < WINDOW) else {
            *slot = None;
            return;
        };
        let flaps = slot.get_or_insert_default();
        flaps.recent.rotate_right(1);
        if let Some(latest) = flaps.recent.first_mut() {
            *latest = Some(last);
        }
        if flaps.count > 0 {
            flaps.count = flaps.count.saturating_add(1);
        } else if let Some(first) = flaps.recent.last().copied().flatten()
            && now.since(first) < WINDOW
        {
            flaps.count = STEP;
        }
    }

    /// Whether the delay is stretched.
    pub fn is_flapping(&self) -> bool {
        self.count > 0
    }

    /// `offlineDelay`, stretched as far as this device asks for.
    pub fn stretch(&self, delay: Duration) -> Duration {
        if !self.is_flapping() {
            return delay;
        }
        let doublings = (self.count / STEP).min(MAX_FACTOR.ilog2());
        let factor = 1_u32.checked_shl(doublings).unwrap_or(MAX_FACTOR);
        let stretched = delay.max(LEAST_DELAY).saturating_mul(factor);
        stretched.min(MAX_DELAY).max(delay)
    }
}

/// The devices that flap, in the order in which they will be calm again.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    by_last: BTreeSet<(Tick, Slot)>,
}

impl Flapping {
    /// Moves a device to its latest transition; `last` is the one under which it stands.
    pub fn moved(&mut self, slot: Slot, last: Option<Tick>, latest: Option<Tick>) {
        if let Some(last) = last {
            self.by_last.remove(&(last, slot));
        }
        if let Some(latest) = latest {
            self.by_last.insert((latest, slot));
        }
    }

    pub fn len(&self) -> usize {
        self.by_last.len()
    }

    /// When the next one is calm.
    pub fn next(&self) -> Option<Tick> {
        self.by_last.first().map(|(last, _)| last.plus(WINDOW))
    }

    /// Takes out a device that is calm by now.
    pub fn pop(&mut self, now: Tick) -> Option<Slot> {
        if self.next()? > now {
            return None;
        }
        self.by_last.pop_first().map(|(_, slot)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(transitions: u32, apart: Duration) -> Flaps {
        let mut flaps = None;
        let mut last = None;
        for n in 0..transitions {
            let now = Tick::START.plus(apart * n);
            Flaps::note(&mut flaps, last, now);
            last = Some(now);
        }
        flaps.map(|flaps| *flaps).unwrap_or_default()
    }

    #[test]
    fn the_fifth_transition_within_ten_minutes_doubles_the_delay_and_each_further_five_again() {
        let delay = Duration::from_secs(10);
        let stretched = |count| after(count, Duration::from_secs(20)).stretch(delay) / 10;
        let factors: Vec<u64> = [1, 4, 5, 9, 10, 14, 15, 19, 20, 25, 500]
            .map(|count| stretched(count).as_secs())
            .to_vec();
        assert_eq!(factors, [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 16]);
    }

    #[test]
    fn five_transitions_in_more_than_ten_minutes_are_none_too_many() {
        assert!(!after(5, Duration::from_secs(150)).is_flapping());
        assert!(after(5, Duration::from_millis(149_999)).is_flapping());
        assert!(!after(100, Duration::from_secs(150)).is_flapping());
    }

    #[test]
    fn a_stretched_delay_is_at_least_one_second_and_at_most_ten_minutes() {
        let flaps = after(25, Duration::from_secs(1));
        assert_eq!(flaps.stretch(Duration::ZERO), Duration::from_secs(16));
        assert_eq!(flaps.stretch(Duration::from_secs(60)), MAX_DELAY);
        let hour = Duration::from_secs(3600);
        assert_eq!(flaps.stretch(hour), hour, "it is never shortened");
    }

    #[test]
    fn ten_quiet_minutes_make_a_device_calm() {
        let mut flaps = Some(Box::new(after(25, Duration::from_secs(1))));
        let last = Tick::START.plus(Duration::from_secs(24));
        Flaps::note(&mut flaps, Some(last), last.plus(WINDOW));
        assert!(flaps.is_none());
    }
}
