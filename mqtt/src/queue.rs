//! The queue of events between session and consumer: one producer, one consumer, bounded by count and
//! bytes, filled and emptied in batches under one lock.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::Event;

struct Shared {
    inner: Mutex<Inner>,
    filled: Notify,
    emptied: Notify,
    left: Notify,
    capacity: usize,
    capacity_bytes: usize,
}

struct Inner {
    events: VecDeque<Event>,
    bytes: usize,
    producer_gone: bool,
    consumer_gone: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session's end.
pub(crate) struct Producer(Arc<Shared>);

/// The consumer's end of the event queue.
///
/// Dropping it closes the session.
pub struct Events {
    shared: Arc<Shared>,
    local: VecDeque<Event>,
}

pub(crate) fn channel(capacity: usize, capacity_bytes: usize) -> (Producer, Events) {
    let inner = Inner {
        events: VecDeque::new(),
        bytes: 0,
        producer_gone: false,
        consumer_gone: false,
    };
    let shared = Arc::new(Shared {
        inner: Mutex::new(inner),
        filled: Notify::new(),
        emptied: Notify::new(),
        left: Notify::new(),
        capacity: capacity.max(1),
        capacity_bytes: capacity_bytes.max(1),
    });
    (
        Producer(Arc::clone(&shared)),
        Events {
            shared,
            local: VecDeque::new(),
        },
    )
}

fn weight(event: &Event) -> usize {
    match event {
        Event::Message(message) => message.topic.len().saturating_add(message.payload.len()),
        Event::TooLarge { topic, .. } => topic.len(),
        _ => 0,
    }
}

impl Producer {
    /// Appends all events and returns whether the queue has room for more. What was read from the socket is
    /// never dropped: the producer asks [`Producer::has_room`] before it makes events, so the excess is one batch.
    pub(crate) fn push(&self, batch: &mut Vec<Event>) -> bool {
        let mut inner = self.0.lock();
        if inner.consumer_gone {
            batch.clear();
            return true;
        }
        let was_empty = inner.events.is_empty();
        let bytes: usize = batch.iter().map(weight).sum();
        inner.bytes = inner.bytes.saturating_add(bytes);
        inner.events.extend(batch.drain(..));
        let room = self.room(&inner);
        let wake = was_empty && !inner.events.is_empty();
        drop(inner);
        if wake {
            self.0.filled.notify_one();
        }
        room
    }

    fn room(&self, inner: &Inner) -> bool {
        inner.events.len() < self.0.capacity && inner.bytes < self.0.capacity_bytes
    }

    pub(crate) fn has_room(&self) -> bool {
        self.room(&self.0.lock())
    }

    /// Completes when there is room, or the consumer is gone. Cancel safe.
    pub(crate) async fn ready(&self) {
        loop {
            {
                let inner = self.0.lock();
                if inner.consumer_gone || self.room(&inner) {
                    return;
                }
            }
            self.0.emptied.notified().await;
        }
    }

    /// Completes when the consumer was dropped. Cancel safe.
    pub(crate) async fn consumer_left(&self) {
        while !self.0.lock().consumer_gone {
            self.0.left.notified().await;
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.0.lock().producer_gone = true;
        self.0.filled.notify_one();
    }
}

impl Events {
    /// The next event; none once the session has ended and everything was taken. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.local.pop_front() {
                return Some(event);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Waits for at least one event and appends up to `limit` of them to `buffer`; returns how many,
    /// zero once the session has ended. Cancel safe.
    pub async fn recv_many(&mut self, buffer: &mut Vec<Event>, limit: usize) -> usize {
        if self.local.is_empty() && !self.fill().await {
            return 0;
        }
        let count = self.local.len().min(limit.max(1));
        buffer.extend(self.local.drain(..count));
        count
    }

    /// The next event if one is there.
    pub fn try_recv(&mut self) -> Option<Event> {
        if self.local.is_empty() {
            self.take();
        }
        self.local.pop_front()
    }

    async fn fill(&mut self) -> bool {
        loop {
            if self.take() {
                return true;
            }
            if self.shared.lock().producer_gone {
                return self.take();
            }
            self.shared.filled.notified().await;
        }
    }

    fn take(&mut self) -> bool {
        let mut inner = self.shared.lock();
        std::mem::swap(&mut inner.events, &mut self.local);
        inner.bytes = 0;
        drop(inner);
        self.shared.emptied.notify_one();
        !self.local.is_empty()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.consumer_gone = true;
        inner.events.clear();
        drop(inner);
        self.shared.emptied.notify_one();
        self.shared.left.notify_one();
    }
}
