//! The thread that writes: group commit, retention, and what to do on a full disk.
//! In: batches from the queue. Out: durable blocks, receipts, the tail, the latest sequence.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::directory::{self, Files};
use super::plan::Plan;
use super::queue::{Item, Woken};
use super::retention::{self, Limits};
use super::{Config, Shared, Status, StoreError, cursors};

/// How often age is looked at, and how long an idle writer sleeps.
const AGE_EVERY: Duration = Duration::from_secs(5);
/// On a full disk: the pause before the next attempt.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// And the free pages that an attempt gives back to the file system: so often so many, as each may be
/// written to the log before.
const FULL_ROUNDS: u32 = 16;
const FULL_PAGES: u32 = 128;
/// Batches after which the latest messages' sequences are saved; bounds the work of the next start.
const FLUSH_BATCHES: u32 = 1_024;
/// Room for SQLite's log and the reserve inside `--retain-bytes`.
const OVERHEAD: u64 = 8 << 20;

/// What the writer begins with.
pub struct Start {
    /// Locked for as long as it lives.
    pub lock: File,
    /// To write with.
    pub connection: Connection,
    /// The next sequence.
    pub next: u64,
    /// The latest time of all messages.
    pub time_high: i64,
}

struct Writer {
    _lock: File,
    connection: Connection,
    files: Files,
    config: Config,
    shared: Arc<Shared>,
    next: u64,
    time_high: i64,
    unflushed: u32,
    /// Bytes written since the size was looked at.
    grown: u64,
    oldest: Option<(u64, i64)>,
    aged: Instant,
}

/// Starts the thread.
pub fn spawn(
    start: Start,
    config: Config,
    shared: Arc<Shared>,
) -> Result<JoinHandle<()>, StoreError> {
    let oldest = retention::oldest(&start.connection)?;
    let writer = Writer {
        _lock: start.lock,
        connection: start.connection,
        files: Files::new(&config.directory),
        config,
        shared,
        next: start.next,
        time_high: start.time_high,
        unflushed: 0,
        grown: 0,
        oldest,
        aged: Instant::now(),
    };
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| StoreError::Io(format!("cannot start a thread: {error}")))
}

impl Writer {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let end = match self.work() {
            Ok(()) => Status::Closed,
            Err(error) => {
                tracing::error!(%error, "the store failed");
                if let StoreError::Damaged(reason) = &error {
                    directory::mark_damaged(&self.config.directory, reason);
                }
                Status::Failed(error)
            }
        };
        drop(self);
        shared.queue.close();
        // What is left was never acknowledged: the MQTT server sends it again.
        while let Woken::Batch(_) = shared.queue.next(Duration::ZERO) {}
        shared.status.send_replace(end);
    }

    fn work(&mut self) -> Result<(), StoreError> {
        if !directory::take_reserve(&self.config.directory) {
            tracing::warn!("no room for the store's reserve");
        }
        self.observe()?;
        loop {
            match self.shared.queue.next(AGE_EVERY) {
                Woken::Batch(items) => self.commit(items)?,
                Woken::Idle => {}
                Woken::Closed => break,
            }
            if self.is_due() {
                self.retain_or_wait()?;
            }
        }
        self.flush()?;
        // The log is written back when the last connection closes; failing that, at the next start.
        let _ = self
            .connection
            .execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
        Ok(())
    }

    fn commit(&mut self, items: Vec<Item>) -> Result<(), StoreError> {
        let mut catalog = self.shared.catalog_mut();
        let mut plan = Plan::new(items, self.next, &mut catalog);
        drop(catalog);
        plan.take_cursors(&self.shared.cursors());
        self.shared.metrics.repeated.inc_by(plan.repeated);
        self.shared.metrics.unnumbered.inc_by(plan.unnumbered);
        for (sequence, topic, payload) in &plan.observed {
            (self.config.observer)(*sequence, topic, payload);
        }
        if !plan.is_empty() {
            while let Err(error) = self.write(&plan) {
                self.wait_for_room(error)?;
                if self.shared.queue.is_closed() {
                    // Nothing of it was acknowledged; it comes again.
                    return Ok(());
                }
            }
            self.set_ready();
            // Nothing is acknowledged that would be gone at the next start.
            self.files.check()?;
        }
        self.applied(plan);
        Ok(())
    }

    fn write(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let started = Instant::now();
        let catalog = self.shared.catalog();
        let transaction = self.connection.transaction()?;
        plan.write(&transaction, &catalog, self.time_high)?;
        drop(catalog);
        transaction.commit()?;
        self.shared.metrics.commits.inc();
        let seconds = started.elapsed().as_secs_f64();
        self.shared.metrics.commit_seconds.observe(seconds);
        Ok(())
    }

    /// After a commit: memory, streams, receipts.
    fn applied(&mut self, plan: Plan) {
        plan.apply(&mut self.shared.catalog_mut(), &mut self.shared.cursors());
        for block in &plan.blocks {
            if self.oldest.is_none() {
                self.oldest = Some((block.first, block.time_max));
                self.shared.oldest.store(block.first, Ordering::Release);
            }
            self.next = block.last + 1;
            self.time_high = self.time_high.max(block.time_max);
            self.grown += u64::try_from(block.data.len()).unwrap_or(u64::MAX);
            let tail = self.shared.tail.lock();
            tail.unwrap_or_else(PoisonError::into_inner)
                .push(Arc::clone(block));
            let stored = block.last - block.first + 1;
            self.shared.metrics.messages.inc_by(stored);
        }
        if let Some(block) = plan.blocks.last() {
            self.unflushed += 1;
            self.shared.committed.send_replace(block.last);
        }
        plan.finish();
    }

    fn is_due(&self) -> bool {
        self.unflushed >= FLUSH_BATCHES
            || self.aged.elapsed() >= AGE_EVERY
            || self.grown >= self.size_limit() / 64
    }

    fn size_limit(&self) -> u64 {
        let room = self.config.retain_bytes;
        room - OVERHEAD.min(room / 4)
    }

    fn excess(&self) -> Result<u64, StoreError> {
        let (used, _) = retention::usage(&self.connection)?;
        let limit = self.size_limit();
        // A little more than needed, so that it is not due again at once.
        let excess = used.saturating_sub(limit);
        Ok(if excess == 0 { 0 } else { excess + limit / 64 })
    }

    fn retain_or_wait(&mut self) -> Result<(), StoreError> {
        while let Err(error) = self.retain() {
            self.wait_for_room(error)?;
            if self.shared.queue.is_closed() {
                return Ok(());
            }
        }
        self.set_ready();
        Ok(())
    }

    fn retain(&mut self) -> Result<(), StoreError> {
        if self.unflushed >= FLUSH_BATCHES {
            self.flush()?;
        }
        self.files.check()?;
        self.aged = Instant::now();
        self.grown = 0;
        let kept_for = i64::try_from(self.config.retain_for.as_nanos()).unwrap_or(i64::MAX);
        let before = (self.config.clock)().saturating_sub(kept_for);
        let excess = self.excess()?;
        if excess > 0 || self.oldest.is_none_or(|(_, time)| time < before) {
            self.pass(before, excess)?;
        }
        retention::shrink(&self.connection)?;
        self.observe()
    }

    fn pass(&mut self, before: i64, excess: u64) -> Result<(), StoreError> {
        let limits = Limits {
            before,
            excess,
            next: self.next,
            time_high: self.time_high,
            sent: self.shared.cursors().sent(),
        };
        // Saved with the deletion: what a sink has sent is never taken for lost by its next run.
        let cursors = self.shared.cursors().unsaved();
        let catalog = self.shared.catalog();
        let outcome = retention::pass(&mut self.connection, &catalog, limits, &cursors)?;
        drop(catalog);
        self.shared.cursors().saved(&cursors);
        outcome.apply(&mut self.shared.catalog_mut());
        self.shared.metrics.expired.inc_by(outcome.messages);
        self.oldest = retention::oldest(&self.connection)?;
        let oldest = self.oldest.map_or(self.next, |(first, _)| first);
        self.shared.oldest.store(oldest, Ordering::Release);
        if outcome.more {
            // The next batch is taken first, then the next pass.
            self.aged = self.aged.checked_sub(AGE_EVERY).unwrap_or(self.aged);
        }
        Ok(())
    }

    /// Saves the latest messages' sequences.
    fn flush(&mut self) -> Result<(), StoreError> {
        let cursors = self.shared.cursors().unsaved();
        if self.unflushed == 0 && cursors.is_empty() {
            return Ok(());
        }
        let mut catalog = self.shared.catalog_mut();
        let transaction = self.connection.transaction()?;
        {
            let sql = "UPDATE topics SET last=?2, last_time=?3 WHERE number=?1";
            let mut update = transaction.prepare_cached(sql)?;
            for (number, topic) in catalog.all().filter(|(_, topic)| topic.dirty) {
                update.execute((number, topic.last, topic.last_time))?;
            }
            let sql = "UPDATE meta SET value=? WHERE key='flushed'";
            transaction.prepare_cached(sql)?.execute([self.next - 1])?;
            cursors::write(&transaction, &cursors)?;
        }
        transaction.commit()?;
        self.shared.cursors().saved(&cursors);
        catalog.all_mut().for_each(|(_, topic)| topic.dirty = false);
        self.unflushed = 0;
        Ok(())
    }

    /// On a full disk: says so, deletes what is due with the help of the reserve, waits. Other errors pass through.
    fn wait_for_room(&mut self, error: StoreError) -> Result<(), StoreError> {
        let StoreError::Full(reason) = error else {
            return Err(error);
        };
        let full = Status::Full(reason);
        if *self.shared.status.borrow() != full {
            tracing::error!(status = ?full, "the disk is full, nothing is acknowledged until there is room");
            self.shared.status.send_replace(full);
        }
        directory::release_reserve(&self.config.directory);
        // The reserve goes to the database first: if the log took it, there might be none to write it back.
        self.write_log_back();
        match self.retain() {
            Ok(()) | Err(StoreError::Full(_)) => {}
            Err(other) => return Err(other),
        }
        match self.give_back() {
            Ok(()) | Err(StoreError::Full(_)) => {}
            Err(other) => return Err(other),
        }
        directory::take_reserve(&self.config.directory);
        if !self.shared.queue.is_closed() {
            std::thread::sleep(FULL_PAUSE);
        }
        Ok(())
    }

    /// On a full disk: the log needs room for a whole batch, which free pages of the database do not give it.
    fn give_back(&self) -> Result<(), StoreError> {
        for _ in 0..FULL_ROUNDS {
            self.write_log_back();
            if !retention::give_back(&self.connection, FULL_PAGES)? {
                break;
            }
        }
        self.write_log_back();
        Ok(())
    }

    /// Written back, the log's room can be used again. It fails as long as there is none.
    fn write_log_back(&self) {
        let _ = self
            .connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    fn set_ready(&self) {
        let ready = self.shared.status.send_if_modified(|status| {
            let was_full = matches!(status, Status::Full(_));
            if was_full {
                *status = Status::Ready;
            }
            was_full
        });
        if ready {
            directory::take_reserve(&self.config.directory);
            tracing::info!("there is room on the disk again");
        }
    }

    fn observe(&self) -> Result<(), StoreError> {
        let bytes = directory::size(&self.config.directory);
        let metrics = &self.shared.metrics;
        metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let age = self
            .oldest
            .map_or(0, |(_, time)| (self.config.clock)().saturating_sub(time));
        metrics.oldest_seconds.set(age / 1_000_000_000);
        Ok(())
    }
}
