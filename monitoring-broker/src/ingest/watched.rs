//! The presence of a session's devices. In: messages, time, the state of the connection. Out: what is shown and saved
//! of each device, and the next deadline. What a message says is decided by the device's machine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_core::presence::{Inbound, Presence as Machine, State as Seen};
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_session::QoS;

use super::changes::record;
use super::task::{Parts, Task, now};
use super::wanted::Filters;
use crate::devices::State;
use crate::store::Place;

/// How soon a deadline that waits for a packet is looked at again.
const PROBE: Duration = Duration::from_millis(250);

/// A device that is watched.
pub(super) struct Watched {
    pub(super) spec: Arc<DeviceSpec>,
    /// Elsewhere, so that what most messages touch is near to that of other devices.
    pub(super) machine: Box<Machine>,
    pub(super) pulse: Pulse,
    pub(super) filters: Filters,
    /// The revision of the machine's subscriptions that these are.
    pub(super) subscriptions: u64,
    pub(super) revision: u64,
    pub(super) due: Option<Instant>,
    /// The state that is shown.
    pub(super) shown: State,
}

/// What a message that says nothing but that its device lives asks for, and leaves.
#[derive(Default)]
pub(super) struct Pulse {
    /// The device's machine has it online, as of the last time that it was asked.
    pub(super) is_online: bool,
    /// The last such message, which the machine was not told yet.
    heard: Option<(Now, Arc<Place>)>,
}

impl Pulse {
    /// Notes such a message.
    pub(super) fn hear(&mut self, at: Now, place: &Arc<Place>) {
        match &mut self.heard {
            Some((before, known)) if Arc::ptr_eq(known, place) => *before = at,
            heard => *heard = Some((at, Arc::clone(place))),
        }
    }
}

impl Watched {
    /// Its machine, which knows of every message that came before.
    pub(super) fn machine(&mut self, server: &ServerName) -> &mut Machine {
        if let Some((at, place)) = self.pulse.heard.take() {
            let inbound = Inbound {
                topic: place.topic(),
                payload: &[],
                retained: false,
                qos: QoS::AtMostOnce,
            };
            self.machine.on_packet(server, at.mono);
            self.machine.on_message(server, inbound, at);
        }
        &mut self.machine
    }
}

impl Task {
    /// Tells every device's machine something, and looks at it again at once.
    pub(super) fn all(&mut self, tell: impl Fn(&mut Machine, Now)) {
        for (id, watched) in &mut self.watched {
            tell(watched.machine(&self.parts.server), self.now);
            if let Some(due) = watched.due.replace(self.now.mono) {
                self.due.remove(&(due, id.clone()));
            }
            self.due.insert((self.now.mono, id.clone()));
        }
    }

    /// Lets every machine act whose time has come.
    pub(super) async fn tick(&mut self) -> anyhow::Result<()> {
        self.now = now();
        if self.named.is_some_and(|at| at <= self.now.mono) {
            self.subscribe();
        }
        while let Some((at, id)) = self.due.first().cloned() {
            if at > self.now.mono {
                break;
            }
            self.due.pop_first();
            let Some(watched) = self.watched.get_mut(&id) else {
                continue;
            };
            watched.due = None;
            let machine = watched.machine(&self.parts.server);
            if let Some(packet) = self.last_packet.filter(|_| self.connected) {
                machine.on_packet(&self.parts.server, packet);
            }
            machine.handle_timeout(self.now);
            if !machine.needs_probe().is_empty() {
                self.parts.handle.ping();
            }
            Self::settle(&self.parts, &mut self.due, watched, self.now).await?;
            let connected = self.connected;
            self.parts.devices.set_presence(id.as_str(), |presence| {
                presence.server_connected = connected;
            });
            self.ask(&id);
        }
        Ok(())
    }

    /// After a machine acted: its next deadline, and its presence if that changed.
    pub(super) async fn settle(
        parts: &Parts,
        due: &mut BTreeSet<(Instant, DeviceId)>,
        watched: &mut Watched,
        now: Now,
    ) -> anyhow::Result<()> {
        let id = &watched.spec.id;
        watched.pulse.is_online = watched.machine.is_online(id);
        // A deadline that has passed waits for a packet of the server; it is looked at again soon.
        let soon = now.mono + PROBE;
        let next = if watched.machine.needs_probe().is_empty() {
            watched.machine.poll_timeout().map(|at| at.max(soon))
        } else {
            Some(soon)
        };
        // Deadlines mostly move away with every message: the old one may stay and find nothing to do.
        let is_earlier = match (watched.due, next) {
            (Some(before), Some(next)) => next < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if is_earlier {
            if let Some(before) = watched.due {
                due.remove(&(before, id.clone()));
            }
            watched.due = next;
            due.extend(next.map(|next| (next, id.clone())));
        }
        let explained = watched.machine.revision() != watched.revision;
        // `online` after `unconfirmed` changes nothing of what is published, so the revision does not tell.
        let explained = explained || watched.shown == State::Unknown;
        if !explained {
            return Ok(());
        }
        watched.revision = watched.machine.revision();
        let Some(seen) = watched.machine.explain(id, now) else {
            return Ok(());
        };
        let state = match seen.state {
            Seen::Online | Seen::Leaving => State::Online,
            Seen::Offline | Seen::Removed => State::Offline,
            Seen::Unconfirmed => State::Unknown,
        };
        watched.shown = state;
        let changed = parts.devices.set_presence(id.as_str(), |presence| {
            if presence.state != state {
                presence.state = state;
                presence.since = seen.since;
                presence.reason = seen.explanation;
            }
        });
        if let Some(device) = changed {
            let record = record(&device, true)?;
            parts.store.save_devices(vec![record]).await?;
        }
        Ok(())
    }
}
