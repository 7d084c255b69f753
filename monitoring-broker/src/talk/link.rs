//! What one session says: commands with their responses, and its announcement. In: commands, messages on our own
//! topics. Out: publishes. Devices come and go with the session's task.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_session::{
    ErrorKind, Handle, Message, Properties, Publish, QoS, SessionError, Status, Subscription,
    Version, Will,
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::announce::{Announcer, offline};
use super::command::{Command, CommandError, Done, Response};
use super::waiting::Waiting;
use super::{AnnounceTopic, Commands, TalkOptions};
use crate::store;

/// Below it each session has its topic for responses.
const RESPONSES: &str = "akri-mqtt/responses";
/// How long a server waits for a session to come back before it publishes its Last Will (MQTT 5.0, 3.1.3.2.2):
/// a reconnect, or a container that is started again, is no news.
const WILL_DELAY: Duration = Duration::from_secs(10);
/// How long the last announcement may hold up the end of a session.
const FAREWELL: Duration = Duration::from_secs(1);

/// The topics of one session that are ours.
#[derive(Clone, Debug)]
pub struct OwnTopics {
    response: Option<String>,
    announce: Option<String>,
    announces: AnnounceTopic,
}

impl OwnTopics {
    pub(super) fn new(options: &TalkOptions, client_id: &str) -> Self {
        // The prefix of a client id comes from a Configuration and may hold anything.
        let level = client_id.replace(['+', '#', '\0'], "-");
        let responds = !options.allow_publish.is_empty();
        Self {
            response: responds.then(|| format!("{RESPONSES}/{level}")),
            announce: options.announce.of(&level),
            announces: options.announce.clone(),
        }
    }

    /// The Last Will of the session.
    #[must_use]
    pub fn will(&self) -> Option<Will> {
        let publish = offline(self.announce.as_deref()?);
        let expiry = publish.properties.and_then(|p| p.message_expiry);
        Some(Will {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            delay: WILL_DELAY,
            expiry: expiry.map(|seconds| Duration::from_secs(seconds.into())),
        })
    }

    /// What the session subscribes, with the topic of the responses.
    #[must_use]
    pub fn with_responses(&self, mut wanted: Vec<Subscription>) -> Vec<Subscription> {
        let response = self.response.as_deref();
        wanted.extend(response.map(|topic| Subscription::new(topic, QoS::AtLeastOnce)));
        wanted
    }
}

/// Carries out the commands of a session.
pub(super) struct Link {
    server: ServerName,
    handle: Arc<Handle>,
    response: Option<String>,
    waiting: Waiting,
}

impl Link {
    pub(super) async fn carry_out(&self, command: Command) -> Result<Done, CommandError> {
        let (server, within) = (&self.server, command.timeout);
        let deadline = Instant::now() + within;
        self.check_version(&command)?;
        let (mut publish, expects) = message(command);
        let mut expected = None;
        if expects {
            let topic = self.response_topic(deadline, within).await?;
            let waiting = self.waiting.expect(rand::random());
            let properties = publish.properties.get_or_insert_default();
            properties.response_topic = Some(topic.to_owned());
            properties.correlation_data = Some(Bytes::copy_from_slice(waiting.correlation()));
            expected = Some(waiting);
        }
        let published = timeout_at(deadline, self.handle.publish(publish)).await;
        let published = published.map_err(|_| {
            CommandError::Late(format!(
                "the MQTT server {server} did not confirm the message within {within:?}; it may still have arrived"
            ))
        })?;
        let no_subscribers = published
            .map_err(|error| self.refused(error))?
            .no_subscribers;
        let Some(mut expected) = expected else {
            return Ok(Done {
                no_subscribers,
                response: None,
            });
        };
        let response = timeout_at(deadline, expected.response()).await;
        let response = response.map_err(|_| {
            let hint = if no_subscribers {
                "; the server says that nobody subscribes to the topic"
            } else {
                ""
            };
            CommandError::Late(format!(
                "the server took the message, but no response came within {within:?}{hint}"
            ))
        })?;
        Ok(Done {
            no_subscribers,
            response: Some(response),
        })
    }

    /// Whether the connection can carry what the command has.
    fn check_version(&self, command: &Command) -> Result<(), CommandError> {
        let status = self.handle.status();
        let status = status.borrow();
        if !status.connected {
            return Err(self.not_connected(&status));
        }
        if status.version == Some(Version::V5) {
            return Ok(());
        }
        let what = if command.expect_response {
            "a response cannot be asked for"
        } else if command.content_type.is_some() || !command.user_properties.is_empty() {
            "content type and user properties cannot be sent"
        } else {
            return Ok(());
        };
        Err(CommandError::NotPossible(format!(
            "{what}: the connection to {} speaks MQTT 3.1.1, and that takes MQTT 5",
            self.server
        )))
    }

    fn not_connected(&self, status: &Status) -> CommandError {
        let cause = status.last_error.as_ref();
        let cause = cause.map_or_else(|| "not connected yet".to_owned(), ToString::to_string);
        let server = &self.server;
        CommandError::Unavailable(format!(
            "there is no connection to the MQTT server {server}, nothing was sent: {cause}"
        ))
    }

    fn refused(&self, error: SessionError) -> CommandError {
        let server = &self.server;
        let text = format!("MQTT server {server}: {error}");
        match error.kind {
            ErrorKind::NotAuthorised => CommandError::Denied(text),
            ErrorKind::Quota => CommandError::Quota(text),
            ErrorKind::Publish => CommandError::NotPossible(text),
            ErrorKind::NotConnected => CommandError::Unavailable(format!(
                "there is no connection to the MQTT server {server}, nothing was sent"
            )),
            _ => CommandError::Unavailable(format!("{text}; the message may still have arrived")),
        }
    }

    /// The topic for responses, once this connection is subscribed to it: a response before that would be lost.
    async fn response_topic(
        &self,
        deadline: Instant,
        within: Duration,
    ) -> Result<&str, CommandError> {
        let mut status = self.handle.status();
        let settled = status.wait_for(|status| status.subscribed || !status.connected);
        let late = |_| {
            CommandError::Late(format!(
                "nothing was sent: the topic for responses was not subscribed within {within:?}"
            ))
        };
        let closed = || CommandError::Unavailable("the session was closed".to_owned());
        let settled = timeout_at(deadline, settled).await.map_err(late)?;
        let settled = settled.map_err(|_| closed())?;
        if !settled.connected {
            return Err(self.not_connected(&settled));
        }
        let topic = self.response.as_deref().ok_or_else(closed)?;
        let refused = settled.refused.iter().find(|(filter, _)| filter == topic);
        match refused {
            None => Ok(topic),
            Some((_, why)) => Err(CommandError::NotPossible(format!(
                "a response cannot be asked for: the MQTT server {} refused our subscription to {topic}: {why}",
                self.server
            ))),
        }
    }
}

fn message(command: Command) -> (Publish, bool) {
    let qos = match command.qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let mut publish = Publish::new(command.topic, command.payload, qos);
    publish.retain = command.retain;
    if command.content_type.is_some() || !command.user_properties.is_empty() {
        publish.properties = Some(Box::new(Properties {
            content_type: command.content_type,
            user: command.user_properties,
            ..Properties::default()
        }));
    }
    (publish, command.expect_response)
}

/// A session's part in what is said; dropped, its devices can no longer be commanded.
pub struct Talk {
    commands: Commands,
    link: Arc<Link>,
    own: OwnTopics,
    devices: watch::Sender<BTreeSet<Arc<str>>>,
    leave: Option<oneshot::Sender<oneshot::Sender<bool>>>,
}

impl Talk {
    /// Also returns what announces the session, if anything does; it ends with the session.
    #[must_use]
    pub fn new(
        commands: Commands,
        own: OwnTopics,
        (server, handle): (ServerName, Arc<Handle>),
        instance: &str,
    ) -> (
        Self,
        Option<impl Future<Output = anyhow::Result<()>> + use<>>,
    ) {
        let (devices, watched) = watch::channel(BTreeSet::new());
        let (leave, left) = oneshot::channel();
        let announcer = own.announce.clone().map(|topic| Announcer {
            handle: Arc::clone(&handle),
            topic,
            server: server.clone(),
            instance: instance.to_owned(),
            devices: watched,
            left,
            failed: commands.metrics().announcements_failed.clone(),
            warned: false,
        });
        let talk = Self {
            leave: announcer.is_some().then_some(leave),
            link: Arc::new(Link {
                server,
                handle,
                response: own.response.clone(),
                waiting: Waiting::default(),
            }),
            commands,
            own,
            devices,
        };
        (talk, announcer.map(Announcer::run))
    }

    /// The session has this device.
    pub fn add(&self, device: &DeviceId) {
        let id: Arc<str> = device.as_str().into();
        self.commands.put(Arc::clone(&id), &self.link);
        self.devices.send_if_modified(|devices| devices.insert(id));
    }

    /// The session no longer has it.
    pub fn remove(&self, device: &DeviceId) {
        self.commands.take_out(device.as_str(), &self.link);
        self.devices
            .send_if_modified(|devices| devices.remove(device.as_str()));
    }

    /// What the session subscribes, with the topic of the responses.
    #[must_use]
    pub fn with_responses(&self, wanted: Vec<Subscription>) -> Vec<Subscription> {
        self.own.with_responses(wanted)
    }

    /// Whether a filter is ours, and says nothing about devices.
    #[must_use]
    pub fn is_ours(&self, filter: &str) -> bool {
        self.own.response.as_deref() == Some(filter)
    }

    /// Takes what is meant for us of messages on a topic; true if the message is no device's data.
    #[must_use]
    pub fn hears(&self, topic: &str, message: &Message) -> bool {
        if !self.is_ours(topic) {
            return self.own.announces.has(topic);
        }
        let properties = message.properties.as_deref().cloned().unwrap_or_default();
        let correlation = properties.correlation_data.clone().unwrap_or_default();
        let response = Response {
            topic: topic.to_owned(),
            // It shares the read buffer of the connection.
            payload: Bytes::copy_from_slice(&message.payload),
            qos: message.qos.level(),
            duplicate: message.duplicate,
            properties: store::Properties {
                content_type: properties.content_type,
                user: properties.user,
                response_topic: properties.response_topic,
                correlation_data: properties
                    .correlation_data
                    .map(|data| Bytes::copy_from_slice(&data)),
            },
            at: Timestamp::now(),
        };
        if !self.link.waiting.answer(&correlation, response) {
            self.commands.metrics().dropped.inc();
            tracing::debug!(server = %self.link.server, "a response that no command waits for");
        }
        true
    }

    /// Says that nobody listens any more, and ends the session; where that is not confirmed, the Last Will says it.
    pub async fn end(&mut self, handle: &Handle) {
        let said = match self.leave.take() {
            None => true,
            Some(leave) => {
                let (reply, said) = oneshot::channel();
                // The announcer may have gone with its session.
                let _ = leave.send(reply);
                matches!(tokio::time::timeout(FAREWELL, said).await, Ok(Ok(true)))
            }
        };
        if said {
            handle.close().await;
        } else {
            handle.close_with_will().await;
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        for device in self.devices.borrow().iter() {
            self.commands.take_out(device, &self.link);
        }
    }
}
