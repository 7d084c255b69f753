//! Which session of several with one key is whose. In: requests. Out: the ordinal of a session, the same after every
//! restart, so that its client id is, and nobody gets what was queued for somebody else. Kept in the state directory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akri_mqtt_core::details::SessionKey;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::login::Login;
use crate::naming::RequestLabel;
use crate::state_dir::StateDir;

/// Sessions with one key and different options or credentials.
const MAX_SUFFIX: u32 = 1_000;
/// Session keys that are remembered.
const MAX_KEYS: usize = 4_096;
/// Requests of one session that are remembered.
const MAX_JOINED: usize = 64;
const SUFFIX_FILE_END: &str = ".clients.json";

/// Whose a session is: a request, told from those with the same label and other credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    label: RequestLabel,
    user: String,
    login: String,
}

impl Owner {
    /// A request with these credentials.
    #[must_use]
    pub fn new(label: &RequestLabel, login: &Login) -> Self {
        Self {
            label: label.clone(),
            user: login.user_start().to_owned(),
            login: login.file_end(),
        }
    }

    /// The same request with other credentials.
    #[must_use]
    pub fn with(&self, login: &Login) -> Self {
        Self::new(&self.label, login)
    }

    fn text(&self) -> String {
        if self.login.is_empty() {
            return self.label.to_string();
        }
        format!("{}-{}{}", self.label, self.user, self.login)
    }

    /// The text of earlier versions, which does not say of which user it is.
    fn earlier_text(&self) -> String {
        format!("{}{}", self.label, self.login)
    }

    fn is_same_user(&self, known: &str) -> bool {
        let of_user = format!("{}-{}-", self.label, self.user);
        known.starts_with(&of_user) || (self.user.is_empty() && known == self.label.as_str())
    }
}

/// Whose an ordinal is: first the request that began its session, then those that have joined it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
struct Owned(Vec<String>);

/// How it is kept: a single owner as earlier versions did.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    One(String),
    Several(Vec<String>),
}

impl From<Kept> for Owned {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::One(owner) => Self(vec![owner]),
            Kept::Several(owners) => Self(owners),
        }
    }
}

impl From<Owned> for Kept {
    fn from(Owned(mut owners): Owned) -> Self {
        match owners.len() {
            1 => owners.pop().map_or(Self::Several(owners), Self::One),
            _ => Self::Several(owners),
        }
    }
}

impl Owned {
    fn was_begun_by(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.0.first().is_some_and(|owner| is_meant(owner))
    }

    fn has(&self, owner: &str) -> bool {
        self.0.iter().any(|own| own == owner)
    }

    fn begin(&mut self, owner: String) {
        match self.0.first_mut() {
            Some(first) => *first = owner,
            None => self.0.push(owner),
        }
    }

    fn join(&mut self, owner: String) {
        if !self.has(&owner) {
            self.0.push(owner);
        }
        if self.0.len() > MAX_JOINED {
            self.0.remove(1);
        }
    }

    fn leave(&mut self, owner: &str) {
        let mut index = 0;
        self.0.retain(|own| {
            index += 1;
            index == 1 || own != owner
        });
    }
}

/// By session key: ordinal to owners.
type Owners = BTreeMap<String, BTreeMap<u32, Owned>>;

/// Who owns which ordinal of a session key, kept in the state directory, so that several sessions of
/// one key get the same client ids after every restart, and nobody what was queued for somebody else.
/// Credentials are not in it, only the digests of logins.
#[derive(Clone, Debug)]
pub struct Ordinals {
    state: StateDir,
    file: String,
    owners: Arc<Mutex<Owners>>,
}

impl Ordinals {
    /// Reads what an earlier process of this instance has kept.
    #[must_use]
    pub fn load(instance: &str, state: &StateDir) -> Self {
        let file = format!("{instance}{SUFFIX_FILE_END}");
        let owners = match state
            .read(&file)
            .map(|bytes| serde_json::from_slice(&bytes))
        {
            Some(Ok(owners)) => owners,
            Some(Err(error)) => {
                state.set_aside(&file, &error);
                BTreeMap::new()
            }
            None => BTreeMap::new(),
        };
        Self {
            state: state.clone(),
            file,
            owners: Arc::new(Mutex::new(owners)),
        }
    }

    /// The ordinal of a session for this owner: the one it had, or had joined, else one that the same request had with
    /// another password, else the lowest that nobody has.
    pub fn take(&self, key: &SessionKey, owner: &Owner, in_use: &[u32]) -> u32 {
        let mut owners = self.lock();
        if owners.len() >= MAX_KEYS && !owners.contains_key(&key.to_string()) {
            // Keys of Configurations that are long gone; whoever is still there gets an ordinal anew.
            owners.clear();
        }
        let of_key = owners.entry(key.to_string()).or_default();
        let (text, earlier) = (owner.text(), owner.earlier_text());
        let free = |ordinal: &u32| !in_use.contains(ordinal);
        let had = |whose: &dyn Fn(&Owned) -> bool| {
            let mut all = of_key.iter();
            let found = all.find(|(ordinal, known)| free(ordinal) && whose(known));
            found.map(|(ordinal, _)| *ordinal)
        };
        let unowned =
            || (1..=MAX_SUFFIX).find(|ordinal| free(ordinal) && !of_key.contains_key(ordinal));
        let joined = had(&|known| known.was_begun_by(|own| own == text))
            .or_else(|| had(&|known| known.has(&text)));
        let renewed = joined
            .or_else(|| had(&|known| known.was_begun_by(|own| own == earlier)))
            .or_else(|| had(&|known| known.was_begun_by(|own| owner.is_same_user(own))));
        let ordinal = renewed
            .or_else(unowned)
            .or_else(|| (1..=MAX_SUFFIX).find(free))
            .unwrap_or(MAX_SUFFIX);
        self.change(&mut owners, key, |of_key| {
            for (other, owned) in of_key.iter_mut() {
                if *other != ordinal {
                    owned.leave(&text);
                }
            }
            let owned = of_key.entry(ordinal).or_default();
            if renewed.is_none() {
                *owned = Owned(vec![text]);
            } else if joined.is_none() {
                owned.begin(text);
            }
        });
        ordinal
    }

    /// This owner, too, goes on with the session after a restart, whoever comes first.
    pub fn join(&self, key: &SessionKey, ordinal: u32, owner: &Owner) {
        self.change(&mut self.lock(), key, |of_key| {
            of_key.entry(ordinal).or_default().join(owner.text());
        });
    }

    /// The only owner of an ordinal goes on with other credentials.
    pub fn rename(&self, key: &SessionKey, ordinal: u32, owner: &Owner) {
        self.change(&mut self.lock(), key, |of_key| {
            of_key.insert(ordinal, Owned(vec![owner.text()]));
        });
    }

    fn change(
        &self,
        owners: &mut Owners,
        key: &SessionKey,
        change: impl FnOnce(&mut BTreeMap<u32, Owned>),
    ) {
        let of_key = owners.entry(key.to_string()).or_default();
        let before = of_key.clone();
        change(of_key);
        if *of_key == before {
            return;
        }
        let bytes = serde_json::to_vec(owners).unwrap_or_default();
        if let Err(error) = self.state.replace(&self.file, &bytes) {
            warn!(%error, "client-id suffixes cannot be kept");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::details::{Server, ServerUrl};
    use akri_mqtt_core::identity::ServerName;

    use super::*;

    fn key(host: &str) -> SessionKey {
        let server = Server {
            name: ServerName::parse("plant-a").unwrap(),
            urls: vec![ServerUrl::parse(&format!("tcp://{host}:1883")).unwrap()],
            failover: akri_mqtt_core::details::Failover::Ordered,
        };
        SessionKey::new(&server, "akri-mqtt")
    }

    fn owner(label: &str, login: &str) -> Owner {
        Owner {
            label: RequestLabel(label.to_owned()),
            user: String::new(),
            login: login.to_owned(),
        }
    }

    #[test]
    fn two_sessions_of_one_key_get_their_ordinals_back_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let ordinals = Ordinals::load("n-0", &state);
        assert_eq!(ordinals.take(&key("a"), &owner("r1", ""), &[]), 1);
        assert_eq!(ordinals.take(&key("a"), &owner("r2", ""), &[1]), 2);
        assert_eq!(ordinals.take(&key("b"), &owner("r2", ""), &[]), 1);
        let again = Ordinals::load("n-0", &state);
        assert_eq!(again.take(&key("a"), &owner("r2", ""), &[]), 2);
        assert_eq!(again.take(&key("a"), &owner("r1", ""), &[2]), 1);
        assert_eq!(again.take(&key("a"), &owner("r3", ""), &[1, 2]), 3);
    }

    #[test]
    fn requests_of_one_session_get_it_back_whoever_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let take = |label: &str, in_use: &[u32]| {
            let owner = owner(label, "");
            Ordinals::load("n-0", &state).take(&key("a"), &owner, in_use)
        };
        assert_eq!(take("r1", &[]), 1);
        Ordinals::load("n-0", &state).join(&key("a"), 1, &owner("r2", ""));
        assert_eq!((take("r2", &[]), take("r1", &[])), (1, 1));
        // With options of its own it goes its way, and the session stays whose it was.
        assert_eq!(take("r2", &[1]), 2);
        assert_eq!((take("r2", &[]), take("r1", &[])), (2, 1));
    }

    #[test]
    fn nobody_gets_the_session_of_other_credentials_and_changed_ones_keep_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let take = |login: &str, in_use: &[u32]| {
            let owner = owner("r1", login);
            Ordinals::load("n-0", &state).take(&key("a"), &owner, in_use)
        };
        assert_eq!((take("-anna", &[]), take("-bert", &[1])), (1, 2));
        // After a restart they may come the other way round.
        assert_eq!((take("-bert", &[]), take("-anna", &[2])), (2, 1));
        // Changed while the process was down, and while it runs.
        assert_eq!((take("-anna", &[]), take("-new", &[1])), (1, 2));
        let ordinals = Ordinals::load("n-0", &state);
        ordinals.rename(&key("a"), 1, &owner("r1", "-newer"));
        assert_eq!((take("-new", &[]), take("-newer", &[2])), (2, 1));
    }

    #[test]
    fn another_user_gets_a_session_of_its_own_also_after_an_upgrade() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let take = |user: &str, login: &str| {
            let user = user.to_owned();
            let owner = owner("r1", login);
            Ordinals::load("n-0", &state).take(&key("a"), &Owner { user, ..owner }, &[])
        };
        assert_eq!((take("anna", "-old"), take("bert", "-his")), (1, 2));
        assert_eq!((take("", ""), take("anna", "-new")), (3, 1));
        assert_eq!((take("anna", "-new"), take("", "-authority")), (1, 3));
        // As an earlier version has kept it.
        let text = format!("{{\"{}\":{{\"1\":\"r1\",\"2\":\"r1-his\"}}}}", key("a"));
        state.replace("n-0.clients.json", text.as_bytes()).unwrap();
        assert_eq!((take("anna", "-new"), take("bert", "-his")), (3, 2));
        assert_eq!((take("", ""), take("bert", "-hers")), (1, 2));
    }
}
