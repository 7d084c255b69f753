//! One store, its sessions and its two servers in one process. In: devices that are added and removed at
//! run time, bound listeners. Out: gRPC and HTTP over all of them. What starts it is left to the caller.

mod opening;
mod sessions;
mod shards;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use akri_mqtt_core::decode::Decoder;
use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::metrics::{self, Registry};
use akri_mqtt_runtime::{Health, JOIN_WITHIN, Shutdown, Tasks};
use akri_mqtt_session::Credentials;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use crate::access::{Access, AccessFiles, PortName};
use crate::api::service::{Decoders, restore_births};
use crate::api::{self, Service};
use crate::devices::Devices;
use crate::error::MonitorError;
use crate::ingest::{ClientIds, Identity, Scope};
use crate::kept::{restore_devices, watch_store};
use crate::metrics::{IngestMetrics, StoreMetrics};
use crate::session_options::options_text;
use crate::sink::{self, SinkMetrics, SinkOptions};
use crate::store::{Config, Store};
use crate::talk::{Commands, TalkOptions};
use sessions::Sessions;

/// How long a stop waits for the sinks: less than [`JOIN_WITHIN`].
const DRAIN: Duration = Duration::from_secs(3);

/// After that the store is closed.
const AFTER_DRAIN: Duration = Duration::from_millis(1_500);

/// How a monitor behaves.
#[derive(Clone, Debug)]
pub struct MonitorOptions {
    /// The store.
    pub data_dir: PathBuf,
    /// Older messages are deleted.
    pub retain_for: Duration,
    /// Most bytes on the disk.
    pub retain_bytes: u64,
    /// A batch is committed so long after its first message at the latest.
    pub commit_window: Duration,
    /// How payloads are read.
    pub decoders: Decoders,
    /// Parts of the client ids.
    pub identity: Identity,
    /// What it says itself on MQTT.
    pub talk: TalkOptions,
    /// Who may use the ports.
    pub access: AccessFiles,
    /// Where every message is sent on.
    pub sinks: Vec<SinkOptions>,
    /// How long a stop waits for the sinks.
    pub drain_timeout: Duration,
}

impl MonitorOptions {
    /// The defaults of the command line.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            retain_for: Duration::from_secs(86_400),
            retain_bytes: 256 << 20,
            commit_window: Duration::from_millis(10),
            decoders: Decoders::default(),
            identity: Identity::default(),
            talk: TalkOptions::default(),
            access: AccessFiles::default(),
            sinks: Vec::new(),
            drain_timeout: DRAIN,
        }
    }
}

/// See the module.
pub struct Monitor {
    service: Service,
    access: Access,
    health: Health,
    tasks: Arc<Tasks>,
    ids: Mutex<ClientIds>,
    sessions: Mutex<Sessions>,
    ingest: IngestMetrics,
    store_metrics: StoreMetrics,
    sink_metrics: SinkMetrics,
    join_within: Duration,
}

impl Monitor {
    /// Opens the store. Its tasks are joined by the caller.
    ///
    /// # Errors
    /// When the store is in use, or the directory cannot be written.
    pub async fn open(
        options: MonitorOptions,
        health: Health,
        tasks: Arc<Tasks>,
    ) -> Result<Self, MonitorError> {
        let access = Access::open(&options.access, &tasks)?;
        let store_metrics = StoreMetrics::default();
        let store = Store::open(Config {
            directory: options.data_dir.clone(),
            retain_for: options.retain_for,
            retain_bytes: options.retain_bytes,
            commit_window: options.commit_window,
            clock: Arc::new(|| i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)),
            observer: {
                let decoders = options.decoders.clone();
                Arc::new(move |sequence, topic, payload| {
                    if decoders.of(topic) == Decoder::SparkplugB {
                        decoders.births().learn(topic, sequence, payload);
                    }
                })
            },
            metrics: store_metrics.clone(),
        })?;
        restore_births(&store, &options.decoders).await?;
        let devices = Arc::new(Devices::default());
        restore_devices(&store, &devices).await?;
        let ids = ClientIds::open(&options.data_dir, &options.identity)?;
        let shutdown = tasks.shutdown().clone();
        let (sink_metrics, drain) = (SinkMetrics::default(), options.drain_timeout);
        let decoders = options.decoders;
        let mut service = Service::new(store.clone(), devices, decoders, shutdown.clone());
        service.commands = Commands::new(options.talk);
        let sinks = sink::start(options.sinks, &service, &sink_metrics, &tasks, drain).await?;
        let watched = watch_store(store, health.clone(), shutdown, sinks.ended());
        tasks.critical("store", watched);
        Ok(Self {
            service,
            access,
            sink_metrics,
            join_within: JOIN_WITHIN.max(drain.saturating_add(AFTER_DRAIN)),
            health,
            tasks,
            ids: Mutex::new(ids),
            sessions: Mutex::default(),
            ingest: IngestMetrics::default(),
            store_metrics,
        })
    }

    /// Opens the store and serves both ports, with tasks of its own: for a program that does more than this.
    ///
    /// # Errors
    /// As [`Monitor::open`].
    pub async fn start(
        options: MonitorOptions,
        http: TcpListener,
        grpc: TcpListener,
        shutdown: &Shutdown,
    ) -> Result<Self, MonitorError> {
        let tasks = Arc::new(Tasks::new(shutdown.child()));
        let monitor = Self::open(options, Health::new(), tasks).await?;
        let mut registry = metrics::registry("akri-mqtt-monitoring-broker", SystemTime::now());
        monitor.register(&mut registry);
        monitor.serve(http, grpc, registry);
        Ok(monitor)
    }

    /// Stops the tasks of a started monitor: sessions keep their persistence, what waits is committed.
    ///
    /// # Errors
    /// The reason why a task had ended before.
    pub async fn close(self) -> anyhow::Result<()> {
        let Self {
            tasks, join_within, ..
        } = self;
        tasks.shutdown().trigger();
        match Arc::try_unwrap(tasks) {
            Ok(tasks) => tasks.join_within(join_within).await,
            // Whoever shares them joins them.
            Err(_) => Ok(()),
        }
    }

    /// The API without its servers.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What runs beside it and ends with it.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Registers all metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.store_metrics.register(registry);
        self.sink_metrics.register(registry);
        self.ingest.register(registry);
        self.service.metrics.register(registry);
        self.service.decoders.register(registry);
        self.service.commands.register(registry);
        self.access.metrics().register(registry);
    }

    /// Watches one more device; see [`Monitor::add_all`].
    ///
    /// # Errors
    /// When the store or the data directory fails.
    pub async fn add(
        &self,
        device: DeviceSpec,
        credentials: watch::Receiver<Credentials>,
    ) -> Result<(), MonitorError> {
        self.add_all(vec![(device, credentials)]).await
    }

    /// Watches devices. Those of one server, prefix and options share a session and the credentials of the first.
    /// After a restart give all of them at once: a session connects with its devices known, and what the
    /// server has queued for one that is not known yet would be nobody's: it is acknowledged and not stored.
    /// A device that is watched already takes its new form without a gap if it stays in its session.
    ///
    /// # Errors
    /// When the store or the data directory fails.
    pub async fn add_all(
        &self,
        devices: Vec<(DeviceSpec, watch::Receiver<Credentials>)>,
    ) -> Result<(), MonitorError> {
        self.add_in(None, devices).await
    }

    async fn add_in(
        &self,
        scope: Option<&Scope>,
        devices: Vec<(DeviceSpec, watch::Receiver<Credentials>)>,
    ) -> Result<(), MonitorError> {
        let mut groups: BTreeMap<String, Vec<(DeviceSpec, watch::Receiver<Credentials>)>> =
            BTreeMap::new();
        for (device, credentials) in devices {
            let options = options_text(&device.mqtt);
            let instance = scope.map_or("", |scope| &scope.instance);
            let key = format!("{instance} {} {options}", device.session_key());
            let before = self.sessions.lock().await.of(&device.id).cloned();
            if before.is_some_and(|before| before != key) {
                self.remove(&device.id).await?;
            }
            groups.entry(key).or_default().push((device, credentials));
        }
        let mut sessions = self.sessions.lock().await;
        for (key, group) in groups {
            if sessions.has(&key) {
                for (device, _) in group {
                    sessions.add(&key, device).await?;
                }
                continue;
            }
            sessions.ended(&key).await;
            let ids = group.iter().map(|(device, _)| device.id.clone()).collect();
            if let Some(session) = self.open_session(scope, group).await? {
                sessions.open(key, session, ids);
            }
        }
        Ok(())
    }

    /// Stops with a device; its messages stay until retention deletes them. With its last device a session ends,
    /// beside everything else: it tells the server to queue nothing more for it, and waits some seconds for the answer.
    ///
    /// # Errors
    /// None at present; a session that has ended has nothing to stop.
    pub async fn remove(&self, device: &DeviceId) -> Result<(), MonitorError> {
        self.sessions.lock().await.remove(device).await;
        Ok(())
    }

    /// Serves both ports until the shutdown.
    pub fn serve(&self, http: TcpListener, grpc: TcpListener, registry: Registry) {
        let (service, health) = (&self.service, &self.health);
        let registry = Arc::new(registry);
        let (port, gate) = self.access.front(PortName::Http, http);
        let served = api::http::run(port, service.clone(), health.clone(), registry, gate);
        self.tasks.critical("http", served);
        let (port, gate) = self.access.front(PortName::Grpc, grpc);
        let served = api::grpc::run(port, service.clone(), health.clone(), gate);
        self.tasks.critical("grpc", served);
    }
}
