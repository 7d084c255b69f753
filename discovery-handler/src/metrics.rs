//! The metrics of the handler, read when they are asked for.
//! In: sessions, requests, streams. Out: OpenMetrics families. No label per device or topic.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::pool::Pool;
use crate::requests::Requests;
use crate::streams::Sent;

/// Reads everything when metrics are asked for.
pub struct HandlerMetrics {
    /// Its sessions.
    pub pool: Pool,
    /// Its requests.
    pub requests: Requests,
    /// What its streams have sent.
    pub sent: Arc<Sent>,
}

impl fmt::Debug for HandlerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerMetrics")
    }
}

type Labels<const N: usize> = [(&'static str, String); N];

/// One family: values by labels, added up where labels are equal.
struct Family<const N: usize> {
    name: &'static str,
    help: &'static str,
    counter: bool,
    values: BTreeMap<Labels<N>, u64>,
}

impl<const N: usize> Family<N> {
    fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            counter: true,
            values: BTreeMap::new(),
        }
    }

    fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            counter: false,
            values: BTreeMap::new(),
        }
    }

    fn add(&mut self, labels: Labels<N>, value: u64) {
        let sum = self.values.entry(labels).or_default();
        *sum = sum.saturating_add(value);
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result
    where
        Labels<N>: EncodeLabelSet,
    {
        let kind = if self.counter {
            MetricType::Counter
        } else {
            MetricType::Gauge
        };
        let mut family = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, value) in &self.values {
            if self.counter {
                ConstCounter::new(*value).encode(family.encode_family(labels)?)?;
            } else {
                let value = i64::try_from(*value).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for HandlerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.sessions(&mut encoder)?;
        self.devices(&mut encoder)?;
        self.streams(&mut encoder)
    }
}

impl HandlerMetrics {
    fn sessions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut connected =
            Family::gauge("connected", "Sessions with this server that are connected");
        let mut connects =
            Family::counter("connects", "Attempts to connect and ends of connections");
        let mut lost = Family::counter("session_lost", "Times the server had lost the session");
        let mut received = Family::counter("messages_received", "Messages from this server");
        let mut skipped = Family::counter("messages_skipped", "Messages without effect");
        for session in self.pool.sessions() {
            let server = || ("server", session.server.clone());
            let status = session.handle.status().borrow().clone();
            let counters = status.counters.snapshot();
            connected.add([server()], u64::from(status.connected));
            lost.add([server()], counters.sessions_lost);
            for (result, count) in counters.connects {
                connects.add([server(), ("result", result.to_owned())], count);
            }
            for (qos, count) in counters.received.into_iter().enumerate() {
                received.add([server(), ("qos", qos.to_string())], count);
            }
            for (reason, count) in counters.skipped {
                skipped.add([server(), ("reason", reason.to_owned())], count);
            }
        }
        connected.encode(encoder)?;
        connects.encode(encoder)?;
        lost.encode(encoder)?;
        received.encode(encoder)?;
        skipped.encode(encoder)
    }

    fn devices(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut devices = Family::gauge("devices", "Devices of a request by state");
        let mut left_out = Family::gauge("devices_left_out", "Present devices that no list names");
        let mut transitions = Family::counter("transitions", "Changes of a device's state");
        let mut ignored = Family::counter(
            "messages_ignored",
            "Messages that said nothing about a device",
        );
        let mut flapping = Family::gauge("flapping_devices", "Devices that come and go");
        flapping.add([], 0);
        for (label, numbers) in self.requests.numbers() {
            let request = || ("request", label.to_string());
            for (state, count) in numbers.devices {
                devices.add([request(), ("state", state.as_str().to_owned())], count);
            }
            left_out.add([request(), ("reason", "list".to_owned())], numbers.left_out);
            left_out.add(
                [request(), ("reason", "max_devices".to_owned())],
                numbers.refused,
            );
            for (to, reason, count) in numbers.transitions {
                let (to, reason) = (to.as_str().to_owned(), reason.as_str().to_owned());
                transitions.add([("to", to), ("reason", reason)], count);
            }
            for (reason, count) in numbers.ignored {
                ignored.add([("reason", reason.as_str().to_owned())], count);
            }
            flapping.add([], numbers.flapping);
        }
        devices.encode(encoder)?;
        left_out.encode(encoder)?;
        transitions.encode(encoder)?;
        ignored.encode(encoder)?;
        flapping.encode(encoder)
    }

    fn streams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let open = *self.requests.open_streams().borrow();
        let mut streams = Family::gauge("discover_streams", "Discover streams that are open");
        streams.add([], u64::try_from(open).unwrap_or(u64::MAX));
        let mut responses = Family::counter("responses", "Lists that were sent");
        responses.add([], self.sent.responses.load(Ordering::Relaxed));
        let mut bytes = Family::counter("response_bytes", "Bytes of the lists that were sent");
        bytes.add([], self.sent.bytes.load(Ordering::Relaxed));
        streams.encode(encoder)?;
        responses.encode(encoder)?;
        bytes.encode(encoder)
    }
}
