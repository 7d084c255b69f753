//! How long to wait before Discover is called again. In: how calls ended, and a random number. Out: waits.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// A handler whose container restarts is there again after seconds, and then registers anyway.
const LONGEST: Duration = Duration::from_secs(15);
/// What is refused stays so until somebody changes it, which is mostly noticed.
const FIRST_REFUSED: Duration = Duration::from_secs(5);
const LONGEST_REFUSED: Duration = Duration::from_secs(60);
/// A stream that has lived for so long was no failure.
const STABLE: Duration = Duration::from_secs(10);

/// The waits of one call.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait, after a call that lived for `lived`; `random` from 0 to 1 spreads it.
    pub fn next(&mut self, refused: bool, lived: Duration, random: f64) -> Duration {
        if lived >= STABLE {
            self.failures = 0;
        }
        let (first, longest) = if refused {
            (FIRST_REFUSED, LONGEST_REFUSED)
        } else {
            (FIRST, LONGEST)
        };
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1).min(16);
        let wait = first.saturating_mul(factor).min(longest);
        wait.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// The handler has registered again: it may have been mended.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_begin_anew_after_a_stream_that_lived() {
        let mut backoff = Backoff::default();
        let mut wait = |refused, lived| backoff.next(refused, Duration::from_secs(lived), 1.0);
        assert_eq!(wait(false, 0), FIRST);
        assert_eq!(wait(false, 0), 2 * FIRST);
        for _ in 0..40 {
            assert!(wait(false, 0) <= LONGEST);
        }
        assert_eq!(wait(false, 0), LONGEST);
        assert_eq!(wait(true, 0), LONGEST_REFUSED);
        assert_eq!(wait(false, 10), FIRST);
    }

    #[test]
    fn waits_are_spread_over_half_of_their_length() {
        let wait = |random| Backoff::default().next(true, Duration::ZERO, random);
        assert_eq!(wait(0.0), FIRST_REFUSED / 2);
        assert_eq!(wait(1.0), FIRST_REFUSED);
    }
}
