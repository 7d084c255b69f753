//! The process: arguments to a running monitor, until the shutdown.

use std::sync::Arc;
use std::time::SystemTime;

use akri_mqtt_runtime::{Health, Shutdown, Tasks, bind, default_listen, metrics, usage};

use crate::args::Args;
use crate::error::MonitorError;
use crate::monitor::Monitor;
use crate::watching::Watching;

const HTTP_PORT: u16 = 8080;
const GRPC_PORT: u16 = 50051;

/// Runs the monitoring broker.
///
/// # Errors
/// Wrong usage, a port or store that is taken, or the death of a task without which it makes no sense.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let devices = args.source(std::env::vars())?;
    if let Some(directory) = &args.credentials_dir {
        std::fs::read_dir(directory).map_err(|error| {
            usage(format!(
                "--credentials-dir {}: {error}",
                directory.display()
            ))
        })?;
    }
    let asked = shutdown.child();
    let tasks = Arc::new(Tasks::new(Shutdown::new()));
    let mut registry = metrics::registry("akri-mqtt-monitoring-broker", SystemTime::now());
    let http = bind("--http", args.http.unwrap_or(default_listen(HTTP_PORT))).await?;
    let grpc = bind("--grpc", args.grpc.unwrap_or(default_listen(GRPC_PORT))).await?;
    tracing::info!(http = %http.local_addr()?, grpc = %grpc.local_addr()?, "starting");
    let opened = Monitor::open(args.options()?, Health::new(), Arc::clone(&tasks)).await;
    let monitor = opened.map_err(MonitorError::or_usage)?;
    monitor.register(&mut registry);
    let address = grpc.local_addr()?;
    let watching = Watching::new(devices, &args, &monitor, &mut registry, address).await?;
    // What is watched ends first, in its own order; the tasks that it needs end after it. One that dies ends both.
    let (stop, ended) = (asked.clone(), tasks.shutdown().clone());
    tasks.spawn("stop", async move {
        ended.triggered().await;
        stop.trigger();
        Ok(())
    });
    // Devices of the environment are known before the ports are open: a first answer names them.
    if let Watching::Environment(watched) = &watching {
        monitor.add_all(watched.clone()).await?;
    }
    monitor.serve(http, grpc, registry);
    drop(tasks);
    let watched = watching.until(&monitor, &asked).await;
    let closed = monitor.close().await;
    watched.and(closed)
}
