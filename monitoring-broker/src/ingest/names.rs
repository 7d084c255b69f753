//! Client ids that outlive the process: `<prefix>-<cluster>-<namespace>-<instance>-<session key>`.
//! In: flags and environment. Out: the same ids after every restart. Never a function of devices or topics.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use akri_mqtt_core::details::SessionKey;

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
}

/// Makes client ids.
#[derive(Debug)]
pub struct ClientIds {
    file: PathBuf,
    kept: Kept,
    instance: String,
    cluster: String,
    namespace: String,
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
            namespace,
        };
        ids.save()?;
        Ok(ids)
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
        let id = format!("{prefix}-{cluster}-{namespace}-{instance}-{key}");
        Ok(if ordinal > 1 {
            format!("{id}-{ordinal}")
        } else {
            id
        })
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.kept)?;
        if std::fs::read(&self.file).is_ok_and(|before| before == text) {
            return Ok(());
        }
        crate::store::replace_file(&self.file, &text)
    }
}

/// Keeps letters, digits and `-`.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(keep).collect()
}
