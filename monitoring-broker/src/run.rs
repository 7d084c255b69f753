//! The process: arguments to a running monitor, until the shutdown.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use akri_mqtt_core::credentials::{Credentials, Hosts, Sources, Values};
use akri_mqtt_core::details::Server;
use akri_mqtt_runtime::{Health, Shutdown, Tasks, bind, default_listen, metrics, usage};
use tokio::sync::watch;

use crate::args::Args;
use crate::monitor::{Monitor, MonitorError};

const HTTP_PORT: u16 = 8080;
const GRPC_PORT: u16 = 50051;
/// How often the files of `--credentials-dir` are looked at; a mounted Secret changes once in a while.
const CREDENTIALS_EVERY: Duration = Duration::from_secs(10);
/// A credential's file is not read beyond this.
const CREDENTIAL_BYTES: u64 = 1 << 20;

/// Runs the monitoring broker.
///
/// # Errors
/// Wrong usage, a port or store that is taken, or the death of a task without which it makes no sense.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let devices = args.devices(std::env::vars())?;
    if let Some(directory) = &args.credentials_dir {
        std::fs::read_dir(directory).map_err(|error| {
            usage(format!(
                "--credentials-dir {}: {error}",
                directory.display()
            ))
        })?;
    }
    let tasks = Arc::new(Tasks::new(shutdown));
    let mut registry = metrics::registry("akri-mqtt-monitoring-broker", SystemTime::now());
    let http = bind("--http", args.http.unwrap_or(default_listen(HTTP_PORT))).await?;
    let grpc = bind("--grpc", args.grpc.unwrap_or(default_listen(GRPC_PORT))).await?;
    tracing::info!(http = %http.local_addr()?, grpc = %grpc.local_addr()?, devices = devices.len(), "starting");
    let opened = Monitor::open(args.options()?, Health::new(), Arc::clone(&tasks)).await;
    let monitor = opened.map_err(|error| match error {
        MonitorError::Access(error) => anyhow::Error::from(usage(error)),
        error => error.into(),
    })?;
    monitor.register(&mut registry);
    let mut servers: BTreeMap<String, watch::Receiver<Credentials>> = BTreeMap::new();
    let mut watched = Vec::new();
    for device in devices {
        let key = device.session_key().to_string();
        let known = match servers.get(&key) {
            Some(known) => known.clone(),
            None => {
                let made = credentials(&device.server, args.credentials_dir.as_deref(), &tasks)?;
                servers.insert(key, made.clone());
                made
            }
        };
        watched.push((device, known));
    }
    monitor.add_all(watched).await?;
    monitor.serve(http, grpc, registry);
    tasks.shutdown().triggered().await;
    drop(tasks);
    monitor.close().await
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
