//! What one other member has of a united stream. In: where to start. Out: its events, and that it cannot be had for
//! the time being. A stream that breaks goes on where it stood; only what is asked for is read, so that a slow reader
//! leaves the rest with the member.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_proto::monitoring as pb;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use pb::watch_response::Event;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::link::Link;
use super::{Caller, ServiceError, wire};
use crate::api::service::{Start, WatchQuery};
use crate::pool::Live;

/// How long a member may take to open its part before the stream begins without it.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
/// A member whose part cannot be had for so long is told as a gap, even if it lives.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before each attempt to go on.
const PAUSE: Duration = Duration::from_millis(250);

/// What comes of a part.
pub(super) enum PartEvent {
    /// As the member sent it.
    Event(Box<Event>),
    /// What it stored after what was sent is not to be had now.
    Missing(String),
    /// The part has ended: the member is gone.
    Ended,
}

/// See the module.
pub(super) struct Part {
    link: Arc<Link>,
    caller: Caller,
    query: WatchQuery,
    live: watch::Receiver<Live>,
    /// Where it goes on.
    start: Start,
    open: Option<Streaming<pb::WatchResponse>>,
    /// Since when there is no stream.
    lost: Option<Instant>,
    /// Whether the last one ended after everything was sent.
    complete: bool,
    /// Whether that was told.
    told: bool,
}

impl Part {
    pub(super) fn new(
        link: Arc<Link>,
        caller: Caller,
        query: WatchQuery,
        live: watch::Receiver<Live>,
        start: Start,
    ) -> Self {
        Self {
            link,
            caller,
            query,
            live,
            start,
            open: None,
            lost: None,
            complete: false,
            told: false,
        }
    }

    /// The store that it reads.
    pub(super) fn store(&self) -> &str {
        &self.link.peer.store
    }

    /// Opens it. Out: where it begins, and when the message of its cursor was received, if that is known.
    pub(super) async fn begin(&mut self) -> Result<(u64, Option<Timestamp>), ServiceError> {
        let opened = timeout(OPEN_WITHIN, async {
            self.connect().await?;
            self.receive().await
        });
        match opened.await {
            Ok(Ok(Some(Event::Position(position)))) => {
                let at = position.received_at.map(|at| wire::time(Some(at)));
                Ok((sequence(&position.cursor).unwrap_or_default(), at))
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => {
                self.open = None;
                let member = &self.link.member;
                Err(ServiceError::Unreachable(format!(
                    "the member {member} of the pool does not send its part of the stream"
                )))
            }
        }
    }

    /// All events from now on. After a failed [`Part::begin`] it goes on as `start` says.
    pub(super) fn events(
        mut self,
        start: Option<Start>,
    ) -> BoxStream<'static, (String, PartEvent)> {
        if self.open.is_none() {
            self.start = start.unwrap_or(self.start);
        }
        let store = self.store().to_owned();
        let ended = (store.clone(), PartEvent::Ended);
        let events = stream::unfold(self, move |mut part| {
            let store = store.clone();
            async move {
                let event = part.next().await?;
                Some(((store, event), part))
            }
        });
        events.chain(stream::iter([ended])).boxed()
    }

    async fn next(&mut self) -> Option<PartEvent> {
        loop {
            if self.open.is_some() {
                match self.receive().await {
                    Ok(Some(event)) => return Some(PartEvent::Event(Box::new(event))),
                    // A member that stops sends all that it has.
                    Ok(None) => self.complete = true,
                    Err(_) => self.complete = false,
                }
            }
            let lost = *self.lost.get_or_insert_with(Instant::now);
            let is_there = self.is_there();
            let is_missing = if is_there {
                lost.elapsed() >= PATIENCE
            } else {
                !self.complete
            };
            if is_missing && !self.told {
                self.told = true;
                return Some(PartEvent::Missing(self.missing()));
            }
            if !is_there {
                return None;
            }
            // Also before the first of them: a member may end each stream as soon as it has begun.
            sleep(PAUSE).await;
            // What went wrong shows in that nothing is open.
            let _ = self.connect().await;
        }
    }

    async fn connect(&mut self) -> Result<(), ServiceError> {
        let request = wire::watch_request(&self.query, self.start.clone());
        let opened = self.link.watch(&self.caller, OPEN_WITHIN, request);
        self.open = Some(opened.await?);
        Ok(())
    }

    /// The next event; none when the member has ended the stream.
    async fn receive(&mut self) -> Result<Option<Event>, ServiceError> {
        let Some(stream) = &mut self.open else {
            return Ok(None);
        };
        let event = match stream.message().await {
            Ok(Some(response)) => response.event,
            Ok(None) => None,
            Err(status) => {
                self.open = None;
                return Err(self.link.error(&status));
            }
        };
        match &event {
            None => self.open = None,
            Some(event) => {
                self.lost = None;
                self.told = false;
                let cursor = match event {
                    Event::Message(message) => Some(message.cursor.clone()),
                    Event::Position(position) => Some(position.cursor.clone()),
                    Event::Presence(_) | Event::Gap(_) => None,
                };
                self.start = cursor.map_or_else(|| self.start.clone(), Start::Cursor);
            }
        }
        Ok(event)
    }

    /// Whether it is still the same member at the same address.
    fn is_there(&self) -> bool {
        let live = self.live.borrow();
        live.get(&self.link.member).and_then(Option::as_ref) == Some(&self.link.peer)
    }

    fn missing(&self) -> String {
        let Link { member, peer, .. } = &*self.link;
        let store = &peer.store;
        format!(
            "The member {member} cannot be reached: what its store {store} has and did not send yet comes when it is back."
        )
    }
}

/// The sequence of a cursor of one store.
pub(super) fn sequence(cursor: &str) -> Option<u64> {
    let (_, sequence) = cursor.rsplit_once(':')?;
    sequence.parse().ok()
}
