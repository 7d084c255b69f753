//! The GET paths that answer at once. In: path and query. Out: JSON in an envelope.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};

use super::json::{DeviceJson, MessageJson, ReadingJson};
use super::problem::Problem;
use crate::api::service::{self, MessageQuery, ReadingQuery, Service, ServiceError};

/// Every query parameter of these paths; unknown ones are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    topic: String,
    name: Option<String>,
    from: String,
    to: String,
    min: Option<f64>,
    max: Option<f64>,
    order: String,
    limit: usize,
    page_token: String,
}

type Parsed = Result<Query<Parameters>, QueryRejection>;

fn parameters(parsed: Parsed) -> Result<Parameters, Problem> {
    let Query(parameters) =
        parsed.map_err(|error| ServiceError::invalid("query", error.body_text()))?;
    Ok(parameters)
}

#[derive(Serialize)]
pub struct DeviceList {
    devices: Vec<DeviceJson>,
    next_page_token: String,
}

#[derive(Serialize)]
pub struct MessageList {
    messages: Vec<MessageJson>,
    next_page_token: String,
}

#[derive(Serialize)]
pub struct ReadingList {
    readings: Vec<ReadingJson>,
    next_page_token: String,
}

pub async fn devices(
    State(service): State<Service>,
    parsed: Parsed,
) -> Result<Json<DeviceList>, Problem> {
    let parameters = parameters(parsed)?;
    let (devices, next_page_token) = service.devices(parameters.limit, &parameters.page_token)?;
    Ok(Json(DeviceList {
        devices: devices.into_iter().map(Into::into).collect(),
        next_page_token,
    }))
}

pub async fn device(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<DeviceJson>, Problem> {
    Ok(Json(service.device(&id)?.into()))
}

pub async fn latest(
    State(service): State<Service>,
    Path(id): Path<String>,
    parsed: Parsed,
) -> Result<Json<MessageList>, Problem> {
    let filter = service::topic_filter(&parameters(parsed)?.topic)?;
    let messages = service.latest(&id, filter.as_ref()).await?;
    Ok(Json(MessageList {
        messages: messages.into_iter().map(Into::into).collect(),
        next_page_token: String::new(),
    }))
}

pub async fn messages(
    State(service): State<Service>,
    Path(id): Path<String>,
    parsed: Parsed,
) -> Result<Json<MessageList>, Problem> {
    let query = message_query(id, &parameters(parsed)?)?;
    let page = service.query(&query).await?;
    Ok(Json(MessageList {
        messages: page.messages.into_iter().map(Into::into).collect(),
        next_page_token: page.next_page_token,
    }))
}

pub async fn readings(
    State(service): State<Service>,
    Path(id): Path<String>,
    parsed: Parsed,
) -> Result<Json<ReadingList>, Problem> {
    let parameters = parameters(parsed)?;
    let query = ReadingQuery {
        messages: message_query(id, &parameters)?,
        name: parameters.name,
        min: parameters.min,
        max: parameters.max,
    };
    let page = service.readings(&query).await?;
    Ok(Json(ReadingList {
        readings: page.readings.into_iter().map(Into::into).collect(),
        next_page_token: page.next_page_token,
    }))
}

fn message_query(device: String, parameters: &Parameters) -> Result<MessageQuery, ServiceError> {
    let time = |field, text: &str| match text {
        "" => Ok(None),
        text => service::time(field, text).map(Some),
    };
    let ascending = match parameters.order.as_str() {
        "" | "desc" => false,
        "asc" => true,
        other => {
            let why = format!("found {other:?}, allowed: asc, desc (the default)");
            return Err(ServiceError::invalid("order", why));
        }
    };
    Ok(MessageQuery {
        device,
        topic: service::topic_filter(&parameters.topic)?,
        from: time("from", &parameters.from)?,
        to: time("to", &parameters.to)?,
        ascending,
        limit: parameters.limit,
        page_token: parameters.page_token.clone(),
    })
}
