//! Which devices the process watches, and for how long. In: flags and environment. Out: devices of the
//! environment for good, those of a file as it changes, or the shards of a pool that fall to this member.

use std::net::SocketAddr;

use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_runtime::metrics::Registry;
use tokio::sync::watch;

use crate::args::Args;
use crate::devices_file::{DevicesFile, Listed, Source, SourceMetrics};
use crate::monitor::Monitor;
use crate::pool::{self, PoolMetrics};
use crate::servers::{Admitted, Servers};

/// Where devices come from, as the command line says.
pub enum From {
    /// The environment, or flags.
    Environment(Vec<DeviceSpec>),
    /// `--devices-file`, which was read once.
    File(Box<(DevicesFile, Listed)>),
}

/// See the module.
pub enum Watching<'a> {
    /// They never change.
    Environment(Vec<Admitted>),
    /// They are those of a file.
    File(Box<(Source, Servers)>),
    /// They are shared with the other members of a pool.
    Pool(Box<pool::Parts<'a>>),
}

impl<'a> Watching<'a> {
    /// What is to be watched, with its metrics registered.
    ///
    /// # Errors
    /// Wrong usage.
    pub fn new(
        from: From,
        args: &Args,
        monitor: &'a Monitor,
        registry: &mut Registry,
        grpc: SocketAddr,
    ) -> anyhow::Result<Self> {
        let mut servers = Servers::new(args.credentials_dir.clone(), monitor.tasks());
        let opened = match from {
            From::Environment(devices) => {
                let admitted = devices.into_iter().map(|device| servers.admit(device));
                return Ok(Self::Environment(admitted.collect::<Result<_, _>>()?));
            }
            From::File(opened) => *opened,
        };
        let metrics = SourceMetrics::default();
        metrics.register(registry);
        let source = Source::new(opened, metrics);
        let Some(directory) = &args.pool_dir else {
            return Ok(Self::File(Box::new((source, servers))));
        };
        let metrics = PoolMetrics::default();
        metrics.register(registry);
        Ok(Self::Pool(Box::new(pool::Parts {
            monitor,
            directory: pool::open(directory, args.shards)?,
            source,
            servers,
            metrics,
            ready: monitor.membership(),
            address: args.advertised(grpc)?,
            live: watch::Sender::default(),
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
                let (source, servers) = *parts;
                source.run(monitor, servers, shutdown).await
            }
            Self::Pool(parts) => {
                let name = monitor.instance().await;
                pool::run(*parts, &name, shutdown).await
            }
        }
    }
}
