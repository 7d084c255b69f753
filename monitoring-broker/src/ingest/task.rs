//! The task of one session: a thin loop around routes, presence and the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_core::presence::{Inbound, Presence as Machine, State as Seen};
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::{Condition, Shutdown};
use akri_mqtt_session::{Counted, Event, Events, Handle, Message, QoS};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::asking::Asking;
use super::changes::record;
use super::routes::{Evidence, Route, Routes};
use super::wanted::Filters;
use crate::devices::{Devices, State};
use crate::metrics::IngestMetrics;
use crate::store::{self, Arrival, Store, StoreSession};
use crate::talk::Talk;

/// Changes of devices that are done together: one SUBSCRIBE, one transaction.
const DRAIN: usize = 64;
/// How soon a deadline that waits for a packet is looked at again.
const PROBE: Duration = Duration::from_millis(250);
/// A change of the devices of a session.
pub enum Command {
    /// Subscribe and watch one more.
    Add(Arc<DeviceSpec>),
    /// Stop with one.
    Remove(DeviceId),
    /// End the session as it is, for another process that goes on with it.
    HandOver,
}

/// What the task works with.
pub struct Parts {
    /// The server's name.
    pub server: ServerName,
    /// To steer the session.
    pub handle: Arc<Handle>,
    /// What the session says.
    pub events: Events,
    /// Its durable memory.
    pub memory: Arc<StoreSession>,
    /// Where messages go.
    pub store: Store,
    /// Where presence goes.
    pub devices: Arc<Devices>,
    /// Whether everything is subscribed.
    pub ready: Condition,
    /// What it counts.
    pub metrics: IngestMetrics,
    /// What the session says itself.
    pub talk: Talk,
    /// Its session among what is counted.
    pub counted: Counted,
    /// Devices that are there from the start: what the server has queued for them comes with the connection.
    pub initial: Vec<Arc<DeviceSpec>>,
    /// Devices that come and go.
    pub commands: mpsc::Receiver<Command>,
}

pub(super) struct Watched {
    pub(super) spec: Arc<DeviceSpec>,
    pub(super) machine: Machine,
    /// Its machine has it online, as of the last time that it was asked.
    pub(super) is_online: bool,
    /// The last message that says nothing but that it lives, which its machine was not told yet.
    pub(super) heard: Option<(Now, Arc<str>)>,
    pub(super) filters: Filters,
    /// The revision of the machine's subscriptions that these are.
    pub(super) subscriptions: u64,
    pub(super) revision: u64,
    pub(super) due: Option<Instant>,
    /// The state that is shown.
    pub(super) shown: State,
}

impl Watched {
    /// Its machine, which knows of every message that came before.
    pub(super) fn machine(&mut self, server: &ServerName) -> &mut Machine {
        if let Some((at, topic)) = self.heard.take() {
            let inbound = Inbound {
                topic: &topic,
                payload: &[],
                retained: false,
                qos: QoS::AtMostOnce,
            };
            self.machine.on_packet(server, at.mono);
            self.machine.on_message(server, inbound, at);
        }
        &mut self.machine
    }
}

pub(super) struct Task {
    pub(super) parts: Parts,
    pub(super) routes: Routes,
    /// By hash: a message finds its device in a cache line or two, however many there are.
    pub(super) watched: HashMap<DeviceId, Watched>,
    pub(super) due: BTreeSet<(Instant, DeviceId)>,
    pub(super) connected: bool,
    /// When to subscribe what payloads have named.
    pub(super) named: Option<Instant>,
    pub(super) asking: Asking,
    last_packet: Option<Instant>,
    /// The wall clock at one instant, so that a message costs no second reading of it.
    pub(super) now: Now,
}

pub(super) fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: Timestamp::now(),
    }
}

/// Runs until the session, the store or the shutdown ends it.
///
/// # Errors
/// When the store fails.
pub async fn run(parts: Parts, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut task = Task {
        parts,
        routes: Routes::default(),
        watched: HashMap::new(),
        due: BTreeSet::new(),
        connected: false,
        named: None,
        asking: Asking::default(),
        last_packet: None,
        now: now(),
    };
    // Before the first event: a message without a route is nobody's, and is acknowledged without being stored.
    let initial = std::mem::take(&mut task.parts.initial);
    for some in initial.chunks(DRAIN) {
        let records = some.iter().map(|spec| task.add(Arc::clone(spec)));
        let records = records.collect::<Result<_, _>>()?;
        task.parts.store.save_devices(records).await?;
    }
    let mut commands = Vec::with_capacity(DRAIN);
    loop {
        let due = task.due.first().map(|(at, _)| *at);
        let due = due.into_iter().chain(task.named).min();
        let due = due.map(tokio::time::Instant::from_std);
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.triggered() => {
                task.committed().await;
                break;
            }
            count = task.parts.commands.recv_many(&mut commands, DRAIN) => {
                if count == 0 {
                    task.leave(&shutdown).await?;
                    break;
                }
                if task.commands(&mut commands).await? {
                    task.hand_over().await?;
                    break;
                }
            }
            () = timer => task.tick().await?,
            event = task.parts.events.recv() => match event {
                Some(event) => task.event(event).await?,
                // Its connection was closed for a hand-over that could not wait for this task.
                None => {
                    task.hand_over().await?;
                    break;
                }
            },
        }
    }
    let handle = Arc::clone(&task.parts.handle);
    task.parts.talk.end(&handle).await;
    task.parts.ready.remove();
    Ok(())
}

impl Task {
    pub(super) async fn event(&mut self, event: Event) -> anyhow::Result<()> {
        let server = self.parts.server.clone();
        match event {
            Event::Message(message) => return self.message(message).await,
            Event::Connected(connected) => {
                self.now = now();
                self.connected = true;
                self.last_packet = Some(connected.at);
                tracing::info!(%server, url = %connected.url, version = %connected.version,
                    resumed = connected.session_present, "connected");
                self.all(|machine, now| machine.on_connected(&server, now));
            }
            Event::Subscribed { refused, at } => {
                self.now = now();
                self.last_packet = Some(at);
                let talk = &self.parts.talk;
                match refused.iter().find(|(filter, _)| !talk.is_ours(filter)) {
                    None => self.parts.ready.ready("every topic filter is subscribed"),
                    Some((filter, why)) => {
                        let text = format!("the server refused {filter}: {why}");
                        self.parts.ready.not_ready(text);
                    }
                }
                self.all(|machine, now| machine.on_subscribed(&server, now));
            }
            Event::Alive { at } => self.last_packet = Some(at),
            Event::TooLarge {
                topic,
                retained,
                at,
            } => {
                self.last_packet = Some(at);
                self.now = now();
                if retained {
                    self.all(|machine, now| machine.on_too_large(&server, &topic, now));
                }
            }
            Event::Disconnected {
                error, last_packet, ..
            } => {
                self.now = now();
                self.connected = false;
                let reason = format!("not connected: {error}");
                tracing::warn!(%server, %error, "disconnected");
                self.parts.ready.not_ready(reason);
                let last = last_packet.unwrap_or(self.now.mono);
                self.all(|machine, now| machine.on_disconnected(&server, last, now));
            }
        }
        self.tick().await
    }

    /// Tells every device's machine something, and looks at it again at once.
    fn all(&mut self, tell: impl Fn(&mut Machine, Now)) {
        for (id, watched) in &mut self.watched {
            tell(watched.machine(&self.parts.server), self.now);
            if let Some(due) = watched.due.replace(self.now.mono) {
                self.due.remove(&(due, id.clone()));
            }
            self.due.insert((self.now.mono, id.clone()));
        }
    }

    pub(super) async fn message(&mut self, message: Message) -> anyhow::Result<()> {
        self.last_packet = Some(message.received);
        let since = message.received.saturating_duration_since(self.now.mono);
        if since.as_millis() > 200 {
            self.now = now();
        }
        let at = self
            .now
            .plus(message.received.saturating_duration_since(self.now.mono));
        let route = if self.parts.talk.hears(&message) {
            Route::nobody(&message.topic)
        } else {
            let watched = &self.watched;
            self.routes.of(&message.topic, |id| {
                let machine = watched.get(id).map(|watched| &watched.machine);
                machine.is_some_and(|machine| machine.is_plain_data(&message.topic))
            })
        };
        if route.is_foreign {
            self.parts.metrics.foreign.inc();
        }
        for Evidence {
            device: id,
            is_plain,
        } in &route.evidence
        {
            let inbound = Inbound {
                topic: &message.topic,
                payload: &message.payload,
                retained: message.retained,
                qos: message.qos,
            };
            let Some(watched) = self.watched.get_mut(id) else {
                continue;
            };
            if *is_plain && watched.is_online && !message.retained {
                watched.heard = Some((at, Arc::clone(&route.topic)));
                continue;
            }
            let machine = watched.machine(&self.parts.server);
            machine.on_packet(&self.parts.server, message.received);
            machine.on_message(&self.parts.server, inbound, at);
            Self::settle(&self.parts, &mut self.due, watched, at).await?;
            if watched.machine.subscriptions_revision() != watched.subscriptions {
                self.follow(id);
            }
            self.ask(id);
        }
        self.keep(message, &route, at).await
    }

    /// Stores a message and has it acknowledged after the commit; one that is nobody's is acknowledged at once.
    async fn keep(&self, message: Message, route: &Route, at: Now) -> anyhow::Result<()> {
        let is_exactly_once = message.qos == QoS::ExactlyOnce;
        if route.data.is_empty() && !is_exactly_once {
            if let Some(ack) = message.ack {
                self.parts.handle.acknowledge(ack);
            }
            return Ok(());
        }
        let packet = message.ack.as_ref().filter(|_| is_exactly_once);
        let packet = packet.map(|ack| (self.parts.memory.packet_ids(), ack.packet_id()));
        let receipt = message.ack.map(|ack| -> store::Receipt {
            let handle = Arc::clone(&self.parts.handle);
            let pending = self.parts.metrics.acks_pending.clone();
            pending.inc();
            Box::new(move || {
                pending.dec();
                handle.acknowledge(ack);
            })
        });
        let properties = message.properties.map(|properties| store::Properties {
            content_type: properties.content_type,
            user: properties.user,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data,
        });
        let arrival = Arrival {
            devices: Arc::clone(&route.data),
            topic: Arc::clone(&route.topic),
            payload: message.payload,
            qos: message.qos.level(),
            retained: message.retained,
            duplicate: message.duplicate,
            time: i64::try_from(at.wall.as_nanosecond()).unwrap_or_default(),
            properties: properties
                .filter(|p| *p != store::Properties::default())
                .map(Box::new),
            packet,
            is_observed: route.is_birth,
            receipt,
        };
        self.parts.store.append(arrival).await?;
        Ok(())
    }

    /// Lets every machine act whose time has come.
    async fn tick(&mut self) -> anyhow::Result<()> {
        self.now = now();
        if self.named.is_some_and(|at| at <= self.now.mono) {
            self.subscribe();
        }
        while let Some((at, id)) = self.due.first().cloned() {
            if at > self.now.mono {
                break;
            }
            self.due.pop_first();
            let Some(watched) = self.watched.get_mut(&id) else {
                continue;
            };
            watched.due = None;
            let machine = watched.machine(&self.parts.server);
            if let Some(packet) = self.last_packet.filter(|_| self.connected) {
                machine.on_packet(&self.parts.server, packet);
            }
            machine.handle_timeout(self.now);
            if !machine.needs_probe().is_empty() {
                self.parts.handle.ping();
            }
            Self::settle(&self.parts, &mut self.due, watched, self.now).await?;
            let connected = self.connected;
            self.parts.devices.set_presence(id.as_str(), |presence| {
                presence.server_connected = connected;
            });
            self.ask(&id);
        }
        Ok(())
    }

    /// After a machine acted: its next deadline, and its presence if that changed.
    async fn settle(
        parts: &Parts,
        due: &mut BTreeSet<(Instant, DeviceId)>,
        watched: &mut Watched,
        now: Now,
    ) -> anyhow::Result<()> {
        let id = &watched.spec.id;
        watched.is_online = watched.machine.is_online(id);
        // A deadline that has passed waits for a packet of the server; it is looked at again soon.
        let soon = now.mono + PROBE;
        let next = if watched.machine.needs_probe().is_empty() {
            watched.machine.poll_timeout().map(|at| at.max(soon))
        } else {
            Some(soon)
        };
        // Deadlines mostly move away with every message: the old one may stay and find nothing to do.
        let is_earlier = match (watched.due, next) {
            (Some(before), Some(next)) => next < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if is_earlier {
            if let Some(before) = watched.due {
                due.remove(&(before, id.clone()));
            }
            watched.due = next;
            due.extend(next.map(|next| (next, id.clone())));
        }
        let explained = watched.machine.revision() != watched.revision;
        // `online` after `unconfirmed` changes nothing of what is published, so the revision does not tell.
        let explained = explained || watched.shown == State::Unknown;
        if !explained {
            return Ok(());
        }
        watched.revision = watched.machine.revision();
        let Some(seen) = watched.machine.explain(id, now) else {
            return Ok(());
        };
        let state = match seen.state {
            Seen::Online | Seen::Leaving => State::Online,
            Seen::Offline | Seen::Removed => State::Offline,
            Seen::Unconfirmed => State::Unknown,
        };
        watched.shown = state;
        let changed = parts.devices.set_presence(id.as_str(), |presence| {
            if presence.state != state {
                presence.state = state;
                presence.since = seen.since;
                presence.reason = seen.explanation;
            }
        });
        if let Some(device) = changed {
            let record = record(&device, true)?;
            parts.store.save_devices(vec![record]).await?;
        }
        Ok(())
    }
}
