//! How often something may be done: a token bucket. In: requests for a token. Out: when there is one.
//! Those who wait are served in the order in which they came. What a token allows is up to the caller.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Tokens come at a steady rate and are kept up to a burst.
#[derive(Debug)]
pub struct Limiter {
    /// Time between two tokens.
    every: Duration,
    /// How far ahead of the steady rate callers may be.
    slack: Duration,
    /// When the bucket would be full again if nothing was taken any more.
    full_at: Mutex<Instant>,
}

impl Limiter {
    /// `per_second` tokens a second (at least one), of which `burst` are kept while nobody asks.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let every = Duration::from_secs(1) / per_second.max(1);
        Self {
            every,
            slack: every.saturating_mul(burst.max(1)),
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// Waits for a token and takes it. One who stops waiting loses the token that was kept for it.
    pub async fn take(&self) {
        let now = Instant::now();
        let due = self.reserve(now);
        if due > now {
            sleep_until(due).await;
        }
    }

    /// Takes a token if there is one now.
    pub fn try_take(&self) -> bool {
        let now = Instant::now();
        let mut full_at = self.lock();
        let next = (*full_at).max(now) + self.every;
        let there = next <= now + self.slack;
        if there {
            *full_at = next;
        }
        there
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut full_at = self.lock();
        *full_at = (*full_at).max(now) + self.every;
        full_at
            .checked_sub(self.slack)
            .map_or(now, |due| due.max(now))
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        // One value is replaced at a time: a panic elsewhere leaves nothing half-done.
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn burst_goes_at_once_and_the_rest_at_the_rate() {
        let limiter = Limiter::new(10, 5);
        let start = Instant::now();
        for _ in 0..5 {
            limiter.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            limiter.take().await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(took < Duration::from_millis(2_010), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_fills_up_to_its_burst_and_no_further() {
        let limiter = Limiter::new(10, 3);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let taken = (0..10).filter(|_| limiter.try_take()).count();
        assert_eq!(taken, 3);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(limiter.try_take());
        assert!(!limiter.try_take());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_order() {
        let limiter = std::sync::Arc::new(Limiter::new(1, 1));
        let order = std::sync::Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for index in 0..4 {
            let (limiter, order) = (limiter.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                limiter.take().await;
                order.lock().unwrap().push(index);
            }));
            tokio::task::yield_now().await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }
}
