//! What messages say, taken to heart. In: evidence about a device. Out: the state that the table of
//! ARCHITECTURE.md, "Presence", gives it, row by row. Time is left to `states`.

use std::time::Duration;

use super::devices::{Announced, Place, ServerIndex, Slot};
use super::machine::Presence;
use super::rules::{Finding, Source};
use super::server::Server;
use super::states::{Belief, Leave, stretched};
use super::tick::Tick;
use super::{Evidence, Ignored, Reason, State};
use crate::details::RetainedData;

impl Presence {
    /// Does what a message says about a device.
    pub(super) fn observe(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        retained: bool,
        now: Tick,
    ) {
        if let Evidence::Irregular(what) = finding.evidence {
            *self.counters.irregular.entry(what).or_default() += 1;
            return;
        }
        let published = self.is_published(index, finding);
        let known = finding.appears || self.devices.find(index, &finding.device).is_some();
        let result = match (finding.evidence, retained) {
            (Evidence::Data, _) if !known => Err(Ignored::UnknownDevice),
            (Evidence::Command, _) => Err(Ignored::Command),
            (Evidence::Unknown | Evidence::Irregular(_), _) => Err(Ignored::UnknownPayload),
            (Evidence::Superseded, _) => Err(Ignored::Superseded),
            (Evidence::Doubted, _) => self.on_doubted(index, finding, now),
            (Evidence::Listed, _) => self.on_listed(index, finding, retained, now),
            (Evidence::Vouched, _) => self.on_vouched(index, finding, retained, now),
            (Evidence::Template, _) => Err(Ignored::Template),
            (Evidence::Excess, _) => Err(Ignored::Excess),
            (Evidence::Data, false) => self.on_data(index, finding, now),
            (Evidence::Data, true) => self.on_retained_data(index, finding, now),
            (Evidence::Online, retained) => self.on_online(index, finding, retained, now),
            (Evidence::Offline, false) => self.on_will(index, finding, now),
            (Evidence::Offline, true) => self.on_retained_will(index, finding, now),
            (Evidence::Removed, _) => self.on_emptied(index, finding, now),
        };
        match result {
            Ok(()) if published => {}
            Ok(()) => self.credit(index, finding),
            Err(reason) => self.counters.ignore(reason),
        }
        self.forget();
    }

    /// Whether the device of a convention's finding is published, so that what found it is settled.
    fn is_published(&self, index: ServerIndex, finding: &Finding) -> bool {
        matches!(finding.source, Source::Convention(_))
            && self
                .devices
                .find(index, &finding.device)
                .and_then(|slot| self.devices.get(slot))
                .is_some_and(|device| device.place == Place::In)
    }

    /// Notes the first of the conventions that have found a device.
    fn credit(&mut self, index: ServerIndex, finding: &Finding) {
        if let Source::Convention(by) = finding.source
            && let Some(slot) = self.devices.find(index, &finding.device)
            && let Some(device) = self.devices.get_mut(slot)
        {
            device.found_by = Some(device.found_by.map_or(by, |before| before.min(by)));
        }
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

    /// A list names a device: one that is new, or that was removed, is there until shown otherwise.
    fn on_listed(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        retained: bool,
        now: Tick,
    ) -> Result<(), Ignored> {
        let known = self.devices.find(index, &finding.device);
        let device = known.and_then(|slot| self.devices.get(slot));
        let is_new = device.is_none_or(|device| match device.state {
            State::Leaving => device.reason.end() == State::Removed,
            state => state == State::Removed,
        });
        if is_new {
            return self.on_vouched(index, finding, retained, now);
        }
        if let Some((slot, announced)) = known.zip(device.map(|device| device.announced)) {
            self.announced(slot, announced, retained);
            self.listed(slot, finding);
        }
        Ok(())
    }

    fn on_vouched(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        retained: bool,
        now: Tick,
    ) -> Result<(), Ignored> {
        let slot = self.appearing(index, &finding.device, now)?;
        self.announced(slot, Announced::Nothing, retained);
        self.listed(slot, finding);
        if let Some(device) = self.devices.get_mut(slot)
            && (device.state == State::Leaving || !device.state.is_present())
        {
            device.source = finding.source;
            self.enter_unconfirmed(slot, Reason::Listed, now);
        }
        self.accept_invitation(slot, now);
        Ok(())
    }

    /// A device that was there has to show itself again.
    fn on_doubted(
        &mut self,
        index: ServerIndex,
        finding: &Finding,
        now: Tick,
    ) -> Result<(), Ignored> {
        let slot = self.known(index, finding)?;
        if let Some(device) = self.devices.get_mut(slot) {
            // Whatever has spoken for it until now does so no more.
            let vouched = std::mem::take(&mut device.vouched);
            if device.state == State::Online || (device.state == State::Unconfirmed && vouched) {
                device.source = finding.source;
                self.enter_unconfirmed(slot, Reason::Doubted, now);
            }
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
        let slot = self.known(index, finding)?;
        if let Some(device) = self.devices.get_mut(slot) {
            device.announced = Announced::Nothing;
            device.vouched = false;
            device.snapshot = 0;
        }
        self.remove(slot, Reason::Emptied, finding.source, now);
        Ok(())
    }

    /// The announcement of a device is gone.
    pub(super) fn remove(&mut self, slot: Slot, reason: Reason, source: Source, now: Tick) {
        let Some(device) = self.devices.get_mut(slot) else {
            return;
        };
        let delay = stretched(&self.settings, device);
        match device.state {
            State::Leaving if device.due.is_some() && device.reason.end() == State::Removed => {}
            State::Leaving if device.due.is_some() => {
                device.source = source;
                let since = device.since;
                self.enter(slot, Belief::new(State::Leaving, reason, since), now);
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
                self.enter(slot, Belief::new(State::Removed, reason, now), now);
            }
            State::Removed => {}
        }
    }

    fn known(&self, index: ServerIndex, finding: &Finding) -> Result<Slot, Ignored> {
        let slot = self.devices.find(index, &finding.device);
        slot.ok_or(Ignored::UnknownDevice)
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
        self.note(slot);
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

    /// Notes that a list names a device.
    fn listed(&mut self, slot: Slot, finding: &Finding) {
        if let Some(device) = self.devices.get_mut(slot) {
            device.vouched |= finding.lists;
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
            self.enter(slot, Belief::new(State::Online, reason, now), now);
            self.evaluate(slot, now);
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
        self.enter(slot, Belief::new(State::Unconfirmed, reason, now), now);
        self.evaluate(slot, now);
    }
}
