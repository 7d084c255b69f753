//! Where a stream starts. In: a cursor or a time. Out: the sequence after which it goes on, or the gap that it
//! starts with: a cursor of another store or of the future is told, never silently skipped.

use std::collections::BTreeSet;

use akri_mqtt_core::topic::TopicFilter;
use jiff::Timestamp;

use super::error::shorten;
use super::view::{nanoseconds, timestamp};
use super::{Service, ServiceError};

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
    /// Also where it stands.
    pub positions: bool,
    /// For another member of the pool, which unites it with others: presence of watched devices only, and what was
    /// stored is sent before the process ends.
    pub part: bool,
}

/// A start that was looked up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Everything up to it is left out.
    pub(super) after: u64,
    /// As long as messages were received before, they are left out.
    pub(super) since: Option<i64>,
    /// Why the cursor could not be found.
    pub(super) gap: Option<String>,
}

impl Service {
    pub(super) async fn find_start(
        &self,
        start: &Start,
        latest: u64,
    ) -> Result<Found, ServiceError> {
        match start {
            Start::Now => Ok(Found {
                after: latest,
                ..Found::default()
            }),
            Start::Since(time) => {
                let time = nanoseconds(*time);
                let first = self.store.read(move |reader| reader.first_since(time));
                Ok(Found {
                    after: first.await?.saturating_sub(1),
                    since: Some(time),
                    ..Found::default()
                })
            }
            Start::Cursor(cursor) => self.find_cursor(cursor, latest),
        }
    }

    /// When a message was received, if it is still there.
    pub(in crate::api) async fn received_at(
        &self,
        sequence: u64,
    ) -> Result<Option<Timestamp>, ServiceError> {
        let before = sequence.saturating_sub(1);
        let blocks = match self.store.recent(before) {
            Some(blocks) => blocks,
            None => self.store.read(move |r| r.blocks_after(before)).await?,
        };
        for record in blocks.iter().flat_map(|block| block.records()) {
            // Behind what is damaged nothing is known; the stream itself tells of it.
            let Ok((at, record)) = record else {
                return Ok(None);
            };
            if at >= sequence {
                return Ok((at == sequence).then(|| timestamp(record.time)));
            }
        }
        Ok(None)
    }

    fn find_cursor(&self, cursor: &str, latest: u64) -> Result<Found, ServiceError> {
        let parsed = cursor.rsplit_once(':');
        let parsed = parsed.and_then(|(store, at)| Some((store, at.parse::<u64>().ok()?)));
        let Some((store, sequence)) = parsed else {
            let found = shorten(cursor);
            let why =
                format!("found {found:?}, allowed: the cursor of a message, <store_id>:<sequence>");
            return Err(ServiceError::invalid("cursor", why));
        };
        let gap = if store != self.store.id() {
            "The cursor is of another store; the stream goes on with the oldest message of this one."
                .to_owned()
        } else if sequence > latest {
            format!(
                "The cursor is of the future, the latest message is {latest}; the stream goes on with the oldest."
            )
        } else {
            return Ok(Found {
                after: sequence,
                ..Found::default()
            });
        };
        Ok(Found {
            after: self.store.oldest().saturating_sub(1),
            gap: Some(gap),
            ..Found::default()
        })
    }
}
