//! A running discovery handler, in a process of its own or inside another one.
//! In: a `Config`. Out: a Discover service that is registered with the Agent, and what it knows.
//! The admin port is left to `run`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_runtime::{Condition, Health, Shutdown, Tasks, usage};
use rand::Rng as _;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::info;

use crate::config::Config;
use crate::credentials::Files;
use crate::endpoint::Bound;
use crate::listing::{self, Listing};
use crate::metrics::HandlerMetrics;
use crate::naming::{ClientIds, Instance, cluster_id};
use crate::ordinals::Ordinals;
use crate::pool::{self, Pool};
use crate::registration::Registrar;
use crate::request_view::Scope;
use crate::requests::{self, Requests};
use crate::service::{Service, serve};
use crate::siblings::Siblings;
use crate::state_dir::StateDir;
use crate::streams::Sent;
use crate::view::{DeviceAnswer, DeviceInRequest, PresenceView};
use crate::vital::Vital;

/// Answers questions about devices; clones ask the same handler.
#[derive(Clone)]
pub struct Presences {
    instance: String,
    requests: Requests,
}

impl Presences {
    /// All requests with all their devices.
    pub async fn all(&self) -> PresenceView {
        let mut requests = Vec::new();
        for (mut view, asker) in self.requests.explain(&Scope::Servers).await {
            view.devices = listing::devices(asker).await;
            requests.push(view);
        }
        PresenceView {
            instance: self.instance.clone(),
            requests,
        }
    }

    /// The same as JSON, in pieces.
    pub async fn listing(&self, permit: OwnedSemaphorePermit) -> Listing {
        let requests = self.requests.explain(&Scope::Servers).await;
        Listing::new(self.instance.clone(), requests, permit)
    }

    /// All requests with their servers, without devices.
    pub async fn servers(&self) -> PresenceView {
        let views = self.requests.explain(&Scope::Servers).await;
        PresenceView {
            instance: self.instance.clone(),
            requests: views.into_iter().map(|(view, _)| view).collect(),
        }
    }

    /// What each request that has seen the device knows about it.
    pub async fn one(&self, device: &DeviceId) -> DeviceAnswer {
        let mut requests = Vec::new();
        let scope = Scope::Devices([device.clone()].into());
        for (view, _) in self.requests.explain(&scope).await {
            let mut servers = view.servers.into_iter();
            let server = servers.find(|server| server.name == device.server().as_str());
            if let Some(found) = view.devices.into_iter().next() {
                let request = view.request;
                requests.push(DeviceInRequest {
                    request,
                    device: found,
                    server,
                });
            }
        }
        DeviceAnswer {
            device: device.to_string(),
            requests,
        }
    }
}

/// A handler that serves.
pub struct Handler {
    tasks: Tasks,
    presences: Presences,
    metrics: Option<HandlerMetrics>,
    health: Health,
    endpoint: String,
    _instance: Instance,
}

struct Base {
    state: StateDir,
    instance: Instance,
    files: Files,
    tasks: Tasks,
    vital: Vital,
}

impl Handler {
    /// Binds the endpoint and starts to serve. It stops with `shutdown`; call [`Handler::stopped`] to wait for it.
    ///
    /// # Errors
    /// A path that is too long, an endpoint or an instance that is in use, a system that refuses.
    pub async fn start(config: Config, shutdown: Shutdown) -> anyhow::Result<Self> {
        let base = Base::prepare(&config, shutdown)?;
        let name = base.instance.name().to_owned();
        let bound = Bound::bind(&config.listen, &config.directory, &config.name, &name).await;
        let bound = bound.map_err(|error| usage(format!("{:#}", anyhow::Error::new(error))))?;
        let (endpoint, kind) = bound.endpoint();
        info!(instance = name, endpoint, "discovery handler serves");
        let health = Health::new();
        let pool = Pool::new(base.pool_parts(&config));
        let requests = Requests::new(requests::Parts {
            pool: pool.clone(),
            state: base.state.clone(),
            instance: name.clone(),
            collisions: config.collisions,
            timing: config.timing,
            tap: config.tap.clone(),
            vital: base.vital.clone(),
            health: health.clone(),
            shutdown: base.tasks.shutdown().clone(),
        });
        let sent = Arc::new(Sent::default());
        let service = Service {
            requests: requests.clone(),
            repeat_after: config.timing.repeat_after,
            sent: Arc::clone(&sent),
            shutdown: base.tasks.shutdown().clone(),
        };
        base.tasks.critical("gRPC server", serve(bound, service));
        base.tasks.critical("requests", requests.clone().run());
        base.watch_files(&config, &health);
        base.watch_agent(&config, &requests, &health, (endpoint.clone(), kind));
        Ok(Self {
            tasks: base.tasks,
            presences: Presences {
                instance: name,
                requests: requests.clone(),
            },
            metrics: Some(HandlerMetrics {
                pool,
                requests,
                sent,
            }),
            health,
            endpoint,
            _instance: base.instance,
        })
    }

    /// Answers questions about devices.
    #[must_use]
    pub fn presence(&self) -> Presences {
        self.presences.clone()
    }

    /// Its readiness.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Its metrics, once: a registry owns them.
    pub fn take_metrics(&mut self) -> Option<HandlerMetrics> {
        self.metrics.take()
    }

    /// Its tasks, to which the process may add.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Socket path or URL of its Discover service.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Waits for the shutdown, and then until everything has stopped.
    ///
    /// # Errors
    /// Why it stopped, if a task has died.
    pub async fn stopped(self) -> anyhow::Result<()> {
        self.tasks.join().await
    }

    /// Stops it and waits until it has stopped, within 5 s.
    ///
    /// # Errors
    /// As [`Handler::stopped`].
    pub async fn close(self) -> anyhow::Result<()> {
        self.tasks.shutdown().trigger();
        self.stopped().await
    }
}

impl Base {
    fn prepare(config: &Config, shutdown: Shutdown) -> anyhow::Result<Self> {
        let state = match &config.state_dir {
            Some(path) if !config.transient => StateDir::open(path),
            _ => StateDir::in_memory(),
        };
        let claimed = Instance::claim(&config.instance, &config.node, &state);
        let instance = claimed.map_err(usage)?;
        let tasks = Tasks::new(shutdown.clone());
        let files = match &config.credentials_dir {
            Some(directory) => {
                let hosts = config.credentials_hosts.clone();
                let (files, reading) = Files::watch(directory.clone(), hosts, shutdown);
                tasks.critical("credentials", reading);
                files
            }
            None => Files::none(),
        };
        let vital = Vital::new(&tasks);
        Ok(Self {
            state,
            instance,
            files,
            tasks,
            vital,
        })
    }

    fn pool_parts(&self, config: &Config) -> pool::Parts {
        let instance = self.instance.name().to_owned();
        let random = || format!("{:08x}", rand::rng().random::<u32>());
        pool::Parts {
            ordinals: Ordinals::load(&instance, &self.state),
            ids: ClientIds {
                cluster: cluster_id(config.cluster.as_deref(), &self.state),
                namespace: config.namespace.clone(),
                instance,
                short: config.short_client_id,
            },
            transient: config.transient.then(random),
            files: self.files.clone(),
            state: self.state.clone(),
            vital: self.vital.clone(),
            shutdown: self.tasks.shutdown().clone(),
        }
    }

    /// Without a directory there is nothing to say.
    fn watch_files(&self, config: &Config, health: &Health) {
        if config.credentials_dir.is_none() {
            return;
        }
        let condition = health.condition("credentials", "not read yet");
        let shutdown = self.tasks.shutdown().clone();
        let told = tell_files(self.files.clone(), condition, shutdown);
        self.tasks.critical("readiness of credentials", told);
    }

    fn watch_agent(
        &self,
        config: &Config,
        requests: &Requests,
        health: &Health,
        endpoint: (String, EndpointType),
    ) {
        let shutdown = self.tasks.shutdown().clone();
        let (missing_in, missing) = watch::channel(BTreeSet::new());
        let (accepted_in, accepted) = watch::channel(false);
        let directory: PathBuf = config.directory.clone();
        let registrar = Registrar {
            directory,
            name: config.name.clone(),
            endpoint: endpoint.0,
            endpoint_type: endpoint.1,
            interval: config.timing.reregister,
            open_streams: requests.open_streams(),
            missing,
            accepted: accepted_in,
        };
        let token = shutdown.token();
        self.tasks.critical("registration", async move {
            registrar.run(token).await;
            Ok(())
        });
        let siblings = Siblings {
            state: self.state.clone(),
            name: config.name.clone(),
            instance: self.instance.name().to_owned(),
            interval: config.timing.siblings,
            serving: requests.serving(),
            missing: missing_in,
        };
        let over = shutdown.clone();
        self.tasks.critical("siblings", async move {
            siblings.run(over).await;
            Ok(())
        });
        let condition = health.condition("agent", "not registered with the Agent yet");
        let told = tell_condition(accepted, condition, shutdown);
        self.tasks.critical("readiness", told);
    }
}

/// Files that cannot be read do no harm to the sessions there are: ready all the same.
async fn tell_files(
    mut files: Files,
    condition: Condition,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        match files.readable() {
            Ok(count) => condition.ready(format!("{count} files")),
            Err(why) => condition.ready(format!("what was read before holds: {why}")),
        }
        tokio::select! {
            () = shutdown.triggered() => return Ok(()),
            () = files.changed() => {}
        }
    }
}

async fn tell_condition(
    mut accepted: watch::Receiver<bool>,
    condition: Condition,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        if *accepted.borrow_and_update() {
            condition.ready("registered");
        } else {
            condition.not_ready("not registered with the Agent");
        }
        tokio::select! {
            () = shutdown.triggered() => return Ok(()),
            changed = accepted.changed() => if changed.is_err() {
                shutdown.triggered().await;
                return Ok(());
            },
        }
    }
}
