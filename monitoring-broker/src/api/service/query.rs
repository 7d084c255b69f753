//! The history of a device. In: topic, time, order, limit, token. Out: a page of messages.

use std::ops::ControlFlow;

use akri_mqtt_core::topic::TopicFilter;
use jiff::Timestamp;

use super::page::{self, Position};
use super::view::nanoseconds;
use super::{MessageView, Service, ServiceError};
use crate::store::{End, Scan};

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
    /// Empty on the last page. A page may be short and have a successor: a query looks at a bounded
    /// number of messages.
    pub next_page_token: String,
}

impl MessageQuery {
    /// What a token must belong to.
    pub(super) fn fingerprint(&self, store: &str) -> String {
        let topic = self.topic.as_ref().map(TopicFilter::as_str);
        let Self {
            device,
            from,
            to,
            ascending,
            ..
        } = self;
        format!("{store} {device} {topic:?} {from:?} {to:?} {ascending}")
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
}

impl Service {
    /// Messages of a device.
    ///
    /// # Errors
    /// When the device is unknown, the limit or the token is wrong, or the store fails.
    pub async fn query(&self, query: &MessageQuery) -> Result<MessagePage, ServiceError> {
        self.device(&query.device)?;
        let limit = page::limit(query.limit)?;
        let fingerprint = query.fingerprint(self.store.id());
        let start = page::position(&fingerprint, &query.page_token)?;
        let scan = query.scan(self.topics(&query.device, query.topic.as_ref()), start);
        let (device, topic) = (query.device.clone(), query.topic.clone());
        let read = self.store.read(move |reader| {
            let (mut found, mut next) = (Vec::new(), None);
            let end = reader.scan(&scan, &mut |stored| {
                let fits = *stored.device == *device
                    && topic
                        .as_ref()
                        .is_none_or(|topic| topic.matches(&stored.topic));
                if !fits {
                    return ControlFlow::Continue(());
                }
                if found.len() == limit {
                    next = Some(stored.sequence);
                    return ControlFlow::Break(());
                }
                found.push(stored);
                ControlFlow::Continue(())
            })?;
            if let End::Bounded(sequence) = end {
                next = Some(sequence);
            }
            Ok((found, next))
        });
        let (found, next) = read.await?;
        let next = next.map(|sequence| Position { sequence, skip: 0 });
        let messages = found
            .into_iter()
            .map(|stored| MessageView::new(self, stored));
        Ok(MessagePage {
            messages: messages.collect(),
            next_page_token: next
                .map(|next| page::position_token(&fingerprint, next))
                .unwrap_or_default(),
        })
    }
}
