//! A record of everything that changed in a namespace. In: kinds to watch. Out: the changes with the
//! times at which the API server told them, the last state of each object, and what pods were
//! touched. Judges nothing but that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{api, until};
use crate::pod::now_ms;

/// Kinds that the controller writes.
pub const KINDS: [&str; 7] = [
    "Configuration",
    "Instance",
    "Pod",
    "Service",
    "Job",
    "PersistentVolumeClaim",
    "Secret",
];

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// When it was told, in milliseconds since 1970.
    pub at: u64,
    /// Kind of the object.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether it is gone now.
    pub gone: bool,
    /// Whether its deletion has begun.
    pub deleting: bool,
    /// The object.
    pub object: Arc<DynamicObject>,
}

impl Change {
    /// A string in the object's data, by JSON pointer.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        let found = self.object.data.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default()
    }

    /// Whether it is a running pod, not about to go.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.gone && !self.deleting && self.text("/status/phase") == "Running"
    }

    /// Whether it is a pod that the controller made.
    #[must_use]
    pub fn is_broker(&self) -> bool {
        self.kind == "Pod" && self.object.labels().contains_key("akri.sh/instance")
    }

    fn restarts(&self) -> u64 {
        let containers = self.object.data.pointer("/status/containerStatuses");
        let containers = containers.and_then(Value::as_array).into_iter().flatten();
        containers
            .filter_map(|container| container.get("restartCount")?.as_u64())
            .sum()
    }
}

/// A pod, as far as it must not change: name, uid, restarts.
pub type Fingerprint = BTreeSet<(String, String, u64)>;

/// A running record; it ends when it is dropped.
pub struct Record {
    changes: Arc<Mutex<Vec<Change>>>,
    watches: Vec<JoinHandle<()>>,
}

impl Record {
    /// Starts to watch a namespace.
    #[must_use]
    pub fn start(client: &Client, namespace: &str) -> Self {
        let changes = Arc::default();
        let watches = KINDS
            .into_iter()
            .map(|kind| {
                let api = api(client, namespace, kind);
                let stream = watcher::watcher(api, watcher::Config::default());
                let changes = Arc::clone(&changes);
                tokio::spawn(write_down(kind, stream.boxed(), changes))
            })
            .collect();
        Self { changes, watches }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much has been written down; a place to look from later.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing has been written down.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The changes from a place on.
    #[must_use]
    pub fn since(&self, place: usize) -> Vec<Change> {
        self.lock().get(place..).unwrap_or_default().to_vec()
    }

    /// The objects of a kind that are there, by name.
    #[must_use]
    pub fn now(&self, kind: &str) -> BTreeMap<String, Change> {
        let mut found = BTreeMap::new();
        for change in self.lock().iter().filter(|change| change.kind == kind) {
            if change.gone {
                found.remove(&change.name);
            } else {
                found.insert(change.name.clone(), change.clone());
            }
        }
        found
    }

    /// The controller's pods that are there, by name.
    #[must_use]
    pub fn brokers(&self) -> BTreeMap<String, Change> {
        let mut pods = self.now("Pod");
        pods.retain(|_, pod| pod.is_broker());
        pods
    }

    /// Those of them that run.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, Change> {
        let mut pods = self.brokers();
        pods.retain(|_, pod| pod.is_running());
        pods
    }

    /// Waits until so many of them are there and run.
    pub async fn wait_for_running(&self, count: usize, deadline: Duration) -> Vec<Change> {
        until(&format!("{count} pods run"), deadline, async || {
            let (all, running) = (self.brokers(), self.running());
            if all.len() == count && running.len() == count {
                Ok(running.into_values().collect())
            } else {
                Err(format!("{} pods, {} running", all.len(), running.len()))
            }
        })
        .await
    }

    /// What of the controller's pods must not change.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let pods = self.brokers().into_values();
        pods.map(|pod| (pod.name.clone(), pod.uid.clone(), pod.restarts()))
            .collect()
    }

    /// Asserts that since `place` no broker pod was made, restarted or marked for deletion, and that
    /// the pods are those of `before`.
    ///
    /// # Panics
    /// When one was; with what happened.
    pub fn assert_pods_unchanged(&self, place: usize, before: &Fingerprint, what: &str) {
        let touched: Vec<String> = self
            .since(place)
            .iter()
            .filter(|change| change.is_broker())
            .filter(|change| {
                let known = before
                    .iter()
                    .any(|(name, uid, _)| *name == change.name && *uid == change.uid);
                change.gone || change.deleting || !known
            })
            .map(|change| format!("{} {} {}", change.at, change.name, change.uid))
            .collect();
        assert!(touched.is_empty(), "{what}: pods changed: {touched:#?}");
        assert_eq!(
            self.fingerprint(),
            *before,
            "{what}: other pods than before"
        );
    }

    /// The objects that were written since `place`, as `Kind name`, Events and pods' own status left out.
    #[must_use]
    pub fn written(&self, place: usize) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for change in self.since(place) {
            if change.kind != "Pod" || change.gone || change.deleting {
                *found
                    .entry(format!("{} {}", change.kind, change.name))
                    .or_default() += 1;
            }
        }
        found
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

async fn write_down(
    kind: &'static str,
    mut events: futures_util::stream::BoxStream<
        'static,
        Result<Event<DynamicObject>, watcher::Error>,
    >,
    changes: Arc<Mutex<Vec<Change>>>,
) {
    while let Some(event) = events.next().await {
        let (object, gone) = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => (object, false),
            Ok(Event::Delete(object)) => (object, true),
            // The watcher tries again by itself.
            Ok(Event::Init | Event::InitDone) | Err(_) => continue,
        };
        let change = Change {
            at: now_ms(),
            kind,
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            gone,
            deleting: object.metadata.deletion_timestamp.is_some(),
            object: Arc::new(object),
        };
        changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(change);
    }
}
