//! Decides which devices are present. In: messages, what happens to connections, and time.
//! Out: a sorted list, and for each device the reason. Opens no socket and reads no clock.
//!
//! One [`Presence`] is the machine of one request, with all its servers. Each device has one
//! small record and at most one timer that counts; a message changes the record and leaves the timer
//! alone, so that a device that talks all the time costs a look-up and two stores.
//!
//! **Outages.** Each server has a clock that stands still from 5 s before the last packet until
//! `reconnectGrace` after the SUBACK. Silence is reckoned by that clock. A device that should leave
//! in an outage is `leaving` and *parked*: nothing goes offline before the clock runs again.
//! A device goes offline only after a packet came that is newer than what struck it, by the smaller
//! of `offlineDelay` and 5 s; so with an `offlineDelay` of at least 5 s no will that a stopping
//! server sends can withdraw anybody, even if the link then freezes. With a shorter one a device that was
//! withdrawn too soon comes back as `leaving` when the outage is noticed. While a roster is
//! restored, the time before the first SUBACK counts as an outage too.
//!
//! **Places.** `maxDevices` counts published devices and *invited* ones. A freed place invites the
//! refused device that appeared first; it is published when it next shows evidence, or at once where
//! `offlineAfter` is off, because there need not be any more. If it goes instead, the next one
//! is invited. Restored devices are never refused.

mod availability;
mod changes;
mod conventions;
mod devices;
mod evidence;
mod explain;
mod flapping;
mod journal;
mod machine;
mod places;
mod roster;
mod rules;
mod server;
mod states;
mod tick;
mod timers;
mod types;
mod wanting;

pub use changes::{Listed, Moved};
pub use journal::Change;
pub use machine::Presence;
pub use roster::{Roster, RosterEntry};
pub(crate) use tick::Tick;
pub use types::{
    Counters, Evidence, Explanation, Ignored, Inbound, Irregular, Options, Outgoing, Reason, State,
    Wanted,
};

#[cfg(test)]
mod tests;
