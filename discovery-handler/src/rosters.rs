//! The devices of a request on disk, so that a restart withdraws none.
//! In: rosters. Out: the roster of an earlier process of this instance, else the newest one of a sibling
//! that looked for the same devices on the same servers. When to write is decided by the request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::presence::Roster;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::naming::Evidence;
use crate::state_dir::StateDir;

const SUFFIX: &str = ".roster.json";
const VERSION: u32 = 1;
/// A roster that nobody has written for so long belongs to nobody.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Roster files that are looked at when there is none of our own.
const MAX_CANDIDATES: usize = 64;

/// A roster with what it was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    evidence: Evidence,
    /// Session key of each server.
    sessions: BTreeMap<String, String>,
    /// Devices that were present and not listed, for want of room.
    pub waiting: BTreeSet<String>,
    /// The devices.
    pub roster: Roster,
}

impl Saved {
    /// The roster of a request.
    #[must_use]
    pub fn of(details: &Details, roster: Roster, waiting: impl Iterator<Item = DeviceId>) -> Self {
        Self {
            version: VERSION,
            evidence: Evidence::of(details),
            sessions: sessions(details),
            waiting: waiting.map(|id| id.to_string()).collect(),
            roster,
        }
    }
}

fn sessions(details: &Details) -> BTreeMap<String, String> {
    let keys = details.servers.iter();
    keys.map(|server| {
        (
            server.name.to_string(),
            details.session_key(server).to_string(),
        )
    })
    .collect()
}

/// The roster file of one request.
#[derive(Clone, Debug)]
pub struct RosterFile {
    state: StateDir,
    name: String,
}

impl RosterFile {
    /// The file of a request of this instance.
    #[must_use]
    pub fn new(state: &StateDir, instance: &str, request: &str) -> Self {
        Self {
            state: state.clone(),
            name: format!("{instance}.{request}{SUFFIX}"),
        }
    }

    /// Writes the roster, so that a crash leaves the old or the new one.
    pub fn save(&self, saved: &Saved) {
        let bytes = match serde_json::to_vec(saved) {
            Ok(bytes) => bytes,
            Err(error) => {
                warn!(file = self.name, %error, "roster cannot be written");
                return;
            }
        };
        if let Err(error) = self.state.replace(&self.name, &bytes) {
            warn!(file = self.name, %error, "roster cannot be written");
        }
    }

    /// The roster to start with: our own, else the newest of a sibling for each server.
    #[must_use]
    pub fn load(&self, details: &Details) -> Option<Saved> {
        let (evidence, wanted) = (Evidence::of(details), sessions(details));
        if let Some(own) = read(&self.state, &self.name)
            && own.evidence == evidence
            && own.sessions == wanted
        {
            return Some(own);
        }
        let files = self.state.list(SUFFIX);
        for (name, _) in files
            .iter()
            .filter(|(name, _)| *name != self.name)
            .take(MAX_CANDIDATES)
        {
            if let Some(found) = read(&self.state, name)
                && found.evidence == evidence
                && found.sessions == wanted
            {
                info!(
                    from = name,
                    devices = found.roster.devices.len(),
                    "roster taken over"
                );
                return Some(found);
            }
        }
        None
    }
}

fn read(state: &StateDir, name: &str) -> Option<Saved> {
    let bytes = state.read(name)?;
    match serde_json::from_slice::<Saved>(&bytes) {
        Ok(saved) if saved.version == VERSION => Some(saved),
        Ok(saved) => {
            state.set_aside(
                name,
                &format!("it has version {}, not {VERSION}", saved.version),
            );
            None
        }
        Err(error) => {
            state.set_aside(name, &error);
            None
        }
    }
}

/// Removes rosters that nobody has written for a week.
pub fn prune(state: &StateDir, now: SystemTime) {
    state.prune(SUFFIX, KEEP, now);
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::presence::{RosterEntry, State};

    use super::*;

    fn details(topic: &str, delay: &str) -> Details {
        let yaml = format!(
            "servers: [{{name: s, urls: [tcp://h:1883]}}]\ntopics: ['{topic}']\npresence: {{offlineDelay: {delay}}}\n"
        );
        Details::parse(&yaml).unwrap()
    }

    fn saved(details: &Details, name: &str) -> Saved {
        let id = DeviceId::parse(&format!("s/{name}")).unwrap();
        let entry = RosterEntry {
            id,
            order: 1,
            state: State::Online,
            convention: None,
        };
        let roster = Roster {
            devices: vec![entry],
            ..Roster::default()
        };
        Saved::of(details, roster, std::iter::empty())
    }

    fn names(saved: Option<Saved>) -> Vec<String> {
        let devices = saved.map(|saved| saved.roster.devices).unwrap_or_default();
        devices
            .into_iter()
            .map(|entry| entry.id.name().to_owned())
            .collect()
    }

    #[test]
    fn our_own_roster_comes_before_a_newer_one_of_a_sibling() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let details = details("r/{device}/x", "1s");
        let own = RosterFile::new(&state, "n-0", "d1");
        own.save(&saved(&details, "own"));
        RosterFile::new(&state, "n-1", "d1").save(&saved(&details, "sibling"));
        assert_eq!(names(own.load(&details)), ["own"]);
        let third = RosterFile::new(&state, "n-2", "d1");
        assert_eq!(names(third.load(&details)).len(), 1);
    }

    #[test]
    fn a_roster_is_taken_over_when_only_times_differ_and_never_from_other_topics() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        RosterFile::new(&state, "n-0", "d1").save(&saved(&details("r/{device}/x", "1s"), "a"));
        let other = RosterFile::new(&state, "n-1", "d2");
        assert_eq!(names(other.load(&details("r/{device}/x", "2s"))), ["a"]);
        assert!(other.load(&details("q/{device}/x", "1s")).is_none());
    }

    #[test]
    fn an_old_roster_is_removed_and_a_fresh_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let details = details("r/{device}/x", "1s");
        RosterFile::new(&state, "n-0", "d1").save(&saved(&details, "a"));
        prune(&state, SystemTime::now());
        assert_eq!(state.list(SUFFIX).len(), 1);
        prune(&state, SystemTime::now() + 2 * KEEP);
        assert!(state.list(SUFFIX).is_empty());
    }
}
