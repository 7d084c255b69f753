//! The requests of this process: one for each distinct pair of details and credentials, however many
//! Discover calls ask for it.
//! In: Discover calls. Out: lists, or why there are none. A request outlives its last stream for a
//! while, so that an Agent that restarts finds its devices; and it takes changed credentials over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use akri_mqtt_core::details::Details;
use akri_mqtt_proto::akri::DiscoverRequest;
use akri_mqtt_runtime::{Condition, Health, Shutdown};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tonic::Status;
use tracing::info;

use crate::asked::Asked;
use crate::config::Timing;
use crate::listing::Asker;
use crate::login::{Login, Logins};
use crate::naming::{DetailsDigest, RequestLabel};
use crate::observed::Member;
use crate::ordinals::Owner;
use crate::pool::{Join, Membership, Pool};
use crate::publisher::Publisher;
use crate::request::{self, Command, Request};
use crate::request_view::{Numbers, Scope};
use crate::rosters::{self, RosterFile, Saved};
use crate::running::{self, Key, Running};
use crate::session_state;
use crate::state_dir::StateDir;
use crate::streams::{Lists, OpenStream};
use crate::tally::Tally;
use crate::tap::Tap;
use crate::twins::Collisions;
use crate::view::RequestView;
use crate::vital::Vital;

/// Requests that one process serves.
const MAX_REQUESTS: usize = 256;
/// Streams that are open at once.
const MAX_STREAMS: usize = 4_096;
/// Events that may wait for a request; then its sessions read no more.
const EVENTS: usize = 1_024;
/// Commands that may wait for a request: Discover calls and questions.
const COMMANDS: usize = 32;
/// How long the end of a stream may take to arrive.
const OLD_STREAM: Duration = Duration::from_millis(300);

/// What the requests share.
pub struct Parts {
    /// The MQTT sessions.
    pub pool: Pool,
    /// Where rosters are kept.
    pub state: StateDir,
    /// This instance.
    pub instance: String,
    /// What happens to colliding Instance names.
    pub collisions: Collisions,
    /// Times.
    pub timing: Timing,
    /// Somebody who listens in.
    pub tap: Tap,
    /// Runs the requests.
    pub vital: Vital,
    /// Each request is a condition of it.
    pub health: Health,
    /// Stops everything.
    pub shutdown: Shutdown,
}

/// The requests; clones share them.
#[derive(Clone)]
pub struct Requests {
    parts: Arc<Parts>,
    running: Arc<Mutex<BTreeMap<Key, Running>>>,
    open: watch::Sender<usize>,
    serving: watch::Sender<BTreeSet<DetailsDigest>>,
    tally: Tally,
    logins: Logins,
}

/// A Discover call that was accepted.
pub struct Opened {
    /// Its lists.
    pub lists: Lists,
    /// Counts its stream while it lives.
    pub open: OpenStream,
}

impl Requests {
    /// No requests.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        rosters::prune(&parts.state, SystemTime::now());
        session_state::prune(&parts.state, SystemTime::now());
        Self {
            logins: Logins::load(&parts.state),
            parts: Arc::new(parts),
            running: Arc::default(),
            open: watch::channel(0).0,
            serving: watch::channel(BTreeSet::new()).0,
            tally: Tally::default(),
        }
    }

    /// How many streams are open.
    #[must_use]
    pub fn open_streams(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// The details for which a stream is open.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<BTreeSet<DetailsDigest>> {
        self.serving.subscribe()
    }

    /// Accepts a Discover call.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with all faults of the details; `RESOURCE_EXHAUSTED` above the limits.
    pub async fn open(&self, request: DiscoverRequest) -> Result<Opened, Status> {
        let Asked {
            details,
            digest,
            properties,
            limit,
        } = Asked::read(&request)?;
        let stopping = || Status::unavailable("the handler is stopping");
        let login = self
            .logins
            .of_call(&properties)
            .await
            .ok_or_else(stopping)?;
        let key = Key {
            details: digest,
            properties,
        };
        if *self.open.borrow() >= MAX_STREAMS {
            return Err(Status::resource_exhausted(format!(
                "{MAX_STREAMS} streams are open"
            )));
        }
        self.wait_for_old_stream(&key).await;
        let mut running = self.running.lock().await;
        if !running.contains_key(&key) {
            let found = match running::idle_with_other_credentials(&running, &key) {
                Some(old) => {
                    let changed = self.change_credentials(&mut running, &old, &key, login);
                    changed.await?
                }
                None => self.start(&running, &key, (details, login)).await?,
            };
            running.insert(key.clone(), found);
        }
        let Some(found) = running.get_mut(&key) else {
            unreachable!("it was there or was inserted above, under the same lock");
        };
        let (reply, lists) = oneshot::channel();
        found
            .commands
            .send(Command::Open(limit, reply))
            .await
            .map_err(|_| stopping())?;
        let lists = lists.await.map_err(|_| stopping())?;
        let open = OpenStream::count(vec![found.streams.clone(), self.open.clone()]);
        found.idle_since = None;
        self.tell_serving(&running);
        Ok(Opened { lists, open })
    }

    /// A caller whose Secret was changed ends its stream and calls again; the end may arrive a little later.
    async fn wait_for_old_stream(&self, key: &Key) {
        let old = {
            let running = self.running.lock().await;
            let mut others = running
                .iter()
                .filter(|(other, _)| other.details == key.details);
            if running.contains_key(key) {
                None
            } else {
                others.next().map(|(_, one)| one.streams.subscribe())
            }
        };
        if let Some(mut streams) = old {
            // If it goes on, the other caller has a request of its own.
            let _ = tokio::time::timeout(OLD_STREAM, streams.wait_for(|open| *open == 0)).await;
        }
    }

    /// Looks after requests without a stream, until the shutdown.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut open = self.open.subscribe();
        let tick = Duration::from_secs(1).min(self.parts.timing.idle);
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut touches = tokio::time::interval(session_state::TOUCH);
        loop {
            tokio::select! {
                () = self.parts.shutdown.triggered() => return Ok(()),
                _ = touches.tick() => self.parts.pool.touch_states(),
                _ = ticks.tick() => {}
                _ = open.changed() => {}
            }
            self.end_idle().await;
        }
    }

    /// What each request knows, and who can be asked for more, sorted by name.
    pub async fn explain(&self, scope: &Scope) -> Vec<(RequestView, Asker)> {
        let running = self.running.lock().await;
        let askers: Vec<_> = running
            .values()
            .map(|running| Asker::new(running.commands.clone()))
            .collect();
        drop(running);
        let mut views = Vec::with_capacity(askers.len());
        for asker in askers {
            if let Some(view) = asker.view(scope.clone()).await {
                views.push((view, asker));
            }
        }
        views.sort_by(|(a, _), (b, _)| a.request.cmp(&b.request));
        views
    }

    /// What they count; numbers of requests with one label are added up by the metrics.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    async fn end_idle(&self) {
        let mut running = self.running.lock().await;
        let ended = running::expired(&mut running, Instant::now(), self.parts.timing.idle);
        for key in ended {
            if let Some(one) = running.remove(&key) {
                info!(request = %one.label, "request ends: no stream asks for it any more");
                for member in one.members {
                    self.parts.pool.leave(member).await;
                }
            }
        }
        self.tell_serving(&running);
    }

    fn tell_serving(&self, running: &BTreeMap<Key, Running>) {
        let serving = running::serving(running);
        self.serving.send_if_modified(|known| {
            let changed = *known != serving;
            *known = serving;
            changed
        });
    }

    async fn start(
        &self,
        running: &BTreeMap<Key, Running>,
        key: &Key,
        (details, login): (Arc<Details>, Login),
    ) -> Result<Running, Status> {
        if running.len() >= MAX_REQUESTS {
            return Err(Status::resource_exhausted(format!(
                "{MAX_REQUESTS} requests are served"
            )));
        }
        let label = RequestLabel::of(&details);
        let file = self.file(key, login);
        let (of, from) = (Arc::clone(&details), file.clone());
        // A million devices take seconds.
        let restored = tokio::task::spawn_blocking(move || from.restore(of, request::now()));
        let (presence, mut saved, unproven) = restored
            .await
            .map_err(|_| Status::unavailable("the handler is stopping"))?;
        let known = saved.as_ref().or(unproven.as_ref()).and_then(|it| it.at);
        let (events, inbox) = mpsc::channel(EVENTS);
        let (commands, questions) = mpsc::channel(COMMANDS);
        let member = Member::new(presence.subscriptions(), known, events);
        let owner = Owner::new(&label, file.login());
        let members = self.join_all(&details, key, owner, &member).await?;
        let (streams, stream_count) = watch::channel(0);
        let (numbers_in, numbers) = watch::channel(Numbers::default());
        let (collisions, comeback) = (self.parts.collisions, self.parts.timing.comeback);
        let number = running::free_number(running, &key.details);
        let condition = self.condition(&label, &key.details, number);
        let request = Request::new(request::Parts {
            publisher: Publisher::new(Arc::clone(&details), collisions, comeback),
            details,
            label: label.clone(),
            digest: key.details.clone(),
            presence,
            waited: saved.as_mut().map(Saved::take_line),
            unproven,
            file,
            condition,
            tap: self.parts.tap.clone(),
            streams: stream_count,
            numbers: numbers_in,
        });
        info!(request = %label, details = %key.details, "request begins");
        let task = request.run(inbox, questions, self.parts.shutdown.clone());
        self.parts.vital.spawn(format!("request {label}"), task);
        let counted = self.tally.watch(label.clone(), numbers);
        let one = Running {
            label,
            number,
            commands,
            members,
            streams,
            counted,
            idle_since: None,
        };
        one.tell_sessions().await;
        Ok(one)
    }

    async fn join_all(
        &self,
        details: &Details,
        key: &Key,
        owner: Owner,
        member: &Member,
    ) -> Result<Vec<Membership>, Status> {
        let mut members = Vec::with_capacity(details.servers.len());
        for server in &details.servers {
            let join = Join {
                server: server.clone(),
                rules: details.mqtt.clone(),
                host: details.host_id().map(str::to_owned),
                properties: key.properties.clone(),
                legacy: details.legacy,
                owner: owner.clone(),
                member: member.clone(),
            };
            match self.parts.pool.join(join).await {
                Ok(joined) => members.push(joined),
                Err(error) => {
                    for joined in members {
                        self.parts.pool.leave(joined).await;
                    }
                    return Err(Status::invalid_argument(format!("credentials: {error}")));
                }
            }
        }
        Ok(members)
    }

    /// Goes on with a request that lost its stream because its Secret was changed: devices keep their state.
    async fn change_credentials(
        &self,
        running: &mut BTreeMap<Key, Running>,
        old: &Key,
        new: &Key,
        login: Login,
    ) -> Result<Running, Status> {
        let Some(mut one) = running.remove(old) else {
            return Err(Status::internal("the request has ended meanwhile"));
        };
        let mut members = Vec::with_capacity(one.members.len());
        let mut failed = None;
        for member in std::mem::take(&mut one.members) {
            let changed = (new.properties.clone(), &login);
            match self.parts.pool.change(member, changed).await {
                Ok(changed) => members.push(changed),
                Err((unchanged, error)) => {
                    members.push(unchanged);
                    failed = Some(error);
                }
            }
        }
        one.members = members;
        one.tell_sessions().await;
        if let Some(error) = failed {
            running.insert(old.clone(), one);
            return Err(Status::invalid_argument(format!("credentials: {error}")));
        }
        let file = self.file(new, login);
        // It fails only at shutdown.
        let _ = one.commands.send(Command::Login(file)).await;
        info!(request = %one.label, "request goes on with other credentials");
        Ok(one)
    }

    fn condition(&self, label: &RequestLabel, details: &DetailsDigest, number: u32) -> Condition {
        let other = match number {
            1 => String::new(),
            _ => format!(" with other credentials, {number}"),
        };
        let name = format!("request {label} {details}{other}");
        self.parts.health.condition(name, "not listed yet")
    }

    fn file(&self, key: &Key, login: Login) -> RosterFile {
        RosterFile::new(&self.parts.state, &self.parts.instance, &key.details, login)
    }
}
