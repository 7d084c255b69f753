//! The transitions of a device. In: evidence, timers, and what happens to its server. Out: changed
//! records, the list of published devices, and new timers. The table of ARCHITECTURE.md, "Presence", row by row.

use std::collections::BTreeSet;
use std::time::Duration;

use super::devices::{Announced, Device, Place, ServerIndex, Slot};
use super::flapping::Flaps;
use super::machine::Presence;
use super::rules::{Finding, Source};
use super::server::{BEFORE_LAST_PACKET, Server};
use super::tick::Tick;
use super::{Evidence, Ignored, Reason, State};
use crate::details::{PresenceRules, RetainedData};

/// The places that `maxDevices` gives.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Published and invited devices.
    pub taken: usize,
    /// Devices that found no place, in order of first appearance.
    pub refused: BTreeSet<(u64, Slot)>,
}

impl Presence {
    /// Does what a message says about a device.
    pub(super) fn observe(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        retained: bool,
        now: Tick,
    ) {
        let result = match (finding.evidence, retained) {
            (Evidence::Command, _) => Err(Ignored::Command),
            (Evidence::Unknown, _) => Err(Ignored::UnknownPayload),
            (Evidence::Data, false) => self.on_data(index, finding, now),
            (Evidence::Data, true) => self.on_retained_data(index, finding, now),
            (Evidence::Online, retained) => self.on_online(index, finding, retained, now),
            (Evidence::Offline, false) => self.on_will(index, finding, now),
            (Evidence::Offline, true) => self.on_retained_will(index, finding, now),
            (Evidence::Removed, _) => self.on_emptied(index, finding, now),
        };
        if let Err(reason) = result {
            self.counters.ignore(reason);
        }
        self.forget();
    }

    fn on_data(&mut self, index: ServerIndex, finding: &Finding, now: Tick) -> Result<(), Ignored> {
        let slot = self.appearing(index, &finding.device, now)?;
        if let Some(device) = self.devices.get_mut(slot) {
            device.last_data = Some(now);
            if device.announced == Announced::Offline && !finding.overrides {
                return Err(Ignored::Overruled);
            }
        }
        self.alive(slot, Reason::Data, finding.source, now);
        Ok(())
    }

    fn on_retained_data(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        now: Tick,
    ) -> Result<(), Ignored> {
        if self.settings.retained == RetainedData::Ignore {
            return Err(Ignored::Retained);
        }
        let slot = self.appearing(index, &finding.device, now)?;
        if self
            .devices
            .get(slot)
            .is_some_and(|d| d.announced == Announced::Offline)
        {
            return Err(Ignored::Retained);
        }
        self.vouched(slot, Reason::RetainedData, finding.source, now);
        Ok(())
    }

    fn on_online(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        retained: bool,
        now: Tick,
    ) -> Result<(), Ignored> {
        let slot = self.appearing(index, &finding.device, now)?;
        self.announced(slot, Announced::Online, retained);
        if !retained {
            self.alive(slot, Reason::Announced, finding.source, now);
        } else if finding.retained_will {
            self.alive(slot, Reason::AnnouncedRetained, finding.source, now);
        } else {
            self.vouched(slot, Reason::AnnouncedRetained, finding.source, now);
        }
        Ok(())
    }

    fn on_will(&mut self, index: ServerIndex, finding: &Finding, now: Tick) -> Result<(), Ignored> {
        let slot = self.known_or_gone(index, finding, Reason::Will, now)?;
        self.announced(slot, Announced::Offline, false);
        let Some(device) = self.devices.get(slot) else {
            return Ok(());
        };
        let leaves_already = device.state == State::Leaving && device.due.is_some();
        if device.state.is_present() && !leaves_already {
            let delay = self.delay(device);
            self.leave(
                slot,
                Leave {
                    struck: now,
                    delay,
                    reason: Reason::Will,
                    source: finding.source,
                },
                now,
            );
        }
        Ok(())
    }

    fn on_retained_will(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        now: Tick,
    ) -> Result<(), Ignored> {
        let slot = self.known_or_gone(index, finding, Reason::WillRetained, now)?;
        let was = self
            .devices
            .get(slot)
            .map(|device| (device.announced, device.state));
        self.announced(slot, Announced::Offline, true);
        let outage = self.server(index).is_some_and(Server::in_outage);
        let (source, reason) = (finding.source, Reason::WillRetained);
        let leave = Leave {
            struck: now,
            delay: Duration::ZERO,
            reason,
            source,
        };
        match was {
            // The same old will once more, which live data has overridden.
            Some((Announced::Offline, State::Online)) if !outage => {}
            Some((_, State::Leaving)) if outage && self.is_due(slot) => {}
            Some((_, state)) if state.is_present() => self.leave(slot, leave, now),
            _ => {}
        }
        Ok(())
    }

    fn on_emptied(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        now: Tick,
    ) -> Result<(), Ignored> {
        let slot = self
            .devices
            .find(index, &finding.device)
            .ok_or(Ignored::UnknownDevice)?;
        if let Some(device) = self.devices.get_mut(slot) {
            device.announced = Announced::Nothing;
            device.snapshot = 0;
        }
        self.remove(slot, Reason::Emptied, finding.source, now);
        Ok(())
    }

    /// The announcement of a device is gone.
    fn remove(&mut self, slot: Slot, reason: Reason, source: Source, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        let delay = stretched(&self.settings, device);
        match device.state {
            State::Leaving if device.due.is_some() => {
                device.source = source;
                let since = device.since;
                self.enter(slot, State::Leaving, reason, since, now);
            }
            State::Unconfirmed | State::Online | State::Leaving => {
                self.leave(
                    slot,
                    Leave {
                        struck: now,
                        delay,
                        reason,
                        source,
                    },
                    now,
                );
            }
            State::Offline => {
                device.source = source;
                self.enter(slot, State::Removed, reason, now, now);
            }
            State::Removed => {}
        }
    }

    /// The device of evidence of life; `Err` if there is no room to remember it.
    fn appearing(&mut self, index: ServerIndex, name: &str, now: Tick) -> Result<Slot, Ignored> {
        let room = self.places.taken < self.max_devices
            || self.places.refused.len() < self.options.remembered;
        match self.devices.find(index, name) {
            Some(slot) if room || self.devices.get(slot).is_some_and(|d| d.state.is_present()) => {
                Ok(slot)
            }
            None if room => self.find_or_insert(index, name, now).ok_or(Ignored::Full),
            _ => Err(Ignored::Full),
        }
    }

    /// The device of evidence of death, made as one that is gone if it is not known.
    fn known_or_gone(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        reason: Reason,
        now: Tick,
    ) -> Result<Slot, Ignored> {
        if let Some(slot) = self.devices.find(index, &finding.device) {
            return Ok(slot);
        }
        let slot = self
            .find_or_insert(index, &finding.device, now)
            .ok_or(Ignored::Full)?;
        if let Some(device) = self.devices.get_mut(slot) {
            device.source = finding.source;
        }
        self.devices.set_state(slot, State::Offline, reason, now);
        Ok(slot)
    }

    fn announced(&mut self, slot: Slot, what: Announced, retained: bool) {
        let server = self
            .devices
            .get(slot)
            .and_then(|device| self.server(device.server));
        let generation = server.map_or(0, |server| server.generation);
        if let Some(device) = self.devices.get_mut(slot) {
            device.announced = what;
            if retained {
                device.snapshot = generation;
            }
        }
    }

    /// Evidence of life.
    fn alive(&mut self, slot: Slot, reason: Reason, source: Source, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        let Some(server) = self.servers.get(usize::from(device.server)) else {
            return;
        };
        device.heard = server.clock(now);
        device.alive = Some(now);
        if device.state != State::Online {
            device.due = None;
            device.source = source;
            let deadline = self
                .settings
                .offline_after
                .map(|after| server.real(device.heard).plus(after));
            self.enter(slot, State::Online, reason, now, now);
            if let Some(deadline) = deadline {
                self.arm(slot, deadline);
            }
        }
        self.accept_invitation(slot, now);
    }

    /// Something speaks for a device, but does not show that it is alive.
    fn vouched(&mut self, slot: Slot, reason: Reason, source: Source, now: Tick) {
        if let Some(device) = self.devices.get_mut(slot)
            && !device.state.is_present()
        {
            device.source = source;
            self.enter_unconfirmed(slot, reason, now);
        }
        self.accept_invitation(slot, now);
    }

    pub(super) fn enter_unconfirmed(&mut self, slot: Slot, reason: Reason, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        let Some(server) = self.servers.get(usize::from(device.server)) else {
            return;
        };
        device.heard = server.clock(now);
        device.due = None;
        let deadline = server.real(device.heard).plus(patience(&self.settings));
        self.enter(slot, State::Unconfirmed, reason, now, now);
        self.arm(slot, deadline);
    }

    /// Makes a device leave.
    fn leave(&mut self, slot: Slot, leave: Leave, now: Tick) {
        if let Some(device) = self.devices.get_mut(slot) {
            device.source = leave.source;
            device.struck = leave.struck;
            device.due = Some(leave.struck.plus(leave.delay));
        }
        self.enter(slot, State::Leaving, leave.reason, leave.struck, now);
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
            let source = device.source;
            if silent {
                self.enter(slot, State::Leaving, Reason::Silence, wait.until, now);
                if let Some(device) = self.devices.get_mut(slot) {
                    device.source = source;
                }
            }
            self.park(slot);
            return;
        }
        match (device.state, device.due) {
            (State::Leaving, Some(_)) => {
                let reason = device.reason;
                self.enter(slot, reason.end(), reason, now, now);
            }
            (State::Unconfirmed, _) => {
                if let Some(device) = self.devices.get_mut(slot) {
                    device.struck = wait.until;
                }
                self.enter(slot, State::Offline, Reason::Unproven, now, now);
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

    /// A snapshot is complete: announcements that were retained before and are not in it are gone.
    pub(super) fn sweep(&mut self, index: ServerIndex, now: Tick) {
        let Some((generation, connected)) = self
            .server(index)
            .map(|server| (server.generation, server.connected))
        else {
            return;
        };
        for slot in self.slots_of(index, |d| d.snapshot != 0 && d.snapshot != generation) {
            let Some(device) = self.devices.get_mut(slot) else {
                continue;
            };
            device.snapshot = 0;
            device.announced = Announced::Nothing;
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
            self.enter(slot, State::Offline, Reason::ServerLost, now, now);
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
                self.enter(slot, State::Leaving, reason, struck, now);
                self.park(slot);
            }
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

    /// Puts a device into a state and gives or takes its place.
    fn enter(&mut self, slot: Slot, state: State, reason: Reason, since: Tick, now: Tick) {
        let Some(before) = self.devices.get(slot).map(|device| device.state) else {
            return;
        };
        self.devices.set_state(slot, state, reason, since);
        self.counters.moved(Some(before), Some(state));
        *self
            .counters
            .transitions
            .entry((state, reason))
            .or_default() += 1;
        match (before.is_present(), state.is_present()) {
            (false, true) => self.take_place(slot, now),
            (true, false) => self.give_place(slot, now),
            _ => {}
        }
    }

    fn take_place(&mut self, slot: Slot, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        // A restored device was in, so it stays in, whatever the limit is now.
        if device.reason == Reason::Restored || self.places.taken < self.max_devices {
            device.place = Place::In;
            self.places.taken += 1;
            self.publish(slot, true, now);
        } else {
            device.place = Place::Refused;
            self.places.refused.insert((device.order, slot));
            self.counters.refusals += 1;
            self.count_refused();
        }
    }

    fn give_place(&mut self, slot: Slot, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        device.due = None;
        let order = device.order;
        match std::mem::replace(&mut device.place, Place::Out) {
            Place::In => {
                self.places.taken = self.places.taken.saturating_sub(1);
                self.publish(slot, false, now);
            }
            Place::Invited => self.places.taken = self.places.taken.saturating_sub(1),
            Place::Refused => {
                self.places.refused.remove(&(order, slot));
            }
            Place::Out => {}
        }
        self.invite(now);
        self.count_refused();
    }

    /// Keeps freed places for those that were refused, in order of first appearance.
    fn invite(&mut self, now: Tick) {
        while self.places.taken < self.max_devices {
            let Some((_, slot)) = self.places.refused.pop_first() else {
                return;
            };
            self.places.taken += 1;
            if let Some(device) = self.devices.get_mut(slot) {
                device.place = Place::Invited;
            }
            if self.settings.offline_after.is_none() {
                self.accept_invitation(slot, now);
            }
        }
    }

    fn accept_invitation(&mut self, slot: Slot, now: Tick) {
        if let Some(device) = self.devices.get_mut(slot)
            && device.place == Place::Invited
        {
            device.place = Place::In;
            self.publish(slot, true, now);
        }
    }

    fn count_refused(&mut self) {
        self.counters.refused = u64::try_from(self.places.refused.len()).unwrap_or(u64::MAX);
    }

    fn publish(&mut self, slot: Slot, published: bool, now: Tick) {
        if !self.devices.set_published(slot, published) {
            return;
        }
        self.revision += 1;
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        let last = device.changed.replace(now);
        let before = device.is_flapping().then_some(last).flatten();
        Flaps::note(&mut device.flaps, last, now);
        let after = device.is_flapping().then_some(now);
        self.flapping.moved(slot, before, after);
        self.counters.flapping = u64::try_from(self.flapping.len()).unwrap_or(u64::MAX);
    }

    /// Forgets what went longest ago, where more is remembered than should be.
    fn forget(&mut self) {
        while let Some(slot) = self.devices.oldest_idle(self.options.remembered) {
            if let Some(device) = self.devices.remove(slot) {
                self.counters.moved(Some(device.state), None);
                let last = device.is_flapping().then_some(device.changed).flatten();
                self.flapping.moved(slot, last, None);
            }
        }
    }

    fn server(&self, index: ServerIndex) -> Option<&Server> {
        self.servers.get(usize::from(index))
    }

    fn is_due(&self, slot: Slot) -> bool {
        self.devices
            .get(slot)
            .is_some_and(|device| device.due.is_some())
    }

    fn delay(&self, device: &Device) -> Duration {
        stretched(&self.settings, device)
    }
}

/// How a device leaves.
struct Leave {
    /// When what makes it leave happened.
    struck: Tick,
    delay: Duration,
    reason: Reason,
    source: Source,
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
            let until = server.real(device.heard).plus(after);
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

fn stretched(settings: &PresenceRules, device: &Device) -> Duration {
    let delay = settings.offline_delay;
    device
        .flaps
        .as_ref()
        .map_or(delay, |flaps| flaps.stretch(delay))
}
