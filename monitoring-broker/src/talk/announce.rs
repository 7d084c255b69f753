//! Tells on MQTT that somebody listens. In: the state of a session, its devices. Out: a retained message when it
//! has subscribed and when its devices change, another one at its end. The Last Will says it when we cannot.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::identity::ServerName;
use akri_mqtt_core::topic::TopicName;
use akri_mqtt_runtime::version::VERSION;
use akri_mqtt_session::{ErrorKind, Handle, Properties, Publish, QoS};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

/// Where sessions announce themselves unless something else is asked for.
const DEFAULT: &str = "akri-mqtt/monitors";
/// The longest prefix, so that there is room for a client id.
const PREFIX_BYTES: usize = 1_024;
/// So many devices are named; more are only counted.
const NAMED: usize = 32;
/// Devices that come one after the other make one announcement.
const PAUSE: Duration = Duration::from_secs(1);
/// A server has so long to confirm an announcement.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(10);
/// Seconds after which a server forgets that we went: names of pods do not come back.
const FORGOTTEN: u32 = 7 * 86_400;

/// The topic below which each session announces itself; none: not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceTopic(Option<Arc<str>>);

impl Default for AnnounceTopic {
    fn default() -> Self {
        Self(Some(DEFAULT.into()))
    }
}

impl FromStr for AnnounceTopic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let wrong = |why: &str| format!("{why}; allowed: a topic such as {DEFAULT}, or nothing");
        TopicName::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if text.starts_with('$') || text.ends_with('/') || text.len() > PREFIX_BYTES {
            let found =
                format!("it begins with $, ends with / or has more than {PREFIX_BYTES} bytes");
            return Err(wrong(&found));
        }
        Ok(Self(Some(text.into())))
    }
}

impl AnnounceTopic {
    /// The topic of a session.
    pub(super) fn of(&self, client_id: &str) -> Option<String> {
        let prefix = self.0.as_deref()?;
        Some(format!("{prefix}/{client_id}"))
    }

    /// Whether a topic is below it.
    pub(super) fn has(&self, topic: &str) -> bool {
        let rest = self
            .0
            .as_deref()
            .and_then(|prefix| topic.strip_prefix(prefix));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Said<'a> {
    Online {
        since: Timestamp,
        instance: &'a str,
        version: &'static str,
        devices: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        device_ids: Option<&'a BTreeSet<Arc<str>>>,
    },
    Offline,
}

fn publish(topic: &str, said: &Said<'_>, message_expiry: Option<u32>) -> Publish {
    // Only maps with keys that are no texts fail, and there are none.
    let payload = serde_json::to_vec(said).unwrap_or_default();
    let mut publish = Publish::new(topic, payload, QoS::AtLeastOnce).retained();
    publish.properties = Some(Box::new(Properties {
        payload_is_utf8: true,
        message_expiry,
        content_type: Some("application/json".to_owned()),
        ..Properties::default()
    }));
    publish
}

/// That nobody listens.
pub(super) fn offline(topic: &str) -> Publish {
    publish(topic, &Said::Offline, Some(FORGOTTEN))
}

/// See the module.
pub(super) struct Announcer {
    pub(super) handle: Arc<Handle>,
    pub(super) topic: String,
    pub(super) server: ServerName,
    pub(super) instance: String,
    pub(super) devices: watch::Receiver<BTreeSet<Arc<str>>>,
    /// The session is about to end; wants to know whether that was said.
    pub(super) left: oneshot::Receiver<oneshot::Sender<bool>>,
    pub(super) failed: Counter,
    pub(super) warned: bool,
}

impl Announcer {
    /// Runs until the session ends.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let mut status = self.handle.status();
        let mut told: Option<(std::time::Instant, Timestamp)> = None;
        let mut others = false;
        loop {
            let (connection, will_refused) = {
                let status = status.borrow_and_update();
                let listens = status.connected && status.subscribed;
                (listens.then_some(status.since), status.will_refused)
            };
            let is_new = connection.is_some() && told.map(|(at, _)| at) != connection;
            if let Some(at) = connection
                && (is_new || others)
            {
                if is_new && will_refused {
                    self.fail("it accepted the connection only without the Last Will");
                }
                let since = told
                    .filter(|_| !is_new)
                    .map_or_else(Timestamp::now, |(_, since)| since);
                (told, others) = (Some((at, since)), false);
                let online = self.online(since);
                let handle = Arc::clone(&self.handle);
                let said = async {
                    let said = timeout(CONFIRMED_WITHIN, handle.publish(online)).await;
                    sleep(PAUSE).await;
                    said
                };
                tokio::select! {
                    reply = &mut self.left => return self.leave(reply.ok()).await,
                    said = said => match said {
                        Ok(Ok(_)) => self.warned = false,
                        Ok(Err(error)) if is_refusal(error.kind) => self.fail(&error.text),
                        // The connection went: the next one gets its own.
                        Ok(Err(_)) => {}
                        Err(_) => self.fail("it did not confirm it in time"),
                    },
                }
                continue;
            }
            tokio::select! {
                reply = &mut self.left => return self.leave(reply.ok()).await,
                changed = status.changed() => if changed.is_err() {
                    return Ok(());
                },
                changed = self.devices.changed() => match changed {
                    Ok(()) => others = true,
                    Err(_) => return Ok(()),
                },
            }
        }
    }

    fn online(&mut self, since: Timestamp) -> Publish {
        let devices = self.devices.borrow_and_update();
        let said = Said::Online {
            since,
            instance: &self.instance,
            version: VERSION,
            devices: devices.len(),
            device_ids: Some(&*devices).filter(|devices| devices.len() <= NAMED),
        };
        publish(&self.topic, &said, None)
    }

    async fn leave(self, reply: Option<oneshot::Sender<bool>>) -> anyhow::Result<()> {
        let Some(reply) = reply else { return Ok(()) };
        let said = timeout(CONFIRMED_WITHIN, self.handle.publish(offline(&self.topic))).await;
        // Whoever asked may have stopped waiting.
        let _ = reply.send(matches!(said, Ok(Ok(_))));
        Ok(())
    }

    /// Ingestion goes on; it is said once until it works again.
    fn fail(&mut self, why: &str) {
        self.failed.inc();
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(server = %self.server, topic = %self.topic, why, "the server does not take our announcement");
        }
    }
}

/// Not merely the end of a connection.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotAuthorised | ErrorKind::Quota | ErrorKind::Publish
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_below_a_topic_or_not_made() {
        let of = |text: &str| text.parse::<AnnounceTopic>().unwrap().of("c");
        assert_eq!(of("plant/monitors").as_deref(), Some("plant/monitors/c"));
        assert_eq!(of(""), None);
        for wrong in ["a/+", "a/#", "$SYS/x", "a/", &"x".repeat(1_025)] {
            let error = wrong.parse::<AnnounceTopic>().unwrap_err();
            assert!(error.contains("allowed: a topic such as"), "{error}");
        }
    }

    #[test]
    fn few_devices_are_named_and_many_are_counted() {
        let said = |devices: &BTreeSet<Arc<str>>, named| {
            let said = Said::Online {
                since: Timestamp::UNIX_EPOCH,
                instance: "pod-0",
                version: "1.2.3",
                devices: devices.len(),
                device_ids: Some(devices).filter(|_| named),
            };
            serde_json::to_string(&said).unwrap()
        };
        let devices = BTreeSet::from(["plant/b".into(), "plant/a".into()]);
        assert_eq!(
            said(&devices, true),
            r#"{"state":"online","since":"1970-01-01T00:00:00Z","instance":"pod-0","version":"1.2.3","devices":2,"device_ids":["plant/a","plant/b"]}"#
        );
        assert!(said(&devices, false).ends_with(r#""devices":2}"#));
        let offline = offline("t");
        assert_eq!(offline.payload, r#"{"state":"offline"}"#);
        assert!(offline.retain);
    }
}
