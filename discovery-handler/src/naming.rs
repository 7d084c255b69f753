//! Names that outlive the process: instance, session keys, client ids.
//! In: flags, environment, servers. Out: the same names after every restart.
//! Never a function of devices or topics, and of credentials only by whose they are: what the server
//! queues for a client id must survive a change of any of them, and is nobody else's.

use std::fmt;
use std::io;

use akri_mqtt_core::details::{Convention, Details, SessionKey};
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::state_dir::{Lock, StateDir};

/// Slots that `auto` looks at: containers and surging pods of one node.
const MAX_SLOTS: usize = 64;
/// Longest client id that every MQTT server must take (MQTT 5.0, 3.1.3.1).
const SHORT_CLIENT_ID: usize = 23;
const CLUSTER_FILE: &str = "cluster-id";

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
pub struct RequestLabel(pub(crate) String);

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
}
