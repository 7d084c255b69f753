//! Sparkplug B payloads (Eclipse Sparkplug 3.0, 6). In: the bytes of a message, and the birth certificate
//! that its sender published before it. Out: readings by metric name. A birth names its metrics and gives
//! them aliases, data messages may then leave out names and types (6.4.6); where a birth was read from is
//! left to the caller. Here too: what an Edge Node says of its session, the request for a rebirth, and what a Host
//! Application says of itself; who is there is judged by the convention `sparkplugB`.
//!
//! Whatever a sender writes, reading ends, takes time and room in proportion to the payload, and never panics.

mod host;
mod metric;
mod payload;
mod session;
mod topic;

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;

use crate::decode::{DecodeError, Decoded, MAX_NAME, PayloadKind};
use metric::{Reader, Type};
use payload::{Metric, Payload};

pub use host::{Host, State};
pub(crate) use session::{NodeMessage, asks_for_rebirth, rebirth_request, sequence};
pub(crate) use topic::{NAMESPACE, Topic, Verb};
pub use topic::{birth_of, is_birth, is_payload};

/// Metrics that are remembered of a birth; further ones are known by their own name and type only.
const MAX_METRICS: usize = 16_384;

/// What a birth says of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    name: Arc<str>,
    kind: Option<Type>,
    unit: Option<Arc<str>>,
}

/// The names, types and units of an Edge Node's or a device's metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    by_alias: HashMap<u64, Known>,
    by_name: HashMap<Arc<str>, Known>,
    bytes: usize,
}

impl Birth {
    /// Reads a birth certificate.
    ///
    /// # Errors
    /// When it is not a Sparkplug B payload.
    pub fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let payload = Payload::decode(payload).map_err(|_| DecodeError::NotSparkplug)?;
        let mut birth = Self::default();
        for metric in payload.metrics.into_iter().take(MAX_METRICS) {
            birth.learn(metric);
        }
        Ok(birth)
    }

    fn learn(&mut self, metric: Metric) {
        let unit = metric.unit().map(Arc::from);
        let Some(name) = metric.name.filter(|name| name.len() <= MAX_NAME) else {
            return;
        };
        let name: Arc<str> = name.into();
        let known = Known {
            name: Arc::clone(&name),
            kind: metric.datatype.and_then(Type::of),
            unit,
        };
        self.bytes += name.len() + 128;
        if let Some(alias) = metric.alias {
            self.by_alias.insert(alias, known.clone());
        }
        self.by_name.insert(name, known);
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes
    }

    fn of(&self, metric: &Metric) -> Option<&Known> {
        match (&metric.name, metric.alias) {
            (Some(name), _) if !name.is_empty() => self.by_name.get(name.as_str()),
            (_, Some(alias)) => self.by_alias.get(&alias),
            _ => None,
        }
    }
}

/// Reads a payload with the birth that came before it. A metric whose alias no birth explains is called
/// `alias:<number>`. Data sets, files and bytes have no readings; templates have those of their metrics.
#[must_use]
pub fn decode(payload: &[u8], birth: Option<&Birth>) -> Decoded {
    let Ok(payload) = Payload::decode(payload) else {
        return Decoded::none(PayloadKind::Bytes, Some(DecodeError::NotSparkplug));
    };
    let mut reader = Reader::default();
    for metric in payload.metrics {
        let known = birth.and_then(|birth| birth.of(&metric));
        reader.metric(metric, known, "", 0);
    }
    reader.finish()
}

#[cfg(test)]
mod tests;
