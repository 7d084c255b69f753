//! What is counted about access. In: a registry at start. Out: handles.

use akri_mqtt_runtime::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::gate::Denied;

/// One of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortName {
    /// REST, streams, pages, probes and metrics.
    Http,
    /// gRPC.
    Grpc,
}

impl PortName {
    const ALL: [Self; 2] = [Self::Http, Self::Grpc];

    /// Its name in labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPort {
    port: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    port: &'static str,
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

/// See the module; clones share the counts.
#[derive(Clone, Debug)]
pub struct AccessMetrics {
    failures: Family<Failure, Counter>,
    handshakes: Family<OfPort, Counter>,
    reloads: Family<Reload, Counter>,
}

impl Default for AccessMetrics {
    /// All of them are there from the start, so that the first failure is a rise.
    fn default() -> Self {
        let metrics = Self {
            failures: Family::default(),
            handshakes: Family::default(),
            reloads: Family::default(),
        };
        for port in PortName::ALL {
            let port = port.as_str();
            drop(metrics.handshakes.get_or_create(&OfPort { port }));
            for reason in Denied::ALL {
                let reason = reason.as_str();
                drop(metrics.failures.get_or_create(&Failure { port, reason }));
            }
        }
        for result in ["failed", "ok"] {
            drop(metrics.reloads.get_or_create(&Reload { result }));
        }
        metrics
    }
}

impl AccessMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "auth_failures",
            "Requests that were refused because of their token or certificate",
            self.failures.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "TLS handshakes that failed or took too long",
            self.handshakes.clone(),
        );
        registry.register(
            "access_reloads",
            "Changes of the files of certificates and tokens, by whether they could be used",
            self.reloads.clone(),
        );
    }

    pub(super) fn denied(&self, port: PortName, reason: Denied) {
        let (port, reason) = (port.as_str(), reason.as_str());
        let failure = Failure { port, reason };
        self.failures.get_or_create(&failure).inc();
    }

    pub(super) fn handshake_failures(&self, port: PortName) -> Counter {
        let port = port.as_str();
        self.handshakes.get_or_create(&OfPort { port }).clone()
    }

    pub(super) fn reloaded(&self, is_good: bool) {
        let result = if is_good { "ok" } else { "failed" };
        self.reloads.get_or_create(&Reload { result }).inc();
    }
}
