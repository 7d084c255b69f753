//! Puts the process together. In: flags and the environment. Out: a process that takes registrations
//! all the time, and that reigns while it leads and Akri is not there.

use std::sync::Arc;
use std::time::SystemTime;

use akri_mqtt_runtime::metrics::Registry;
use akri_mqtt_runtime::{Health, Shutdown, Tasks, UsageError, usage};
use kube::{Client, Config};

use crate::admin::{self, Admin};
use crate::akri;
use crate::args::Args;
use crate::court::Court;
use crate::discover;
use crate::handlers::Handlers;
use crate::leader::{self, Leadership};
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::registration;
use crate::reign::Throne;
use crate::requests::{self, RequestCounts};
use crate::webhook;
use crate::world::WatchReport;

/// The port of `livez`, `readyz`, `metrics` and `v1/status`.
const ADMIN_PORT: u16 = 8082;

/// Runs the process until `shutdown`.
///
/// # Errors
/// Wrong usage, no way to a cluster, an address or a directory that cannot be used, a part that has died.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let started = SystemTime::now();
    let handler_status = handler_status(&args.handler_status)?;
    let address = args
        .admin
        .unwrap_or_else(|| akri_mqtt_runtime::default_listen(ADMIN_PORT));
    let listener = akri_mqtt_runtime::bind("--admin", address).await?;
    tracing::info!(address = %listener.local_addr()?, "admin port is open");
    let meters = Meters::default();
    let config = Config::infer().await.map_err(usage)?;
    let client = requests::client(config, meters.requests.clone()).map_err(usage)?;

    let tasks = Tasks::new(shutdown.clone());
    let handlers = registrations(&args, &meters, &tasks).await?;
    webhook(&args, &client, &meters, &tasks).await?;
    let leadership = leadership(&args, &client, &tasks);
    let hindrance = akri::start(client.clone(), &tasks);
    let health = Health::new();
    let throne = Throne {
        limiter: Arc::new(Limiter::new(args.api_qps, args.api_qps)),
        namespaces: args.namespace.clone(),
        discovery: discover::Parts {
            handlers,
            client: client.clone(),
            allowed_secret_namespaces: args.allow_secret_namespace.iter().cloned().collect(),
            handler_status,
            metrics: meters.discover.clone(),
        },
        synced: health.condition("cluster", "not looked at yet"),
        identity: Arc::clone(leadership.identity()),
        client,
        metrics: meters.controller.clone(),
        report: WatchReport::default(),
    };
    let court = Court {
        throne,
        akri: health.condition("akri", "not known yet"),
        manage_crds: args.manage_crds,
        leading: leadership.leading(),
        holder: leadership.holder(),
        hindrance,
    };
    let router = akri_mqtt_runtime::admin::router(health, meters.registry(started));
    let router = router.merge(admin::router(admin(&court)));
    let serving = akri_mqtt_runtime::serve(listener, router, shutdown.clone());
    tasks.critical("admin", serving);
    let reigning = async move {
        court.hold(&shutdown).await;
        leadership.release().await;
        Ok(())
    };
    tasks.critical("reign", reigning);
    tasks.join().await
}

/// All that the process counts.
#[derive(Default)]
pub struct Meters {
    requests: RequestCounts,
    controller: Metrics,
    discover: discover::Metrics,
    webhook: webhook::Metrics,
}

impl Meters {
    /// A registry of them all.
    #[must_use]
    pub fn registry(&self, started: SystemTime) -> Registry {
        let mut registry = akri_mqtt_runtime::metrics::registry("akri-mqtt-controller", started);
        self.requests.register(&mut registry);
        self.controller.register(&mut registry);
        self.discover.register(&mut registry);
        self.webhook.register(&mut registry);
        registry
    }
}

fn admin(court: &Court) -> Admin {
    Admin {
        identity: Arc::clone(&court.throne.identity),
        leading: court.leading.clone(),
        holder: court.holder.clone(),
        hindrance: court.hindrance.clone(),
        handlers: court.throne.discovery.handlers.clone(),
        report: court.throne.report.clone(),
        realm: court.throne.metrics.realm().clone(),
    }
}

/// Handlers register with followers too, so that whoever leads next knows them.
async fn registrations(args: &Args, meters: &Meters, tasks: &Tasks) -> anyhow::Result<Handlers> {
    let socket = registration::Socket::bind(&args.handlers_directory).await?;
    let handlers = Handlers::new(meters.discover.clone());
    let shutdown = tasks.shutdown();
    let serving = registration::serve(socket, handlers.clone(), shutdown.clone());
    tasks.critical("registration", serving);
    let reachable = handlers.clone().watch_reachability(shutdown.clone());
    tasks.critical("handlers", reachable);
    Ok(handlers)
}

async fn webhook(
    args: &Args,
    client: &Client,
    meters: &Meters,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let Some(address) = args.webhook else {
        return Ok(());
    };
    let listener = akri_mqtt_runtime::bind("--webhook", address).await?;
    tracing::info!(address = %listener.local_addr()?, "webhook port is open");
    let namespace = lease_namespace(args, client);
    let mut settings = webhook::Settings::new(&namespace, &args.webhook_service);
    if let Some(secret) = &args.webhook_secret {
        settings.secret.clone_from(secret);
    }
    if let Some(configuration) = &args.webhook_configuration {
        settings.configuration.clone_from(configuration);
    }
    let metrics = meters.webhook.clone();
    webhook::start(settings, listener, client.clone(), metrics, tasks);
    Ok(())
}

fn leadership(args: &Args, client: &Client, tasks: &Tasks) -> Leadership {
    let pod = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "akri-mqtt-controller".to_owned());
    if !args.leader_elect {
        return Leadership::alone(&pod);
    }
    let settings = leader::Settings {
        namespace: lease_namespace(args, client),
        name: args.lease_name.clone(),
        pod,
    };
    Leadership::start(&settings, client.clone(), tasks)
}

fn lease_namespace(args: &Args, client: &Client) -> String {
    args.lease_namespace
        .clone()
        .or_else(|| std::env::var("POD_NAMESPACE").ok())
        .unwrap_or_else(|| client.default_namespace().to_owned())
}

fn handler_status(url: &str) -> Result<Option<axum::http::Uri>, UsageError> {
    if url.is_empty() {
        return Ok(None);
    }
    let parsed = url
        .parse::<axum::http::Uri>()
        .ok()
        .filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
    let parsed = parsed.ok_or_else(|| {
        UsageError::new(format!(
            "--handler-status: found {url:?}, allowed is a URL such as http://127.0.0.1:8081"
        ))
    })?;
    Ok(Some(parsed))
}
