//! What is to be looked at: keys, each at most once, at most one at a time, later after failures.
//! In: keys that something has happened to, times at which to look again. Out: the next key.
//! There is at most one entry for each key, so that the queue is as long as there are objects.
//! What a key means and what is done about it is left to the callers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a key waits after failures: doubled with each one, spread by a quarter either way.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub cap: Duration,
    /// At most after [`Done::Interrupted`].
    pub short_cap: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row; `spread` is a random number from 0 to 1.
    #[must_use]
    pub fn wait(&self, failures: u32, spread: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let wait = self.first.saturating_mul(1 << doublings).min(self.cap);
        wait.mul_f64(0.75 + spread.clamp(0.0, 1.0) / 2.0)
    }
}

/// How a key's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing is left to be done, until something happens or until this time.
    Settled(Option<Instant>),
    /// There is more to do at once.
    More,
    /// What has happened or happens before this time is looked at then, and not before.
    Rest(Instant),
    /// It failed and is tried again after a back-off, or at this time if that is earlier.
    Failed(Option<Instant>),
    /// The same for a reason that may be over at any time: the back-off is short.
    Interrupted(Option<Instant>),
}

/// The queue. Cheap to share by reference; it has no task of its own.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    backoff: Backoff,
    random: fn() -> f64,
    told: Notify,
}

#[derive(Debug)]
struct State<K> {
    entries: HashMap<K, Entry>,
    ready: VecDeque<K>,
    later: BTreeSet<(Instant, K)>,
}

#[derive(Debug, Default)]
struct Entry {
    place: Place,
    failures: u32,
    /// What is to follow the present turn.
    again: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Known for its failures only, or about to be put somewhere.
    #[default]
    Nowhere,
    Ready,
    Later(Instant),
    Resting(Instant),
    Running,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// An empty queue; `random` gives numbers from 0 to 1.
    #[must_use]
    pub fn new(backoff: Backoff, random: fn() -> f64) -> Self {
        Self {
            state: Mutex::new(State {
                entries: HashMap::new(),
                ready: VecDeque::new(),
                later: BTreeSet::new(),
            }),
            backoff,
            random,
            told: Notify::new(),
        }
    }

    /// Something has happened to `key`: it is looked at as soon as possible, a back-off is cut short.
    /// While it is running, it is looked at once more afterwards.
    pub fn add(&self, key: &K) {
        if self.lock().add(key) {
            self.told.notify_one();
        }
    }

    /// The next key whose time has come. Each one that is taken must be given back by [`Queue::done`].
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.lock();
                state.ripen(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.told.notify_one();
                    }
                    return key;
                }
                state.later.first().map(|(due, _)| *due)
            };
            match due {
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.told.notified() => {}
                },
                None => self.told.notified().await,
            }
        }
    }

    /// Ends the turn of a key. A key that something has happened to meanwhile is ready at once,
    /// unless it failed.
    pub fn done(&self, key: &K, done: Done) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(key) else {
            return;
        };
        let again = std::mem::take(&mut entry.again);
        entry.failures = match done {
            Done::Failed(_) | Done::Interrupted(_) => entry.failures.saturating_add(1),
            Done::More | Done::Rest(_) | Done::Settled(_) => 0,
        };
        entry.place = Place::Nowhere;
        match done {
            Done::Failed(next) | Done::Interrupted(next) => {
                let mut wait = self.backoff.wait(entry.failures, (self.random)());
                if matches!(done, Done::Interrupted(_)) {
                    wait = wait.min(self.backoff.short_cap);
                }
                // What fails does not hold up what is due by the clock; nor is it tried without a pause.
                let next = next.map(|at| at.max(now + self.backoff.first));
                let at = now + wait;
                state.delay(key, next.map_or(at, |next| next.min(at)));
            }
            Done::Rest(until) => state.rest(key, until, again),
            _ if again => state.enqueue(key),
            Done::More => state.enqueue(key),
            Done::Settled(Some(at)) => state.delay(key, at),
            Done::Settled(None) => {
                state.entries.remove(key);
            }
        }
        drop(state);
        self.told.notify_one();
    }

    /// How many keys are to be looked at now, not counting those that are being looked at.
    #[must_use]
    pub fn ready(&self) -> usize {
        let mut state = self.lock();
        state.ripen(Instant::now());
        state.ready.len()
    }

    /// How many keys it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // No code of a caller runs under the lock, but `Hash`, `Ord` and `Clone` of the key.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn add(&mut self, key: &K) -> bool {
        let entry = self.entries.entry(key.clone()).or_default();
        match entry.place {
            Place::Ready => return false,
            Place::Running | Place::Resting(_) => {
                entry.again = true;
                return false;
            }
            Place::Later(due) => {
                self.later.remove(&(due, key.clone()));
            }
            Place::Nowhere => {}
        }
        self.enqueue(key);
        true
    }

    fn enqueue(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.place = Place::Ready;
            entry.again = false;
            self.ready.push_back(key.clone());
        }
    }

    fn delay(&mut self, key: &K, due: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.place = Place::Later(due);
            self.later.insert((due, key.clone()));
        }
    }

    fn rest(&mut self, key: &K, until: Instant, again: bool) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.place = Place::Resting(until);
            entry.again = again;
            self.later.insert((until, key.clone()));
        }
    }

    fn ripen(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.later.pop_first() else {
                return;
            };
            let rested = self
                .entries
                .get(&key)
                .is_some_and(|entry| matches!(entry.place, Place::Resting(_)) && !entry.again);
            if rested {
                self.entries.remove(&key);
            } else {
                self.enqueue(&key);
            }
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.place = Place::Running;
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(100),
        cap: Duration::from_secs(60),
        short_cap: Duration::from_secs(3),
    };

    fn queue() -> Queue<&'static str> {
        Queue::new(BACKOFF, || 0.5)
    }

    fn now(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn key_that_is_added_twice_is_looked_at_once() {
        let queue = queue();
        queue.add(&"a");
        queue.add(&"b");
        queue.add(&"a");
        assert_eq!(now(&queue), Some("a"));
        assert_eq!(now(&queue), Some("b"));
        assert_eq!(now(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn key_is_never_in_two_hands_and_runs_again_after_what_happened_meanwhile() {
        let queue = queue();
        queue.add(&"a");
        assert_eq!(now(&queue), Some("a"));
        queue.add(&"a");
        queue.add(&"a");
        assert_eq!(now(&queue), None);
        queue.done(&"a", Done::Settled(None));
        assert_eq!(now(&queue), Some("a"));
        queue.done(&"a", Done::Settled(None));
        assert_eq!(now(&queue), None);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_ever_longer_up_to_the_cap_and_success_forgets_them() {
        let queue = queue();
        queue.add(&"a");
        let mut waits = Vec::new();
        for _ in 0..12 {
            let start = Instant::now();
            assert_eq!(queue.next().await, "a");
            waits.push(start.elapsed().as_millis());
            queue.done(&"a", Done::Failed(None));
        }
        let expected = [
            0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000,
        ];
        for (wait, expected) in waits.iter().zip(expected) {
            assert!(wait.abs_diff(expected) <= 1, "{waits:?}");
        }
        assert_eq!(queue.next().await, "a");
        queue.done(&"a", Done::More);
        assert_eq!(now(&queue), Some("a"));
        queue.done(&"a", Done::Failed(None));
        let start = Instant::now();
        queue.next().await;
        assert!(start.elapsed() < Duration::from_millis(110));
    }

    #[tokio::test(start_paused = true)]
    async fn event_cuts_a_back_off_short_but_not_that_of_the_turn_it_fell_into() {
        let queue = queue();
        queue.add(&"a");
        assert_eq!(now(&queue), Some("a"));
        queue.add(&"a");
        queue.done(&"a", Done::Failed(None));
        assert_eq!(now(&queue), None);
        queue.add(&"a");
        assert_eq!(now(&queue), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn interruption_waits_for_a_short_time_however_often() {
        let queue = queue();
        queue.add(&"a");
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(queue.next().await, "a");
            assert!(start.elapsed() <= BACKOFF.short_cap + Duration::from_millis(1));
            queue.done(&"a", Done::Interrupted(None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_by_the_clock_is_not_put_off_by_failures_nor_tried_without_a_pause() {
        let queue = queue();
        queue.add(&"a");
        for _ in 0..12 {
            queue.next().await;
            let start = Instant::now();
            queue.done(&"a", Done::Failed(Some(start + Duration::from_secs(10))));
            assert_eq!(queue.next().await, "a");
            assert!(start.elapsed() <= Duration::from_millis(10_001));
            queue.done(&"a", Done::Failed(Some(start)));
        }
        let start = Instant::now();
        queue.next().await;
        assert!(start.elapsed() >= Duration::from_millis(99));
    }

    #[tokio::test(start_paused = true)]
    async fn settled_key_comes_back_at_its_time() {
        let queue = queue();
        queue.add(&"a");
        assert_eq!(now(&queue), Some("a"));
        let at = Instant::now() + Duration::from_secs(30);
        queue.done(&"a", Done::Settled(Some(at)));
        assert_eq!(now(&queue), None);
        assert_eq!(queue.next().await, "a");
        assert_eq!(Instant::now().duration_since(at).as_millis(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn resting_key_waits_for_its_time_and_comes_back_only_if_something_happened() {
        let queue = queue();
        for happened in [true, false] {
            queue.add(&"a");
            assert_eq!(now(&queue), Some("a"));
            let start = Instant::now();
            queue.done(&"a", Done::Rest(start + Duration::from_secs(1)));
            if happened {
                queue.add(&"a");
                assert_eq!(now(&queue), None);
                assert_eq!(queue.next().await, "a");
                assert!(start.elapsed() >= Duration::from_secs(1));
                queue.done(&"a", Done::Settled(None));
            }
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(now(&queue), None);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_woken_as_long_as_there_are_keys() {
        let queue = std::sync::Arc::new(queue());
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let queue = queue.clone();
            waiting.push(tokio::spawn(async move { queue.next().await }));
        }
        tokio::task::yield_now().await;
        for key in ["a", "b", "c"] {
            queue.add(&key);
        }
        let mut got = Vec::new();
        for task in waiting {
            got.push(task.await.unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, ["a", "b", "c"]);
    }

    #[test]
    fn wait_is_spread_by_a_quarter_either_way() {
        assert_eq!(BACKOFF.wait(1, 0.0), Duration::from_millis(75));
        assert_eq!(BACKOFF.wait(1, 1.0), Duration::from_millis(125));
        assert_eq!(BACKOFF.wait(u32::MAX, 0.5), BACKOFF.cap);
    }
}
