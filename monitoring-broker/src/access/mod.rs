//! Who may use the two ports. In: files with a certificate, with authorities of clients, with tokens; all of them may change
//! while the process runs. Out: ports that are encrypted, and a check of each request. Without files both ports are open.

mod args;
mod gate;
mod metrics;
mod peers;
#[cfg(test)]
mod tests;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;

use akri_mqtt_runtime::Tasks;
use akri_mqtt_runtime::files::{FileError, Watched};
use akri_mqtt_runtime::tls::{Config, Port, TlsFiles, TlsListener};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use args::AccessArgs;
pub use gate::{Denied, Gate};
pub use metrics::{AccessMetrics, PortName};
pub use peers::peers;
use tokens::Tokens;

/// What the ports offer (ALPN): HTTP, gRPC.
const OFFERS: &[&[&[u8]]] = &[&[b"h2", b"http/1.1"], &[b"h2"]];

/// The files; none of them: both ports are open to everybody who reaches them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessFiles {
    /// Certificate, key and authorities of clients.
    pub tls: Option<TlsFiles>,
    /// Tokens, one a line.
    pub tokens: Option<PathBuf>,
}

/// See the module.
pub struct Access {
    configs: Option<[Config; 2]>,
    needs_certificate: bool,
    tokens: Option<watch::Receiver<Arc<Tokens>>>,
    metrics: AccessMetrics,
}

impl Access {
    /// Reads the files and watches them from now on.
    ///
    /// # Errors
    /// A file cannot be read or is wrong. Later such a change is logged and counted, and what was there before holds.
    pub fn open(files: &AccessFiles, tasks: &Tasks) -> Result<Self, FileError> {
        let metrics = AccessMetrics::default();
        let configs = files.tls.as_ref();
        let configs = configs.map(|files| watch_tls(files, tasks, &metrics));
        let tokens = files.tokens.clone();
        let tokens = tokens.map(|path| watch_tokens(path, tasks, &metrics));
        let tls = files.tls.as_ref();
        Ok(Self {
            configs: configs.transpose()?,
            needs_certificate: tls.is_some_and(|tls| tls.client_authorities.is_some()),
            tokens: tokens.transpose()?,
            metrics,
        })
    }

    /// A port, encrypted if there is a certificate, and what checks its requests.
    #[must_use]
    pub fn front(&self, name: PortName, tcp: TcpListener) -> (Port, Gate) {
        let certificate = self.needs_certificate;
        let gate = Gate::new(name, certificate, self.tokens.clone(), self.metrics.clone());
        let [http, grpc] = match &self.configs {
            None => return (Port::Plain(tcp), gate),
            Some(configs) => configs,
        };
        let config = match name {
            PortName::Http => http,
            PortName::Grpc => grpc,
        };
        let failed = self.metrics.handshake_failures(name);
        let tls = TlsListener::new(tcp, config.clone(), failed);
        (Port::Tls(tls), gate)
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &AccessMetrics {
        &self.metrics
    }
}

fn watch_tls(
    files: &TlsFiles,
    tasks: &Tasks,
    metrics: &AccessMetrics,
) -> Result<[Config; 2], FileError> {
    let (watched, first) = files.watched(OFFERS)?;
    let mut first = first.into_iter();
    let (http, of_http) = watch::channel(first.next());
    let (grpc, of_grpc) = watch::channel(first.next());
    let changed = move |configs: Vec<Arc<ServerConfig>>| {
        for (sender, config) in [&http, &grpc].into_iter().zip(configs) {
            sender.send_replace(Some(config));
        }
    };
    watch_files("certificate", watched, changed, tasks, metrics);
    Ok([of_http, of_grpc])
}

fn watch_tokens(
    path: PathBuf,
    tasks: &Tasks,
    metrics: &AccessMetrics,
) -> Result<watch::Receiver<Arc<Tokens>>, FileError> {
    let (watched, first) = Watched::open(vec![path], |contents| {
        Tokens::read(contents.first().map_or(&[], Vec::as_slice))
    })?;
    let (sender, receiver) = watch::channel(Arc::new(first));
    let changed = move |tokens| drop(sender.send_replace(Arc::new(tokens)));
    watch_files("tokens", watched, changed, tasks, metrics);
    Ok(receiver)
}

fn watch_files<T: Send + 'static>(
    what: &'static str,
    watched: Watched<T>,
    mut changed: impl FnMut(T) + Send + 'static,
    tasks: &Tasks,
    metrics: &AccessMetrics,
) {
    let (shutdown, metrics) = (tasks.shutdown().clone(), metrics.clone());
    tasks.spawn(what, async move {
        let running = watched.run(shutdown, move |now| {
            metrics.reloaded(now.is_ok());
            match now {
                Ok(now) => {
                    tracing::info!(what, "the files have changed and are in use");
                    changed(now);
                }
                Err(error) => {
                    tracing::warn!(what, %error, "the files have changed and are wrong; what was there before holds");
                }
            }
        });
        running.await;
        Ok(())
    });
}
