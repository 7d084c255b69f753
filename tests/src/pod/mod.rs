//! What runs in the pods of the end-to-end tests: one program for devices, MQTT servers, workloads
//! and the test Agent. In: its command line, then requests to its control port, which tests reach
//! through the API server's proxy. Out: processes that can be killed one by one. Knows no Kubernetes.

pub mod agent;
pub mod control;
mod device;
pub mod mqtt;
pub mod processes;

pub use device::now_ms;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;

/// The port of the control interface in every test pod.
pub const CONTROL_PORT: u16 = 8000;

/// A pod of the end-to-end tests
#[derive(Debug, clap::Parser)]
#[command(name = "akri-mqtt-test-pod")]
pub enum Args {
    /// Starts and kills processes, fetches URLs and publishes messages, as its control port is told
    Serve {
        /// Address of the control port
        #[arg(long, default_value = "0.0.0.0:8000")]
        control: SocketAddr,
    },
    /// The same, and it is an Akri Agent for the handlers of this directory
    Agent {
        /// Address of the control port
        #[arg(long, default_value = "0.0.0.0:8000")]
        control: SocketAddr,
        /// Directory of agent-registration.sock
        #[arg(long)]
        directory: PathBuf,
    },
    /// One device: connects with a Last Will, announces itself, publishes, connects again
    Device(device::Device),
    /// Ends at once; what a job does
    Done,
    /// Does nothing until SIGTERM; the cheapest pod
    Idle,
}

/// Runs what the command line says.
///
/// # Errors
/// When it cannot do that.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args {
        Args::Device(device) => device.run(),
        Args::Done => {
            println!("done");
            Ok(())
        }
        Args::Idle => serve(None, None),
        Args::Serve { control } => serve(Some(control), None),
        Args::Agent { control, directory } => serve(Some(control), Some(directory)),
    }
}

fn serve(control: Option<SocketAddr>, agent: Option<PathBuf>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stop = async move {
            terminate.recv().await;
        };
        let Some(control) = control else {
            stop.await;
            return Ok(());
        };
        let agent = agent.map(|directory| crate::agent::Agent::start(&directory));
        let listener = tokio::net::TcpListener::bind(control)
            .await
            .with_context(|| control.to_string())?;
        let routes = control::routes().merge(agent::routes(agent));
        let routes = control::once_and_closed(routes);
        axum::serve(listener, routes)
            .with_graceful_shutdown(stop)
            .await?;
        Ok(())
    })
}
