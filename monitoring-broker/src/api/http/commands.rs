//! `POST /v1/devices/{id}/commands`. In: a JSON object. Out: that the server took the message, with the device's
//! response if that was asked for, or a problem. The media type is checked, so that no form of a web page commands.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::about;
use super::params::Params;
use super::problem::Problem;
use super::routes::{Answer, Id, device_id, json};
use crate::api::json::MessageJson;
use crate::api::peer;
use crate::api::service::ServiceError;
use crate::api::union::Asked;
use crate::talk::{self, Command};

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(as = Command)]
#[serde(deny_unknown_fields)]
struct Body {
    /// A topic that one of the allowed filters matches.
    topic: String,
    /// A text is sent as it is, any other value as JSON.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = serde_json::Value, required = false)]
    payload: Option<Box<RawValue>>,
    /// Bytes instead of `payload`, base64.
    payload_base64: Option<String>,
    /// 0, 1 or 2.
    #[serde(default = "default_qos")]
    qos: u32,
    /// Whether the MQTT server keeps it.
    #[serde(default)]
    retain: bool,
    /// MQTT 5 content type.
    content_type: Option<String>,
    /// MQTT 5 user properties.
    #[serde(default)]
    user_properties: Vec<UserProperty>,
    /// Wait for the device's response.
    #[serde(default)]
    expect_response: bool,
    /// Seconds to wait.
    timeout: Option<f64>,
}

/// A user property of MQTT 5.
#[derive(Deserialize, ToSchema)]
#[schema(as = CommandProperty)]
#[serde(deny_unknown_fields)]
struct UserProperty {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

/// What became of a command.
#[derive(Serialize, ToSchema)]
struct Accepted<'a> {
    /// The MQTT server said that nobody has subscribed to the topic.
    no_subscribers: bool,
    /// The device's response, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<MessageJson<'a>>,
}

fn default_qos() -> u32 {
    1
}

/// `null` is a value here, not the lack of one.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// Publishes a command for a device.
///
/// Off unless the process was started with `--allow-publish`.
#[utoipa::path(
    post,
    path = "/v1/devices/{id}/commands",
    tag = "commands",
    params(("id" = String, Path, description = about::ID)),
    request_body = Body,
    responses((status = 200, description = "The MQTT server took it, or the device has responded", body = Accepted))
)]
pub(super) async fn publish(
    api: Asked,
    id: Id,
    request: Parts,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    Params::parse(request.uri.query(), &[], &[])?;
    let device = device_id(id)?;
    let body = read(&request.headers, body)?;
    let asked = body.timeout.map(seconds).transpose()?;
    let timeout = talk::timeout("timeout", asked)?;
    let payload = payload(body.payload.as_deref(), body.payload_base64.as_deref())?;
    let user = body.user_properties.into_iter();
    let command = Command {
        device,
        topic: body.topic,
        payload,
        qos: body.qos,
        retain: body.retain,
        content_type: body.content_type,
        user_properties: user
            .map(|property| (property.name, property.value))
            .collect(),
        expect_response: body.expect_response,
        timeout,
        peer: peer(request.extensions.get()),
    };
    let done = api.publish(command).await?;
    json(&Accepted {
        no_subscribers: done.no_subscribers,
        response: done.response.as_ref().map(MessageJson::new),
    })
}

fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Body, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let found: String = essence.chars().take(100).collect();
        let detail = format!("found the media type {found:?}, allowed: application/json");
        return Err(Problem::body(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body = body.map_err(|error| Problem::body(error.status(), error.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| {
        let detail = format!(
            "{error}; allowed: an object with topic, payload or payload_base64, and as you like qos, retain, \
             content_type, user_properties, expect_response, timeout"
        );
        Problem::body(StatusCode::BAD_REQUEST, detail)
    })
}

fn payload(json: Option<&RawValue>, base64: Option<&str>) -> Result<Bytes, ServiceError> {
    match (json, base64) {
        (Some(value), None) => text(value).map(Bytes::from),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|error| {
                let why = format!("{error}; allowed: base64 of the usual alphabet, padded");
                ServiceError::invalid("payload_base64", why)
            })?;
            Ok(bytes.into())
        }
        (None, None) => {
            let why = "found neither this nor payload_base64, allowed: one of the two; \"\" sends nothing";
            Err(ServiceError::invalid("payload", why))
        }
        (Some(_), Some(_)) => {
            let why = "found it beside payload, allowed: one of the two";
            Err(ServiceError::invalid("payload_base64", why))
        }
    }
}

/// A text as it is meant, any other value as it stands there.
fn text(value: &RawValue) -> Result<String, ServiceError> {
    let written = value.get();
    if !written.starts_with('"') {
        return Ok(written.to_owned());
    }
    serde_json::from_str(written).map_err(|error| ServiceError::invalid("payload", error))
}

fn seconds(asked: f64) -> Result<Duration, ServiceError> {
    Duration::try_from_secs_f64(asked).map_err(|_| {
        let why = format!("found {asked}, allowed: seconds, more than 0 and at most 300");
        ServiceError::invalid("timeout", why)
    })
}
