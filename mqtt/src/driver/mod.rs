//! The session's task: reaches a member, runs the connection, waits, begins again. In: requests, credentials,
//! sockets. Out: events and status.

mod backoff;
mod control;
mod link;
mod reach;
mod wire;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc, watch};

use self::{
    backoff::Pauses,
    link::End,
    reach::{Reach, Versions},
};
use crate::{
    Ack, BoxFuture, Connected, Counters, Credentials, ErrorKind, Event, Failover, Options, Publish,
    ServerUrl, SessionError, SessionState, StateError, Status, Subscription,
    handle::not_connected,
    machine::{Machine, Reply},
    net::Established,
    queue::Producer,
};

pub(crate) use control::{Control, Stop};

/// A message to publish and where its result goes.
pub(crate) type PublishRequest = (Publish, Reply);

/// Messages that wait to be taken by the session; their callers wait with them.
pub(crate) const PUBLISHES_WAITING: usize = 64;
/// Short connections in a row that are reported as a take-over.
const TAKE_OVERS: u32 = 3;

/// What ends the time without a connection early.
enum Interrupt {
    Stop,
    Credentials,
}

pub(crate) struct Session {
    options: Arc<Options>,
    credentials: watch::Receiver<Credentials>,
    credentials_open: bool,
    state: Arc<dyn SessionState>,
    machine: Machine,
    producer: Producer,
    control: Arc<Control>,
    publishes: mpsc::Receiver<PublishRequest>,
    publishes_open: bool,
    /// Commits under way; they outlive connections, because a late one must not meet a newer message's id.
    releases: FuturesUnordered<BoxFuture<'static, (u16, Result<(), StateError>)>>,
    status: watch::Sender<Status>,
    counters: Arc<Counters>,
    versions: Versions,
    pauses: Pauses,
    /// The set of packet ids belongs to a session that the server no longer has.
    must_clear: bool,
    last_url: Option<ServerUrl>,
    short_connections: u32,
}

impl Session {
    pub(crate) fn new(
        options: Options,
        mut credentials: watch::Receiver<Credentials>,
        (state, wanted): (Arc<dyn SessionState>, Vec<Subscription>),
        (producer, publishes): (Producer, mpsc::Receiver<PublishRequest>),
        control: &Arc<Control>,
    ) -> (Self, watch::Receiver<Status>) {
        let now = Instant::now();
        let counters = Arc::new(Counters::default());
        let machine = Machine::new(
            &options,
            Arc::clone(&state),
            Arc::clone(&counters),
            wanted,
            now,
        );
        let (status, watched) = watch::channel(Status::new(now, Arc::clone(&counters)));
        credentials.mark_unchanged();
        let session = Self {
            pauses: Pauses::new(options.backoff),
            options: Arc::new(options),
            credentials,
            credentials_open: true,
            state,
            machine,
            producer,
            control: Arc::clone(control),
            publishes,
            publishes_open: true,
            releases: FuturesUnordered::new(),
            status,
            counters,
            versions: Versions::new(),
            must_clear: false,
            last_url: None,
            short_connections: 0,
        };
        (session, watched)
    }

    /// Runs until the session is closed.
    pub(crate) async fn run(mut self) {
        let mut next = None;
        loop {
            let established = match next.take() {
                Some(established) => established,
                None => match self.connect().await {
                    Some(established) => established,
                    None => return self.ended(&stopped()),
                },
            };
            let began = Instant::now();
            self.accepted(&established, began);
            let url = established.url.clone();
            let end = self.drive(established).await;
            let pause = match end {
                End::Stop(_) => return self.ended(&stopped()),
                End::Credentials => {
                    self.lost(SessionError::new(
                        ErrorKind::CredentialsChanged,
                        "the credentials changed",
                    ));
                    None
                }
                End::Switch(established) => {
                    let text = format!("the preferred {} is back", established.url);
                    self.lost(SessionError::new(ErrorKind::MemberSwitch, text));
                    next = Some(*established);
                    None
                }
                End::Lost(error) => {
                    let error = self.judge(error, began.elapsed(), &url);
                    self.lost(error);
                    Some(self.pauses.next(rand::random()))
                }
            };
            // With another member to go to there is nothing to wait for.
            let failover = self.options.server.urls.len() > 1 && self.short_connections == 0;
            if let Some(pause) = pause.filter(|_| !failover)
                && let Some(Interrupt::Stop) = self.idle(tokio::time::sleep(pause)).await.err()
            {
                return self.ended(&stopped());
            }
        }
    }

    /// A connection that ends soon after it began, again and again, was taken over: 3.1.1 cannot say so,
    /// and Mosquitto 2.0 does not say it on 5 either.
    fn judge(&mut self, error: SessionError, lasted: Duration, url: &ServerUrl) -> SessionError {
        if self.pauses.lasted(lasted) {
            self.short_connections = 0;
            return error;
        }
        self.short_connections = self.short_connections.saturating_add(1);
        if error.kind != ErrorKind::Closed || self.short_connections < TAKE_OVERS {
            return error;
        }
        let (count, id) = (self.short_connections, &self.options.client_id);
        let text = format!(
            "{url} closed the connection soon after accepting it, {count} times in a row: probably another client \
             uses the client id {id:?}"
        );
        SessionError::new(ErrorKind::TakenOver, text)
    }

    /// Reaches a member; none when the session is to end.
    async fn connect(&mut self) -> Option<Established> {
        loop {
            let mut round = self.round();
            let mut failed = false;
            while let Some(url) = round.pop_front() {
                self.credentials.mark_unchanged();
                let reach = self.reach(&url);
                match self.idle(reach.run()).await {
                    Ok((url, known, result)) => {
                        self.versions.insert(url, known);
                        match result {
                            Ok(established) => return Some(established),
                            Err(error) => self.failed(error),
                        }
                        failed = true;
                    }
                    Err(Interrupt::Stop) => return None,
                    Err(Interrupt::Credentials) => round = self.round(),
                }
            }
            let pause = if failed {
                self.pauses.next(rand::random())
            } else {
                self.options.backoff.min
            };
            if let Err(Interrupt::Stop) = self.idle(tokio::time::sleep(pause)).await {
                return None;
            }
            self.room().await?;
        }
    }

    /// A consumer that takes nothing must not be buried under reports of attempts.
    async fn room(&mut self) -> Option<()> {
        while !self.producer.has_room() {
            if let Err(Interrupt::Stop) = self
                .idle(tokio::time::sleep(Duration::from_millis(100)))
                .await
            {
                return None;
            }
        }
        Some(())
    }

    /// The members in the order in which they are to be tried.
    fn round(&self) -> VecDeque<ServerUrl> {
        let mut urls: VecDeque<_> = self.options.server.urls.iter().cloned().collect();
        if self.options.server.failover == Failover::RoundRobin
            && let Some(at) = self
                .last_url
                .as_ref()
                .and_then(|last| urls.iter().position(|url| url == last))
        {
            urls.rotate_left(at);
        }
        urls
    }

    fn reach(&self, url: &ServerUrl) -> Reach {
        let changed = self.last_url.as_ref().is_some_and(|last| last != url);
        Reach {
            options: Arc::clone(&self.options),
            credentials: self.credentials.borrow().clone(),
            url: url.clone(),
            known: self.versions.get(url).copied().unwrap_or_default(),
            clean_start: changed && self.options.clean_on_member_change,
        }
    }

    /// Waits for a future while there is no connection; requests are heard.
    async fn idle<F: Future>(&mut self, future: F) -> Result<F::Output, Interrupt> {
        let mut future = std::pin::pin!(future);
        loop {
            let asked = self.control.take();
            self.apply(asked.wanted, asked.acks);
            if asked.stop.is_some() {
                return Err(Interrupt::Stop);
            }
            tokio::select! {
                output = &mut future => return Ok(output),
                () = self.control.notified() => {}
                request = self.publishes.recv(), if self.publishes_open => match request {
                    // The caller may have gone away.
                    Some((_, reply)) => drop(reply.send(Err(not_connected()))),
                    None => self.publishes_open = false,
                },
                Some((id, result)) = self.releases.next(), if !self.releases.is_empty() => {
                    if let Err(error) = self.released(id, result) {
                        tracing::warn!(%error, "a packet id was not released");
                    }
                }
                changed = self.credentials.changed(), if self.credentials_open => match changed {
                    Ok(()) => return Err(Interrupt::Credentials),
                    Err(_) => self.credentials_open = false,
                },
                () = self.producer.consumer_left() => return Err(Interrupt::Stop),
            }
        }
    }

    fn apply(&mut self, wanted: Option<Vec<Subscription>>, acks: Vec<Ack>) {
        if let Some(wanted) = wanted {
            self.machine.set_wanted(wanted, Instant::now());
        }
        for ack in &acks {
            self.machine.acknowledge(ack);
        }
    }

    fn accepted(&mut self, established: &Established, now: Instant) {
        let Established {
            url,
            version,
            connack,
            will,
            will_refused,
            ..
        } = established;
        let session_present = connack.session_present;
        let member_changed = self.last_url.as_ref().is_some_and(|last| last != url);
        if !session_present {
            self.must_clear = true;
            if self.last_url.is_some() && !self.options.session_expiry.is_zero() {
                Counters::add(&self.counters.sessions_lost, 1);
            }
        }
        Counters::add(&self.counters.connects_ok, 1);
        self.last_url = Some(url.clone());
        self.machine.connected(connack, *version, now);
        tracing::info!(%url, %version, session_present, member_changed, "connected");
        self.status.send_modify(|status| {
            status.connected = true;
            status.subscribed = false;
            status.url = Some(url.clone());
            status.version = Some(*version);
            status.will_refused = *will_refused;
            status.since = now;
        });
        let (url, version) = (url.clone(), *version);
        let connected = Connected {
            url,
            version,
            session_present,
            member_changed,
            will: will.clone(),
            at: now,
        };
        self.producer.push(&mut vec![Event::Connected(connected)]);
    }

    /// A connection ended.
    fn lost(&mut self, error: SessionError) {
        self.machine.disconnected(&error);
        self.report(error);
    }

    /// An attempt failed.
    fn failed(&mut self, error: SessionError) {
        self.report(error);
    }

    fn report(&mut self, error: SessionError) {
        tracing::warn!(kind = error.kind.label(), %error, "not connected");
        self.counters.failed(error.kind);
        let at = Instant::now();
        self.ended(&error);
        let last_packet = self.machine.last_packet();
        // What came before the end is delivered before it; it is never acknowledged on another connection.
        let mut events = std::mem::take(&mut self.machine.events);
        events.push(Event::Disconnected {
            error,
            last_packet,
            at,
        });
        self.producer.push(&mut events);
    }

    fn ended(&mut self, error: &SessionError) {
        self.machine.disconnected(error);
        let now = Instant::now();
        self.status.send_modify(|status| {
            if status.connected {
                status.since = now;
            }
            status.connected = false;
            status.subscribed = false;
            status.last_error = Some(error.clone());
        });
    }
}

fn stopped() -> SessionError {
    SessionError::new(ErrorKind::Stopped, "the session was closed")
}
