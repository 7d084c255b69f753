//! The caller's side of a session.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{Ack, Credentials, Options, Publish, SessionError, SessionState, Status, Subscription};

pub use crate::queue::Events;

/// Steers a session; clones steer the same one.
#[derive(Clone)]
pub struct Handle {
    _private: (),
}

/// Starts a session as one tokio task. A change of the credentials reconnects it and loses nothing.
pub fn start(
    options: Options,
    credentials: watch::Receiver<Credentials>,
    state: Arc<dyn SessionState>,
    wanted: Vec<Subscription>,
) -> (Handle, Events) {
    let _ = (&credentials, state, wanted);
    let (_producer, events) = crate::queue::channel(options.event_capacity, options.event_bytes);
    (Handle { _private: () }, events)
}

impl Handle {
    /// Replaces the wanted set; never blocks.
    pub fn subscribe(&self, wanted: Vec<Subscription>) {
        let _ = wanted;
    }

    /// PUBACK, or PUBREC for QoS 2; never blocks. An [`Ack`] of an older connection is ignored where the
    /// server will send the message again.
    pub fn acknowledge(&self, ack: Ack) {
        let _ = ack;
    }

    /// Publishes and returns after PUBACK or PUBCOMP (QoS 0: once it is handed to the connection).
    ///
    /// # Errors
    /// `NotConnected` at once when there is no connection; the cause when the connection ends meanwhile, in
    /// which case the message may or may not have arrived; `Publish` when the server refuses it.
    pub async fn publish(&self, publish: Publish) -> Result<(), SessionError> {
        let _ = publish;
        std::future::pending().await
    }

    /// PINGREQ now; `Event::Alive` follows.
    pub fn ping(&self) {}

    /// Connection state and counters.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        unreachable!("not yet")
    }

    /// DISCONNECT that keeps the session; returns when the session's task has ended, within five seconds.
    pub async fn close(&self) {}
}
