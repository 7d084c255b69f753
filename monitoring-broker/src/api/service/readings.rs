//! Readings of a device, by name, time and value. In: a query. Out: a page of readings.
//! They are decoded from the messages as these are read, so a page is also bounded in the bytes that
//! are decoded for it.

use std::ops::ControlFlow;
use std::sync::Arc;

use akri_mqtt_core::decode::Value;
use jiff::Timestamp;

use super::page::{self, PAGE_BYTES, Position};
use super::query::{MessageQuery, Once};
use super::view::{reading_size, timestamp};
use super::{Decoders, Service, ServiceError};
use crate::store::{End, Stored};

/// What is decoded for one page at most. Small payloads count as [`LEAST`]: they cost time, too.
const DECODED_BYTES: usize = 16 << 20;
const LEAST: usize = 256;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct ReadingQuery {
    /// Device, topic, times, order, limit, token.
    pub messages: MessageQuery,
    /// Only readings of this name.
    pub name: Option<String>,
    /// Only numbers of at least this.
    pub min: Option<f64>,
    /// Only numbers of at most this.
    pub max: Option<f64>,
}

/// A reading with where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadingView {
    /// A JSON pointer, or empty.
    pub name: Box<str>,
    /// The value.
    pub value: Value,
    /// The unit, if the payload states it.
    pub unit: Option<Box<str>>,
    /// When its message was received.
    pub received_at: Timestamp,
    /// The sequence of its message.
    pub sequence: u64,
    /// The topic of its message.
    pub topic: Arc<str>,
    /// The device of its message.
    pub device: Arc<str>,
}

/// A page of readings.
#[derive(Clone, Debug)]
pub struct ReadingPage {
    /// In the order that was asked for; those of one message by name.
    pub readings: Vec<ReadingView>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// A number, rounded to what a comparison needs; none for other values.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(value) => value.to_string().parse().ok(),
        Value::UInt(value) => value.to_string().parse().ok(),
        Value::Double(value) => Some(*value),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

impl ReadingQuery {
    /// What a token must belong to.
    pub(in crate::api) fn fingerprint(&self, store: &str) -> String {
        let Self {
            messages,
            name,
            min,
            max,
        } = self;
        let messages = messages.fingerprint(store);
        format!("{messages} {name:?} {min:?} {max:?}")
    }

    fn wants(&self, name: &str, value: &Value) -> bool {
        if self.name.as_deref().is_some_and(|wanted| wanted != name) {
            return false;
        }
        if self.min.is_none() && self.max.is_none() {
            return true;
        }
        number(value).is_some_and(|value| {
            self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
        })
    }
}

/// Collects a page from messages as they come.
struct Collector {
    query: ReadingQuery,
    decoders: Arc<Decoders>,
    limit: usize,
    start: Option<Position>,
    once: Once,
    decoded: usize,
    bytes: usize,
    found: Vec<ReadingView>,
    next: Option<Position>,
}

impl Collector {
    fn visit(&mut self, stored: &Stored) -> ControlFlow<()> {
        let messages = &self.query.messages;
        if !self.once.is_new(stored.sequence, messages.ascending) || !messages.wants(stored) {
            return ControlFlow::Continue(());
        }
        let payload = &stored.record.payload;
        if self.decoded >= DECODED_BYTES {
            return self.stop(stored, 0);
        }
        self.decoded += payload.len().max(LEAST);
        let mut decoded = self.decoders.decode(stored);
        let skip = self
            .start
            .filter(|start| start.sequence == stored.sequence)
            .map_or(0, |start| start.skip);
        let readings = std::mem::take(&mut decoded.readings).into_iter();
        let wanted = readings.filter(|(name, value)| self.query.wants(name, value));
        for (index, (name, value)) in wanted.enumerate().skip(skip) {
            let size = reading_size(&name, &value) + stored.topic.len() + stored.device.len();
            let is_full = !self.found.is_empty() && self.bytes + size > PAGE_BYTES;
            if self.found.len() == self.limit || is_full {
                return self.stop(stored, index);
            }
            self.bytes += size;
            self.found.push(ReadingView {
                unit: decoded.unit(&name).map(Into::into),
                name,
                value,
                received_at: timestamp(stored.record.time),
                sequence: stored.sequence,
                topic: Arc::clone(&stored.topic),
                device: Arc::clone(&stored.device),
            });
        }
        ControlFlow::Continue(())
    }

    fn stop(&mut self, stored: &Stored, skip: usize) -> ControlFlow<()> {
        let sequence = stored.sequence;
        self.next = Some(Position { sequence, skip });
        ControlFlow::Break(())
    }
}

impl Service {
    /// Readings of a device.
    ///
    /// # Errors
    /// When the device is unknown, limit, times, token or bounds are wrong, or the store fails.
    pub async fn readings(&self, query: &ReadingQuery) -> Result<ReadingPage, ServiceError> {
        let messages = &query.messages;
        self.device(&messages.device)?;
        let limit = messages.check()?;
        let fingerprint = query.fingerprint(self.store.id());
        let start = page::position(&fingerprint, &messages.page_token)?;
        let scan = messages.scan(
            self.topics(&messages.device, messages.topic.as_ref()),
            start,
        );
        let mut collector = Collector {
            query: query.clone(),
            decoders: Arc::clone(&self.decoders),
            limit,
            start,
            once: Once::default(),
            decoded: 0,
            bytes: 0,
            found: Vec::new(),
            next: None,
        };
        let read = self.store.read(move |reader| {
            let end = reader.scan(&scan, &mut |stored| collector.visit(&stored))?;
            if let End::Bounded(sequence) = end {
                collector.next = Some(Position { sequence, skip: 0 });
            }
            Ok((collector.found, collector.next))
        });
        let (readings, next) = read.await?;
        Ok(ReadingPage {
            readings,
            next_page_token: page::position_token(&fingerprint, next),
        })
    }
}
