//! Deletes the oldest messages, by age and by size. In: the limits and the time. Out: what was deleted.
//! The last message of each topic of a served device outlives its block in a row of its own.

use rusqlite::{Connection, Transaction};

use super::StoreError;
use super::block::{Block, INLINE, decode_topics};
use super::catalog::Catalog;
use super::cursors::{self, Unsaved};
use super::schema;

/// Blocks deleted in one transaction; bounds the room that it needs on a full disk.
const BLOCKS: usize = 256;
/// Pages given back to the file system after a pass.
const VACUUM_PAGES: u32 = 512;

/// What a pass is to reach.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages received before are deleted.
    pub before: i64,
    /// Bytes that are to be free of messages, 0: size is no reason to delete.
    pub excess: u64,
    /// The sequence of the next message, which must survive the deletion of all others.
    pub next: u64,
    /// The latest time of all messages.
    pub time_high: i64,
    /// What all sinks have sent; later messages are deleted for size only.
    pub sent: u64,
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages deleted.
    pub messages: u64,
    /// Topics whose last message has now a row of its own.
    kept: Vec<u32>,
    /// Topics of which nothing is left.
    gone: Vec<u32>,
    /// There was more to delete than one pass does.
    pub more: bool,
}

impl Outcome {
    /// Brings the memory to what was committed.
    pub fn apply(&self, catalog: &mut Catalog) {
        for number in &self.kept {
            if let Some(topic) = catalog.get_mut(*number) {
                topic.kept = true;
            }
        }
        for number in &self.gone {
            catalog.remove(*number);
        }
    }
}

/// Bytes of the database in use, and bytes that are free in its file.
pub fn usage(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let number = |name| -> rusqlite::Result<u64> {
        let mut query = connection.prepare_cached(name)?;
        query.query_row((), |row| row.get(0))
    };
    let size = number("PRAGMA page_size")?;
    let (pages, free) = (
        number("PRAGMA page_count")?,
        number("PRAGMA freelist_count")?,
    );
    Ok((pages.saturating_sub(free) * size, free * size))
}

/// Sequence and latest time of the oldest block.
pub fn oldest(connection: &Connection) -> Result<Option<(u64, i64)>, StoreError> {
    let sql = "SELECT first, time_max FROM blocks ORDER BY first LIMIT 1";
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query(())?;
    Ok(match rows.next()? {
        Some(row) => Some((row.get(0)?, row.get(1)?)),
        None => None,
    })
}

/// One pass: a transaction of bounded size.
pub fn pass(
    connection: &mut Connection,
    catalog: &Catalog,
    limits: Limits,
    cursors: &Unsaved,
) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome::default();
    let transaction = connection.transaction()?;
    let mut freed = 0;
    let candidates = candidates(&transaction)?;
    outcome.more = candidates.len() == BLOCKS;
    for candidate in candidates {
        let Candidate {
            first, last, bytes, ..
        } = candidate;
        let is_due = candidate.time_max < limits.before && last <= limits.sent;
        if !is_due && freed >= limits.excess {
            outcome.more = false;
            break;
        }
        outcome.messages += delete_block(&transaction, catalog, first, &mut outcome)?;
        freed += bytes;
    }
    expire_kept(&transaction, catalog, limits, &mut outcome)?;
    for number in &outcome.gone {
        let sql = "DELETE FROM topics WHERE number=?";
        transaction.prepare_cached(sql)?.execute([number])?;
    }
    forget_devices(&transaction, catalog, &outcome)?;
    cursors::write(&transaction, cursors)?;
    let sql = "UPDATE meta SET value=?2 WHERE key=?1";
    transaction
        .prepare_cached(sql)?
        .execute(("next", limits.next))?;
    transaction
        .prepare_cached(sql)?
        .execute(("time_high", limits.time_high))?;
    transaction.commit()?;
    Ok(outcome)
}

/// Gives free pages back to the file system when they are many; a little at a time.
pub fn shrink(connection: &Connection) -> Result<(), StoreError> {
    let (used, free) = usage(connection)?;
    if free > used / 2 && free > 1 << 20 {
        give_back(connection, VACUUM_PAGES)?;
        // The file gets shorter once the log is written back; where that fails, the next commits do it.
        let _ = connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
    }
    Ok(())
}

/// Gives at most so many free pages back to the file system. False: there were none.
pub fn give_back(connection: &Connection, pages: u32) -> Result<bool, StoreError> {
    let (_, free) = usage(connection)?;
    if free == 0 {
        return Ok(false);
    }
    // Every step frees one page: the statement has to run to its end.
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = vacuum.query(())?;
    while steps.next()?.is_some() {}
    Ok(true)
}

/// One of the oldest blocks.
struct Candidate {
    first: u64,
    last: u64,
    time_max: i64,
    bytes: u64,
}

fn candidates(transaction: &Transaction<'_>) -> Result<Vec<Candidate>, StoreError> {
    let sql = "SELECT first, last, time_max, length(data) + 64 FROM blocks ORDER BY first LIMIT ?";
    let mut query = transaction.prepare_cached(sql)?;
    let rows = query.query_map([BLOCKS], |row| {
        Ok(Candidate {
            first: row.get(0)?,
            last: row.get(1)?,
            time_max: row.get(2)?,
            bytes: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn delete_block(
    transaction: &Transaction<'_>,
    catalog: &Catalog,
    first: u64,
    outcome: &mut Outcome,
) -> Result<u64, StoreError> {
    let sql = "SELECT last, topics FROM blocks WHERE first=?";
    let mut query = transaction.prepare_cached(sql)?;
    let (last, topics): (u64, Vec<u8>) =
        query.query_row([first], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut keep = false;
    for number in decode_topics(&topics)? {
        let Some(topic) = catalog.get(number) else {
            continue;
        };
        let is_latest = number != INLINE && (first..=last).contains(&topic.last);
        if is_latest && catalog.is_served(&topic.device) {
            keep = true;
        } else if is_latest {
            outcome.gone.push(number);
        }
    }
    if keep {
        keep_latest(transaction, catalog, first, outcome)?;
    }
    let sql = "DELETE FROM blocks WHERE first=?";
    transaction.prepare_cached(sql)?.execute([first])?;
    Ok(last.saturating_sub(first) + 1)
}

/// Copies the messages of a block that are the last of their topic.
fn keep_latest(
    transaction: &Transaction<'_>,
    catalog: &Catalog,
    first: u64,
    outcome: &mut Outcome,
) -> Result<(), StoreError> {
    let sql = "SELECT first, last, time_min, time_max, topics, data FROM blocks WHERE first=?";
    let mut query = transaction.prepare_cached(sql)?;
    let mut rows = query.query([first])?;
    let Some(row) = rows.next()? else {
        return Ok(());
    };
    for record in schema::block(row)?.records() {
        let (sequence, record) = record?;
        let is_latest = catalog
            .get(record.topic)
            .is_some_and(|topic| topic.last == sequence && catalog.is_served(&topic.device));
        if !is_latest {
            continue;
        }
        let number = record.topic;
        if let Some(single) = Block::encode(sequence, &[record]) {
            let sql = "INSERT OR REPLACE INTO kept(topic, sequence, data) VALUES(?, ?, ?)";
            let row = (number, sequence, single.data.as_ref());
            transaction.prepare_cached(sql)?.execute(row)?;
            outcome.kept.push(number);
        }
    }
    Ok(())
}

/// Deletes what was kept of devices that are no longer served, once it is too old.
fn expire_kept(
    transaction: &Transaction<'_>,
    catalog: &Catalog,
    limits: Limits,
    outcome: &mut Outcome,
) -> Result<(), StoreError> {
    let expired = catalog.all().filter(|(_, topic)| {
        topic.kept && topic.last_time < limits.before && !catalog.is_served(&topic.device)
    });
    for (number, _) in expired {
        let sql = "DELETE FROM kept WHERE topic=?";
        transaction.prepare_cached(sql)?.execute([number])?;
        outcome.gone.push(number);
    }
    Ok(())
}

/// Forgets devices that are not served and of which no message is left.
fn forget_devices(
    transaction: &Transaction<'_>,
    catalog: &Catalog,
    outcome: &Outcome,
) -> Result<(), StoreError> {
    for number in &outcome.gone {
        let Some(topic) = catalog.get(*number) else {
            continue;
        };
        let left = catalog
            .of_device(&topic.device)
            .any(|(other, _)| !outcome.gone.contains(&other));
        if !left && !catalog.is_served(&topic.device) {
            let sql = "DELETE FROM devices WHERE id=?";
            transaction.prepare_cached(sql)?.execute([&topic.device])?;
        }
    }
    Ok(())
}
