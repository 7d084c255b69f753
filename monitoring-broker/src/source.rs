//! The devices of a list as they stand, and what changes. In: a file that is looked at, or the Instances of a
//! Configuration. Out: what is to be watched, and no longer watched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::{Condition, Shutdown};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use crate::devices_file::{DevicesFile, FileError};
use crate::instances::Instances;
use crate::monitor::Monitor;
use crate::servers::Servers;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The devices of a list.
pub type Listed = BTreeMap<DeviceId, DeviceSpec>;

/// What a list counts.
#[derive(Clone, Debug, Default)]
pub struct SourceMetrics {
    devices: Gauge,
    refused: Gauge,
    errors: Counter,
}

impl SourceMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "devices_listed",
            "Devices in the file of --devices-file as it was last good, or of the Instances of --pool",
            self.devices.clone(),
        );
        registry.register(
            "devices_refused",
            "Instances of --pool that cannot be read, name the device of another one, or are beyond the limit",
            self.refused.clone(),
        );
        registry.register(
            "devices_file_errors",
            "Changes of the file of --devices-file that were wrong, so that the last good one stood",
            self.errors.clone(),
        );
    }
}

/// What is to be done about a change, the first part first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// No longer there.
    pub gone: BTreeSet<DeviceId>,
    /// New, or other than they were.
    pub new: Listed,
}

impl Changes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }

    fn between(before: &Listed, now: &Listed) -> Self {
        let gone = before.keys().filter(|id| !now.contains_key(id));
        let new = now.iter();
        let new = new.filter(|(id, device)| before.get(id) != Some(device));
        Self {
            gone: gone.cloned().collect(),
            new: new
                .map(|(id, device)| (id.clone(), device.clone()))
                .collect(),
        }
    }
}

/// Where the list comes from.
enum Feed {
    File(LookedAt),
    Instances(Box<Instances>),
}

/// See the module.
pub struct Source {
    feed: Feed,
    listed: Listed,
    metrics: SourceMetrics,
}

impl Source {
    /// A file that was opened.
    #[must_use]
    pub fn of_file((file, listed): (DevicesFile, Listed), metrics: SourceMetrics) -> Self {
        let source = Self {
            feed: Feed::File(LookedAt::new(file)),
            listed,
            metrics,
        };
        source.count();
        source
    }

    /// Instances, of which none is known yet.
    #[must_use]
    pub fn of_instances(instances: Instances, metrics: SourceMetrics) -> Self {
        Self {
            feed: Feed::Instances(Box::new(instances)),
            listed: Listed::new(),
            metrics,
        }
    }

    /// The list as it stands: of a file the last good one.
    #[must_use]
    pub fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Waits until there is a list.
    pub async fn known(&mut self) {
        if let Feed::Instances(_) = self.feed {
            self.changed().await;
        }
    }

    /// Waits for a change. May be dropped and called again at any time.
    pub async fn changed(&mut self) -> Changes {
        let changes = match &mut self.feed {
            Feed::Instances(instances) => {
                let changes = instances.changed(&mut self.listed).await;
                self.metrics.refused.set(number(instances.refused()));
                changes
            }
            Feed::File(file) => loop {
                match file.changed().await {
                    Ok(listed) => {
                        tracing::info!(devices = listed.len(), "the list of devices has changed");
                        let before = std::mem::replace(&mut self.listed, listed);
                        break Changes::between(&before, &self.listed);
                    }
                    Err(error) => {
                        self.metrics.errors.inc();
                        tracing::error!(%error, "the list of devices is wrong; the last good one stands");
                    }
                }
            },
        };
        self.count();
        changes
    }

    fn count(&self) {
        self.metrics.devices.set(number(self.listed.len()));
    }

    /// Watches all devices of the list until the shutdown: for a process that is in no pool.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(
        mut self,
        monitor: &Monitor,
        mut servers: Servers,
        ready: Condition,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let mut changes = Changes::between(&Listed::new(), &self.listed);
        loop {
            for id in &changes.gone {
                monitor.remove(id).await?;
            }
            let new = changes.new.into_values().collect();
            monitor.add_all(servers.admit_all(new)).await?;
            // From here on the sessions say whether everything is subscribed.
            ready.ready("its devices are watched");
            changes = tokio::select! {
                () = shutdown.triggered() => return Ok(()),
                changes = self.changed() => changes,
            };
        }
    }
}

/// A file that is looked at again and again, beside everything else: a disk may be slow.
struct LookedAt {
    /// None while it is being looked at, or when that has died.
    file: Option<DevicesFile>,
    looking: Option<JoinHandle<Looked>>,
    beat: Interval,
}

type Looked = (DevicesFile, Option<Result<Listed, FileError>>);

impl LookedAt {
    fn new(file: DevicesFile) -> Self {
        let mut beat = tokio::time::interval(LOOK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            file: Some(file),
            looking: None,
            beat,
        }
    }

    /// What is new in it, or wrong.
    async fn changed(&mut self) -> Result<Listed, FileError> {
        loop {
            if let Some(looking) = &mut self.looking {
                let looked = looking.await;
                self.looking = None;
                match looked {
                    Ok((file, looked)) => {
                        self.file = Some(file);
                        if let Some(looked) = looked {
                            return looked;
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "the list of devices is not looked at any more");
                    }
                }
            }
            self.beat.tick().await;
            let Some(mut file) = self.file.take() else {
                return std::future::pending().await;
            };
            self.looking = Some(tokio::task::spawn_blocking(move || {
                let looked = file.look();
                (file, looked)
            }));
        }
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
