//! Server-Sent Events. In: path, query, `Last-Event-ID`. Out: `message`, `presence` and `gap` events; the id
//! of a message is its cursor, so that a browser resumes by itself.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::json;

use super::json::{MessageJson, PresenceJson};
use super::problem::Problem;
use crate::api::service::{self, Service, ServiceError, Start, WatchEvent, WatchQuery, Watcher};

/// How often a comment keeps the connection alive.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// The query parameters; `cursor` is for clients that cannot set a header.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    topic: String,
    cursor: String,
    since: String,
}

type Parsed = Result<Query<Parameters>, QueryRejection>;
type Events = Sse<
    axum::response::sse::KeepAliveStream<
        std::pin::Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>>,
    >,
>;

pub async fn all(
    State(service): State<Service>,
    headers: HeaderMap,
    parsed: Parsed,
) -> Result<Events, Problem> {
    stream(service, BTreeSet::new(), &headers, parsed).await
}

pub async fn device(
    State(service): State<Service>,
    Path(id): Path<String>,
    headers: HeaderMap,
    parsed: Parsed,
) -> Result<Events, Problem> {
    stream(service, BTreeSet::from([id]), &headers, parsed).await
}

async fn stream(
    service: Service,
    devices: BTreeSet<String>,
    headers: &HeaderMap,
    parsed: Parsed,
) -> Result<Events, Problem> {
    let Query(parameters) =
        parsed.map_err(|error| ServiceError::invalid("query", error.body_text()))?;
    let last = headers.get("last-event-id").map(|value| value.to_str());
    let start = match (last, parameters.cursor.as_str(), parameters.since.as_str()) {
        (Some(Ok(cursor)), ..) => Start::Cursor(cursor.to_owned()),
        (Some(Err(_)), ..) => {
            let why = "allowed: <store_id>:<sequence>";
            return Err(ServiceError::invalid("Last-Event-ID", why).into());
        }
        (None, "", "") => Start::Now,
        (None, "", since) => Start::Since(service::time("since", since)?),
        (None, cursor, _) => Start::Cursor(cursor.to_owned()),
    };
    let query = WatchQuery {
        devices,
        topic: service::topic_filter(&parameters.topic)?,
        start,
        presence: true,
    };
    let watcher = service.watch(query).await?;
    let events = futures_util::stream::unfold(watcher, next);
    let alive = KeepAlive::new().interval(COMMENT_EVERY);
    let events: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(events);
    Ok(Sse::new(events).keep_alive(alive))
}

async fn next(mut watcher: Watcher) -> Option<(Result<Event, Infallible>, Watcher)> {
    match watcher.next().await {
        Ok(event) => Some((Ok(shape(event?)), watcher)),
        Err(error) => {
            tracing::warn!(%error, "a stream ended");
            None
        }
    }
}

fn shape(event: WatchEvent) -> Event {
    let (kind, id, data) = match event {
        WatchEvent::Message(view) => {
            let id = view.cursor.clone();
            (
                "message",
                Some(id),
                serde_json::to_string(&MessageJson::from(*view)),
            )
        }
        WatchEvent::Presence(view) => {
            let device = view.device.id.to_string();
            let presence = PresenceJson::from(*view);
            let data = json!({"device_id": device, "presence": presence});
            ("presence", None, Ok(data.to_string()))
        }
        WatchEvent::Gap { from, to, reason } => {
            let data = json!({"from": from, "to": to, "reason": reason});
            ("gap", None, Ok(data.to_string()))
        }
    };
    let event = Event::default().event(kind).data(data.unwrap_or_default());
    match id {
        Some(id) => event.id(id),
        None => event,
    }
}
