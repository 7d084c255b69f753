//! The sessions of a monitor: which device is in which, and which are ending. In: sessions that were opened, devices
//! that come and go. Out: their tasks told of it. What a session does is `ingest`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_session::Handle;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::MonitorError;
use crate::ingest::Command;

/// How long the end of a session is waited for: its last UNSUBSCRIBE, and DISCONNECT.
const SESSION_END: Duration = Duration::from_secs(7);

/// How long a session that is handed over may take once that is urgent, until its connection is closed all the same:
/// others wait 2 s longer for a member that has lapsed than it does itself, whatever its disk does.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Ends once others may take a shard, whatever this process does.
pub(super) type Urgent = Shared<BoxFuture<'static, ()>>;

/// One whose task runs.
pub(super) struct Session {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) devices: usize,
    pub(super) end: End,
}

/// How the end of a session is brought about and seen.
pub(super) struct End {
    /// That of its shard in a pool.
    pub(super) instance: Option<String>,
    pub(super) handle: Arc<Handle>,
    /// Cancelled once its task has ended.
    pub(super) ended: CancellationToken,
}

/// See the module.
#[derive(Default)]
pub(super) struct Sessions {
    by_key: HashMap<String, Session>,
    by_device: HashMap<DeviceId, String>,
    /// Those whose last device went, until they have ended.
    ending: HashMap<String, End>,
}

impl End {
    /// Leaves the session to another process. Returns once nothing of it is left in this one.
    async fn hand_over(self, commands: Option<mpsc::Sender<Command>>, urgent: Urgent) {
        let in_order = async {
            if let Some(commands) = &commands {
                // One that has ended has nothing to hand over.
                let _ = commands.send(Command::HandOver).await;
            }
            self.ended.cancelled().await;
        };
        let too_late = async {
            urgent.await;
            sleep(HAND_OVER).await;
        };
        tokio::pin!(in_order);
        tokio::select! {
            () = &mut in_order => return,
            () = too_late => {}
        }
        tracing::warn!("a session is closed whose task waits for the store or for the server");
        // What was not acknowledged comes again, with whoever goes on with the session.
        self.handle.close_with_will().await;
        // Without a limit: what is to be stored must be on the disk before this process gives the shard back. Its task
        // is still told: it must not store what the session left in its queue without an acknowledgement.
        in_order.await;
    }
}

impl Sessions {
    /// The session of a device.
    pub(super) fn of(&self, device: &DeviceId) -> Option<&String> {
        self.by_device.get(device)
    }

    /// Whether there is one, so that it needs not be opened.
    pub(super) fn has(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// A session that was opened with devices.
    pub(super) fn open(&mut self, key: String, mut session: Session, devices: Vec<DeviceId>) {
        for device in devices {
            let before = self.by_device.insert(device, key.clone());
            session.devices += usize::from(before.is_none());
        }
        self.by_key.insert(key, session);
    }

    /// Tells a session of a device that it has, or is to have. Nothing is half done when this is dropped.
    pub(super) async fn add(&mut self, key: &str, device: DeviceSpec) -> Result<(), MonitorError> {
        let id = device.id.clone();
        let Some(session) = self.by_key.get_mut(key) else {
            return Err(MonitorError::Ended(id));
        };
        let sent = session.commands.send(Command::Add(Arc::new(device))).await;
        sent.map_err(|_| MonitorError::Ended(id.clone()))?;
        let before = self.by_device.insert(id, key.to_owned());
        session.devices += usize::from(before.is_none());
        Ok(())
    }

    /// Tells its session that a device goes. With its last one a session ends.
    pub(super) async fn remove(&mut self, device: &DeviceId) {
        let Some(key) = self.by_device.remove(device) else {
            return;
        };
        let Some(session) = self.by_key.get_mut(&key) else {
            return;
        };
        // A session that has ended has already forgotten it.
        let _ = session.commands.send(Command::Remove(device.clone())).await;
        session.devices = session.devices.saturating_sub(1);
        if session.devices == 0
            && let Some(session) = self.by_key.remove(&key)
        {
            self.ending.retain(|_, end| !end.ended.is_cancelled());
            // Its task ends once the channel is empty and closed: the command above is still done.
            self.ending.insert(key, session.end);
        }
    }

    /// Waits for the end of a session whose last device went: the next one has the same client id.
    pub(super) async fn ended(&mut self, key: &str) {
        if let Some(end) = self.ending.get(key) {
            let _ = timeout(SESSION_END, end.ended.cancelled()).await;
            self.ending.remove(key);
        }
    }

    /// Takes the sessions of a shard out. Out: what hands each of them over.
    pub(super) fn take(&mut self, instance: &str, urgent: &Urgent) -> Vec<BoxFuture<'static, ()>> {
        let is_of = |end: &End| end.instance.as_deref() == Some(instance);
        let taken = self.by_key.extract_if(|_, session| is_of(&session.end));
        let taken: HashMap<_, _> = taken.collect();
        self.by_device.retain(|_, key| !taken.contains_key(key));
        let ending = self.ending.extract_if(|_, end| is_of(end));
        let ending = ending.map(|(_, end)| (end, None));
        let taken = taken.into_values();
        let taken = taken.map(|session| (session.end, Some(session.commands)));
        let leaving = ending.chain(taken);
        leaving
            .map(|(end, commands)| end.hand_over(commands, urgent.clone()).boxed())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use akri_mqtt_core::pool::ShardCount;
    use akri_mqtt_runtime::{Health, Shutdown, Tasks};
    use akri_mqtt_session::Credentials;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;
    use crate::monitor::{Monitor, MonitorOptions};

    /// What is waited for comes within this time, or never.
    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_session_whose_task_is_held_up_is_closed_before_anybody_else_may_have_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let data = tempfile::tempdir().unwrap();
        let tasks = Arc::new(Tasks::new(Shutdown::new()));
        let options = MonitorOptions::new(data.path());
        let monitor = Monitor::open(options, Health::new(), tasks).await.unwrap();
        let variables = [
            ("MQTT_DEVICE_ID", "plant/r1".to_owned()),
            ("MQTT_SERVER_URLS", format!("tcp://{address}")),
            ("MQTT_TOPICS", r#"["d/#"]"#.to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let device = DeviceSpec::from_env(BTreeMap::from(variables)).unwrap();
        let (_source, credentials) = watch::channel(Credentials::default());
        let shard = ShardCount::default().all().next().unwrap();
        let scope = monitor.scope("pool", shard).await;
        let devices = device
            .into_iter()
            .map(|device| (device, credentials.clone()));
        let added = monitor.add_to_shard(&scope, devices.collect()).await;
        added.unwrap();
        let (mut connection, _) = listener.accept().await.unwrap();

        // Nobody reads what its task is told, as if that waited for room on the disk.
        let (commands, _unread) = mpsc::channel(1);
        let mut sessions = monitor.sessions.lock().await;
        let session = sessions.by_key.values_mut().next().unwrap();
        let _read = std::mem::replace(&mut session.commands, commands);
        drop(sessions);
        let handed_over = timeout(DEADLINE, monitor.hand_over(&scope, async {})).await;
        handed_over.unwrap();
        let mut sent = Vec::new();
        let closed = timeout(DEADLINE, connection.read_to_end(&mut sent)).await;
        closed.unwrap().unwrap();
        assert!(!monitor.service().devices.is_watched("plant/r1"));
    }
}
