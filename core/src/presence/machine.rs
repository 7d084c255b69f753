//! The machine from outside: what happens goes in, what is published comes out. In: messages,
//! connections and time. Out: calls to the transitions of `states`, which change the records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::changes::Changes;
use super::devices::{self, Devices, ServerIndex, Slot};
use super::flapping::Flapping;
use super::journal::Journal;
use super::places::Places;
use super::rules::{At, Finding, Rules};
use super::server::{Due, Link, Server};
use super::tick::{Base, Tick};
use super::timers::Timers;
use super::{Counters, Ignored, Inbound, Options, Outgoing, Reason, Roster, RosterEntry, State};
use crate::clock::Now;
use crate::details::{Details, PresenceRules, ServerLost};
use crate::identity::{DeviceId, ServerName};
use crate::properties::DeviceSpec;

/// Which devices of one request are present, and why.
#[derive(Debug)]
pub struct Presence {
    pub(super) base: Base,
    pub(super) rules: Rules,
    pub(super) settings: PresenceRules,
    pub(super) max_devices: usize,
    pub(super) options: Options,
    /// Sorted by name.
    pub(super) servers: Vec<Server>,
    pub(super) devices: Devices,
    pub(super) timers: Timers,
    pub(super) flapping: Flapping,
    pub(super) places: Places,
    pub(super) counters: Counters,
    pub(super) changes: Changes,
    pub(super) next_order: u64,
    pub(super) found: Vec<Finding>,
    pub(super) journal: Option<Journal>,
}

impl Presence {
    /// The machine of a Configuration.
    #[must_use]
    pub fn new(details: Arc<Details>, options: Options, now: Now) -> Self {
        let servers: Vec<ServerName> = details.servers.iter().map(|s| s.name.clone()).collect();
        let settings = details.presence.clone();
        let max_devices = details.limits.max_devices;
        let rules = Rules::of_details(details, servers.len());
        Self::build(rules, settings, (max_devices, options), servers, now)
    }

    /// The machine of a single device, by the rules that its pod was given.
    #[must_use]
    pub fn for_device(device: Arc<DeviceSpec>, now: Now) -> Self {
        let servers = vec![device.server.name.clone()];
        let settings = device.presence.clone();
        let rules = Rules::of_device(device);
        Self::build(rules, settings, (1, Options::default()), servers, now)
    }

    fn build(
        rules: Rules,
        settings: PresenceRules,
        (max_devices, options): (usize, Options),
        mut names: Vec<ServerName>,
        now: Now,
    ) -> Self {
        let base = Base::new(now.mono);
        names.sort();
        names.dedup();
        names.truncate(usize::from(ServerIndex::MAX));
        Self {
            base,
            rules,
            settings,
            max_devices,
            options,
            servers: names
                .into_iter()
                .map(|name| Server::new(name, Tick::START))
                .collect(),
            devices: Devices::new(),
            timers: Timers::default(),
            flapping: Flapping::default(),
            places: Places::default(),
            counters: Counters::default(),
            changes: Changes::default(),
            next_order: 0,
            found: Vec::new(),
            journal: None,
        }
    }

    /// Publishes the devices of a roster as unconfirmed. Those that are known already, those of
    /// servers that the request does not name any more, and rosters of another version are left out.
    pub fn restore(&mut self, roster: &Roster, now: Now) {
        if roster.version != Roster::VERSION {
            return;
        }
        let now = self.base.tick(now.mono);
        let mut entries: Vec<&RosterEntry> = roster
            .devices
            .iter()
            .filter(|e| e.state.is_present())
            .collect();
        entries.sort_by_key(|entry| entry.order);
        for entry in entries {
            self.restore_one(entry, now);
        }
    }

    fn restore_one(&mut self, entry: &RosterEntry, now: Tick) {
        let Some(server) = self.server_index(entry.id.server()) else {
            return;
        };
        if self.devices.find(server, entry.id.name()).is_some() {
            return;
        }
        let lost_after = self.lost_after();
        let Some(of) = self.servers.get_mut(usize::from(server)) else {
            return;
        };
        of.restored(now, lost_after);
        // With the name of the server that all of its devices share.
        let Some(id) = devices::id(&of.name, entry.id.name()) else {
            return;
        };
        let order = entry.order.max(self.next_order);
        self.next_order = order.saturating_add(1);
        let Some(slot) = self.insert(id, server, order, now) else {
            return;
        };
        let vouched = entry.convention.is_some_and(|convention| {
            let name = entry.id.plain_name();
            self.rules.restored(server, convention, name)
        });
        if let Some(device) = self.devices.get_mut(slot) {
            device.found_by = entry.convention;
            device.vouched = vouched;
        }
        self.enter_unconfirmed(slot, Reason::Restored, now);
    }

    /// CONNACK was received.
    pub fn on_connected(&mut self, server: &ServerName, now: Now) {
        let now = self.base.tick(now.mono);
        let Some(index) = self.server_index(server) else {
            return;
        };
        if let Some(server) = self.servers.get_mut(usize::from(index)) {
            server.connect(now);
        }
        self.rules.connected(index);
    }

    /// The connection that was accepted begins a session: the server has kept nothing for us.
    pub fn on_session_lost(&mut self, server: &ServerName, now: Now) {
        let now = self.base.tick(now.mono);
        let Some(index) = self.server_index(server) else {
            return;
        };
        let mut found = std::mem::take(&mut self.found);
        self.rules.session_lost(index, &mut found);
        for finding in found.drain(..) {
            self.observe(index, &finding, false, now);
        }
        self.found = found;
        self.doubt_restored(index, now);
    }

    /// Every filter has its SUBACK on this connection. From here on, the grace runs.
    pub fn on_subscribed(&mut self, server: &ServerName, now: Now) {
        let now = self.base.tick(now.mono);
        let grace = self.settings.reconnect_grace;
        if let Some(server) = self.server_mut(server) {
            server.subscribed(now, grace);
        }
    }

    /// The connection is gone, or could not be made; then `last_packet` does not matter.
    pub fn on_disconnected(&mut self, server: &ServerName, last_packet: Instant, now: Now) {
        let (last_packet, now) = (self.base.tick(last_packet), self.base.tick(now.mono));
        let lost_after = self.lost_after();
        let Some(index) = self.server_index(server) else {
            return;
        };
        self.catch_up(index, now);
        let Some(server) = self.servers.get_mut(usize::from(index)) else {
            return;
        };
        if let Some(since) = server.disconnect(last_packet.min(now), lost_after) {
            self.revisit(index, since, now);
        }
    }

    /// A packet was received, of any kind.
    pub fn on_packet(&mut self, server: &ServerName, at: Instant) {
        let at = self.base.tick(at);
        if let Some(index) = self.server_index(server) {
            self.packet(index, at);
        }
    }

    fn packet(&mut self, index: ServerIndex, at: Tick) {
        let Some(server) = self.servers.get_mut(usize::from(index)) else {
            return;
        };
        server.packet(at);
        if server.needs_probe() {
            self.wake(index, at);
        }
    }

    /// A message was received.
    pub fn on_message(&mut self, server: &ServerName, message: Inbound<'_>, now: Now) {
        let now = self.base.tick(now.mono);
        self.counters.messages += 1;
        let Some(index) = self.server_index(server) else {
            self.counters.ignore(Ignored::UnknownServer);
            return;
        };
        self.catch_up(index, now);
        if let Some(server) = self.servers.get_mut(usize::from(index)) {
            server.packet(now);
            if message.retained {
                server.retained(now);
            }
        }
        let mut found = std::mem::take(&mut self.found);
        let at = At {
            server: index,
            now,
            devices: &self.devices,
        };
        match self.rules.read(&at, &message, &mut found) {
            Ok(()) => {
                for finding in found.drain(..) {
                    self.observe(index, &finding, message.retained, now);
                }
            }
            Err(reason) => self.counters.ignore(reason),
        }
        self.found = found;
        self.packet(index, now);
    }

    /// Whether live messages of a topic say nothing but that their device lives, whatever their payload. As long as
    /// it is online, only the last of several has to be told, before anything else is.
    #[must_use]
    pub fn is_plain_data(&self, topic: &str) -> bool {
        self.rules.is_plain_data(topic)
    }

    /// Whether a device is there, and nothing says that it is about to go.
    #[must_use]
    pub fn is_online(&self, id: &DeviceId) -> bool {
        let server = self.server_index(id.server());
        let slot = server.and_then(|server| self.devices.find(server, id.name()));
        slot.and_then(|slot| self.devices.get(slot))
            .is_some_and(|device| device.state == State::Online)
    }

    /// When to call [`Presence::handle_timeout`], if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let servers = self.servers.iter().filter_map(Server::next);
        let next = servers
            .chain(self.timers.next())
            .chain(self.flapping.next())
            .chain(self.rules.next())
            .min()?;
        self.base.instant(next)
    }

    /// Does what has come due.
    pub fn handle_timeout(&mut self, now: Now) {
        let now = self.base.tick(now.mono);
        for index in 0..self.servers.len() {
            if let Ok(index) = ServerIndex::try_from(index) {
                self.catch_up(index, now);
            }
        }
        while let Some((at, slot)) = self.timers.pop(now) {
            self.on_timer(at, slot, now);
        }
        while let Some(slot) = self.flapping.pop(now) {
            if let Some(device) = self.devices.get_mut(slot) {
                device.flaps = None;
            }
        }
        self.rules.wake(now);
        self.counters.flapping = u64::try_from(self.flapping.len()).unwrap_or(u64::MAX);
        let devices = &self.devices;
        self.timers.tidy(devices.len(), |at, slot| {
            devices.get(slot).is_some_and(|d| d.armed == Some(at))
        });
    }

    /// What has come due for a server, before anything else that happens now.
    pub(super) fn catch_up(&mut self, index: ServerIndex, now: Tick) {
        while let Some(due) = self
            .servers
            .get_mut(usize::from(index))
            .and_then(|server| server.pop(now))
        {
            match due {
                Due::Resumed => self.wake(index, now),
                Due::SnapshotComplete => self.sweep(index, now),
                Due::Lost => self.lose(index, now),
                Due::Settled => {}
            }
        }
    }

    /// Servers of which a packet is needed before a deadline can take effect: send a PINGREQ.
    #[must_use]
    pub fn needs_probe(&self) -> Vec<ServerName> {
        let waiting = self.servers.iter().filter(|server| server.needs_probe());
        waiting.map(|server| server.name.clone()).collect()
    }

    /// Takes what is to be published on which server, now.
    pub fn outgoing(&mut self, now: Now) -> Vec<(ServerName, Outgoing)> {
        let millis = u64::try_from(now.wall.as_millisecond()).unwrap_or_default();
        let all = self.rules.outgoing(millis);
        self.counters.rebirths += u64::try_from(all.len()).unwrap_or_default();
        let named = |(index, one): (usize, Outgoing)| {
            let server = self.servers.get(index)?;
            Some((server.name.clone(), one))
        };
        all.into_iter().filter_map(named).collect()
    }

    /// The published devices, sorted by id: looks at every device that is known.
    pub fn published(&self) -> impl ExactSizeIterator<Item = &DeviceId> {
        let mut ids: Vec<&DeviceId> = self.devices.published().map(|device| &device.id).collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    /// Whether the first list can be given out: every server has settled or is waited for no longer.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.servers.iter().all(Server::is_settled)
    }

    /// What was counted, and how many devices there are.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn server_index(&self, name: &ServerName) -> Option<ServerIndex> {
        let index = self
            .servers
            .binary_search_by(|server| server.name.cmp(name))
            .ok()?;
        ServerIndex::try_from(index).ok()
    }

    fn server_mut(&mut self, name: &ServerName) -> Option<&mut Server> {
        let index = self.server_index(name)?;
        self.servers.get_mut(usize::from(index))
    }

    fn lost_after(&self) -> Option<Duration> {
        match self.settings.server_lost {
            ServerLost::Keep => None,
            ServerLost::After(after) => Some(after),
        }
    }

    /// Adds a device that is not there yet.
    pub(super) fn insert(
        &mut self,
        id: DeviceId,
        server: ServerIndex,
        order: u64,
        now: Tick,
    ) -> Option<Slot> {
        let slot = self.devices.insert(id, server, order, now)?;
        self.counters.moved(None, Some(State::Offline));
        Some(slot)
    }

    /// The device that a finding is about, made if it is not known.
    pub(super) fn find_or_insert(
        &mut self,
        index: ServerIndex,
        name: &str,
        now: Tick,
    ) -> Option<Slot> {
        if let Some(slot) = self.devices.find(index, name) {
            return Some(slot);
        }
        let server = self.servers.get(usize::from(index))?;
        let id = devices::id(&server.name, name)?;
        let order = self.next_order;
        self.next_order = order.saturating_add(1);
        self.insert(id, index, order, now)
    }

    /// Whether a server can be heard.
    pub(super) fn is_connected(&self, index: ServerIndex) -> bool {
        self.servers
            .get(usize::from(index))
            .is_some_and(|server| server.link != Link::Down)
    }
}
