//! The task of one session: a thin loop around routes, presence and the store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_core::presence::Inbound;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_runtime::{Condition, Shutdown};
use akri_mqtt_session::{Counted, Event, Events, Handle, Message, QoS};
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::asking::Asking;
use super::receipts::Receipts;
use super::routes::{Route, Routes};
use super::watched::Watched;
use crate::devices::Devices;
use crate::metrics::IngestMetrics;
use crate::store::{self, Arrival, Place, Store, StoreSession};
use crate::talk::Talk;

/// Changes of devices that are done together: one SUBSCRIBE, one transaction.
const DRAIN: usize = 64;
/// Events that are handled before time, commands and the shutdown are looked at again.
pub(super) const EVENTS: usize = 256;
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

pub(super) struct Task {
    pub(super) parts: Parts,
    pub(super) routes: Routes,
    /// A route names its devices by index.
    pub(super) watched: IndexMap<DeviceId, Watched, RandomState>,
    pub(super) due: BTreeSet<(Instant, DeviceId)>,
    pub(super) connected: bool,
    /// When to subscribe what payloads have named.
    pub(super) named: Option<Instant>,
    pub(super) asking: Asking,
    pub(super) last_packet: Option<Instant>,
    /// The wall clock at one instant, so that a message costs no second reading of it.
    pub(super) now: Now,
    /// Messages that go into the store together.
    arrivals: Vec<Arrival>,
    receipts: Arc<Receipts>,
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
    let mut task = Task::new(parts);
    // Before the first event: a message without a route is nobody's, and is acknowledged without being stored.
    let initial = std::mem::take(&mut task.parts.initial);
    for some in initial.chunks(DRAIN) {
        let records = some.iter().map(|spec| task.add(Arc::clone(spec)));
        let records = records.collect::<Result<_, _>>()?;
        task.parts.store.save_devices(records).await?;
    }
    let mut commands = Vec::with_capacity(DRAIN);
    let mut events = Vec::with_capacity(EVENTS);
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
            count = task.parts.events.recv_many(&mut events, EVENTS) => {
                // Its connection was closed for a hand-over that could not wait for this task.
                if count == 0 {
                    task.hand_over().await?;
                    break;
                }
                task.events(&mut events).await?;
            }
        }
    }
    let handle = Arc::clone(&task.parts.handle);
    task.parts.talk.end(&handle).await;
    task.parts.ready.remove();
    Ok(())
}

impl Task {
    fn new(parts: Parts) -> Self {
        let pending = parts.metrics.acks_pending.clone();
        Self {
            receipts: Arc::new(Receipts::new(Arc::clone(&parts.handle), pending)),
            parts,
            routes: Routes::default(),
            watched: IndexMap::default(),
            due: BTreeSet::new(),
            connected: false,
            named: None,
            asking: Asking::default(),
            last_packet: None,
            now: now(),
            arrivals: Vec::with_capacity(EVENTS),
        }
    }

    pub(super) async fn events(&mut self, events: &mut Vec<Event>) -> anyhow::Result<()> {
        for event in events.drain(..) {
            match event {
                Event::Message(message) => self.message(message).await?,
                other => self.event(other).await?,
            }
        }
        self.store().await
    }

    async fn event(&mut self, event: Event) -> anyhow::Result<()> {
        let server = self.parts.server.clone();
        match event {
            // Handled where it comes from.
            Event::Message(_) => {}
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

    pub(super) async fn message(&mut self, message: Message) -> anyhow::Result<()> {
        self.last_packet = Some(message.received);
        let since = message.received.saturating_duration_since(self.now.mono);
        if since.as_millis() > 200 {
            self.now = now();
        }
        let at = self
            .now
            .plus(message.received.saturating_duration_since(self.now.mono));
        // Its text is checked each time that it is asked for.
        let topic: &str = &message.topic;
        if self.parts.talk.hears(topic, &message) {
            let route = Route::nobody(topic);
            self.keep(message, route.place, false, at);
            return Ok(());
        }
        if let Some(route) = self.routes.known(topic)
            && !message.retained
            && !route.is_foreign
            && let Some(place) = Self::pulse(&mut self.watched, route, at)
        {
            let is_birth = route.is_birth;
            self.keep(message, place, is_birth, at);
            return Ok(());
        }
        let watched = &self.watched;
        let route = self.routes.of(topic, |id| {
            let (index, _, watched) = watched.get_full(id)?;
            Some((index, watched.machine.is_plain_data(topic)))
        });
        if route.is_foreign {
            self.parts.metrics.foreign.inc();
        }
        for evidence in &route.evidence {
            let Some((id, watched)) = self.watched.get_index_mut(evidence.index) else {
                continue;
            };
            let id = id.clone();
            let inbound = Inbound {
                topic,
                payload: &message.payload,
                retained: message.retained,
                qos: message.qos,
            };
            let machine = watched.machine(&self.parts.server);
            machine.on_packet(&self.parts.server, message.received);
            machine.on_message(&self.parts.server, inbound, at);
            Self::settle(&self.parts, &mut self.due, watched, at).await?;
            if watched.machine.subscriptions_revision() != watched.subscriptions {
                self.follow(&id);
            }
            self.ask(&id);
        }
        self.keep(message, route.place, route.is_birth, at);
        Ok(())
    }

    /// Most messages say of devices that are online that they live, and nothing else: their machines need not be told
    /// before something else happens. Returns where such a message goes.
    fn pulse(
        watched: &mut IndexMap<DeviceId, Watched, RandomState>,
        route: &Route,
        at: Now,
    ) -> Option<Arc<Place>> {
        let is_online = |index| {
            let device = watched.get_index(index);
            device.is_some_and(|(_, watched)| watched.pulse.is_online)
        };
        let mut evidence = route.evidence.iter();
        if !evidence.all(|evidence| evidence.is_plain && is_online(evidence.index)) {
            return None;
        }
        for evidence in &route.evidence {
            if let Some((_, watched)) = watched.get_index_mut(evidence.index) {
                watched.pulse.hear(at, &route.place);
            }
        }
        Some(Arc::clone(&route.place))
    }

    /// Stores what was kept.
    pub(super) async fn store(&mut self) -> anyhow::Result<()> {
        let arrivals = self.arrivals.drain(..);
        Ok(self.parts.store.append_all(arrivals).await?)
    }

    /// Keeps a message until [`Self::store`], to be acknowledged after its commit; one that is nobody's is
    /// acknowledged at once.
    fn keep(&mut self, message: Message, place: Arc<Place>, is_birth: bool, at: Now) {
        let is_exactly_once = message.qos == QoS::ExactlyOnce;
        if !place.has_devices() && !is_exactly_once {
            if let Some(ack) = message.ack {
                self.parts.handle.acknowledge(ack);
            }
            return;
        }
        let packet = message.ack.as_ref().filter(|_| is_exactly_once);
        let packet = packet.map(|ack| (self.parts.memory.packet_ids(), ack.packet_id()));
        let receipt = message.ack.map(|ack| self.receipts.of(ack));
        let properties = message.properties.map(|properties| store::Properties {
            content_type: properties.content_type,
            user: properties.user,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data,
        });
        self.arrivals.push(Arrival {
            place,
            payload: message.payload,
            qos: message.qos.level(),
            retained: message.retained,
            duplicate: message.duplicate,
            time: i64::try_from(at.wall.as_nanosecond()).unwrap_or_default(),
            properties: properties
                .filter(|p| *p != store::Properties::default())
                .map(Box::new),
            packet,
            is_observed: is_birth,
            receipt,
        });
    }
}
