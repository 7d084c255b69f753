//! One MQTT server as presence sees it: its link, its outages, and its retained snapshots.
//! In: what happened to the connection. Out: a clock that stands still in outages, and times to
//! look again. Devices are left to the machine.

use std::time::Duration;

use super::devices::Slot;
use super::tick::Tick;
use crate::identity::ServerName;

/// An outage begins this long before the last packet: what a server that stops sends then, such as
/// everybody's wills, belongs to it.
pub(super) const BEFORE_LAST_PACKET: Duration = Duration::from_secs(5);
/// A snapshot is complete after this long without a retained message.
const QUIET: Duration = Duration::from_secs(1);
/// The first list waits for a server no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Down,
    Connected,
    Subscribed,
}

/// A time in which nobody is believed to be gone.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Tick,
    /// The end of the grace; `None` before the SUBACK.
    ends: Option<Tick>,
}

/// How far the retained snapshot of a connection is.
#[derive(Clone, Copy, Debug)]
enum Snapshot {
    /// Nothing is under way.
    Idle,
    /// It arrives, and is complete at this time if no retained message comes before.
    Arriving(Tick),
}

/// What came due for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The grace is over; the clock runs again.
    Resumed,
    /// The snapshot is complete.
    SnapshotComplete,
    /// It has been away for `serverLost`.
    Lost,
    /// The first list waits for it no longer.
    Settled,
}

/// One MQTT server.
#[derive(Debug)]
pub(super) struct Server {
    pub name: ServerName,
    pub link: Link,
    /// When the last packet came.
    pub last_packet: Tick,
    /// When the present connection was made.
    pub connected: Tick,
    /// The number of the present snapshot; never zero once connected.
    pub generation: u16,
    /// Whether an announcement of the present snapshot could not be received.
    pub incomplete: bool,
    /// Devices that wait for a packet, or for the end of the outage.
    pub parked: Vec<Slot>,
    outage: Option<Outage>,
    /// How long the clock has stood still in outages that are over.
    frozen: Duration,
    /// The end of the last outage.
    resumed: Tick,
    snapshot: Snapshot,
    /// Until when the first list waits; `None`: it does not.
    awaited: Option<Tick>,
    /// When its devices are withdrawn, because it stays away.
    lost: Option<Tick>,
}

impl Server {
    pub fn new(name: ServerName, now: Tick) -> Self {
        Self {
            name,
            link: Link::Down,
            last_packet: Tick::START,
            connected: Tick::START,
            generation: 0,
            incomplete: false,
            parked: Vec::new(),
            outage: None,
            frozen: Duration::ZERO,
            resumed: Tick::START,
            snapshot: Snapshot::Idle,
            awaited: Some(now.plus(PATIENCE)),
            lost: None,
        }
    }

    pub fn in_outage(&self) -> bool {
        self.outage.is_some()
    }

    /// The time by the server's clock, which stands still in outages.
    pub fn clock(&self, now: Tick) -> Tick {
        match self.outage {
            Some(outage) => outage.since,
            None => now,
        }
        .minus(self.frozen)
    }

    /// When the server's clock shows `clock`, if no outage comes between. In an outage, when it
    /// would have shown it without the outage.
    pub fn real(&self, clock: Tick) -> Tick {
        clock.plus(self.frozen)
    }

    /// Whether the first list need not wait for it.
    pub fn is_settled(&self) -> bool {
        self.awaited.is_none()
    }

    /// Whether a deadline waits for a packet.
    pub fn needs_probe(&self) -> bool {
        self.link != Link::Down && self.outage.is_none() && !self.parked.is_empty()
    }

    /// The devices of a roster were there before the restart; what happened since is not known.
    pub fn restored(&mut self, now: Tick, lost_after: Option<Duration>) {
        if self.link == Link::Down && self.outage.is_none() {
            self.outage = Some(Outage {
                since: now,
                ends: None,
            });
            self.lost = lost_after.map(|after| now.plus(after));
        }
    }

    pub fn connect(&mut self, now: Tick) {
        self.link = Link::Connected;
        self.connected = now;
        self.last_packet = self.last_packet.max(now);
        // Zero stands for "in no snapshot", so the count skips it.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.snapshot = Snapshot::Idle;
        self.incomplete = false;
        if self.awaited.is_some() {
            self.awaited = Some(now.plus(PATIENCE));
        }
    }

    pub fn subscribed(&mut self, now: Tick, grace: Duration) {
        self.link = Link::Subscribed;
        self.last_packet = self.last_packet.max(now);
        self.lost = None;
        self.snapshot = Snapshot::Arriving(now.plus(QUIET));
        if self.awaited.is_some() {
            self.awaited = Some(now.plus(PATIENCE));
        }
        // A subscription that joins later on the same connection does not prolong the grace.
        if let Some(outage) = &mut self.outage
            && outage.ends.is_none()
        {
            outage.ends = Some(now.plus(grace));
        }
    }

    /// The connection is gone, or could not be made. Returns the beginning of an outage that was
    /// not known before.
    pub fn disconnect(&mut self, last_packet: Tick, lost_after: Option<Duration>) -> Option<Tick> {
        let was = std::mem::replace(&mut self.link, Link::Down);
        self.snapshot = Snapshot::Idle;
        self.awaited = None;
        if was == Link::Down {
            return None;
        }
        self.last_packet = last_packet;
        if self.lost.is_none() {
            self.lost = lost_after.map(|after| last_packet.plus(after));
        }
        if let Some(outage) = &mut self.outage {
            outage.ends = None;
            return None;
        }
        let since = last_packet.minus(BEFORE_LAST_PACKET);
        self.outage = Some(Outage {
            // Time that a former outage has frozen is not frozen twice.
            since: since.max(self.resumed),
            ends: None,
        });
        Some(since)
    }

    pub fn packet(&mut self, at: Tick) {
        if self.link != Link::Down {
            self.last_packet = self.last_packet.max(at);
        }
    }

    /// A retained message came: the snapshot goes on.
    pub fn retained(&mut self, now: Tick) {
        if let Snapshot::Arriving(until) = &mut self.snapshot {
            *until = now.plus(QUIET);
        }
    }

    /// When to look at it again.
    pub fn next(&self) -> Option<Tick> {
        let snapshot = match self.snapshot {
            Snapshot::Arriving(until) => Some(until),
            Snapshot::Idle => None,
        };
        let ends = self.outage.and_then(|outage| outage.ends);
        [ends, snapshot, self.awaited, self.lost]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing that has come due.
    pub fn pop(&mut self, now: Tick) -> Option<Due> {
        if let Snapshot::Arriving(until) = self.snapshot
            && until <= now
        {
            self.snapshot = Snapshot::Idle;
            self.awaited = None;
            return Some(Due::SnapshotComplete);
        }
        if self.awaited.is_some_and(|until| until <= now) {
            self.awaited = None;
            return Some(Due::Settled);
        }
        if let Some(outage) = self.outage
            && let Some(ends) = outage.ends.filter(|ends| *ends <= now)
        {
            self.outage = None;
            self.frozen += ends.since(outage.since);
            self.resumed = ends;
            return Some(Due::Resumed);
        }
        if self.lost.is_some_and(|at| at <= now) {
            self.lost = None;
            return Some(Due::Lost);
        }
        None
    }

    /// Takes the devices that wait.
    pub fn unpark(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.parked)
    }
}
