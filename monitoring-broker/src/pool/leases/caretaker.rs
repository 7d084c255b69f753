//! Keeps what is known of the Leases as it is, and puts right what nobody else does. In: their watch. Out: a view;
//! the dead are named so after one more look at each; Leases that were deleted from under us are made again.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_cluster::{Failure, SharedLeases};
use akri_mqtt_core::pool::{Member, Shard};
use akri_mqtt_runtime::Shutdown;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::Event;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::names::{About, Facts, Identity, Names, last_store};
use super::shared::Shared;
use super::view::Agreement;
use super::{LEASE, REQUEST};

/// How often the silent are looked for.
const LOOK: Duration = Duration::from_millis(500);

pub struct Caretaker<L> {
    pub leases: L,
    pub names: Names,
    pub me: Member,
    pub agreed: Facts,
    pub shared: Arc<Shared>,
}

impl<L: SharedLeases> Caretaker<L> {
    /// Runs until the shutdown.
    pub async fn run(self, stop: Shutdown) {
        let shared = Arc::clone(&self.shared);
        let report = move |problem| shared.report("watch of the pool's Leases", problem);
        // Our own renewals are heard all the time, unless the connection is dead.
        let mut events = self.leases.follow(&self.names.label(), Some(LEASE), report);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.triggered() => return,
                () = self.hear(&mut events) => {}
                _ = look.tick() => self.look().await,
            }
        }
    }

    async fn hear(&self, events: &mut BoxStream<'static, Event<Lease>>) {
        // It never ends.
        let Some(event) = events.next().await else {
            return std::future::pending().await;
        };
        let now = Instant::now().into_std();
        let is_news = self.shared.lock().view.on_event(event, now);
        if is_news {
            self.shared.changed.notify_one();
        }
    }

    async fn look(&self) {
        const WHAT: &str = "Leases of the pool";
        let looked = match self.look_into_silence().await {
            Ok(()) => self.put_right().await,
            error => error,
        };
        match looked {
            // The watch tells what is there instead.
            Ok(()) | Err(Failure::Conflict) => self.shared.report(WHAT, None),
            Err(error) => self.shared.report(WHAT, Some(error.to_string())),
        }
    }

    /// A watch that has gone silent must not kill anybody: only what the API server itself still says counts.
    async fn look_into_silence(&self) -> Result<(), Failure> {
        let now = Instant::now().into_std();
        let silent = self.shared.lock().view.silent(&self.me, now);
        for member in silent {
            let name = self.names.of(&About::Member(member.clone()));
            let lease = within(self.leases.read(&name)).await?;
            let now = Instant::now().into_std();
            let is_news = self
                .shared
                .lock()
                .view
                .confirm(&member, lease.as_ref(), now);
            if is_news {
                tracing::debug!(%member, "a silent member was looked at");
                self.shared.changed.notify_one();
            }
        }
        self.shared.lock().view.prune();
        Ok(())
    }

    async fn put_right(&self) -> Result<(), Failure> {
        let Some(identity) = self.shared.identity() else {
            return Ok(());
        };
        let agreement = self.shared.lock().view.agreement();
        match agreement {
            Agreement::Stands => {}
            Agreement::Gone => {
                let made = self.names.pool(&self.agreed);
                self.write(&About::Pool, made).await?;
            }
            Agreement::Other(says) => {
                let name = self.names.of(&About::Pool);
                let reason = format!("the Lease {name} says something else now: {says}");
                self.shared.expel(reason);
                return Ok(());
            }
        }
        for (shard, lease) in self.forgotten(&identity) {
            let store = last_store(&lease).unwrap_or_default();
            let free = self.names.shard(Some(&lease), None, store);
            self.write(&About::Shard(shard), free).await?;
        }
        for (shard, store) in self.deleted() {
            let made = self.names.shard(None, Some(&identity), &store);
            let written = self.write(&About::Shard(shard), made).await?;
            if let Some(held) = self.shared.lock().held.get_mut(&shard) {
                *held = Some(written);
            }
        }
        Ok(())
    }

    /// Shards that are ours by their Leases, and are not served: a request ended otherwise than it seemed.
    fn forgotten(&self, identity: &Identity) -> Vec<(Shard, Lease)> {
        let state = self.shared.lock();
        let named = state.view.held_by(identity).into_iter();
        named
            .filter(|(shard, _)| !state.held.contains_key(shard))
            .collect()
    }

    /// Shards that are served, and whose Leases somebody has deleted.
    fn deleted(&self) -> Vec<(Shard, String)> {
        let state = self.shared.lock();
        let held = state.held.iter();
        held.filter(|(shard, _)| !state.view.has(**shard))
            .filter_map(|(shard, lease)| Some((*shard, last_store(lease.as_ref()?)?.to_owned())))
            .collect()
    }

    async fn write(&self, about: &About, lease: Lease) -> Result<Lease, Failure> {
        let name = self.names.of(about);
        let written = within(self.leases.write(&name, lease)).await?;
        let now = Instant::now().into_std();
        self.shared.lock().view.put(written.clone(), now);
        Ok(written)
    }
}

/// A request that does not hang.
pub async fn within<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let outcome = timeout(REQUEST, request).await;
    outcome.unwrap_or(Err(Failure::Late(REQUEST)))
}
