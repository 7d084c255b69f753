//! Opens the database, checks that it is ours and whole, and restores what lives in memory.
//! In: a directory. Out: a connection for the writer, the catalog, the next sequence.
//! What cannot be read is moved aside and a new store is made.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

use super::block::{Block, INLINE, decode_topics};
use super::catalog::{Catalog, Topic};
use super::cursors::Cursors;
use super::{StoreError, directory};

/// "akri" in ASCII: tells our databases from others (SQLite's `application_id`).
const APPLICATION: i64 = 0x616b_7269;
/// Version of the tables and of what is in them (SQLite's `user_version`). In version 1 messages did not point at the
/// one before of their topic.
const VERSION: i64 = 2;
const OLDEST_VERSION: i64 = 1;
const PAGE_CACHE_KIB: i64 = 512;

const TABLES: &str = "
    CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE blocks(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, time_min INTEGER NOT NULL,
        time_max INTEGER NOT NULL, time_high INTEGER NOT NULL, topics BLOB NOT NULL, data BLOB NOT NULL) STRICT;
    CREATE TABLE topics(number INTEGER PRIMARY KEY, device TEXT NOT NULL, name TEXT NOT NULL,
        last INTEGER NOT NULL, last_time INTEGER NOT NULL) STRICT;
    CREATE TABLE kept(topic INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, data BLOB NOT NULL) STRICT;
    CREATE TABLE devices(id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE packets(session TEXT NOT NULL, packet INTEGER NOT NULL,
        PRIMARY KEY(session, packet)) WITHOUT ROWID, STRICT;
";

/// An opened store.
pub struct Opened {
    /// The writer's connection.
    pub connection: Connection,
    /// The store's id.
    pub id: String,
    /// Topics and their latest messages.
    pub catalog: Catalog,
    /// How far the sinks of earlier runs were.
    pub cursors: Cursors,
    /// The sequence of the next message.
    pub next: u64,
    /// The oldest stored sequence, or `next`.
    pub oldest: u64,
    /// The latest time of all messages that were ever stored.
    pub time_high: i64,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(ErrorCode::DiskFull) => Self::Full(text),
            _ => Self::Sql(text),
        }
    }
}

/// Opens the store of a directory. One that is damaged or unknown is moved aside, and a new one is made.
pub fn open_or_move_aside(path: &Path) -> Result<Opened, StoreError> {
    let noted = directory::damage(path).map(StoreError::Damaged);
    let opened = noted.map_or_else(|| open(path), Err);
    match opened {
        Err(reason @ (StoreError::Damaged(_) | StoreError::Unknown(_))) => {
            let aside = directory::move_aside(path)?;
            directory::forget_damage(path);
            tracing::error!(
                %reason, moved_to = %aside.display(),
                "the store cannot be read, it was moved aside and a new one is made"
            );
            open(path)
        }
        other => other,
    }
}

fn open(path: &Path) -> Result<Opened, StoreError> {
    let file = path.join(directory::DATABASE);
    let is_new = std::fs::metadata(&file).map_or(0, |metadata| metadata.len()) == 0;
    let mut connection = Connection::open(&file)?;
    if !is_new {
        check(&connection)?;
    }
    configure(&connection)?;
    let application: i64 = pragma(&connection, "application_id")?;
    if application == 0 {
        create(&mut connection)?;
    } else if pragma(&connection, "user_version")? < VERSION {
        upgrade(&mut connection).or_else(|error| match error {
            // The writer, which makes room otherwise, does not run yet; it takes the reserve again.
            StoreError::Full(_) => {
                directory::release_reserve(path);
                upgrade(&mut connection)
            }
            other => Err(other),
        })?;
    }
    let id = meta_text(&connection, "store_id")?
        .ok_or_else(|| StoreError::Damaged("it has no id".to_owned()))?;
    restore(connection, id)
}

/// Refuses what is not ours before anything is written to it.
fn check(connection: &Connection) -> Result<(), StoreError> {
    let application: i64 = pragma(connection, "application_id")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if application == 0 && tables == 0 {
        // The process that made it was killed before its first commit.
        return Ok(());
    }
    if application != APPLICATION {
        return Err(StoreError::Unknown(format!(
            "its application id is {application:#x}, ours is {APPLICATION:#x}"
        )));
    }
    let version: i64 = pragma(connection, "user_version")?;
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(StoreError::Unknown(format!(
            "its version is {version}, this program knows {OLDEST_VERSION} to {VERSION}"
        )));
    }
    Ok(())
}

/// Without stable plans, each new value of a LIMIT makes SQLite compile its statement anew.
fn settle(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// `synchronous=FULL` syncs the log at every commit; without it a commit could be lost with the power.
fn configure(connection: &Connection) -> Result<(), StoreError> {
    settle(connection)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", (), |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Sql(format!("journal mode is {mode}, not wal")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", 500)?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn create(connection: &mut Connection) -> Result<(), StoreError> {
    let id = format!("{:016x}", rand::random::<u64>());
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO meta VALUES('store_id', ?1), ('next', 1), ('flushed', 0), ('time_high', 0), ('unlinked', 0)",
        [&id],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// A program of the version before does not know this one's records, so the version says so from now on.
fn upgrade(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    transaction.execute(
        "INSERT INTO meta SELECT 'unlinked', coalesce(max(last), 0) FROM blocks",
        (),
    )?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// A connection that only reads.
pub fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path.join(directory::DATABASE), flags)?;
    settle(&connection)?;
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB / 2)?;
    Ok(connection)
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

fn meta_text(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT value FROM meta WHERE key=?";
    let value = connection.query_row(sql, [key], |row| row.get(0));
    Ok(value.optional()?)
}

fn meta_number(connection: &Connection, key: &str) -> Result<i64, StoreError> {
    let sql = "SELECT value FROM meta WHERE key=?";
    let value = connection.query_row(sql, [key], |row| row.get(0));
    Ok(value.optional()?.unwrap_or(0))
}

fn restore(connection: Connection, id: String) -> Result<Opened, StoreError> {
    let mut catalog = Catalog::default();
    catalog.unlinked = u64::try_from(meta_number(&connection, "unlinked")?).unwrap_or_default();
    restore_topics(&connection, &mut catalog)?;
    let flushed = meta_number(&connection, "flushed")?;
    restore_latest(&connection, &mut catalog, flushed)?;
    let unused: Vec<u32> = catalog
        .all()
        .filter(|(_, topic)| topic.last == 0)
        .map(|(number, _)| number)
        .collect();
    unused.into_iter().for_each(|number| catalog.remove(number));
    let ends: (Option<u64>, Option<u64>, Option<i64>) = connection.query_row(
        "SELECT (SELECT min(first) FROM blocks), last, time_high FROM blocks ORDER BY first DESC LIMIT 1",
        (),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    ).optional()?.unwrap_or_default();
    let next = u64::try_from(meta_number(&connection, "next")?).unwrap_or(1);
    let next = next.max(ends.1.map_or(1, |last| last + 1));
    Ok(Opened {
        id,
        catalog,
        cursors: Cursors::load(&connection)?,
        next,
        oldest: ends.0.unwrap_or(next),
        time_high: ends
            .2
            .unwrap_or(0)
            .max(meta_number(&connection, "time_high")?),
        connection,
    })
}

fn restore_topics(connection: &Connection, catalog: &mut Catalog) -> Result<(), StoreError> {
    let mut query =
        connection.prepare("SELECT number, device, name, last, last_time FROM topics")?;
    let mut rows = query.query(())?;
    let mut device: std::sync::Arc<str> = "".into();
    while let Some(row) = rows.next()? {
        let name = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        if *name != *device {
            device = name.into();
        }
        let topic = Topic {
            device: std::sync::Arc::clone(&device),
            name: row.get(2)?,
            last: row.get(3)?,
            newest: row.get(3)?,
            last_time: row.get(4)?,
            kept: false,
            dirty: false,
        };
        catalog.restore(row.get(0)?, topic);
    }
    let mut query = connection.prepare("SELECT topic, sequence FROM kept")?;
    let mut rows = query.query(())?;
    while let Some(row) = rows.next()? {
        if let Some(topic) = catalog.get_mut(row.get(0)?) {
            topic.last = row.get(1)?;
            topic.newest = topic.last;
            topic.kept = true;
        }
    }
    Ok(())
}

/// The latest messages since the writer last saved them.
fn restore_latest(
    connection: &Connection,
    catalog: &mut Catalog,
    flushed: i64,
) -> Result<(), StoreError> {
    let sql = "SELECT first, last, time_min, time_max, topics, data FROM blocks
               WHERE first>? ORDER BY first";
    let mut query = connection.prepare(sql)?;
    let mut rows = query.query([flushed])?;
    while let Some(row) = rows.next()? {
        for record in block(row)?.records() {
            let (sequence, record) = record?;
            if record.topic == INLINE {
                continue;
            }
            if let Some(topic) = catalog.get_mut(record.topic) {
                topic.last = sequence;
                topic.newest = sequence;
                topic.last_time = record.time;
                topic.kept = false;
                topic.dirty = true;
            }
        }
    }
    Ok(())
}

/// A block from `first, last, time_min, time_max, topics, data`.
pub fn block(row: &rusqlite::Row<'_>) -> Result<Block, StoreError> {
    let bytes = |index: usize| -> Result<&[u8], StoreError> {
        let blob = row.get_ref(index)?.as_blob();
        blob.map_err(|error| StoreError::Damaged(error.to_string()))
    };
    Ok(Block {
        first: row.get(0)?,
        last: row.get(1)?,
        time_min: row.get(2)?,
        time_max: row.get(3)?,
        topics: decode_topics(bytes(4)?)?,
        data: bytes::Bytes::copy_from_slice(bytes(5)?),
    })
}
