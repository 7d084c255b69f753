//! A stream of messages and presence: first what is stored after the start, then live, without gap or
//! repetition. A watcher is a position in the store: near the end it reads the memory of the latest blocks,
//! further behind the disk. So a slow consumer costs no buffer and is never disconnected.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use akri_mqtt_core::topic::TopicFilter;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::view::nanoseconds;
use super::{DeviceView, MessageView, STREAMS, Service, ServiceError};
use crate::store::{Block, Record, Stored};

/// Decisions by topic that a watcher remembers.
const REMEMBERED: usize = 10_000;
/// Events that a watcher prepares ahead of its consumer.
const AHEAD: usize = 1_024;

/// Where a stream starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next message.
    #[default]
    Now,
    /// After this cursor.
    Cursor(String),
    /// With the first message received at or after.
    Since(Timestamp),
}

/// What to stream.
#[derive(Clone, Debug, Default)]
pub struct WatchQuery {
    /// Only these devices; none: all.
    pub devices: BTreeSet<String>,
    /// Only topics that match.
    pub topic: Option<TopicFilter>,
    /// Where to start.
    pub start: Start,
    /// Also presence.
    pub presence: bool,
}

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
}

/// A stream.
pub struct Watcher {
    service: Service,
    query: WatchQuery,
    /// Everything up to it was sent or left out.
    after: u64,
    /// Messages before the first one received at or after this time are left out.
    since: Option<i64>,
    queue: VecDeque<WatchEvent>,
    committed: watch::Receiver<u64>,
    presence: watch::Receiver<u64>,
    presence_seen: u64,
    wanted: HashMap<u32, bool>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.service.metrics.watchers.dec();
    }
}

impl Service {
    /// Opens a stream.
    ///
    /// # Errors
    /// When too many are open, the cursor has no form of ours, a device is unknown, or the store fails.
    pub async fn watch(&self, query: WatchQuery) -> Result<Watcher, ServiceError> {
        for device in &query.devices {
            self.device(device)?;
        }
        let slot = Arc::clone(&self.streams).try_acquire_owned();
        let slot = slot.map_err(|_| ServiceError::TooManyStreams(STREAMS))?;
        let committed = self.store.committed();
        let latest = *committed.borrow();
        let (mut queue, mut since, mut after) = (VecDeque::new(), None, latest);
        match &query.start {
            Start::Now => {}
            Start::Since(time) => {
                let time = nanoseconds(*time);
                since = Some(time);
                let first = self.store.read(move |reader| reader.first_since(time));
                after = first.await?.saturating_sub(1);
            }
            Start::Cursor(cursor) => match self.position(cursor, latest)? {
                Ok(position) => after = position,
                Err(reason) => {
                    after = self.store.oldest().saturating_sub(1);
                    queue.push_back(WatchEvent::Gap {
                        from: 0,
                        to: 0,
                        reason,
                    });
                }
            },
        }
        self.metrics.watchers.inc();
        Ok(Watcher {
            after,
            since,
            queue,
            committed,
            presence: self.devices.revision(),
            presence_seen: 0,
            wanted: HashMap::new(),
            query,
            service: self.clone(),
            _slot: slot,
        })
    }

    /// The sequence of a cursor, or why the stream starts with the oldest message instead.
    fn position(&self, cursor: &str, latest: u64) -> Result<Result<u64, String>, ServiceError> {
        let parsed = cursor.rsplit_once(':');
        let parsed = parsed.and_then(|(store, at)| Some((store, at.parse::<u64>().ok()?)));
        let Some((store, sequence)) = parsed else {
            let why = format!("found {cursor:?}, allowed: <store_id>:<sequence>");
            return Err(ServiceError::invalid("cursor", why));
        };
        if store != self.store.id() {
            return Ok(Err("The cursor is of another store.".to_owned()));
        }
        if sequence > latest {
            let why = format!("The cursor is of the future: the latest message is {latest}.");
            return Ok(Err(why));
        }
        Ok(Ok(sequence))
    }
}

impl Watcher {
    /// The next event; none once the process stops.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ServiceError> {
        let shutdown = self.service.shutdown.clone();
        loop {
            if shutdown.is_triggered() {
                return Ok(None);
            }
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            self.presence();
            self.messages().await?;
            if !self.queue.is_empty() {
                continue;
            }
            if *self.committed.borrow_and_update() > self.after {
                continue;
            }
            tokio::select! {
                () = shutdown.triggered() => return Ok(None),
                changed = self.committed.changed() => if changed.is_err() { return Ok(None) },
                changed = self.presence.changed(), if self.query.presence => {
                    if changed.is_err() { return Ok(None) }
                }
            }
        }
    }

    fn presence(&mut self) {
        if !self.query.presence || *self.presence.borrow_and_update() == self.presence_seen {
            return;
        }
        for (revision, device) in self.service.devices.changed_after(self.presence_seen) {
            self.presence_seen = revision;
            if self.query.devices.is_empty() || self.query.devices.contains(&*device.id) {
                let view = self.service.view(device);
                self.queue.push_back(WatchEvent::Presence(Box::new(view)));
            }
        }
    }

    async fn messages(&mut self) -> Result<(), ServiceError> {
        let latest = *self.committed.borrow_and_update();
        let lag = latest.saturating_sub(self.after);
        if lag == 0 {
            return Ok(());
        }
        let blocks = match self.service.store.recent(self.after) {
            Some(blocks) => blocks,
            None => {
                let after = self.after;
                let read = self
                    .service
                    .store
                    .read(move |reader| reader.blocks_after(after));
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
            self.block(&block)?;
        }
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), ServiceError> {
        self.gap(block.first.saturating_sub(1));
        let mut found = Vec::new();
        {
            let store = self.service.store.clone();
            let catalog = store.catalog();
            for record in block.records() {
                let (sequence, record) = record?;
                if sequence <= self.after || self.is_before_start(&record) {
                    continue;
                }
                let known = self.wanted.get(&record.topic).copied();
                if known == Some(false) && record.inline.is_none() {
                    continue;
                }
                let number = record.topic;
                let is_inline = record.inline.is_some();
                let Some(stored) = Stored::name(&catalog, sequence, record) else {
                    continue;
                };
                let wants = self.wants(&stored);
                if !is_inline && known.is_none() {
                    if self.wanted.len() >= REMEMBERED {
                        self.wanted.clear();
                    }
                    self.wanted.insert(number, wants);
                }
                if wants {
                    found.push(stored);
                }
            }
        }
        self.after = self.after.max(block.last);
        for stored in found {
            let view = MessageView::new(&self.service, stored);
            self.queue.push_back(WatchEvent::Message(Box::new(view)));
        }
        Ok(())
    }

    /// With `since`: whether the first message of that time is still to come.
    fn is_before_start(&mut self, record: &Record) -> bool {
        match self.since {
            Some(since) if record.time < since => true,
            Some(_) => {
                self.since = None;
                false
            }
            None => false,
        }
    }

    fn wants(&self, stored: &Stored) -> bool {
        let devices = &self.query.devices;
        let topic = self.query.topic.as_ref();
        (devices.is_empty() || devices.contains(&*stored.device))
            && topic.is_none_or(|topic| topic.matches(&stored.topic))
    }

    /// Everything up to a sequence that was not sent is gone.
    fn gap(&mut self, to: u64) {
        if to <= self.after {
            return;
        }
        let event = WatchEvent::Gap {
            from: self.after + 1,
            to,
            reason: "Retention has deleted these messages.".to_owned(),
        };
        self.queue.push_back(event);
        self.after = to;
    }
}
