//! A member of a pool. In: the list of devices, the pool's directory. Out: the shards that fall to this member
//! are watched, and handed over when they fall to another one. When a shard changes hands is decided by
//! `akri_mqtt_core::pool`, what is done with its sessions by `Monitor`.

mod directory;
mod metrics;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::pool::{Action, Member, Placement, Shard, ShardCount};
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::{Condition, Shutdown, usage};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;

use crate::devices_file::{Listed, Source};
use crate::ingest::Scope;
use crate::monitor::Monitor;
use crate::servers::Servers;

use directory::{Membership, ShardLock};
pub use directory::{PoolDir, PoolDirError};
pub use metrics::PoolMetrics;
pub use peer::{Address, Live, NoAddress, Peer};

/// How often a member looks who else is there. A dead one is replaced so much later.
const LOOK: Duration = Duration::from_millis(500);
/// How long the last hand-over may take. What is not handed over then is taken over when the process has ended.
const LEAVE: Duration = Duration::from_secs(4);

/// What a member of a pool works with.
pub struct Parts<'a> {
    /// Watches the devices.
    pub monitor: &'a Monitor,
    /// The pool.
    pub directory: PoolDir,
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
pub async fn run(parts: Parts<'_>, name: &str, shutdown: &Shutdown) -> anyhow::Result<()> {
    let me = Member::parse(name).map_err(usage)?;
    let directory = Arc::new(parts.directory);
    let membership = blocking(&directory, {
        let me = me.clone();
        let says = Peer {
            address: parts.address,
            store: parts.monitor.service().store.id().to_owned(),
        };
        move |directory| directory.join(&me, &says)
    });
    let membership = membership.await.map_err(usage)?;
    let pool = Pool {
        monitor: parts.monitor,
        placement: Placement::new(me, directory.shards()),
        directory,
        source: parts.source,
        servers: parts.servers,
        metrics: parts.metrics,
        ready: parts.ready,
        live: parts.live,
        locks: ManuallyDrop::default(),
        draining: FuturesUnordered::new(),
    };
    pool.run(membership, shutdown).await
}

struct Pool<'a> {
    monitor: &'a Monitor,
    placement: Placement,
    directory: Arc<PoolDir>,
    source: Source,
    servers: Servers,
    metrics: PoolMetrics,
    ready: Condition,
    live: watch::Sender<Live>,
    /// Given back one by one, else by the end of the process: should this end earlier, sessions may outlive it.
    locks: ManuallyDrop<BTreeMap<Shard, ShardLock>>,
    draining: FuturesUnordered<BoxFuture<'a, Shard>>,
}

impl Pool<'_> {
    async fn run(mut self, membership: Membership, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.triggered() => break,
                Some(shard) = self.draining.next() => self.placement.drained(shard),
                _ = look.tick() => {
                    if let Some(before) = self.source.look().await {
                        self.apply(&before).await?;
                    }
                }
            }
            match blocking(&self.directory, PoolDir::live).await {
                Ok(live) => {
                    self.act(live.keys(), shutdown).await?;
                    self.live.send_if_modified(|before| {
                        let is_new = *before != live;
                        *before = live;
                        is_new
                    });
                }
                // Its locks are as good as before.
                Err(error) => {
                    tracing::warn!(%error, "the members of the pool cannot be seen; shards stay where they are");
                }
            }
        }
        match tokio::time::timeout(LEAVE, self.leave(membership, shutdown)).await {
            Ok(left) => left,
            Err(_) => {
                tracing::warn!("not every shard could be handed over in time");
                Ok(())
            }
        }
    }

    /// Gives everything back. The others know at once that it goes.
    async fn leave(&mut self, membership: Membership, shutdown: &Shutdown) -> anyhow::Result<()> {
        self.ready.not_ready("it leaves the pool");
        membership.leave();
        self.act([], shutdown).await?;
        while let Some(shard) = self.draining.next().await {
            self.placement.drained(shard);
            self.act([], shutdown).await?;
        }
        Ok(())
    }

    async fn act<'m>(
        &mut self,
        live: impl IntoIterator<Item = &'m Member> + Clone,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let size = live.clone().into_iter().count();
        for action in self.placement.decide(live) {
            match action {
                Action::Claim(shard) => {
                    let won = !shutdown.is_triggered() && self.claim(shard).await?;
                    self.placement.claimed(shard, won);
                }
                Action::Drain(shard) => {
                    let (monitor, scope) = (self.monitor, self.scope(shard).await);
                    self.draining.push(Box::pin(async move {
                        monitor.hand_over(&scope).await;
                        shard
                    }));
                }
                Action::Release(shard) => {
                    self.locks.remove(&shard);
                    self.metrics.handed_over.inc();
                    tracing::info!(%shard, "shard handed over");
                }
            }
        }
        let (held, all) = (self.placement.held().count(), self.directory.shards());
        self.metrics.members.set(number(size));
        self.metrics.held.set(number(held));
        if size > 0 {
            self.ready
                .ready(format!("{held} of {all} shards; {size} members"));
        }
        Ok(())
    }

    /// Takes a shard if nobody has it, and watches its devices.
    async fn claim(&mut self, shard: Shard) -> anyhow::Result<bool> {
        let store = self.monitor.service().store.id().to_owned();
        let scope = self.scope(shard).await;
        let locked = blocking(&self.directory, move |directory| directory.claim(shard));
        let mut lock = match locked.await {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(false),
            Err(error) => {
                tracing::warn!(%shard, %error, "a shard cannot be locked");
                return Ok(false);
            }
        };
        if lock.last.as_ref() != Some(&store) {
            self.monitor.forget_shard(&scope).await?;
        }
        // Before the session is resumed: from then on the next owner must not trust an older memory.
        let entered = tokio::task::spawn_blocking(move || lock.enter(&store).map(|()| lock));
        let lock = match entered.await? {
            Ok(lock) => lock,
            Err(error) => {
                tracing::warn!(%shard, %error, "a shard cannot be taken");
                return Ok(false);
            }
        };
        self.locks.insert(shard, lock);
        self.metrics.taken.inc();
        let shards = self.directory.shards();
        let devices = self.source.listed().values();
        let devices = devices.filter(|device| shards.of(&device.id) == shard);
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
    async fn apply(&mut self, before: &Listed) -> anyhow::Result<()> {
        let shards = self.directory.shards();
        let held: BTreeSet<_> = self.placement.held().collect();
        let (gone, new) = self.source.changes(before);
        for id in gone.iter().filter(|id| held.contains(&shards.of(id))) {
            self.monitor.remove(id).await?;
        }
        let mut by_shard: BTreeMap<Shard, Vec<DeviceSpec>> = BTreeMap::new();
        for device in new {
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
        self.monitor.scope(self.directory.id(), shard).await
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A shared directory may be a network's: looking into it can take its time.
async fn blocking<T: Send + 'static>(
    directory: &Arc<PoolDir>,
    work: impl FnOnce(&PoolDir) -> Result<T, PoolDirError> + Send + 'static,
) -> Result<T, PoolDirError> {
    let shared = Arc::clone(directory);
    let task = tokio::task::spawn_blocking(move || work(&shared));
    task.await
        .unwrap_or_else(|error| Err(PoolDirError::Panicked(error.to_string())))
}
