//! A member of a pool. In: the list of devices, the pool's locks. Out: the shards that fall to this member
//! are watched, and handed over when they fall to another one. When a shard changes hands is decided by
//! `akri_mqtt_core::pool`, what is done with its sessions by `Monitor`.

mod cluster;
mod directory;
mod leases;
mod locks;
mod metrics;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::pool::{Action, Member, Placement, Shard, ShardCount};
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::{Condition, Shutdown, usage};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;

use crate::api::union::{Others, PeerTls};
use crate::ingest::Scope;
use crate::monitor::Monitor;
use crate::servers::Servers;
use crate::source::{Changes, Listed, Source};

pub use cluster::Cluster;
pub use directory::PoolDir;
use locks::{LockError, Locks, ShardLock};
pub use metrics::PoolMetrics;
pub use peer::{Address, Live, NoAddress, Peer};

/// How long the last hand-over may take. What is not handed over then is taken over when the process has ended.
const LEAVE: Duration = Duration::from_secs(4);

/// Where a pool is.
pub enum Place {
    /// In a directory that its members share.
    Directory(PoolDir),
    /// In the API server.
    Cluster(Cluster),
}

/// What a member of a pool works with.
pub struct Parts<'a> {
    /// Watches the devices.
    pub monitor: &'a Monitor,
    /// The pool.
    pub place: Place,
    /// Its devices.
    pub source: Source,
    /// The credentials of their servers.
    pub servers: Servers,
    /// What it counts.
    pub metrics: PoolMetrics,
    /// Whether it is a member.
    pub ready: Condition,
    /// Where the others reach this process.
    pub address: Address,
    /// Told who lives.
    pub live: watch::Sender<Live>,
    /// How it talks to the others.
    pub tls: PeerTls,
}

/// Opens the pool of a directory.
///
/// # Errors
/// When it cannot be used, or has another number of shards.
pub fn open(path: &Path, shards: ShardCount) -> anyhow::Result<PoolDir> {
    Ok(PoolDir::open(path, shards).map_err(usage)?)
}

/// Is a member of the pool until the shutdown, and leaves it in order.
///
/// # Errors
/// When another process has the member's name, or the store fails.
pub async fn run(mut parts: Parts<'_>, name: &str, shutdown: &Shutdown) -> anyhow::Result<()> {
    let me = Member::parse(name).map_err(usage)?;
    let says = Peer {
        address: parts.address,
        store: parts.monitor.service().store.id().to_owned(),
    };
    let joined = async {
        // What the server has queued for a device that is not known yet would be nobody's.
        parts.source.known().await;
        match parts.place {
            Place::Directory(directory) => {
                let locks = Locks::directory(directory, &me, says).await;
                locks.map_err(|error| usage(error).into())
            }
            Place::Cluster(cluster) => {
                let tasks = parts.monitor.tasks();
                let pool = cluster.join((&me, says), &parts.ready, tasks).await?;
                Ok::<_, anyhow::Error>(Locks::Leases(Box::new(pool)))
            }
        }
    };
    let locks = tokio::select! {
        locks = joined => Arc::new(locks?),
        () = shutdown.triggered() => return Ok(()),
    };
    let (live, counted) = (parts.live.subscribe(), parts.metrics.forwarded.clone());
    let others = Others::new(me.clone(), locks.shards(), live, parts.tls, counted);
    let pool = Pool {
        monitor: parts.monitor,
        placement: Placement::new(me.clone(), locks.shards()),
        me,
        locks,
        source: parts.source,
        servers: parts.servers,
        metrics: parts.metrics,
        ready: parts.ready,
        live: parts.live,
        others: Some(others),
        held: ManuallyDrop::default(),
        draining: FuturesUnordered::new(),
    };
    pool.run(shutdown).await
}

struct Pool<'a> {
    monitor: &'a Monitor,
    me: Member,
    placement: Placement,
    locks: Arc<Locks>,
    source: Source,
    servers: Servers,
    metrics: PoolMetrics,
    ready: Condition,
    live: watch::Sender<Live>,
    /// Until the API may ask them: not before the first list with this member in it.
    others: Option<Others>,
    /// Given back one by one, else by the end of the process: should this end earlier, sessions may outlive it.
    held: ManuallyDrop<BTreeMap<Shard, ShardLock>>,
    draining: FuturesUnordered<BoxFuture<'a, Shard>>,
}

impl Pool<'_> {
    async fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        loop {
            match self.locks.live().await {
                Ok(live) => {
                    self.act(live.keys(), shutdown).await?;
                    self.tell(live);
                }
                Err(error) if error.is_final() => return Err(error.into()),
                // Its locks are as good as before.
                Err(error) => {
                    tracing::warn!(%error, "the members of the pool cannot be seen; shards stay where they are");
                }
            }
            tokio::select! {
                () = shutdown.triggered() => break,
                Some(shard) = self.draining.next() => self.placement.drained(shard),
                changes = self.source.changed() => {
                    let locks = Arc::clone(&self.locks);
                    tokio::select! {
                        biased;
                        applied = self.apply(changes) => applied?,
                        // What is left of it goes with the shards.
                        () = over(&locks, shutdown) => {}
                    }
                }
                () = self.locks.changed() => {}
            }
        }
        match tokio::time::timeout(LEAVE, self.leave(shutdown)).await {
            Ok(left) => left,
            Err(_) => {
                tracing::warn!("not every shard could be handed over in time");
                Ok(())
            }
        }
    }

    /// From the first list with this member in it the API answers for all that live.
    fn tell(&mut self, live: Live) {
        let is_member = live.contains_key(&self.me);
        self.live.send_if_modified(|before| {
            let is_new = *before != live;
            *before = live;
            is_new
        });
        if is_member && let Some(others) = self.others.take() {
            self.monitor.join(others);
        }
    }

    /// Gives everything back. The others know at once that it goes.
    async fn leave(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        self.ready.not_ready("it leaves the pool");
        self.locks.leave();
        self.act([], shutdown).await?;
        while let Some(shard) = self.draining.next().await {
            self.placement.drained(shard);
            self.act([], shutdown).await?;
        }
        self.locks.left();
        Ok(())
    }

    async fn act<'m>(
        &mut self,
        live: impl IntoIterator<Item = &'m Member> + Clone,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let size = live.clone().into_iter().count();
        let is_member = live.clone().into_iter().any(|member| *member == self.me);
        let (mut is_answered, mut by_shard) = (true, None);
        for action in self.placement.decide(live) {
            match action {
                Action::Claim(shard) => {
                    let locks = Arc::clone(&self.locks);
                    is_answered = is_answered
                        && tokio::select! {
                            biased;
                            () = over(&locks, shutdown) => false,
                            claimed = self.claim(shard, &mut by_shard) => claimed?,
                        };
                    // Also when it was interrupted: what has a lock is to be given back.
                    let is_held = self.held.contains_key(&shard);
                    self.placement.claimed(shard, is_held);
                }
                Action::Drain(shard) => self.drain(shard).await,
                Action::Release(shard) => {
                    self.metrics.handed_over.inc();
                    tracing::info!(%shard, "shard handed over");
                }
            }
        }
        let (held, all) = (self.placement.held().count(), self.locks.shards());
        self.metrics.members.set(number(size));
        self.metrics.held.set(number(held));
        let faults = self.locks.faults();
        if is_member {
            let faults = faults.map_or_else(String::new, |faults| format!("; {faults}"));
            self.ready
                .ready(format!("{held} of {all} shards; {size} members{faults}"));
        } else if !shutdown.is_triggered() {
            let faults = faults.unwrap_or_else(|| self.locks.absence().to_owned());
            self.ready.not_ready(format!("no member now: {faults}"));
        }
        Ok(())
    }

    /// Ends the sessions of a shard, and gives it back when nothing is left of them.
    async fn drain(&mut self, shard: Shard) {
        let (monitor, scope) = (self.monitor, self.scope(shard).await);
        let locks = Arc::clone(&self.locks);
        let lock = self.held.remove(&shard).map(ManuallyDrop::new);
        self.draining.push(Box::pin(async move {
            let lapsing = Arc::clone(&locks);
            let lapsed = async move { lapsing.lapsed().await };
            monitor.hand_over(&scope, lapsed).await;
            if let Some(lock) = lock {
                locks.release(ManuallyDrop::into_inner(lock)).await;
            }
            shard
        }));
    }

    /// Takes a shard if nobody has it, and watches its devices, which are looked for once a round. Returns whether
    /// another claim would be answered.
    async fn claim(
        &mut self,
        shard: Shard,
        by_shard: &mut Option<ByShard>,
    ) -> anyhow::Result<bool> {
        let refused = |error: LockError| {
            tracing::warn!(%shard, %error, "a shard cannot be taken");
            !error.is_general()
        };
        let claim = match self.locks.claim(shard).await {
            Ok(Some(claim)) => claim,
            Ok(None) => return Ok(true),
            Err(error) => return Ok(refused(error)),
        };
        let store = self.monitor.service().store.id().to_owned();
        if claim.last.as_ref() != Some(&store) {
            self.monitor.forget_shard(&self.scope(shard).await).await?;
        }
        // Before the session is resumed: from then on the next owner must not trust an older memory.
        let lock = match self.locks.enter(claim, &store).await {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(true),
            Err(error) => return Ok(refused(error)),
        };
        self.held.insert(shard, lock);
        self.metrics.taken.inc();
        let listed = self.source.listed();
        let by_shard = by_shard.get_or_insert_with(|| of_shards(listed, self.locks.shards()));
        let ids = by_shard.remove(&shard).unwrap_or_default();
        let devices = ids.iter().filter_map(|id| listed.get(id));
        let devices: Vec<_> = devices.cloned().collect();
        tracing::info!(%shard, devices = devices.len(), "shard taken");
        self.watch(shard, devices).await?;
        Ok(true)
    }

    async fn watch(&mut self, shard: Shard, devices: Vec<DeviceSpec>) -> anyhow::Result<()> {
        let devices = self.servers.admit_all(devices);
        let scope = self.scope(shard).await;
        self.monitor.add_to_shard(&scope, devices).await?;
        Ok(())
    }

    /// The list of devices is another one than before.
    async fn apply(&mut self, changes: Changes) -> anyhow::Result<()> {
        let shards = self.locks.shards();
        let held: BTreeSet<_> = self.placement.held().collect();
        let gone = changes.gone.iter();
        for id in gone.filter(|id| held.contains(&shards.of(id))) {
            self.monitor.remove(id).await?;
        }
        let mut by_shard: BTreeMap<Shard, Vec<DeviceSpec>> = BTreeMap::new();
        for device in changes.new.into_values() {
            by_shard
                .entry(shards.of(&device.id))
                .or_default()
                .push(device);
        }
        for (shard, devices) in by_shard {
            if held.contains(&shard) {
                self.watch(shard, devices).await?;
            }
        }
        Ok(())
    }

    async fn scope(&self, shard: Shard) -> Scope {
        self.monitor.scope(self.locks.id(), shard).await
    }
}

/// Which devices there are in each shard.
type ByShard = BTreeMap<Shard, Vec<DeviceId>>;

fn of_shards(listed: &Listed, shards: ShardCount) -> ByShard {
    let mut by_shard = ByShard::new();
    for id in listed.keys() {
        by_shard.entry(shards.of(id)).or_default().push(id.clone());
    }
    by_shard
}

/// Waits until everything is to be given back. The store, which may wait for room, must not hold that up.
async fn over(locks: &Locks, shutdown: &Shutdown) {
    tokio::select! {
        () = shutdown.triggered() => {}
        () = locks.lapsed() => {}
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
