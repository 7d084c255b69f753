//! The devices of a file as they stand: the last good list, and what a new one changes. In: a file that is
//! looked at. Out: what is to be watched, and no longer watched.

use std::time::Duration;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::Shutdown;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{DevicesFile, FileError, Listed};
use crate::monitor::Monitor;
use crate::servers::Servers;

/// How often the file is looked at where nothing else gives the beat.
const LOOK: Duration = Duration::from_millis(500);

/// What a list of devices counts.
#[derive(Clone, Debug, Default)]
pub struct SourceMetrics {
    devices: Gauge,
    errors: Counter,
}

impl SourceMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "devices_listed",
            "Devices in the file of --devices-file as it was last good",
            self.devices.clone(),
        );
        registry.register(
            "devices_file_errors",
            "Changes of the file of --devices-file that were wrong, so that the last good one stood",
            self.errors.clone(),
        );
    }
}

/// See the module.
pub struct Source {
    /// None while it is being looked at.
    file: Option<DevicesFile>,
    listed: Listed,
    metrics: SourceMetrics,
}

impl Source {
    /// A file that was opened.
    #[must_use]
    pub fn new((file, listed): (DevicesFile, Listed), metrics: SourceMetrics) -> Self {
        let source = Self {
            file: Some(file),
            listed,
            metrics,
        };
        source.count();
        source
    }

    /// The last good list.
    #[must_use]
    pub fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Looks at the file. Returns the list before if there is a new one.
    pub async fn look(&mut self) -> Option<Listed> {
        let mut file = self.file.take()?;
        let looked = tokio::task::spawn_blocking(move || {
            let looked = file.look();
            (file, looked)
        });
        let (file, looked) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "the list of devices is not looked at any more");
                return None;
            }
        };
        self.file = Some(file);
        match looked? {
            Ok(listed) => {
                tracing::info!(devices = listed.len(), "the list of devices has changed");
                let before = std::mem::replace(&mut self.listed, listed);
                self.count();
                Some(before)
            }
            Err(error) => {
                self.refused(&error);
                None
            }
        }
    }

    fn refused(&self, error: &FileError) {
        self.metrics.errors.inc();
        tracing::error!(%error, "the list of devices is wrong; the last good one stands");
    }

    fn count(&self) {
        let count = i64::try_from(self.listed.len()).unwrap_or(i64::MAX);
        self.metrics.devices.set(count);
    }

    /// Which devices have gone since a list, and which are new or other than they were.
    #[must_use]
    pub fn changes(&self, before: &Listed) -> (Vec<DeviceId>, Vec<DeviceSpec>) {
        let gone = before.keys().filter(|id| !self.listed.contains_key(id));
        let new = self
            .listed
            .iter()
            .filter(|(id, device)| before.get(id) != Some(device));
        (
            gone.cloned().collect(),
            new.map(|(_, device)| device.clone()).collect(),
        )
    }

    /// Watches all devices of the file until the shutdown: for a process that is in no pool.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(
        mut self,
        monitor: &Monitor,
        mut servers: Servers,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let mut before = Listed::new();
        loop {
            let (gone, new) = self.changes(&before);
            for id in &gone {
                monitor.remove(id).await?;
            }
            monitor.add_all(servers.admit_all(new)).await?;
            before = loop {
                tokio::select! {
                    () = shutdown.triggered() => return Ok(()),
                    () = tokio::time::sleep(LOOK) => {}
                }
                if let Some(before) = self.look().await {
                    break before;
                }
            };
        }
    }
}
