//! The devices that are served, or were and still have messages. In: what ingestion learns.
//! Out: sorted lists, and changes of presence in order. Knows no MQTT and no store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Whether a device is believed to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is known yet.
    Unknown,
    /// There is evidence of life.
    Online,
    /// It has gone.
    Offline,
}

/// The presence of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The state.
    pub state: State,
    /// When it was entered.
    pub since: Timestamp,
    /// Why, in one sentence.
    pub reason: String,
    /// Whether its MQTT server is connected now.
    #[serde(default)]
    pub server_connected: bool,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `<server>/<name>`.
    pub id: Arc<str>,
    /// The part after the server's name.
    pub name: String,
    /// The server's name.
    pub server: String,
    /// Its topic filters, sorted.
    pub topics: Vec<String>,
    /// Its presence.
    pub presence: Presence,
    /// Whether other processes have a part of its messages.
    #[serde(default)]
    pub is_shared: bool,
}

#[derive(Default)]
struct Inner {
    devices: BTreeMap<Arc<str>, (Device, u64)>,
    /// The latest change of each device.
    changes: BTreeMap<u64, Arc<str>>,
    /// Those that something is subscribed for; of the others only what they said is left.
    watched: BTreeSet<Arc<str>>,
}

/// See the module.
pub struct Devices {
    inner: RwLock<Inner>,
    revision: watch::Sender<u64>,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            inner: RwLock::default(),
            revision: watch::Sender::new(0),
        }
    }
}

impl Devices {
    /// Adds a device or replaces it.
    pub fn put(&self, device: Device) {
        self.write(|inner, revision| {
            inner.set(device, revision);
            true
        });
    }

    /// Changes the presence of a device; true if it was another one.
    pub fn set_presence(&self, id: &str, change: impl FnOnce(&mut Presence)) -> Option<Device> {
        let mut changed = None;
        self.write(|inner, revision| {
            let Some((device, _)) = inner.devices.get(id) else {
                return false;
            };
            let mut device = device.clone();
            let before = device.presence.clone();
            change(&mut device.presence);
            if device.presence == before {
                return false;
            }
            changed = Some(device.clone());
            inner.set(device, revision);
            true
        });
        changed
    }

    /// Forgets a device of which nothing is left.
    pub fn remove(&self, id: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, revision)) = inner.devices.remove(id) {
            inner.changes.remove(&revision);
        }
        inner.watched.remove(id);
    }

    /// A device.
    pub fn get(&self, id: &str) -> Option<Device> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.devices.get(id).map(|(device, _)| device.clone())
    }

    /// At most `limit` devices after an id, sorted.
    pub fn after(&self, id: Option<&str>, limit: usize) -> Vec<Device> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner
            .devices
            .iter()
            .filter(|(known, _)| id.is_none_or(|id| &***known > id))
            .take(limit)
            .map(|(_, (device, _))| device.clone())
            .collect()
    }

    /// Notes whether something is subscribed for a device.
    pub fn set_watched(&self, id: &Arc<str>, watched: bool) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if watched {
            inner.watched.insert(Arc::clone(id));
        } else {
            inner.watched.remove(id);
        }
    }

    /// Whether something is subscribed for a device.
    pub fn is_watched(&self, id: &str) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.watched.contains(id)
    }

    /// Shows all devices, sorted by id, and whether each is watched. They are locked meanwhile.
    pub fn each(&self, mut look: impl FnMut(&Device, bool)) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        for (id, (device, _)) in &inner.devices {
            look(device, inner.watched.contains(id));
        }
    }

    /// As [`Devices::each`], of these only.
    pub fn each_of(&self, ids: &BTreeSet<String>, mut look: impl FnMut(&Device, bool)) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if let Some((device, _)) = inner.devices.get(id.as_str()) {
                look(device, inner.watched.contains(id.as_str()));
            }
        }
    }

    /// The devices that changed after a revision, in the order of their latest change, with its revision.
    pub fn changed_after(&self, revision: u64) -> Vec<(u64, Device)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let changed = inner.changes.range(revision + 1..);
        changed
            .filter_map(|(at, id)| Some((*at, inner.devices.get(id)?.0.clone())))
            .collect()
    }

    /// The latest revision, as it changes.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn write(&self, change: impl FnOnce(&mut Inner, u64) -> bool) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let revision = *self.revision.borrow() + 1;
        if change(&mut inner, revision) {
            // Still locked, so that no two changes get one number.
            self.revision.send_replace(revision);
        }
    }
}

impl Inner {
    fn set(&mut self, device: Device, revision: u64) {
        let id = Arc::clone(&device.id);
        let before = self.devices.insert(Arc::clone(&id), (device, revision));
        if let Some((_, before)) = before {
            self.changes.remove(&before);
        }
        self.changes.insert(revision, id);
    }
}
