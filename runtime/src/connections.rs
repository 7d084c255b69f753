//! How many connections there are, and which of them has to go for a new one. In: connections, and the beginning and end of
//! their requests. Out: room, made by ending the connection that has been without a request for the longest time.
//! A connection with an open request or stream is never ended for another one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shutdown::Shutdown;

/// The connections of a listener.
#[derive(Clone)]
pub(crate) struct Connections {
    slots: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

/// Connections without a request, the oldest first.
#[derive(Default)]
struct Idle {
    waiting: BTreeMap<u64, Shutdown>,
    next: u64,
    /// A new connection waits for the first one that becomes idle.
    wanted: bool,
}

impl Connections {
    /// At most `most` at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(most)),
            idle: Arc::default(),
        }
    }

    /// Waits for room for one more, and makes it if it can.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        {
            let mut idle = lock(&self.idle);
            match idle.waiting.pop_first() {
                Some((_, oldest)) => oldest.trigger(),
                None => idle.wanted = true,
            }
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        lock(&self.idle).wanted = false;
        slot
    }

    /// A new connection, which is idle until its first request.
    pub(crate) fn enter(&self) -> Activity {
        let activity = Activity(Arc::new(Shared {
            idle: Arc::clone(&self.idle),
            state: Mutex::default(),
            leave: Shutdown::new(),
        }));
        activity.0.rest(&mut lock(&activity.0.state));
        activity
    }
}

/// Whether one connection is in use; clones share it.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Shared>);

struct Shared {
    idle: Arc<Mutex<Idle>>,
    state: Mutex<State>,
    leave: Shutdown,
}

#[derive(Default)]
struct State {
    requests: usize,
    place: Option<u64>,
}

impl Activity {
    /// A request begins; it ends when the answer is dropped.
    pub(crate) fn begin(&self) -> Busy {
        let mut state = lock(&self.0.state);
        state.requests += 1;
        self.0.leave_idle(&mut state);
        drop(state);
        Busy(Arc::clone(&self.0))
    }

    /// Returns when another connection needs the room.
    pub(crate) async fn leaving(&self) {
        self.0.leave.triggered().await;
    }
}

impl Shared {
    fn rest(&self, state: &mut State) {
        let mut idle = lock(&self.idle);
        if std::mem::take(&mut idle.wanted) {
            self.leave.trigger();
            return;
        }
        let place = idle.next;
        idle.next += 1;
        idle.waiting.insert(place, self.leave.clone());
        state.place = Some(place);
    }

    fn leave_idle(&self, state: &mut State) {
        if let Some(place) = state.place.take() {
            lock(&self.idle).waiting.remove(&place);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *lock(&self.state));
        self.leave_idle(&mut state);
    }
}

/// A request that is being answered.
pub(crate) struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            self.0.rest(&mut state);
        }
    }
}

/// Nothing in here can panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn enter(connections: &Connections) -> (OwnedSemaphorePermit, Activity) {
        let slot = connections.room().await.unwrap();
        (slot, connections.enter())
    }

    fn is_leaving(activity: &Activity) -> bool {
        activity.0.leave.is_triggered()
    }

    #[tokio::test]
    async fn the_connection_that_was_idle_longest_goes_for_a_new_one() {
        let connections = Connections::new(3);
        let (first_slot, first) = enter(&connections).await;
        let (_second_slot, second) = enter(&connections).await;
        let (_third_slot, third) = enter(&connections).await;
        // It was in use later than the second.
        drop(third.begin());
        let _stream = first.begin();
        let waiting = connections.clone();
        let newcomer = tokio::spawn(async move { waiting.room().await.is_some() });
        second.leaving().await;
        assert!(!is_leaving(&first) && !is_leaving(&third));
        drop(first_slot);
        assert!(newcomer.await.unwrap());
    }

    #[tokio::test]
    async fn who_is_in_use_stays_and_the_first_that_is_not_goes() {
        let connections = Connections::new(1);
        let (slot, only) = enter(&connections).await;
        let request = only.begin();
        let waiting = connections.clone();
        let newcomer = tokio::spawn(async move { waiting.room().await.is_some() });
        while !lock(&connections.idle).wanted {
            tokio::task::yield_now().await;
        }
        assert!(!is_leaving(&only));
        drop(request);
        assert!(is_leaving(&only));
        drop((slot, only));
        assert!(newcomer.await.unwrap());
        assert!(lock(&connections.idle).waiting.is_empty());
    }
}
