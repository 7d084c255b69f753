//! The validating webhook: refuses a Configuration whose `discoveryDetails` are wrong before it is
//! stored. In: reviews of the API server over HTTPS. Out: verdicts. What is refused is decided in
//! [`review`]; the certificate is [`keeper`]'s business. It is a convenience: with
//! `failurePolicy: Ignore` nothing waits for it when it is away.

pub mod certificate;
pub mod keeper;
pub mod review;

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::metrics::Registry;
use akri_mqtt_runtime::tls::TlsListener;
use akri_mqtt_runtime::{Tasks, serve};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use kube::Client;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Two objects of at most 1.5 MiB, the limit of etcd, and what is around them.
const BODY_BYTES: usize = 4 * 1024 * 1024;
/// Reviews that are read at a time, because of their memory; others wait.
const AT_A_TIME: usize = 4;
/// From the first byte to the verdict; the API server asks for at most 30 s and 5 s in our chart.
const WITHIN: Duration = Duration::from_secs(5);
/// Of that, for the bytes.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Which webhook this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of the Service and the Secret.
    pub namespace: String,
    /// The Service by which the API server reaches it.
    pub service: String,
    /// The Secret that keeps the certificate.
    pub secret: String,
    /// The ValidatingWebhookConfiguration that gets the authority.
    pub configuration: String,
}

impl Settings {
    /// Names derived from the Service, as the chart has them.
    #[must_use]
    pub fn new(namespace: &str, service: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            secret: format!("{service}-certificate"),
            configuration: format!("{service}-{namespace}"),
        }
    }

    /// The name that the API server expects in the certificate.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// Counts of the webhook; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    reviews: Family<OfVerdict, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Verdict {
    Allowed,
    Refused,
    Unreadable,
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_reviews",
            "Reviews of Configurations by the webhook, by verdict",
            self.reviews.clone(),
        );
    }

    fn count(&self, verdict: Verdict) {
        self.reviews.get_or_create(&OfVerdict { verdict }).inc();
    }
}

/// Serves reviews on `listener` until the shutdown. Connections are closed until there is a
/// certificate.
pub fn start(
    settings: Settings,
    listener: TcpListener,
    client: Client,
    metrics: Metrics,
    tasks: &Tasks,
) {
    let (keeper, config) = keeper::Keeper::new(settings, client);
    let shutdown = tasks.shutdown().clone();
    tasks.critical("webhook certificate", async move {
        keeper.run(shutdown).await;
        Ok(())
    });
    // Handshakes that fail are not counted: the API server tells whoever it could not ask for.
    let listener = TlsListener::new(listener, config, Counter::default());
    tasks.critical(
        "webhook",
        serve(listener, router(metrics), tasks.shutdown().clone()),
    );
}

/// `POST /validate`.
fn router(metrics: Metrics) -> Router {
    let shared = Shared {
        metrics,
        turns: Arc::new(Semaphore::new(AT_A_TIME)),
    };
    Router::new()
        .route("/validate", post(validate))
        .with_state(shared)
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    turns: Arc<Semaphore>,
}

async fn validate(State(shared): State<Shared>, request: Request) -> Response {
    match timeout(WITHIN, judged(&shared, request.into_body())).await {
        Ok(response) => response,
        Err(_) => {
            shared.metrics.count(Verdict::Unreadable);
            (StatusCode::REQUEST_TIMEOUT, "the review took too long\n").into_response()
        }
    }
}

async fn judged(shared: &Shared, body: Body) -> Response {
    let Ok(_turn) = shared.turns.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // An API server sends a review at once; whoever is slow shall not keep others from their turn.
    let Ok(Ok(bytes)) = timeout(READ_WITHIN, to_bytes(body, BODY_BYTES)).await else {
        shared.metrics.count(Verdict::Unreadable);
        let message = "the review cannot be read in time, or is larger than 4 MiB\n";
        return (StatusCode::PAYLOAD_TOO_LARGE, message).into_response();
    };
    match review::review(&bytes) {
        Ok(answer) => {
            if let Some(reason) = &answer.refusal {
                tracing::debug!(%reason, "Configuration refused");
            }
            shared.metrics.count(match answer.refusal {
                Some(_) => Verdict::Refused,
                None => Verdict::Allowed,
            });
            let json = [(header::CONTENT_TYPE, "application/json")];
            (json, answer.review.to_string()).into_response()
        }
        Err(error) => {
            shared.metrics.count(Verdict::Unreadable);
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
