//! Where a stream starts. In: a cursor or a time. Out: the sequence after which it goes on, or the gap that it
//! starts with: a cursor of another store or of the future is told, never silently skipped.

use std::collections::BTreeSet;

use akri_mqtt_core::topic::TopicFilter;
use jiff::Timestamp;

use super::error::shorten;
use super::view::nanoseconds;
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
                    gap: None,
                })
            }
            Start::Cursor(cursor) => self.find_cursor(cursor, latest),
        }
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
            since: None,
            gap: Some(gap),
        })
    }
}
