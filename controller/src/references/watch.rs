//! Reads and watches Secrets and ConfigMaps, each by its name: the controller may not list them.
//! In: which objects are of interest. Out: what is known about each, by `watch`.
//! An API server that does not answer changes nothing of what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use prost::bytes::Bytes;
use rand::Rng as _;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::{Data, Known, MAX_OBJECTS, Object, Observed};
use crate::discover::Metrics;

/// How long one watch lasts; the API server may end it earlier.
const WATCH_SECONDS: u32 = 290;
/// First wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait after a failure; also how soon a right that is granted later is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A watch that ends sooner counts as a failure.
const SHORT_WATCH: Duration = Duration::from_secs(5);

/// The objects that are watched. Dropping it ends the watches.
pub struct References {
    client: Client,
    metrics: Metrics,
    known: watch::Sender<Arc<Known>>,
    watches: BTreeMap<Object, DropGuard>,
}

impl References {
    /// Watches nothing yet.
    #[must_use]
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self {
            client,
            metrics,
            known: watch::channel(Arc::default()).0,
            watches: BTreeMap::new(),
        }
    }

    /// What is known now and as it changes.
    #[must_use]
    pub fn known(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    /// From now on these are of interest, and no others.
    pub fn want(&mut self, objects: &BTreeSet<Object>) {
        self.watches.retain(|object, _| objects.contains(object));
        for object in objects {
            if self.watches.contains_key(object) {
                continue;
            }
            if self.watches.len() >= MAX_OBJECTS {
                let why = format!("{MAX_OBJECTS} others are watched already");
                self.tell(object, Observed::Failed(why));
                continue;
            }
            let stop = CancellationToken::new();
            self.watches
                .insert(object.clone(), stop.clone().drop_guard());
            let watch = self.watch(object.clone());
            tokio::spawn(async move {
                let _ = stop.run_until_cancelled(watch).await;
            });
        }
        self.known.send_if_modified(|known| {
            let stale = known.keys().any(|object| !objects.contains(object));
            if stale {
                let mut fewer = Known::clone(known);
                fewer.retain(|object, _| objects.contains(object));
                *known = Arc::new(fewer);
            }
            // Nobody waits for what is of no interest.
            false
        });
        self.metrics.references(self.watches.len());
    }

    fn tell(&self, object: &Object, observed: Observed) {
        tell(&self.known, object, observed);
    }

    fn watch(&self, object: Object) -> impl Future<Output = ()> + Send + use<> {
        let (client, known) = (self.client.clone(), self.known.clone());
        async move {
            let told = |observed| tell(&known, &object, observed);
            match object.kind {
                super::Kind::Secret => watch_object::<Secret>(client, &object, told).await,
                super::Kind::ConfigMap => watch_object::<ConfigMap>(client, &object, told).await,
            }
        }
    }
}

impl Drop for References {
    fn drop(&mut self) {
        self.metrics.references(0);
    }
}

fn tell(known: &watch::Sender<Arc<Known>>, object: &Object, observed: Observed) {
    known.send_if_modified(|known| {
        let news = match (known.get(object), &observed) {
            // What is known is worth more than that it cannot be read now.
            (Some(before), Observed::Failed(_)) if !matches!(before, Observed::Failed(_)) => false,
            (before, now) => before != Some(now),
        };
        if !news {
            return false;
        }
        let mut changed = Known::clone(known);
        changed.insert(object.clone(), observed);
        *known = Arc::new(changed);
        true
    });
}

/// A Secret or a ConfigMap.
trait Keeper:
    kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + 'static
{
    fn values(self) -> Data;
}

impl Keeper for Secret {
    fn values(self) -> Data {
        let data = self.data.unwrap_or_default().into_iter();
        Data(
            data.map(|(key, value)| (key, Bytes::from(value.0)))
                .collect(),
        )
    }
}

impl Keeper for ConfigMap {
    fn values(self) -> Data {
        let text = self.data.unwrap_or_default().into_iter();
        let binary = self.binary_data.unwrap_or_default().into_iter();
        let text = text.map(|(key, value)| (key, Bytes::from(value)));
        let binary = binary.map(|(key, value)| (key, Bytes::from(value.0)));
        Data(binary.chain(text).collect())
    }
}

async fn watch_object<K: Keeper>(client: Client, object: &Object, told: impl Fn(Observed)) {
    let api = Api::<K>::namespaced(client, &object.namespace);
    let mut wait = FIRST_WAIT;
    loop {
        let started = tokio::time::Instant::now();
        match follow(&api, object, &told).await {
            Ok(()) => debug!(%object, "watch ended"),
            Err(Trouble::Forbidden) => {
                warn!(%object, "may not be read");
                told(Observed::Forbidden);
            }
            Err(Trouble::Other(why)) => {
                warn!(%object, why, "cannot be watched");
                told(Observed::Failed(why));
            }
        }
        if started.elapsed() >= SHORT_WATCH {
            wait = FIRST_WAIT;
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Between half and all of it.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.5..=1.0))
}

enum Trouble {
    Forbidden,
    Other(String),
}

impl From<kube::Error> for Trouble {
    /// In our words: those of other errors could repeat a part of an answer, and so of a Secret.
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden,
            kube::Error::Api(status) => {
                let code = status.code;
                Self::Other(format!("the API server answers with {code}"))
            }
            kube::Error::SerdeError(_) => {
                Self::Other("the API server's answer cannot be read".to_owned())
            }
            _ => Self::Other("the API server does not answer".to_owned()),
        }
    }
}

/// Reads it and follows its changes for as long as the API server goes along.
async fn follow<K: Keeper>(
    api: &Api<K>,
    object: &Object,
    told: &impl Fn(Observed),
) -> Result<(), Trouble> {
    let found = api.get_opt(&object.name).await?;
    // Without a version, the watch begins with the object if it was made meanwhile.
    let version = found.as_ref().and_then(K::resource_version);
    told(found.map_or(Observed::Absent, present));
    let params = WatchParams::default()
        .fields(&format!("metadata.name={}", object.name))
        .timeout(WATCH_SECONDS);
    let events = match api.watch(&params, &version.unwrap_or_default()).await {
        Ok(events) => events,
        // It could be read, so its values count; they are read again soon.
        Err(error) => {
            let forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
            warn!(%object, forbidden, "can be read but not watched");
            return Ok(());
        }
    };
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Added(found) | WatchEvent::Modified(found)) => {
                // The selector is the API server's to obey, but nobody else's values are ours.
                if found.name_any() == *object.name {
                    told(present(found));
                }
            }
            Ok(WatchEvent::Deleted(found)) if found.name_any() == *object.name => {
                told(Observed::Absent);
            }
            Ok(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => {}
            // Most often that the version is too old: it is read again.
            Ok(WatchEvent::Error(_)) | Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn present<K: Keeper>(found: K) -> Observed {
    Observed::Present(Arc::new(found.values()))
}
