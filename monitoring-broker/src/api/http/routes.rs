//! The GET routes that answer once. In: path and query. Out: an envelope of JSON, or a problem.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::params::Params;
use super::problem::Problem;
use crate::api::json::{CountsJson, DeviceJson, MessageJson, ReadingJson, ServerJson};
use crate::api::service::{
    DeviceQuery, MessageQuery, ReadingQuery, Service, ServiceError, ordered,
};

/// What a route answers.
pub(super) type Answer = Result<Response, Problem>;
/// The device in a path.
pub(super) type Id = Result<Path<String>, PathRejection>;

#[derive(Serialize)]
struct Devices<'a> {
    devices: Vec<DeviceJson<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
    counts: CountsJson,
    servers: Vec<ServerJson<'a>>,
}

#[derive(Serialize)]
struct Messages<'a> {
    messages: Vec<MessageJson<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

#[derive(Serialize)]
struct Readings<'a> {
    readings: Vec<ReadingJson<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

pub(super) async fn devices(State(api): State<Service>, RawQuery(query): RawQuery) -> Answer {
    let allowed = ["search", "state", "limit", "page_token"];
    let params = Params::parse(query.as_deref(), &allowed, &[])?;
    let page = api.devices(&DeviceQuery {
        search: params.get("search").unwrap_or_default().to_owned(),
        state: params.state()?,
        limit: params.limit()?,
        page_token: params.get("page_token").unwrap_or_default().to_owned(),
    })?;
    json(&Devices {
        devices: page.devices.iter().map(DeviceJson::new).collect(),
        next_page_token: &page.next_page_token,
        counts: CountsJson::new(page.counts),
        servers: page.servers.iter().map(ServerJson::new).collect(),
    })
}

pub(super) async fn device(
    State(api): State<Service>,
    id: Id,
    RawQuery(query): RawQuery,
) -> Answer {
    Params::parse(query.as_deref(), &[], &[])?;
    let view = api.device(&device_id(id)?)?;
    json(&DeviceJson::new(&view))
}

pub(super) async fn latest(
    State(api): State<Service>,
    id: Id,
    RawQuery(query): RawQuery,
) -> Answer {
    let params = Params::parse(query.as_deref(), &["topic"], &[])?;
    let topic = params.topic()?;
    let id = device_id(id)?;
    let views = api.latest(&id, "topic", topic.as_ref()).await?;
    json(&Messages {
        messages: views.iter().map(MessageJson::new).collect(),
        next_page_token: "",
        partial: api.is_partial(&id),
    })
}

pub(super) async fn messages(
    State(api): State<Service>,
    id: Id,
    RawQuery(query): RawQuery,
) -> Answer {
    let allowed = [
        "topic",
        "text",
        "from",
        "to",
        "order",
        "limit",
        "page_token",
    ];
    let params = Params::parse(query.as_deref(), &allowed, &[])?;
    let query = message_query(id, &params)?;
    let page = api.query(&query).await?;
    json(&Messages {
        messages: page.messages.iter().map(MessageJson::new).collect(),
        next_page_token: &page.next_page_token,
        partial: api.is_partial(&query.device),
    })
}

pub(super) async fn readings(
    State(api): State<Service>,
    id: Id,
    RawQuery(query): RawQuery,
) -> Answer {
    let allowed = [
        "topic",
        "name",
        "from",
        "to",
        "min",
        "max",
        "order",
        "limit",
        "page_token",
    ];
    let params = Params::parse(query.as_deref(), &allowed, &[])?;
    let query = ReadingQuery {
        messages: message_query(id, &params)?,
        name: params.get("name").map(str::to_owned),
        min: params.bound("min")?,
        max: params.bound("max")?,
    };
    ordered("max", query.min, query.max)?;
    let page = api.readings(&query).await?;
    json(&Readings {
        readings: page.readings.iter().map(ReadingJson::new).collect(),
        next_page_token: &page.next_page_token,
        partial: api.is_partial(&query.messages.device),
    })
}

/// The decoded id of a path.
pub(super) fn device_id(id: Id) -> Result<String, ServiceError> {
    let why = "found bytes that are not UTF-8, allowed: percent-encoded UTF-8";
    id.map(|Path(id)| id)
        .map_err(|_| ServiceError::invalid("id", why))
}

fn message_query(id: Id, params: &Params) -> Result<MessageQuery, ServiceError> {
    Ok(MessageQuery {
        device: device_id(id)?,
        topic: params.topic()?,
        from: params.time("from")?,
        to: params.time("to")?,
        text: params.filled("text").map(str::to_owned),
        ascending: params.is_ascending()?,
        limit: params.limit()?,
        page_token: params.get("page_token").unwrap_or_default().to_owned(),
    })
}

/// An answer.
pub(super) fn json(answer: &impl Serialize) -> Answer {
    // Only maps with keys that are no texts fail, and there are none.
    let body = serde_json::to_vec(answer).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
