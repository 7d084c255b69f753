//! Reads from the store. In: ranges, topics, sequences. Out: messages, blocks.
//! Statements are short, so that the writer's log can be written back; a scan is bounded and says where
//! to go on. Runs on threads for blocking work.

use std::collections::HashSet;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::block::{Block, INLINE, Record, names_one_of};
use super::{Catalog, Shared, StoreError, schema};

/// Blocks whose index one statement looks at.
const CHUNK: usize = 256;
/// What one scan may look at before it answers with what it has.
const SCAN_BLOCKS: usize = 200_000;
const SCAN_MESSAGES: usize = 1_000_000;
/// Blocks, and bytes of them, that a stream reads ahead.
const AHEAD: usize = 16;
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
        let (device, topic) = match (&record.inline, catalog.get(record.topic)) {
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

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Only these topics, sorted; `INLINE` (0) is looked at in any case.
    pub topics: Vec<u32>,
    /// Received at or after.
    pub from: Option<i64>,
    /// Received before.
    pub to: Option<i64>,
    /// Oldest first.
    pub ascending: bool,
    /// The first sequence to look at, in the order of the scan.
    pub start: u64,
}

/// Why a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is no more.
    Finished,
    /// The visitor had enough.
    Stopped,
    /// It looked at as much as one scan may; go on with this sequence.
    Bounded(u64),
}

/// A connection for reading.
pub struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
}

struct Head {
    first: u64,
    last: u64,
    matches: bool,
}

impl Reader {
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        Ok(Self {
            connection: schema::reader(&shared.directory)?,
            shared: Arc::clone(shared),
        })
    }

    /// Shows the visitor each message that fits, in order.
    pub fn scan(
        &mut self,
        scan: &Scan,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<End, StoreError> {
        let mut at = scan.start;
        if scan.ascending {
            if let Some(from) = scan.from {
                at = at.max(self.first_since(from)?);
            }
            at = self.block_of(at)?.unwrap_or(at);
        }
        // What was not looked at yet. Retention moves messages from blocks to `kept` meanwhile: where a block
        // has gone, `kept` is read after it was missed, and only for its sequences, so that nothing is shown twice.
        let (mut low, mut high) = if scan.ascending {
            (scan.start, u64::MAX)
        } else {
            (0, scan.start)
        };
        let (mut blocks, mut messages) = (0, 0);
        loop {
            let heads = self.heads(scan, at)?;
            let Some(end) = heads.last() else { break };
            let next = if scan.ascending {
                Some(end.last + 1)
            } else {
                end.first.checked_sub(1)
            };
            blocks += heads.len();
            for head in &heads {
                let gone_before = scan.ascending && head.first > low;
                if gone_before
                    && self
                        .scan_kept(scan, low..=head.first - 1, visit)?
                        .is_break()
                {
                    return Ok(End::Stopped);
                }
                let (count, flow) = self.visit_head(head, scan, visit)?;
                messages += count;
                if flow.is_break() {
                    return Ok(End::Stopped);
                }
                if scan.ascending {
                    low = low.max(head.last + 1);
                } else {
                    high = high.min(head.first.saturating_sub(1));
                }
            }
            let Some(next) = next else { break };
            if blocks >= SCAN_BLOCKS || messages >= SCAN_MESSAGES {
                return Ok(End::Bounded(next));
            }
            at = next;
        }
        if self.scan_kept(scan, low..=high, visit)?.is_break() {
            return Ok(End::Stopped);
        }
        Ok(End::Finished)
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
        for record in block.records() {
            let (at, record) = record?;
            if at == sequence {
                return Ok(Stored::name(&self.shared.catalog(), at, record));
            }
        }
        Ok(None)
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
        let (mut low, mut high) = (
            self.shared
                .oldest
                .load(std::sync::atomic::Ordering::Acquire),
            next,
        );
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
    fn block_of(&self, sequence: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT first FROM blocks WHERE first<=? ORDER BY first DESC LIMIT 1";
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        let mut query = self.connection.prepare_cached(sql)?;
        Ok(query.query_row([sequence], |row| row.get(0)).optional()?)
    }

    fn block(&self, first: u64) -> Result<Option<Block>, StoreError> {
        let sql = "SELECT first, last, time_min, time_max, topics, data FROM blocks WHERE first=?";
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query([first])?;
        rows.next()?.map(schema::block).transpose()
    }

    fn heads(&self, scan: &Scan, at: u64) -> Result<Vec<Head>, StoreError> {
        let sql = if scan.ascending {
            "SELECT first, last, time_min, time_max, topics FROM blocks WHERE first>=? ORDER BY first LIMIT ?"
        } else {
            "SELECT first, last, time_min, time_max, topics FROM blocks WHERE first<=? ORDER BY first DESC LIMIT ?"
        };
        let mut query = self.connection.prepare_cached(sql)?;
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let mut rows = query.query((at, CHUNK))?;
        let mut heads = Vec::with_capacity(CHUNK.min(64));
        while let Some(row) = rows.next()? {
            heads.push(Head {
                first: row.get(0)?,
                last: row.get(1)?,
                matches: matches(row, scan)?,
            });
        }
        Ok(heads)
    }

    fn visit_head(
        &self,
        head: &Head,
        scan: &Scan,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<(usize, ControlFlow<()>), StoreError> {
        if !head.matches {
            return Ok((0, ControlFlow::Continue(())));
        }
        let Some(block) = self.block(head.first)? else {
            let flow = self.scan_kept(scan, head.first..=head.last, visit)?;
            return Ok((0, flow));
        };
        let mut found = Vec::new();
        let mut count = 0;
        for record in block.records() {
            let (sequence, record) = record?;
            count += 1;
            if fits(scan, sequence, &record) {
                found.push((sequence, record));
            }
        }
        if !scan.ascending {
            found.reverse();
        }
        Ok((count, self.visit(found, visit)))
    }

    fn visit(
        &self,
        found: Vec<(u64, Record)>,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // The visitor may take its time: the writer must not wait for the catalog meanwhile.
        let catalog = self.shared.catalog();
        let named: Vec<_> = found
            .into_iter()
            .filter_map(|(sequence, record)| Stored::name(&catalog, sequence, record))
            .collect();
        drop(catalog);
        named.into_iter().try_for_each(visit)
    }

    /// The messages of a range that outlived their blocks.
    fn scan_kept(
        &self,
        scan: &Scan,
        range: RangeInclusive<u64>,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT sequence, data FROM kept WHERE topic=?")?;
        let mut found = Vec::new();
        for topic in &scan.topics {
            let Some(block) = query.query_row([topic], kept_block).optional()? else {
                continue;
            };
            for record in block.records() {
                let (sequence, record) = record?;
                if range.contains(&sequence) && fits(scan, sequence, &record) {
                    found.push((sequence, record));
                }
            }
        }
        found.sort_by_key(|(sequence, _)| *sequence);
        if !scan.ascending {
            found.reverse();
        }
        Ok(self.visit(found, visit))
    }
}

fn kept_block(row: &Row<'_>) -> rusqlite::Result<Block> {
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

/// Whether a block may hold a message that fits, from `first, last, time_min, time_max, topics`.
fn matches(row: &Row<'_>, scan: &Scan) -> Result<bool, StoreError> {
    let (time_min, time_max): (i64, i64) = (row.get(2)?, row.get(3)?);
    let in_time =
        scan.from.is_none_or(|from| time_max >= from) && scan.to.is_none_or(|to| time_min < to);
    if !in_time {
        return Ok(false);
    }
    let blob = row.get_ref(4)?.as_blob();
    let topics = blob.map_err(|error| StoreError::Damaged(error.to_string()))?;
    names_one_of(topics, &scan.topics)
}

fn fits(scan: &Scan, sequence: u64, record: &Record) -> bool {
    let in_range = if scan.ascending {
        sequence >= scan.start
    } else {
        sequence <= scan.start
    };
    in_range
        && scan.from.is_none_or(|from| record.time >= from)
        && scan.to.is_none_or(|to| record.time < to)
        && (record.topic == INLINE || scan.topics.binary_search(&record.topic).is_ok())
}
