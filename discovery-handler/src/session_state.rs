//! What a session of the handler must remember between processes: the filters that the server may
//! still hold for it, so that a later process can unsubscribe them. Kept in the state directory.
//! Packet ids of QoS 2 last as long as the process: an announcement that is seen twice says the same.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use akri_mqtt_session::{BoxFuture, MemoryState, QoS, SessionState, StateError};

use crate::state_dir::StateDir;

const SUFFIX: &str = ".session.json";
/// The memory of a client id that nobody has used for so long is removed; servers forget sooner.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How often a running session says that its memory is in use, for siblings that prune.
pub const TOUCH: Duration = Duration::from_secs(24 * 3_600);

/// Removes what sessions have left that have not run for 30 days.
pub fn prune(directory: &StateDir, now: SystemTime) {
    directory.prune(SUFFIX, KEEP, now);
}

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
        let file = format!("{}{SUFFIX}", crate::naming::sanitise(client_id));
        let memory = MemoryState::new();
        directory.touch(&file);
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

    /// Keeps siblings from taking it for something that is left over.
    pub fn touch(&self) {
        self.directory.touch(&self.file);
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

    #[test]
    fn what_a_session_left_is_removed_30_days_after_its_last_use() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let held = [("a/#".to_owned(), QoS::AtMostOnce)];
        for client in ["used", "unused"] {
            let left = FileState::load(client, &state);
            left.set_subscriptions(&held).unwrap();
            let file = directory.path().join(format!("{client}{SUFFIX}"));
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_modified(SystemTime::now() - 2 * KEEP).unwrap();
            if client == "used" {
                left.touch();
            }
        }
        prune(&state, SystemTime::now());
        assert_eq!(FileState::load("used", &state).subscriptions(), held);
        assert!(FileState::load("unused", &state).subscriptions().is_empty());
        assert_eq!(state.list(SUFFIX).len(), 1);
    }
}
