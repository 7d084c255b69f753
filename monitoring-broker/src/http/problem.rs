//! Errors as RFC 9457 problems. In: a service error. Out: `application/problem+json`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::api::service::ServiceError;
use crate::store::StoreError;

/// See the module.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
        }
    }

    /// No such path.
    pub fn path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "there is no such path; GET /v1/devices is one",
        )
    }

    /// The path exists, but not with this method.
    pub fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here")
    }

    /// The URL is too long.
    pub fn url(found: usize, allowed: usize) -> Self {
        let detail = format!("the URL has {found} bytes, at most {allowed} are allowed");
        Self::new(StatusCode::URI_TOO_LONG, detail)
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let status = match &error {
            ServiceError::Invalid { .. } => StatusCode::BAD_REQUEST,
            ServiceError::UnknownDevice(_) => StatusCode::NOT_FOUND,
            ServiceError::TooManyStreams(_) => StatusCode::TOO_MANY_REQUESTS,
            ServiceError::PublishingIsOff => StatusCode::CONFLICT,
            ServiceError::Store(StoreError::Closed | StoreError::Full(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ServiceError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut problem = Self::new(status, error.to_string());
        if let ServiceError::Invalid { field, .. } = error {
            problem.field = Some(field);
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(field), Some(body)) = (self.field, body.as_object_mut()) {
            body.insert("field".to_owned(), field.into());
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}
