//! What is done only while this process leads and Akri is not there: watches, Discover streams, plans
//! and what they want. In: the parts of the process. Out: a cluster that is as its Configurations say.
//! When it begins and ends is decided in `run`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::Condition;
use kube::Client;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::discover::{Demand, Discovery, Parts};
use crate::events::Speaker;
use crate::execute::Executor;
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::model::ConfigurationKey;
use crate::realm::Realm;
use crate::reconciler::Reconciler;
use crate::requests::Writer;
use crate::status::StatusKeeper;
use crate::world::{Key, WatchReport, Watches, watch_all};

/// Keys that are looked at at the same time; each waits for its requests most of the time.
const WORKERS: usize = 16;
/// How long closing the streams may take.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// What every reign of the process needs.
pub struct Throne {
    /// Asks the API server.
    pub client: Client,
    /// Bounds what is written.
    pub limiter: Arc<Limiter>,
    /// The namespaces that are looked at; none: all.
    pub namespaces: Vec<String>,
    /// What discovery is made of.
    pub discovery: Parts,
    /// Counts.
    pub metrics: Metrics,
    /// How watches fare.
    pub report: WatchReport,
    /// Whether the cluster was read.
    pub synced: Condition,
    /// The name under which Events are written.
    pub identity: Arc<str>,
}

impl Throne {
    /// Reigns until `end`, then lets go of everything. Nothing is sent any more as soon as `end` is
    /// cancelled; what is on its way then was sent while this process was allowed to.
    pub async fn reign(&self, cluster: &Arc<str>, end: &CancellationToken) {
        tracing::info!("reign begins");
        self.synced.not_ready("reading the cluster");
        let realm = Arc::<Realm>::default();
        self.metrics.realm().set(&realm);
        let discovery = Arc::new(Discovery::start(self.discovery.clone()));
        let mut tasks = JoinSet::new();
        let shared = Shared {
            realm: Arc::clone(&realm),
            discovery: Arc::clone(&discovery),
            cluster: Arc::clone(cluster),
            writer: Writer::new(self.client.clone(), Arc::clone(&self.limiter), end.clone()),
        };
        let governed = self.govern(&mut tasks, shared);
        tokio::select! {
            () = end.cancelled() => {}
            () = governed => {}
        }
        tasks.shutdown().await;
        self.report.clear();
        if let Some(discovery) = Arc::into_inner(discovery)
            && timeout(STOP_WITHIN, discovery.stop()).await.is_err()
        {
            tracing::warn!("Discover streams did not close in time");
        }
        tracing::info!("reign ended");
    }

    async fn govern(&self, tasks: &mut JoinSet<()>, shared: Shared) {
        let realm = Arc::clone(&shared.realm);
        let (listed, is_listed) = oneshot::channel();
        let watches = Watches {
            client: self.client.clone(),
            namespaces: self.namespaces.clone(),
            realm: Arc::clone(&realm),
            report: self.report.clone(),
        };
        tasks.spawn(watch_all(watches, move || {
            // Whoever waited for it is gone when the reign is over.
            let _ = listed.send(());
        }));
        if is_listed.await.is_err() {
            return;
        }
        self.synced.ready("the cluster was read");
        let discovery = Arc::clone(&shared.discovery);
        tasks.spawn(findings(Arc::clone(&realm), Arc::clone(&discovery)));
        let reconciler = self.reconciler(tasks, shared);
        tasks.spawn(demand(Arc::clone(&reconciler)));
        for _ in 0..WORKERS {
            tasks.spawn(Arc::clone(&reconciler).work());
        }
        drop(reconciler);
        loop {
            let error = tokio::select! {
                () = discovery.ended() => "discovery".to_owned(),
                ended = tasks.join_next() => match ended {
                    Some(Ok(())) => continue,
                    Some(Err(error)) => error.to_string(),
                    None => return,
                },
            };
            tracing::error!(error, "a part of the reign has died, beginning anew");
            return;
        }
    }

    fn reconciler(&self, tasks: &mut JoinSet<()>, shared: Shared) -> Arc<Reconciler> {
        let (speaker, scribe) = Speaker::new(
            shared.writer.clone(),
            Arc::clone(&self.identity),
            self.metrics.events_dropped.clone(),
        );
        tasks.spawn(scribe);
        let statuses = StatusKeeper {
            realm: Arc::clone(&shared.realm),
            discovery: Arc::clone(&shared.discovery),
            writer: shared.writer.clone(),
            metrics: self.metrics.clone(),
            without_until: None,
            not_found: None,
            began: Instant::now(),
        };
        tasks.spawn(statuses.work());
        Arc::new(Reconciler {
            executor: Executor {
                writer: shared.writer,
                realm: Arc::clone(&shared.realm),
                speaker,
            },
            realm: shared.realm,
            discovery: shared.discovery,
            metrics: self.metrics.clone(),
            demand: Notify::new(),
            cluster: shared.cluster,
        })
    }
}

/// What the tasks of one reign share.
struct Shared {
    realm: Arc<Realm>,
    discovery: Arc<Discovery>,
    cluster: Arc<str>,
    writer: Writer,
}

/// Tells the discovery what all Configurations ask for, whenever one was looked at.
async fn demand(reconciler: Arc<Reconciler>) {
    loop {
        reconciler.demand.notified().await;
        reconciler.discovery.want(demanded(&reconciler.realm));
    }
}

fn demanded(realm: &Realm) -> BTreeMap<ConfigurationKey, Demand> {
    let world = realm.world();
    let asking = world.configurations.iter().filter_map(|known| {
        let blueprint = known.view.read.as_ref().ok()?;
        let asked = known.view.asked.as_ref()?;
        let demand = Demand {
            handler: asked.name.clone(),
            details: asked.discovery_details.clone(),
            properties: asked.discovery_properties.clone().unwrap_or_default(),
        };
        (!blueprint.deleting).then(|| (blueprint.key.clone(), demand))
    });
    asking.collect()
}

/// Has Configurations looked at whose handler has found something new.
async fn findings(realm: Arc<Realm>, discovery: Arc<Discovery>) {
    loop {
        for key in discovery.changed().await {
            realm.statuses.add(&key);
            realm.queue.add(&Key::Configuration(key));
        }
    }
}
