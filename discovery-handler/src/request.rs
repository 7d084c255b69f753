//! One request: the state machine of its devices, and everything around it.
//! In: what its sessions observe, and questions. Out: lists by `watch`, a roster on disk, answers.
//! Decisions are those of `core::presence`; this is a `select!` with clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::details::Details;
use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_core::presence::{Inbound, Presence, RosterEntry};
use akri_mqtt_runtime::{Condition, Shutdown};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::naming::{DetailsDigest, RequestLabel};
use crate::observed::Observed;
use crate::pool::{SessionInfo, Wants};
use crate::publisher::{self, Publisher};
use crate::request_view::{Facts, Numbers, Scope};
use crate::rosters::{RosterFile, Saved, Waited};
use crate::saving::Saving;
use crate::shared::until;
use crate::streams::Lists;
use crate::tap::Tap;
use crate::view::RequestView;

/// Events taken before timers and publication get their turn.
const BATCH: usize = 256;
/// Between two pings for the same reason: the answer to the first may be on its way.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// What a request is told and asked.
pub enum Command {
    /// A caller that takes responses of so many bytes wants the lists.
    Open(usize, oneshot::Sender<Lists>),
    /// The sessions of its servers are these now, and its parts in them.
    Sessions(BTreeMap<ServerName, (SessionInfo, Wants)>),
    /// Its credentials are others now, so its roster belongs into this file.
    Login(RosterFile),
    /// What do you know?
    Explain(Scope, oneshot::Sender<RequestView>),
    /// Which devices do you know, from this one on, and so many of them? The answer says where to go on.
    Ids(
        usize,
        usize,
        oneshot::Sender<(Vec<DeviceId>, Option<usize>)>,
    ),
}

/// What a request needs to run.
pub struct Parts {
    /// What it looks for.
    pub details: Arc<Details>,
    /// Its name.
    pub label: RequestLabel,
    /// Digest of what was sent.
    pub digest: DetailsDigest,
    /// Its state machine, with the restored roster.
    pub presence: Presence,
    /// Who of the restored roster was not listed; `None` if none was restored.
    pub waited: Option<Waited>,
    /// A roster whose devices are restored once their server has accepted the credentials.
    pub unproven: Option<Saved>,
    /// Makes its lists.
    pub publisher: Publisher,
    /// Where its roster is kept.
    pub file: RosterFile,
    /// Its part in `/readyz`.
    pub condition: Condition,
    /// Somebody who listens in.
    pub tap: Tap,
    /// Open streams.
    pub streams: watch::Receiver<usize>,
    /// Told the numbers.
    pub numbers: watch::Sender<Numbers>,
}

/// A running request.
pub struct Request {
    parts: Parts,
    restored: bool,
    sessions: BTreeMap<ServerName, SessionInfo>,
    /// Its parts in them, and those that are still to be told what they should subscribe.
    wants: BTreeMap<ServerName, Wants>,
    untold: BTreeSet<ServerName>,
    subscriptions: u64,
    /// Messages that no session could take.
    unsaid: u64,
    publish_at: Option<Instant>,
    probed: Option<Instant>,
    probe_at: Option<Instant>,
    /// Whether there is a list.
    listed: bool,
    saving: Saving,
}

/// This moment on both clocks.
#[must_use]
pub fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: Timestamp::now(),
    }
}

impl Request {
    /// A request that has not begun.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            restored: parts.waited.is_some(),
            parts,
            sessions: BTreeMap::new(),
            wants: BTreeMap::new(),
            untold: BTreeSet::new(),
            subscriptions: 0,
            unsaid: 0,
            publish_at: None,
            probed: None,
            probe_at: None,
            listed: false,
            saving: Saving::new(Instant::now()),
        }
    }

    /// Runs until nobody has a sender of commands any more, or the shutdown; then writes the roster.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<(ServerName, Observed)>,
        mut commands: mpsc::Receiver<Command>,
        shutdown: Shutdown,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        self.after_changes();
        loop {
            let machine = self.parts.presence.poll_timeout();
            let wake = [
                machine,
                self.publish_at,
                self.saving.due(Instant::now()),
                self.probe_at,
            ];
            tokio::select! {
                biased;
                () = shutdown.triggered() => break,
                command = commands.recv() => match command {
                    Some(command) => self.answer(command),
                    None => break,
                },
                _ = events.recv_many(&mut batch, BATCH) => {
                    for (server, observed) in batch.drain(..) {
                        self.parts.tap.tell(&server, &observed).await;
                        self.observe(&server, observed);
                    }
                }
                () = until(wake.into_iter().flatten().min().map(Into::into)) => {}
            }
            self.parts.presence.handle_timeout(now());
            self.after_changes();
        }
        drop(events);
        self.saving.finished().await;
        if self.listed {
            // Its failure was logged by itself.
            let _ = self.write().await;
        }
        self.parts.condition.remove();
    }

    fn observe(&mut self, server: &ServerName, observed: Observed) {
        let presence = &mut self.parts.presence;
        match observed {
            Observed::Connected { resumed, at } => {
                let at = at_time(at);
                if let Some(unproven) = &mut self.parts.unproven {
                    presence.restore(&unproven.take(server), at);
                }
                presence.on_connected(server, at);
                if !resumed {
                    presence.on_session_lost(server, at);
                }
            }
            Observed::Subscribed { at } => presence.on_subscribed(server, at_time(at)),
            Observed::Account => {}
            Observed::Alive { at } => presence.on_packet(server, at),
            Observed::Disconnected { last_packet, at } => {
                presence.on_disconnected(server, last_packet.unwrap_or(at), at_time(at));
            }
            Observed::TooLarge {
                topic,
                retained,
                at,
            } => {
                presence.on_packet(server, at);
                if retained {
                    presence.on_too_large(server, &topic, at_time(at));
                }
            }
            Observed::Message {
                topic,
                payload,
                retained,
                qos,
                at,
            } => {
                presence.on_packet(server, at);
                let message = Inbound {
                    topic: &topic,
                    payload: &payload,
                    retained,
                    qos,
                };
                presence.on_message(server, message, at_time(at));
            }
        }
    }

    fn answer(&mut self, command: Command) {
        match command {
            Command::Open(limit, reply) => {
                // A caller that has gone meanwhile needs no lists.
                let _ = reply.send(self.open(limit));
            }
            Command::Sessions(sessions) => {
                self.sessions.clear();
                self.wants.clear();
                for (server, (info, wants)) in sessions {
                    self.sessions.insert(server.clone(), info);
                    self.wants.insert(server, wants);
                }
                // New parts know only what was wanted from the start.
                self.subscriptions = 0;
            }
            Command::Login(file) => {
                if !file.login().is_same_user(self.parts.file.login()) {
                    self.parts.unproven = None;
                }
                self.parts.file = file.in_place_of(&self.parts.file);
                if self.listed {
                    self.saving.change();
                }
            }
            Command::Explain(scope, reply) => {
                let _ = reply.send(self.facts().view(&scope, now()));
            }
            Command::Ids(from, count, reply) => {
                let _ = reply.send(self.parts.presence.ids(from, count));
            }
        }
    }

    fn after_changes(&mut self) {
        let instant = Instant::now();
        self.probe(instant);
        self.subscribe();
        self.speak();
        match (self.listed, self.publish_at) {
            (false, _) if self.restored || self.parts.presence.is_settled() => self.publish(),
            (true, None) if self.parts.presence.has_moved() => {
                self.publish_at = Some(instant + self.parts.details.limits.publish_interval);
            }
            (true, Some(at)) if at <= instant => self.publish(),
            _ => {}
        }
        if self.saving.begins(instant) {
            let write = self.write();
            self.saving.runs(write);
        }
        self.parts.numbers.send_replace(self.facts().numbers());
        let (ready, reason) = self.facts().readiness();
        if ready {
            self.parts.condition.ready(reason);
        } else {
            self.parts.condition.not_ready(reason);
        }
    }

    /// Tells the sessions what payloads have named; one that has no time is told after its next event.
    fn subscribe(&mut self) {
        let presence = &self.parts.presence;
        let revision = presence.subscriptions_revision();
        if revision != self.subscriptions {
            self.subscriptions = revision;
            self.untold = self.wants.keys().cloned().collect();
        }
        let wants = &self.wants;
        self.untold.retain(|server| {
            let part = wants.get(server);
            part.is_some_and(|part| !part.change(presence.subscriptions_on(server)))
        });
    }

    /// Hands the sessions what is to be published. What none takes now is lost: whoever asked will ask again.
    fn speak(&mut self) {
        for (server, outgoing) in self.parts.presence.outgoing(now()) {
            let connected = self.sessions.get(&server);
            let connected = connected.is_some_and(|one| one.handle.status().borrow().connected);
            let part = self.wants.get(&server).filter(|_| connected);
            if !part.is_some_and(|part| part.publish(outgoing)) {
                self.unsaid += 1;
            }
        }
    }

    /// Asks servers for a packet, where a deadline waits for one.
    fn probe(&mut self, instant: Instant) {
        let servers = self.parts.presence.needs_probe();
        self.probe_at = None;
        if servers.is_empty() {
            return;
        }
        if self.probed.is_none_or(|at| at + PROBE_EVERY <= instant) {
            self.probed = Some(instant);
            for session in servers
                .iter()
                .filter_map(|server| self.sessions.get(server))
            {
                session.handle.ping();
            }
        }
        self.probe_at = self.probed.map(|at| at + PROBE_EVERY);
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            label: &self.parts.label,
            digest: &self.parts.digest,
            details: &self.parts.details,
            presence: &self.parts.presence,
            sessions: &self.sessions,
            publisher: &self.parts.publisher,
            unsaid: self.unsaid,
            streams: *self.parts.streams.borrow(),
            listed: self.listed,
            restored: self.restored,
        }
    }

    fn open(&mut self, limit: usize) -> Lists {
        if self.listed && !self.parts.publisher.serves(limit) {
            // A new list begins with those that were published, not with those that are about to be.
            self.publish();
        }
        let Parts {
            publisher,
            presence,
            ..
        } = &mut self.parts;
        let present = || {
            let entries = presence.entries();
            entries.map(|entry| (entry.id, entry.order)).collect()
        };
        publisher.subscribe(limit, present, |id| presence.listing(id))
    }

    fn publish(&mut self) {
        self.publish_at = None;
        self.listed = true;
        let waited = self.parts.waited.take().unwrap_or_default();
        let moved = self.parts.presence.take_moved();
        let Parts {
            publisher,
            presence,
            label,
            ..
        } = &mut self.parts;
        publisher.publish(
            &moved,
            |id| presence.listing(id),
            |id| waited.contains(id),
            Instant::now(),
        );
        publisher::log(&moved, label, |id| {
            let explained = presence.explain(id, now());
            explained
                .map(|explained| explained.explanation)
                .unwrap_or_default()
        });
        self.saving.change();
    }

    /// Begins to write the roster; only one file is written at a time.
    fn write(&mut self) -> JoinHandle<Duration> {
        let (file, now) = (self.parts.file.clone(), Timestamp::now());
        let details = Arc::clone(&self.parts.details);
        let devices: Vec<RosterEntry> = self.parts.presence.entries().collect();
        let line = self.parts.publisher.line();
        let began = Instant::now();
        tokio::task::spawn_blocking(move || {
            let login = file.login().clone();
            file.save(&Saved::of(&details, login, devices, line, now));
            began.elapsed()
        })
    }
}

fn at_time(at: Instant) -> Now {
    let now = now();
    let ago = now.mono.saturating_duration_since(at);
    let wall = now.wall.checked_sub(ago).unwrap_or(now.wall);
    Now { mono: at, wall }
}
