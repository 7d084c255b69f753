//! What a member counts of the requests that it passed on.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How a request to another member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With an answer.
    Answered,
    /// With an error that the member gave.
    Refused,
    /// Without either.
    Unreachable,
}

impl Outcome {
    /// Its label.
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

type Labels = [(&'static str, &'static str); 1];

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ForwardMetrics(Family<Labels, Counter>);

impl ForwardMetrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "pool_forwarded_requests",
            "Requests to other members of the pool, by result",
            self.0.clone(),
        );
    }

    pub(super) fn count(&self, result: Outcome) {
        self.0.get_or_create(&[("result", result.as_str())]).inc();
    }
}
