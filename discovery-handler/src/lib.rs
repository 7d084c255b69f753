//! Akri's discovery handler for MQTT devices: tells an Agent which devices are there.
//!
//! In: Discover calls of Akri's protocol `v0`, and what MQTT servers say. Out: lists of devices.
//! `Args` and [`run`] make the process; [`Handler`] is the same inside another process.
//!
//! The way of an event: an MQTT session (`pool`, `shared`) tells every request that wants it
//! (`request`); `core::presence` decides; `publisher` and `admission` make lists of it; each
//! Discover stream (`streams`) sends them on. No arrow points back.

pub mod account;
pub mod admin;
pub mod admission;
pub mod asked;
pub mod authority;
pub mod comebacks;
pub mod config;
pub mod credentials;
pub mod endpoint;
pub mod handler;
pub mod host;
pub mod listing;
pub mod login;
pub mod metrics;
pub mod naming;
pub mod observed;
pub mod ordinals;
pub mod pool;
pub mod publisher;
pub mod registration;
pub mod request;
pub mod request_view;
pub mod requests;
pub mod rosters;
pub mod running;
pub mod saving;
pub mod service;
pub mod session_options;
pub mod session_state;
pub mod shared;
pub mod siblings;
pub mod state_dir;
pub mod streams;
pub mod subscriptions;
pub mod tally;
pub mod tap;
pub mod twins;
pub mod view;
pub mod vital;
pub mod voice;

use std::time::SystemTime;

use akri_mqtt_runtime::Shutdown;

pub use config::{Args, Config, Environment};
pub use handler::{Handler, Presences};

/// The port of `livez`, `readyz`, `metrics` and `v1/presence`.
const ADMIN_PORT: u16 = 8081;

/// Runs the process until `shutdown`.
///
/// # Errors
/// Wrong usage, an address or a name that is in use, a part that has died.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let started = SystemTime::now();
    let address = args
        .admin
        .unwrap_or_else(|| akri_mqtt_runtime::default_listen(ADMIN_PORT));
    let config = args.config(Environment::of_process())?;
    let listener = akri_mqtt_runtime::bind("--admin", address).await?;
    tracing::info!(address = %listener.local_addr()?, "admin port is open");
    let mut handler = Handler::start(config, shutdown.clone()).await?;
    let mut registry = akri_mqtt_runtime::metrics::registry("akri-mqtt-discovery-handler", started);
    if let Some(metrics) = handler.take_metrics() {
        metrics.register(&mut registry);
    }
    let routes = akri_mqtt_runtime::admin::router(handler.health().clone(), registry)
        .merge(admin::router(handler.presence()));
    let serving = akri_mqtt_runtime::serve(listener, routes, shutdown);
    handler.tasks().critical("admin port", serving);
    handler.stopped().await
}
