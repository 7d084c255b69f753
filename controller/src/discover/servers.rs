//! Which MQTT servers are reached. In: the handler's admin port, `GET /v1/presence?devices=false`. Out: a
//! report for each `discoveryDetails` text, by `watch`. A handler without such a port is no fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, Uri, header};
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest as _};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::debug;

use super::{ServerReport, ServersReport};

/// How often the handler is asked.
const EVERY: Duration = Duration::from_secs(5);
/// How long it may take.
const WITHIN: Duration = Duration::from_secs(3);
/// Bytes of an answer; a request without its devices has a few hundred.
const MAX_BODY: usize = 4 << 20;
/// After so many failures what was known is not known any more.
const PATIENCE: u32 = 3;
/// Servers and refused filters of one request that are reported.
const MAX_SERVERS: usize = 256;
/// Characters of an error or a filter.
const MAX_TEXT: usize = 512;
const PORT: u16 = 80;

/// Digest of a `discoveryDetails` text, as the handler shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Digest(String);

impl Digest {
    /// BLAKE2b-256 over length and text, of which the first 8 bytes count; `docs/presence-api.md`.
    pub fn of(details: &str) -> Self {
        let mut hasher = Blake2b::<U32>::new();
        hasher.update(
            u64::try_from(details.len())
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
        hasher.update(details);
        let full = hasher.finalize();
        Self(
            full.iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }
}

/// The report for each details text.
pub(super) type Reports = BTreeMap<Digest, Arc<ServersReport>>;

#[derive(Deserialize)]
struct Presence {
    #[serde(default)]
    requests: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    /// Missing in answers of a handler that is older.
    details: Option<String>,
    #[serde(default)]
    streams: u64,
    /// In seconds.
    offline_after: Option<f64>,
    #[serde(default)]
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    name: String,
    connected: bool,
    last_error: Option<String>,
    #[serde(default)]
    refused_filters: Vec<(String, String)>,
}

/// Asks again and again while there is demand, until it is dropped.
pub(super) async fn poll(
    status: Uri,
    mut demand: watch::Receiver<bool>,
    reports: watch::Sender<Arc<Reports>>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0;
    loop {
        if demand.wait_for(|demand| *demand).await.is_err() {
            return;
        }
        ticks.tick().await;
        let answer = match timeout(WITHIN, ask(&status)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {WITHIN:?}")),
        };
        let found = match answer {
            Ok(presence) => {
                failures = 0;
                Some(read(presence))
            }
            Err(why) => {
                debug!(why, "the handler does not tell which servers are reached");
                failures += 1;
                (failures >= PATIENCE).then(Reports::new)
            }
        };
        if let Some(found) = found {
            reports.send_if_modified(|known| {
                let changed = **known != found;
                if changed {
                    *known = Arc::new(found);
                }
                changed
            });
        }
    }
}

async fn ask(status: &Uri) -> Result<Presence, String> {
    let host = status.host().unwrap_or("127.0.0.1");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = status.port_u16().unwrap_or(PORT);
    let stream = TcpStream::connect((bare, port))
        .await
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let base = status.path().trim_end_matches('/');
    let request = Request::get(format!("{base}/v1/presence?devices=false"))
        .header(header::HOST, format!("{host}:{port}"))
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answers with {}", answer.status()));
        }
        let body = to_bytes(Body::new(answer.into_body()), MAX_BODY).await;
        serde_json::from_slice(&body.map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())
    };
    tokio::select! {
        answer = exchange => answer,
        // The connection has to be driven; it may end as soon as the whole answer is there.
        _ = async { let _ = connection.await; std::future::pending::<()>().await } => {
            Err("the connection ended".to_owned())
        }
    }
}

/// What was read of one details text: its servers by name, and how long its devices may be silent.
type Servers = (BTreeMap<String, ServerReport>, Option<Duration>);

/// Of several requests with the same details, those count that have a stream; a server is reached
/// when all of them reach it.
fn read(presence: Presence) -> Reports {
    let mut by_digest: BTreeMap<Digest, Servers> = BTreeMap::new();
    let open = presence
        .requests
        .into_iter()
        .filter(|asked| asked.streams > 0);
    for asked in open {
        let Some(details) = asked.details else {
            continue;
        };
        let (servers, patience) = by_digest.entry(Digest(details)).or_default();
        let offline_after = asked
            .offline_after
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        *patience = (*patience).max(offline_after);
        for server in asked.servers.into_iter().take(MAX_SERVERS) {
            let report = report(server);
            let known = servers
                .entry(report.name.clone())
                .or_insert_with(|| report.clone());
            if known.connected && !report.connected {
                *known = report;
            }
        }
    }
    let united = |(digest, (servers, offline_after)): (Digest, Servers)| {
        let report = ServersReport {
            servers: servers.into_values().collect(),
            offline_after,
        };
        (digest, Arc::new(report))
    };
    by_digest.into_iter().map(united).collect()
}

fn report(server: Server) -> ServerReport {
    let short = |text: String| text.chars().take(MAX_TEXT).collect::<String>();
    let refused: BTreeSet<(String, String)> = server
        .refused_filters
        .into_iter()
        .take(MAX_SERVERS)
        .map(|(filter, why)| (short(filter), short(why)))
        .collect();
    ServerReport {
        name: short(server.name),
        connected: server.connected,
        // It stays after a reconnect, when it explains nothing any more.
        error: server.last_error.filter(|_| !server.connected).map(short),
        refused_filters: refused.into_iter().collect(),
    }
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
