//! When the roster of a request is written: one write at a time, not all the time. In: changes, and writes that have
//! begun. Out: when the next one is due. What is written is left to the request.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

/// Between two roster files: a burst of changes is one write.
const EVERY: Duration = Duration::from_millis(250);
/// After one that took long so many times as long: a million devices are not written all the time.
const REST: u32 = 10;
/// While a file is being written, to look again.
const SOON: Duration = Duration::from_millis(50);

/// The writes of one request.
#[derive(Debug)]
pub struct Saving {
    unsaved: bool,
    at: Instant,
    /// When the last one was begun.
    began: Instant,
    /// It says how long it took.
    running: Option<JoinHandle<Duration>>,
}

impl Saving {
    /// Nothing to write.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            unsaved: false,
            at: now,
            began: now,
            running: None,
        }
    }

    /// There is something to write.
    pub fn change(&mut self) {
        self.unsaved = true;
    }

    /// When to look again.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let is_free = self.running.as_ref().is_none_or(JoinHandle::is_finished);
        let at = if is_free { self.at } else { now + SOON };
        self.unsaved.then_some(at)
    }

    /// Whether a write is to begin now; then [`Saving::runs`] has to follow.
    pub fn begins(&mut self, now: Instant) -> bool {
        if self.due(now).is_none_or(|at| at > now) {
            return false;
        }
        let took = self.running.take().and_then(JoinHandle::now_or_never);
        // One that has died said so itself.
        let rest = took.and_then(Result::ok).unwrap_or_default() * REST;
        if now < self.began + rest {
            self.at = self.began + rest;
            return false;
        }
        self.unsaved = false;
        self.began = now;
        self.at = now + EVERY;
        true
    }

    /// A write has begun.
    pub fn runs(&mut self, write: JoinHandle<Duration>) {
        self.running = Some(write);
    }

    /// Waits for the write that runs.
    pub async fn finished(&mut self) {
        if let Some(running) = self.running.take() {
            // Its failure was logged by itself.
            let _ = running.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_write_that_took_long_the_next_one_waits_ten_times_as_long() {
        let now = Instant::now();
        let mut saving = Saving::new(now);
        assert!(!saving.begins(now), "nothing has changed");
        saving.change();
        assert!(saving.begins(now));
        saving.runs(tokio::spawn(async { Duration::from_secs(3) }));
        saving.change();
        while !saving.running.as_ref().is_some_and(JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        assert!(!saving.begins(now + Duration::from_secs(3)));
        let due = now + Duration::from_secs(30);
        assert_eq!(saving.due(now + Duration::from_secs(4)), Some(due));
        assert!(saving.begins(due));
    }

    #[tokio::test]
    async fn quick_writes_are_a_quarter_of_a_second_apart_and_never_two_at_a_time() {
        let now = Instant::now();
        let mut saving = Saving::new(now);
        saving.change();
        assert!(saving.begins(now));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        saving.runs(tokio::spawn(async move {
            let _ = ended.await;
            Duration::ZERO
        }));
        saving.change();
        let later = now + EVERY;
        assert!(!saving.begins(later), "the first one still runs");
        drop(end);
        while !saving.running.as_ref().is_some_and(JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        assert!(saving.begins(later));
    }
}
