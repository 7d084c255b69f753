//! The bounded queue in front of the writer, and the rule when a batch is complete. In: items from any
//! task. Out: batches. A full queue makes the tasks wait, and so the MQTT server.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::session::PacketIds;
use super::{Arrival, StoreError};

/// Messages in a batch.
pub const BATCH: usize = 512;
/// A batch also ends at so many bytes, so that a transaction stays small.
const BATCH_BYTES: usize = 4 << 20;
/// So long without a new message while some wait for their acknowledgement ends a batch: a server with 20
/// messages in flight sends nothing more before it gets one.
const QUIET: Duration = Duration::from_micros(200);
/// Two batches being filled while one is written, and as many bytes.
const CAPACITY: usize = 3 * BATCH;
const CAPACITY_BYTES: usize = 2 * BATCH_BYTES;

/// Work for the writer.
pub enum Item {
    /// Store it.
    Message(Arrival),
    /// PUBREL: forget a packet id.
    Release(Arc<PacketIds>, u16, oneshot::Sender<()>),
    /// The server lost the session: forget all its packet ids.
    Clear(Arc<PacketIds>, oneshot::Sender<()>),
    /// Save what is known of devices, in one transaction.
    Devices(Vec<(Arc<str>, String)>),
    /// Save how far the sinks are.
    Cursors,
    /// Answer once everything before is committed.
    Sync(oneshot::Sender<()>),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(arrival) => arrival.payload.len() + arrival.topic.len() + 128,
            Self::Devices(records) => records.iter().map(|(_, record)| record.len()).sum(),
            _ => 64,
        }
    }

    /// Someone waits for the commit.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Message(arrival) => arrival.receipt.is_some(),
            Self::Devices(_) | Self::Cursors => false,
            _ => true,
        }
    }
}

/// Why the writer was woken.
pub enum Woken {
    /// A batch, never empty.
    Batch(Vec<Item>),
    /// The given time passed without an item.
    Idle,
    /// Closed, and nothing is left.
    Closed,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    awaited: usize,
    /// How many were ever put in; tells whether something came.
    arrived: u64,
    first: Option<Instant>,
    closed: bool,
}

impl Inner {
    fn is_batch(&self) -> bool {
        self.items.len() >= BATCH || self.bytes >= BATCH_BYTES || self.closed
    }

    fn take(&mut self) -> Vec<Item> {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.bytes();
            bytes <= BATCH_BYTES
        };
        let count = self
            .items
            .iter()
            .take(BATCH)
            .take_while(fits)
            .count()
            .max(1);
        let batch: Vec<_> = self.items.drain(..count.min(self.items.len())).collect();
        self.bytes -= batch.iter().map(Item::bytes).sum::<usize>();
        self.awaited -= batch.iter().filter(|item| item.is_awaited()).count();
        self.first = (!self.items.is_empty()).then(Instant::now);
        batch
    }
}

/// See the module.
pub struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    room: Notify,
    window: Duration,
}

impl Queue {
    /// An empty queue whose batches are complete so long after their first item at the latest.
    pub fn new(window: Duration) -> Self {
        Self {
            inner: Mutex::default(),
            work: Condvar::new(),
            room: Notify::new(),
            window,
        }
    }

    /// Puts an item in; waits while there is no room.
    pub async fn push(&self, item: Item) -> Result<(), StoreError> {
        let mut item = item;
        loop {
            // Registered before the look, so that room made in between is not missed.
            let room = self.room.notified();
            item = match self.try_push(item)? {
                None => return Ok(()),
                Some(item) => item,
            };
            room.await;
        }
    }

    /// Gives the item back if there is no room.
    pub fn try_push(&self, item: Item) -> Result<Option<Item>, StoreError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(StoreError::Closed);
        }
        let full = inner.items.len() >= CAPACITY || inner.bytes >= CAPACITY_BYTES;
        if full {
            return Ok(Some(item));
        }
        inner.bytes += item.bytes();
        inner.awaited += usize::from(item.is_awaited());
        inner.arrived += 1;
        inner.items.push_back(item);
        let first = inner.first.is_none();
        if first {
            inner.first = Some(Instant::now());
        }
        let wake = first || inner.items.len() == BATCH || inner.bytes >= BATCH_BYTES;
        drop(inner);
        if wake {
            self.work.notify_one();
        }
        Ok(None)
    }

    /// Waits for a batch, or for the first item no longer than `idle`.
    pub fn next(&self, idle: Duration) -> Woken {
        let mut inner = self.lock();
        let until = Instant::now() + idle;
        while inner.items.is_empty() {
            if inner.closed {
                return Woken::Closed;
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Woken::Idle;
            };
            inner = self.wait(inner, left);
        }
        while !inner.is_batch() {
            let waited = inner.first.map_or(self.window, |first| first.elapsed());
            let Some(left) = self
                .window
                .checked_sub(waited)
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            let (before, pause) = (inner.arrived, left.min(QUIET));
            let started = Instant::now();
            inner = self.wait(inner, pause);
            // A wake-up before the pause is over says nothing about quiet.
            let quiet = inner.arrived == before && started.elapsed() >= pause;
            if quiet && inner.awaited > 0 {
                break;
            }
        }
        let batch = inner.take();
        drop(inner);
        self.room.notify_waiters();
        Woken::Batch(batch)
    }

    /// Takes no more; what is in there is still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.room.notify_waiters();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Items waiting.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, time: Duration) -> MutexGuard<'a, Inner> {
        self.work
            .wait_timeout(inner, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
