//! The MQTT sessions of this process, shared between requests.
//! In: requests that join and leave, each with a server, options and credentials. Out: one session per
//! session key, options and credentials, whose client id outlives the process; its events go to every
//! request that wants them. Running one session is left to `shared`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use akri_mqtt_core::credentials::{CredentialError, Credentials};
use akri_mqtt_core::details::{MqttRules, Server, SessionKey};
use akri_mqtt_core::identity::ServerName;
use akri_mqtt_core::presence::{Outgoing, Wanted};
use akri_mqtt_session::{Counted, Handle, SessionMetrics, SessionState};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::account::{Account, Told};
use crate::credentials::{Files, Properties};
use crate::host::HostRole;
use crate::login::Login;
use crate::naming::ClientIds;
use crate::observed::{Command, Member};
use crate::ordinals::{Ordinals, Owner};
use crate::session_options::options;
use crate::session_state::FileState;
use crate::shared::SharedSession;
use crate::state_dir::StateDir;
use crate::vital::Vital;
use crate::voice::Voice;

/// Commands that may wait for a session: requests come and go a few times a day.
const COMMANDS: usize = 16;

/// What a request wants from a server.
#[derive(Clone, Debug)]
pub struct Join {
    /// The server.
    pub server: Server,
    /// How to speak with it.
    pub rules: MqttRules,
    /// The Sparkplug Host Application that the session is to be, if any.
    pub host: Option<String>,
    /// The request's credentials.
    pub properties: Properties,
    /// Whether the names of the earlier MQTT handler count.
    pub legacy: bool,
    /// The request.
    pub owner: Owner,
    /// Its filters, and where its events go.
    pub member: Member,
}

/// What makes a session the same, beside its key.
#[derive(Clone, PartialEq)]
struct Shape {
    server: Server,
    rules: MqttRules,
    host: Option<String>,
    declared: Credentials,
    legacy: bool,
}

impl Shape {
    fn of(join: &Join) -> Result<Self, CredentialError> {
        Ok(Self {
            server: join.server.clone(),
            rules: join.rules.clone(),
            host: join.host.clone(),
            declared: Files::none().resolve(&join.server, &join.properties, join.legacy)?,
            legacy: join.legacy,
        })
    }
}

/// A session as it is seen from outside.
#[derive(Clone)]
pub struct SessionInfo {
    /// Its client id.
    pub client_id: String,
    /// The session itself.
    pub handle: Handle,
    /// Why changed credential files are not used, if they are not.
    pub account: watch::Receiver<Option<String>>,
}

/// A request's way to change what it wants from a session.
#[derive(Clone)]
pub struct Wants {
    id: u64,
    commands: mpsc::Sender<Command>,
}

impl Wants {
    /// Asks for something else; false while the session has no time to listen.
    #[must_use]
    pub fn change(&self, wanted: Vec<Wanted>) -> bool {
        self.commands
            .try_send(Command::Want(self.id, wanted))
            .is_ok()
    }

    /// Says something; false while the session has no time to listen.
    #[must_use]
    pub fn publish(&self, outgoing: Outgoing) -> bool {
        self.commands.try_send(Command::Publish(outgoing)).is_ok()
    }
}

struct Entry {
    shape: Shape,
    members: BTreeSet<u64>,
    commands: mpsc::Sender<Command>,
    info: SessionInfo,
    state: Arc<FileState>,
    /// Counts it while it is here.
    _counted: Counted,
}

type Place = (SessionKey, u32);

/// What the pool needs to make sessions.
pub struct Parts {
    /// Makes client ids.
    pub ids: ClientIds,
    /// For a dry run: part of the client ids of clean sessions.
    pub transient: Option<String>,
    /// Remembers who has which.
    pub ordinals: Ordinals,
    /// Credentials in files.
    pub files: Files,
    /// Where session state is kept.
    pub state: StateDir,
    /// Runs the sessions.
    pub vital: Vital,
    /// Stops them.
    pub shutdown: akri_mqtt_runtime::Shutdown,
}

/// The sessions; clones share them.
#[derive(Clone)]
pub struct Pool {
    parts: Arc<Parts>,
    sessions: Arc<Mutex<BTreeMap<Place, Entry>>>,
    metrics: SessionMetrics,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// A request's part in a session; give it back with [`Pool::leave`].
pub struct Membership {
    id: u64,
    place: Place,
    /// The session.
    pub info: SessionInfo,
    /// To change what is wanted of it.
    pub wants: Wants,
    join: Join,
}

impl Membership {
    /// Name of its server.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.join.server.name
    }
}

impl Pool {
    /// No sessions.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            sessions: Arc::default(),
            metrics: SessionMetrics::default(),
            next: Arc::default(),
        }
    }

    /// Takes part in the session that fits, or starts one.
    ///
    /// # Errors
    /// When the credentials are not complete.
    pub async fn join(&self, join: Join) -> Result<Membership, CredentialError> {
        let shape = Shape::of(&join)?;
        let credentials = self.credentials(&join)?;
        let key = SessionKey::new(&join.server, &join.rules.client_id_prefix);
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (place, info, commands) = {
            let mut sessions = self.lock();
            let of_key = || (key, 0)..=(key, u32::MAX);
            let fitting = sessions
                .range(of_key())
                .find(|(_, entry)| entry.shape == shape);
            let place = match fitting {
                Some((place, _)) => {
                    self.parts.ordinals.join(&key, place.1, &join.owner);
                    *place
                }
                None => {
                    let in_use: Vec<u32> = sessions
                        .range(of_key())
                        .map(|((_, ordinal), _)| *ordinal)
                        .collect();
                    let ordinal = self.parts.ordinals.take(&key, &join.owner, &in_use);
                    let entry = self.start(&join, shape, credentials, (key, ordinal));
                    sessions.insert((key, ordinal), entry);
                    (key, ordinal)
                }
            };
            let Some(entry) = sessions.get_mut(&place) else {
                unreachable!("it was found or made above, under the same lock");
            };
            entry.members.insert(id);
            (place, entry.info.clone(), entry.commands.clone())
        };
        // It fails only at shutdown, when the session is gone with everything else.
        let _ = commands.send(Command::Join(id, join.member.clone())).await;
        Ok(Membership {
            id,
            place,
            info,
            wants: Wants { id, commands },
            join,
        })
    }

    /// Gives a part in a session back; the last one to leave ends the session.
    pub async fn leave(&self, membership: Membership) {
        let (commands, command) = {
            let mut sessions = self.lock();
            let Some(entry) = sessions.get_mut(&membership.place) else {
                return;
            };
            entry.members.remove(&membership.id);
            let commands = entry.commands.clone();
            if entry.members.is_empty() {
                sessions.remove(&membership.place);
                (commands, Command::End)
            } else {
                (commands, Command::Leave(membership.id))
            }
        };
        let _ = commands.send(command).await;
    }

    /// Changes the credentials of a request: its session connects again with the same client id, or, where
    /// other requests go on with the old ones, it gets another session.
    ///
    /// # Errors
    /// When the new credentials are not complete.
    pub async fn change(
        &self,
        membership: Membership,
        (properties, login): (Properties, &Login),
    ) -> Result<Membership, (Membership, CredentialError)> {
        let mut join = membership.join.clone();
        join.properties = properties;
        join.owner = join.owner.with(login);
        if membership.info.handle.status().borrow().connected {
            // It has heard everything until now.
            join.member.known = Some(Timestamp::now());
        }
        let resolved = Shape::of(&join).and_then(|shape| Ok((shape, self.credentials(&join)?)));
        let (shape, credentials) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => return Err((membership, error)),
        };
        let alone = {
            let mut sessions = self.lock();
            let taken = sessions.iter().any(|((key, ordinal), entry)| {
                *key == membership.place.0 && *ordinal != membership.place.1 && entry.shape == shape
            });
            match sessions.get_mut(&membership.place) {
                Some(entry) if !taken && entry.members.len() == 1 => {
                    entry.shape = shape;
                    Some(entry.commands.clone())
                }
                _ => None,
            }
        };
        if let Some(commands) = alone {
            let (key, ordinal) = membership.place;
            self.parts.ordinals.rename(&key, ordinal, &join.owner);
            let properties = join.properties.clone();
            let _ = commands
                .send(Command::Credentials(properties, credentials))
                .await;
            return Ok(Membership { join, ..membership });
        }
        match self.join(join).await {
            Ok(fresh) => {
                self.leave(membership).await;
                Ok(fresh)
            }
            Err(error) => Err((membership, error)),
        }
    }

    /// What the sessions count.
    #[must_use]
    pub fn metrics(&self) -> &SessionMetrics {
        &self.metrics
    }

    /// How many sessions go on with credentials whose files say something that cannot be used.
    #[must_use]
    pub fn unusable_credentials(&self) -> usize {
        let sessions = self.lock();
        let troubled = sessions
            .values()
            .filter(|entry| entry.info.account.borrow().is_some());
        troubled.count()
    }

    /// Whether the files of credentials can be read.
    #[must_use]
    pub fn files_readable(&self) -> bool {
        self.parts.files.readable().is_ok()
    }

    /// Says that what the sessions have on disk is in use.
    pub fn touch_states(&self) {
        for entry in self.lock().values() {
            entry.state.touch();
        }
    }

    fn credentials(&self, join: &Join) -> Result<Credentials, CredentialError> {
        self.parts
            .files
            .resolve(&join.server, &join.properties, join.legacy)
    }

    fn start(&self, join: &Join, shape: Shape, credentials: Credentials, place: Place) -> Entry {
        let (key, ordinal) = place;
        let prefix = &join.rules.client_id_prefix;
        let client_id = match &self.parts.transient {
            Some(random) => format!("{prefix}-dry-{random}-{key}-{ordinal}"),
            None => self.parts.ids.make(prefix, &key, ordinal),
        };
        info!(server = %join.server.name, client_id, "session starts");
        for name in self.parts.files.unlisted(&join.server) {
            warn!(server = %join.server.name, name, "a credential is for a server of this name, whose host --credentials-hosts does not list; whoever writes a Configuration can give any host this name");
        }
        let state = FileState::load(&client_id, &self.parts.state);
        let sources = (
            self.parts.files.clone(),
            join.properties.clone(),
            join.legacy,
        );
        let (account, told) = Account::new(join.server.clone(), sources, credentials);
        let Told {
            credentials,
            trouble,
        } = told;
        let mut options = options(&join.server, &join.rules, client_id.clone());
        let mut host = join.host.as_deref().map(HostRole::new);
        if self.parts.transient.is_some() {
            options.session_expiry = Duration::ZERO;
            // Its end would tell Edge Nodes that the real one is gone.
            host = None;
        }
        if let Some(host) = &host {
            host.set(&mut options);
        }
        let memory: Arc<dyn SessionState> = Arc::<FileState>::clone(&state);
        let (handle, events) = akri_mqtt_session::start(options, credentials, memory, Vec::new());
        let voice = Voice::new(join.server.name.clone(), handle.clone(), host);
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let session = SharedSession::new(
            join.server.clone(),
            (handle.clone(), voice),
            account,
            Arc::clone(&state),
        );
        let task = session.run(events, inbox, self.parts.shutdown.clone());
        self.parts.vital.spawn(format!("session {client_id}"), task);
        let server = join.server.name.as_str();
        Entry {
            shape,
            members: BTreeSet::new(),
            commands,
            _counted: self.metrics.watch(server, handle.status()),
            info: SessionInfo {
                client_id,
                handle,
                account: trouble,
            },
            state,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
