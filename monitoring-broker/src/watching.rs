//! Which devices the process watches, and for how long. In: flags and environment. Out: devices of the
//! environment for good, those of a file as it changes, or the shards of a pool that fall to this member.

use std::net::SocketAddr;

use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::metrics::Registry;
use akri_mqtt_runtime::{Condition, Shutdown, usage};
use kube::Client;
use tokio::sync::watch;

use crate::args::Args;
use crate::devices_file::DevicesFile;
use crate::instances::Instances;
use crate::monitor::Monitor;
use crate::pool::{self, Cluster, Place, PoolMetrics};
use crate::servers::{Admitted, Servers};
use crate::source::{Listed, Source, SourceMetrics};

/// Where devices come from, as the command line says.
pub enum From {
    /// The environment, or flags.
    Environment(Vec<DeviceSpec>),
    /// `--devices-file`, which was read once.
    File(Box<(DevicesFile, Listed)>),
    /// `--pool`
    Configuration(String),
}

/// See the module.
pub enum Watching<'a> {
    /// They never change.
    Environment(Vec<Admitted>),
    /// They are those of a file.
    File(Box<(Source, Servers, Condition)>),
    /// They are shared with the other members of a pool.
    Pool(Box<pool::Parts<'a>>),
}

impl<'a> Watching<'a> {
    /// What is to be watched, with its metrics registered.
    ///
    /// # Errors
    /// Wrong usage.
    pub async fn new(
        from: From,
        args: &Args,
        monitor: &'a Monitor,
        registry: &mut Registry,
        grpc: SocketAddr,
    ) -> anyhow::Result<Self> {
        let mut servers = Servers::new(args.credentials_dir.clone(), monitor.tasks());
        let metrics = SourceMetrics::default();
        let (place, source) = match from {
            From::Environment(devices) => {
                let admitted = devices.into_iter().map(|device| servers.admit(device));
                return Ok(Self::Environment(admitted.collect::<Result<_, _>>()?));
            }
            From::File(opened) => {
                metrics.register(registry);
                let source = Source::of_file(*opened, metrics);
                let Some(directory) = &args.pool_dir else {
                    let ready = monitor.listing();
                    return Ok(Self::File(Box::new((source, servers, ready))));
                };
                let directory = pool::open(directory, args.shards)?;
                (Place::Directory(directory), source)
            }
            From::Configuration(name) => {
                metrics.register(registry);
                let (client, namespace) = cluster().await?;
                let cluster = Cluster::new(client.clone(), &namespace, &name, args.shards)?;
                let instances = Instances::new(client, &namespace, &name, monitor.instances());
                let source = Source::of_instances(instances, metrics);
                (Place::Cluster(cluster), source)
            }
        };
        let metrics = PoolMetrics::default();
        metrics.register(registry);
        Ok(Self::Pool(Box::new(pool::Parts {
            monitor,
            place,
            source,
            servers,
            metrics,
            ready: monitor.membership(),
            address: args.advertised(grpc)?,
            live: watch::Sender::default(),
            tls: monitor.peer_tls(&args.access, args.peer_ca.as_deref())?,
        })))
    }

    /// Watches them until the shutdown.
    ///
    /// # Errors
    /// When the store fails, or another process has the name of this member.
    pub async fn until(self, monitor: &Monitor, shutdown: &Shutdown) -> anyhow::Result<()> {
        match self {
            Self::Environment(_) => {
                shutdown.triggered().await;
                Ok(())
            }
            Self::File(parts) => {
                let (source, servers, ready) = *parts;
                source.run(monitor, servers, ready, shutdown).await
            }
            Self::Pool(parts) => {
                let name = monitor.instance().await;
                pool::run(*parts, &name, shutdown).await
            }
        }
    }
}

/// The API server, and the namespace of this pod.
async fn cluster() -> anyhow::Result<(Client, String)> {
    let config = kube::Config::infer().await;
    let config = config.map_err(|error| usage(format!("--pool: no way to a cluster: {error}")))?;
    let own = std::env::var("POD_NAMESPACE").ok();
    let namespace = own.filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if namespace.len() > 63 || !namespace.chars().all(is_plain) {
        return Err(usage(format!(
            "--pool: POD_NAMESPACE {namespace:?}: a namespace has at most 63 characters out of a-z, 0-9 and `-`"
        ))
        .into());
    }
    tracing::info!(namespace, api = %config.cluster_url, "looking for the pool");
    let client = Client::try_from(config);
    let client = client.map_err(|error| usage(format!("--pool: no way to a cluster: {error}")))?;
    Ok((client, namespace))
}
