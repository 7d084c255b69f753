//! A stream of all members: the own store's part and one of each other member, as they come. In: a query. Out: events
//! whose cursors hold a position in every store, so that whoever resumes, with whichever member, misses nothing that
//! a member has which lives, and gets nothing twice.

use std::collections::{BTreeSet, VecDeque};

use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;

use akri_mqtt_proto::monitoring::watch_response::Event;

use super::begin::{Begin, from, open_all};
use super::cursor::{self, Cursors};
use super::part::{Part, PartEvent, sequence};
use super::{Asked, Others, ServiceError, wire};
use crate::api::service::{DeviceQuery, Slot, Start, WatchEvent, WatchQuery, Watcher};
use crate::pool::Live;

/// A stream as a front sends it.
pub enum Stream {
    /// Of the own store.
    Own(Box<Watcher>),
    /// Of all members.
    United(Box<United>),
}

impl Stream {
    /// The cursor after which a new stream would go on as this one does.
    #[must_use]
    pub fn cursor(&self) -> String {
        match self {
            Self::Own(watcher) => watcher.cursor(),
            Self::United(united) => united.cursor(),
        }
    }

    /// The next event; none once the process stops. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the own store cannot be read.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ServiceError> {
        match self {
            Self::Own(watcher) => watcher.next().await,
            Self::United(united) => united.next().await,
        }
    }
}

/// See the module.
pub struct United {
    asked: Asked,
    others: Others,
    query: WatchQuery,
    live: watch::Receiver<Live>,
    /// A stream, so that a read of the store goes on while other parts have something.
    own: BoxStream<'static, Result<WatchEvent, ServiceError>>,
    parts: SelectAll<BoxStream<'static, (String, PartEvent)>>,
    /// The stores of the parts.
    active: BTreeSet<String>,
    cursors: Cursors,
    /// From when a store is read that was never read here.
    floor: Timestamp,
    /// The store of the last message.
    last: String,
    queue: VecDeque<WatchEvent>,
    _slot: Slot,
}

impl Asked {
    /// Opens a stream.
    ///
    /// # Errors
    /// When too many are open, the cursor has no form of ours, a device is unknown, or the store fails.
    pub async fn watch(&self, query: WatchQuery) -> Result<Stream, ServiceError> {
        let Some(others) = self.others() else {
            let part = self.is_member();
            let watcher = self.service.watch(WatchQuery { part, ..query }).await?;
            return Ok(Stream::Own(Box::new(watcher)));
        };
        self.know(&query).await?;
        let slot = self.service.slot()?;
        let united = United::open(self, others, query, slot).await?;
        Ok(Stream::United(Box::new(united)))
    }

    /// Whether there is every device that is asked for.
    async fn know(&self, query: &WatchQuery) -> Result<(), ServiceError> {
        let here = |id: &String| self.service.devices.is_watched(id);
        let ids: BTreeSet<_> = query
            .devices
            .iter()
            .filter(|id| !here(id))
            .cloned()
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let limit = ids.len();
        let asked = ids.clone();
        let query = DeviceQuery {
            ids,
            limit,
            ..DeviceQuery::default()
        };
        let known = self.devices(&query).await?;
        let is_known = |id: &&String| known.devices.iter().any(|view| *view.device.id == **id);
        match asked.iter().find(|id| !is_known(id)) {
            None => Ok(()),
            Some(id) if known.partial => Err(ServiceError::Unreachable(format!(
                "no member that answers knows {:?}, and one does not answer",
                crate::api::service::shorten(id)
            ))),
            Some(id) => Err(ServiceError::unknown_device(id)),
        }
    }
}

impl United {
    async fn open(
        asked: &Asked,
        others: &Others,
        query: WatchQuery,
        slot: Slot,
    ) -> Result<Self, ServiceError> {
        let own_store = asked.service.store.id();
        let live = others.live();
        let mut begin = Begin::new(asked, others, &query).await?;
        let open: BTreeSet<_> = begin.parts.iter().map(|it| it.store().to_owned()).collect();
        let new = others.present().links.into_iter();
        let new = new.filter(|link| !open.contains(&link.peer.store));
        let new = new.map(|link| {
            let start = from(&begin.cursors, &link.peer.store, begin.first.clone());
            asked.part(others, link, &query, start)
        });
        let mut new: Vec<_> = new.collect();
        // Those that do not answer now are taken in when they do.
        open_all(&mut new, &mut begin.cursors).await;
        let own = asked.service.watch(WatchQuery {
            start: from(&begin.cursors, own_store, begin.first),
            positions: true,
            part: true,
            ..query.clone()
        });
        let own = own.await?;
        let at = sequence(&own.cursor()).unwrap_or_default();
        begin.cursors.set(own_store, at);
        let mut united = Self {
            asked: asked.clone(),
            others: others.clone(),
            live,
            own: events(own),
            parts: SelectAll::new(),
            active: BTreeSet::new(),
            cursors: begin.cursors,
            floor: begin.floor,
            last: begin.last,
            queue: begin.gaps,
            query,
            _slot: slot,
        };
        for part in begin.parts.into_iter().chain(new) {
            united.take(part);
        }
        if united.query.positions {
            united.tell_position();
        }
        Ok(united)
    }

    fn cursor(&self) -> String {
        self.cursors.text(&self.last)
    }

    async fn next(&mut self) -> Result<Option<WatchEvent>, ServiceError> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                // Here and by no member that has it: they send parts.
                if let WatchEvent::Gap { .. } = event {
                    self.asked.service.metrics.gaps.inc();
                }
                return Ok(Some(event));
            }
            tokio::select! {
                event = self.own.try_next() => match event? {
                    Some(event) => self.own_event(event),
                    None => return Ok(None),
                },
                Some((store, event)) = self.parts.next(), if !self.parts.is_empty() => {
                    self.event(store, event);
                }
                changed = self.live.changed() => {
                    if changed.is_err() { return Ok(None) }
                    self.join();
                }
            }
        }
    }

    /// Takes the parts of members that came.
    fn join(&mut self) {
        self.live.borrow_and_update();
        for link in self.others.present().links {
            if !self.active.contains(&link.peer.store) {
                let start = from(&self.cursors, &link.peer.store, Start::Since(self.floor));
                let part = self.asked.part(&self.others, link, &self.query, start);
                self.take(part);
            }
        }
    }

    fn take(&mut self, part: Part) {
        let store = part.store().to_owned();
        let again = from(&self.cursors, &store, Start::Since(self.floor));
        self.active.insert(store);
        self.parts.push(part.events(Some(again)));
    }

    fn own_event(&mut self, event: WatchEvent) {
        let store = self.asked.service.store.id().to_owned();
        match event {
            WatchEvent::Message(mut view) => {
                self.moved(&store, view.stored.sequence);
                view.cursor = self.cursors.text(&store);
                self.last = store;
                self.queue.push_back(WatchEvent::Message(view));
            }
            WatchEvent::Position { cursor, .. } => self.position(&store, &cursor),
            WatchEvent::Gap { to, .. } => {
                self.moved(&store, to);
                self.queue.push_back(event);
            }
            WatchEvent::Presence(_) => self.queue.push_back(event),
        }
    }

    fn event(&mut self, store: String, event: PartEvent) {
        let event = match event {
            PartEvent::Event(event) => *event,
            PartEvent::Missing(reason) => return self.gap(0, 0, reason),
            PartEvent::Ended => {
                self.active.remove(&store);
                // It may have come back at another address before its old part ended.
                return self.join();
            }
        };
        match event {
            Event::Message(message) => {
                self.moved(&store, message.sequence);
                let mut view = wire::message(message);
                view.cursor = self.cursors.text(&store);
                self.last = store;
                self.queue.push_back(WatchEvent::Message(Box::new(view)));
            }
            Event::Presence(change) => {
                let view = wire::device_view(&change.device_id, change.presence);
                self.queue.push_back(WatchEvent::Presence(Box::new(view)));
            }
            Event::Position(position) => self.position(&store, &position.cursor),
            Event::Gap(gap) => {
                self.moved(&store, gap.to);
                self.gap(gap.from, gap.to, gap.reason);
            }
        }
    }

    fn gap(&mut self, from: u64, to: u64, reason: String) {
        self.queue.push_back(WatchEvent::Gap { from, to, reason });
    }

    fn position(&mut self, store: &str, cursor: &str) {
        if let Some(sequence) = sequence(cursor) {
            self.moved(store, sequence);
        }
        if self.query.positions {
            self.tell_position();
        }
    }

    fn tell_position(&mut self) {
        self.queue.push_back(WatchEvent::Position {
            cursor: self.cursor(),
            received_at: None,
        });
    }

    /// What is known of stores that no member has stays for when one comes back, as far as there is room.
    fn moved(&mut self, store: &str, sequence: u64) {
        if sequence > 0 || !self.cursors.0.contains_key(store) {
            self.cursors.set(store, sequence);
        }
        if self.cursors.0.len() > cursor::MOST {
            let own = self.asked.service.store.id();
            let active = &self.active;
            let is_there = |store: &String| store == own || active.contains(store);
            self.cursors.0.retain(|store, _| is_there(store));
        }
    }
}

fn events(watcher: Watcher) -> BoxStream<'static, Result<WatchEvent, ServiceError>> {
    let events = stream::try_unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Ok(event.map(|event| (event, watcher)))
    });
    events.boxed()
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
