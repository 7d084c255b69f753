//! A pool in a shared directory: who is a member, and who has which shard. In: a path. Out: locks, which the
//! kernel gives back when a process dies in whatever way, so that nobody's clock decides anything.
//!
//! `pool.json` holds what all members agree on, `members/<name>` is locked by the member while it lives, and says how
//! it is reached; `shards/<n>` is locked by the shard's owner, and says which store had the shard last.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use akri_mqtt_core::pool::{Member, Shard, ShardCount};

use super::peer::{Live, Peer};

/// How long a member's own lock is tried for: others hold it for an instant when they look.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// What the file of a shard or member says at most.
const MOST_TEXT: u64 = 1 << 10;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PoolDirError {
    /// A file could not be used.
    #[error("--pool-dir: {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// What it says is not ours.
    #[error("--pool-dir: {}: {reason}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The members disagree.
    #[error(
        "--shards {asked}: the pool in {} has {has} shards, and keeps them for its life; use a new directory for another number",
        path.display()
    )]
    Shards {
        /// The directory.
        path: PathBuf,
        /// What it has.
        has: ShardCount,
        /// What was asked for.
        asked: ShardCount,
    },
    /// The thread that worked on it died.
    #[error("--pool-dir: {0}")]
    Panicked(String),
    /// There is a member of this name.
    #[error("--pool-dir: {} is locked: another process is the member {name}; give each an --instance of its own", path.display())]
    Taken {
        /// Its file.
        path: PathBuf,
        /// Its name.
        name: Member,
    },
}

type Result<T> = std::result::Result<T, PoolDirError>;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PoolDirError + '_ {
    |error| PoolDirError::Io {
        path: path.to_owned(),
        error,
    }
}

/// What all members agree on.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Agreed {
    id: String,
    shards: u16,
}

/// See the module.
#[derive(Debug)]
pub struct PoolDir {
    path: PathBuf,
    id: String,
    shards: ShardCount,
}

/// A member's own lock; dropped with the process, or by [`Membership::leave`].
#[derive(Debug)]
pub struct Membership {
    path: PathBuf,
    _file: File,
}

/// The lock of a shard.
#[derive(Debug)]
pub struct ShardLock {
    path: PathBuf,
    file: File,
    /// The store that had the shard last; none: nobody had it.
    pub last: Option<String>,
}

impl PoolDir {
    /// Opens the pool of a directory, or makes one with so many shards.
    ///
    /// # Errors
    /// When the directory cannot be used, or its pool has another number of shards.
    pub fn open(path: &Path, shards: ShardCount) -> Result<Self> {
        for name in ["members", "shards"] {
            let path = path.join(name);
            fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        let lock = path.join("lock");
        // Held while looking and making, so that all agree on one.
        let _lock = open(&lock)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(failed(&lock))?;
        let file = path.join("pool.json");
        let agreed = match fs::read(&file) {
            Ok(text) => {
                serde_json::from_slice::<Agreed>(&text).map_err(|error| PoolDirError::Unknown {
                    path: file.clone(),
                    reason: error.to_string(),
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let agreed = Agreed {
                    id: format!("{:08x}", rand::random::<u32>()),
                    shards: shards.get(),
                };
                let text =
                    serde_json::to_vec(&agreed).map_err(|error| failed(&file)(error.into()))?;
                crate::store::replace_file(&file, &text).map_err(failed(&file))?;
                agreed
            }
            Err(error) => return Err(failed(&file)(error)),
        };
        let has = ShardCount::new(agreed.shards).map_err(|error| PoolDirError::Unknown {
            path: file,
            reason: error.to_string(),
        })?;
        if has != shards {
            let path = path.to_owned();
            return Err(PoolDirError::Shards {
                path,
                has,
                asked: shards,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            id: agreed.id,
            shards,
        })
    }

    /// The random id that was made with the pool.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many shards it has.
    #[must_use]
    pub fn shards(&self) -> ShardCount {
        self.shards
    }

    /// Becomes a member that says this of itself. Blocks for a moment if the name is locked.
    ///
    /// # Errors
    /// When another process has the name, or the directory cannot be used.
    pub fn join(&self, name: &Member, says: &Peer) -> Result<Membership> {
        let path = self.path.join("members").join(name.as_str());
        let until = Instant::now() + PATIENCE;
        loop {
            let file = open(&path).map_err(failed(&path))?;
            match file.try_lock() {
                // Whoever had the name may have removed the file meanwhile: the lock of a file that is gone is none.
                Ok(()) if is_at(&file, &path) => {
                    let text = serde_json::to_vec(says).map_err(io::Error::from);
                    let written = text.and_then(|text| write(&file, &text));
                    written.map_err(failed(&path))?;
                    return Ok(Membership { path, _file: file });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < until => {}
                Err(TryLockError::WouldBlock) => {
                    let name = name.clone();
                    return Err(PoolDirError::Taken { path, name });
                }
                Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The members that live, this process too, and what each says of itself.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn live(&self) -> Result<Live> {
        let path = self.path.join("members");
        let mut live = Live::new();
        for entry in fs::read_dir(&path).map_err(failed(&path))? {
            let entry = entry.map_err(failed(&path))?;
            let name = entry.file_name();
            let Some(member) = name.to_str().and_then(|name| Member::parse(name).ok()) else {
                continue;
            };
            // A shared lock: those who look do not see each other.
            let Ok(file) = File::open(entry.path()) else {
                continue;
            };
            if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
                // One that is just being written is read at the next look.
                let says = read(&file).ok();
                let says = says.and_then(|text| serde_json::from_str(&text).ok());
                live.insert(member, says);
            }
        }
        Ok(live)
    }

    /// The lock of a shard, if nobody has it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn claim(&self, shard: Shard) -> Result<Option<ShardLock>> {
        let path = self.path.join("shards").join(shard.to_string());
        let file = open(&path).map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
        }
        let text = read(&file).map_err(failed(&path))?;
        let last = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Some(ShardLock { path, file, last }))
    }
}

impl Membership {
    /// Is no member any more; the others see it at their next look.
    pub fn leave(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the file of a member is left behind");
        }
    }
}

impl ShardLock {
    /// Writes down, durably, which store has the shard from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn enter(&mut self, store: &str) -> Result<()> {
        write(&self.file, store.as_bytes()).map_err(failed(&self.path))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path)
}

fn read(file: &File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MOST_TEXT).read_to_string(&mut text)?;
    Ok(text)
}

/// Replaces what a file says, durably.
fn write(mut file: &File, text: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text)?;
    file.sync_all()
}

/// Whether a path still names an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let pair = (file.metadata(), fs::metadata(path));
    matches!(pair, (Ok(open), Ok(there)) if (open.dev(), open.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn member(name: &str) -> Member {
        Member::parse(name).unwrap()
    }

    fn says(port: u16) -> Peer {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let store = format!("store-{port}");
        Peer { address, store }
    }

    fn pool(path: &Path) -> PoolDir {
        PoolDir::open(path, ShardCount::default()).unwrap()
    }

    #[test]
    fn all_members_agree_on_one_pool_and_another_number_of_shards_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pool");
        let opened = std::thread::scope(|scope| {
            let open = || pool(&path).id().to_owned();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            let ids = threads.into_iter().map(|thread| thread.join().unwrap());
            ids.collect::<BTreeSet<_>>()
        });
        assert_eq!(opened.len(), 1);
        let error = PoolDir::open(&path, ShardCount::new(32).unwrap()).unwrap_err();
        assert!(
            error.to_string().starts_with("--shards 32: the pool in"),
            "{error}"
        );
        fs::write(path.join("pool.json"), "{").unwrap();
        let error = PoolDir::open(&path, ShardCount::default()).unwrap_err();
        assert!(matches!(error, PoolDirError::Unknown { .. }), "{error}");
    }

    #[test]
    fn a_member_lives_until_it_leaves_or_its_process_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let pool = pool(directory.path());
        let (a, b) = (member("a"), member("b"));
        let first = pool.join(&a, &says(1)).unwrap();
        let second = pool.join(&b, &says(20_000)).unwrap();
        let both = [(a.clone(), Some(says(1))), (b.clone(), Some(says(20_000)))];
        assert_eq!(pool.live().unwrap(), Live::from(both));
        let error = pool.join(&a, &says(1)).unwrap_err();
        assert!(matches!(error, PoolDirError::Taken { .. }), "{error}");
        first.leave();
        // As at a kill: the file stays, the lock does not.
        drop(second);
        assert!(pool.live().unwrap().is_empty());
        assert!(directory.path().join("members/b").exists());
        let _again = pool.join(&b, &says(3)).unwrap();
        let live = pool.live().unwrap();
        assert_eq!(live, Live::from([(b.clone(), Some(says(3)))]));
        // It is a member, whatever stands there.
        fs::write(directory.path().join("members/b"), "{").unwrap();
        assert_eq!(pool.live().unwrap(), Live::from([(b, None)]));
    }

    #[test]
    fn a_shard_has_one_owner_and_remembers_the_last_store() {
        let directory = tempfile::tempdir().unwrap();
        let pool = pool(directory.path());
        let shard = ShardCount::default().all().next().unwrap();
        let mut lock = pool.claim(shard).unwrap().unwrap();
        assert_eq!(lock.last, None);
        lock.enter("store-with-a-long-name").unwrap();
        lock.enter("store-1").unwrap();
        assert!(pool.claim(shard).unwrap().is_none());
        drop(lock);
        let lock = pool.claim(shard).unwrap().unwrap();
        assert_eq!(lock.last.as_deref(), Some("store-1"));
    }
}
