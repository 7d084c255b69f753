//! Where a united stream begins in the store of each member. In: a cursor, a time, or now. Out: positions, parts that
//! are open, and gaps for what nobody has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::cursor::Cursors;
use super::link::Link;
use super::part::Part;
use super::{Asked, Others, ServiceError};
use crate::api::service::{Start, WatchEvent, WatchQuery};

/// By how much the clocks of members may differ where a store is read from a time on.
const MARGIN: Duration = Duration::from_secs(1);

/// Where a stream begins.
pub(super) struct Begin {
    pub(super) cursors: Cursors,
    /// Where it begins in a store that is not among them.
    pub(super) first: Start,
    /// From when a store is read that comes later.
    pub(super) floor: Timestamp,
    /// Those of stores that a cursor names.
    pub(super) parts: Vec<Part>,
    pub(super) gaps: VecDeque<WatchEvent>,
    /// The store of the last message.
    pub(super) last: String,
}

impl Begin {
    pub(super) async fn new(
        asked: &Asked,
        others: &Others,
        query: &WatchQuery,
    ) -> Result<Self, ServiceError> {
        let (first, floor) = match &query.start {
            Start::Cursor(text) => return Self::after(asked, others, query, text).await,
            Start::Now => (Start::Now, early(Timestamp::now())),
            Start::Since(since) => (Start::Since(*since), *since),
        };
        Ok(Self {
            cursors: Cursors::default(),
            first,
            floor,
            parts: Vec::new(),
            gaps: VecDeque::new(),
            last: asked.service.store.id().to_owned(),
        })
    }

    /// After a cursor. What it does not name begins with the time of the latest message that it names.
    async fn after(
        asked: &Asked,
        others: &Others,
        query: &WatchQuery,
        text: &str,
    ) -> Result<Self, ServiceError> {
        let mut cursors = Cursors::read(text)?;
        let own = asked.service.store.id();
        let (named, unnamed): (Vec<_>, Vec<_>) = others
            .present()
            .links
            .into_iter()
            .partition(|link| cursors.0.contains_key(&link.peer.store));
        let named = named.into_iter().map(|link| {
            let start = from(&cursors, &link.peer.store, Start::Now);
            asked.part(others, link, query, start)
        });
        let mut parts: Vec<_> = named.collect();
        let (mut known, failed) = open_all(&mut parts, &mut cursors).await;
        if let Some(sequence) = cursors.0.get(own) {
            known.extend(asked.service.received_at(*sequence).await?);
        }
        let is_here = |store: &String| store == own || parts.iter().any(|it| it.store() == store);
        let gaps = cursors.0.keys().filter(|store| !is_here(store)).map(gone);
        let gaps = gaps.collect();
        let is_needed = !unnamed.is_empty() || !cursors.0.contains_key(own);
        let floor = match (known.into_iter().max(), failed) {
            (None, Some(error)) if is_needed => return Err(error),
            (known, _) => known.map_or(Timestamp::UNIX_EPOCH, early),
        };
        let last = text.split(':').next().unwrap_or_default();
        Ok(Self {
            last: last.to_owned(),
            cursors,
            first: Start::Since(floor),
            floor,
            parts,
            gaps,
        })
    }
}

impl Asked {
    pub(super) fn part(
        &self,
        others: &Others,
        link: Arc<Link>,
        query: &WatchQuery,
        start: Start,
    ) -> Part {
        let (caller, query) = (self.caller.clone(), query.clone());
        Part::new(link, caller, query, others.live(), start)
    }
}

/// Opens parts, all at once. Out: when messages of their cursors were received, where that is known, and why one was
/// not opened.
pub(super) async fn open_all(
    parts: &mut [Part],
    cursors: &mut Cursors,
) -> (Vec<Timestamp>, Option<ServiceError>) {
    let begun = join_all(parts.iter_mut().map(Part::begin)).await;
    let (mut known, mut failed) = (Vec::new(), None);
    for (part, begun) in parts.iter().zip(begun) {
        match begun {
            Ok((sequence, at)) => {
                cursors.set(part.store(), sequence);
                known.extend(at);
            }
            Err(error) => failed = Some(error),
        }
    }
    (known, failed)
}

/// Where a store is read from.
pub(super) fn from(cursors: &Cursors, store: &str, otherwise: Start) -> Start {
    match cursors.0.get(store) {
        Some(sequence) => Start::Cursor(format!("{store}:{sequence}")),
        None => otherwise,
    }
}

fn early(time: Timestamp) -> Timestamp {
    time.checked_sub(MARGIN).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn gone(store: &String) -> WatchEvent {
    WatchEvent::Gap {
        from: 0,
        to: 0,
        reason: format!(
            "No member has the store {store} now: what it has and did not send yet comes when its member is back."
        ),
    }
}
