//! Accepts TLS connections with a certificate that may change at any time. In: a bound listener,
//! the newest TLS configuration. Out: streams whose handshake is over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The API server's replicas and probes need a few; more wait in the listener's backlog.
const HANDSHAKES: usize = 64;
/// From the connection to the end of the handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// A listener whose connections are encrypted. While there is no certificate they are closed.
pub struct TlsListener {
    tcp: TcpListener,
    config: watch::Receiver<Option<Arc<ServerConfig>>>,
    handshakes: JoinSet<Option<Accepted>>,
}

impl TlsListener {
    /// Accepts on `tcp` with whatever `config` says at the time of a connection.
    #[must_use]
    pub fn new(tcp: TcpListener, config: watch::Receiver<Option<Arc<ServerConfig>>>) -> Self {
        Self {
            tcp,
            config,
            handshakes: JoinSet::new(),
        }
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        let Some(config) = self.config.borrow().clone() else {
            tracing::debug!(%address, "no certificate yet");
            return;
        };
        self.handshakes.spawn(async move {
            let handshake = TlsAcceptor::from(config).accept(stream);
            match timeout(HANDSHAKE_WITHIN, handshake).await {
                Ok(Ok(stream)) => Some((stream, address)),
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "TLS handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!(%address, "TLS handshake took too long");
                    None
                }
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        loop {
            let room = self.handshakes.len() < HANDSHAKES;
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return accepted;
                    }
                }
                (stream, address) = Listener::accept(&mut self.tcp), if room => {
                    self.begin(stream, address);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
