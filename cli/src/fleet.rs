//! Keeps a monitor running for each device that is there. In: lists of devices. Out: monitors that started and stopped, as events.
//! Which ones those are is decided in `roster`; what a monitor does, in the monitoring broker.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use akri_mqtt_core::credentials::Credentials;
use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_monitoring_broker::access::AccessFiles;
use akri_mqtt_monitoring_broker::talk::TalkOptions;
use akri_mqtt_monitoring_broker::{Monitor, MonitorError, MonitorOptions, SinkOptions};
use akri_mqtt_proto::akri::Device;
use akri_mqtt_runtime::{Health, Shutdown, Tasks, metrics};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use crate::agent::List;
use crate::credentials::Accounts;
use crate::report::{Event, Kind};
use crate::roster::{self, Step, Template, Wanted};

/// What is presented to a server, now and later.
type Presented = watch::Receiver<Credentials>;

/// What a fleet is made of.
pub struct FleetParts<'a> {
    /// One per Configuration.
    pub templates: Vec<Template>,
    /// What is presented to the servers.
    pub accounts: Accounts,
    /// The directory of the store.
    pub data_dir: &'a Path,
    /// Where every message is sent on.
    pub sinks: Vec<SinkOptions>,
    /// Serves the HTTP API.
    pub http: TcpListener,
    /// Serves the gRPC API.
    pub grpc: TcpListener,
    /// Who may use both.
    pub access: AccessFiles,
    /// What the monitors may say on MQTT.
    pub talk: TalkOptions,
}

/// The monitors of all Configurations.
pub struct Fleet {
    monitor: Monitor,
    tasks: Arc<Tasks>,
    templates: Vec<Template>,
    accounts: Accounts,
    lists: Vec<Vec<Device>>,
    running: BTreeMap<DeviceId, Wanted>,
}

impl Fleet {
    /// Opens the store and serves it; there are no devices yet.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub async fn start(parts: FleetParts<'_>) -> anyhow::Result<Self> {
        let options = MonitorOptions {
            access: parts.access,
            talk: parts.talk,
            sinks: parts.sinks,
            ..MonitorOptions::new(parts.data_dir)
        };
        let tasks = Arc::new(Tasks::new(Shutdown::new()));
        let opened = Monitor::open(options, Health::new(), Arc::clone(&tasks)).await;
        let monitor = opened.map_err(MonitorError::or_usage)?;
        let mut registry = metrics::registry("akri-mqtt", SystemTime::now());
        monitor.register(&mut registry);
        monitor.serve(parts.http, parts.grpc, registry);
        Ok(Self {
            monitor,
            tasks,
            lists: vec![Vec::new(); parts.templates.len()],
            templates: parts.templates,
            accounts: parts.accounts,
            running: BTreeMap::new(),
        })
    }

    /// Takes in lists, and starts and stops monitors accordingly. All that start do so together: a session that is resumed has
    /// to know its devices before the server sends what it has queued for them.
    ///
    /// # Errors
    /// The store or the data directory failed.
    pub async fn apply(&mut self, lists: Vec<List>) -> anyhow::Result<Vec<(DeviceId, Event)>> {
        for list in lists {
            if let Some(devices) = self.lists.get_mut(list.request) {
                *devices = list.devices;
            }
        }
        let wanted = roster::wanted(&self.templates, &self.lists);
        let mut events = Vec::new();
        let mut starting = Vec::new();
        for step in roster::steps(&self.running, &wanted) {
            let (id, kind) = match step {
                Step::Stop(id) => {
                    self.monitor.remove(&id).await?;
                    self.running.remove(&id);
                    (id, Kind::Offline { reason: None })
                }
                Step::Start(id) => {
                    let Some(device) = wanted.get(&id) else {
                        continue;
                    };
                    match self.prepare(device) {
                        Ok(prepared) => starting.push(prepared),
                        Err(error) => {
                            warn!(device = %id, error = format!("{error:#}"), "no monitor for this device");
                            continue;
                        }
                    }
                    let instance = device.instance.clone();
                    self.running.insert(id.clone(), device.clone());
                    (id, Kind::Online { instance })
                }
            };
            let event = Event {
                time: Timestamp::now(),
                device: id.to_string(),
                kind,
            };
            events.push((id, event));
        }
        self.monitor.add_all(starting).await?;
        Ok(events)
    }

    fn prepare(&mut self, device: &Wanted) -> anyhow::Result<(DeviceSpec, Presented)> {
        let spec = DeviceSpec::from_properties(&device.properties)?;
        let credentials = self.accounts.of(device.configuration, &spec.server)?;
        Ok((spec, credentials))
    }

    /// Returns when the store or a server of the APIs has failed. Until then it passes on credentials that change.
    pub async fn watch(&mut self) {
        let failed = self.tasks.shutdown().clone();
        let follow = async {
            loop {
                self.accounts.follow_files().await;
            }
        };
        tokio::select! {
            () = failed.triggered() => {}
            () = follow => {}
        }
    }

    /// Stops all monitors and closes the store.
    ///
    /// # Errors
    /// What had failed before.
    pub async fn close(self) -> anyhow::Result<()> {
        self.tasks.shutdown().trigger();
        let tasks = Tasks::clone(&self.tasks);
        drop(self.monitor);
        tasks.join().await
    }
}
