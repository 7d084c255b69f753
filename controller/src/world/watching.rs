//! Keeps the world as the cluster is. In: lists and watches of the API server. Out: a world that has
//! caught up, keys for the queue, and how each watch fares. A watch that fails is begun again, for
//! ever; what is known stands meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{
    ClaimSeen, ConfigurationSeen, InstanceSeen, JobSeen, Key, NodeSeen, PodSeen, Scope, Seen,
    ServiceSeen,
};
use crate::names::{MANAGED_BY, MANAGER};
use crate::panics;
use crate::realm::Realm;
use crate::requests::words;

/// Objects of a page: what a page takes is what a list takes of memory.
const PAGE: u32 = 200;
/// Between two attempts, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// After an error that nothing has followed for so long, a watch works again: what it sees is not
/// told until something changes.
const CALM: Duration = Duration::from_secs(30);

/// What all watches share.
#[derive(Clone)]
pub struct Watches {
    /// Asks the API server.
    pub client: Client,
    /// The namespaces that are looked at; none: all.
    pub namespaces: Vec<String>,
    /// What they keep, and whom they tell.
    pub realm: Arc<Realm>,
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

/// Watches everything, until it is dropped; calls `synced` once everything was listed that may be.
/// What belongs to something is listed before it, so that nothing seems to have lost its owner; until
/// then nobody is told of it. A namespace that may not be listed is not waited for: it is looked at
/// as soon as it may be.
pub async fn watch_all(watches: Watches, synced: impl FnOnce() + Send) {
    let mut tasks = JoinSet::new();
    let gate = Gate::default();
    let (done, mut nodes) = mpsc::channel(1);
    watches.follow(
        &mut tasks,
        Api::<NodeSeen>::all(watches.client.clone()),
        (None, Config::default()),
        &Chain {
            gate: gate.clone(),
            done,
        },
    );
    while next(&mut tasks, &mut nodes).await != Listing::Done {}
    let scopes: Vec<Scope> = match watches.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().map(|name| Some(name.as_str().into())).collect(),
    };
    let (told, mut outcomes) = mpsc::channel(2 * scopes.len());
    for scope in &scopes {
        let (watches, scope, told) = (watches.clone(), scope.clone(), told.clone());
        tasks.spawn(watches.namespace(scope, gate.clone(), told));
    }
    let (mut waiting, mut any) = (scopes.len(), false);
    while waiting > 0 || !any {
        // One that opens after it was refused is told twice, the other ones once.
        any |= next(&mut tasks, &mut outcomes).await == Listing::Done;
        waiting = waiting.saturating_sub(1);
    }
    synced();
    while let Some(ended) = tasks.join_next().await {
        // A kind that nobody watches any more would look as it did for ever.
        panics::pass_on(ended);
    }
}

/// What is told next; a task that dies is not waited for.
async fn next(tasks: &mut JoinSet<()>, told: &mut mpsc::Receiver<Listing>) -> Listing {
    loop {
        tokio::select! {
            Some(listing) = told.recv() => return listing,
            Some(ended) = tasks.join_next() => panics::pass_on(ended),
            else => std::future::pending().await,
        }
    }
}

/// How a first list went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Done,
    /// It may not be made; it is tried again.
    Refused,
}

/// What has been listed in full, so that changes there are told; clones share it.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<RwLock<BTreeSet<Scope>>>);

impl Gate {
    fn open(&self, scope: &Scope) {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(scope.clone());
    }

    /// Also of a node's change, which concerns pods of any namespace.
    fn is_open(&self, key: &Key) -> bool {
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        open.contains(&None) || open.contains(&Some(Arc::clone(key.namespace())))
    }
}

/// The watches of one namespace, one after the other.
#[derive(Clone)]
struct Chain {
    gate: Gate,
    /// Is told how the first lists go.
    done: mpsc::Sender<Listing>,
}

impl Watches {
    /// Watches a namespace; tells once when it is refused, and when it is listed.
    async fn namespace(self, scope: Scope, gate: Gate, told: mpsc::Sender<Listing>) {
        let (done, listings) = mpsc::channel(1);
        let mut lists = Lists {
            tasks: JoinSet::new(),
            listings,
            told: told.clone(),
            // Without a namespace there is nothing else that could be looked at.
            tell: scope.is_some(),
        };
        let chain = Chain { gate, done };
        let ours = Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
        self.of::<PodSeen>(&mut lists.tasks, &scope, &chain, &ours);
        self.of::<JobSeen>(&mut lists.tasks, &scope, &chain, &ours);
        self.of::<ServiceSeen>(&mut lists.tasks, &scope, &chain, &ours);
        self.of::<ClaimSeen>(&mut lists.tasks, &scope, &chain, &ours);
        lists.end(4).await;
        let all = Config::default();
        self.of::<InstanceSeen>(&mut lists.tasks, &scope, &chain, &all);
        lists.end(1).await;
        self.of::<ConfigurationSeen>(&mut lists.tasks, &scope, &chain, &all);
        lists.end(1).await;
        chain.gate.open(&scope);
        let keys = self.realm.world().keys_in(&scope);
        for key in &keys {
            self.realm.queue.add(key);
            if let Key::Configuration(key) = key {
                self.realm.statuses.add(key);
            }
        }
        let namespace = scope.as_deref().unwrap_or("all");
        tracing::info!(namespace, keys = keys.len(), "namespace was read");
        // Nobody listens any more once all others are read.
        let _ = told.try_send(Listing::Done);
        while let Some(ended) = lists.tasks.join_next().await {
            panics::pass_on(ended);
        }
    }

    fn of<S: Seen + Resource<Scope = NamespaceResourceScope>>(
        &self,
        tasks: &mut JoinSet<()>,
        scope: &Scope,
        chain: &Chain,
        config: &Config,
    ) {
        let client = self.client.clone();
        let api = match scope {
            Some(namespace) => Api::<S>::namespaced(client, namespace),
            None => Api::<S>::all(client),
        };
        self.follow(tasks, api, (scope.clone(), config.clone()), chain);
    }

    fn follow<S: Seen>(
        &self,
        tasks: &mut JoinSet<()>,
        api: Api<S>,
        (scope, config): (Scope, Config),
        chain: &Chain,
    ) {
        let follower = Follower {
            realm: Arc::clone(&self.realm),
            report: self.report.clone(),
            name: match &scope {
                Some(namespace) => format!("{} in {namespace}", S::plural(&())),
                None => S::plural(&()).into_owned(),
            },
            scope,
            gate: chain.gate.clone(),
            first: Some(chain.done.clone()),
        };
        follower
            .report
            .set(&follower.name, Some("not listed yet".to_owned()));
        tasks.spawn(follower.follow(api, config));
    }
}

/// The first lists of a namespace.
struct Lists {
    tasks: JoinSet<()>,
    listings: mpsc::Receiver<Listing>,
    told: mpsc::Sender<Listing>,
    /// Whether it is to be told that one is refused.
    tell: bool,
}

impl Lists {
    /// Waits until so many have ended.
    async fn end(&mut self, mut lists: usize) {
        while lists > 0 {
            match next(&mut self.tasks, &mut self.listings).await {
                Listing::Done => lists -= 1,
                Listing::Refused => {
                    if std::mem::take(&mut self.tell) {
                        let _ = self.told.try_send(Listing::Refused);
                    }
                }
            }
        }
    }
}

struct Follower {
    realm: Arc<Realm>,
    report: WatchReport,
    name: String,
    scope: Scope,
    gate: Gate,
    /// Is told how the first list goes, until it has ended.
    first: Option<mpsc::Sender<Listing>>,
}

impl Follower {
    async fn follow<S: Seen>(mut self, api: Api<S>, config: Config) {
        let mut events = pin!(watcher(api, config.page_size(PAGE)));
        let mut wait = RETRY.0;
        let mut failing = false;
        loop {
            let event = match timeout(CALM, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(_) => {
                    if std::mem::take(&mut failing) && self.first.is_none() {
                        self.report.set(&self.name, None);
                    }
                    continue;
                }
            };
            match event {
                Ok(event) => {
                    if self.take::<S>(event).await {
                        (wait, failing) = (RETRY.0, false);
                    }
                }
                Err(error) => {
                    failing = true;
                    self.fail(&error).await;
                    sleep(wait.mul_f64(0.75 + rand::random::<f64>() / 2.0)).await;
                    wait = wait.saturating_mul(2).min(RETRY.1);
                }
            }
        }
    }

    async fn fail(&self, error: &watcher::Error) {
        let problem = words(error);
        let code = code(error);
        if code == Some(410) {
            tracing::debug!(watch = self.name, "watch has expired, listing again");
        } else if self.report.set(&self.name, Some(problem.clone())) {
            tracing::warn!(watch = self.name, problem, "watch failed, trying again");
        }
        if let Some(first) = self.first.as_ref().filter(|_| code == Some(403)) {
            // Whoever listened is gone when the reign is over.
            let _ = first.send(Listing::Refused).await;
        }
    }

    /// Returns whether it shows that the watch works.
    async fn take<S: Seen>(&mut self, event: Event<S>) -> bool {
        let keys = match event {
            Event::Init => {
                self.realm.world().begin::<S>(&self.scope);
                return false;
            }
            Event::InitDone => {
                let keys = self.realm.world().end::<S>(&self.scope);
                self.report.set(&self.name, None);
                if let Some(first) = self.first.take() {
                    // As above.
                    let _ = first.send(Listing::Done).await;
                }
                keys
            }
            Event::InitApply(object) => self.put(object),
            Event::Apply(object) => {
                self.report.set(&self.name, None);
                self.put(object)
            }
            Event::Delete(object) => self.realm.world().forget::<S>(object.meta()),
        };
        for key in keys.iter().filter(|key| self.gate.is_open(key)) {
            self.realm.queue.add(key);
        }
        true
    }

    fn put<S: Seen>(&self, object: S) -> Vec<Key> {
        let meta = object.meta().clone();
        match object.read() {
            Some(object) => self.realm.world().put::<S>(object),
            None => {
                self.realm.world().stays::<S>(&meta);
                Vec::new()
            }
        }
    }
}

/// What the API server has answered, if it has.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InstanceKey;

    #[test]
    fn changes_are_told_where_everything_was_listed() {
        let key = |namespace: &str| {
            Key::Instance(InstanceKey {
                namespace: namespace.into(),
                name: "c-35ced2".into(),
            })
        };
        let gate = Gate::default();
        gate.clone().open(&Some("plant".into()));
        assert!(gate.is_open(&key("plant")) && !gate.is_open(&key("office")));
        gate.open(&None);
        assert!(gate.is_open(&key("office")));
    }
}
