//! Keeps the world as the cluster is. In: lists and watches of the API server. Out: a world that has
//! caught up, keys for the queue, and how each watch fares. A watch that fails is begun again, for
//! ever; what is known stands meanwhile.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{
    ClaimSeen, ConfigurationSeen, InstanceSeen, JobSeen, Key, NodeSeen, PodSeen, Scope, Seen,
    ServiceSeen, World,
};
use crate::names::{MANAGED_BY, MANAGER};
use crate::panics;
use crate::queue::Queue;
use crate::requests::words;

/// Objects of a page: what a page takes is what a list takes of memory.
const PAGE: u32 = 200;
/// Between two attempts, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What all watches share.
#[derive(Clone)]
pub struct Watches {
    /// Asks the API server.
    pub client: Client,
    /// The namespaces that are looked at; none: all.
    pub namespaces: Vec<String>,
    /// What they keep.
    pub world: Arc<Mutex<World>>,
    /// Whom they tell.
    pub queue: Arc<Queue<Key>>,
    /// How they fare.
    pub report: WatchReport,
}

/// How each watch fares; clones share it.
#[derive(Clone, Debug, Default)]
pub struct WatchReport {
    watches: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

impl WatchReport {
    /// What is wrong, one sentence each, sorted; empty when all watches work.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let watches = self.lock();
        let wrong = watches.iter().filter_map(|(name, problem)| {
            let problem = problem.as_ref()?;
            Some(format!("{name}: {problem}"))
        });
        wrong.collect()
    }

    /// Forgets all watches.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Returns whether this is news.
    fn set(&self, name: &str, problem: Option<String>) -> bool {
        let mut watches = self.lock();
        match watches.get_mut(name) {
            Some(known) if *known == problem => false,
            Some(known) => {
                *known = problem;
                true
            }
            None => {
                watches.insert(name.to_owned(), problem);
                true
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        // One value is replaced at a time.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches everything, until it is dropped; calls `synced` once everything was listed. What belongs
/// to something is listed before it, so that nothing seems to have lost its owner.
pub async fn watch_all(watches: Watches, synced: impl FnOnce() + Send) {
    let mut tasks = JoinSet::new();
    let (listed, mut lists) = mpsc::channel::<()>(1);
    let ours = Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let all = Config::default();
    watches.everywhere::<PodSeen>(&mut tasks, &ours, &listed);
    watches.everywhere::<JobSeen>(&mut tasks, &ours, &listed);
    watches.everywhere::<ServiceSeen>(&mut tasks, &ours, &listed);
    watches.everywhere::<ClaimSeen>(&mut tasks, &ours, &listed);
    watches.one::<NodeSeen>(
        &mut tasks,
        Api::all(watches.client.clone()),
        (None, all.clone()),
        &listed,
    );
    drop(listed);
    // Each list holds a sender until it has ended.
    let _ = lists.recv().await;
    let (listed, mut lists) = mpsc::channel::<()>(1);
    watches.everywhere::<InstanceSeen>(&mut tasks, &all, &listed);
    drop(listed);
    let _ = lists.recv().await;
    let (listed, mut lists) = mpsc::channel::<()>(1);
    watches.everywhere::<ConfigurationSeen>(&mut tasks, &all, &listed);
    drop(listed);
    let _ = lists.recv().await;
    synced();
    while let Some(ended) = tasks.join_next().await {
        // A kind that nobody watches any more would look as it did for ever.
        panics::pass_on(ended);
    }
}

impl Watches {
    fn everywhere<S: Seen + Resource<Scope = NamespaceResourceScope>>(
        &self,
        tasks: &mut JoinSet<()>,
        config: &Config,
        listed: &mpsc::Sender<()>,
    ) {
        if self.namespaces.is_empty() {
            let api = Api::<S>::all(self.client.clone());
            self.one(tasks, api, (None, config.clone()), listed);
        }
        for namespace in &self.namespaces {
            let api = Api::<S>::namespaced(self.client.clone(), namespace);
            let scope = Some(namespace.as_str().into());
            self.one(tasks, api, (scope, config.clone()), listed);
        }
    }

    fn one<S: Seen>(
        &self,
        tasks: &mut JoinSet<()>,
        api: Api<S>,
        what: (Scope, Config),
        listed: &mpsc::Sender<()>,
    ) {
        let follower = Follower {
            world: Arc::clone(&self.world),
            queue: Arc::clone(&self.queue),
            report: self.report.clone(),
            name: match &what.0 {
                Some(namespace) => format!("{} in {namespace}", S::plural(&())),
                None => S::plural(&()).into_owned(),
            },
            scope: what.0,
            listed: Some(listed.clone()),
        };
        follower
            .report
            .set(&follower.name, Some("not listed yet".to_owned()));
        tasks.spawn(follower.follow(api, what.1));
    }
}

struct Follower {
    world: Arc<Mutex<World>>,
    queue: Arc<Queue<Key>>,
    report: WatchReport,
    name: String,
    scope: Scope,
    /// Dropped when the first list has ended.
    listed: Option<mpsc::Sender<()>>,
}

impl Follower {
    async fn follow<S: Seen>(mut self, api: Api<S>, config: Config) {
        let mut events = pin!(watcher(api, config.page_size(PAGE)));
        let mut wait = RETRY.0;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if self.take::<S>(event) {
                        wait = RETRY.0;
                    }
                }
                Err(error) => {
                    let problem = words(&error);
                    if self.expired(&error) {
                        tracing::debug!(watch = self.name, "watch has expired, listing again");
                    } else if self.report.set(&self.name, Some(problem.clone())) {
                        tracing::warn!(watch = self.name, problem, "watch failed, trying again");
                    }
                    sleep(wait.mul_f64(0.75 + rand::random::<f64>() / 2.0)).await;
                    wait = wait.saturating_mul(2).min(RETRY.1);
                }
            }
        }
    }

    fn expired(&self, error: &watcher::Error) -> bool {
        match error {
            watcher::Error::WatchError(status) => status.code == 410,
            watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
            _ => false,
        }
    }

    /// Returns whether it shows that the watch works.
    fn take<S: Seen>(&mut self, event: Event<S>) -> bool {
        let keys = match event {
            Event::Init => {
                self.world().begin::<S>(&self.scope);
                return false;
            }
            Event::InitDone => {
                let keys = self.world().end::<S>(&self.scope);
                self.report.set(&self.name, None);
                self.listed = None;
                keys
            }
            Event::InitApply(object) => self.put(object),
            Event::Apply(object) => {
                self.report.set(&self.name, None);
                self.put(object)
            }
            Event::Delete(object) => match object.read() {
                Some(gone) => {
                    self.world()
                        .remove::<S>(&gone.namespace, &gone.name, (&gone.uid, gone.version))
                }
                None => Vec::new(),
            },
        };
        for key in &keys {
            self.queue.add(key);
        }
        true
    }

    fn put<S: Seen>(&self, object: S) -> Vec<Key> {
        match object.read() {
            Some(object) => self.world().put::<S>(object),
            None => Vec::new(),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // Changes of the world under the lock do not panic half-way on outside data.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
