//! The credentials of the MQTT servers of a process. In: files that are watched, or the environment.
//! Out: a channel per server that says when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use akri_mqtt_core::credentials::{Credentials, Hosts, Sources, Values};
use akri_mqtt_core::details::Server;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::{Tasks, usage};
use tokio::sync::watch;

/// How often the files of `--credentials-dir` are looked at; a mounted Secret changes once in a while.
const CREDENTIALS_EVERY: Duration = Duration::from_secs(10);
/// A credential's file is not read beyond this.
const CREDENTIAL_BYTES: u64 = 1 << 20;

/// The servers that were met so far.
pub struct Servers {
    directory: Option<PathBuf>,
    tasks: Tasks,
    /// By session key.
    known: BTreeMap<String, watch::Receiver<Credentials>>,
}

/// A device with the credentials of its server.
pub type Admitted = (DeviceSpec, watch::Receiver<Credentials>);

impl Servers {
    /// Credentials come from this directory, or from the environment.
    #[must_use]
    pub fn new(directory: Option<PathBuf>, tasks: &Tasks) -> Self {
        Self {
            directory,
            tasks: tasks.clone(),
            known: BTreeMap::new(),
        }
    }

    /// A device with its credentials.
    ///
    /// # Errors
    /// When they contradict themselves.
    pub fn admit(&mut self, device: DeviceSpec) -> anyhow::Result<Admitted> {
        let key = device.session_key().to_string();
        if let Some(known) = self.known.get(&key) {
            return Ok((device, known.clone()));
        }
        let made = credentials(&device.server, self.directory.as_deref(), &self.tasks)?;
        self.known.insert(key, made.clone());
        Ok((device, made))
    }

    /// Devices that come at run time: one whose credentials contradict themselves is logged and left out.
    pub fn admit_all(&mut self, devices: Vec<DeviceSpec>) -> Vec<Admitted> {
        let mut admitted = Vec::with_capacity(devices.len());
        for device in devices {
            let id = device.id.clone();
            match self.admit(device) {
                Ok(device) => admitted.push(device),
                Err(error) => tracing::error!(device = %id, %error, "a device is not watched"),
            }
        }
        admitted
    }
}

/// The credentials of a server, from files that are watched, else from the environment.
///
/// # Errors
/// When they contradict themselves at the start; later such a change is logged and left out.
pub fn credentials(
    server: &Server,
    directory: Option<&Path>,
    tasks: &Tasks,
) -> anyhow::Result<watch::Receiver<Credentials>> {
    let first = resolve(server, directory).map_err(usage)?;
    let (sender, receiver) = watch::channel(first);
    if let Some(directory) = directory {
        let (server, directory) = (server.clone(), directory.to_owned());
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("credentials", async move {
            loop {
                tokio::select! {
                    () = shutdown.triggered() => return Ok(()),
                    () = tokio::time::sleep(CREDENTIALS_EVERY) => {}
                }
                match resolve(&server, Some(&directory)) {
                    Ok(now) => {
                        sender.send_if_modified(|before| {
                            let differs = *before != now;
                            *before = now;
                            differs
                        });
                    }
                    Err(error) => tracing::warn!(%error, "credentials are left as they were"),
                }
            }
        });
    } else {
        // Kept for as long as the process runs: a closed channel would say that the source has gone.
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("credentials", async move {
            shutdown.triggered().await;
            drop(sender);
            Ok(())
        });
    }
    Ok(receiver)
}

fn resolve(
    server: &Server,
    directory: Option<&Path>,
) -> Result<Credentials, akri_mqtt_core::credentials::CredentialError> {
    let values = match directory {
        Some(directory) => files(directory),
        None => environment(),
    };
    let sources = Sources {
        properties: None,
        files: Some(&values),
        hosts: Hosts::Any,
        legacy: true,
    };
    Credentials::resolve(server, &sources)
}

fn environment() -> Values {
    std::env::vars()
        .filter(|(name, value)| name.starts_with("MQTT_") && !value.is_empty())
        .map(|(name, value)| (name, value.into_bytes()))
        .collect()
}

fn files(directory: &Path) -> Values {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let metadata = std::fs::metadata(entry.path()).ok()?;
            let is_credential = metadata.is_file() && metadata.len() <= CREDENTIAL_BYTES;
            let value = is_credential.then(|| std::fs::read(entry.path()).ok())??;
            Some((name, value))
        })
        .collect()
}
