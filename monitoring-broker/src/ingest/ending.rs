//! How a session ends. In: the reason. Out: nothing left behind at the server when its devices went; a session
//! that goes on where it stood when another process takes it over, or this one starts again.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::Shutdown;
use akri_mqtt_session::{Event, SessionState as _};

use super::changes::record;
use super::task::{EVENTS, Task, now};
use crate::devices::State;
use crate::store::Status;

/// How long a session without devices waits for the answer to its last UNSUBSCRIBE.
const LEAVE: Duration = Duration::from_secs(2);

/// How long the commit of what was taken is waited for before a session ends that somebody goes on with. It is
/// not needed for safety: the server sends again what was not acknowledged.
const COMMIT: Duration = Duration::from_secs(1);

impl Task {
    /// Unsubscribes everything, so that the server queues nothing for a session that nobody reads. Waits for
    /// the answer, but not for a connection: without one, the next session with this client id does it, or the
    /// server when the session expires.
    pub(super) async fn leave(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        if !self.watched.is_empty() {
            // The monitor has gone, its devices have not.
            return Ok(());
        }
        self.parts.handle.subscribe(Vec::new());
        let limit = tokio::time::sleep(LEAVE);
        tokio::pin!(limit);
        let mut events = Vec::new();
        while self.connected && !self.parts.memory.subscriptions().is_empty() {
            tokio::select! {
                () = shutdown.triggered() => break,
                () = &mut limit => break,
                // `Subscribed` comes after the last answer; what else comes is nobody's and is acknowledged.
                count = self.parts.events.recv_many(&mut events, EVENTS) => {
                    if count == 0 {
                        break;
                    }
                    self.events(&mut events).await?;
                }
            }
        }
        if !self.parts.memory.subscriptions().is_empty() {
            tracing::warn!(server = %self.parts.server, "a session was left with its subscriptions");
        }
        Ok(())
    }

    /// Ends the session for another process that goes on with it: what was taken is committed and acknowledged,
    /// the subscriptions stay, and what is not acknowledged the server sends to the next one.
    pub(super) async fn hand_over(&mut self) -> anyhow::Result<()> {
        self.committed().await;
        let handle = Arc::clone(&self.parts.handle);
        self.parts.talk.end(&handle).await;
        while let Some(event) = self.parts.events.recv().await {
            // Of QoS 0: nobody sends it again. The rest would be stored twice, here and there.
            if let Event::Message(message) = event
                && message.ack.is_none()
            {
                self.message(message).await?;
                self.store().await?;
            }
        }
        let at = now().wall;
        let mut records = Vec::with_capacity(self.watched.len());
        for id in self.watched.keys() {
            let devices = &self.parts.devices;
            devices.set_watched(&id.as_str().into(), false);
            let changed = devices.set_presence(id.as_str(), |presence| {
                presence.state = State::Unknown;
                presence.since = at;
                presence.reason = "Another member of the pool watches it now.".to_owned();
                presence.server_connected = false;
            });
            records.extend(changed.map(|device| record(&device, false)).transpose()?);
        }
        self.parts.store.save_devices(records).await?;
        // The lock of the shard goes next: what the server believes to be ours must be on the disk.
        self.parts.store.sync().await?;
        Ok(())
    }

    /// Waits until what was taken is committed and its acknowledgements are on their way, or some time.
    pub(super) async fn committed(&mut self) {
        let store = &self.parts.store;
        let committed = async {
            if store.sync().await.is_err() {
                // It is being closed, and commits what it has.
                let mut status = store.status();
                let ended = |status: &Status| matches!(status, Status::Closed | Status::Failed(_));
                // An error says the same: it has gone.
                let _ = status.wait_for(ended).await;
            }
        };
        if tokio::time::timeout(COMMIT, committed).await.is_err() {
            tracing::warn!(server = %self.parts.server, "a session ends before its last messages are committed; they come again");
        }
    }
}
