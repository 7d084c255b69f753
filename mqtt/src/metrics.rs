//! What the sessions of a process count, by server, read when metrics are asked for. In: sessions that start and end.
//! Out: OpenMetrics families. Sessions that have ended stay in the sums, so that counters never fall.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::status::{CountersSnapshot, Status};

type Labels<const N: usize> = [(&'static str, String); N];
type Values<const N: usize> = BTreeMap<Labels<N>, u64>;

#[derive(Default)]
struct Inner {
    next: u64,
    running: BTreeMap<u64, (String, watch::Receiver<Status>)>,
    /// By server.
    ended: BTreeMap<String, Sums>,
}

/// The sums of one server.
#[derive(Clone, Default)]
struct Sums {
    /// None if no session with it runs.
    connected: Option<u64>,
    lost: u64,
    connects: BTreeMap<&'static str, u64>,
    received: [u64; 3],
    skipped: BTreeMap<&'static str, u64>,
}

impl Sums {
    fn add(&mut self, counters: CountersSnapshot) {
        self.lost = self.lost.saturating_add(counters.sessions_lost);
        let maps = [
            (&mut self.connects, counters.connects),
            (&mut self.skipped, counters.skipped),
        ];
        for (sums, values) in maps {
            for (label, value) in values {
                let sum = sums.entry(label).or_default();
                *sum = sum.saturating_add(value);
            }
        }
        for (sum, value) in self.received.iter_mut().zip(counters.received) {
            *sum = sum.saturating_add(value);
        }
    }
}

/// See the module; clones are handles to the same.
#[derive(Clone, Default)]
pub struct SessionMetrics(Arc<Mutex<Inner>>);

impl fmt::Debug for SessionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionMetrics")
    }
}

/// A session that is counted; once dropped, it counts as ended.
#[derive(Debug)]
pub struct Counted {
    metrics: SessionMetrics,
    number: u64,
}

impl SessionMetrics {
    /// Counts a session from now on.
    pub fn watch(&self, server: &str, status: watch::Receiver<Status>) -> Counted {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.running.insert(number, (server.to_owned(), status));
        drop(inner);
        Counted {
            metrics: self.clone(),
            number,
        }
    }

    fn sums(&self) -> BTreeMap<String, Sums> {
        let inner = self.lock();
        let mut sums = inner.ended.clone();
        for (server, status) in inner.running.values() {
            let sum = sums.entry(server.clone()).or_default();
            let status = status.borrow();
            *sum.connected.get_or_insert(0) += u64::from(status.connected);
            sum.add(status.counters.snapshot());
        }
        sums
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut inner = self.metrics.lock();
        if let Some((server, status)) = inner.running.remove(&self.number) {
            let counters = status.borrow().counters.snapshot();
            inner.ended.entry(server).or_default().add(counters);
        }
    }
}

impl Collector for SessionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut connected, mut lost) = (Values::new(), Values::new());
        let (mut connects, mut received, mut skipped) =
            (Values::new(), Values::new(), Values::new());
        for (name, sums) in self.sums() {
            let server = || ("server", name.clone());
            if let Some(sessions) = sums.connected {
                connected.insert([server()], sessions);
            }
            lost.insert([server()], sums.lost);
            for (result, count) in sums.connects {
                connects.insert([server(), ("result", result.to_owned())], count);
            }
            for (qos, count) in sums.received.into_iter().enumerate() {
                received.insert([server(), ("qos", qos.to_string())], count);
            }
            for (reason, count) in sums.skipped {
                skipped.insert([server(), ("reason", reason.to_owned())], count);
            }
        }
        let gauge = MetricType::Gauge;
        let help = "Sessions with this server that are connected";
        family(&mut encoder, ("connected", help, gauge), &connected)?;
        let mut counter = |name, help, values: &Values<2>| {
            family(&mut encoder, (name, help, MetricType::Counter), values)
        };
        let help = "Attempts to connect and ends of connections";
        counter("connects", help, &connects)?;
        let help = "Messages from this server";
        counter("messages_received", help, &received)?;
        counter("messages_skipped", "Messages without effect", &skipped)?;
        let help = "Times the server had lost the session";
        let lost_family = ("session_lost", help, MetricType::Counter);
        family(&mut encoder, lost_family, &lost)
    }
}

fn family<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    values: &Values<N>,
) -> fmt::Result
where
    Labels<N>: EncodeLabelSet,
{
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        let family = family.encode_family(labels)?;
        if matches!(kind, MetricType::Counter) {
            ConstCounter::new(*value).encode(family)?;
        } else {
            ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX)).encode(family)?;
        }
    }
    Ok(())
}
