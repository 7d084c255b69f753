//! Time in eight bytes. In: instants of the caller's clock. Out: nanoseconds since the machine was
//! made, so that a million devices can carry several of them.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Nanoseconds since the machine was made, plus one, so that an `Option` takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tick(NonZeroU64);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Tick {
    /// When the machine was made; what happened before it counts as this.
    pub const START: Self = Self(NonZeroU64::MIN);

    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    pub fn minus(self, by: Duration) -> Self {
        let rest = self.0.get().saturating_sub(nanos(by));
        Self(NonZeroU64::new(rest).unwrap_or(NonZeroU64::MIN))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// Turns instants into ticks and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base(Instant);

impl Base {
    pub fn new(start: Instant) -> Self {
        Self(start)
    }

    pub fn tick(self, at: Instant) -> Tick {
        Tick::START.plus(at.saturating_duration_since(self.0))
    }

    /// `None` for a tick beyond the end of the clock.
    pub fn instant(self, tick: Tick) -> Option<Instant> {
        self.0.checked_add(tick.since(Tick::START))
    }
}
