//! The history of a device, wherever it is stored: pages of all stores, merged by the time of receipt. In: a query
//! for messages or readings. Out: one page, and the token of the next.
//!
//! Each store's part stays in the order of its sequences, so a clock that was set back reorders nothing within one.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::each::ANSWER_WITHIN;
use super::latest::add;
use super::link::Link;
use super::places::Places;
use super::{About, Asked, Caller, DeviceView, Others, ServiceError, wire};
use crate::api::service::page::{self, PAGE_BYTES, Position};
use crate::api::service::view::reading_size;
use crate::api::service::{
    MessagePage, MessageQuery, MessageView, ReadingPage, ReadingQuery, ReadingView, Service,
};

/// What a history is made of.
pub(super) trait Item: Send {
    fn sequence(&self) -> u64;
    fn received_at(&self) -> Timestamp;
    /// About how many bytes it takes in an answer.
    fn bytes(&self) -> usize;
}

impl Item for MessageView {
    fn sequence(&self) -> u64 {
        self.stored.sequence
    }
    fn received_at(&self) -> Timestamp {
        self.received_at
    }
    fn bytes(&self) -> usize {
        self.size()
    }
}

impl Item for ReadingView {
    fn sequence(&self) -> u64 {
        self.sequence
    }
    fn received_at(&self) -> Timestamp {
        self.received_at
    }
    fn bytes(&self) -> usize {
        reading_size(&self.name, &self.value) + self.topic.len() + self.device.len()
    }
}

/// What one store answered.
struct Answer<T> {
    items: Vec<T>,
    next_page_token: String,
    device: DeviceView,
    partial: bool,
}

/// A query that every store can answer for itself.
trait Query: Clone + Send + Sync {
    type Item: Item;

    fn messages(&self) -> &MessageQuery;
    fn messages_mut(&mut self) -> &mut MessageQuery;
    fn print(&self, store: &str) -> String;
    fn own(
        &self,
        service: &Service,
    ) -> impl Future<Output = Result<(Vec<Self::Item>, String), ServiceError>> + Send;
    fn of(
        self,
        link: &Link,
        caller: &Caller,
    ) -> impl Future<Output = Result<Answer<Self::Item>, ServiceError>> + Send;

    /// The same from a position on.
    fn from(&self, store: &str, position: Option<Position>) -> Self {
        let mut query = self.clone();
        query.messages_mut().page_token = page::position_token(&self.print(store), position);
        query
    }
}

impl Query for MessageQuery {
    type Item = MessageView;

    fn messages(&self) -> &MessageQuery {
        self
    }
    fn messages_mut(&mut self) -> &mut MessageQuery {
        self
    }
    fn print(&self, store: &str) -> String {
        self.fingerprint(store)
    }
    async fn own(&self, service: &Service) -> Result<(Vec<MessageView>, String), ServiceError> {
        let page = service.query(self).await?;
        Ok((page.messages, page.next_page_token))
    }
    async fn of(self, link: &Link, caller: &Caller) -> Result<Answer<MessageView>, ServiceError> {
        let device = self.device.clone();
        let request = wire::query_request(self);
        let answer = link.call(
            caller,
            ANSWER_WITHIN,
            request,
            |mut client, request| async move { client.query(request).await },
        );
        let answer = answer.await?;
        Ok(Answer {
            items: answer.messages.into_iter().map(wire::message).collect(),
            next_page_token: answer.next_page_token,
            device: wire::device_view(&device, answer.presence),
            partial: answer.partial,
        })
    }
}

impl Query for ReadingQuery {
    type Item = ReadingView;

    fn messages(&self) -> &MessageQuery {
        &self.messages
    }
    fn messages_mut(&mut self) -> &mut MessageQuery {
        &mut self.messages
    }
    fn print(&self, store: &str) -> String {
        self.fingerprint(store)
    }
    async fn own(&self, service: &Service) -> Result<(Vec<ReadingView>, String), ServiceError> {
        let page = service.readings(self).await?;
        Ok((page.readings, page.next_page_token))
    }
    async fn of(self, link: &Link, caller: &Caller) -> Result<Answer<ReadingView>, ServiceError> {
        let device = self.messages.device.clone();
        let request = wire::readings_request(self);
        let answer = link.call(
            caller,
            ANSWER_WITHIN,
            request,
            |mut client, request| async move { client.query_readings(request).await },
        );
        let answer = answer.await?;
        let readings = answer.readings.into_iter();
        Ok(Answer {
            items: readings.filter_map(wire::reading).collect(),
            next_page_token: answer.next_page_token,
            device: wire::device_view(&device, answer.presence),
            partial: answer.partial,
        })
    }
}

/// A store's part of a page.
struct Part<T> {
    store: String,
    start: Option<Position>,
    items: VecDeque<T>,
    /// Where it goes on after the last of them.
    next: Option<Position>,
}

impl<T: Item> Part<T> {
    /// Where it goes on once `taken` were taken, the last ones of which were of the sequences given with their number.
    fn place(&self, last: Option<(u64, usize)>, ascending: bool) -> Option<Position> {
        let Some(item) = self.items.front() else {
            let after = last.map(|(sequence, _)| Position {
                sequence: sequence.saturating_add(1),
                skip: 0,
            });
            let end = Position {
                sequence: 0,
                skip: 0,
            };
            return self.next.or(if ascending {
                after.or(self.start)
            } else {
                Some(end)
            });
        };
        let sequence = item.sequence();
        let before = self.start.filter(|start| start.sequence == sequence);
        let taken = last.filter(|(taken, _)| *taken == sequence);
        Some(Position {
            sequence,
            skip: before.map_or(0, |start| start.skip) + taken.map_or(0, |(_, count)| count),
        })
    }
}

/// Merges parts into a page. Where a store's part ends and it has more, the page ends: what it sends next may come
/// before what the others have.
fn merge<T: Item>(
    parts: &mut [Part<T>],
    limit: usize,
    ascending: bool,
) -> (Vec<T>, BTreeMap<String, (u64, usize)>) {
    let (mut page, mut bytes) = (Vec::new(), 0);
    let mut last: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    while page.len() < limit {
        if parts
            .iter()
            .any(|part| part.items.is_empty() && part.next.is_some())
        {
            break;
        }
        let waiting = parts.iter_mut().filter(|part| !part.items.is_empty());
        let key = |part: &&mut Part<T>| {
            let at = part.items.front().map(Item::received_at);
            (at, part.store.clone())
        };
        let best = if ascending {
            waiting.min_by_key(key)
        } else {
            waiting.max_by_key(key)
        };
        let Some(part) = best else { break };
        let Some(item) = part.items.front() else {
            break;
        };
        bytes += item.bytes();
        if bytes > PAGE_BYTES && !page.is_empty() {
            break;
        }
        let sequence = item.sequence();
        let taken = last.entry(part.store.clone()).or_insert((sequence, 0));
        *taken = if taken.0 == sequence {
            (sequence, taken.1 + 1)
        } else {
            (sequence, 1)
        };
        page.extend(part.items.pop_front());
    }
    (page, last)
}

impl Asked {
    /// Messages of a device.
    ///
    /// # Errors
    /// When the device is unknown, limit, times or token are wrong, or the store fails.
    pub async fn query(&self, query: &MessageQuery) -> Result<(MessagePage, About), ServiceError> {
        let Some(others) = self.others() else {
            let page = self.service.query(query).await?;
            return Ok((page, self.about(&query.device)?));
        };
        let (messages, next_page_token, about) = self.history(others, query).await?;
        let page = MessagePage {
            messages,
            next_page_token,
        };
        Ok((page, about))
    }

    /// Readings of a device.
    ///
    /// # Errors
    /// When the device is unknown, limit, times, token or bounds are wrong, or the store fails.
    pub async fn readings(
        &self,
        query: &ReadingQuery,
    ) -> Result<(ReadingPage, About), ServiceError> {
        let Some(others) = self.others() else {
            let page = self.service.readings(query).await?;
            return Ok((page, self.about(&query.messages.device)?));
        };
        let (readings, next_page_token, about) = self.history(others, query).await?;
        let page = ReadingPage {
            readings,
            next_page_token,
        };
        Ok((page, about))
    }

    async fn history<Q: Query>(
        &self,
        others: &Others,
        query: &Q,
    ) -> Result<(Vec<Q::Item>, String, About), ServiceError> {
        let limit = query.messages().check()?;
        let (device, ascending) = (&query.messages().device, query.messages().ascending);
        let mut places = Places::read(&query.print(""), &query.messages().page_token)?;
        let start = |store: &str| places.0.get(store).copied();
        let own_store = self.service.store.id().to_owned();
        let own = query.from(&own_store, start(&own_store));
        let each = others.each(|link| {
            let store = &link.peer.store;
            let query = query.from(store, start(store));
            async move { query.of(&link, &self.caller).await }
        });
        let (own, each) = tokio::join!(own.own(&self.service), each);
        let mut each = each?;
        let (mut parts, mut about) = (Vec::new(), None::<About>);
        let part = |store: &str, items: Vec<Q::Item>, token: &str| {
            let print = query.print(store);
            Ok::<_, ServiceError>(Part {
                store: store.to_owned(),
                start: start(store),
                items: items.into(),
                next: page::position(&print, token)?,
            })
        };
        match own {
            Ok((items, token)) => {
                parts.push(part(&own_store, items, &token)?);
                about = Some(self.about(device)?);
            }
            Err(ServiceError::UnknownDevice(_)) => {}
            Err(error) => return Err(error),
        }
        for (link, answer) in std::mem::take(&mut each.given) {
            parts.push(part(
                &link.peer.store,
                answer.items,
                &answer.next_page_token,
            )?);
            add(&mut about, answer.device, answer.partial);
        }
        let is_missing = each.missing.is_some();
        let mut about = about.ok_or_else(|| each.nobody(device))?;
        let is_there = |store: &String| parts.iter().any(|part| part.store == *store);
        about.partial |= is_missing || !places.0.keys().all(is_there);
        let (page, last) = merge(&mut parts, limit, ascending);
        let is_more = |part: &Part<_>| !part.items.is_empty() || part.next.is_some();
        let more = parts.iter().any(is_more);
        for part in &parts {
            let place = part.place(last.get(&part.store).copied(), ascending);
            if let Some(place) = place {
                places.0.insert(part.store.clone(), place);
            }
        }
        let token = if more {
            places.token(&query.print(""))
        } else {
            String::new()
        };
        Ok((page, token, about))
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
