//! The time that is handed to everything in this crate. In: a reading of the caller's clocks.
//! Out: the same, moved on. Reads no clock itself.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One reading of both clocks: the monotonic one decides, the wall clock is for people and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, by which every deadline is reckoned.
    pub mono: Instant,
    /// The wall clock, which is only shown and stored.
    pub wall: Timestamp,
}

impl Now {
    /// The same reading `after` later. A clock that cannot go that far stays where it is.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        let wall = jiff::SignedDuration::try_from(after)
            .ok()
            .and_then(|by| self.wall.checked_add(by).ok())
            .unwrap_or(self.wall);
        Self {
            mono: self.mono.checked_add(after).unwrap_or(self.mono),
            wall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_move_by_the_same_amount() {
        let now = Now {
            mono: Instant::now(),
            wall: Timestamp::UNIX_EPOCH,
        };
        let later = now.plus(Duration::from_millis(1500));
        assert_eq!(later.mono - now.mono, Duration::from_millis(1500));
        assert_eq!(later.wall.as_millisecond(), 1500);
    }

    #[test]
    fn a_step_beyond_the_end_of_time_is_not_taken() {
        let now = Now {
            mono: Instant::now(),
            wall: Timestamp::MAX,
        };
        assert_eq!(now.plus(Duration::MAX), now);
    }
}
