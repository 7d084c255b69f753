//! Serves HTTP/1.1 and HTTP/2 on a bound listener. In: a listener, a router, a shutdown.
//! Out: returns when every connection was drained. Bounds connections, headers, bodies and the
//! drain; what is answered is the router's, which finds the peer's address among the extensions.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Response};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::bodies::{Held, Within};
use crate::connections::{Activity, Connections};
use crate::shutdown::Shutdown;
use crate::silence::Observed;

/// 1,000 open streams of the API, and room for probes and short requests beside them.
const CONNECTIONS: usize = 1_256;
/// 64 KiB of URL, and as much again for the headers.
const HEADER_BYTES: usize = 128 * 1024;
/// As much for one header list of HTTP/2.
const HEADER_BYTES_H2: u32 = 128 * 1024;
/// Header lines of a request of HTTP/1.1.
const HEADERS: usize = 100;
/// Streams of one HTTP/2 connection.
const STREAMS_H2: u32 = 256;
/// Streams of one HTTP/2 connection that its peer has reset before they were looked at; one more ends the connection.
const RESETS_H2: usize = 20;
/// Bytes of a request body that a handler reads, unless its route sets another limit.
const BODY_BYTES: usize = 1024 * 1024;
/// From the start of a connection, or of a request, to the end of its headers. So long an idle connection of
/// HTTP/1.1 is kept as well.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// From the headers of a request to the end of its body.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long open requests may take after the shutdown; below `tasks::JOIN_WITHIN`.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);
/// How long a connection that has to make room may take to say good-bye.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` (TCP or Unix) until `shutdown`; then accepts no more, lets open
/// requests finish for 3 s and drops what is left. Streams without an end must watch `shutdown`
/// themselves, else they are cut then.
///
/// Above 1,256 connections the one that has been without a request for the longest time is closed for a new one; while all
/// of them are in use, new ones wait in the listener's backlog.
///
/// # Errors
/// None at present: accept errors are retried. The type fits [`crate::Tasks::critical`].
pub async fn serve<L>(mut listener: L, router: Router, shutdown: Shutdown) -> anyhow::Result<()>
where
    L: Listener,
    L::Addr: Clone + Sync + 'static,
{
    let service = router.layer(DefaultBodyLimit::max(BODY_BYTES));
    let builder = Arc::new(builder());
    let running = TaskTracker::new();
    let connections = Connections::new(CONNECTIONS);
    let cut = Shutdown::new();
    let _cut_on_drop = cut.token().drop_guard();
    loop {
        let next = async {
            let accepted = listener.accept().await;
            (accepted, connections.room().await)
        };
        let ((io, peer), slot) = tokio::select! {
            () = shutdown.triggered() => break,
            accepted = next => accepted,
        };
        let connection = Connection {
            builder: Arc::clone(&builder),
            activity: connections.enter(),
            shutdown: shutdown.clone(),
            cut: cut.clone(),
            _slot: slot,
        };
        running.spawn(connection.run(io, peer, service.clone()));
    }
    drop(listener);
    running.close();
    if timeout(DRAIN_WITHIN, running.wait()).await.is_err() {
        tracing::debug!("requests did not finish in time and are cut");
    }
    Ok(())
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(HEADERS)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .max_concurrent_streams(STREAMS_H2)
        .max_pending_accept_reset_streams(RESETS_H2)
        .max_header_list_size(HEADER_BYTES_H2);
    builder
}

struct Connection {
    builder: Arc<Builder<TokioExecutor>>,
    activity: Activity,
    shutdown: Shutdown,
    cut: Shutdown,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn run<I, P>(self, io: I, peer: P, router: Router)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        P: Clone + Send + Sync + 'static,
    {
        let (io, silence) = Observed::new(io);
        let activity = self.activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            answer(request, peer.clone(), router.clone(), &activity)
        });
        let mut served = pin!(self.builder.serve_connection(TokioIo::new(io), service));
        let mut silence = pin!(silence.lasted(HEADERS_WITHIN));
        let end = async {
            tokio::select! {
                () = self.shutdown.triggered() => None,
                () = self.activity.leaving() => Some(LEAVE_WITHIN),
            }
        };
        let mut end = pin!(end);
        let allowed = tokio::select! {
            result = served.as_mut() => return ended(result),
            () = silence.as_mut() => return tracing::trace!("connection said nothing"),
            () = self.cut.triggered() => return,
            allowed = end.as_mut() => allowed,
        };
        served.as_mut().graceful_shutdown();
        let late = async {
            match allowed {
                Some(allowed) => tokio::time::sleep(allowed).await,
                None => silence.await,
            }
        };
        tokio::select! {
            result = served => ended(result),
            () = late => {}
            () = self.cut.triggered() => {}
        }
    }
}

fn ended<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
        // Clients that go away are daily business.
        tracing::trace!(%error, "connection ended");
    }
}

fn answer<P: Clone + Send + Sync + 'static>(
    request: Request<Incoming>,
    peer: P,
    mut router: Router,
    activity: &Activity,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<P> {
    let busy = activity.begin();
    let mut request = request.map(|body| Within::new(body, BODY_WITHIN));
    request.extensions_mut().insert(peer);
    async move {
        // A router is always ready.
        let response = router.call(request.map(Body::new)).await?;
        Ok(response.map(|body| Body::new(Held::new(body, busy))))
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
        assert!(stopped.elapsed() >= DRAIN_WITHIN);
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
