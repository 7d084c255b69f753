//! Names that outlive the process: instance, session keys, client ids.
//! In: flags, environment, servers. Out: the same names after every restart.
//! Never a function of devices or topics, and of credentials only by whose they are: what the server
//! queues for a client id must survive a change of any of them, and is nobody else's.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akri_mqtt_core::details::{Convention, Details, SessionKey};
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::login::Login;
use crate::state_dir::{Lock, StateDir};

/// Slots that `auto` looks at: containers and surging pods of one node.
const MAX_SLOTS: usize = 64;
/// Longest client id that every MQTT server must take (MQTT 5.0, 3.1.3.1).
const SHORT_CLIENT_ID: usize = 23;
/// Sessions with one key and different options or credentials.
const MAX_SUFFIX: u32 = 1_000;
/// Session keys that are remembered.
const MAX_KEYS: usize = 4_096;
const CLUSTER_FILE: &str = "cluster-id";
const SUFFIX_FILE_END: &str = ".clients.json";

/// BLAKE2b-256 over length-prefixed parts.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Two digits for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digest of a `discoveryDetails` text: what siblings compare to see whether they serve the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DetailsDigest(String);

impl DetailsDigest {
    /// Digest of the text as it was received.
    #[must_use]
    pub fn of(details: &str) -> Self {
        let full = digest([details.as_bytes()]);
        Self(hex(full.get(..8).unwrap_or_default()))
    }
}

impl fmt::Display for DetailsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 8 hex digits of servers and topics: the `request` of metrics, logs and `/v1/presence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestLabel(String);

impl RequestLabel {
    /// Label of a request.
    #[must_use]
    pub fn of(details: &Details) -> Self {
        Self(details.request_id())
    }

    /// The 8 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digest of everything that decides which devices exist and what they are called, servers aside.
/// A roster may be taken over only between requests for which this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence(String);

impl Evidence {
    /// Digest of a request.
    #[must_use]
    pub fn of(details: &Details) -> Self {
        let topics = details.topics.iter().map(ToString::to_string);
        let identity = details.identity.iter().map(ToString::to_string);
        let rules = details.presence.availability.iter();
        let conventions = details.conventions.iter().map(looked_for);
        let parts: Vec<String> = topics
            .chain(["identity".to_owned()])
            .chain(identity)
            .chain(["availability".to_owned()])
            .chain(rules.map(|rule| rule.topic.to_string()))
            .chain(["conventions".to_owned()])
            .chain(conventions)
            .chain([details.limits.id_salt.clone()])
            .collect();
        let full = digest(parts.iter().map(String::as_bytes));
        Self(hex(full.get(..8).unwrap_or_default()))
    }
}

/// A convention without the options that decide only what is said to Edge Nodes.
fn looked_for(convention: &Convention) -> String {
    let mut convention = convention.clone();
    if let Convention::SparkplugB {
        host_id, rebirth, ..
    } = &mut convention
    {
        (*host_id, *rebirth) = (None, false);
    }
    format!("{convention:?}")
}

/// Keeps letters, digits and `-`; what a file name, a socket and a client id may all hold.
#[must_use]
pub fn sanitise(name: &str) -> String {
    let cleaned: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    cleaned.trim_matches('-').to_owned()
}

/// The name of this process among its siblings, held by a lock file.
#[derive(Debug)]
pub struct Instance {
    name: String,
    _lock: Lock,
}

impl Instance {
    /// `auto` takes the lowest free slot `<node>-<n>`; any other name is taken as it is.
    ///
    /// # Errors
    /// When another process holds the name, or the state directory fails.
    pub fn claim(wanted: &str, node: &str, state: &StateDir) -> io::Result<Self> {
        let node = sanitise(node);
        if wanted != "auto" {
            return Self::try_claim(sanitise(wanted), state)?.ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!(
                        "instance {wanted:?} is in use by another process with this state directory"
                    ),
                )
            });
        }
        if !state.is_durable() {
            let name = format!("{node}-x{:04x}", rand::rng().random::<u16>());
            warn!(instance = %name, "without a state directory the instance has a random name");
            return Ok(Self {
                name,
                _lock: Lock::default(),
            });
        }
        for slot in 0..MAX_SLOTS {
            if let Some(claimed) = Self::try_claim(format!("{node}-{slot}"), state)? {
                return Ok(claimed);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("all {MAX_SLOTS} slots of node {node} are in use"),
        ))
    }

    fn try_claim(name: String, state: &StateDir) -> io::Result<Option<Self>> {
        let lock = state.lock(&format!("{name}.lock"))?;
        Ok(lock.map(|lock| Self { name, _lock: lock }))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The cluster's id: given by the chart, else a random one that the state directory keeps.
#[must_use]
pub fn cluster_id(given: Option<&str>, state: &StateDir) -> String {
    if let Some(given) = given.map(sanitise).filter(|given| !given.is_empty()) {
        return given.chars().take(8).collect();
    }
    let valid = |kept: &str| kept.len() == 8 && sanitise(kept) == kept;
    state.kept(CLUSTER_FILE, valid, || {
        format!("{:08x}", rand::rng().random::<u32>())
    })
}

/// Makes client ids: `<clientIdPrefix>-<cluster>-<namespace>-<instance>-<8 hex of the session key>`.
#[derive(Clone, Debug)]
pub struct ClientIds {
    /// First 8 characters of the cluster's id.
    pub cluster: String,
    /// Namespace of this process.
    pub namespace: String,
    /// Instance of this process.
    pub instance: String,
    /// Hash what is longer than 23 characters.
    pub short: bool,
}

impl ClientIds {
    /// The client id of a session; `ordinal` 1 is the first with this key, 2 gets `-2` and so on.
    #[must_use]
    pub fn make(&self, prefix: &str, key: &SessionKey, ordinal: u32) -> String {
        let Self {
            cluster,
            namespace,
            instance,
            ..
        } = self;
        let mut id = format!("{prefix}-{cluster}-{namespace}-{instance}-{key}");
        if ordinal > 1 {
            id.push_str(&format!("-{ordinal}"));
        }
        if !self.short || id.len() <= SHORT_CLIENT_ID {
            return id;
        }
        // The prefix stays readable, and whoever looks for ids of ours still recognises them.
        let kept: String = prefix.chars().take(10).collect();
        let full = digest([id.as_bytes()]);
        let room = SHORT_CLIENT_ID.saturating_sub(kept.len() + 1);
        let tail: String = hex(&full).chars().take(room).collect();
        format!("{kept}-{tail}")
    }
}

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

/// By session key: ordinal to owner.
type Owners = BTreeMap<String, BTreeMap<u32, String>>;

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

    /// The ordinal of a session for this owner: the one it had, else one that the same request had with another
    /// password, else the lowest that nobody has.
    pub fn take(&self, key: &SessionKey, owner: &Owner, in_use: &[u32]) -> u32 {
        let mut owners = self.lock();
        if owners.len() >= MAX_KEYS && !owners.contains_key(&key.to_string()) {
            // Keys of Configurations that are long gone; whoever is still there gets an ordinal anew.
            owners.clear();
        }
        let of_key = owners.entry(key.to_string()).or_default();
        let (text, earlier) = (owner.text(), owner.earlier_text());
        let free = |ordinal: &u32| !in_use.contains(ordinal);
        let had = |whose: &dyn Fn(&str) -> bool| {
            let mut all = of_key.iter();
            let found = all.find(|(ordinal, known)| free(ordinal) && whose(known));
            found.map(|(ordinal, _)| *ordinal)
        };
        let unowned =
            || (1..=MAX_SUFFIX).find(|ordinal| free(ordinal) && !of_key.contains_key(ordinal));
        let ordinal = had(&|known| known == text)
            .or_else(|| had(&|known| known == earlier))
            .or_else(|| had(&|known| owner.is_same_user(known)))
            .or_else(unowned)
            .or_else(|| (1..=MAX_SUFFIX).find(free))
            .unwrap_or(MAX_SUFFIX);
        self.own(&mut owners, key, ordinal, text);
        ordinal
    }

    /// The owner of an ordinal goes on with other credentials.
    pub fn rename(&self, key: &SessionKey, ordinal: u32, owner: &Owner) {
        self.own(&mut self.lock(), key, ordinal, owner.text());
    }

    fn own(&self, owners: &mut Owners, key: &SessionKey, ordinal: u32, owner: String) {
        let of_key = owners.entry(key.to_string()).or_default();
        if of_key.insert(ordinal, owner.clone()) == Some(owner) {
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
    fn the_digest_of_details_is_the_one_that_the_controller_makes() {
        assert_eq!(
            DetailsDigest::of("topics: [a]").to_string(),
            "8a9cf82c507dce20"
        );
    }

    #[test]
    fn a_roster_stays_when_only_what_is_said_to_edge_nodes_is_changed() {
        let evidence = |options: &str| {
            let yaml = format!(
                "servers: [{{name: s, urls: [tcp://h:1883]}}]\nconventions: [{{sparkplugB: {{{options}}}}}]\n"
            );
            Evidence::of(&Details::parse(&yaml).unwrap())
        };
        assert_eq!(evidence("rebirth: true, hostId: plant"), evidence(""));
        assert_ne!(evidence("groups: [line]"), evidence(""));
    }

    #[test]
    fn the_lowest_free_slot_is_taken_and_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let first = Instance::claim("auto", "Node.1", &state).unwrap();
        let second = Instance::claim("auto", "Node.1", &state).unwrap();
        assert_eq!((first.name(), second.name()), ("node-1-0", "node-1-1"));
        drop(first);
        let third = Instance::claim("auto", "Node.1", &state).unwrap();
        assert_eq!(third.name(), "node-1-0");
        let taken = Instance::claim("node-1-1", "", &state).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_random_cluster_id_is_kept_and_a_given_one_is_cut_to_eight() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let fresh = cluster_id(None, &state);
        assert_eq!(fresh.len(), 8);
        assert_eq!(cluster_id(None, &state), fresh);
        let uid = "1d2c3b4a-5f6e-4d3c-2b1a-000000000000";
        assert_eq!(cluster_id(Some(uid), &state), "1d2c3b4a");
    }

    #[test]
    fn processes_that_start_at_once_agree_on_a_cluster_id() {
        let directory = tempfile::tempdir().unwrap();
        let starts: Vec<_> = (0..16)
            .map(|_| {
                let path = directory.path().to_owned();
                std::thread::spawn(move || cluster_id(None, &StateDir::open(&path)))
            })
            .collect();
        let mut ids: Vec<String> = starts.into_iter().map(|one| one.join().unwrap()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }

    #[test]
    fn client_ids_name_cluster_namespace_instance_and_session_key() {
        let mut ids = ClientIds {
            cluster: "1d2c3b4a".to_owned(),
            namespace: "akri".to_owned(),
            instance: "n1-0".to_owned(),
            short: false,
        };
        let key = key("a");
        let first = ids.make("akri-mqtt", &key, 1);
        assert_eq!(first, format!("akri-mqtt-1d2c3b4a-akri-n1-0-{key}"));
        assert_eq!(ids.make("akri-mqtt", &key, 2), format!("{first}-2"));
        ids.short = true;
        let short = ids.make("akri-mqtt", &key, 1);
        assert_eq!(short.len(), SHORT_CLIENT_ID);
        assert!(short.starts_with("akri-mqtt-"), "{short}");
        assert_ne!(short, ids.make("akri-mqtt", &key, 2));
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
