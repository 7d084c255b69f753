//! The bounded queue in front of the writer, and the rule when a batch is complete. In: items from any
//! task. Out: batches. A full queue makes the tasks wait, and so the MQTT server.

use std::collections::VecDeque;
use std::iter::Peekable;
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
/// What comes while the writer puts its log into the database, which takes some 10 ms.
const CAPACITY: usize = 8 * BATCH;
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
            Self::Message(arrival) => arrival.payload.len() + arrival.place.topic().len() + 128,
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
    /// How many were awaited when the servers fell silent, which is what they have in flight: with as many again
    /// there is nothing to wait for.
    in_flight: usize,
    first: Option<Instant>,
    closed: bool,
}

impl Inner {
    fn is_batch(&self) -> bool {
        let is_full = self.items.len() >= BATCH || self.bytes >= BATCH_BYTES;
        is_full || self.closed || (self.awaited > 0 && self.awaited >= self.in_flight)
    }

    fn take(&mut self) -> Vec<Item> {
        let (mut bytes, mut awaited) = (0, 0);
        let mut batch = Vec::with_capacity(self.items.len().min(BATCH));
        while batch.len() < BATCH
            && let Some(item) = self
                .items
                .pop_front_if(|item| batch.is_empty() || bytes + item.bytes() <= BATCH_BYTES)
        {
            bytes += item.bytes();
            awaited += usize::from(item.is_awaited());
            batch.push(item);
        }
        self.bytes -= bytes;
        self.awaited -= awaited;
        self.in_flight = self.in_flight.max(awaited);
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
        self.push_all(std::iter::once(item)).await
    }

    /// Puts items in, in order; waits while there is no room.
    pub async fn push_all(&self, items: impl Iterator<Item = Item>) -> Result<(), StoreError> {
        let mut items = items.peekable();
        loop {
            // Registered before the look, so that room made in between is not missed.
            let room = self.room.notified();
            self.try_push_all(&mut items)?;
            if items.peek().is_none() {
                return Ok(());
            }
            room.await;
        }
    }

    /// Puts an item in; false if there is no room.
    pub fn try_push(&self, item: Item) -> Result<bool, StoreError> {
        let mut items = std::iter::once(item).peekable();
        self.try_push_all(&mut items)?;
        Ok(items.peek().is_none())
    }

    /// Takes as many as there is room for.
    fn try_push_all(
        &self,
        items: &mut Peekable<impl Iterator<Item = Item>>,
    ) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(StoreError::Closed);
        }
        let (was_batch, was_awaited) = (inner.is_batch(), inner.awaited > 0);
        let is_first = inner.items.is_empty();
        while inner.items.len() < CAPACITY
            && inner.bytes < CAPACITY_BYTES
            && let Some(item) = items.next()
        {
            inner.bytes += item.bytes();
            inner.awaited += usize::from(item.is_awaited());
            inner.arrived += 1;
            inner.items.push_back(item);
        }
        if is_first && !inner.items.is_empty() {
            inner.first = Some(Instant::now());
        }
        let wake =
            is_first || (!was_batch && inner.is_batch()) || (!was_awaited && inner.awaited > 0);
        drop(inner);
        if wake {
            self.work.notify_one();
        }
        Ok(())
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
            let is_awaited = inner.awaited > 0;
            let pause = if is_awaited { left.min(QUIET) } else { left };
            let before = inner.arrived;
            let started = Instant::now();
            inner = self.wait(inner, pause);
            // A wake-up before the pause is over says nothing about quiet.
            let quiet = inner.arrived == before && started.elapsed() >= pause;
            if quiet && is_awaited {
                inner.in_flight = inner.awaited;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn awaited(queue: &Queue, count: usize) {
        for _ in 0..count {
            assert!(queue.try_push(Item::Sync(oneshot::channel().0)).unwrap());
        }
    }

    fn next(queue: &Queue) -> usize {
        match queue.next(Duration::ZERO) {
            Woken::Batch(items) => items.len(),
            Woken::Idle | Woken::Closed => 0,
        }
    }

    #[test]
    fn a_batch_is_complete_with_as_many_as_the_servers_had_in_flight_when_they_fell_silent() {
        let queue = Queue::new(Duration::from_secs(60));
        awaited(&queue, 3);
        assert!(queue.lock().is_batch(), "nothing is known to be in flight");
        assert_eq!(next(&queue), 3);
        awaited(&queue, 2);
        assert!(!queue.lock().is_batch());
        awaited(&queue, 1);
        assert!(queue.lock().is_batch());
        awaited(&queue, 4);
        assert_eq!(next(&queue), 7);
        // Now 7 are expected; that there are only 2 by now is learned from the silence.
        awaited(&queue, 2);
        assert!(!queue.lock().is_batch());
        assert_eq!(next(&queue), 2);
        awaited(&queue, 2);
        assert!(queue.lock().is_batch());
    }
}
