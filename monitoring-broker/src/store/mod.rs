//! The store: every message, durably, in one directory, with an ever increasing sequence.
//! In: [`Arrival`]s. Out: a receipt after the commit, scans, the tail, the memory of MQTT sessions.
//! One writer thread owns all writing; reads use connections of their own and never block it.
//! Why SQLite with a record per batch: `docs/adr/0003-store.md`.

mod block;
mod catalog;
mod cursors;
mod directory;
mod links;
mod place;
mod plan;
mod queue;
mod reader;
mod retention;
mod scan;
mod schema;
mod session;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot, watch};

pub use block::{Block, Properties, Record};
pub use catalog::{Catalog, MOST_TOPICS, Topic};
pub use directory::replace as replace_file;
pub use place::Place;
pub use reader::{Reader, Stored};
pub use scan::{End, Scan};
pub use session::{PacketIds, StoreSession};

use crate::metrics::StoreMetrics;
use cursors::Cursors;
use queue::{Item, Queue};
use tail::Tail;

/// Readers at a time. A reader takes some 200 KiB, and two cores serve no more.
const READERS: usize = 4;

/// Why the store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum StoreError {
    /// Another process has it.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// Its content contradicts itself.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It was made by another program or version.
    #[error("the store is not one that this version can read: {0}")]
    Unknown(String),
    /// The disk is full.
    #[error("no room on the disk of the store: {0}")]
    Full(String),
    /// A file could not be read or written.
    #[error("{0}")]
    Io(String),
    /// SQLite failed.
    #[error("the store failed: {0}")]
    Sql(String),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

/// Reads the wall clock: nanoseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a store behaves.
#[derive(Clone)]
pub struct Config {
    /// Its directory; made if it is missing.
    pub directory: PathBuf,
    /// Older messages are deleted.
    pub retain_for: Duration,
    /// Most bytes on the disk.
    pub retain_bytes: u64,
    /// A batch is committed so long after its first message at the latest.
    pub commit_window: Duration,
    /// For retention.
    pub clock: Clock,
    /// Is shown each message that asks for it, with its sequence, before anyone can read it.
    pub observer: Observer,
    /// Counts what it does.
    pub metrics: StoreMetrics,
}

/// Sees messages on their way: sequence, topic, payload. It must not block.
pub type Observer = Arc<dyn Fn(u64, &str, &Bytes) + Send + Sync>;

/// Is told of messages once they are durable. It must not block.
pub trait Committed: Send + Sync {
    /// These are, in order.
    fn committed(&self, numbers: &[u64]);
}

impl<F: Fn(&[u64]) + Send + Sync> Committed for F {
    fn committed(&self, numbers: &[u64]) {
        self(numbers);
    }
}

/// Who is told that a message is durable.
pub struct Receipt {
    /// Who.
    pub to: Arc<dyn Committed>,
    /// What they call the message.
    pub number: u64,
}

/// A message on its way into the store.
pub struct Arrival {
    /// Its topic, and the devices that it belongs to.
    pub place: Arc<Place>,
    /// The payload.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Sent because of a new subscription.
    pub retained: bool,
    /// The packet's DUP flag.
    pub duplicate: bool,
    /// When it was received: nanoseconds since 1970.
    pub time: i64,
    /// MQTT 5 properties.
    pub properties: Option<Box<Properties>>,
    /// QoS 2: the memory of its session and its packet id. An id that is in there already is not stored again.
    pub packet: Option<(Arc<PacketIds>, u16)>,
    /// It is shown to the store's observer.
    pub is_observed: bool,
    /// Who is told after the commit.
    pub receipt: Option<Receipt>,
}

/// What is saved of a device.
#[derive(Clone, Debug)]
pub struct DeviceRecord {
    /// The device.
    pub id: Arc<str>,
    /// What is known of it.
    pub record: String,
    /// Whether it is served.
    pub served: bool,
}

/// Whether the store takes messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Ready,
    /// It waits for room on the disk; nothing is acknowledged meanwhile.
    Full(String),
    /// It failed; the process has to end.
    Failed(StoreError),
    /// It was closed.
    Closed,
}

/// What writer, readers and callers share.
struct Shared {
    id: String,
    directory: PathBuf,
    metrics: StoreMetrics,
    queue: Queue,
    catalog: RwLock<Catalog>,
    tail: Mutex<Tail>,
    cursors: Mutex<Cursors>,
    oldest: AtomicU64,
    committed: watch::Sender<u64>,
    status: watch::Sender<Status>,
    readers: Mutex<Vec<Reader>>,
    reading: Arc<Semaphore>,
}

impl Shared {
    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to the store; clones are handles to the same one.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

impl Store {
    /// Opens the store of a directory or makes one. One that cannot be read is moved aside first.
    ///
    /// # Errors
    /// When another process has it, or the directory cannot be written.
    pub fn open(config: Config) -> Result<Self, StoreError> {
        let lock = directory::lock(&config.directory)?;
        let opened = schema::open_or_move_aside(&config.directory)?;
        let shared = Arc::new(Shared {
            id: opened.id,
            directory: config.directory.clone(),
            metrics: config.metrics.clone(),
            queue: Queue::new(config.commit_window),
            catalog: RwLock::new(opened.catalog),
            tail: Mutex::default(),
            cursors: Mutex::new(opened.cursors),
            oldest: AtomicU64::new(opened.oldest),
            committed: watch::Sender::new(opened.next - 1),
            status: watch::Sender::new(Status::Ready),
            readers: Mutex::default(),
            reading: Arc::new(Semaphore::new(READERS)),
        });
        let start = writer::Start {
            lock,
            connection: opened.connection,
            next: opened.next,
            time_high: opened.time_high,
        };
        let writer = writer::spawn(start, config, Arc::clone(&shared))?;
        Ok(Self {
            shared,
            writer: Arc::new(Mutex::new(Some(writer))),
        })
    }

    /// The random id that was made with the store.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Puts messages into the next batches, in order; waits while the queue is full.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn append_all(
        &self,
        arrivals: impl Iterator<Item = Arrival>,
    ) -> Result<(), StoreError> {
        self.shared
            .queue
            .push_all(arrivals.map(Item::Message))
            .await
    }

    /// The same with one message.
    ///
    /// # Errors
    /// When the writer has ended.
    #[cfg(test)]
    pub async fn append(&self, arrival: Arrival) -> Result<(), StoreError> {
        self.append_all(std::iter::once(arrival)).await
    }

    /// Returns once everything that was put in before is committed.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn sync(&self) -> Result<(), StoreError> {
        let (done, committed) = oneshot::channel();
        self.shared.queue.push(Item::Sync(done)).await?;
        committed.await.map_err(|_| StoreError::Closed)
    }

    /// Saves what is known of devices in one transaction, and whether they are served: the last message of
    /// each topic of a served device is kept whatever its age.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn save_devices(&self, devices: Vec<DeviceRecord>) -> Result<(), StoreError> {
        if devices.is_empty() {
            return Ok(());
        }
        {
            let mut catalog = self.shared.catalog_mut();
            for device in &devices {
                catalog.serve(&device.id, device.served);
            }
        }
        let records = devices.into_iter().map(|device| (device.id, device.record));
        self.shared
            .queue
            .push(Item::Devices(records.collect()))
            .await
    }

    /// The saved devices of earlier runs, sorted, with what was saved.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn saved_devices(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(Reader::devices).await
    }

    /// The durable memory of an MQTT session.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn session(
        &self,
        server: &str,
        client_id: &str,
    ) -> Result<Arc<StoreSession>, StoreError> {
        let key: Arc<str> = format!("{server}/{client_id}").into();
        let ids = {
            let key = Arc::clone(&key);
            self.read(move |reader| reader.packet_ids(&key)).await?
        };
        let ids = Arc::new(PacketIds::new(key, ids));
        Ok(Arc::new(StoreSession::open(Arc::clone(&self.shared), ids)))
    }

    /// Forgets the packet ids of all sessions in whose name a text is: others have gone on with them since, and
    /// their server may use the ids for other messages now.
    ///
    /// # Errors
    /// When the store cannot be read, or the writer has ended.
    pub async fn forget_packet_ids(&self, text: String) -> Result<(), StoreError> {
        let keys = self
            .read(move |reader| reader.sessions_with_packets(&text))
            .await?;
        for key in keys {
            let ids = Arc::new(PacketIds::new(key.into(), HashSet::new()));
            let (done, committed) = oneshot::channel();
            self.shared.queue.push(Item::Clear(ids, done)).await?;
            committed.await.map_err(|_| StoreError::Closed)?;
        }
        Ok(())
    }

    /// The sequence of the last committed message, as it changes.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.shared.committed.subscribe()
    }

    /// Whether the store takes messages, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// The oldest sequence that is still stored, or the next one if nothing is.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.shared.oldest.load(Ordering::Acquire)
    }

    /// The topics and their latest messages. Hold it briefly: the writer waits for it.
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.shared.catalog()
    }

    /// Messages waiting for their commit.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.queue.len()
    }

    /// The committed blocks that end after a sequence, oldest first, if the memory of the latest reaches back to it.
    #[must_use]
    pub fn recent(&self, after: u64) -> Option<Vec<Arc<Block>>> {
        let tail = self.shared.tail.lock();
        tail.unwrap_or_else(PoisonError::into_inner).after(after)
    }

    /// Runs a read on a thread for blocking work.
    ///
    /// # Errors
    /// When it fails, or the store cannot be opened for reading.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.shared.reading).acquire_owned().await;
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            // Whoever asked may have gone: the thread is busy until the read is over.
            let _permit = permit;
            let free = shared.readers.lock();
            let free = free.unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = match free {
                Some(reader) => reader,
                None => Reader::open(&shared)?,
            };
            let result = read(&mut reader);
            let mut free = shared
                .readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            free.push(reader);
            result
        });
        let result = task.await.unwrap_or(Err(StoreError::Closed));
        result.inspect_err(|error| self.unreadable(error))
    }

    /// Counts and logs that something could not be read.
    pub fn unreadable(&self, error: &StoreError) {
        if *error != StoreError::Closed {
            self.shared.metrics.unreadable.inc();
            tracing::error!(%error, "the store cannot be read");
        }
    }

    /// Commits what waits and ends the writer.
    pub async fn close(&self) {
        self.shared.queue.close();
        // The writer's connection is to be the last one: it writes the log back.
        let idle = self.shared.readers.lock();
        idle.unwrap_or_else(PoisonError::into_inner).clear();
        let writer = self.writer.lock();
        let writer = writer.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's writer panicked");
            }
        }
    }
}
