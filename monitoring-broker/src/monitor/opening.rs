//! Opens the session that some devices share. In: devices of one server with the same options, their credentials.
//! Out: a task from the MQTT server into the store, and a way to tell it of further devices.

use std::sync::Arc;

use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_session::Credentials;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::sessions::{End, Session};
use super::{Monitor, MonitorError};
use crate::ingest::{self, Parts, Scope};
use crate::session_options::{options_text, session_options};
use crate::talk::Talk;

/// Changes of devices that may wait for a session.
const COMMANDS: usize = 64;

impl Monitor {
    pub(super) async fn open_session(
        &self,
        scope: Option<&Scope>,
        group: Vec<(DeviceSpec, watch::Receiver<Credentials>)>,
    ) -> Result<Option<Session>, MonitorError> {
        let Some((device, credentials)) = group.first().cloned() else {
            return Ok(None);
        };
        let rules = options_text(&device.mqtt);
        let key = device.session_key();
        let prefix = &device.mqtt.client_id_prefix;
        let (client_id, memory) = self.client_id(scope, prefix, &key, &rules).await?;
        let instance = self.instance().await;
        let own = self.service.commands.own_topics(&client_id);
        let server = device.server.name.clone();
        let store = &self.service.store;
        let memory = store.session(server.as_str(), &memory).await?;
        let mut options = session_options(&device, client_id, scope.is_some());
        options.will = own.will();
        let specs = || group.iter().map(|(device, _)| device);
        let filters: Vec<ingest::Filters> = specs().map(ingest::Filters::at_first).collect();
        let wanted = ingest::subscriptions(specs().zip(&filters));
        let wanted = own.with_responses(wanted);
        let state = Arc::clone(&memory);
        let (handle, events) = akri_mqtt_session::start(options, credentials, state, wanted);
        let handle = Arc::new(handle);
        let said = (server.clone(), Arc::clone(&handle));
        let (talk, announcing) = Talk::new(self.service.commands.clone(), own, said, &instance);
        if let Some(announcing) = announcing {
            self.tasks.spawn("announce", announcing);
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let condition = match scope {
            Some(scope) => format!("{} subscribed to {server} {key}", scope.instance),
            None => format!("subscribed to {server} {key}"),
        };
        let counted = self.ingest.sessions.watch(server.as_str(), handle.status());
        let parts = Parts {
            server,
            counted,
            handle,
            talk,
            events,
            memory,
            store: self.service.store.clone(),
            devices: Arc::clone(&self.service.devices),
            ready: self.health.condition(condition, "not connected yet"),
            metrics: self.ingest.clone(),
            initial: group
                .into_iter()
                .map(|(device, _)| Arc::new(device))
                .collect(),
            commands: receiver,
        };
        let instance = scope.map(|scope| scope.instance.clone());
        let end = self.supervise(parts, instance);
        Ok(Some(Session {
            commands,
            devices: 0,
            end,
        }))
    }

    /// Runs the task of a session.
    fn supervise(&self, parts: Parts, instance: Option<String>) -> End {
        let (handle, ended) = (Arc::clone(&parts.handle), CancellationToken::new());
        let ending = ended.clone().drop_guard();
        let supervised = supervised(parts, self.tasks.shutdown().clone(), ending);
        self.tasks.spawn("ingest", supervised);
        End {
            instance,
            handle,
            ended,
        }
    }
}

/// A session's error stops the process; its end because all its devices went does not.
async fn supervised(parts: Parts, process: Shutdown, ending: DropGuard) -> anyhow::Result<()> {
    let ended = ingest::run(parts, process.child()).await;
    if ended.is_err() {
        process.trigger();
    }
    drop(ending);
    ended
}
