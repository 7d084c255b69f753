//! Errors as `application/problem+json` (RFC 9457). In: what the service or the router refuses.
//! Out: a response with type, title, status, detail and, where one is to blame, the parameter.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::TARGET_BYTES;
use crate::access::Denied;
use crate::api::service::ServiceError;
use crate::store::StoreError;
use crate::talk::CommandError;

/// Seconds after which a refused stream may be asked for again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// How to prove who one is (RFC 9110, 11.6.1).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"akri-mqtt\"");

/// What is wrong with a request (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Which problem it is, as a URN; programs decide by it.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The problem in two words.
    title: &'static str,
    /// The status of the answer.
    #[serde(serialize_with = "code")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// What was found and what is allowed.
    detail: String,
    /// The parameter or the field that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl Problem {
    fn new(kind: &'static str, title: &'static str, status: StatusCode, detail: String) -> Self {
        Self {
            kind,
            title,
            status,
            detail,
            field: None,
        }
    }

    /// A path that does not exist.
    pub(super) async fn path(uri: Uri) -> Self {
        let path: String = uri.path().chars().take(200).collect();
        let detail = format!(
            "there is nothing at {path}; the `/` in a device's id is written %2F, as in /v1/devices/plant-a%2Fr1"
        );
        Self::new(
            "urn:akri-mqtt:problem:unknown-path",
            "Unknown path",
            StatusCode::NOT_FOUND,
            detail,
        )
    }

    /// A file that the dashboard does not have.
    pub(super) fn asset(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(
            "urn:akri-mqtt:problem:unknown-path",
            "Unknown path",
            StatusCode::NOT_FOUND,
            format!("there is no file {path} in the dashboard, which is at /"),
        )
    }

    /// A method that the path does not have.
    pub(super) async fn method(method: Method) -> Self {
        let method: String = method.as_str().chars().take(32).collect();
        Self::new(
            "urn:akri-mqtt:problem:method-not-allowed",
            "Method not allowed",
            StatusCode::METHOD_NOT_ALLOWED,
            format!("found {method}, allowed: what the header `Allow` lists"),
        )
    }

    /// A request that may not pass.
    pub(super) fn denied(denied: Denied) -> Self {
        let (kind, title, status) = match denied {
            Denied::NoToken | Denied::WrongToken => (
                "urn:akri-mqtt:problem:unauthorized",
                "Unauthorized",
                StatusCode::UNAUTHORIZED,
            ),
            Denied::NoCertificate => (
                "urn:akri-mqtt:problem:client-certificate-required",
                "Client certificate required",
                StatusCode::FORBIDDEN,
            ),
        };
        Self::new(kind, title, status, denied.to_string())
    }

    /// A URL that is too long.
    pub(super) fn url_too_long(length: usize) -> Self {
        Self::new(
            "urn:akri-mqtt:problem:url-too-long",
            "URL too long",
            StatusCode::URI_TOO_LONG,
            format!("found {length} bytes of path and query, allowed: {TARGET_BYTES}"),
        )
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let detail = error.to_string();
        match error {
            ServiceError::Invalid { field, .. } => Self {
                field: Some(field),
                ..Self::new(
                    "urn:akri-mqtt:problem:invalid-parameter",
                    "Invalid parameter",
                    StatusCode::BAD_REQUEST,
                    detail,
                )
            },
            ServiceError::UnknownDevice(_) => Self::new(
                "urn:akri-mqtt:problem:unknown-device",
                "Unknown device",
                StatusCode::NOT_FOUND,
                detail,
            ),
            ServiceError::TooManyStreams(_) => Self::new(
                "urn:akri-mqtt:problem:too-many-streams",
                "Too many streams",
                StatusCode::TOO_MANY_REQUESTS,
                detail,
            ),
            ServiceError::PublishingIsOff => Self::new(
                "urn:akri-mqtt:problem:publishing-off",
                "Publishing is off",
                StatusCode::FORBIDDEN,
                detail,
            ),
            ServiceError::Command(error) => Self::command(&error, detail),
            ServiceError::Unreachable(_) => Self::new(
                "urn:akri-mqtt:problem:member-unreachable",
                "A member of the pool does not answer",
                StatusCode::SERVICE_UNAVAILABLE,
                detail,
            ),
            ServiceError::Store(error) => Self::store(&error, detail),
        }
    }
}

impl Problem {
    /// A body that cannot be read.
    pub(super) fn body(status: StatusCode, detail: String) -> Self {
        let title = "Unreadable body";
        Self::new(
            "urn:akri-mqtt:problem:unreadable-body",
            title,
            status,
            detail,
        )
    }

    fn command(error: &CommandError, detail: String) -> Self {
        let (kind, title, status) = match error {
            CommandError::NotServed(_) => (
                "urn:akri-mqtt:problem:device-not-served",
                "The device is not served",
                StatusCode::CONFLICT,
            ),
            CommandError::NotPossible(_) => (
                "urn:akri-mqtt:problem:command-not-possible",
                "The command is not possible",
                StatusCode::CONFLICT,
            ),
            CommandError::NotAllowed { .. } => (
                "urn:akri-mqtt:problem:topic-not-allowed",
                "The topic is not allowed",
                StatusCode::FORBIDDEN,
            ),
            CommandError::Denied(_) => (
                "urn:akri-mqtt:problem:refused-by-server",
                "The MQTT server refused the message",
                StatusCode::FORBIDDEN,
            ),
            CommandError::Quota(_) => (
                "urn:akri-mqtt:problem:refused-by-server",
                "The MQTT server refused the message",
                StatusCode::TOO_MANY_REQUESTS,
            ),
            CommandError::TooMany(_) => (
                "urn:akri-mqtt:problem:too-many-commands",
                "Too many commands",
                StatusCode::TOO_MANY_REQUESTS,
            ),
            CommandError::Unavailable(_) => (
                "urn:akri-mqtt:problem:server-unavailable",
                "No MQTT server",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            CommandError::Late(_) => (
                "urn:akri-mqtt:problem:no-answer-in-time",
                "No answer in time",
                StatusCode::GATEWAY_TIMEOUT,
            ),
        };
        Self::new(kind, title, status, detail)
    }

    fn store(error: &StoreError, detail: String) -> Self {
        let status = if *error == StoreError::Closed {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        let kind = "urn:akri-mqtt:problem:store";
        Self::new(kind, "The store cannot be read", status, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
            }
            _ => {}
        }
        response
    }
}

fn code<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
