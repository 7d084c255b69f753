//! One MQTT session that several requests share.
//! In: the session's events; requests that join and leave; changed credentials. Out: to each
//! request what its filters match, and what happens to the connection. What it means is left to the
//! requests.
//!
//! The queues to the requests are bounded. While one is full the session reads nothing, and the
//! server queues by its own limits; nothing is dropped here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::details::{QoS, Server};
use akri_mqtt_core::presence::Wanted;
use akri_mqtt_core::topic::{FilterTree, TopicFilter};
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_session::{Event, Events, Handle, Message, Subscription};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::account::Account;
use crate::observed::{Command, Member, Observed};
use crate::session_state::FileState;
use crate::subscriptions::union;
use crate::voice::Voice;

/// How long a session that nobody wants any more may take to unsubscribe, and a refresh to begin.
const UNSUBSCRIBE_WITHIN: Duration = Duration::from_secs(2);

struct Joined {
    member: Member,
    /// Whether it was told that it is subscribed on this connection.
    told: bool,
}

/// The connection that there is.
struct Link {
    at: Instant,
    /// The same on the clock that rosters are dated by.
    since: Timestamp,
    /// Whether the server has kept what came before it.
    session_present: bool,
}

/// The session and its requests.
pub struct SharedSession {
    server: Server,
    handle: Handle,
    account: Account,
    state: Arc<FileState>,
    voice: Voice,
    members: BTreeMap<u64, Joined>,
    tree: FilterTree<u64>,
    subscribed: Vec<Subscription>,
    connected: Option<Link>,
    settled: bool,
    /// Filters are left out until then, so that subscribing them again brings their snapshot.
    refresh_until: Option<tokio::time::Instant>,
    refused: Vec<(String, String)>,
}

impl SharedSession {
    /// A session without requests.
    #[must_use]
    pub fn new(
        server: Server,
        (handle, voice): (Handle, Voice),
        account: Account,
        state: Arc<FileState>,
    ) -> Self {
        Self {
            server,
            handle,
            account,
            state,
            voice,
            members: BTreeMap::new(),
            tree: FilterTree::new(),
            subscribed: Vec::new(),
            connected: None,
            settled: false,
            refresh_until: None,
            refused: Vec::new(),
        }
    }

    /// Runs until [`Command::End`] or the shutdown, which keeps the session on the server.
    pub async fn run(
        mut self,
        mut events: Events,
        mut commands: mpsc::Receiver<Command>,
        shutdown: Shutdown,
    ) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.triggered() => break,
                () = self.voice.go_on() => {}
                command = commands.recv(), if self.voice.has_room() => match command {
                    Some(Command::Join(id, member)) => self.join(id, member).await,
                    Some(Command::Want(id, wanted)) => self.want(id, wanted),
                    Some(Command::Publish(outgoing)) => self.voice.say(outgoing, Instant::now()),
                    Some(Command::Leave(id)) => self.leave(id),
                    Some(Command::Credentials(properties, credentials)) => {
                        self.account.replace(properties, credentials);
                        self.tell_all(Observed::Account).await;
                    }
                    Some(Command::End) | None => {
                        self.unsubscribe(&mut events).await;
                        break;
                    }
                },
                () = self.account.files_changed() => if self.account.read_files() {
                    self.tell_all(Observed::Account).await;
                },
                () = until(self.refresh_until) => self.end_refresh(),
                event = events.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
            }
        }
        self.voice.end().await;
        self.handle.close().await;
    }

    async fn join(&mut self, id: u64, member: Member) {
        if let Some(link) = &self.connected {
            let heard_since = member.known.is_some_and(|known| known >= link.since);
            let observed = Observed::Connected {
                resumed: link.session_present || heard_since,
                at: link.at,
            };
            self.tell(&member, observed).await;
        }
        let again: Vec<String> = member
            .wanted
            .iter()
            .filter(|wanted| wanted.snapshot)
            .map(|wanted| wanted.filter.as_str().to_owned())
            .collect();
        self.members.insert(
            id,
            Joined {
                member,
                told: false,
            },
        );
        self.index();
        let wanted = self.union();
        let overlaps = |known: &Subscription| {
            let covers = |filter: &String| {
                known.filter == *filter
                    || match (
                        TopicFilter::parse(&known.filter),
                        TopicFilter::parse(filter),
                    ) {
                        (Ok(known), Ok(filter)) => known.covers(&filter),
                        _ => false,
                    }
            };
            known.snapshot && again.iter().any(covers)
        };
        if self.connected.is_some() && self.subscribed.iter().any(overlaps) {
            // The server sends retained messages only for a new subscription, and the newcomer needs them.
            let without: Vec<Subscription> = wanted
                .iter()
                .filter(|known| !overlaps(known))
                .cloned()
                .collect();
            self.refresh_until = Some(tokio::time::Instant::now() + UNSUBSCRIBE_WITHIN);
            self.handle.subscribe(without);
        } else if wanted == self.subscribed && self.settled {
            self.tell_subscribed(Instant::now()).await;
        } else {
            self.subscribe(wanted);
        }
    }

    fn want(&mut self, id: u64, wanted: Vec<Wanted>) {
        if let Some(joined) = self.members.get_mut(&id) {
            joined.member.wanted = wanted;
            self.follow();
        }
    }

    fn leave(&mut self, id: u64) {
        self.members.remove(&id);
        self.follow();
    }

    /// Subscribes what the requests want by now.
    fn follow(&mut self) {
        self.index();
        if self.refresh_until.is_none() {
            let wanted = self.union();
            if wanted != self.subscribed {
                self.subscribe(wanted);
            }
        }
    }

    fn end_refresh(&mut self) {
        self.refresh_until = None;
        let wanted = self.union();
        self.subscribe(wanted);
    }

    fn subscribe(&mut self, wanted: Vec<Subscription>) {
        self.settled = false;
        self.subscribed.clone_from(&wanted);
        self.handle.subscribe(wanted);
    }

    fn union(&self) -> Vec<Subscription> {
        let members = self.members.values();
        let mut all = union(members.flat_map(|joined| &joined.member.wanted));
        all.extend(self.voice.subscription());
        all
    }

    fn index(&mut self) {
        self.tree = FilterTree::new();
        for (id, joined) in &self.members {
            for wanted in &joined.member.wanted {
                self.tree.insert(&wanted.filter, *id);
            }
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Connected(connected) => {
                info!(server = %self.server.name, url = %connected.url, version = %connected.version,
                    session_present = connected.session_present, "connected");
                self.connected = Some(Link {
                    at: connected.at,
                    since: Timestamp::now(),
                    session_present: connected.session_present,
                });
                self.settled = false;
                self.members
                    .values_mut()
                    .for_each(|joined| joined.told = false);
                self.voice.connected(&connected);
                let (resumed, at) = (connected.session_present, connected.at);
                self.tell_all(Observed::Connected { resumed, at }).await;
            }
            Event::Subscribed { refused, at } => self.take_subscribed(refused, at).await,
            Event::Message(message) => self.take_message(message).await,
            Event::TooLarge {
                topic,
                retained,
                at,
            } => {
                let observed = Observed::TooLarge {
                    topic: topic.clone(),
                    retained,
                    at,
                };
                self.tell_matching(&topic, observed).await;
            }
            Event::Alive { at } => self.tell_all(Observed::Alive { at }).await,
            Event::Disconnected {
                error,
                last_packet,
                at,
            } => {
                warn!(server = %self.server.name, %error, "not connected");
                self.connected = None;
                self.settled = false;
                self.voice.disconnected();
                if self.refresh_until.is_some() {
                    self.end_refresh();
                }
                self.tell_all(Observed::Disconnected { last_packet, at })
                    .await;
            }
        }
    }

    async fn take_subscribed(&mut self, refused: Vec<(String, String)>, at: Instant) {
        if self.refresh_until.is_some() {
            self.end_refresh();
            return;
        }
        if refused != self.refused {
            for (filter, reason) in &refused {
                warn!(server = %self.server.name, filter, reason, "the server refuses a subscription");
            }
            self.refused = refused;
        }
        self.settled = true;
        self.voice.subscribed();
        self.tell_subscribed(at).await;
    }

    async fn take_message(&mut self, message: Message) {
        self.voice.hear(&message);
        let topic = message.topic;
        let observed = Observed::Message {
            topic: topic.clone(),
            payload: message.payload,
            retained: message.retained,
            qos: message.qos,
            at: message.received,
        };
        self.tell_matching(&topic, observed).await;
        // What is lost between here and the roster is announced again by the snapshot of the next connect.
        if let Some(ack) = message.ack {
            if ack.qos() == QoS::ExactlyOnce {
                self.state.insert(ack.packet_id());
            }
            self.handle.acknowledge(ack);
        }
    }

    /// Tells those of whom a filter matches.
    async fn tell_matching(&self, topic: &str, observed: Observed) {
        let mut ids: Vec<u64> = self.tree.matching(topic).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(joined) = self.members.get(&id) {
                self.tell(&joined.member, observed.clone()).await;
            }
        }
    }

    async fn tell_subscribed(&mut self, at: Instant) {
        let name = &self.server.name;
        for joined in self.members.values_mut().filter(|joined| !joined.told) {
            joined.told = true;
            // A request that is gone leaves soon.
            let _ = joined
                .member
                .to
                .send((name.clone(), Observed::Subscribed { at }))
                .await;
        }
    }

    async fn tell_all(&self, observed: Observed) {
        for joined in self.members.values() {
            self.tell(&joined.member, observed.clone()).await;
        }
    }

    async fn tell(&self, member: &Member, observed: Observed) {
        // A request that is gone leaves soon.
        let _ = member.to.send((self.server.name.clone(), observed)).await;
    }

    async fn unsubscribe(&mut self, events: &mut Events) {
        if self.connected.is_none() {
            return;
        }
        self.handle.subscribe(Vec::new());
        let done = async {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Subscribed { .. } | Event::Disconnected { .. } => return,
                    Event::Message(message) => {
                        if let Some(ack) = message.ack {
                            self.handle.acknowledge(ack);
                        }
                    }
                    Event::Connected(_) | Event::TooLarge { .. } | Event::Alive { .. } => {}
                }
            }
        };
        // A server that does not answer forgets the session by its expiry.
        let _ = tokio::time::timeout(UNSUBSCRIBE_WITHIN, done).await;
    }
}

/// Waits for a moment; for ever if there is none.
pub async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::credentials::Credentials;
    use akri_mqtt_core::details::Details;

    use super::*;
    use crate::credentials::{Files, Properties};
    use crate::session_options::options;
    use crate::state_dir::StateDir;

    /// A session that never connects by itself.
    fn session() -> SharedSession {
        let yaml = "servers: [{name: s, urls: [tcp://127.0.0.1:1]}]\ntopics: ['r/{device}/x']\n";
        let details = Details::parse(yaml).unwrap();
        let server = details.servers[0].clone();
        let state = FileState::load("id", &StateDir::in_memory());
        let sources = (Files::none(), Properties::default(), false);
        let (account, told) = Account::new(server.clone(), sources, Credentials::default());
        let options = options(&server, &details.mqtt, "id".to_owned());
        let memory = Arc::<FileState>::clone(&state);
        let (handle, _) = akri_mqtt_session::start(options, told.credentials, memory, Vec::new());
        let voice = Voice::new(server.name.clone(), handle.clone(), None);
        SharedSession::new(server, (handle, voice), account, state)
    }

    #[tokio::test]
    async fn who_joins_late_has_missed_something_unless_the_server_kept_it_or_its_roster_is_newer()
    {
        let since = Timestamp::now();
        let earlier = since - Duration::from_secs(60);
        let later = since + Duration::from_secs(60);
        for (session_present, known, expected) in [
            (false, None, false),
            (false, Some(earlier), false),
            (false, Some(later), true),
            (true, Some(earlier), true),
        ] {
            let mut session = session();
            session.connected = Some(Link {
                at: Instant::now(),
                since,
                session_present,
            });
            let (to, mut told) = mpsc::channel(8);
            session.join(1, Member::new(Vec::new(), known, to)).await;
            let Some((_, Observed::Connected { resumed, .. })) = told.recv().await else {
                panic!("it is told that there is a connection");
            };
            assert_eq!(resumed, expected, "{session_present} {known:?}");
        }
    }
}
