//! The durable memory of an MQTT session (invariant 6): packet ids of QoS 2 messages in the store, and
//! the filters that the server may hold, in a small file of their own. In: what the session asks for.
//! Out: answers after the commit. Ids get in with their messages, see [`super::Arrival::packet`].

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akri_mqtt_session::{BoxFuture, QoS, SessionState, StateError};
use tokio::sync::oneshot;

use super::queue::Item;
use super::{Shared, directory};

/// The packet ids of one session.
#[derive(Debug)]
pub struct PacketIds {
    key: Arc<str>,
    /// What is on the disk.
    committed: Mutex<HashSet<u16>>,
    /// What the writer has taken in, committed or about to be.
    taken: Mutex<HashSet<u16>>,
}

impl PacketIds {
    /// The ids that were read from the disk.
    pub(super) fn new(key: Arc<str>, ids: HashSet<u16>) -> Self {
        Self {
            key,
            committed: Mutex::new(ids.clone()),
            taken: Mutex::new(ids),
        }
    }

    pub(super) fn key(&self) -> &Arc<str> {
        &self.key
    }

    pub(super) fn committed(&self) -> MutexGuard<'_, HashSet<u16>> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn taken(&self) -> MutexGuard<'_, HashSet<u16>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of one session, for `akri_mqtt_session::start`.
pub struct StoreSession {
    shared: Arc<Shared>,
    ids: Arc<PacketIds>,
    file: PathBuf,
    held: Mutex<Vec<(String, QoS)>>,
}

impl StoreSession {
    pub(super) fn open(shared: Arc<Shared>, ids: Arc<PacketIds>) -> Self {
        let sum = crc32fast::hash(ids.key().as_bytes());
        let name = format!("subscriptions-{sum:08x}.json");
        let file = shared.directory.join(name);
        let held = read_held(&file, ids.key()).unwrap_or_default();
        Self {
            shared,
            ids,
            file,
            held: Mutex::new(held),
        }
    }

    /// For [`super::Arrival::packet`].
    #[must_use]
    pub fn packet_ids(&self) -> Arc<PacketIds> {
        Arc::clone(&self.ids)
    }

    fn commit(
        &self,
        item: impl FnOnce(Arc<PacketIds>, oneshot::Sender<()>) -> Item,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        let (done, committed) = oneshot::channel();
        let item = item(Arc::clone(&self.ids), done);
        Box::pin(async move {
            let failed = |_| StateError("the store is closed".to_owned());
            let pushed = self.shared.queue.push(item).await;
            pushed.map_err(|error| StateError(error.to_string()))?;
            committed.await.map_err(failed)
        })
    }
}

impl SessionState for StoreSession {
    fn subscriptions(&self) -> Vec<(String, QoS)> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_subscriptions(&self, held: &[(String, QoS)]) -> io::Result<()> {
        let mut now = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == held {
            return Ok(());
        }
        let rows: Vec<_> = held.iter().map(|(f, q)| (f, level(*q))).collect();
        let text = serde_json::to_vec(&(self.ids.key().as_ref(), rows))?;
        directory::replace(&self.file, &text)?;
        *now = held.to_vec();
        Ok(())
    }

    fn contains(&self, packet_id: u16) -> bool {
        self.ids.committed().contains(&packet_id)
    }

    fn release(&self, packet_id: u16) -> BoxFuture<'_, Result<(), StateError>> {
        self.commit(|ids, done| Item::Release(ids, packet_id, done))
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StateError>> {
        self.commit(Item::Clear)
    }
}

/// None if there is no such file, or it is another session's (two keys with one checksum).
fn read_held(file: &std::path::Path, key: &str) -> Option<Vec<(String, QoS)>> {
    let text = std::fs::read(file).ok()?;
    let (owner, rows): (String, Vec<(String, u8)>) = serde_json::from_slice(&text).ok()?;
    let held = rows
        .into_iter()
        .filter_map(|(filter, qos)| Some((filter, qos_of(qos)?)));
    (owner == key).then(|| held.collect())
}

/// The number of a quality of service.
pub fn level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

fn qos_of(level: u8) -> Option<QoS> {
    match level {
        0 => Some(QoS::AtMostOnce),
        1 => Some(QoS::AtLeastOnce),
        2 => Some(QoS::ExactlyOnce),
        _ => None,
    }
}
