//! Where the credentials of a session come from, and when they change.
//! In: `discoveryProperties` and the files of `--credentials-dir`. Out: what to present to a server.
//! Which names count, and which wins, is decided by `core::credentials`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::credentials::{CredentialError, Credentials, Hosts, Sources, Values};
use akri_mqtt_core::details::Server;
use akri_mqtt_proto::akri::ByteData;
use akri_mqtt_runtime::Shutdown;
use tokio::sync::watch;
use tracing::{info, warn};

/// How often the files are read. Kubernetes swaps a symbolic link when a Secret changes, which a
/// watch on the files misses and reading them does not.
const POLL: Duration = Duration::from_secs(2);
/// Largest credential file: a certificate chain is a few KiB.
const MAX_FILE: u64 = 256 * 1024;
/// Files that are read; a Secret has a handful.
const MAX_FILES: usize = 256;
/// What the names of credentials start with.
const PREFIX: &str = "MQTT_";
/// What the names of the earlier MQTT handler start with.
const LEGACY_PREFIX: &str = "mqtt_broker_";
/// The property with which a caller says how large a response it takes.
pub const MAX_RESPONSE: &str = "AKRI_MQTT_MAX_RESPONSE";

/// The credential part of a request's `discoveryProperties`. Never shown.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Properties(Arc<Values>);

impl Properties {
    /// Keeps what may be a credential.
    #[must_use]
    pub fn of(properties: &BTreeMap<String, ByteData>) -> Self {
        let of_interest = |name: &str| name.starts_with(PREFIX) || name.starts_with(LEGACY_PREFIX);
        let values = properties
            .iter()
            .filter(|(name, _)| of_interest(name))
            .map(|(name, data)| (name.clone(), data.vec.clone().unwrap_or_default().to_vec()))
            .collect();
        Self(Arc::new(values))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The files of `--credentials-dir`, read again and again.
#[derive(Clone)]
pub struct Files {
    hosts: Hosts,
    values: watch::Receiver<Arc<Values>>,
}

impl Files {
    /// No directory.
    #[must_use]
    pub fn none() -> Self {
        Self {
            hosts: Hosts::default(),
            values: watch::channel(Arc::default()).1,
        }
    }

    /// Reads the directory now, and gives the task that keeps on reading it.
    pub fn watch(
        directory: PathBuf,
        hosts: BTreeSet<String>,
        shutdown: Shutdown,
    ) -> (Self, impl Future<Output = anyhow::Result<()>> + Send) {
        let mut trouble = None;
        let first = tell(read(&directory), &directory, &mut trouble).unwrap_or_default();
        let (sender, values) = watch::channel(Arc::new(first));
        let files = Self {
            hosts: Hosts::Only(hosts),
            values,
        };
        (files, poll(directory, sender, trouble, shutdown))
    }

    /// What to present to a server, from these files and a request's properties.
    ///
    /// # Errors
    /// Half of a pair, or a value that MQTT cannot carry.
    pub fn resolve(
        &self,
        server: &Server,
        properties: &Properties,
        legacy: bool,
    ) -> Result<Credentials, CredentialError> {
        let files = Arc::clone(&self.values.borrow());
        let sources = Sources {
            properties: Some(&properties.0),
            files: Some(&files),
            hosts: self.hosts.clone(),
            legacy,
        };
        Credentials::resolve(server, &sources)
    }

    /// Names in the files for this server, although `--credentials-hosts` does not list its hosts.
    #[must_use]
    pub fn unlisted(&self, server: &Server) -> Vec<String> {
        let files = Arc::clone(&self.values.borrow());
        let sources = Sources {
            files: Some(&files),
            hosts: self.hosts.clone(),
            ..Sources::default()
        };
        sources.unlisted(server)
    }

    /// Waits until a file has changed.
    pub async fn changed(&mut self) {
        if self.values.changed().await.is_err() {
            // Without a directory nothing ever changes.
            std::future::pending::<()>().await;
        }
    }
}

async fn poll(
    directory: PathBuf,
    sender: watch::Sender<Arc<Values>>,
    mut trouble: Option<String>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.triggered() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let path = directory.clone();
        let found = tokio::task::spawn_blocking(move || read(&path)).await?;
        let Some(values) = tell(found, &directory, &mut trouble) else {
            continue;
        };
        sender.send_if_modified(|known| {
            let changed = **known != values;
            if changed {
                info!(directory = %directory.display(), files = values.len(), "credentials have changed");
                *known = Arc::new(values);
            }
            changed
        });
    }
}

/// Says once why a directory cannot be read; what was read before holds on.
fn tell(
    found: io::Result<Values>,
    directory: &Path,
    trouble: &mut Option<String>,
) -> Option<Values> {
    match found {
        Ok(values) => {
            *trouble = None;
            Some(values)
        }
        Err(error) => {
            let error = error.to_string();
            if trouble.as_ref() != Some(&error) {
                warn!(directory = %directory.display(), error, "credentials cannot be read");
                *trouble = Some(error);
            }
            None
        }
    }
}

fn read(directory: &Path) -> io::Result<Values> {
    let values = std::fs::read_dir(directory)?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let wanted = name.starts_with(PREFIX) || name.starts_with(LEGACY_PREFIX);
            let bytes = wanted.then(|| read_file(&entry.path()))??;
            Some((name, bytes))
        })
        .take(MAX_FILES)
        .collect();
    Ok(values)
}

fn read_file(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_credentials_are_kept_and_no_value_is_shown() {
        let data = |text: &str| ByteData {
            vec: Some(text.as_bytes().to_vec().into()),
        };
        let properties = Properties::of(&BTreeMap::from([
            ("MQTT_PASSWORD".to_owned(), data("s3cret")),
            ("OTHER".to_owned(), data("x")),
            (MAX_RESPONSE.to_owned(), data("1")),
        ]));
        assert_eq!(format!("{properties:?}"), r#"{"MQTT_PASSWORD"}"#);
    }

    #[test]
    fn a_swapped_link_of_a_mounted_secret_is_read_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for (version, password) in [("v1", "old"), ("v2", "new")] {
            std::fs::create_dir(path.join(version)).unwrap();
            std::fs::write(path.join(version).join("MQTT_PASSWORD"), password).unwrap();
        }
        std::os::unix::fs::symlink("v1", path.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/MQTT_PASSWORD", path.join("MQTT_PASSWORD")).unwrap();
        assert_eq!(read(path).unwrap()["MQTT_PASSWORD"], b"old");
        std::os::unix::fs::symlink("v2", path.join("..next")).unwrap();
        std::fs::rename(path.join("..next"), path.join("..data")).unwrap();
        assert_eq!(read(path).unwrap()["MQTT_PASSWORD"], b"new");
    }

    #[test]
    fn a_directory_that_is_gone_for_a_while_takes_no_credentials_away() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("secret");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("MQTT_USERNAME"), "u").unwrap();
        let mut trouble = None;
        assert!(tell(read(&path), &path, &mut trouble).is_some());
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(tell(read(&path), &path, &mut trouble), None);
        assert!(trouble.is_some());
        std::fs::create_dir(&path).unwrap();
        assert_eq!(tell(read(&path), &path, &mut trouble), Some(Values::new()));
        assert_eq!(trouble, None);
    }
}
