//! What time and servers do to devices. In: timers, packets, outages, snapshots. Out: devices that
//! leave, are gone, or come back. Nothing is gone while its server's clock stands still, nor before
//! a packet has come that is newer than what struck it.

use std::time::Duration;

use super::devices::{Announced, Device, Place, ServerIndex, Slot};
use super::machine::Presence;
use super::rules::Source;
use super::server::{BEFORE_LAST_PACKET, Server};
use super::tick::Tick;
use super::{Reason, State};
use crate::clock::Now;
use crate::details::PresenceRules;
use crate::identity::ServerName;

/// What is to be believed about a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Belief {
    pub state: State,
    pub reason: Reason,
    pub since: Tick,
}

impl Belief {
    pub fn new(state: State, reason: Reason, since: Tick) -> Self {
        Self {
            state,
            reason,
            since,
        }
    }
}

impl Presence {
    /// Makes a device leave.
    pub(super) fn leave(&mut self, slot: Slot, leave: Leave, now: Tick) {
        if let Some(device) = self.devices.get_mut(slot) {
            device.source = leave.source;
            device.struck = leave.struck;
            device.due = Some(leave.struck.plus(leave.delay));
        }
        self.enter(
            slot,
            Belief::new(State::Leaving, leave.reason, leave.struck),
            now,
        );
        self.evaluate(slot, now);
    }

    /// Does what the time asks for, or sees to it that it is looked at again.
    pub(super) fn evaluate(&mut self, slot: Slot, now: Tick) {
        let Some(device) = self.devices.get(slot) else {
            return;
        };
        let Some(server) = self.server(device.server) else {
            return;
        };
        let Some(wait) = Wait::of(device, server, &self.settings) else {
            return;
        };
        if now < wait.until {
            self.arm(slot, wait.until);
            return;
        }
        if server.in_outage() || server.last_packet < wait.proof {
            let silent = device.state == State::Online && server.in_outage();
            if silent {
                let belief = Belief::new(State::Leaving, Reason::Silence, wait.until);
                self.enter(slot, belief, now);
            }
            self.park(slot);
            return;
        }
        match (device.state, device.due) {
            (State::Leaving, Some(_)) => {
                let reason = device.reason;
                self.enter(slot, Belief::new(reason.end(), reason, now), now);
            }
            (State::Unconfirmed, _) => {
                if let Some(device) = self.devices.get_mut(slot) {
                    device.struck = wait.until;
                }
                self.enter(
                    slot,
                    Belief::new(State::Offline, Reason::Unproven, now),
                    now,
                );
            }
            _ => {
                let (delay, source) = (self.delay(device), device.source);
                let struck = wait.until;
                self.leave(
                    slot,
                    Leave {
                        struck,
                        delay,
                        reason: Reason::Silence,
                        source,
                    },
                    now,
                );
            }
        }
    }

    pub(super) fn on_timer(&mut self, at: Tick, slot: Slot, now: Tick) {
        match self.devices.get_mut(slot) {
            Some(device) if device.armed == Some(at) => device.armed = None,
            _ => return,
        }
        self.evaluate(slot, now);
        self.forget();
    }

    fn arm(&mut self, slot: Slot, at: Tick) {
        if let Some(device) = self.devices.get_mut(slot)
            && device.armed.is_none_or(|armed| at < armed)
        {
            device.armed = Some(at);
            self.timers.push(at, slot);
        }
    }

    fn park(&mut self, slot: Slot) {
        if let Some(device) = self.devices.get_mut(slot)
            && !device.parked
            && let Some(server) = self.servers.get_mut(usize::from(device.server))
        {
            device.parked = true;
            server.parked.push(slot);
        }
    }

    /// Looks again at the devices of a server that waited for a packet, or for the end of an outage.
    pub(super) fn wake(&mut self, index: ServerIndex, now: Tick) {
        let Some(server) = self.servers.get_mut(usize::from(index)) else {
            return;
        };
        for slot in server.unpark() {
            if let Some(device) = self.devices.get_mut(slot) {
                device.parked = false;
            }
            self.evaluate(slot, now);
        }
        self.forget();
    }

    /// A retained message was too large to be received. Where it announces devices, what is not in this
    /// snapshot is not gone for that.
    pub fn on_too_large(&mut self, server: &ServerName, topic: &str, now: Now) {
        let now = self.base.tick(now.mono);
        let Some(index) = self.server_index(server) else {
            return;
        };
        self.catch_up(index, now);
        let announces = self.rules.lacks(index, topic);
        if let Some(server) = self.servers.get_mut(usize::from(index)) {
            server.incomplete |= announces;
            server.retained(now);
        }
    }

    /// A snapshot is complete: announcements that were retained before and are not in it are gone.
    pub(super) fn sweep(&mut self, index: ServerIndex, now: Tick) {
        let Some((generation, connected)) = self
            .server(index)
            .map(|server| (server.generation, server.connected))
        else {
            return;
        };
        let mut found = std::mem::take(&mut self.found);
        self.rules.snapshot_complete(index, now, &mut found);
        for finding in found.drain(..) {
            self.observe(index, &finding, true, now);
        }
        self.found = found;
        if self.server(index).is_some_and(|server| server.incomplete) {
            return;
        }
        for slot in self.slots_of(index, |d| d.snapshot != 0 && d.snapshot != generation) {
            let Some(device) = self.devices.get_mut(slot) else {
                continue;
            };
            device.snapshot = 0;
            device.announced = Announced::Nothing;
            device.vouched = false;
            let (source, shown) = (device.source, device.alive >= Some(connected));
            if !shown {
                self.remove(slot, Reason::Vanished, source, now);
            }
        }
        self.forget();
    }

    /// A server was away for `serverLost`: its devices are withdrawn.
    pub(super) fn lose(&mut self, index: ServerIndex, now: Tick) {
        // Those that have no place go first, so that none of them is invited meanwhile.
        let waiting = self.slots_of(index, |d| d.state.is_present() && d.place != Place::In);
        let published = self.slots_of(index, |d| d.state.is_present() && d.place == Place::In);
        for slot in waiting.into_iter().chain(published) {
            if let Some(device) = self.devices.get_mut(slot) {
                device.struck = now;
            }
            self.enter(
                slot,
                Belief::new(State::Offline, Reason::ServerLost, now),
                now,
            );
        }
        self.forget();
    }

    /// An outage has begun at `since`: what took effect after that did so too soon.
    pub(super) fn revisit(&mut self, index: ServerIndex, since: Tick, now: Tick) {
        let too_soon = |device: &Device| {
            device.state == State::Offline
                && device.struck >= since
                && device.changed.is_some_and(|changed| changed >= since)
                && device.reason != Reason::ServerLost
        };
        for slot in self.slots_of(index, too_soon) {
            let Some(device) = self.devices.get_mut(slot) else {
                continue;
            };
            if self.places.taken < self.max_devices {
                device.due = Some(device.struck);
                let (reason, struck) = (device.reason, device.struck);
                self.enter(slot, Belief::new(State::Leaving, reason, struck), now);
                self.park(slot);
            }
        }
    }

    /// A server has kept nothing for us: devices of before a restart may have gone unheard.
    pub(super) fn doubt_restored(&mut self, index: ServerIndex, now: Tick) {
        let is_restored =
            |d: &Device| (d.state, d.reason) == (State::Unconfirmed, Reason::Restored);
        for slot in self.slots_of(index, is_restored) {
            if let Some(device) = self.devices.get_mut(slot) {
                device.vouched = false;
            }
            self.evaluate(slot, now);
        }
    }

    fn slots_of(&self, index: ServerIndex, which: impl Fn(&Device) -> bool) -> Vec<Slot> {
        let mut slots: Vec<(u64, Slot)> = self
            .devices
            .slots()
            .filter(|(_, device)| device.server == index && which(device))
            .map(|(slot, device)| (device.order, slot))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    pub(super) fn server(&self, index: ServerIndex) -> Option<&Server> {
        self.servers.get(usize::from(index))
    }

    pub(super) fn is_due(&self, slot: Slot) -> bool {
        self.devices
            .get(slot)
            .is_some_and(|device| device.due.is_some())
    }

    pub(super) fn delay(&self, device: &Device) -> Duration {
        stretched(&self.settings, device)
    }
}

/// How a device leaves.
pub(super) struct Leave {
    /// When what makes it leave happened.
    pub struck: Tick,
    pub delay: Duration,
    pub reason: Reason,
    pub source: Source,
}

/// What a device waits for.
struct Wait {
    until: Tick,
    /// A packet must have come at this time or later, before it takes effect.
    proof: Tick,
}

impl Wait {
    fn of(device: &Device, server: &Server, settings: &PresenceRules) -> Option<Self> {
        let silent = |after: Duration| {
            let mut until = server.real(device.heard).plus(after);
            if let Some(alive) = device.alive.filter(|_| server.in_outage()) {
                // The server's clock has not seen that time pass in which the device was heard.
                until = until.max(alive.plus(after));
            }
            Self {
                until,
                proof: until,
            }
        };
        match (device.state, device.due) {
            (State::Leaving, Some(due)) => {
                let least = due.since(device.struck).min(BEFORE_LAST_PACKET);
                let proof = device.struck.plus(least);
                Some(Self { until: due, proof })
            }
            (State::Online | State::Leaving, _) => settings.offline_after.map(silent),
            (State::Unconfirmed, _) if device.vouched => settings.offline_after.map(silent),
            (State::Unconfirmed, _) => Some(silent(patience(settings))),
            (State::Offline | State::Removed, _) => None,
        }
    }
}

/// How long a device stays unconfirmed.
fn patience(settings: &PresenceRules) -> Duration {
    settings
        .offline_after
        .unwrap_or(PresenceRules::DEFAULT_OFFLINE_AFTER)
}

/// `offlineDelay`, as long as this device has made it.
pub(super) fn stretched(settings: &PresenceRules, device: &Device) -> Duration {
    let delay = settings.offline_delay;
    device
        .flaps
        .as_ref()
        .map_or(delay, |flaps| flaps.stretch(delay))
}
