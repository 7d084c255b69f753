//! Readings of a device, by name, time and value. In: a query. Out: a page of readings.
//! They are decoded from the messages as these are read; see `docs/adr/0003-store.md`.

use std::ops::ControlFlow;
use std::sync::Arc;

use akri_mqtt_core::decode::Value;
use jiff::Timestamp;

use super::page::{self, Position};
use super::query::MessageQuery;
use super::view::timestamp;
use super::{Decoders, Service, ServiceError};
use crate::store::{End, Stored};

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
    found: Vec<ReadingView>,
    next: Option<Position>,
}

impl Collector {
    fn visit(&mut self, stored: &Stored) -> ControlFlow<()> {
        let query = &self.query;
        let topic = query.messages.topic.as_ref();
        if *stored.device != *query.messages.device
            || topic.is_some_and(|topic| !topic.matches(&stored.topic))
        {
            return ControlFlow::Continue(());
        }
        let decoded = self.decoders.decode(&stored.topic, &stored.record.payload);
        let skip = self
            .start
            .filter(|start| start.sequence == stored.sequence)
            .map_or(0, |start| start.skip);
        let readings = decoded.readings.into_iter().enumerate().skip(skip);
        for (index, (name, value)) in readings {
            if !query.wants(&name, &value) {
                continue;
            }
            if self.found.len() == self.limit {
                self.next = Some(Position {
                    sequence: stored.sequence,
                    skip: index,
                });
                return ControlFlow::Break(());
            }
            self.found.push(ReadingView {
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
}

impl Service {
    /// Readings of a device.
    ///
    /// # Errors
    /// When the device is unknown, limit, token or bounds are wrong, or the store fails.
    pub async fn readings(&self, query: &ReadingQuery) -> Result<ReadingPage, ServiceError> {
        self.device(&query.messages.device)?;
        for (field, bound) in [("min", query.min), ("max", query.max)] {
            if bound.is_some_and(f64::is_nan) {
                return Err(ServiceError::invalid(field, "is not a number"));
            }
        }
        let ReadingQuery { name, min, max, .. } = query;
        let fingerprint = query.messages.fingerprint(self.store.id());
        let fingerprint = format!("{fingerprint} {name:?} {min:?} {max:?}");
        let start = page::position(&fingerprint, &query.messages.page_token)?;
        let topics = self.topics(&query.messages.device, query.messages.topic.as_ref());
        let scan = query.messages.scan(topics, start);
        let mut collector = Collector {
            query: query.clone(),
            decoders: Arc::clone(&self.decoders),
            limit: page::limit(query.messages.limit)?,
            start,
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
            next_page_token: next
                .map(|next| page::position_token(&fingerprint, next))
                .unwrap_or_default(),
        })
    }
}
