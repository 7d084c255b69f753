//! Agentless mode: from Configurations to Instances, and from those to pods, jobs and Services.

pub mod akri;
mod api_error;
pub mod args;
pub mod crd_upgrade;
pub mod discover;
pub mod events;
pub mod execute;
pub mod handlers;
pub mod leader;
pub mod limiter;
pub mod metrics;
pub mod model;
pub mod names;
pub mod plan;
pub mod queue;
pub mod realm;
pub mod reconciler;
pub mod references;
pub mod registration;
pub mod reign;
pub mod requests;
pub mod status;
pub mod world;

pub use args::Args;

/// Runs the process until `shutdown`.
///
/// # Errors
/// Wrong usage, no access to the cluster, a part that has died.
pub async fn run(args: Args, shutdown: akri_mqtt_runtime::Shutdown) -> anyhow::Result<()> {
    let _ = args;
    let client = kube::Client::try_default().await?;
    tracing::info!(namespace = client.default_namespace(), "started");
    shutdown.triggered().await;
    Ok(())
}
