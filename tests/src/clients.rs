//! MQTT clients for tests: a session that is watched, and one that publishes. Both are the product's own
//! session, because its behaviour is what is tested; foreign clients are the business of the end-to-end tests.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture that fails fails its test"
)]

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use akri_mqtt_core::{
    credentials::Credentials,
    details::{Failover, QoS, Server, ServerUrl},
    identity::ServerName,
};
use akri_mqtt_session::{
    Backoff, ErrorKind, Event, Events, Handle, MemoryState, Options, Publish, Published,
    SessionError, Subscription, start,
};
use tokio::{sync::watch, task::JoinSet};

/// How long a condition may take on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Options for tests: the back-off of a second and more is scaled down to milliseconds.
///
/// # Panics
/// Never: the name is valid.
#[must_use]
pub fn options(urls: Vec<ServerUrl>, client_id: &str) -> Options {
    let name = ServerName::parse("test").expect("a name");
    let server = Server {
        name,
        urls,
        failover: Failover::Ordered,
    };
    let mut options = Options::new(server, client_id);
    options.backoff = Backoff {
        min: Duration::from_millis(20),
        max: Duration::from_millis(500),
    };
    options.connect_timeout = Duration::from_secs(5);
    options
}

/// A session under test: acknowledges what it gets, as a consumer that stores at once, and remembers it all.
pub struct Watched {
    /// The session.
    pub handle: Handle,
    /// Its events.
    pub events: Events,
    /// Its memory, which a restart keeps.
    pub state: Arc<MemoryState>,
    /// Topic and payload of each message, in order.
    pub messages: Vec<(String, String)>,
    /// Kinds of failures, in order.
    pub errors: Vec<(ErrorKind, String)>,
    /// `session_present` of each connection, in order.
    pub connections: Vec<bool>,
    /// Refused filters of each `Subscribed`.
    pub subscribed: Vec<Vec<(String, String)>>,
    /// The last event, for messages of failing tests.
    pub last: String,
    credentials: watch::Sender<Credentials>,
}

impl Watched {
    /// Starts a session with a fresh memory and no credentials.
    #[must_use]
    pub fn start(options: Options, wanted: Vec<Subscription>) -> Self {
        Self::start_with(
            options,
            wanted,
            Credentials::default(),
            Arc::new(MemoryState::new()),
        )
    }

    /// Starts a session.
    #[must_use]
    pub fn start_with(
        options: Options,
        wanted: Vec<Subscription>,
        credentials: Credentials,
        state: Arc<MemoryState>,
    ) -> Self {
        let (sender, credentials) = watch::channel(credentials);
        let (handle, events) = start(options, credentials, state.clone(), wanted);
        Self {
            handle,
            events,
            state,
            messages: Vec::new(),
            errors: Vec::new(),
            connections: Vec::new(),
            subscribed: Vec::new(),
            last: String::from("none"),
            credentials: sender,
        }
    }

    /// New credentials.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.credentials.send_replace(credentials);
    }

    /// Takes events until the condition holds.
    ///
    /// # Panics
    /// When it does not hold within [`LIMIT`].
    pub async fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!(
                    "the session ended while waiting for: {what}; {}",
                    self.summary()
                ),
                Err(_) => panic!("not within {LIMIT:?}: {what}; {}", self.summary()),
            }
        }
    }

    /// Takes events until `subscribed` was reported more often than before.
    ///
    /// # Panics
    /// When it is not within [`LIMIT`].
    pub async fn until_subscribed(&mut self) {
        let before = self.subscribed.len();
        self.until("subscribed", |watched| watched.subscribed.len() > before)
            .await;
    }

    /// Takes events for a while, to see that something does not happen.
    pub async fn watch_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                _ => return,
            }
        }
    }

    /// How often each payload came.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, payload) in &self.messages {
            *counts.entry(payload.as_str()).or_default() += 1;
        }
        counts
    }

    /// Whether a failure of this kind was reported.
    #[must_use]
    pub fn failed_with(&self, kind: ErrorKind) -> bool {
        self.errors.iter().any(|(found, _)| *found == kind)
    }

    fn summary(&self) -> String {
        let (messages, errors) = (self.messages.len(), &self.errors);
        let counters = self.handle.status().borrow().counters.snapshot();
        let tail = errors.iter().rev().take(5).collect::<Vec<_>>();
        format!(
            "{messages} messages, connections {:?}, subscribed {}, last errors {tail:?}, last event {}, {counters:?}",
            self.connections,
            self.subscribed.len(),
            self.last
        )
    }

    /// Takes one event as a consumer does.
    pub fn take(&mut self, event: Event) {
        self.last = format!("{event:?}");
        match event {
            Event::Connected(connected) => self.connections.push(connected.session_present),
            Event::Subscribed { refused, .. } => self.subscribed.push(refused),
            Event::Disconnected { error, .. } => self.errors.push((error.kind, error.text)),
            Event::Alive { .. } | Event::TooLarge { .. } => {}
            Event::Message(message) => {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                self.messages.push((message.topic.to_string(), payload));
                if let Some(ack) = message.ack {
                    if ack.qos() == QoS::ExactlyOnce {
                        self.state.insert(ack.packet_id());
                    }
                    self.handle.acknowledge(ack);
                }
            }
        }
    }
}

/// A client that only publishes.
pub struct Publisher {
    handle: Handle,
    _events: Events,
    _credentials: watch::Sender<Credentials>,
}

impl Publisher {
    /// Connects.
    ///
    /// # Panics
    /// When it cannot within [`LIMIT`].
    pub async fn connect(url: ServerUrl) -> Self {
        let (sender, credentials) = watch::channel(Credentials::default());
        let id = format!("publisher-{}", rand::random::<u32>());
        let mut options = options(vec![url], &id);
        options.session_expiry = Duration::ZERO;
        let (handle, mut events) = start(
            options,
            credentials,
            Arc::new(MemoryState::new()),
            Vec::new(),
        );
        let connected =
            async { while !matches!(events.recv().await, Some(Event::Connected(_))) {} };
        tokio::time::timeout(LIMIT, connected)
            .await
            .expect("the publisher connects");
        Self {
            handle,
            _events: events,
            _credentials: sender,
        }
    }

    /// Publishes one message and waits for its confirmation.
    ///
    /// # Panics
    /// When it is not confirmed.
    pub async fn publish(&self, message: Publish) {
        let confirmed = tokio::time::timeout(LIMIT, self.handle.publish(message));
        confirmed
            .await
            .expect("confirmed in time")
            .expect("published");
    }

    /// Publishes many messages with some of them in flight; returns when all are confirmed.
    ///
    /// # Panics
    /// When one is not confirmed.
    pub async fn publish_all(&self, messages: impl IntoIterator<Item = Publish>) {
        let mut running: JoinSet<Result<Published, SessionError>> = JoinSet::new();
        for message in messages {
            if running.len() >= 64 {
                let done = running.join_next().await.expect("one runs");
                done.expect("no panic").expect("published");
            }
            let handle = self.handle.clone();
            running.spawn(async move { handle.publish(message).await });
        }
        while let Some(done) = running.join_next().await {
            done.expect("no panic").expect("published");
        }
    }
}

/// Polls a condition until it holds.
///
/// # Panics
/// When it does not hold within [`LIMIT`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
