//! How far each sink has sent what is stored. In: what was sent. Out: positions that are saved in the
//! database, and up to where retention may delete by age. A position of a sink that is not followed in this
//! run is kept for its return and holds nothing back.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};

use super::queue::Item;
use super::{Store, StoreError};

/// Also in databases of earlier versions, which go on without it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS sinks(
    name TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID, STRICT";

/// Positions to save: name and sequence.
pub type Unsaved = Vec<(Arc<str>, u64)>;

#[derive(Debug, Default)]
struct Cursor {
    /// Everything up to it was sent, refused for good or given up.
    sequence: u64,
    /// What the database says.
    saved: Option<u64>,
    /// In this run a sink of this name is there.
    followed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Cursors {
    by_name: BTreeMap<Arc<str>, Cursor>,
}

impl Cursors {
    /// The saved positions.
    pub fn load(connection: &Connection) -> Result<Self, StoreError> {
        connection.execute_batch(TABLE)?;
        let mut query = connection.prepare("SELECT name, sequence FROM sinks")?;
        let rows = query.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let mut by_name = BTreeMap::new();
        for row in rows {
            let (name, sequence) = row?;
            let cursor = Cursor {
                sequence,
                saved: Some(sequence),
                followed: false,
            };
            by_name.insert(name.into(), cursor);
        }
        Ok(Self { by_name })
    }

    /// Holds what comes after the position of a sink; a new one begins at `start`. Returns the position.
    pub fn follow(&mut self, name: &str, start: u64) -> u64 {
        let cursor = self.by_name.entry(name.into()).or_insert(Cursor {
            sequence: start,
            ..Cursor::default()
        });
        cursor.followed = true;
        cursor.sequence
    }

    /// Everything up to a sequence is done.
    pub fn advance(&mut self, name: &str, sequence: u64) {
        if let Some(cursor) = self.by_name.get_mut(name) {
            cursor.sequence = cursor.sequence.max(sequence);
        }
    }

    /// What every sink has sent: age is a reason to delete only up to there.
    pub fn sent(&self) -> u64 {
        let followed = self.by_name.values().filter(|cursor| cursor.followed);
        let slowest = followed.map(|cursor| cursor.sequence).min();
        slowest.unwrap_or(u64::MAX)
    }

    /// What differs from the database.
    pub fn unsaved(&self) -> Unsaved {
        let differs = |cursor: &Cursor| cursor.saved != Some(cursor.sequence);
        let unsaved = self.by_name.iter().filter(|(_, cursor)| differs(cursor));
        unsaved
            .map(|(name, cursor)| (Arc::clone(name), cursor.sequence))
            .collect()
    }

    /// It is in the database now.
    pub fn saved(&mut self, positions: &Unsaved) {
        for (name, sequence) in positions {
            if let Some(cursor) = self.by_name.get_mut(name) {
                cursor.saved = Some(*sequence);
            }
        }
    }
}

impl Store {
    /// From now on keeps what a sink of this name has not sent yet, unless there is too much of it. Returns
    /// the sequence up to which it has sent, durably: that of earlier runs, else everything that is stored, or
    /// nothing of it if it begins with the oldest.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn follow(&self, sink: &str, from_oldest: bool) -> Result<u64, StoreError> {
        let start = if from_oldest {
            self.oldest().saturating_sub(1)
        } else {
            *self.shared.committed.borrow()
        };
        let position = self.shared.cursors().follow(sink, start);
        self.shared.queue.push(Item::Cursors).await?;
        self.sync().await?;
        Ok(position)
    }

    /// A sink has done with everything up to a sequence; saved with [`Store::save_cursors`], and at the end.
    pub fn advance(&self, sink: &str, sequence: u64) {
        self.shared.cursors().advance(sink, sequence);
    }

    /// Saves the positions of all sinks with the next batch. False: the queue is full, ask again later.
    #[must_use]
    pub fn save_cursors(&self) -> bool {
        matches!(self.shared.queue.try_push(Item::Cursors), Ok(true))
    }
}

/// Writes positions.
pub fn write(transaction: &Transaction<'_>, positions: &Unsaved) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sinks(name, sequence) VALUES(?, ?)
               ON CONFLICT DO UPDATE SET sequence=excluded.sequence";
    for (name, sequence) in positions {
        transaction.prepare_cached(sql)?.execute((name, sequence))?;
    }
    Ok(())
}
