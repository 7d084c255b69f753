//! Clients that are slow, greedy or many. In: real sockets. Out: they are refused or have to go, and others are served.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use akri_mqtt_runtime::{Shutdown, serve};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

async fn start(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, Shutdown::new()));
    address
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// What is sent back until the server closes.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_answer() {
    let address = start(hello()).await;
    let answer = ask(address, GET).await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_ends_its_request() {
    let read = post(
        async |body: Result<Bytes, axum::extract::rejection::BytesRejection>| {
            body.map(|_| String::new())
                .unwrap_or_else(|error| error.body_text())
        },
    );
    let address = start(Router::new().route("/", read)).await;
    let request =
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nslow";
    let answer = ask(address, request).await;
    assert!(answer.contains("did not arrive within 30 s"), "{answer}");
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let address = start(hello()).await;
    let mut request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".to_vec();
    for number in 0..98 {
        request.extend_from_slice(format!("x-{number}: y\r\n").as_bytes());
    }
    let good = [request.as_slice(), b"\r\n"].concat();
    assert!(ask(address, &good).await.starts_with("HTTP/1.1 200"));
    let one_more = [request.as_slice(), b"x: y\r\n\r\n"].concat();
    assert!(ask(address, &one_more).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_keep_nobody_out_and_end_no_stream() {
    let stream = async || {
        let first = Ok::<_, std::convert::Infallible>(Bytes::from_static(b"first"));
        let endless = futures_util::stream::pending();
        Body::from_stream(futures_util::StreamExt::chain(
            futures_util::stream::iter([first]),
            endless,
        ))
    };
    let address = start(hello().route("/stream", get(stream))).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    let request = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n";
    open.write_all(request).await.unwrap();
    let mut answer = vec![0; 4_096];
    assert!(open.read(&mut answer).await.unwrap() > 0);

    let mut idle = Vec::new();
    for number in 0..10_000 {
        match TcpStream::connect(address).await {
            Ok(mut stream) => {
                // Some have said something, some nothing at all.
                if number % 3 == 0 {
                    let _ = stream.write_all(GET).await;
                }
                idle.push(stream);
            }
            // No more files for this process: the oldest are closed by the server anyway.
            Err(_) => drop(idle.drain(..idle.len().min(500))),
        }
    }
    for _ in 0..20 {
        let mut stream = timeout(DEADLINE, TcpStream::connect(address))
            .await
            .unwrap()
            .unwrap();
        stream.write_all(GET).await.unwrap();
        let mut answer = vec![0; 4_096];
        let read = timeout(DEADLINE, stream.read(&mut answer)).await.unwrap();
        assert!(answer[..read.unwrap()].ends_with(b"hello"));
    }
    // The stream that was open before all of them still is.
    let rest = timeout(Duration::from_millis(200), open.read(&mut answer)).await;
    assert!(rest.is_err() || rest.unwrap().unwrap() > 0);
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn endless(State(running): State<Arc<AtomicUsize>>) -> &'static str {
    running.fetch_add(1, Ordering::SeqCst);
    let _running = Running(running);
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_opened_and_reset_leave_nothing_behind() {
    let running = Arc::<AtomicUsize>::default();
    let slow = Router::new().route("/slow", get(endless));
    let address = start(hello().merge(slow.with_state(Arc::clone(&running)))).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    flood.extend(frame(4, 0, 0, &[]));
    // GET http://x/slow in HPACK: three indexed fields, two literal ones (RFC 7541, 6).
    let request = b"\x82\x86\x44\x05/slow\x41\x01x";
    for number in 0..20_000 {
        let id = 2 * number + 1;
        flood.extend(frame(1, 5, id, request));
        // CANCEL.
        flood.extend(frame(3, 0, id, &8_u32.to_be_bytes()));
    }
    let mut answers = Vec::new();
    let written = async {
        // The server may have had enough before the end.
        let _ = writer.write_all(&flood).await;
        let _ = writer.shutdown().await;
    };
    let read = async {
        let _ = reader.read_to_end(&mut answers).await;
    };
    timeout(DEADLINE, async { tokio::join!(written, read) })
        .await
        .unwrap();
    let end = Instant::now() + DEADLINE;
    while running.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < end, "{running:?} handlers are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let closing = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(ask(address, closing).await.ends_with("hello"));
}

/// A field of HTTP/2 whose value has so many bytes, in HPACK (RFC 7541, 6.2.2 and 5.1).
fn field(length: usize) -> Vec<u8> {
    let mut field = vec![0, 1, b'x', 0x7f];
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        field.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    field.push(u8::try_from(rest).unwrap());
    field.resize(field.len() + length, b'y');
    field
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_headers_of_http_2_are_refused() {
    let asked = Arc::<AtomicUsize>::default();
    let count = async |State(asked): State<Arc<AtomicUsize>>| {
        asked.fetch_add(1, Ordering::SeqCst);
    };
    let router = Router::new().route("/", get(count));
    let address = start(router.with_state(Arc::clone(&asked))).await;
    // 128 KiB are allowed.
    for (fields, expected) in [(8, 1), (9, 1)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        request.extend(frame(4, 0, 0, &[]));
        // GET http://x/ in HPACK, without the end of the headers.
        request.extend(frame(1, 1, 1, b"\x82\x86\x84\x41\x01x"));
        for number in 1..=fields {
            let end = if number == fields { 4 } else { 0 };
            request.extend(frame(9, end, 1, &field(15_000)));
        }
        stream.write_all(&request).await.unwrap();
        let answered = async {
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.unwrap();
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                stream.read_exact(&mut payload).await.unwrap();
                // HEADERS of the answer, RST_STREAM or GOAWAY.
                if matches!(head[3], 1 | 3 | 7) {
                    return;
                }
            }
        };
        timeout(DEADLINE, answered).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), expected, "{fields} fields");
    }
}
