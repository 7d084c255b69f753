//! The metrics of the controller. In: what happens, and the world when it is asked for. Out: families
//! of OpenMetrics. No label per device.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::Phase;
use crate::realm::Realm;
use crate::requests::Problem;

/// Seconds; from a plan without actions to one with a hundred of them.
const BUCKETS: [f64; 11] = [
    0.0001, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconcile: Histogram,
    errors: Family<[(&'static str, &'static str); 1], Counter>,
    /// Events that were not written because there were too many, or could not be.
    pub events_dropped: Counter,
    leader: Gauge,
    suspended: Gauge,
    realm: CurrentRealm,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconcile: Histogram::new(BUCKETS),
            errors: Family::default(),
            events_dropped: Counter::default(),
            leader: Gauge::default(),
            suspended: Gauge::default(),
            realm: CurrentRealm::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "reconcile_seconds",
            "Time that it took to look at a Configuration or an Instance and to do what was to be done",
            self.reconcile.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Actions that failed, by reason",
            self.errors.clone(),
        );
        registry.register(
            "events_dropped",
            "Events that were not written",
            self.events_dropped.clone(),
        );
        registry.register(
            "leader",
            "Whether this process holds the Lease",
            self.leader.clone(),
        );
        registry.register(
            "suspended",
            "Whether nothing is written because Akri is in the cluster",
            self.suspended.clone(),
        );
        registry.register_collector(Box::new(self.realm.clone()));
    }

    /// The realm of the present reign, whose numbers are shown as long as it lives.
    #[must_use]
    pub fn realm(&self) -> &CurrentRealm {
        &self.realm
    }

    /// Something was looked at.
    pub fn reconciled(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    /// An action failed.
    pub fn failed(&self, problem: &Problem) {
        let labels = [("reason", problem.reason())];
        self.errors.get_or_create(&labels).inc();
    }

    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Whether Akri keeps it from writing.
    pub fn set_suspended(&self, suspended: bool) {
        self.suspended.set(i64::from(suspended));
    }
}

/// The realm of the present reign, if there is one.
#[derive(Clone, Default)]
pub struct CurrentRealm {
    realm: Arc<Mutex<Weak<Realm>>>,
}

impl fmt::Debug for CurrentRealm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentRealm")
    }
}

impl CurrentRealm {
    /// A reign begins; its end needs no word.
    pub fn set(&self, realm: &Arc<Realm>) {
        *self.lock() = Arc::downgrade(realm);
    }

    /// The realm.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Realm>> {
        self.lock().upgrade()
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Realm>> {
        // One pointer is replaced.
        self.realm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for CurrentRealm {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let realm = self.get();
        let mut instances = BTreeMap::new();
        let mut pods = BTreeMap::new();
        let mut waiting = 0;
        if let Some(realm) = &realm {
            waiting = realm.queue.ready();
            let world = realm.world();
            for instance in world.instances.iter() {
                let of = format!("{}/{}", instance.namespace, instance.view.configuration);
                *instances.entry([("configuration", of)]).or_insert(0_i64) += 1;
            }
            for pod in world.pods.iter() {
                let configuration = pod.configuration.as_deref().unwrap_or_default();
                let of = format!("{}/{configuration}", pod.namespace);
                let phase = phase(pod.view.facts.phase).to_owned();
                let labels = [("configuration", of), ("phase", phase)];
                *pods.entry(labels).or_insert(0_i64) += 1;
            }
        }
        let help = "Instances that a Configuration has";
        let mut family = encoder.encode_descriptor("instances", help, None, MetricType::Gauge)?;
        for (labels, count) in &instances {
            ConstGauge::new(*count).encode(family.encode_family(labels)?)?;
        }
        let help = "Pods of devices that a Configuration has, by phase";
        let mut family = encoder.encode_descriptor("broker_pods", help, None, MetricType::Gauge)?;
        for (labels, count) in &pods {
            ConstGauge::new(*count).encode(family.encode_family(labels)?)?;
        }
        let help = "Configurations and Instances that are to be looked at now";
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        ConstGauge::new(waiting).encode(encoder.encode_descriptor(
            "queue_length",
            help,
            None,
            MetricType::Gauge,
        )?)
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Running => "running",
        Phase::Succeeded => "succeeded",
        Phase::Failed => "failed",
        Phase::Unknown => "unknown",
    }
}
