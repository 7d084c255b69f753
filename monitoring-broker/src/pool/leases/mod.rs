//! A pool in the API server: who is a member, and who has which shard, as Leases. In: a Configuration's name, a
//! client. Out: the same as from a directory of locks, but a lock is as good as the time since its last renewal.
//!
//! Each member renews one Lease. Those of the shards are written when they change hands and name their holder: a
//! shard is free if its holder's own Lease was silent for too long, is gone, or is of another incarnation. Every
//! write names the version that it replaces, so of two that want a shard one gets it.

mod caretaker;
mod names;
mod renewer;
mod shared;
mod view;

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_cluster::{Failure, SharedLeases};
use akri_mqtt_core::pool::{Member, Shard, ShardCount};
use akri_mqtt_runtime::Tasks;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::{Instant, sleep_until};

use super::peer::{Live, Peer};
use caretaker::{Caretaker, within};
use names::{About, Facts, Identity, facts, last_store};
pub use names::{NameError, Names, SHARDS};
use renewer::Renewer;
use shared::{Shared, Stage, Standing};
use view::View;

/// How long others wait for a member that is silent. Short, for so long the shards of one that died with its node
/// stand still; long enough for an API server that answers late now and then. (A container that is restarted is
/// back sooner, under the same name, and need not wait.)
const LEASE: Duration = Duration::from_secs(8);
/// After so long without a renewal a member ends its sessions; the rest is the time that it has for it.
const DEADLINE: Duration = Duration::from_secs(6);
/// How often a member renews: two may fail.
const RENEW: Duration = Duration::from_secs(2);
/// Longer than that no request is waited for.
const REQUEST: Duration = Duration::from_secs(2);
/// After one that failed.
const RETRY: Duration = Duration::from_millis(500);
/// How often what was refused is tried again, where nothing else gives a reason to.
const LOOK: Duration = Duration::from_millis(500);

/// Why something cannot be done with a pool's Leases.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The members disagree.
    #[error(
        "{asked} shards are asked for; the pool of the Configuration {configuration} has {has}, and keeps them for its life (Lease {lease})"
    )]
    Shards {
        /// Whose pool.
        configuration: String,
        /// What it has.
        has: ShardCount,
        /// What was asked for.
        asked: ShardCount,
        /// Where it stands.
        lease: String,
    },
    /// The pool's Lease is not ours.
    #[error("the Lease {lease} is not that of a pool: {reason}")]
    Unknown {
        /// Which.
        lease: String,
        /// What is wrong.
        reason: String,
    },
    /// It cannot be a member any more.
    #[error("--pool: {0}")]
    Expelled(String),
    /// The API server did not do it.
    #[error("the Lease {lease}: {failure}")]
    Api {
        /// Which.
        lease: String,
        /// Why not.
        failure: Failure,
    },
}

type Result<T> = std::result::Result<T, LeaseError>;

/// A pod, with which a member's Lease goes.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Who a member is.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its name.
    pub member: Member,
    /// What the others are told.
    pub says: Peer,
    /// The pod that it runs in.
    pub pod: Option<Pod>,
}

/// See the module.
#[derive(Debug)]
pub struct LeasePool<L> {
    leases: L,
    names: Names,
    agreed: Facts,
    own: Own,
    shared: Arc<Shared>,
}

/// A shard that is this process's, or is to be.
#[derive(Debug)]
pub struct ShardLease {
    shard: Shard,
    identity: Identity,
    before: Option<Lease>,
    shared: Arc<Shared>,
    /// The store that had the shard last; none: nobody had it.
    pub last: Option<String>,
}

impl Drop for ShardLease {
    fn drop(&mut self) {
        self.shared.forget(self.shard);
    }
}

/// What all members agree on, made if there is nothing yet.
async fn agree<L: SharedLeases>(leases: &L, names: &Names, shards: ShardCount) -> Result<Facts> {
    let lease = names.of(&About::Pool);
    loop {
        let failed = |failure| LeaseError::Api {
            lease: lease.clone(),
            failure,
        };
        let made = Facts {
            id: format!("{:08x}", rand::random::<u32>()),
            shards,
        };
        let has = match within(leases.read(&lease)).await.map_err(failed)? {
            Some(found) => facts(&found).map_err(|reason| LeaseError::Unknown {
                lease: lease.clone(),
                reason,
            })?,
            None => match within(leases.write(&lease, names.pool(&made))).await {
                Ok(_) => made,
                // Another member was faster.
                Err(Failure::Conflict) => continue,
                Err(failure) => return Err(failed(failure)),
            },
        };
        if has.shards == shards {
            return Ok(has);
        }
        return Err(LeaseError::Shards {
            configuration: names.configuration().to_owned(),
            has: has.shards,
            asked: shards,
            lease,
        });
    }
}

impl<L: SharedLeases> LeasePool<L> {
    /// Begins to be a member; [`LeasePool::joined`] says when it is one. Its tasks end with `tasks`.
    ///
    /// # Errors
    /// When the members disagree, or the API server does not answer.
    pub async fn join(
        leases: L,
        names: Names,
        own: Own,
        shards: ShardCount,
        tasks: &Tasks,
    ) -> Result<Self> {
        names.check(&own.member)?;
        let agreed = agree(&leases, &names, shards).await?;
        let view = View::new(names.clone(), agreed.clone(), LEASE);
        let shared = Arc::new(Shared::new(view));
        let caretaker = Caretaker {
            leases: leases.clone(),
            names: names.clone(),
            me: own.member.clone(),
            agreed: agreed.clone(),
            shared: Arc::clone(&shared),
        };
        let stop = tasks.shutdown().clone();
        tasks.critical("pool", async move {
            caretaker.run(stop).await;
            Ok(())
        });
        let shared_by_both = Arc::clone(&shared);
        let renewer = Renewer::new(leases.clone(), names.clone(), own.clone(), shared_by_both);
        let stop = tasks.shutdown().clone();
        tasks.critical("member", async move {
            renewer.run(stop.clone()).await;
            stop.triggered().await;
            Ok(())
        });
        Ok(Self {
            leases,
            names,
            agreed,
            own,
            shared,
        })
    }

    /// Waits until it is a member and knows all others.
    ///
    /// # Errors
    /// When it cannot be one.
    pub async fn joined(&self) -> Result<()> {
        loop {
            {
                let state = self.shared.lock();
                match &state.standing {
                    Standing::Member(..) if state.view.is_listed() => return Ok(()),
                    Standing::Expelled(reason) => return Err(LeaseError::Expelled(reason.clone())),
                    _ => {}
                }
            }
            self.shared.changed.notified().await;
        }
    }

    /// The random id that was made with the pool.
    pub fn id(&self) -> &str {
        &self.agreed.id
    }

    /// How many shards it has.
    pub fn shards(&self) -> ShardCount {
        self.agreed.shards
    }

    /// What is wrong with the API server, in words.
    pub fn faults(&self) -> Option<String> {
        self.shared.faults()
    }

    /// Waits until there may be something to do: somebody came, went or gave a shard back, this member's time is
    /// over, or what was refused may be tried again.
    pub async fn changed(&self) {
        let now = Instant::now();
        let look = now + LOOK;
        let until = match &self.shared.lock().standing {
            Standing::Member(_, until) if *until > now => look.min(*until),
            _ => look,
        };
        tokio::select! {
            () = self.shared.changed.notified() => {}
            () = sleep_until(until) => {}
        }
    }

    /// The members that live: this one is missing when its Lease was not renewed in time.
    ///
    /// # Errors
    /// When it cannot be a member any more.
    pub fn live(&self) -> Result<Live> {
        if let Standing::Expelled(reason) = &self.shared.lock().standing {
            return Err(LeaseError::Expelled(reason.clone()));
        }
        Ok(self.shared.live(&self.own))
    }

    /// A place at a shard, if nobody has it. It is held by [`LeasePool::enter`] only.
    pub fn claim(&self, shard: Shard) -> Option<ShardLease> {
        let mut state = self.shared.lock();
        let identity = state.identity()?.clone();
        let before = state.view.free(shard, &identity)?.cloned();
        if state.held.contains_key(&shard) {
            return None;
        }
        state.held.insert(shard, None);
        Some(ShardLease {
            shard,
            identity,
            last: before.as_ref().and_then(last_store).map(str::to_owned),
            before,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Writes down that this member has the shard, and which store has it from now on. None: another one was
    /// faster, or this member's time is over.
    ///
    /// # Errors
    /// When the API server does not do it.
    pub async fn enter(&self, claim: ShardLease, store: &str) -> Result<Option<ShardLease>> {
        let about = About::Shard(claim.shard);
        let name = self.names.of(&about);
        let wanted = self
            .names
            .shard(claim.before.as_ref(), Some(&claim.identity), store);
        let written = tokio::select! {
            written = within(self.leases.write(&name, wanted)) => written,
            // Sessions are to end now, which must not wait for an answer.
            () = self.lapsed() => return Ok(None),
        };
        match written {
            Ok(written) => Ok(self.entered(&claim, written).then_some(claim)),
            Err(Failure::Conflict) => Ok(None),
            Err(failure) => Err(LeaseError::Api {
                lease: name,
                failure,
            }),
        }
    }

    /// Waits until this member's time is over.
    pub async fn lapsed(&self) {
        loop {
            let until = match &self.shared.lock().standing {
                Standing::Member(_, until) if *until > Instant::now() => *until,
                _ => return,
            };
            sleep_until(until).await;
        }
    }

    fn entered(&self, claim: &ShardLease, written: Lease) -> bool {
        let mut state = self.shared.lock();
        state.view.put(written.clone(), Instant::now().into_std());
        if state.identity() != Some(&claim.identity) {
            return false;
        }
        state.held.insert(claim.shard, Some(written));
        true
    }

    /// Gives a shard back of which nothing is left here. What cannot be written now, the caretaker writes, or
    /// nobody: the shard is free when this membership has ended.
    pub async fn release(&self, lock: ShardLease) {
        let held = {
            let state = self.shared.lock();
            let is_same = state.identity() == Some(&lock.identity);
            let held = state.held.get(&lock.shard).cloned().flatten();
            held.filter(|_| is_same)
        };
        let Some(held) = held else {
            return;
        };
        let about = About::Shard(lock.shard);
        match self.written_free(&about, &lock.identity, held).await {
            Ok(Some(written)) => {
                let now = Instant::now().into_std();
                self.shared.lock().view.put(written, now);
            }
            // It is another one's already.
            Ok(None) => {}
            Err(error) => {
                let lease = self.names.of(&about);
                tracing::debug!(lease, %error, "a shard is given back a little later");
            }
        }
    }

    async fn written_free(
        &self,
        about: &About,
        identity: &Identity,
        held: Lease,
    ) -> std::result::Result<Option<Lease>, Failure> {
        let name = self.names.of(about);
        let free = |held: &Lease| {
            let store = last_store(held).unwrap_or_default();
            self.names.shard(Some(held), None, store)
        };
        match within(self.leases.write(&name, free(&held))).await {
            Err(Failure::Conflict) => {}
            written => return written.map(Some),
        }
        // Somebody has touched it: a label, or it has another holder.
        let current = within(self.leases.read(&name)).await?;
        let is_ours = |lease: &Lease| names::is_held_by(lease, identity);
        let Some(current) = current.filter(is_ours) else {
            return Ok(None);
        };
        within(self.leases.write(&name, free(&current)))
            .await
            .map(Some)
    }

    /// Says that it goes: the others claim what it gives back from now on.
    pub fn leave(&self) {
        self.shared.stage.send_replace(Stage::Leaving);
    }

    /// Everything is given back.
    pub fn left(&self) {
        self.shared.stage.send_replace(Stage::Left);
    }
}

#[cfg(test)]
mod tests;
