//! Client ids that outlive the process: `<prefix>-<cluster>-<namespace>-<instance>-<session key>`.
//! In: flags and environment. Out: the same ids after every restart. Never a function of devices or topics.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use akri_mqtt_core::details::SessionKey;
use akri_mqtt_core::pool::Shard;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest as _};

/// What a server of MQTT 3.1.1 has to allow.
const SHORT: usize = 23;
const FILE: &str = "identity.json";

/// What the data directory keeps.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Kept {
    instance: Option<String>,
    cluster: Option<String>,
    /// By session key: which options have which ordinal.
    #[serde(default)]
    ordinals: BTreeMap<String, BTreeMap<String, u32>>,
}

/// Who this process is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `--instance`; none: a random one that the data directory keeps.
    pub instance: Option<String>,
    /// The cluster's id; none: a random one that the data directory keeps.
    pub cluster: Option<String>,
    /// The namespace; none: `default`.
    pub namespace: Option<String>,
    /// Hash client ids of more than 23 characters.
    pub short: bool,
}

/// What the sessions of a pool's shard are called by, the same in every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The cluster's id, or what stands for it.
    pub cluster: String,
    /// Stands where the name of an instance would: it ends in `shard-<n>`.
    pub instance: String,
}

/// Makes client ids.
#[derive(Debug)]
pub struct ClientIds {
    file: PathBuf,
    kept: Kept,
    instance: String,
    cluster: String,
    /// Whether the cluster's id was given.
    has_cluster: bool,
    namespace: String,
    short: bool,
}

impl ClientIds {
    /// Reads what the data directory keeps, and adds what is missing.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn open(directory: &Path, identity: &Identity) -> io::Result<Self> {
        let file = directory.join(FILE);
        let read = std::fs::read(&file).ok();
        let mut kept: Kept = read
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let random = || format!("{:08x}", rand::random::<u32>());
        let instance = match &identity.instance {
            Some(instance) => plain(instance),
            None => kept.instance.get_or_insert_with(random).clone(),
        };
        let cluster = match &identity.cluster {
            Some(cluster) => plain(cluster).chars().take(8).collect(),
            None => kept.cluster.get_or_insert_with(random).clone(),
        };
        let namespace = identity
            .namespace
            .as_deref()
            .map_or_else(|| "default".to_owned(), plain);
        let ids = Self {
            file,
            kept,
            instance,
            cluster,
            has_cluster: identity.cluster.is_some(),
            namespace,
            short: identity.short,
        };
        ids.save()?;
        Ok(ids)
    }

    /// The part of the client ids that names this process.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The client id of a session. Sessions of one key with different options get `-2`, `-3`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn make(&mut self, prefix: &str, key: &SessionKey, options: &str) -> io::Result<String> {
        let known = self.kept.ordinals.entry(key.to_string()).or_default();
        let next = known.values().max().map_or(1, |highest| highest + 1);
        let is_new = !known.contains_key(options);
        let ordinal = *known.entry(options.to_owned()).or_insert(next);
        if is_new {
            self.save()?;
        }
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
        Ok(self.fitting(prefix, id))
    }

    /// What the sessions of a pool's shard are called by. Where the cluster has no id of its own, the pool's
    /// stands for it, because members have to agree.
    #[must_use]
    pub fn scope(&self, pool: &str, shard: Shard) -> Scope {
        let pool = plain(pool);
        if self.has_cluster {
            Scope {
                cluster: self.cluster.clone(),
                instance: format!("{pool}-shard-{shard}"),
            }
        } else {
            Scope {
                cluster: pool,
                instance: format!("shard-{shard}"),
            }
        }
    }

    /// The client id of a shard's session, and the name of its memory. Members cannot agree on ordinals, so
    /// sessions with other options than the default ones have their hash at the end.
    #[must_use]
    pub fn of_shard(
        &self,
        scope: &Scope,
        prefix: &str,
        key: &SessionKey,
        options: Option<&str>,
    ) -> (String, String) {
        let Scope { cluster, instance } = scope;
        let namespace = &self.namespace;
        let mut id = format!("{prefix}-{cluster}-{namespace}-{instance}-{key}");
        if let Some(options) = options {
            id.push('-');
            id.extend(digest(options).take(8));
        }
        (self.fitting(prefix, id.clone()), id)
    }

    fn fitting(&self, prefix: &str, id: String) -> String {
        if self.short && id.len() > SHORT {
            shortened(prefix, &id)
        } else {
            id
        }
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.kept)?;
        if std::fs::read(&self.file).is_ok_and(|before| before == text) {
            return Ok(());
        }
        crate::store::replace_file(&self.file, &text)
    }
}

/// The prefix stays readable; the rest is hashed.
fn shortened(prefix: &str, id: &str) -> String {
    let kept: String = prefix.chars().take(10).collect();
    let room = SHORT.saturating_sub(kept.len() + 1);
    format!("{kept}-{}", digest(id).take(room).collect::<String>())
}

/// The hex digits of a text's hash.
fn digest(text: &str) -> impl Iterator<Item = char> {
    let digest = Blake2b::<U32>::digest(text.as_bytes());
    digest.into_iter().flat_map(|byte| {
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
        [digit(byte >> 4), digit(byte & 15)]
    })
}

/// Keeps letters, digits and `-`.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::properties::DeviceSpec;

    use super::*;

    #[test]
    fn short_client_ids_fit_into_23_characters_keep_their_prefix_and_differ_by_session() {
        let directory = tempfile::tempdir().unwrap();
        let set = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let variables = [
            ("MQTT_DEVICE_ID", "plant/r1"),
            ("MQTT_SERVER_URLS", "tcp://127.0.0.1:1883"),
            ("MQTT_TOPICS", "[\"a\"]"),
        ];
        let device = DeviceSpec::from_env(variables.map(set)).unwrap().remove(0);
        let key = device.session_key();
        let mut identity = Identity {
            instance: Some("pod-0".to_owned()),
            cluster: Some("0123456789".to_owned()),
            ..Identity::default()
        };
        let mut make = |short, options| {
            identity.short = short;
            let mut ids = ClientIds::open(directory.path(), &identity).unwrap();
            ids.make("akri-mqtt", &key, options).unwrap()
        };
        let long = make(false, "a");
        assert_eq!(long, format!("akri-mqtt-01234567-default-pod-0-{key}"));
        let (short, other) = (make(true, "a"), make(true, "b"));
        assert_eq!((short.len(), other.len()), (SHORT, SHORT));
        assert!(short.starts_with("akri-mqtt-"), "{short}");
        assert_ne!(short, other);
        assert_eq!(short, make(true, "a"));
    }

    #[test]
    fn all_members_of_a_pool_call_the_session_of_a_shard_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let variables = [
            ("MQTT_DEVICE_ID", "plant/r1"),
            ("MQTT_SERVER_URLS", "tcp://127.0.0.1:1883"),
            ("MQTT_TOPICS", "[\"a\"]"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let key = DeviceSpec::from_env(variables)
            .unwrap()
            .remove(0)
            .session_key();
        let shard = akri_mqtt_core::pool::ShardCount::default().all().nth(7);
        let ids = |instance: &str, cluster: Option<&str>, short, options| {
            let data = directory.path().join(instance);
            std::fs::create_dir_all(&data).unwrap();
            let identity = Identity {
                instance: Some(instance.to_owned()),
                cluster: cluster.map(str::to_owned),
                namespace: None,
                short,
            };
            let ids = ClientIds::open(&data, &identity).unwrap();
            let scope = ids.scope("1a2b3c4d", shard.unwrap());
            ids.of_shard(&scope, "akri-mqtt", &key, options)
        };
        let alone = format!("akri-mqtt-1a2b3c4d-default-shard-7-{key}");
        assert_eq!(ids("a", None, false, None), (alone.clone(), alone.clone()));
        assert_eq!(ids("b", None, false, None).0, alone);
        let named = format!("akri-mqtt-01234567-default-1a2b3c4d-shard-7-{key}");
        assert_eq!(ids("a", Some("0123456789"), false, None).0, named);
        let other = ids("a", None, false, Some("other options")).0;
        assert_eq!(ids("b", None, false, Some("other options")).0, other);
        assert!(
            other.starts_with(&alone) && other.len() == alone.len() + 9,
            "{other}"
        );
        let (short, memory) = ids("a", None, true, None);
        assert_eq!((short.len(), memory), (SHORT, alone));
    }
}
