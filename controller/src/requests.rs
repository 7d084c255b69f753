//! Requests to the API server: counted all, limited and bounded in time those that write.
//! In: paths and JSON. Out: the parts of the answers that are asked for, or a [`Problem`] that says
//! what to do next. What is written, and what becomes of a problem, is left to the callers.

mod counted;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request};
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use counted::{RequestCounts, client};

use crate::limiter::Limiter;
use crate::names::MANAGER;

/// A request that takes longer has failed; it may have been carried out nevertheless.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Requests in flight. One core of an API server is busy with half of them.
const IN_FLIGHT: usize = 16;
/// Longest message of the API server that is passed on.
const MESSAGE_CHARS: usize = 512;

/// The resources that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `akri.sh/v0` Configuration
    Configuration,
    /// `akri.sh/v0` Instance
    Instance,
    /// `v1` Pod
    Pod,
    /// `batch/v1` Job
    Job,
    /// `v1` Service
    Service,
    /// `v1` PersistentVolumeClaim
    Claim,
    /// `events.k8s.io/v1` Event
    Event,
}

impl Kind {
    /// Its name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Instance => "Instance",
            Self::Pod => "Pod",
            Self::Job => "Job",
            Self::Service => "Service",
            Self::Claim => "PersistentVolumeClaim",
            Self::Event => "Event",
        }
    }

    fn path(self, namespace: &str) -> String {
        let (group, plural) = match self {
            Self::Configuration => ("apis/akri.sh/v0", "configurations"),
            Self::Instance => ("apis/akri.sh/v0", "instances"),
            Self::Pod => ("api/v1", "pods"),
            Self::Job => ("apis/batch/v1", "jobs"),
            Self::Service => ("api/v1", "services"),
            Self::Claim => ("api/v1", "persistentvolumeclaims"),
            Self::Event => ("apis/events.k8s.io/v1", "events"),
        };
        format!("/{group}/namespaces/{namespace}/{plural}")
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub namespace: Arc<str>,
    /// What it is called.
    pub name: Arc<str>,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// Why a request has not done what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// 404.
    #[error("not found: {0}")]
    NotFound(String),
    /// 409 to a creation: there is an object of that name.
    #[error("there is one of that name already")]
    AlreadyExists,
    /// 409 to anything else: the object is not what it was thought to be.
    #[error("changed meanwhile: {0}")]
    Conflict(String),
    /// The API server does not want it: 400, 403, 405, 413, 422.
    #[error("refused by the API server ({code}): {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// In its words.
        message: String,
    },
    /// It cannot do it now: 429, 5xx, no connection, no answer in time.
    #[error("the API server did not do it: {0}")]
    Unavailable(String),
    /// There is an object of that name, and it is somebody else's.
    #[error("the name is taken by an object that this controller did not make")]
    NameTaken,
    /// The reign is over; nothing was sent.
    #[error("no longer the leader")]
    Ended,
}

impl Problem {
    /// Whether it lasts until somebody does something about it.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::NameTaken | Self::NotFound(_)
        )
    }

    /// Whether it may be over at any time without anybody's doing.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Conflict(_) | Self::AlreadyExists | Self::Ended
        )
    }

    /// A word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict(_) => "conflict",
            Self::Refused { .. } => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::NameTaken => "name_taken",
            Self::Ended => "ended",
        }
    }

    fn from_status(code: u16, reason: &str, message: &str) -> Self {
        let message = || shortened(message);
        match code {
            404 => Self::NotFound(message()),
            409 if reason == "AlreadyExists" => Self::AlreadyExists,
            409 => Self::Conflict(message()),
            429 => Self::Unavailable(message()),
            400..=499 => Self::Refused {
                code,
                message: message(),
            },
            _ => Self::Unavailable(message()),
        }
    }
}

impl From<kube::Error> for Problem {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                Self::from_status(status.code, &status.reason, &status.message)
            }
            other => Self::Unavailable(shortened(&words(&other))),
        }
    }
}

/// An error and what caused it, in one line.
#[must_use]
pub fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn shortened(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS).collect()
}

/// Sends requests as long as the reign lasts.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    limiter: Arc<Limiter>,
    slots: Arc<Semaphore>,
    reign: CancellationToken,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// One that refuses everything once `reign` is cancelled.
    #[must_use]
    pub fn new(client: Client, limiter: Arc<Limiter>, reign: CancellationToken) -> Self {
        Self {
            client,
            limiter,
            slots: Arc::new(Semaphore::new(IN_FLIGHT)),
            reign,
        }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// See [`Problem`].
    pub async fn get<T: DeserializeOwned>(&self, object: &Object) -> Result<T, Problem> {
        let path = format!("{}/{}", object.kind.path(&object.namespace), object.name);
        self.send(Method::GET, &path, None, Vec::new()).await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// See [`Problem`].
    pub async fn create<T: DeserializeOwned>(
        &self,
        kind: Kind,
        namespace: &str,
        body: &Value,
    ) -> Result<T, Problem> {
        let path = format!("{}?fieldManager={MANAGER}", kind.path(namespace));
        self.send(
            Method::POST,
            &path,
            Some("application/json"),
            encoded(body)?,
        )
        .await
    }

    /// Applies an object. With `force` fields that others have set are taken over; without, an
    /// object whose fields others have set otherwise is a conflict.
    ///
    /// # Errors
    /// See [`Problem`].
    pub async fn apply<T: DeserializeOwned>(
        &self,
        object: &Object,
        body: &Value,
        force: bool,
    ) -> Result<T, Problem> {
        let path = format!(
            "{}/{}?fieldManager={MANAGER}&force={force}",
            object.kind.path(&object.namespace),
            object.name
        );
        let media = Some("application/apply-patch+yaml");
        self.send(Method::PATCH, &path, media, encoded(body)?).await
    }

    /// Merges `body` into an object or, with `"status"`, into its subresource.
    ///
    /// # Errors
    /// See [`Problem`].
    pub async fn merge<T: DeserializeOwned>(
        &self,
        object: &Object,
        subresource: Option<&'static str>,
        body: &Value,
    ) -> Result<T, Problem> {
        let mut path = format!("{}/{}", object.kind.path(&object.namespace), object.name);
        if let Some(subresource) = subresource {
            path.push('/');
            path.push_str(subresource);
        }
        path.push_str("?fieldManager=");
        path.push_str(MANAGER);
        let media = Some("application/merge-patch+json");
        self.send(Method::PATCH, &path, media, encoded(body)?).await
    }

    /// Replaces an object; `body` says which version of it.
    ///
    /// # Errors
    /// See [`Problem`].
    pub async fn replace<T: DeserializeOwned>(
        &self,
        object: &Object,
        body: &Value,
    ) -> Result<T, Problem> {
        let path = format!(
            "{}/{}?fieldManager={MANAGER}",
            object.kind.path(&object.namespace),
            object.name
        );
        let media = Some("application/json");
        self.send(Method::PUT, &path, media, encoded(body)?).await
    }

    /// Deletes the very object that has this uid; its dependents are left to be collected. Answers
    /// with the object, when it takes its time, or with a `Status`.
    ///
    /// # Errors
    /// See [`Problem`].
    pub async fn delete(
        &self,
        object: &Object,
        uid: &str,
        grace: Option<u32>,
    ) -> Result<Value, Problem> {
        let path = format!("{}/{}", object.kind.path(&object.namespace), object.name);
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        });
        if let (Some(grace), Some(fields)) = (grace, body.as_object_mut()) {
            fields.insert("gracePeriodSeconds".to_owned(), grace.into());
        }
        let media = Some("application/json");
        let body = encoded(&body)?;
        self.send(Method::DELETE, &path, media, body).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        media: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<T, Problem> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(media) = media {
            request = request.header("Content-Type", media);
        }
        let request = request
            .body(body)
            .map_err(|error| Problem::Unavailable(error.to_string()))?;
        let sent = async {
            self.limiter.take().await;
            let _slot = self.slots.acquire().await.map_err(|_| Problem::Ended)?;
            match timeout(ANSWER_WITHIN, self.client.request::<T>(request)).await {
                Ok(answer) => answer.map_err(Problem::from),
                Err(_) => Err(Problem::Unavailable(format!(
                    "no answer within {} s",
                    ANSWER_WITHIN.as_secs()
                ))),
            }
        };
        tokio::select! {
            biased;
            () = self.reign.cancelled() => Err(Problem::Ended),
            answer = sent => answer,
        }
    }
}

fn encoded(body: &Value) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body).map_err(|error| Problem::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_to_do_next() {
        let exists = Problem::from_status(409, "AlreadyExists", "pods \"a\" already exists");
        assert!(matches!(exists, Problem::AlreadyExists));
        let conflict = Problem::from_status(409, "Conflict", "uid differs");
        assert!(matches!(conflict, Problem::Conflict(_)));
        let quota = Problem::from_status(403, "Forbidden", "exceeded quota");
        assert_eq!(
            quota.to_string(),
            "refused by the API server (403): exceeded quota"
        );
        for code in [429, 500, 503, 504] {
            let busy = Problem::from_status(code, "", "busy");
            assert!(matches!(busy, Problem::Unavailable(_)), "{code}");
        }
    }

    #[test]
    fn long_message_is_cut() {
        let long = "é".repeat(10_000);
        let problem = Problem::from_status(422, "Invalid", &long);
        assert!(problem.to_string().chars().count() < 600);
    }
}
