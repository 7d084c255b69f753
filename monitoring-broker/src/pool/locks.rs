//! Where members and shards of a pool are locked: in a directory, or in the API server. In: one question at a
//! time. Out: the same answers from both. What follows from them is decided by `akri_mqtt_core::pool`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akri_mqtt_cluster::InNamespace;
use akri_mqtt_core::pool::{Member, Shard, ShardCount};

use super::directory::{self, Membership, PoolDir, PoolDirError};
use super::leases::{LeaseError, LeasePool, ShardLease};
use super::peer::{Live, Peer};

/// How often a directory is looked at. A dead member is replaced so much later.
const LOOK: Duration = Duration::from_millis(500);

/// Why a pool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// In a directory.
    #[error(transparent)]
    Directory(#[from] PoolDirError),
    /// In the API server.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl LockError {
    /// Whether it will never be otherwise for this process.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Lease(LeaseError::Expelled(_)))
    }

    /// Whether what failed for one shard would fail for the next as well.
    pub fn is_general(&self) -> bool {
        matches!(self, Self::Lease(_))
    }
}

type Result<T> = std::result::Result<T, LockError>;

/// See the module.
pub enum Locks {
    /// `--pool-dir`
    Directory {
        /// The directory.
        directory: Arc<PoolDir>,
        /// This member's own lock, until it leaves.
        membership: Mutex<Option<Membership>>,
    },
    /// `--pool`
    Leases(Box<LeasePool<InNamespace>>),
}

/// A shard that nobody else has.
pub struct ShardLock {
    /// The store that had the shard last; none: nobody had it.
    pub last: Option<String>,
    lock: Lock,
}

enum Lock {
    File(directory::ShardLock),
    Lease(Box<ShardLease>),
}

impl Locks {
    /// Becomes a member by a directory.
    ///
    /// # Errors
    /// When another process has the name, or the directory cannot be used.
    pub async fn directory(directory: PoolDir, me: &Member, says: Peer) -> Result<Self> {
        let (directory, me) = (Arc::new(directory), me.clone());
        let membership = blocking(&directory, move |directory| directory.join(&me, &says)).await?;
        Ok(Self::Directory {
            directory,
            membership: Mutex::new(Some(membership)),
        })
    }

    /// The random id that was made with the pool.
    pub fn id(&self) -> &str {
        match self {
            Self::Directory { directory, .. } => directory.id(),
            Self::Leases(pool) => pool.id(),
        }
    }

    /// How many shards it has.
    pub fn shards(&self) -> ShardCount {
        match self {
            Self::Directory { directory, .. } => directory.shards(),
            Self::Leases(pool) => pool.shards(),
        }
    }

    /// Waits until there may be something to do.
    pub async fn changed(&self) {
        match self {
            Self::Directory { .. } => tokio::time::sleep(LOOK).await,
            Self::Leases(pool) => pool.changed().await,
        }
    }

    /// The members that live. One that is not among them has to end its sessions.
    ///
    /// # Errors
    /// When it cannot be seen.
    pub async fn live(&self) -> Result<Live> {
        match self {
            Self::Directory { directory, .. } => Ok(blocking(directory, PoolDir::live).await?),
            Self::Leases(pool) => Ok(pool.live()?),
        }
    }

    /// Waits until this member's time is over: it has to end its sessions.
    pub async fn lapsed(&self) {
        match self {
            // The kernel's locks stand for as long as the process does.
            Self::Directory { .. } => std::future::pending().await,
            Self::Leases(pool) => pool.lapsed().await,
        }
    }

    /// Why this process is not among the members, where nothing else says it.
    pub fn absence(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "its file in members/ was removed; start it again",
            Self::Leases(_) => "its Lease was not renewed in time",
        }
    }

    /// What is wrong with the locks, in words.
    pub fn faults(&self) -> Option<String> {
        match self {
            Self::Directory { .. } => None,
            Self::Leases(pool) => pool.faults(),
        }
    }

    /// A place at a shard, if nobody has it. It is to be entered before its sessions begin.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub async fn claim(&self, shard: Shard) -> Result<Option<ShardLock>> {
        let claimed = match self {
            Self::Directory { directory, .. } => {
                let locked = blocking(directory, move |directory| directory.claim(shard)).await?;
                locked.map(|lock| (lock.last.clone(), Lock::File(lock)))
            }
            Self::Leases(pool) => {
                let claimed = pool.claim(shard);
                claimed.map(|lock| (lock.last.clone(), Lock::Lease(Box::new(lock))))
            }
        };
        Ok(claimed.map(|(last, lock)| ShardLock { last, lock }))
    }

    /// Writes down, durably, which store has the shard from now on. None: another member was faster.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn enter(&self, claim: ShardLock, store: &str) -> Result<Option<ShardLock>> {
        let ShardLock { last, lock } = claim;
        let entered = match (self, lock) {
            (Self::Directory { directory, .. }, Lock::File(mut lock)) => {
                let store = store.to_owned();
                let written = blocking(directory, move |_| lock.enter(&store).map(|()| lock));
                Some(Lock::File(written.await?))
            }
            (Self::Leases(pool), Lock::Lease(lock)) => {
                let entered = pool.enter(*lock, store).await?;
                entered.map(|lock| Lock::Lease(Box::new(lock)))
            }
            // Locks come from where they are entered.
            _ => None,
        };
        Ok(entered.map(|lock| ShardLock { last, lock }))
    }

    /// Gives a shard back of which nothing is left here.
    pub async fn release(&self, lock: ShardLock) {
        if let (Self::Leases(pool), Lock::Lease(lock)) = (self, lock.lock) {
            pool.release(*lock).await;
        }
    }

    /// Is no member any more whom a shard could fall to; the others know it at once.
    pub fn leave(&self) {
        match self {
            Self::Directory { membership, .. } => {
                let mut membership = membership.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(membership) = membership.take() {
                    membership.leave();
                }
            }
            Self::Leases(pool) => pool.leave(),
        }
    }

    /// Everything is given back.
    pub fn left(&self) {
        if let Self::Leases(pool) = self {
            pool.left();
        }
    }
}

/// A shared directory may be a network's: looking into it can take its time.
async fn blocking<T: Send + 'static>(
    directory: &Arc<PoolDir>,
    work: impl FnOnce(&PoolDir) -> std::result::Result<T, PoolDirError> + Send + 'static,
) -> std::result::Result<T, PoolDirError> {
    let shared = Arc::clone(directory);
    let task = tokio::task::spawn_blocking(move || work(&shared));
    task.await
        .unwrap_or_else(|error| Err(PoolDirError::Panicked(error.to_string())))
}
