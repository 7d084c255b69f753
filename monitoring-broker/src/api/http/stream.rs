//! Streams as Server-Sent Events. In: device, topic, where to start. Out: `message`, `presence` and `gap`
//! events; the id of an event is the cursor after which a new stream goes on.
//! The body is made as the client takes it, so a slow one waits in the store.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::RawQuery;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::IntoResponse as _;
use futures_util::stream;
use serde::Serialize;

use super::about;
use super::params::Params;
use super::routes::{Answer, Id, device_id};
use crate::api::json::{GapJson, MessageJson, PresenceChangeJson};
use crate::api::service::{ServiceError, Start, WatchEvent, WatchQuery};
use crate::api::union::{Asked, Stream};

/// A comment is sent after so long without an event, so that proxies keep the connection open.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Sent by browsers when they reconnect.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Messages and presence of a device as they come.
///
/// Server-Sent Events: `message`, `presence`, `gap`; the id of an event is a cursor. A comment every 15 s.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}/stream",
    tag = "streams",
    params(
        ("id" = String, Path, description = about::ID),
        ("topic" = Option<String>, Query, description = about::TOPIC),
        ("since" = Option<String>, Query, description = about::SINCE),
        ("last_event_id" = Option<String>, Query, description = about::AFTER),
        ("presence" = Option<String>, Query, description = about::PRESENCE),
        ("Last-Event-ID" = Option<String>, Header, description = about::RESUMES),
    ),
    responses((status = 200, description = "A stream without an end", body = String, content_type = "text/event-stream"))
)]
pub(super) async fn of_device(
    api: Asked,
    id: Id,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let allowed = ["topic", "since", "last_event_id", "presence"];
    let params = Params::parse(query.as_deref(), &allowed, &[])?;
    let devices = BTreeSet::from([device_id(id)?]);
    open(&api, devices, &params, &headers).await
}

/// Messages and presence of several devices, or of all, as they come.
///
/// Server-Sent Events: `message`, `presence`, `gap`; the id of an event is a cursor. A comment every 15 s.
#[utoipa::path(
    get,
    path = "/v1/stream",
    tag = "streams",
    params(
        ("device" = Option<Vec<String>>, Query, description = "A device; again for more [default: all]"),
        ("topic" = Option<String>, Query, description = about::TOPIC),
        ("since" = Option<String>, Query, description = about::SINCE),
        ("last_event_id" = Option<String>, Query, description = about::AFTER),
        ("presence" = Option<String>, Query, description = about::PRESENCE),
        ("Last-Event-ID" = Option<String>, Header, description = about::RESUMES),
    ),
    responses((status = 200, description = "A stream without an end", body = String, content_type = "text/event-stream"))
)]
pub(super) async fn of_all(api: Asked, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let allowed = ["device", "topic", "since", "last_event_id", "presence"];
    let params = Params::parse(query.as_deref(), &allowed, &["device"])?;
    let devices = params.all("device").map(str::to_owned).collect();
    open(&api, devices, &params, &headers).await
}

async fn open(
    api: &Asked,
    devices: BTreeSet<String>,
    params: &Params,
    headers: &HeaderMap,
) -> Answer {
    let query = WatchQuery {
        devices,
        topic: params.topic()?,
        start: start(params, headers)?,
        presence: !params.choice("presence", ["true", "false"])?,
        ..WatchQuery::default()
    };
    let watcher = api.watch(query).await.map_err(rename_cursor)?;
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // Some reverse proxies hold answers back unless they are told not to.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body(watcher)).into_response())
}

/// A browser that reconnects sends the URL that it began with and the header: the header counts.
fn start(params: &Params, headers: &HeaderMap) -> Result<Start, ServiceError> {
    if let Some(id) = headers.get(LAST_EVENT_ID) {
        // A header that is no text is no cursor either.
        let id = id.to_str().unwrap_or("not a text");
        if !id.is_empty() {
            return Ok(Start::Cursor(id.to_owned()));
        }
    }
    if let Some(id) = params.filled("last_event_id") {
        return Ok(Start::Cursor(id.to_owned()));
    }
    Ok(params.time("since")?.map_or(Start::Now, Start::Since))
}

fn rename_cursor(error: ServiceError) -> ServiceError {
    match error {
        ServiceError::Invalid { field, why } if field == "cursor" => {
            ServiceError::invalid("last_event_id", why)
        }
        error => error,
    }
}

fn body(watcher: Stream) -> Body {
    Body::from_stream(stream::unfold(
        (watcher, true),
        |(mut watcher, is_first)| async move {
            let bytes = if is_first {
                // An id alone: who loses the connection before the first event resumes here.
                format!("id: {}\n\n", watcher.cursor())
            } else {
                next(&mut watcher).await?
            };
            let bytes = Ok::<_, Infallible>(Bytes::from(bytes));
            Some((bytes, (watcher, false)))
        },
    ))
}

/// The next event, or a comment with the position, which moves on also when nothing fits the filter.
pub(super) async fn next(watcher: &mut Stream) -> Option<String> {
    let event = match tokio::time::timeout(HEARTBEAT, watcher.next()).await {
        Ok(Ok(event)) => event?,
        Ok(Err(error)) => {
            tracing::error!(%error, "a stream ends because the store cannot be read");
            return None;
        }
        Err(_) => return Some(format!(": still here\nid: {}\n\n", watcher.cursor())),
    };
    Some(match &event {
        WatchEvent::Message(view) => {
            let id = format!("id: {}\n", view.cursor);
            text(&id, "message", &MessageJson::new(view))
        }
        WatchEvent::Presence(view) => text("", "presence", &PresenceChangeJson::new(view)),
        WatchEvent::Gap { from, to, reason } => {
            let id = format!("id: {}\n", watcher.cursor());
            let (from, to) = (*from, *to);
            text(&id, "gap", &GapJson { from, to, reason })
        }
        WatchEvent::Position { cursor, .. } => format!("id: {cursor}\n\n"),
    })
}

fn text(id: &str, event: &str, data: &impl Serialize) -> String {
    // Only maps with keys that are no texts fail, and there are none. The JSON is one line: see `payload`.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("{id}event: {event}\ndata: {data}\n\n")
}
