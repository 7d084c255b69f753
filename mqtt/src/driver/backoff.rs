//! How long to wait before the next attempt. Randomness comes in as an argument.

use std::time::Duration;

use crate::Backoff;

#[derive(Debug)]
pub(super) struct Pauses {
    bounds: Backoff,
    failures: u32,
}

impl Pauses {
    pub(super) fn new(bounds: Backoff) -> Self {
        Self {
            bounds,
            failures: 0,
        }
    }

    /// A pause between the shortest and a bound that doubles; `random` is in 0..1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let factor = 1u32.checked_shl(self.failures.min(31)).unwrap_or(u32::MAX);
        let bound = self
            .bounds
            .min
            .saturating_mul(factor)
            .min(self.bounds.max)
            .max(self.bounds.min);
        self.bounds.min
            + bound
                .saturating_sub(self.bounds.min)
                .mul_f64(random.clamp(0.0, 1.0))
    }

    /// A connection that lasted as long as the longest pause was a good one.
    pub(super) fn lasted(&mut self, time: Duration) -> bool {
        let stable = time >= self.bounds.max;
        if stable {
            self.failures = 0;
        }
        stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_second_to_a_minute_and_start_again_after_a_stable_connection() {
        let mut pauses = Pauses::new(Backoff::default());
        let longest: Vec<u64> = (0..8).map(|_| pauses.next(1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pauses.next(0.0), Duration::from_secs(1));
        assert!(!pauses.lasted(Duration::from_secs(59)));
        assert!(pauses.lasted(Duration::from_secs(60)));
        assert_eq!(pauses.next(1.0), Duration::from_secs(2));
    }
}
