//! Looks for messages. In: topics, times, an order. Out: what fits, in that order. Upwards it looks at the list of
//! topics of each block; downwards it goes from message to message. A scan is bounded and says where to go on.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::atomic::Ordering;

use rusqlite::{OptionalExtension as _, Row};

use super::block::{Block, INLINE, Record, names_one_of};
use super::links::{Links, Next};
use super::reader::{Reader, Stored, kept_block};
use super::{StoreError, schema};

/// Blocks whose index one statement looks at.
const CHUNK: usize = 256;
/// Looks at the database in one transaction: SQLite forgets the pages that it has read whenever it begins another one
/// after a commit of the writer. No more of them, so that the writer's log can be written back meanwhile.
const SNAPSHOT: usize = 128;
/// What one scan may look at before it answers with what it has.
const SCAN_BLOCKS: usize = 200_000;
const SCAN_MESSAGES: usize = 1_000_000;

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

struct Head {
    first: u64,
    last: u64,
    /// The latest time of it and of all before.
    time_high: i64,
    matches: bool,
    /// Itself, where it was read at once.
    block: Option<Block>,
}

/// What a block has.
#[derive(Default)]
struct Found {
    messages: Vec<(u64, Record)>,
    looked_at: usize,
}

impl Reader {
    /// Shows the visitor each message that fits, in order.
    pub fn scan(
        &mut self,
        scan: &Scan,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<End, StoreError> {
        if scan.ascending {
            self.scan_up(scan, visit)
        } else {
            self.scan_down(scan, visit)
        }
    }

    fn scan_up(
        &mut self,
        scan: &Scan,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<End, StoreError> {
        let mut at = scan.start;
        if let Some(from) = scan.from {
            at = at.max(self.first_since(from)?);
        }
        at = self.block_of(at)?.unwrap_or(at);
        // What was not looked at yet. Retention moves messages from blocks to `kept` meanwhile: where a block
        // has gone, `kept` is read after it was missed, and only for its sequences, so that nothing is shown twice.
        let mut low = scan.start;
        let (mut blocks, mut messages) = (0, 0);
        loop {
            let heads = self.heads(scan, at, CHUNK)?;
            let Some(end) = heads.last() else { break };
            at = end.last + 1;
            blocks += heads.len();
            for head in &heads {
                let gone = head.first > low;
                if gone
                    && self
                        .scan_kept(scan, low..=head.first - 1, visit)?
                        .is_break()
                {
                    return Ok(End::Stopped);
                }
                let found = self.look(head, scan)?;
                messages += found.looked_at;
                if self.visit(found.messages, visit).is_break() {
                    return Ok(End::Stopped);
                }
                low = low.max(head.last + 1);
            }
            if blocks >= SCAN_BLOCKS || messages >= SCAN_MESSAGES {
                return Ok(End::Bounded(at));
            }
        }
        if self.scan_kept(scan, low..=u64::MAX, visit)?.is_break() {
            return Ok(End::Stopped);
        }
        Ok(End::Finished)
    }

    fn scan_down(
        &self,
        scan: &Scan,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<End, StoreError> {
        let oldest = self.shared.oldest.load(Ordering::Acquire);
        let mut links = Links::new(scan, &self.shared.catalog(), oldest);
        // What was not looked at yet, and, as upwards, what `kept` is read for at the end.
        let mut high = scan.start;
        let (mut blocks, mut messages) = (0, 0);
        let mut snapshot = self.connection.unchecked_transaction()?;
        let mut looks = 0;
        loop {
            looks += 1;
            if looks % SNAPSHOT == 0 {
                drop(snapshot);
                snapshot = self.connection.unchecked_transaction()?;
            }
            let (at, count) = match links.next() {
                Next::Unknown => (high, CHUNK),
                Next::At(sequence) => (high.min(sequence), 1),
                Next::End => break,
            };
            let heads = self.heads(scan, at, count)?;
            if heads.is_empty() {
                break;
            }
            let mut is_over = false;
            for head in &heads {
                // All that is older was received before, too.
                is_over = scan.from.is_some_and(|from| head.time_high < from);
                if is_over {
                    break;
                }
                let found = self.look(head, scan)?;
                messages += found.looked_at;
                for (sequence, record) in &found.messages {
                    links.seen(*sequence, record);
                }
                blocks += 1;
                high = head.first.saturating_sub(1);
                if self.visit(found.messages, visit).is_break() {
                    return Ok(End::Stopped);
                }
                if links.next() != Next::Unknown {
                    break;
                }
            }
            if is_over || high == 0 {
                break;
            }
            if blocks >= SCAN_BLOCKS || messages >= SCAN_MESSAGES {
                return Ok(End::Bounded(high));
            }
        }
        if self.scan_kept(scan, 0..=high, visit)?.is_break() {
            return Ok(End::Stopped);
        }
        Ok(End::Finished)
    }

    /// So many blocks, beginning with `at`, in the order of the scan. One alone is read as a whole.
    fn heads(&self, scan: &Scan, at: u64, count: usize) -> Result<Vec<Head>, StoreError> {
        let sql = match (scan.ascending, count) {
            (true, _) => {
                "SELECT first, last, time_min, time_max, topics, time_high FROM blocks WHERE first>=? ORDER BY first LIMIT ?"
            }
            (false, 1) => {
                "SELECT first, last, time_min, time_max, topics, data, time_high FROM blocks WHERE first<=? ORDER BY first DESC LIMIT ?"
            }
            (false, _) => {
                "SELECT first, last, time_min, time_max, topics, time_high FROM blocks WHERE first<=? ORDER BY first DESC LIMIT ?"
            }
        };
        let mut query = self.connection.prepare_cached(sql)?;
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let mut rows = query.query((at, count))?;
        let mut heads = Vec::with_capacity(count.min(64));
        while let Some(row) = rows.next()? {
            let matches = matches(row, scan)?;
            let is_whole = matches && !scan.ascending && count == 1;
            heads.push(Head {
                first: row.get(0)?,
                last: row.get(1)?,
                time_high: row.get("time_high")?,
                matches,
                block: is_whole.then(|| schema::block(row)).transpose()?,
            });
        }
        Ok(heads)
    }

    /// The messages of a block that fit, in the order of the scan.
    fn look(&self, head: &Head, scan: &Scan) -> Result<Found, StoreError> {
        if !head.matches {
            return Ok(Found::default());
        }
        let block = match &head.block {
            Some(block) => Some(block.clone()),
            None => self.block(head.first)?,
        };
        let Some(block) = block else {
            return Ok(Found {
                messages: self.kept(scan, head.first..=head.last)?,
                looked_at: 0,
            });
        };
        let mut found = Found {
            messages: Vec::new(),
            looked_at: usize::try_from(block.last.saturating_sub(block.first))
                .unwrap_or(usize::MAX),
        };
        let mut records = block.records();
        while let Some(record) = records.next_where(|at, topic, time| fits(scan, at, topic, time)) {
            found.messages.push(record?);
        }
        if !scan.ascending {
            found.messages.reverse();
        }
        Ok(found)
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

    fn scan_kept(
        &self,
        scan: &Scan,
        range: RangeInclusive<u64>,
        visit: &mut dyn FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        Ok(self.visit(self.kept(scan, range)?, visit))
    }

    /// The messages of a range that outlived their blocks, in the order of the scan.
    fn kept(
        &self,
        scan: &Scan,
        range: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, Record)>, StoreError> {
        let mut query = self
            .connection
            .prepare_cached("SELECT sequence, data FROM kept WHERE topic=?")?;
        let mut found = Vec::new();
        for topic in &scan.topics {
            let Some(block) = query.query_row([topic], kept_block).optional()? else {
                continue;
            };
            let mut records = block.records();
            while let Some(record) = records
                .next_where(|at, topic, time| range.contains(&at) && fits(scan, at, topic, time))
            {
                found.push(record?);
            }
        }
        found.sort_by_key(|(sequence, _)| *sequence);
        if !scan.ascending {
            found.reverse();
        }
        Ok(found)
    }
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

fn fits(scan: &Scan, sequence: u64, topic: u32, time: i64) -> bool {
    let in_range = if scan.ascending {
        sequence >= scan.start
    } else {
        sequence <= scan.start
    };
    in_range
        && scan.from.is_none_or(|from| time >= from)
        && scan.to.is_none_or(|to| time < to)
        && (topic == INLINE || scan.topics.binary_search(&topic).is_ok())
}
