//! What a session of the handler must remember between processes: the filters that the server may
//! still hold for it, so that a later process can unsubscribe them. Kept in the state directory.
//! Packet ids of QoS 2 last as long as the process: an announcement that is seen twice says the same.

use std::io;
use std::sync::Arc;

use akri_mqtt_session::{BoxFuture, MemoryState, QoS, SessionState, StateError};

use crate::state_dir::StateDir;

/// The memory of one client id.
#[derive(Debug)]
pub struct FileState {
    memory: MemoryState,
    directory: StateDir,
    file: String,
}

impl FileState {
    /// Reads what an earlier process with this client id has left.
    #[must_use]
    pub fn load(client_id: &str, directory: &StateDir) -> Arc<Self> {
        let file = format!("{}.session.json", crate::naming::sanitise(client_id));
        let memory = MemoryState::new();
        let held = directory
            .read(&file)
            .map(|bytes| serde_json::from_slice::<Vec<(String, u8)>>(&bytes));
        match held {
            Some(Ok(held)) => {
                let held: Vec<_> = held
                    .into_iter()
                    .map(|(filter, level)| (filter, from_level(level)))
                    .collect();
                // The memory of this process cannot fail.
                let _ = memory.set_subscriptions(&held);
            }
            Some(Err(error)) => directory.set_aside(&file, &error),
            None => {}
        }
        Arc::new(Self {
            memory,
            directory: directory.clone(),
            file,
        })
    }

    /// Remembers the id of a QoS 2 message that is about to be acknowledged.
    pub fn insert(&self, packet_id: u16) {
        self.memory.insert(packet_id);
    }
}

fn from_level(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn to_level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

impl SessionState for FileState {
    fn subscriptions(&self) -> Vec<(String, QoS)> {
        self.memory.subscriptions()
    }

    fn set_subscriptions(&self, held: &[(String, QoS)]) -> io::Result<()> {
        self.memory.set_subscriptions(held)?;
        let levels: Vec<(&str, u8)> = held
            .iter()
            .map(|(filter, qos)| (filter.as_str(), to_level(*qos)))
            .collect();
        let bytes = serde_json::to_vec(&levels)?;
        self.directory.replace(&self.file, &bytes)
    }

    fn contains(&self, packet_id: u16) -> bool {
        self.memory.contains(packet_id)
    }

    fn release(&self, packet_id: u16) -> BoxFuture<'_, Result<(), StateError>> {
        self.memory.release(packet_id)
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StateError>> {
        self.memory.clear()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_that_a_server_may_hold_are_known_to_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let held = [
            ("a/#".to_owned(), QoS::AtMostOnce),
            ("b/+".to_owned(), QoS::AtLeastOnce),
        ];
        FileState::load("akri-mqtt-x", &state)
            .set_subscriptions(&held)
            .unwrap();
        assert_eq!(FileState::load("akri-mqtt-x", &state).subscriptions(), held);
        assert!(
            FileState::load("akri-mqtt-y", &state)
                .subscriptions()
                .is_empty()
        );
    }
}
