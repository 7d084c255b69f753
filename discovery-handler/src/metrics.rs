//! The metrics of the handler, read when they are asked for.
//! In: requests, streams; what sessions count is theirs. Out: OpenMetrics families. No label per device or topic.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use akri_mqtt_runtime::metrics::Registry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::pool::Pool;
use crate::requests::Requests;
use crate::streams::Sent;
use crate::tally::Counts;

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
        self.devices(&mut encoder)?;
        self.credentials(&mut encoder)?;
        self.streams(&mut encoder)
    }
}

impl HandlerMetrics {
    /// Registers all of them.
    pub fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.pool.metrics().clone()));
        registry.register_collector(Box::new(self));
    }

    fn devices(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut devices = Family::gauge("devices", "Devices of a request by state");
        let mut left_out = Family::gauge("devices_left_out", "Present devices that no list names");
        let mut list = Family::gauge("list_bytes", "Bytes of the list with the least room");
        let mut missing = Family::gauge(
            "list_missing_bytes",
            "About how many bytes more than its limit a list of all present devices would have",
        );
        let mut transitions = Family::counter("transitions", "Changes of a device's state");
        let mut ignored = Family::counter(
            "messages_ignored",
            "Messages that said nothing about a device",
        );
        let mut flapping = Family::gauge("flapping_devices", "Devices that come and go");
        flapping.add([], 0);
        let (running, counts) = self.requests.tally().read();
        for (label, numbers) in running {
            let request = || ("request", label.to_string());
            for (state, count) in numbers.devices {
                devices.add([request(), ("state", state.as_str().to_owned())], count);
            }
            let shortage = numbers.shortage;
            for (reason, count) in [("list", shortage.waiting), ("collision", shortage.withheld)] {
                left_out.add([request(), ("reason", reason.to_owned())], number(count));
            }
            list.add([request()], number(shortage.bytes));
            missing.add([request()], number(shortage.missing));
            left_out.add(
                [request(), ("reason", "max_devices".to_owned())],
                numbers.refused,
            );
            flapping.add([], numbers.flapping);
        }
        for ((to, reason), count) in &counts.transitions {
            let labels = [("to", (*to).to_owned()), ("reason", (*reason).to_owned())];
            transitions.add(labels, *count);
        }
        for (reason, count) in &counts.ignored {
            ignored.add([("reason", (*reason).to_owned())], *count);
        }
        Self::sparkplug(&counts, encoder)?;
        devices.encode(encoder)?;
        left_out.encode(encoder)?;
        list.encode(encoder)?;
        missing.encode(encoder)?;
        transitions.encode(encoder)?;
        ignored.encode(encoder)?;
        flapping.encode(encoder)
    }

    fn credentials(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Changed credential files that are not used: 1 if they cannot be read, and sessions for which they are wrong";
        let mut unused = Family::gauge("credentials_unused", help);
        let unreadable = u64::from(!self.pool.files_readable());
        unused.add([("reason", "unreadable".to_owned())], unreadable);
        let wrong = u64::try_from(self.pool.unusable_credentials()).unwrap_or(u64::MAX);
        unused.add([("reason", "wrong".to_owned())], wrong);
        unused.encode(encoder)
    }

    fn sparkplug(counts: &Counts, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut irregular = Family::counter(
            "sparkplug_irregular",
            "Messages of Sparkplug B with another sequence number than was expected",
        );
        for (what, count) in &counts.irregular {
            irregular.add([("kind", (*what).to_owned())], *count);
        }
        let mut rebirths = Family::counter(
            "sparkplug_rebirth_requests",
            "Edge Nodes that were asked for their births",
        );
        for (result, count) in &counts.rebirths {
            rebirths.add([("result", (*result).to_owned())], *count);
        }
        irregular.encode(encoder)?;
        rebirths.encode(encoder)
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

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
