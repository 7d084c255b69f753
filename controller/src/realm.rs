//! What all parts of one reign share: the world, what plans remember, and what is to be looked at.
//! In: answers to our own requests. Out: a world that has them, and keys in the queues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{ConfigurationKey, ObjectRef};
use crate::plan::Memory;
use crate::queue::{Backoff, Queue};
use crate::world::{Key, Seen, World};

/// Of keys whose actions fail. A quota that refuses ten thousand pods then costs 35 requests a second;
/// an API server that is away and comes back finds all that waits for it within seconds.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(200),
    cap: Duration::from_secs(300),
    short_cap: Duration::from_secs(3),
};

/// Shared by all parts of one reign.
#[derive(Debug)]
pub struct Realm {
    /// What the cluster has.
    pub world: Arc<Mutex<World>>,
    /// What is to be looked at.
    pub queue: Arc<Queue<Key>>,
    /// Whose status may have changed.
    pub statuses: Queue<ConfigurationKey>,
    memory: Mutex<Memory>,
}

impl Default for Realm {
    fn default() -> Self {
        Self {
            world: Arc::default(),
            queue: Arc::new(Queue::new(BACKOFF, rand::random)),
            statuses: Queue::new(BACKOFF, rand::random),
            memory: Mutex::default(),
        }
    }
}

impl Realm {
    /// The world. Whoever wants the memory too takes the world first.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // Nothing that runs under the lock panics on outside data.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What plans remember.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        // As above; and a memory may be lost at any time.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer shows an object.
    pub fn learn<S: Seen>(&self, answer: S) {
        if let Some(object) = answer.read() {
            let keys = self.world().put::<S>(object);
            self.enqueue(&keys);
        }
    }

    /// An answer shows that an object is gone.
    pub fn gone<S: Seen>(&self, target: &ObjectRef) {
        let keys =
            self.world()
                .remove::<S>(&target.namespace, &target.name, (&target.uid, u64::MAX));
        self.enqueue(&keys);
    }

    fn enqueue(&self, keys: &[Key]) {
        for key in keys {
            self.queue.add(key);
        }
    }
}
