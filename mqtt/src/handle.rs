//! The caller's side of a session.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use crate::{
    Ack, Credentials, ErrorKind, Options, Publish, Published, SessionError, SessionState, Status,
    Subscription,
    driver::{Control, PUBLISHES_WAITING, PublishRequest, Session, Stop},
};

pub use crate::queue::Events;

/// `close` waits this long for DISCONNECT to go out.
const CLOSE_LIMIT: Duration = Duration::from_secs(4);

/// Steers a session; clones steer the same one. The session ends with [`Handle::close`], or when its
/// [`Events`] are dropped.
#[derive(Clone)]
pub struct Handle {
    control: Arc<Control>,
    publishes: mpsc::Sender<PublishRequest>,
    status: watch::Receiver<Status>,
    task: AbortHandle,
}

/// Starts a session as one tokio task. A change of the credentials reconnects it and loses nothing.
pub fn start(
    options: Options,
    credentials: watch::Receiver<Credentials>,
    state: Arc<dyn SessionState>,
    wanted: Vec<Subscription>,
) -> (Handle, Events) {
    let (producer, events) = crate::queue::channel(options.event_capacity, options.event_bytes);
    let (publishes, requests) = mpsc::channel(PUBLISHES_WAITING);
    let control = Arc::new(Control::default());
    let (session, status) = Session::new(
        options,
        credentials,
        (state, wanted),
        (producer, requests),
        &control,
    );
    let task = tokio::spawn(session.run()).abort_handle();
    (
        Handle {
            control,
            publishes,
            status,
            task,
        },
        events,
    )
}

impl Handle {
    /// Replaces the wanted set; never blocks.
    pub fn subscribe(&self, wanted: Vec<Subscription>) {
        self.control.subscribe(wanted);
    }

    /// PUBACK, or PUBREC for QoS 2; never blocks. An [`Ack`] of an older connection is ignored where the
    /// server will send the message again.
    pub fn acknowledge(&self, ack: Ack) {
        self.acknowledge_all([ack]);
    }

    /// The same of several messages, which costs the session and the server little more than one.
    pub fn acknowledge_all(&self, acks: impl IntoIterator<Item = Ack>) {
        self.control.acknowledge(acks);
    }

    /// Publishes and returns after PUBACK or PUBCOMP (QoS 0: once it is handed to the connection).
    ///
    /// # Errors
    /// `NotConnected` at once when there is no connection; the cause when the connection ends meanwhile, in
    /// which case the message may or may not have arrived; `Publish`, `NotAuthorised` or `Quota` when the server
    /// refuses it. Dropped before the message was sent, nothing is sent.
    pub async fn publish(&self, publish: Publish) -> Result<Published, SessionError> {
        if !self.status.borrow().connected {
            return Err(not_connected());
        }
        let (reply, result) = oneshot::channel();
        let stopped = || SessionError::new(ErrorKind::Stopped, "the session was closed");
        self.publishes
            .send((publish, reply))
            .await
            .map_err(|_| stopped())?;
        result.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// PINGREQ now; `Event::Alive` follows. Without a connection nothing happens.
    pub fn ping(&self) {
        self.control.ping();
    }

    /// Connection state and counters.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// DISCONNECT that keeps the session; returns when the session's task has ended, within five seconds.
    pub async fn close(&self) {
        self.end(Stop::Quietly).await;
    }

    /// The same, but the server publishes our Last Will (MQTT 5.0, 3.14.2.1).
    pub async fn close_with_will(&self) {
        self.end(Stop::WithWill).await;
    }

    async fn end(&self, how: Stop) {
        self.control.stop(how);
        let mut status = self.status.clone();
        // The task owns the sender: it goes when the task ends.
        let ended = async { while status.changed().await.is_ok() {} };
        if tokio::time::timeout(CLOSE_LIMIT, ended).await.is_err() {
            self.task.abort();
        }
    }
}

pub(crate) fn not_connected() -> SessionError {
    SessionError::new(
        ErrorKind::NotConnected,
        "there is no connection to the MQTT server",
    )
}
