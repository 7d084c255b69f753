//! Serves HTTP/1.1 and HTTP/2 on a bound listener. In: a listener, a router, a shutdown.
//! Out: returns when every connection was drained. Bounds connections, headers, bodies and the
//! drain; what is answered is the router's.

use std::any::Any;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::shutdown::Shutdown;
use crate::silence::Observed;

/// 1,000 open streams of the API, and room for probes and short requests beside them.
const CONNECTIONS: usize = 1_256;
/// 64 KiB of URL, and as much again for the headers.
const HEADER_BYTES: usize = 128 * 1024;
/// As much for one header list of HTTP/2.
const HEADER_BYTES_H2: u32 = 128 * 1024;
/// Streams of one HTTP/2 connection.
const STREAMS_H2: u32 = 256;
/// Bytes of a request body that a handler reads, unless its route sets another limit.
const BODY_BYTES: usize = 1024 * 1024;
/// From the start of a connection, or of a request, to the end of its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long open requests may take after the shutdown; below `tasks::JOIN_WITHIN`.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);

/// Serves `router` on `listener` (TCP or Unix), with `ConnectInfo<SocketAddr>` in the requests of TCP, until `shutdown`; then accepts no more, lets open
/// requests finish for 3 s and drops what is left. Streams without an end must watch `shutdown`
/// themselves, else they are cut then.
///
/// Above 1,256 connections new ones wait in the listener's backlog.
///
/// # Errors
/// None at present: accept errors are retried. The type fits [`crate::Tasks::critical`].
pub async fn serve<L>(mut listener: L, router: Router, shutdown: Shutdown) -> anyhow::Result<()>
where
    L: Listener,
    L::Addr: 'static,
{
    let service = router.layer(DefaultBodyLimit::max(BODY_BYTES));
    let builder = Arc::new(builder());
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let cut = Shutdown::new();
    let _cut_on_drop = cut.token().drop_guard();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let (io, address) = listener.accept().await;
            (slot, io, peer(&address))
        };
        let (slot, io, peer) = tokio::select! {
            () = shutdown.triggered() => break,
            accepted = next => accepted,
        };
        let connection = Connection {
            builder: Arc::clone(&builder),
            watcher: graceful.watcher(),
            cut: cut.clone(),
            _slot: slot.ok(),
        };
        let service = match peer {
            Some(peer) => service.clone().layer(Extension(ConnectInfo(peer))),
            None => service.clone(),
        };
        tokio::spawn(connection.run(io, service));
    }
    drop(listener);
    if timeout(DRAIN_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::debug!("requests did not finish in time and are cut");
    }
    Ok(())
}

/// Who is at the other end of a TCP connection; of a Unix socket nothing is known.
fn peer(address: &dyn Any) -> Option<SocketAddr> {
    address.downcast_ref().copied()
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .max_concurrent_streams(STREAMS_H2)
        .max_header_list_size(HEADER_BYTES_H2);
    builder
}

struct Connection {
    builder: Arc<Builder<TokioExecutor>>,
    watcher: Watcher,
    cut: Shutdown,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn run<I>(self, io: I, router: Router)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (io, silence) = Observed::new(io);
        let service = TowerToHyperService::new(router);
        let connection = self.builder.serve_connection(TokioIo::new(io), service);
        let served = pin!(self.watcher.watch(connection.into_owned()));
        tokio::select! {
            result = served => {
                if let Err(error) = result {
                    // Clients that go away are daily business.
                    tracing::trace!(%error, "connection ended");
                }
            }
            () = silence.lasted(HEADERS_WITHIN) => tracing::trace!("connection said nothing"),
            () = self.cut.triggered() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    async fn start(router: Router) -> (SocketAddr, Shutdown, JoinHandle<anyhow::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(serve(listener, router, shutdown.clone()));
        (address, shutdown, server)
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn request_is_answered_and_the_shutdown_ends_the_server() {
        let (address, shutdown, server) =
            start(Router::new().route("/", get(|| async { "hi" }))).await;
        let answer = ask(
            address,
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi"),
            "{answer}"
        );
        shutdown.trigger();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn open_request_finishes_after_the_shutdown() {
        let shutdown_seen = Shutdown::new();
        let waits = shutdown_seen.clone();
        let router = Router::new().route(
            "/",
            get(move || {
                let waits = waits.clone();
                async move {
                    waits.triggered().await;
                    "late"
                }
            }),
        );
        let (address, shutdown, server) = start(router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        // An idle connection must not hold up the drain.
        let _idle = TcpStream::connect(address).await.unwrap();
        while TcpStream::connect(address).await.is_ok() {
            shutdown.trigger();
            tokio::task::yield_now().await;
        }
        shutdown_seen.trigger();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("late"), "{answer}");
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn endless_request_is_cut_after_the_drain() {
        let running = Shutdown::new();
        let started = running.clone();
        let endless = move || {
            started.trigger();
            std::future::pending::<&'static str>()
        };
        let (address, shutdown, server) = start(Router::new().route("/", get(endless))).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        running.triggered().await;
        let stopped = std::time::Instant::now();
        shutdown.trigger();
        server.await.unwrap().unwrap();
        let took = stopped.elapsed();
        assert!(
            took >= DRAIN_WITHIN && took < DRAIN_WITHIN + Duration::from_secs(2),
            "{took:?}"
        );
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_says_nothing_is_closed() {
        let (address, _shutdown, _server) = start(Router::new()).await;
        for beginning in ["", "P", "PRI * HTTP/2.0", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            // Ends only when the server closes it; time is not real here.
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
    }

    #[tokio::test]
    async fn too_large_headers_and_bodies_are_refused() {
        let echo = post(|body: axum::body::Bytes| async move { body.len().to_string() });
        let (address, shutdown, server) = start(Router::new().route("/", echo)).await;
        let mut request = b"GET / HTTP/1.1\r\nhost: x\r\nx: ".to_vec();
        request.resize(HEADER_BYTES + 1_024, b'a');
        let answer = ask(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            BODY_BYTES + 1
        );
        let mut request = head.into_bytes();
        request.resize(request.len() + BODY_BYTES + 1, b'a');
        let answer = ask(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        shutdown.trigger();
        server.await.unwrap().unwrap();
    }
}
