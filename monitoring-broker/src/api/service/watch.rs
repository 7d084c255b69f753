//! A stream of messages and presence: first what is stored after the start, then live, without gap or
//! repetition. In: a query. Out: events, one at a time, when the consumer asks.
//! A watcher is a position in the store: near the end it reads the memory of the latest blocks,
//! further behind the disk. So a slow consumer costs no buffer and is never disconnected.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::start::{Start, WatchQuery};
use super::view::Viewer;
use super::{DeviceView, MessageView, PARTS, STREAMS, Service, ServiceError};
use crate::devices::{Device, State};
use crate::store::{Block, Record, Stored};

/// Decisions by topic that a watcher remembers.
const REMEMBERED: usize = 10_000;
/// How often it tells where it stands while no message does.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A watcher takes no further block while so many messages of it wait for its consumer.
const AHEAD: usize = 1_024;

/// What a stream sends.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A message.
    Message(Box<MessageView>),
    /// The presence of a device.
    Presence(Box<DeviceView>),
    /// Messages that cannot be had any more.
    Gap {
        /// The first missing sequence; 0 if it is not known.
        from: u64,
        /// The last missing sequence, inclusive; 0 if it is not known.
        to: u64,
        /// Why, in one sentence.
        reason: String,
    },
    /// Where the stream stands, if that was asked for.
    Position {
        /// After which another one goes on.
        cursor: String,
        /// At the start after a cursor: when its message was received, if that is known.
        received_at: Option<Timestamp>,
    },
}

/// One of the streams that may be open; dropping it makes room for another.
pub struct Slot {
    /// Those of readers; a part that another member unites is counted there.
    watchers: Option<Gauge>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(watchers) = &self.watchers {
            watchers.dec();
        }
    }
}

/// What waits for the consumer. Messages are decoded when it takes them.
enum Waiting {
    Message(Stored),
    Presence(Device),
    Gap { from: u64, to: u64, reason: String },
    Position(Option<Timestamp>),
}

/// A stream.
pub struct Watcher {
    service: Service,
    viewer: Viewer,
    query: WatchQuery,
    /// Everything up to it waits, was sent or was left out.
    after: u64,
    /// Everything up to it was sent or left out.
    sent: u64,
    /// Messages before the first one received at or after this time are left out.
    since: Option<i64>,
    queue: VecDeque<Waiting>,
    committed: watch::Receiver<u64>,
    presence: watch::Receiver<u64>,
    /// The revision of the devices up to which presence waits or was sent; none: nothing yet.
    presence_seen: Option<u64>,
    wanted: HashMap<u32, bool>,
    /// The position that was told last, or is told by the last message, and when.
    told: (u64, Instant),
    _slot: Slot,
}

impl Service {
    /// Takes one of the [`STREAMS`] that may be open.
    ///
    /// # Errors
    /// When none is left.
    pub fn slot(&self) -> Result<Slot, ServiceError> {
        let permit = permit(&self.streams, STREAMS)?;
        let watchers = self.metrics.watchers.clone();
        watchers.inc();
        Ok(Slot {
            watchers: Some(watchers),
            _permit: permit,
        })
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// When too many are open, the cursor has no form of ours, a device is unknown, or the store fails.
    pub async fn watch(&self, query: WatchQuery) -> Result<Watcher, ServiceError> {
        let slot = if query.part {
            Slot {
                watchers: None,
                _permit: permit(&self.parts, PARTS)?,
            }
        } else {
            for device in &query.devices {
                self.device(device)?;
            }
            self.slot()?
        };
        let committed = self.store.committed();
        let latest = *committed.borrow();
        let start = self.find_start(&query.start, latest).await?;
        let mut queue = VecDeque::new();
        if query.positions {
            let is_after = matches!(query.start, Start::Cursor(_)) && start.gap.is_none();
            let at = if is_after {
                self.received_at(start.after).await?
            } else {
                None
            };
            queue.push_back(Waiting::Position(at));
        }
        queue.extend(start.gap.map(|reason| Waiting::Gap {
            from: 0,
            to: 0,
            reason,
        }));
        Ok(Watcher {
            after: start.after,
            sent: start.after,
            since: start.since,
            queue,
            committed,
            presence: self.devices.revision(),
            presence_seen: None,
            wanted: HashMap::new(),
            told: (start.after, Instant::now()),
            query,
            viewer: self.viewer(),
            service: self.clone(),
            _slot: slot,
        })
    }
}

fn permit(streams: &Arc<Semaphore>, most: usize) -> Result<OwnedSemaphorePermit, ServiceError> {
    let permit = Arc::clone(streams).try_acquire_owned();
    permit.map_err(|_| ServiceError::TooManyStreams(most))
}

/// Why messages are missing.
const RETENTION: &str = "Retention has deleted these messages.";
const DAMAGE: &str = "These messages cannot be read any more.";

impl Watcher {
    /// The cursor after which a new stream would go on as this one does.
    #[must_use]
    pub fn cursor(&self) -> String {
        self.viewer.cursor(self.sent)
    }

    /// The next event; none once the process stops. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ServiceError> {
        let shutdown = self.service.shutdown.clone();
        loop {
            if shutdown.is_triggered() && !(self.query.part && self.is_behind()) {
                return Ok(None);
            }
            if let Some(waiting) = self.queue.pop_front() {
                return Ok(Some(self.event(waiting)));
            }
            self.sent = self.after;
            self.take_presence();
            self.take_messages().await?;
            if self.is_behind() {
                continue;
            }
            if self.has_moved() {
                self.queue.push_back(Waiting::Position(None));
                continue;
            }
            let with_presence = self.query.presence;
            tokio::select! {
                () = shutdown.triggered() => {}
                changed = self.committed.changed() => if changed.is_err() { return Ok(None) },
                changed = self.presence.changed(), if with_presence => {
                    if changed.is_err() { return Ok(None) }
                }
            }
        }
    }

    fn is_behind(&self) -> bool {
        !self.queue.is_empty() || *self.committed.borrow() > self.after
    }

    /// Whether its position is to be told, because no message has told it for some time.
    fn has_moved(&self) -> bool {
        let (told, at) = self.told;
        self.query.positions && self.sent > told && at.elapsed() >= TELL_EVERY
    }

    /// Events that wait for the consumer.
    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    fn event(&mut self, waiting: Waiting) -> WatchEvent {
        match waiting {
            Waiting::Message(stored) => {
                self.sent = stored.sequence;
                self.told.0 = stored.sequence;
                WatchEvent::Message(Box::new(self.viewer.view(stored)))
            }
            Waiting::Presence(device) => WatchEvent::Presence(Box::new(self.service.view(device))),
            Waiting::Gap { from, to, reason } => {
                self.sent = self.sent.max(to);
                if !self.query.part {
                    self.service.metrics.gaps.inc();
                }
                WatchEvent::Gap { from, to, reason }
            }
            Waiting::Position(received_at) => {
                self.told = (self.sent, Instant::now());
                let cursor = self.cursor();
                WatchEvent::Position {
                    cursor,
                    received_at,
                }
            }
        }
    }

    /// At first the presence of each device, sorted by id; then of those that changed, the latest one.
    fn take_presence(&mut self) {
        if !self.query.presence {
            return;
        }
        // Read before the devices: what changes between is sent twice rather than never.
        let revision = *self.presence.borrow_and_update();
        let devices = match self.presence_seen {
            Some(seen) if seen == revision => return,
            Some(seen) => {
                let changed = self.service.devices.changed_after(seen);
                changed.into_iter().map(|(_, device)| device).collect()
            }
            None => self.service.devices.after(None, usize::MAX),
        };
        let is_first = self.presence_seen.is_none();
        self.presence_seen = Some(revision);
        let (query, known) = (&self.query.devices, &self.service.devices);
        // Of a device that went to another member, the other one tells.
        let is_ours = |device: &Device| {
            !self.query.part
                || known.is_watched(&device.id)
                || !is_first && device.presence.state == State::Offline
        };
        let wanted = devices
            .into_iter()
            .filter(|device| query.is_empty() || query.contains(&*device.id))
            .filter(is_ours);
        self.queue.extend(wanted.map(Waiting::Presence));
    }

    async fn take_messages(&mut self) -> Result<(), ServiceError> {
        let latest = *self.committed.borrow_and_update();
        if latest <= self.after {
            return Ok(());
        }
        // The memory of the latest blocks may still have what retention has deleted, but not its names.
        self.gap(self.service.store.oldest().saturating_sub(1).min(latest));
        let lag = latest - self.after;
        let lag = i64::try_from(lag).unwrap_or(i64::MAX);
        self.service.metrics.watch_lag.set(lag);
        let after = self.after;
        let blocks = match self.service.store.recent(after) {
            Some(blocks) => blocks,
            None => {
                let read = self.service.store.read(move |r| r.blocks_after(after));
                read.await?
            }
        };
        if blocks.is_empty() {
            self.gap(latest);
        }
        for block in blocks {
            if self.queue.len() >= AHEAD {
                break;
            }
            self.take_block(&block);
        }
        Ok(())
    }

    fn take_block(&mut self, block: &Block) {
        self.gap(block.first.saturating_sub(1));
        let mut found = Vec::new();
        for record in block.records() {
            let (sequence, record) = match record {
                Ok(record) => record,
                // It goes on behind what is damaged: with its cursor it would come back to it for ever.
                Err(error) => {
                    self.service.store.unreadable(&error);
                    self.push_gap(self.after + 1, block.last, DAMAGE);
                    self.after = self.after.max(block.last);
                    return;
                }
            };
            let is_left_out = sequence <= self.after
                || self.is_before_start(&record)
                || self.wanted.get(&record.topic) == Some(&false);
            if !is_left_out {
                found.push((sequence, record));
            }
        }
        // The writer waits for the catalog, so it is held for the names only.
        let store = self.service.store.clone();
        let catalog = store.catalog();
        for (sequence, record) in found {
            let topic = record.inline.is_none().then_some(record.topic);
            match Stored::name(&catalog, sequence, record) {
                Some(stored) if self.wants(topic, &stored) => {
                    self.queue.push_back(Waiting::Message(stored));
                }
                Some(_) => {}
                None => self.push_gap(sequence, sequence, RETENTION),
            }
        }
        self.after = self.after.max(block.last);
    }

    /// With `since`: whether the first message of that time is still to come.
    fn is_before_start(&mut self, record: &Record) -> bool {
        let is_before = self.since.is_some_and(|since| record.time < since);
        if !is_before {
            self.since = None;
        }
        is_before
    }

    /// Whether a message is asked for; decided once for each numbered topic.
    fn wants(&mut self, topic: Option<u32>, stored: &Stored) -> bool {
        if let Some(wants) = topic.and_then(|topic| self.wanted.get(&topic)) {
            return *wants;
        }
        let devices = &self.query.devices;
        let filter = self.query.topic.as_ref();
        let wants = (devices.is_empty() || devices.contains(&*stored.device))
            && filter.is_none_or(|filter| filter.matches(&stored.topic));
        if let Some(topic) = topic {
            if self.wanted.len() >= REMEMBERED {
                self.wanted.clear();
            }
            self.wanted.insert(topic, wants);
        }
        wants
    }

    /// Everything up to a sequence that was not sent is gone.
    fn gap(&mut self, to: u64) {
        if to <= self.after {
            return;
        }
        self.push_gap(self.after + 1, to, RETENTION);
        self.after = to;
    }

    fn push_gap(&mut self, first: u64, last: u64, why: &str) {
        if let Some(Waiting::Gap { to, reason, .. }) = self.queue.back_mut()
            && *to > 0
            && *to + 1 == first
            && reason == why
        {
            *to = last;
            return;
        }
        self.queue.push_back(Waiting::Gap {
            from: first,
            to: last,
            reason: why.to_owned(),
        });
    }
}
