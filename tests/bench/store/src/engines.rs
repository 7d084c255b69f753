//! The candidates behind one trait. In: batches of messages. Out: durable storage, scans, history of one topic.
//! `Rows` variants keep a row per message and an index by topic; `Blocks` variants keep a record per batch.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::{Message, decode_block, encode_block, topics_of};

pub trait Engine {
    fn commit(&mut self, first: u64, messages: &[Message]);
    /// Deletes the oldest messages below `sequence`.
    fn delete_below(&mut self, sequence: u64);
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize;
    fn scan(&mut self, from: u64, limit: usize) -> usize;
}

pub fn open(name: &str, directory: &Path) -> Box<dyn Engine> {
    match name {
        "sqlite-rows" => Box::new(SqliteRows::open(directory)),
        "sqlite-blocks" => Box::new(SqliteBlocks::open(directory)),
        "redb-rows" => Box::new(RedbRows::open(directory)),
        "redb-blocks" => Box::new(RedbBlocks::open(directory)),
        "fjall-rows" => Box::new(FjallRows::open(directory)),
        "fjall-blocks" => Box::new(FjallBlocks::open(directory)),
        "file" => Box::new(Log::open(directory)),
        other => panic!("unknown engine {other}"),
    }
}

fn sqlite(directory: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(directory.join("store.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
             PRAGMA cache_size=-1024; PRAGMA wal_autocheckpoint=1000; PRAGMA journal_size_limit=8388608;",
        )
        .unwrap();
    connection
}

struct SqliteRows(rusqlite::Connection);

impl SqliteRows {
    fn open(directory: &Path) -> Self {
        let connection = sqlite(directory);
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS messages(sequence INTEGER PRIMARY KEY, topic INTEGER NOT NULL,
                   time INTEGER NOT NULL, flags INTEGER NOT NULL, payload BLOB NOT NULL);
                 CREATE INDEX IF NOT EXISTS by_topic ON messages(topic, sequence);",
            )
            .unwrap();
        Self(connection)
    }
}

impl Engine for SqliteRows {
    fn commit(&mut self, first: u64, messages: &[Message]) {
        let transaction = self.0.transaction().unwrap();
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO messages VALUES(?,?,?,?,?)").unwrap();
            for (sequence, message) in (first..).zip(messages) {
                insert
                    .execute((sequence, message.topic, message.time, message.flags, &message.payload))
                    .unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    fn delete_below(&mut self, sequence: u64) {
        self.0.execute("DELETE FROM messages WHERE sequence < ?", [sequence]).unwrap();
    }
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize {
        let mut query = self
            .0
            .prepare_cached(
                "SELECT payload FROM messages WHERE topic=? ORDER BY sequence DESC LIMIT ?",
            )
            .unwrap();
        query.query_map((topic, limit), |row| row.get::<_, Vec<u8>>(0)).unwrap().count()
    }
    fn scan(&mut self, from: u64, limit: usize) -> usize {
        let mut query = self
            .0
            .prepare_cached("SELECT payload FROM messages WHERE sequence>=? ORDER BY sequence LIMIT ?")
            .unwrap();
        query.query_map((from, limit), |row| row.get::<_, Vec<u8>>(0)).unwrap().count()
    }
}

struct SqliteBlocks(rusqlite::Connection);

impl SqliteBlocks {
    fn open(directory: &Path) -> Self {
        let connection = sqlite(directory);
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS blocks(first INTEGER PRIMARY KEY, last INTEGER NOT NULL,
                   time_min INTEGER NOT NULL, time_max INTEGER NOT NULL, topics BLOB NOT NULL, data BLOB NOT NULL);",
            )
            .unwrap();
        Self(connection)
    }
}

impl Engine for SqliteBlocks {
    fn commit(&mut self, first: u64, messages: &[Message]) {
        let (topics, data) = encode_block(messages);
        let transaction = self.0.transaction().unwrap();
        transaction
            .prepare_cached("INSERT INTO blocks VALUES(?,?,?,?,?,?)")
            .unwrap()
            .execute((
                first,
                first + messages.len() as u64 - 1,
                messages[0].time,
                messages[messages.len() - 1].time,
                topics,
                data,
            ))
            .unwrap();
        transaction.commit().unwrap();
    }
    fn delete_below(&mut self, sequence: u64) {
        self.0.execute("DELETE FROM blocks WHERE last < ?1 AND first < ?1", [sequence]).unwrap();
    }
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize {
        let mut query =
            self.0.prepare_cached("SELECT topics, first FROM blocks ORDER BY first DESC").unwrap();
        let mut load = self.0.prepare_cached("SELECT data FROM blocks WHERE first=?").unwrap();
        let mut rows = query.query(()).unwrap();
        let mut found = 0;
        while let Some(row) = rows.next().unwrap() {
            let topics = row.get_ref(0).unwrap().as_blob().unwrap();
            if topics_of(topics).any(|t| t == topic) {
                let first: u64 = row.get(1).unwrap();
                found += load
                    .query_row([first], |row| {
                        let data = row.get_ref(0).unwrap().as_blob().unwrap();
                        Ok(decode_block(data).filter(|(t, _)| *t == topic).count())
                    })
                    .unwrap();
                if found >= limit {
                    break;
                }
            }
        }
        found
    }
    fn scan(&mut self, from: u64, limit: usize) -> usize {
        let mut query = self
            .0
            .prepare_cached("SELECT data FROM blocks WHERE first>=? ORDER BY first")
            .unwrap();
        let mut rows = query.query([from]).unwrap();
        let mut found = 0;
        while let Some(row) = rows.next().unwrap() {
            found += decode_block(row.get_ref(0).unwrap().as_blob().unwrap()).count();
            if found >= limit {
                break;
            }
        }
        found
    }
}

const MESSAGES: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("messages");
const BY_TOPIC: redb::TableDefinition<(u32, u64), ()> = redb::TableDefinition::new("by_topic");
const TOPICS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("topics");

fn redb_open(directory: &Path) -> redb::Database {
    let database = redb::Database::builder()
        .set_cache_size(2 << 20)
        .create(directory.join("store.redb"))
        .unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(MESSAGES).unwrap();
    transaction.open_table(BY_TOPIC).unwrap();
    transaction.open_table(TOPICS).unwrap();
    transaction.commit().unwrap();
    database
}

fn row(message: &Message) -> Vec<u8> {
    let mut row = Vec::with_capacity(message.payload.len() + 13);
    row.extend_from_slice(&message.topic.to_le_bytes());
    row.extend_from_slice(&message.time.to_le_bytes());
    row.push(message.flags);
    row.extend_from_slice(&message.payload);
    row
}

fn row_topic(row: &[u8]) -> u32 {
    u32::from_le_bytes(row[..4].try_into().unwrap())
}

struct RedbRows(redb::Database);

impl RedbRows {
    fn open(directory: &Path) -> Self {
        Self(redb_open(directory))
    }
}

impl Engine for RedbRows {
    fn commit(&mut self, first: u64, messages: &[Message]) {
        let transaction = self.0.begin_write().unwrap();
        {
            let mut table = transaction.open_table(MESSAGES).unwrap();
            let mut index = transaction.open_table(BY_TOPIC).unwrap();
            for (sequence, message) in (first..).zip(messages) {
                table.insert(sequence, row(message).as_slice()).unwrap();
                index.insert((message.topic, sequence), ()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    fn delete_below(&mut self, below: u64) {
        let transaction = self.0.begin_write().unwrap();
        {
            let mut table = transaction.open_table(MESSAGES).unwrap();
            let mut index = transaction.open_table(BY_TOPIC).unwrap();
            for entry in table.extract_from_if(..below, |_, _| true).unwrap() {
                let (sequence, row) = entry.unwrap();
                index.remove((row_topic(row.value()), sequence.value())).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize {
        use redb::ReadableDatabase as _;
        let transaction = self.0.begin_read().unwrap();
        let table = transaction.open_table(MESSAGES).unwrap();
        let index = transaction.open_table(BY_TOPIC).unwrap();
        index
            .range((topic, 0)..=(topic, u64::MAX))
            .unwrap()
            .rev()
            .take(limit)
            .filter(|entry| {
                let (key, _) = entry.as_ref().unwrap();
                table.get(key.value().1).unwrap().unwrap().value().len() > 13
            })
            .count()
    }
    fn scan(&mut self, from: u64, limit: usize) -> usize {
        use redb::ReadableDatabase as _;
        let transaction = self.0.begin_read().unwrap();
        let table = transaction.open_table(MESSAGES).unwrap();
        table.range(from..).unwrap().take(limit).filter(|e| e.as_ref().unwrap().1.value().len() > 13).count()
    }
}

struct RedbBlocks(redb::Database);

impl RedbBlocks {
    fn open(directory: &Path) -> Self {
        Self(redb_open(directory))
    }
}

impl Engine for RedbBlocks {
    fn commit(&mut self, first: u64, messages: &[Message]) {
        let (topics, data) = encode_block(messages);
        let transaction = self.0.begin_write().unwrap();
        transaction.open_table(TOPICS).unwrap().insert(first, topics.as_slice()).unwrap();
        transaction.open_table(MESSAGES).unwrap().insert(first, data.as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    fn delete_below(&mut self, below: u64) {
        let transaction = self.0.begin_write().unwrap();
        transaction.open_table(TOPICS).unwrap().retain_in(..below, |_, _| false).unwrap();
        transaction.open_table(MESSAGES).unwrap().retain_in(..below, |_, _| false).unwrap();
        transaction.commit().unwrap();
    }
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize {
        use redb::{ReadableDatabase as _, ReadableTable as _};
        let transaction = self.0.begin_read().unwrap();
        let table = transaction.open_table(MESSAGES).unwrap();
        let index = transaction.open_table(TOPICS).unwrap();
        let mut found = 0;
        for entry in index.iter().unwrap().rev() {
            let (first, topics) = entry.unwrap();
            if topics_of(topics.value()).any(|t| t == topic) {
                let data = table.get(first.value()).unwrap().unwrap();
                found += decode_block(data.value()).filter(|(t, _)| *t == topic).count();
                if found >= limit {
                    break;
                }
            }
        }
        found
    }
    fn scan(&mut self, from: u64, limit: usize) -> usize {
        use redb::ReadableDatabase as _;
        let transaction = self.0.begin_read().unwrap();
        let table = transaction.open_table(MESSAGES).unwrap();
        let mut found = 0;
        for entry in table.range(from..).unwrap() {
            found += decode_block(entry.unwrap().1.value()).count();
            if found >= limit {
                break;
            }
        }
        found
    }
}

fn fjall_open(directory: &Path) -> (fjall::Database, fjall::Keyspace, fjall::Keyspace) {
    let database = fjall::Database::builder(directory.join("fjall"))
        .cache_size(1 << 20)
        .worker_threads(1)
        .max_journaling_size(64 << 20)
        .open()
        .unwrap();
    let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(2 << 20);
    let messages = database.keyspace("messages", options).unwrap();
    let topics = database.keyspace("topics", options).unwrap();
    (database, messages, topics)
}

struct FjallRows {
    database: fjall::Database,
    messages: fjall::Keyspace,
    topics: fjall::Keyspace,
    oldest: VecDeque<(u64, u32)>,
}

impl FjallRows {
    fn open(directory: &Path) -> Self {
        let (database, messages, topics) = fjall_open(directory);
        Self { database, messages, topics, oldest: VecDeque::new() }
    }
}

fn topic_key(topic: u32, sequence: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..].copy_from_slice(&sequence.to_be_bytes());
    key
}

impl Engine for FjallRows {
    fn commit(&mut self, first: u64, messages: &[Message]) {
        let mut batch =
            self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for (sequence, message) in (first..).zip(messages) {
            batch.insert(&self.messages, sequence.to_be_bytes(), row(message));
            batch.insert(&self.topics, topic_key(message.topic, sequence), []);
            self.oldest.push_back((sequence, message.topic));
        }
        batch.commit().unwrap();
    }
    fn delete_below(&mut self, below: u64) {
        let mut batch = self.database.batch();
        while let Some(&(sequence, topic)) = self.oldest.front() {
            if sequence >= below {
                break;
            }
            self.oldest.pop_front();
            batch.remove_weak(&self.messages, sequence.to_be_bytes());
            batch.remove_weak(&self.topics, topic_key(topic, sequence));
        }
        batch.commit().unwrap();
    }
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize {
        self.topics
            .range(topic_key(topic, 0)..=topic_key(topic, u64::MAX))
            .rev()
            .take(limit)
            .filter_map(|guard| guard.key().ok())
            .filter(|key| self.messages.get(&key[4..]).unwrap().is_some())
            .count()
    }
    fn scan(&mut self, from: u64, limit: usize) -> usize {
        self.messages
            .range(from.to_be_bytes()..)
            .take(limit)
            .filter(|_| true)
            .map(|guard| guard.value().unwrap().len())
            .filter(|length| *length > 13)
            .count()
    }
}

struct FjallBlocks {
    database: fjall::Database,
    messages: fjall::Keyspace,
    topics: fjall::Keyspace,
    oldest: VecDeque<u64>,
}

impl FjallBlocks {
    fn open(directory: &Path) -> Self {
        let (database, messages, topics) = fjall_open(directory);
        Self { database, messages, topics, oldest: VecDeque::new() }
    }
}

impl Engine for FjallBlocks {
    fn commit(&mut self, first: u64, messages: &[Message]) {
        let (topics, data) = encode_block(messages);
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        batch.insert(&self.topics, first.to_be_bytes(), topics);
        batch.insert(&self.messages, first.to_be_bytes(), data);
        batch.commit().unwrap();
        self.oldest.push_back(first);
    }
    fn delete_below(&mut self, below: u64) {
        let mut batch = self.database.batch();
        while let Some(&first) = self.oldest.front() {
            if first >= below {
                break;
            }
            self.oldest.pop_front();
            batch.remove_weak(&self.messages, first.to_be_bytes());
            batch.remove_weak(&self.topics, first.to_be_bytes());
        }
        batch.commit().unwrap();
    }
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize {
        let mut found = 0;
        for guard in self.topics.iter().rev() {
            let (first, topics) = guard.into_inner().unwrap();
            if topics_of(&topics).any(|t| t == topic) {
                let data = self.messages.get(first).unwrap().unwrap();
                found += decode_block(&data).filter(|(t, _)| *t == topic).count();
                if found >= limit {
                    break;
                }
            }
        }
        found
    }
    fn scan(&mut self, from: u64, limit: usize) -> usize {
        let mut found = 0;
        for guard in self.messages.range(from.to_be_bytes()..) {
            found += decode_block(&guard.value().unwrap()).count();
            if found >= limit {
                break;
            }
        }
        found
    }
}

const SEGMENT: u64 = 8 << 20;

/// The floor: records with a checksum appended to files of 8 MiB, whole files deleted.
struct Log {
    directory: PathBuf,
    file: File,
    at: u64,
    number: u64,
    index: VecDeque<(u64, u64, u64, u32)>,
}

impl Log {
    fn open(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            file: segment(directory, 0),
            at: 0,
            number: 0,
            index: VecDeque::new(),
        }
    }
    fn read(&self, entry: (u64, u64, u64, u32)) -> Vec<u8> {
        let file = segment(&self.directory, entry.1);
        let mut data = vec![0; entry.3 as usize];
        file.read_exact_at(&mut data, entry.2).unwrap();
        data
    }
}

fn segment(directory: &Path, number: u64) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(directory.join(format!("{number:08}.log")))
        .unwrap()
}

impl Engine for Log {
    fn commit(&mut self, first: u64, messages: &[Message]) {
        if self.at > SEGMENT {
            self.number += 1;
            self.at = 0;
            self.file = segment(&self.directory, self.number);
        }
        let (_, data) = encode_block(messages);
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend_from_slice(&first.to_le_bytes());
        record.extend_from_slice(&(data.len() as u32).to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(&data).to_le_bytes());
        record.extend_from_slice(&data);
        self.file.write_all(&record).unwrap();
        self.file.sync_data().unwrap();
        self.index.push_back((first, self.number, self.at + 16, data.len() as u32));
        self.at += record.len() as u64;
    }
    fn delete_below(&mut self, below: u64) {
        while let Some(&(first, number, ..)) = self.index.front() {
            if first >= below {
                break;
            }
            self.index.pop_front();
            if self.index.front().is_some_and(|next| next.1 != number) {
                std::fs::remove_file(self.directory.join(format!("{number:08}.log"))).unwrap();
            }
        }
    }
    fn last_of_topic(&mut self, topic: u32, limit: usize) -> usize {
        let mut found = 0;
        for entry in self.index.iter().rev() {
            found += decode_block(&self.read(*entry)).filter(|(t, _)| *t == topic).count();
            if found >= limit {
                break;
            }
        }
        found
    }
    fn scan(&mut self, from: u64, limit: usize) -> usize {
        let mut found = 0;
        for entry in self.index.iter().filter(|e| e.0 >= from) {
            found += decode_block(&self.read(*entry)).count();
            if found >= limit {
                break;
            }
        }
        found
    }
}
