//! Reads from the store. In: sequences, times. Out: messages, blocks. Statements are short, so that the writer's log can
//! be written back. Runs on threads for blocking work. What is looked for is `scan.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::block::{Block, Record};
use super::{Catalog, Shared, StoreError, schema};

/// Blocks, and bytes of them, that a stream reads ahead.
const AHEAD: usize = 128;
const AHEAD_BYTES: usize = 1 << 20;

/// A message with its names.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its sequence.
    pub sequence: u64,
    /// Its device.
    pub device: Arc<str>,
    /// Its topic.
    pub topic: Arc<str>,
    /// The rest.
    pub record: Record,
}

impl Stored {
    /// Gives a record its names; none if its topic is no longer known, because it was just deleted.
    #[must_use]
    pub fn name(catalog: &Catalog, sequence: u64, record: Record) -> Option<Self> {
        let (device, topic) = match (record.inline.as_deref(), catalog.get(record.topic)) {
            (Some((device, topic)), _) => (device.as_str().into(), topic.as_str().into()),
            (None, Some(topic)) => (Arc::clone(&topic.device), Arc::clone(&topic.name)),
            (None, None) => return None,
        };
        Some(Self {
            sequence,
            device,
            topic,
            record,
        })
    }
}

/// A connection for reading.
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        Ok(Self {
            connection: schema::reader(&shared.directory)?,
            shared: Arc::clone(shared),
        })
    }

    /// The message of a sequence; none if it was deleted.
    pub fn message(&mut self, sequence: u64, topic: u32) -> Result<Option<Stored>, StoreError> {
        let block = match self.block_of(sequence)? {
            Some(first) => self.block(first)?,
            None => None,
        };
        let block = match block.filter(|block| block.last >= sequence) {
            Some(block) => Some(block),
            // Looked at last: retention moves messages from blocks to `kept`.
            None => {
                let sql = "SELECT sequence, data FROM kept WHERE topic=? AND sequence=?";
                let mut query = self.connection.prepare_cached(sql)?;
                query.query_row((topic, sequence), kept_block).optional()?
            }
        };
        let Some(block) = block else {
            return Ok(None);
        };
        let found = block.records().next_where(|at, _, _| at == sequence);
        let Some((at, record)) = found.transpose()? else {
            return Ok(None);
        };
        Ok(Stored::name(&self.shared.catalog(), at, record))
    }

    /// The blocks that end after a sequence, oldest first, as many as a stream reads ahead.
    pub fn blocks_after(&mut self, sequence: u64) -> Result<Vec<Arc<Block>>, StoreError> {
        let start = sequence.saturating_add(1);
        let start = self.block_of(start)?.unwrap_or(start);
        let sql = "SELECT first, last, time_min, time_max, topics, data FROM blocks
                   WHERE first>=? AND last>? ORDER BY first LIMIT ?";
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query((start, sequence, AHEAD))?;
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let block = schema::block(row)?;
            bytes += block.data.len();
            blocks.push(Arc::new(block));
            if bytes >= AHEAD_BYTES {
                break;
            }
        }
        Ok(blocks)
    }

    /// The start of the first block with a message received at or after a time; the next sequence if there is none.
    pub fn first_since(&mut self, time: i64) -> Result<u64, StoreError> {
        let next = *self.shared.committed.borrow() + 1;
        let sql = "SELECT first, last, time_high FROM blocks WHERE first>=? ORDER BY first LIMIT 1";
        let mut query = self.connection.prepare_cached(sql)?;
        // `time_high` only rises, so the search may halve.
        let (mut low, mut high) = (self.shared.oldest.load(Ordering::Acquire), next);
        while low < high {
            let middle = low + (high - low) / 2;
            let found: Option<(u64, u64, i64)> = query
                .query_row([middle], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            match found {
                Some((_, last, time_high)) if time_high < time => low = last + 1,
                _ => high = middle,
            }
        }
        if low >= next {
            return Ok(next);
        }
        Ok(self.block_of(low)?.unwrap_or(low))
    }

    pub(super) fn packet_ids(&mut self, session: &str) -> Result<HashSet<u16>, StoreError> {
        let sql = "SELECT packet FROM packets WHERE session=?";
        let mut query = self.connection.prepare(sql)?;
        let ids = query.query_map([session], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// The sessions of which packet ids are kept and in whose name a text is.
    pub(super) fn sessions_with_packets(&mut self, text: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT session FROM packets WHERE instr(session, ?) > 0";
        let mut query = self.connection.prepare(sql)?;
        let keys = query.query_map([text], |row| row.get(0))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    pub(super) fn devices(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let mut query = self
            .connection
            .prepare("SELECT id, record FROM devices ORDER BY id")?;
        let rows = query.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The start of the block that a sequence is in, or would be in.
    pub(super) fn block_of(&self, sequence: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT first FROM blocks WHERE first<=? ORDER BY first DESC LIMIT 1";
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        let mut query = self.connection.prepare_cached(sql)?;
        Ok(query.query_row([sequence], |row| row.get(0)).optional()?)
    }

    pub(super) fn block(&self, first: u64) -> Result<Option<Block>, StoreError> {
        let sql = "SELECT first, last, time_min, time_max, topics, data FROM blocks WHERE first=?";
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query([first])?;
        rows.next()?.map(schema::block).transpose()
    }
}

pub(super) fn kept_block(row: &Row<'_>) -> rusqlite::Result<Block> {
    let sequence = row.get(0)?;
    let data: Vec<u8> = row.get(1)?;
    Ok(Block {
        first: sequence,
        last: sequence,
        time_min: i64::MIN,
        time_max: i64::MAX,
        topics: Box::default(),
        data: data.into(),
    })
}
