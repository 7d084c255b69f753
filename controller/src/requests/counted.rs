//! Counts every request to the API server by verb and kind, whichever part of the process sends it.
//! In: requests on their way. Out: a metric. Changes nothing about them.

use std::task::{Context, Poll};

use axum::http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

/// The resources that the process has to do with; whatever else it should ask for is `other`.
const RESOURCES: [&str; 14] = [
    "configmaps",
    "configurations",
    "customresourcedefinitions",
    "events",
    "instances",
    "jobs",
    "leases",
    "namespaces",
    "nodes",
    "persistentvolumeclaims",
    "pods",
    "secrets",
    "services",
    "validatingwebhookconfigurations",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    kind: &'static str,
}

/// The counter; clones count together.
#[derive(Clone, Debug, Default)]
pub struct RequestCounts {
    requests: Family<Labels, Counter>,
}

impl RequestCounts {
    /// Adds it to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "api_requests",
            "Requests to the API server by verb and kind",
            self.requests.clone(),
        );
    }

    fn count<B>(&self, request: &Request<B>) {
        let labels = labels(
            request.method(),
            request.uri().path(),
            request.uri().query(),
        );
        self.requests.get_or_create(&labels).inc();
    }
}

/// A client whose requests are counted.
///
/// # Errors
/// A configuration from which none can be made.
pub fn client(config: Config, counts: RequestCounts) -> Result<Client, kube::Error> {
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&CountedLayer(counts))
        .build())
}

struct CountedLayer(RequestCounts);

impl<S> Layer<S> for CountedLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            counts: self.0.clone(),
        }
    }
}

struct Counted<S> {
    inner: S,
    counts: RequestCounts,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.counts.count(&request);
        self.inner.call(request)
    }
}

fn labels(method: &Method, path: &str, query: Option<&str>) -> Labels {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    // `/api/<version>` or `/apis/<group>/<version>`.
    let skipped = match parts.next() {
        Some("apis") => 2,
        _ => 1,
    };
    let mut rest = parts.skip(skipped).collect::<Vec<_>>().into_iter();
    let mut plural = rest.next().unwrap_or_default();
    let mut name = rest.next();
    if plural == "namespaces"
        && let Some(within) = rest.next()
    {
        plural = within;
        name = rest.next();
    }
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if query.is_some_and(|query| query.contains("watch=true")) => "watch",
        _ if name.is_some() => "get",
        _ => "list",
    };
    let known = RESOURCES.into_iter().find(|known| *known == plural);
    Labels {
        verb,
        kind: known.unwrap_or("other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, uri: &str) -> (&'static str, &'static str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let labels = labels(method, path, Some(query));
        (labels.verb, labels.kind)
    }

    #[test]
    fn requests_are_told_apart_by_verb_and_kind() {
        let get = Method::GET;
        assert_eq!(
            of(&get, "/apis/akri.sh/v0/configurations?limit=500"),
            ("list", "configurations")
        );
        assert_eq!(
            of(&get, "/api/v1/pods?watch=true&resourceVersion=1"),
            ("watch", "pods")
        );
        assert_eq!(
            of(&get, "/api/v1/namespaces/kube-system"),
            ("get", "namespaces")
        );
        assert_eq!(
            of(&get, "/api/v1/namespaces/a/secrets/s"),
            ("get", "secrets")
        );
        assert_eq!(
            of(&Method::POST, "/api/v1/namespaces/a/pods"),
            ("create", "pods")
        );
        assert_eq!(
            of(
                &Method::PATCH,
                "/apis/akri.sh/v0/namespaces/a/configurations/c/status"
            ),
            ("patch", "configurations")
        );
        assert_eq!(of(&get, "/version"), ("list", "other"));
        assert_eq!(of(&get, "/"), ("list", "other"));
    }
}
