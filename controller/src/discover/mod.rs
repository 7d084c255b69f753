//! What the discovery handlers find for each Configuration.
//! In: the demand of every Configuration, the registered handlers, Secrets and ConfigMaps. Out: for
//! each Configuration its newest list of devices and how its discovery fares.
//! What becomes of the devices is decided in `plan`; who writes it to the cluster is `execute`.
//!
//! The way of a list: `call` keeps one Discover stream open and reads lists from it; `line` decides
//! which call of an endpoint counts; `desk` unites the endpoints of one Configuration; `driver`
//! carries it all. A list stands until another one replaces it: no end of a stream, no failure and no
//! missing Secret ever empties it.

mod backoff;
mod call;
mod desk;
mod devices;
mod driver;
mod findings;
mod line;
mod metrics;
mod servers;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_crds::DiscoveryProperty;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use devices::{Devices, FoundDevice, Mount, NodeDevice, Properties};
pub use metrics::Metrics;

use crate::handlers::Handlers;
use crate::model::ConfigurationKey;
use findings::Findings;

/// What one Configuration asks for.
#[derive(Clone, PartialEq)]
pub struct Demand {
    /// `spec.discoveryHandler.name`
    pub handler: String,
    /// `spec.discoveryHandler.discoveryDetails`
    pub details: String,
    /// `spec.discoveryHandler.discoveryProperties`
    pub properties: Vec<DiscoveryProperty>,
}

/// How the discovery of one Configuration fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How it fares now. Whatever it is, `devices` is what counts: it stands through every failure.
    pub state: DiscoveryState,
    /// Counts streams that have sent a list, and losses of an endpoint whose devices others do not
    /// list. A change means that devices may be missing that are there.
    pub stream: u64,
    /// The union of the newest lists of all endpoints; `None` before the handler's first list in this reign.
    pub devices: Option<Arc<Devices>>,
    /// What was left out of the newest lists.
    pub left_out: LeftOut,
    /// What the handler's admin port says about the servers; `None` when it says nothing.
    pub servers: Option<Arc<ServersReport>>,
}

/// Devices of the newest lists that are no devices for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Without an id.
    pub nameless: u32,
    /// With the id of another one before them in the same list.
    pub duplicates: u32,
    /// Larger than a device may be.
    pub oversized: u32,
    /// More than a list may have.
    pub excess: u32,
}

impl LeftOut {
    fn add(&mut self, more: Self) {
        self.nameless = self.nameless.saturating_add(more.nameless);
        self.duplicates = self.duplicates.saturating_add(more.duplicates);
        self.oversized = self.oversized.saturating_add(more.oversized);
        self.excess = self.excess.saturating_add(more.excess);
    }
}

/// Where a Configuration's discovery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryState {
    /// No handler of its name is registered.
    NoHandler,
    /// The handler of its name finds devices of its node only (`shared: false`) and was refused.
    NotShared,
    /// A property cannot be resolved; streams that are open stay so.
    Unresolved {
        /// In one sentence, without a value.
        reason: String,
    },
    /// A stream is being opened.
    Connecting,
    /// The handler has accepted what is asked for now.
    Open,
    /// It has not; it is tried again.
    Failed {
        /// The handler's words, or the system's.
        reason: String,
    },
}

/// The servers that a Configuration's devices are looked for on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServersReport {
    /// By name.
    pub servers: Vec<ServerReport>,
    /// How long a device may be silent before it is offline; `None` where only announcements count.
    pub offline_after: Option<Duration>,
}

impl ServersReport {
    /// Whether every server is connected.
    #[must_use]
    pub fn all_connected(&self) -> bool {
        self.servers.iter().all(|server| server.connected)
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// Its name in `discoveryDetails`.
    pub name: String,
    /// Whether it has accepted the handler's connection.
    pub connected: bool,
    /// Why it is not connected, when that is known.
    pub error: Option<String>,
    /// Topic filters that it refuses, with its reasons.
    pub refused_filters: Vec<(String, String)>,
}

/// What a discovery is made of.
#[derive(Clone)]
pub struct Parts {
    /// The registered handlers.
    pub handlers: Handlers,
    /// Reads Secrets and ConfigMaps.
    pub client: kube::Client,
    /// `--allow-secret-namespace`
    pub allowed_secret_namespaces: BTreeSet<String>,
    /// `--handler-status`: URL of the handler's admin port, such as `http://127.0.0.1:8081`.
    pub handler_status: Option<axum::http::Uri>,
    /// Counters; they outlive this discovery.
    pub metrics: Metrics,
}

/// The discovery of one reign. Dropping it closes all streams.
pub struct Discovery {
    demand: watch::Sender<Arc<BTreeMap<ConfigurationKey, Demand>>>,
    findings: Arc<Findings>,
    driver: JoinHandle<()>,
    /// Cancelled when the driver has ended, however it did.
    ended: CancellationToken,
    stop: DropGuard,
}

impl Discovery {
    /// Starts without any demand.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let stop = CancellationToken::new();
        let (demand, demanded) = watch::channel(Arc::default());
        let findings = Arc::<Findings>::default();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let run = driver::run(parts, demanded, Arc::clone(&findings), stop.clone());
        let driver = tokio::spawn(async move {
            let _end = end;
            run.await;
        });
        Self {
            demand,
            findings,
            driver,
            ended,
            stop: stop.drop_guard(),
        }
    }

    /// Waits until it has died.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// What all Configurations ask for now; it replaces what they asked for before. What has not
    /// changed is not touched.
    pub fn want(&self, demand: BTreeMap<ConfigurationKey, Demand>) {
        self.demand.send_if_modified(|known| {
            let changed = **known != demand;
            if changed {
                *known = Arc::new(demand);
            }
            changed
        });
    }

    /// Waits until findings have changed, and tells whose. For one caller; safe to drop and call
    /// again, as in `select!`.
    pub async fn changed(&self) -> BTreeSet<ConfigurationKey> {
        self.findings.changed().await
    }

    /// The newest finding of a Configuration, `None` until its demand was looked at.
    #[must_use]
    pub fn finding(&self, key: &ConfigurationKey) -> Option<Finding> {
        self.findings.get(key)
    }

    /// Closes all streams and waits until they are closed.
    pub async fn stop(self) {
        drop(self.stop);
        // A panic was reported when it happened.
        let _ = self.driver.await;
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
