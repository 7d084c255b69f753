//! Accepts connections, encrypted ones with a certificate that may change at any time. In: a bound listener, the newest
//! TLS configuration. Out: streams whose handshake is over, and who is at the other end.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use prometheus_client::metrics::counter::Counter;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// Handshakes that are under way at a time. When one more begins, the oldest ends: who is slow on purpose must not keep
/// others waiting.
const HANDSHAKES: usize = 512;
/// From the connection to the end of the handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// The newest configuration; none: there is no certificate yet.
pub type Config = watch::Receiver<Option<Arc<ServerConfig>>>;

type Accepted = (TlsStream<TcpStream>, Peer);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// Whether it showed a certificate of one of the authorities of clients.
    pub certified: bool,
}

/// A listener whose connections are encrypted. While there is no certificate they are closed.
pub struct TlsListener {
    tcp: TcpListener,
    config: Config,
    failed: Counter,
    handshakes: JoinSet<Option<Accepted>>,
    oldest: VecDeque<AbortHandle>,
}

impl TlsListener {
    /// Accepts on `tcp` with whatever `config` says at the time of a connection. Handshakes that fail are counted in `failed`.
    #[must_use]
    pub fn new(tcp: TcpListener, config: Config, failed: Counter) -> Self {
        Self {
            tcp,
            config,
            failed,
            handshakes: JoinSet::new(),
            oldest: VecDeque::new(),
        }
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        let Some(config) = self.config.borrow().clone() else {
            tracing::debug!(%address, "no certificate yet");
            return;
        };
        while self.oldest.front().is_some_and(AbortHandle::is_finished) {
            self.oldest.pop_front();
        }
        if self.oldest.len() >= HANDSHAKES
            && let Some(oldest) = self.oldest.pop_front()
        {
            oldest.abort();
        }
        let handshake = handshake(config, stream, address);
        self.oldest.push_back(self.handshakes.spawn(handshake));
    }
}

async fn handshake(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<Accepted> {
    let handshake = TlsAcceptor::from(config).accept(stream);
    match timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            let certified = session.peer_certificates().is_some();
            Some((stream, Peer { address, certified }))
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake took too long");
            None
        }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> Accepted {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return accepted;
                    }
                    self.failed.inc();
                }
                (stream, address) = Listener::accept(&mut self.tcp) => {
                    self.begin(stream, address);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        let address = self.tcp.local_addr()?;
        Ok(Peer {
            address,
            certified: false,
        })
    }
}

/// A port that is encrypted or not, for small messages that must not wait for the acknowledgement of the one before.
pub enum Port {
    /// Everybody can read along.
    Plain(TcpListener),
    /// Encrypted.
    Tls(TlsListener),
}

impl Listener for Port {
    type Io = Either<TcpStream, TlsStream<TcpStream>>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        match self {
            Self::Plain(tcp) => {
                let (stream, address) = Listener::accept(tcp).await;
                // A connection that has just ended says so when it is read.
                let _ = stream.set_nodelay(true);
                let certified = false;
                (Either::Left(stream), Peer { address, certified })
            }
            Self::Tls(tls) => {
                let (stream, peer) = tls.accept().await;
                let _ = stream.get_ref().0.set_nodelay(true);
                (Either::Right(stream), peer)
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        match self {
            Self::Plain(tcp) => Ok(Peer {
                address: tcp.local_addr()?,
                certified: false,
            }),
            Self::Tls(tls) => tls.local_addr(),
        }
    }
}
