//! Carries the discovery of all Configurations. In: their demand, the registered handlers, Secrets and
//! ConfigMaps, what happens to calls. Out: calls, and findings. Decisions are those of `desk`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::{Ask, Call, CallId, Told};
use super::desk::{Desk, Todo};
use super::findings::Findings;
use super::line::{CallIds, Command};
use super::servers::{self, Digest, Reports};
use super::{Demand, Metrics, Parts};
use crate::handlers::{Book, Handlers};
use crate::model::ConfigurationKey;
use crate::panics;
use crate::references::{self, Known, References, Rules};

/// News of calls that may wait: each may hold a whole list.
const NEWS: usize = 16;

type Demands = BTreeMap<ConfigurationKey, Demand>;

struct Entry {
    desk: Desk,
    ask: Option<Arc<Ask>>,
    digest: Digest,
}

struct Driver {
    handlers: Handlers,
    allowed: BTreeSet<String>,
    metrics: Metrics,
    findings: Arc<Findings>,
    entries: BTreeMap<ConfigurationKey, Entry>,
    calls: BTreeMap<CallId, (ConfigurationKey, DropGuard)>,
    ids: CallIds,
    news: mpsc::Sender<Told>,
    tasks: JoinSet<()>,
    reports: watch::Receiver<Arc<Reports>>,
}

/// Runs until `stop`, and returns when all streams are closed.
pub(super) async fn run(
    parts: Parts,
    mut demands: watch::Receiver<Arc<Demands>>,
    findings: Arc<Findings>,
    stop: CancellationToken,
) {
    let mut references = References::new(parts.client, parts.metrics.clone());
    let mut known = references.known();
    let mut book = parts.handlers.watch();
    let (news, mut told) = mpsc::channel(NEWS);
    let (demanding, demanded) = watch::channel(false);
    let (reports_in, reports) = watch::channel(Arc::default());
    let mut driver = Driver {
        handlers: parts.handlers,
        allowed: parts.allowed_secret_namespaces,
        metrics: parts.metrics,
        findings,
        entries: BTreeMap::new(),
        calls: BTreeMap::new(),
        ids: CallIds::default(),
        news,
        tasks: JoinSet::new(),
        reports: reports.clone(),
    };
    let mut reports = reports;
    if let Some(status) = parts.handler_status {
        driver
            .tasks
            .spawn(servers::poll(status, demanded, reports_in));
    }
    let mut wanted = Arc::new(Demands::new());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = demands.changed() => {
                if changed.is_err() {
                    break;
                }
                wanted = Arc::clone(&demands.borrow_and_update());
                references.want(&driver.objects(&wanted));
                driver.forget(&wanted);
                demanding.send_replace(!wanted.is_empty());
                driver.steer_all(&wanted, &book.borrow_and_update().clone(), &known.borrow_and_update().clone());
            }
            Ok(()) = book.changed() => {
                driver.steer_all(&wanted, &book.borrow_and_update().clone(), &known.borrow().clone());
            }
            Ok(()) = known.changed() => {
                driver.steer_all(&wanted, &book.borrow().clone(), &known.borrow_and_update().clone());
            }
            Some(told) = told.recv() => driver.happened(told),
            Ok(()) = reports.changed() => {
                reports.mark_unchanged();
                driver.tell_all();
            }
            // With a call that is dead its Configuration would stand still: all begins anew.
            Some(ended) = driver.tasks.join_next() => panics::pass_on(ended),
        }
    }
    drop(references);
    driver.calls.clear();
    driver.tasks.shutdown().await;
}

impl Driver {
    fn objects(&self, wanted: &Demands) -> BTreeSet<references::Object> {
        let of = |(key, demand): (&ConfigurationKey, &Demand)| {
            references::objects(&demand.properties, self.rules(key))
        };
        wanted.iter().flat_map(of).collect()
    }

    fn rules<'a>(&'a self, key: &'a ConfigurationKey) -> Rules<'a> {
        Rules {
            namespace: &key.namespace,
            allowed: &self.allowed,
        }
    }

    fn forget(&mut self, wanted: &Demands) {
        let gone = self.entries.keys().filter(|key| !wanted.contains_key(*key));
        let gone: Vec<_> = gone.cloned().collect();
        for key in gone {
            if let Some(mut entry) = self.entries.remove(&key) {
                let todo = entry.desk.close();
                self.carry_out(&key, todo);
            }
            self.findings.forget(&key);
        }
    }

    fn steer_all(&mut self, wanted: &Demands, book: &Arc<Book>, known: &Arc<Known>) {
        for (key, demand) in wanted {
            self.steer(key, demand, book, known);
        }
    }

    fn steer(&mut self, key: &ConfigurationKey, demand: &Demand, book: &Book, known: &Known) {
        let resolved = references::resolve(&demand.properties, self.rules(key), known);
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            desk: Desk::default(),
            ask: None,
            digest: Digest::of(&demand.details),
        });
        let ask = resolved.map(|properties| {
            let details = demand.details.as_str();
            let same = entry
                .ask
                .take()
                .filter(|known| *known.details == *details && known.properties == properties);
            let ask = same.unwrap_or_else(|| {
                Arc::new(Ask {
                    details: details.into(),
                    properties,
                })
            });
            entry.digest = Digest::of(details);
            entry.ask = Some(Arc::clone(&ask));
            ask
        });
        let ask = ask.as_ref().map_err(Clone::clone);
        let todo = entry.desk.steer(&demand.handler, book, ask, &mut self.ids);
        self.carry_out(key, todo);
        self.tell(key);
    }

    fn happened(&mut self, told: Told) {
        // A call that was stopped may have spoken before.
        let Some((key, _)) = self.calls.get(&told.id) else {
            return;
        };
        let key = key.clone();
        if let Some(entry) = self.entries.get_mut(&key) {
            let todo = entry.desk.happened(told.id, told.what, &mut self.ids);
            self.carry_out(&key, todo);
            self.tell(&key);
        }
    }

    fn carry_out(&mut self, key: &ConfigurationKey, todo: Todo) {
        for ((handler, endpoint), command) in todo {
            match command {
                Command::Stop(id) => {
                    self.calls.remove(&id);
                }
                Command::Start(id, ask) => {
                    let stop = CancellationToken::new();
                    let guard = stop.clone().drop_guard();
                    self.calls.insert(id, (key.clone(), guard));
                    let call = Call {
                        id,
                        handler,
                        endpoint,
                        ask,
                        told: self.news.clone(),
                        book: self.handlers.watch(),
                        metrics: self.metrics.clone(),
                    };
                    self.tasks.spawn(async move {
                        let _ = stop.run_until_cancelled(call.run()).await;
                    });
                }
            }
        }
    }

    fn tell_all(&self) {
        for key in self.entries.keys() {
            self.tell(key);
        }
    }

    fn tell(&self, key: &ConfigurationKey) {
        if let Some(entry) = self.entries.get(key) {
            let mut finding = entry.desk.finding();
            finding.servers = self.reports.borrow().get(&entry.digest).cloned();
            self.findings.set(key, finding);
        }
    }
}
