//! What must outlive a connection: the packet ids of QoS 2 messages and the filters the server holds.
//! [`MemoryState`] is for consumers whose messages need not outlive the process.

use std::{collections::BTreeSet, future::Future, io, pin::Pin, sync::Mutex};

use crate::QoS;

/// A boxed future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The memory of a session failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session's memory failed: {0}")]
pub struct StateError(pub String);

/// Durable memory of a session (invariant 6).
///
/// A packet id gets in when the consumer stores the message of QoS 2 that carries it, in one transaction.
/// It gets out by [`SessionState::release`], after which the server may use it for another message.
pub trait SessionState: Send + Sync + 'static {
    /// What the server's session may hold, also from an earlier process.
    fn subscriptions(&self) -> Vec<(String, QoS)>;
    /// Remembers what the server's session may hold.
    ///
    /// # Errors
    /// When it cannot be stored; the session logs it and goes on.
    fn set_subscriptions(&self, held: &[(String, QoS)]) -> io::Result<()>;
    /// Whether the message with this id was stored and its id not released.
    fn contains(&self, packet_id: u16) -> bool;
    /// PUBREL came: forget the id. Returns after the commit; only then does PUBCOMP go out. Unknown ids are fine.
    fn release(&self, packet_id: u16) -> BoxFuture<'_, Result<(), StateError>>;
    /// The server lost the session: forget all ids. Returns after the commit.
    fn clear(&self) -> BoxFuture<'_, Result<(), StateError>>;
}

/// Memory that lasts as long as the process.
#[derive(Debug, Default)]
pub struct MemoryState(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    held: Vec<(String, QoS)>,
    ids: BTreeSet<u16>,
}

impl MemoryState {
    /// An empty memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers the id of a stored QoS 2 message; call it before [`crate::Handle::acknowledge`].
    pub fn insert(&self, packet_id: u16) {
        self.lock().ids.insert(packet_id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl SessionState for MemoryState {
    fn subscriptions(&self) -> Vec<(String, QoS)> {
        self.lock().held.clone()
    }

    fn set_subscriptions(&self, held: &[(String, QoS)]) -> io::Result<()> {
        self.lock().held = held.to_vec();
        Ok(())
    }

    fn contains(&self, packet_id: u16) -> bool {
        self.lock().ids.contains(&packet_id)
    }

    fn release(&self, packet_id: u16) -> BoxFuture<'_, Result<(), StateError>> {
        self.lock().ids.remove(&packet_id);
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StateError>> {
        self.lock().ids.clear();
        Box::pin(std::future::ready(Ok(())))
    }
}
