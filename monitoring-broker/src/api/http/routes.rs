//! The GET routes that answer once. In: path and query. Out: an envelope of JSON, or a problem.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, RawQuery};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::about;
use super::params::Params;
use super::problem::Problem;
use crate::api::json::{CountsJson, DeviceJson, MessageJson, ReadingJson, ServerJson};
use crate::api::service::{
    DeviceQuery, MessageQuery, ReadingQuery, Service, ServiceError, ordered,
};
use crate::api::union::{Asked, Caller};

/// What a route answers.
pub(super) type Answer = Result<Response, Problem>;
/// The device in a path.
pub(super) type Id = Result<Path<String>, PathRejection>;

/// The API as the caller of a route sees it.
impl FromRequestParts<Service> for Asked {
    type Rejection = Response;

    async fn from_request_parts(request: &mut Parts, api: &Service) -> Result<Self, Response> {
        let token = request.headers.get(header::AUTHORIZATION);
        let caller = Caller::new(token.map(|token| token.as_bytes()), None);
        Self::new(api.clone(), caller).map_err(|error| Problem::from(error).into_response())
    }
}

/// A page of devices.
#[derive(Serialize, ToSchema)]
struct Devices<'a> {
    /// Sorted by id.
    devices: Vec<DeviceJson<'a>>,
    /// Of the next page; missing on the last one.
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
    /// Over all devices.
    counts: CountsJson,
    /// The MQTT servers of the devices.
    servers: Vec<ServerJson<'a>>,
    /// A member of the pool did not answer; there may be more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
struct Messages<'a> {
    /// In the order that was asked for.
    messages: Vec<MessageJson<'a>>,
    /// Of the next page; missing on the last one.
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
    /// The process shares its devices with others, or a member of the pool did not answer; there may be more elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// A page of readings.
#[derive(Serialize, ToSchema)]
struct Readings<'a> {
    /// In the order that was asked for.
    readings: Vec<ReadingJson<'a>>,
    /// Of the next page; missing on the last one.
    #[serde(skip_serializing_if = "str::is_empty")]
    next_page_token: &'a str,
    /// The process shares its devices with others, or a member of the pool did not answer; there may be more elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// The devices, sorted by id.
#[utoipa::path(
    get,
    path = "/v1/devices",
    tag = "devices",
    params(
        ("search" = Option<String>, Query, description = "Only ids with this text, in upper or lower case"),
        ("state" = Option<String>, Query, description = "Only devices in this state: `online`, `offline` or `unknown`"),
        ("limit" = Option<u32>, Query, description = about::LIMIT),
        ("page_token" = Option<String>, Query, description = about::PAGE_TOKEN),
    ),
    responses((status = 200, description = "A page of devices", body = Devices))
)]
pub(super) async fn devices(api: Asked, RawQuery(query): RawQuery) -> Answer {
    let allowed = ["search", "state", "limit", "page_token"];
    let params = Params::parse(query.as_deref(), &allowed, &[])?;
    let query = DeviceQuery {
        search: params.get("search").unwrap_or_default().to_owned(),
        state: params.state()?,
        limit: params.limit()?,
        page_token: params.get("page_token").unwrap_or_default().to_owned(),
        ..DeviceQuery::default()
    };
    let page = api.devices(&query).await?;
    json(&Devices {
        devices: page.devices.iter().map(DeviceJson::new).collect(),
        next_page_token: &page.next_page_token,
        counts: CountsJson::new(page.counts),
        servers: page.servers.iter().map(ServerJson::new).collect(),
        partial: page.partial,
    })
}

/// A device with its presence.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}",
    tag = "devices",
    params(
        ("id" = String, Path, description = about::ID),
    ),
    responses((status = 200, description = "The device", body = DeviceJson))
)]
pub(super) async fn device(api: Asked, id: Id, RawQuery(query): RawQuery) -> Answer {
    Params::parse(query.as_deref(), &[], &[])?;
    let view = api.device(&device_id(id)?).await?;
    json(&DeviceJson::new(&view))
}

/// The latest message of each topic of a device.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}/latest",
    tag = "devices",
    params(
        ("id" = String, Path, description = about::ID),
        ("topic" = Option<String>, Query, description = about::TOPIC),
    ),
    responses((status = 200, description = "One message a topic, sorted by topic", body = Messages))
)]
pub(super) async fn latest(api: Asked, id: Id, RawQuery(query): RawQuery) -> Answer {
    let params = Params::parse(query.as_deref(), &["topic"], &[])?;
    let topic = params.topic()?;
    let id = device_id(id)?;
    let (views, about) = api.latest(&id, "topic", topic.as_ref()).await?;
    json(&Messages {
        messages: views.iter().map(MessageJson::new).collect(),
        next_page_token: "",
        partial: about.partial,
    })
}

/// Stored messages of a device.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}/messages",
    tag = "devices",
    params(
        ("id" = String, Path, description = about::ID),
        ("topic" = Option<String>, Query, description = about::TOPIC),
        ("text" = Option<String>, Query, description = "Only messages whose payload holds this text"),
        ("from" = Option<String>, Query, description = about::FROM),
        ("to" = Option<String>, Query, description = about::TO),
        ("order" = Option<String>, Query, description = about::ORDER),
        ("limit" = Option<u32>, Query, description = about::LIMIT),
        ("page_token" = Option<String>, Query, description = about::PAGE_TOKEN),
    ),
    responses((status = 200, description = "A page of messages", body = Messages))
)]
pub(super) async fn messages(api: Asked, id: Id, RawQuery(query): RawQuery) -> Answer {
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
    let (page, about) = api.query(&query).await?;
    json(&Messages {
        messages: page.messages.iter().map(MessageJson::new).collect(),
        next_page_token: &page.next_page_token,
        partial: about.partial,
    })
}

/// Stored readings of a device, by name, time and value.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}/readings",
    tag = "devices",
    params(
        ("id" = String, Path, description = about::ID),
        ("topic" = Option<String>, Query, description = about::TOPIC),
        ("name" = Option<String>, Query, description = "Only readings of this name; empty: plain values"),
        ("from" = Option<String>, Query, description = about::FROM),
        ("to" = Option<String>, Query, description = about::TO),
        ("min" = Option<f64>, Query, description = "Only numbers of at least this value"),
        ("max" = Option<f64>, Query, description = "Only numbers of at most this value"),
        ("order" = Option<String>, Query, description = about::ORDER),
        ("limit" = Option<u32>, Query, description = about::LIMIT),
        ("page_token" = Option<String>, Query, description = about::PAGE_TOKEN),
    ),
    responses((status = 200, description = "A page of readings", body = Readings))
)]
pub(super) async fn readings(api: Asked, id: Id, RawQuery(query): RawQuery) -> Answer {
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
    let (page, about) = api.readings(&query).await?;
    json(&Readings {
        readings: page.readings.iter().map(ReadingJson::new).collect(),
        next_page_token: &page.next_page_token,
        partial: about.partial,
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
