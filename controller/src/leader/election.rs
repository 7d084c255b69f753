//! Decides who leads. In: what a Lease says, whether a claim of ours went through, and the time.
//! Out: whether to claim the Lease, and whether this process may act.
//!
//! The clocks of two machines are never compared: a Lease is stale when *this* process has not seen
//! it change for as long as its holder promised. A holder counts from the moment before it sent the
//! claim, everybody else from the moment after they saw it, so its own deadline passes first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_cluster::{Observed, Record};

/// The times of the election.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others leave a Lease alone that does not change.
    pub lease: Duration,
    /// After how long without a renewal the leader stops to act; shorter than `lease`.
    pub deadline: Duration,
    /// How often the leader renews.
    pub renew: Duration,
    /// How often the others look.
    pub look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            renew: Duration::from_secs(2),
            look: Duration::from_secs(1),
        }
    }
}

/// What to do with a Lease that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Write our name into it, and this number of transitions.
    Claim {
        /// How often the Lease has changed hands then.
        transitions: i32,
    },
    /// Another one leads.
    Wait,
}

/// The state of one candidate.
#[derive(Debug)]
pub struct Election {
    identity: Arc<str>,
    timing: Timing,
    seen: Option<Observed>,
    claimed: Option<Instant>,
}

impl Election {
    /// A candidate that has seen nothing yet. `identity` is like no other one's, ever.
    #[must_use]
    pub fn new(identity: Arc<str>, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            claimed: None,
        }
    }

    /// The Lease as it was read at `now`.
    pub fn on_read(&mut self, record: Record, now: Instant) -> Move {
        let transitions = record.transitions;
        let holder = record.holder.clone();
        let seen = match &mut self.seen {
            Some(seen) => {
                seen.see(record, now);
                seen
            }
            seen => seen.insert(Observed::new(record, now)),
        };
        let claim = match holder {
            None => Some(transitions),
            Some(holder) if holder == self.identity => Some(transitions),
            Some(_) => {
                // Whatever we believed, the Lease is another one's.
                self.claimed = None;
                seen.is_stale(self.timing.lease, now)
                    .then(|| transitions.saturating_add(1))
            }
        };
        claim.map_or(Move::Wait, |transitions| Move::Claim { transitions })
    }

    /// A claim whose request began at `begun` went through.
    pub fn on_claimed(&mut self, record: Record, begun: Instant) {
        self.seen = Some(Observed::new(record, begun));
        self.claimed = Some(begun);
    }

    /// The Lease is given back, or will be.
    pub fn resign(&mut self) {
        self.claimed = None;
    }

    /// Whether this process may act at `now`.
    #[must_use]
    pub fn leads(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline)
    }

    /// Until when it may act, if nothing else is heard.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.claimed?.checked_add(self.timing.deadline)
    }

    /// Who holds the Lease as far as is known.
    #[must_use]
    pub fn holder(&self) -> Option<&Arc<str>> {
        self.seen.as_ref()?.record().holder.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn election(name: &str) -> Election {
        Election::new(name.into(), Timing::default())
    }

    fn record(holder: &str, second: i64) -> Record {
        Record {
            holder: (!holder.is_empty()).then(|| holder.into()),
            lease: Some(15 * S),
            renewed: Some(Timestamp::from_second(second).unwrap()),
            transitions: 3,
        }
    }

    #[test]
    fn a_lease_without_holder_is_claimed_at_once() {
        let now = Instant::now();
        for free in [Record::default(), record("", 1)] {
            let transitions = free.transitions;
            assert_eq!(
                election("a").on_read(free, now),
                Move::Claim { transitions }
            );
        }
    }

    #[test]
    fn a_lease_that_changes_is_left_alone_whatever_its_clock_says() {
        let mut election = election("a");
        let mut now = Instant::now();
        for clock in [900_000_000, 0, 5, 4, 3] {
            assert_eq!(election.on_read(record("b", clock), now), Move::Wait);
            now += 14 * S;
        }
    }

    #[test]
    fn a_lease_that_stands_still_is_taken_after_its_duration_and_not_before() {
        let mut election = election("a");
        let now = Instant::now();
        let read = |election: &mut Election, after| election.on_read(record("b", 1), now + after);
        assert_eq!(read(&mut election, Duration::ZERO), Move::Wait);
        assert_eq!(read(&mut election, 14 * S), Move::Wait);
        assert_eq!(read(&mut election, 15 * S), Move::Claim { transitions: 4 });
    }

    #[test]
    fn the_duration_that_the_holder_promised_counts_but_not_for_ever() {
        let now = Instant::now();
        for (promised, patience) in [(30, 30), (1_000_000, 120)] {
            let mut election = election("a");
            let mut held = record("b", 1);
            held.lease = Some(promised * S);
            assert_eq!(election.on_read(held.clone(), now), Move::Wait);
            assert_eq!(
                election.on_read(held.clone(), now + (patience - 1) * S),
                Move::Wait
            );
            let claim = Move::Claim { transitions: 4 };
            assert_eq!(election.on_read(held, now + patience * S), claim);
        }
    }

    #[test]
    fn the_leader_stops_before_anybody_else_may_begin() {
        let begun = Instant::now();
        let mut leader = election("a");
        leader.on_claimed(record("a", 1), begun);
        let mut other = election("b");
        // The other one sees the claim at the earliest moment that it can: when it was sent.
        assert_eq!(other.on_read(record("a", 1), begun), Move::Wait);
        assert!(leader.leads(begun + 9 * S));
        assert!(!leader.leads(begun + 10 * S));
        assert_eq!(other.on_read(record("a", 1), begun + 14 * S), Move::Wait);
    }

    #[test]
    fn a_leader_that_reads_another_name_steps_down_at_once() {
        let begun = Instant::now();
        let mut leader = election("a");
        leader.on_claimed(record("a", 1), begun);
        assert_eq!(leader.on_read(record("b", 1), begun + S), Move::Wait);
        assert!(!leader.leads(begun + S));
        assert_eq!(leader.holder().unwrap().as_ref(), "b");
    }

    #[test]
    fn a_leader_that_was_cut_off_claims_its_own_lease_again() {
        let begun = Instant::now();
        let mut leader = election("a");
        leader.on_claimed(record("a", 1), begun);
        let later = begun + 60 * S;
        assert!(!leader.leads(later));
        let claim = Move::Claim { transitions: 3 };
        assert_eq!(leader.on_read(record("a", 1), later), claim);
        leader.on_claimed(record("a", 2), later);
        assert!(leader.leads(later));
    }
}
