//! What one transaction writes. In: a batch of items. Out: a plan that can be written again and again
//! until there is room on the disk, and that is applied to the memory after its commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{CachedStatement, Transaction};
use tokio::sync::oneshot;

use super::block::{Block, INLINE, Record};
use super::catalog::{Catalog, Numbered};
use super::cursors::{self, Cursors, Unsaved};
use super::queue::Item;
use super::session::PacketIds;
use super::{Arrival, Receipt};

/// A change of the packet ids of a session.
enum Packet {
    Insert(Arc<PacketIds>, u16),
    Remove(Arc<PacketIds>, u16),
    Clear(Arc<PacketIds>),
}

/// See the module.
#[derive(Default)]
pub struct Plan {
    /// The messages.
    pub blocks: Vec<Arc<Block>>,
    /// The last message that no later one of its topic can point at.
    unlinked: Option<u64>,
    /// Topics that were met for the first time.
    new_topics: BTreeSet<u32>,
    /// Topic, sequence and time of each message, in order.
    touched: Vec<(u32, u64, i64)>,
    /// Messages for the observer.
    pub observed: Vec<(u64, Arc<str>, Bytes)>,
    packets: Vec<Packet>,
    devices: Vec<(Arc<str>, String)>,
    save_cursors: bool,
    cursors: Unsaved,
    receipts: Vec<Receipt>,
    done: Vec<oneshot::Sender<()>>,
    /// Messages that were there already (QoS 2, sent again).
    pub repeated: u64,
    /// Messages whose topic found no room in the catalog.
    pub unnumbered: u64,
}

impl Plan {
    /// Gives each message its sequence, from `next` on, and leaves out what was stored before.
    pub fn new(items: Vec<Item>, next: u64, catalog: &mut Catalog) -> Self {
        let mut plan = Self::default();
        let mut records = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Message(arrival) => plan.message(arrival, next, &mut records, catalog),
                Item::Release(ids, packet, done) => {
                    if ids.taken().remove(&packet) {
                        plan.packets.push(Packet::Remove(ids, packet));
                    }
                    plan.done.push(done);
                }
                Item::Clear(ids, done) => {
                    ids.taken().clear();
                    plan.packets.push(Packet::Clear(ids));
                    plan.done.push(done);
                }
                Item::Devices(records) => plan.devices.extend(records),
                Item::Cursors => plan.save_cursors = true,
                Item::Sync(done) => plan.done.push(done),
            }
        }
        let blocks = Block::encode_all(next, &records).into_iter();
        plan.blocks = blocks.map(Arc::new).collect();
        plan
    }

    /// Takes the positions of the sinks, if the batch asks for it.
    pub fn take_cursors(&mut self, cursors: &Cursors) {
        if self.save_cursors {
            self.cursors = cursors.unsaved();
        }
    }

    fn message(
        &mut self,
        arrival: Arrival,
        next: u64,
        records: &mut Vec<Record>,
        catalog: &mut Catalog,
    ) {
        self.receipts.extend(arrival.receipt);
        if let Some((ids, packet)) = arrival.packet {
            if !ids.taken().insert(packet) {
                self.repeated += 1;
                return;
            }
            self.packets.push(Packet::Insert(ids, packet));
        }
        for home in arrival.place.homes() {
            let sequence = next.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
            let Numbered {
                number: topic,
                previous,
                is_new,
            } = catalog.number(home, arrival.place.topic(), sequence);
            if is_new {
                self.new_topics.insert(topic);
            }
            let inline = (topic == INLINE)
                .then(|| Box::new((home.device.to_string(), arrival.place.topic().to_string())));
            if inline.is_some() {
                self.unnumbered += 1;
                self.unlinked = Some(sequence);
            }
            self.touched.push((topic, sequence, arrival.time));
            if arrival.is_observed {
                let topic = Arc::clone(arrival.place.topic());
                self.observed
                    .push((sequence, topic, arrival.payload.clone()));
            }
            records.push(Record {
                topic,
                inline,
                previous,
                time: arrival.time,
                qos: arrival.qos,
                retained: arrival.retained,
                duplicate: arrival.duplicate,
                properties: arrival.properties.clone(),
                payload: arrival.payload.clone(),
            });
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
            && self.packets.is_empty()
            && self.devices.is_empty()
            && self.cursors.is_empty()
    }

    /// Writes everything. `time_high` is the latest time of this and all earlier messages.
    pub fn write(
        &self,
        transaction: &Transaction<'_>,
        catalog: &Catalog,
        time_high: i64,
    ) -> rusqlite::Result<()> {
        self.write_topics(transaction, catalog)?;
        let mut time_high = time_high;
        for block in &self.blocks {
            time_high = time_high.max(block.time_max);
            let sql = "INSERT INTO blocks(first, last, time_min, time_max, time_high, topics, data)
                       VALUES(?, ?, ?, ?, ?, ?, ?)";
            transaction.prepare_cached(sql)?.execute((
                block.first,
                block.last,
                block.time_min,
                block.time_max,
                time_high,
                block.encoded_topics(),
                block.data.as_ref(),
            ))?;
        }
        if let Some(sequence) = self.unlinked {
            let sql = "UPDATE meta SET value=? WHERE key='unlinked'";
            transaction.prepare_cached(sql)?.execute([sequence])?;
        }
        self.write_packets(transaction)?;
        cursors::write(transaction, &self.cursors)?;
        for (id, record) in &self.devices {
            let sql = "INSERT INTO devices(id, record) VALUES(?, ?)
                       ON CONFLICT DO UPDATE SET record=excluded.record";
            transaction.prepare_cached(sql)?.execute((id, record))?;
        }
        Ok(())
    }

    fn write_topics(
        &self,
        transaction: &Transaction<'_>,
        catalog: &Catalog,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO topics(number, device, name, last, last_time) VALUES(?, ?, ?, 0, 0)";
        for number in &self.new_topics {
            if let Some(topic) = catalog.get(*number) {
                let row = (number, &topic.device, &topic.name);
                transaction.prepare_cached(sql)?.execute(row)?;
            }
        }
        for (number, ..) in &self.touched {
            if catalog.get(*number).is_some_and(|topic| topic.kept) {
                let sql = "DELETE FROM kept WHERE topic=?";
                transaction.prepare_cached(sql)?.execute([number])?;
            }
        }
        Ok(())
    }

    fn write_packets(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let prepare =
            |sql| -> rusqlite::Result<CachedStatement<'_>> { transaction.prepare_cached(sql) };
        for packet in &self.packets {
            match packet {
                Packet::Insert(ids, packet) => {
                    prepare("INSERT OR IGNORE INTO packets(session, packet) VALUES(?, ?)")?
                        .execute((ids.key(), packet))?;
                }
                Packet::Remove(ids, packet) => {
                    prepare("DELETE FROM packets WHERE session=? AND packet=?")?
                        .execute((ids.key(), packet))?;
                }
                Packet::Clear(ids) => {
                    prepare("DELETE FROM packets WHERE session=?")?.execute([ids.key()])?;
                }
            }
        }
        Ok(())
    }

    /// Brings the memory to what was committed.
    pub fn apply(&self, catalog: &mut Catalog, cursors: &mut Cursors) {
        cursors.saved(&self.cursors);
        catalog.unlinked = self.unlinked.unwrap_or(catalog.unlinked);
        for (number, sequence, time) in &self.touched {
            if let Some(topic) = catalog.get_mut(*number) {
                topic.last = *sequence;
                topic.last_time = *time;
                topic.kept = false;
                topic.dirty = true;
            }
        }
        for packet in &self.packets {
            match packet {
                Packet::Insert(ids, packet) => {
                    ids.committed().insert(*packet);
                }
                Packet::Remove(ids, packet) => {
                    ids.committed().remove(packet);
                }
                Packet::Clear(ids) => ids.committed().clear(),
            }
        }
    }

    /// Tells everyone who waits that it is durable. Returns how many messages are acknowledged by that.
    pub fn finish(self) -> usize {
        let acknowledged = self.receipts.len();
        let same = |one: &Receipt, next: &Receipt| Arc::ptr_eq(&one.to, &next.to);
        for receipts in self.receipts.chunk_by(same) {
            let numbers: Vec<_> = receipts.iter().map(|receipt| receipt.number).collect();
            if let Some(receipt) = receipts.first() {
                receipt.to.committed(&numbers);
            }
        }
        for done in self.done {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
        acknowledged
    }
}
