//! The devices of a request on disk, so that a restart withdraws none.
//! In: rosters. Out: the roster of an earlier process of this instance, else the newest one of a sibling
//! that looked for the same devices on the same servers. When to write is decided by the request.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_core::presence::{Options, Presence, Roster, RosterEntry};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::login::Login;
use crate::naming::{DetailsDigest, Evidence};
use crate::state_dir::StateDir;

const SUFFIX: &str = ".roster.json";
const VERSION: u32 = 1;
/// A roster that nobody has written for so long belongs to nobody.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Roster files that are looked at when there is none of our own.
const MAX_CANDIDATES: usize = 64;

/// Who waits for room in the list, by the shorter one of two lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Those that wait.
    Waiting(Vec<DeviceId>),
    /// Those that do not.
    Listed(Vec<DeviceId>),
}

impl Default for Line {
    fn default() -> Self {
        Self::Waiting(Vec::new())
    }
}

/// Who waited for room before a restart.
#[derive(Debug, Default)]
pub struct Waited {
    waiting: BTreeSet<String>,
    listed: Option<BTreeSet<String>>,
}

impl Waited {
    /// Whether a restored device did.
    #[must_use]
    pub fn contains(&self, id: &DeviceId) -> bool {
        match &self.listed {
            Some(listed) => !listed.contains(id.as_str()),
            None => self.waiting.contains(id.as_str()),
        }
    }
}

/// A roster with what it was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    evidence: Evidence,
    /// Session key of each server.
    sessions: BTreeMap<String, String>,
    /// With which credentials; none in files of earlier versions.
    #[serde(default)]
    login: Option<Login>,
    /// When it was written; unknown of files of earlier versions.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Devices that were present and not listed, for want of room; none where `listed` says it.
    waiting: BTreeSet<String>,
    /// Devices that were listed, where more were waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listed: Option<BTreeSet<String>>,
    /// The devices.
    pub roster: Roster,
}

impl Saved {
    /// The roster of a request, sorted. It may take a while.
    #[must_use]
    pub fn of(
        details: &Details,
        login: Login,
        devices: Vec<RosterEntry>,
        line: Line,
        now: Timestamp,
    ) -> Self {
        let names = |ids: Vec<DeviceId>| ids.iter().map(DeviceId::to_string).collect();
        let (waiting, listed) = match line {
            Line::Waiting(ids) => (names(ids), None),
            Line::Listed(ids) => (BTreeSet::new(), Some(names(ids))),
        };
        let mut roster = Roster {
            devices,
            ..Roster::default()
        };
        roster.sort();
        Self {
            version: VERSION,
            evidence: Evidence::of(details),
            sessions: sessions(details),
            login: Some(login),
            at: Some(now),
            waiting,
            listed,
            roster,
        }
    }

    /// Takes out who waited for room.
    pub fn take_line(&mut self) -> Waited {
        Waited {
            waiting: std::mem::take(&mut self.waiting),
            listed: self.listed.take(),
        }
    }

    /// Takes the devices of one server out of it.
    pub fn take(&mut self, server: &ServerName) -> Roster {
        let of_server = |entry: &mut RosterEntry| entry.id.server() == server;
        let devices = self.roster.devices.extract_if(.., of_server).collect();
        Roster {
            version: self.roster.version,
            devices,
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

/// A roster to start with.
#[derive(Debug)]
pub enum Found {
    /// Of the same credentials: its devices are there.
    Ours(Saved),
    /// Of the same user with another password, or of an earlier version: the devices of a server are there once it
    /// has accepted the credentials of now. Who has wrong ones is told nothing.
    Unproven(Saved),
}

impl Found {
    /// What is restored now, and what is once it is proven.
    #[must_use]
    pub fn split(found: Option<Self>) -> (Option<Saved>, Option<Saved>) {
        match found {
            Some(Self::Ours(saved)) => (Some(saved), None),
            Some(Self::Unproven(saved)) => (None, Some(saved)),
            None => (None, None),
        }
    }
}

/// The roster file of one request.
#[derive(Clone, Debug)]
pub struct RosterFile {
    state: StateDir,
    name: String,
    login: Login,
    /// Files with the same request's earlier credentials, which go once this one is written.
    earlier: Arc<Mutex<BTreeSet<String>>>,
}

impl RosterFile {
    /// The file of a request of this instance.
    #[must_use]
    pub fn new(state: &StateDir, instance: &str, request: &DetailsDigest, login: Login) -> Self {
        let end = login.file_end();
        Self {
            state: state.clone(),
            name: format!("{instance}.{request}{end}{SUFFIX}"),
            login,
            earlier: Arc::default(),
        }
    }

    /// With which credentials the roster was made.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// The same file, of a request that has written another one until now.
    #[must_use]
    pub fn in_place_of(self, other: &Self) -> Self {
        let mut earlier = other.lock_earlier().clone();
        earlier.insert(other.name.clone());
        earlier.remove(&self.name);
        let earlier = Arc::new(Mutex::new(earlier));
        Self { earlier, ..self }
    }

    /// Writes the roster, so that a crash leaves the old or the new one.
    pub fn save(&self, saved: &Saved) {
        let write = |to: &mut dyn Write| serde_json::to_writer(to, saved).map_err(io::Error::from);
        if let Err(error) = self.state.replace_with(&self.name, write) {
            warn!(file = self.name, %error, "roster cannot be written");
            return;
        }
        for name in std::mem::take(&mut *self.lock_earlier()) {
            self.state.remove(&name);
        }
    }

    fn lock_earlier(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine of a request with the devices of its roster, what else the roster says, and a roster that is restored
    /// once it is proven. It may take a while.
    #[must_use]
    pub fn restore(
        &self,
        details: Arc<Details>,
        now: Now,
    ) -> (Presence, Option<Saved>, Option<Saved>) {
        let (saved, unproven) = Found::split(self.load(&details));
        let mut saved = saved.filter(|saved| !saved.roster.devices.is_empty());
        let mut presence = Presence::new(details, Options::default(), now);
        if let Some(saved) = &mut saved {
            let roster = std::mem::take(&mut saved.roster);
            presence.restore(&roster, now);
        }
        (presence, saved, unproven)
    }

    /// The roster to start with: of the same credentials if there is one, our own before the newest of a sibling.
    #[must_use]
    pub fn load(&self, details: &Details) -> Option<Found> {
        let (evidence, wanted) = (Evidence::of(details), sessions(details));
        let files = self.state.list(SUFFIX).into_iter().map(|(name, _)| name);
        let others = files.filter(|name| *name != self.name).take(MAX_CANDIDATES);
        let mut unproven = None;
        for name in std::iter::once(self.name.clone()).chain(others) {
            let fits = |saved: &Saved| saved.evidence == evidence && saved.sessions == wanted;
            let Some(found) = read(&self.state, &name).filter(fits) else {
                continue;
            };
            let of_user = |login: &Login| login.is_same_user(&self.login);
            if found.login.as_ref() == Some(&self.login) {
                let devices = found.roster.devices.len();
                info!(from = name, devices, "roster taken over");
                return Some(Found::Ours(found));
            }
            if unproven.is_none() && found.login.as_ref().is_none_or(of_user) {
                unproven = Some((name, found));
            }
        }
        let (name, found) = unproven?;
        let devices = found.roster.devices.len();
        info!(
            from = name,
            devices, "roster is taken over once the servers accept the credentials"
        );
        Some(Found::Unproven(found))
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
    use akri_mqtt_core::presence::State;
    use akri_mqtt_proto::akri::ByteData;

    use super::*;
    use crate::credentials::Properties;
    use crate::login::Logins;

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
        let now = Timestamp::UNIX_EPOCH;
        Saved::of(details, Login::default(), vec![entry], Line::default(), now)
    }

    fn file(state: &StateDir, instance: &str, request: &str) -> RosterFile {
        let request = DetailsDigest::of(request);
        RosterFile::new(state, instance, &request, Login::default())
    }

    fn names(found: Option<Found>) -> Vec<String> {
        let Some(Found::Ours(saved)) = found else {
            return Vec::new();
        };
        let devices = saved.roster.devices.into_iter();
        devices.map(|entry| entry.id.name().to_owned()).collect()
    }

    #[test]
    fn our_own_roster_comes_before_a_newer_one_of_a_sibling() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let details = details("r/{device}/x", "1s");
        let own = file(&state, "n-0", "d1");
        own.save(&saved(&details, "own"));
        file(&state, "n-1", "d1").save(&saved(&details, "sibling"));
        assert_eq!(names(own.load(&details)), ["own"]);
        let dated = |found| matches!(found, Found::Ours(saved) if saved.at.is_some());
        assert!(own.load(&details).is_some_and(dated));
        let third = file(&state, "n-2", "d1");
        assert_eq!(names(third.load(&details)).len(), 1);
    }

    #[test]
    fn a_roster_is_taken_over_when_only_times_differ_and_never_from_other_topics() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        file(&state, "n-0", "d1").save(&saved(&details("r/{device}/x", "1s"), "a"));
        let other = file(&state, "n-1", "d2");
        assert_eq!(names(other.load(&details("r/{device}/x", "2s"))), ["a"]);
        assert!(other.load(&details("q/{device}/x", "1s")).is_none());
    }

    #[test]
    fn other_credentials_get_no_roster_and_another_password_only_once_it_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let logins = Logins::load(&state);
        let login = |user: &str, password: &str| {
            let data = |text: &str| ByteData {
                vec: Some(text.to_owned().into()),
            };
            let values = [("MQTT_USERNAME", user), ("MQTT_PASSWORD", password)];
            let values = values.map(|(name, value)| (name.to_owned(), data(value)));
            logins.of(&Properties::of(&values.into()))
        };
        let details = details("r/{device}/x", "1s");
        let of = |instance: &str, login: Login| {
            RosterFile::new(&state, instance, &DetailsDigest::of("d"), login)
        };
        let mut known = saved(&details, "a");
        known.login = Some(login("anna", "right"));
        of("n-0", login("anna", "right")).save(&known);
        for instance in ["n-0", "n-1"] {
            let load = |login: Login| of(instance, login).load(&details);
            assert_eq!(names(load(login("anna", "right"))), ["a"]);
            let other = load(login("anna", "wrong"));
            assert!(matches!(other, Some(Found::Unproven(_))), "{other:?}");
            assert!(load(login("bert", "right")).is_none());
            assert!(load(Login::default()).is_none());
        }
        // A file of an earlier version does not say whose it is.
        known.login = None;
        of("n-0", login("anna", "right")).save(&known);
        let old = of("n-1", Login::default()).load(&details);
        assert!(matches!(old, Some(Found::Unproven(_))), "{old:?}");
    }

    #[test]
    fn the_file_of_earlier_credentials_stays_until_the_one_of_now_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let saved = saved(&details("r/{device}/x", "1s"), "a");
        let names = || state.list(SUFFIX).into_iter().map(|(name, _)| name);
        let (first, second) = (file(&state, "n-0", "d1"), file(&state, "n-0", "d2"));
        first.save(&saved);
        let now = file(&state, "n-0", "d3").in_place_of(&second.in_place_of(&first));
        let obstacle = directory.path().join(&now.name);
        std::fs::create_dir(&obstacle).unwrap();
        now.save(&saved);
        assert!(names().any(|name| name == first.name));
        std::fs::remove_dir(&obstacle).unwrap();
        now.save(&saved);
        assert!(names().eq([now.name.as_str()]));
        let back = file(&state, "n-0", "d1").in_place_of(&now);
        back.save(&saved);
        back.save(&saved);
        assert!(names().eq([back.name.as_str()]));
    }

    #[test]
    fn an_old_roster_is_removed_and_a_fresh_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let details = details("r/{device}/x", "1s");
        file(&state, "n-0", "d1").save(&saved(&details, "a"));
        prune(&state, SystemTime::now());
        assert_eq!(state.list(SUFFIX).len(), 1);
        prune(&state, SystemTime::now() + 2 * KEEP);
        assert!(state.list(SUFFIX).is_empty());
    }
}
