//! The history of a device. In: topic, time, order, limit, token. Out: a page of messages, bounded in
//! number, in bytes and in the work that it takes.

use std::ops::ControlFlow;

use akri_mqtt_core::topic::TopicFilter;
use jiff::Timestamp;

use super::page::{self, PAGE_BYTES, Position};
use super::view::{Viewer, nanoseconds};
use super::{MessageView, Service, ServiceError};
use crate::store::{End, Scan, Stored};

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    /// The device.
    pub device: String,
    /// Only topics that match.
    pub topic: Option<TopicFilter>,
    /// Received at or after.
    pub from: Option<Timestamp>,
    /// Received before.
    pub to: Option<Timestamp>,
    /// Only payloads with this text in them; letters of ASCII in upper or lower case. Not for readings.
    pub text: Option<String>,
    /// Oldest first.
    pub ascending: bool,
    /// 0: the default.
    pub limit: usize,
    /// Of the answer before; empty: the first page.
    pub page_token: String,
}

/// A page of messages.
#[derive(Clone, Debug)]
pub struct MessagePage {
    /// In the order that was asked for.
    pub messages: Vec<MessageView>,
    /// Empty on the last page. A page may be short and have a successor: it is bounded in bytes and work.
    pub next_page_token: String,
}

impl MessageQuery {
    /// Checks what can be checked without the store.
    pub(in crate::api) fn check(&self) -> Result<usize, ServiceError> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            let why = format!("found {to}, allowed: not before `from`, which is {from}");
            return Err(ServiceError::invalid("to", why));
        }
        page::limit("limit", self.limit)
    }

    /// What a token must belong to.
    pub(in crate::api) fn fingerprint(&self, store: &str) -> String {
        let topic = self.topic.as_ref().map(TopicFilter::as_str);
        let Self {
            device,
            from,
            to,
            text,
            ascending,
            ..
        } = self;
        format!("{store} {device:?} {topic:?} {from:?} {to:?} {text:?} {ascending}")
    }

    pub(super) fn scan(&self, topics: Vec<u32>, start: Option<Position>) -> Scan {
        let first = if self.ascending { 0 } else { u64::MAX };
        Scan {
            topics,
            from: self.from.map(nanoseconds),
            to: self.to.map(nanoseconds),
            ascending: self.ascending,
            start: start.map_or(first, |position| position.sequence),
        }
    }

    /// Whether a message is asked for. Scans also show messages whose topic has no number.
    pub(super) fn wants(&self, stored: &Stored) -> bool {
        let topic = self.topic.as_ref();
        *stored.device == *self.device && topic.is_none_or(|topic| topic.matches(&stored.topic))
    }
}

/// Bytes of payloads that are searched for one page at most.
const SEARCHED_BYTES: usize = 64 << 20;

/// Whether a text is in a payload.
fn has_text(payload: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    text.is_empty()
        || payload
            .windows(text.len())
            .any(|part| part.eq_ignore_ascii_case(text))
}

/// Lets each sequence pass once, in order: retention may move a message while a scan goes on.
#[derive(Default)]
pub(super) struct Once {
    last: Option<u64>,
}

impl Once {
    pub(super) fn is_new(&mut self, sequence: u64, ascending: bool) -> bool {
        let is_new = match self.last {
            Some(last) if ascending => sequence > last,
            Some(last) => sequence < last,
            None => true,
        };
        if is_new {
            self.last = Some(sequence);
        }
        is_new
    }
}

/// Collects a page from messages as they come.
struct Collector {
    query: MessageQuery,
    viewer: Viewer,
    limit: usize,
    bytes: usize,
    searched: usize,
    once: Once,
    found: Vec<MessageView>,
    next: Option<Position>,
}

impl Collector {
    fn visit(&mut self, stored: Stored) -> ControlFlow<()> {
        if !self.once.is_new(stored.sequence, self.query.ascending) || !self.query.wants(&stored) {
            return ControlFlow::Continue(());
        }
        let (sequence, skip) = (stored.sequence, 0);
        if let Some(text) = &self.query.text {
            if self.searched > SEARCHED_BYTES {
                self.next = Some(Position { sequence, skip });
                return ControlFlow::Break(());
            }
            self.searched += stored.record.payload.len();
            if !has_text(&stored.record.payload, text) {
                return ControlFlow::Continue(());
            }
        }
        if self.found.len() == self.limit {
            self.next = Some(Position { sequence, skip });
            return ControlFlow::Break(());
        }
        let view = self.viewer.view(stored);
        let size = view.size();
        if !self.found.is_empty() && self.bytes + size > PAGE_BYTES {
            self.next = Some(Position { sequence, skip });
            return ControlFlow::Break(());
        }
        self.bytes += size;
        self.found.push(view);
        ControlFlow::Continue(())
    }
}

impl Service {
    /// Messages of a device.
    ///
    /// # Errors
    /// When the device is unknown, limit, times or token are wrong, or the store fails.
    pub async fn query(&self, query: &MessageQuery) -> Result<MessagePage, ServiceError> {
        self.device(&query.device)?;
        let limit = query.check()?;
        let fingerprint = query.fingerprint(self.store.id());
        let start = page::position(&fingerprint, &query.page_token)?;
        let scan = query.scan(self.topics(&query.device, query.topic.as_ref()), start);
        let mut collector = Collector {
            query: query.clone(),
            viewer: self.viewer(),
            limit,
            bytes: 0,
            searched: 0,
            once: Once::default(),
            found: Vec::new(),
            next: None,
        };
        let read = self.store.read(move |reader| {
            let end = reader.scan(&scan, &mut |stored| collector.visit(stored))?;
            if let End::Bounded(sequence) = end {
                collector.next = Some(Position { sequence, skip: 0 });
            }
            Ok((collector.found, collector.next))
        });
        let (messages, next) = read.await?;
        Ok(MessagePage {
            messages,
            next_page_token: page::position_token(&fingerprint, next),
        })
    }
}
