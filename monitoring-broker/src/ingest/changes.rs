//! Devices of a session come and go. In: commands. Out: routes, presence, subscriptions, what is saved of
//! devices. The end of a session, which is another one for each of its reasons, is in `ending`.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::presence::{Presence as Machine, State as Seen};
use akri_mqtt_core::properties::DeviceSpec;

use super::task::{Command, Task, now};
use super::wanted::{Filters, subscriptions};
use super::watched::{Pulse, Watched};
use crate::devices::{Device, Presence, State};
use crate::store::DeviceRecord;

/// How long filters that payloads name are collected into one SUBSCRIBE.
const SOON: Duration = Duration::from_millis(50);

impl Task {
    /// Does what waits, then subscribes and saves once; true if the session is to be handed over after it.
    pub(super) async fn commands(&mut self, commands: &mut Vec<Command>) -> anyhow::Result<bool> {
        self.now = now();
        let mut records = Vec::with_capacity(commands.len());
        let mut hands_over = false;
        for command in commands.drain(..) {
            match command {
                Command::Add(spec) => records.push(self.add(spec)?),
                Command::Remove(id) => records.extend(self.remove(&id)?),
                Command::HandOver => hands_over = true,
            }
        }
        // Saved before anything of theirs can arrive.
        self.parts.store.save_devices(records).await?;
        self.subscribe();
        Ok(hands_over)
    }

    /// Subscribes what the devices want by now.
    pub(super) fn subscribe(&mut self) {
        let devices = self.watched.values();
        let wanted = subscriptions(devices.map(|watched| (&*watched.spec, &watched.filters)));
        let wanted = self.parts.talk.with_responses(wanted);
        self.parts.handle.subscribe(wanted);
        self.named = None;
    }

    /// Routes what payloads have named for a device since it was looked at last; it is subscribed soon.
    pub(super) fn follow(&mut self, id: &DeviceId) {
        let Some(watched) = self.watched.get_mut(id) else {
            return;
        };
        let revision = watched.machine.subscriptions_revision();
        if watched.subscriptions != revision {
            watched.subscriptions = revision;
            self.routes.remove(&watched.spec, &watched.filters);
            watched.filters = Filters::of(&watched.spec, &watched.machine);
            self.routes.add(&watched.spec, &watched.filters);
            self.named.get_or_insert(self.now.mono + SOON);
        }
    }

    /// Watches a device, in place of an earlier one with its id. Returns what is to be saved.
    pub(super) fn add(&mut self, spec: Arc<DeviceSpec>) -> anyhow::Result<DeviceRecord> {
        self.forget(&spec.id);
        let mut machine = Machine::for_device(Arc::clone(&spec), self.now);
        let filters = Filters::of(&spec, &machine);
        if self.connected {
            machine.on_connected(&self.parts.server, self.now);
        }
        self.routes.add(&spec, &filters);
        let device = Device {
            id: spec.id.as_str().into(),
            name: spec.id.plain_name().to_owned(),
            server: spec.id.server().as_str().to_owned(),
            topics: spec
                .topics
                .iter()
                .map(|filter| filter.as_str().to_owned())
                .collect(),
            presence: Presence {
                state: State::Unknown,
                since: self.now.wall,
                reason: "Nothing was heard of it since this process watches it.".to_owned(),
                server_connected: self.connected,
            },
            is_shared: spec.shared_group.is_some(),
        };
        let record = record(&device, true)?;
        let shown = Arc::clone(&device.id);
        // Noted first: a stream of a pool tells of those that are watched.
        self.parts.devices.set_watched(&shown, true);
        self.parts.devices.put(device);
        let revision = machine.revision();
        let subscriptions = machine.subscriptions_revision();
        let watched = Watched {
            spec,
            machine: Box::new(machine),
            pulse: Pulse::default(),
            filters,
            subscriptions,
            revision,
            due: None,
            shown: State::Unknown,
        };
        self.parts.talk.add(&watched.spec.id);
        self.watched.insert(watched.spec.id.clone(), watched);
        Ok(record)
    }

    /// Without a trace but what is shown of it; false if it was not watched.
    fn forget(&mut self, id: &DeviceId) -> bool {
        let Some(watched) = self.watched.swap_remove(id) else {
            return false;
        };
        self.routes.remove(&watched.spec, &watched.filters);
        self.parts.talk.remove(id);
        if let Some(due) = watched.due {
            self.due.remove(&(due, id.clone()));
        }
        true
    }

    fn remove(&mut self, id: &DeviceId) -> anyhow::Result<Option<DeviceRecord>> {
        let watched = self.watched.get(id);
        let seen = watched.and_then(|watched| watched.machine.explain(id, self.now));
        if !self.forget(id) {
            return Ok(None);
        }
        let at = self.now.wall;
        self.parts.devices.set_watched(&id.as_str().into(), false);
        let changed = self.parts.devices.set_presence(id.as_str(), |presence| {
            // Whoever withdraws a device has mostly seen what we have: then that is the reason.
            let gone = seen.filter(|seen| !matches!(seen.state, Seen::Online | Seen::Unconfirmed));
            presence.reason = gone.map_or_else(
                || "It was withdrawn; nothing is subscribed for it any more.".to_owned(),
                |seen| seen.explanation,
            );
            if presence.state != State::Offline {
                presence.state = State::Offline;
                presence.since = at;
            }
            presence.server_connected = false;
        });
        Ok(changed.map(|device| record(&device, false)).transpose()?)
    }
}

/// What is saved of a device.
pub(super) fn record(device: &Device, served: bool) -> serde_json::Result<DeviceRecord> {
    Ok(DeviceRecord {
        id: Arc::clone(&device.id),
        record: serde_json::to_string(device)?,
        served,
    })
}
