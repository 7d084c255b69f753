//! Registers this handler with the Agent, and again only when that helps.
//! In: the Agent's socket, how many streams are open, what siblings serve. Out: calls of
//! `RegisterDiscoveryHandler`. Serving requests is left to `service`.
//!
//! Registering again while a stream is open makes the Agent open a second Discover for every
//! Configuration, so it happens only when the Agent was replaced, while nobody asks us anything,
//! or when a sibling serves a request that the Agent does not ask us: its Discover had failed at our
//! registration, and it never asks again.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use akri_mqtt_proto::akri::RegisterDiscoveryHandlerRequest;
use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::registration_client::RegistrationClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tracing::{debug, info, warn};

use crate::naming::DetailsDigest;

/// File name of the Agent's socket in the handlers' directory.
pub const AGENT_SOCKET: &str = "agent-registration.sock";
/// How often the Agent's socket is looked at.
const POLL: Duration = Duration::from_millis(500);
/// A call on a local socket that takes longer has no Agent behind it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait between two registrations because of the same missing requests.
const MAX_SIBLING_WAIT: Duration = Duration::from_secs(600);

/// Which file the Agent's socket is. The time of its last change is part of it, because file systems
/// give the inode of a removed file to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketIdentity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl SocketIdentity {
    /// Identity of the socket at a path, `None` when there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Why a registration is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This Agent has never heard of us.
    NewAgent,
    /// Nobody has a stream open.
    NoStream,
    /// A sibling serves what we do not.
    Sibling,
}

/// The rules, without a clock or a socket.
#[derive(Debug)]
pub struct Rules {
    interval: Duration,
    registered: Option<(SocketIdentity, Instant)>,
    missing: BTreeSet<DetailsDigest>,
    sibling_wait: Duration,
    next_for_sibling: Option<Instant>,
}

impl Rules {
    /// `interval`: between two registrations while no stream is open, and before the first one for a sibling's sake.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            registered: None,
            missing: BTreeSet::new(),
            sibling_wait: interval,
            next_for_sibling: None,
        }
    }

    /// Whether to register now, given the Agent's socket, the open streams, and what siblings serve and we do not.
    pub fn due(
        &mut self,
        now: Instant,
        socket: Option<SocketIdentity>,
        open_streams: usize,
        missing: BTreeSet<DetailsDigest>,
    ) -> Option<Reason> {
        let socket = socket?;
        self.note_missing(now, missing);
        match self.registered {
            Some((known, at)) if known == socket => {
                if open_streams == 0 && now >= at + self.interval {
                    Some(Reason::NoStream)
                } else if open_streams > 0 && self.next_for_sibling.is_some_and(|next| now >= next)
                {
                    Some(Reason::Sibling)
                } else {
                    None
                }
            }
            _ => Some(Reason::NewAgent),
        }
    }

    /// The Agent behind this socket has accepted a registration that was due for this reason.
    pub fn registered(&mut self, now: Instant, socket: SocketIdentity, reason: Reason) {
        self.registered = Some((socket, now));
        if self.next_for_sibling.is_some() {
            if reason == Reason::Sibling {
                // If the request still fails here, asking at once again would only double the other streams.
                self.sibling_wait = (self.sibling_wait * 2).min(MAX_SIBLING_WAIT);
            }
            self.next_for_sibling = Some(now + self.sibling_wait);
        }
    }

    fn note_missing(&mut self, now: Instant, missing: BTreeSet<DetailsDigest>) {
        if missing.is_empty() {
            self.next_for_sibling = None;
            self.sibling_wait = self.interval;
        } else if !missing.is_subset(&self.missing) {
            self.sibling_wait = self.interval;
            self.next_for_sibling = Some(now + self.interval);
        }
        self.missing = missing;
    }
}

/// What the registration task looks at.
#[derive(Debug)]
pub struct Registrar {
    /// Where the Agent's socket is.
    pub directory: PathBuf,
    /// Handler name in Configurations.
    pub name: String,
    /// Socket path or URL of our Discover service.
    pub endpoint: String,
    /// Which of the two it is.
    pub endpoint_type: EndpointType,
    /// See [`Rules::new`].
    pub interval: Duration,
    /// How many Discover streams are open.
    pub open_streams: watch::Receiver<usize>,
    /// What siblings serve and this process does not.
    pub missing: watch::Receiver<BTreeSet<DetailsDigest>>,
    /// Told whether the present Agent has accepted a registration.
    pub accepted: watch::Sender<bool>,
}

impl Registrar {
    /// Keeps this handler registered until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let socket_path = self.directory.join(AGENT_SOCKET);
        let mut rules = Rules::new(self.interval);
        let mut failed: Option<String> = None;
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let socket = SocketIdentity::of(&socket_path);
            let (open, missing) = (*self.open_streams.borrow(), self.missing.borrow().clone());
            let reason = rules.due(Instant::now(), socket, open, missing);
            let (Some(reason), Some(identity)) = (reason, socket) else {
                continue;
            };
            if reason == Reason::NewAgent {
                self.accepted.send_replace(false);
            }
            match self.register(&socket_path).await {
                Ok(()) => {
                    rules.registered(Instant::now(), identity, reason);
                    self.accepted.send_replace(true);
                    failed = None;
                    if reason == Reason::NoStream {
                        debug!(?reason, "registered with the Agent");
                    } else {
                        info!(?reason, endpoint = %self.endpoint, "registered with the Agent");
                    }
                }
                Err(error) => {
                    // Logged once for each kind of failure: it is tried twice a second.
                    if failed.as_ref() != Some(&error) {
                        warn!(socket = %socket_path.display(), %error, "the Agent does not take our registration");
                        failed = Some(error);
                    }
                }
            }
        }
    }

    async fn register(&self, socket: &Path) -> Result<(), String> {
        let request = RegisterDiscoveryHandlerRequest {
            name: self.name.clone(),
            endpoint: self.endpoint.clone(),
            endpoint_type: self.endpoint_type.into(),
            shared: true,
        };
        let call = async {
            let channel = Endpoint::from_shared(format!("unix:{}", socket.display()))
                .map_err(|error| error.to_string())?
                .connect()
                .await
                .map_err(|error| error.to_string())?;
            RegistrationClient::new(channel)
                .register_discovery_handler(request)
                .await
                .map_err(|status| status.message().to_owned())
        };
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(format!("no answer within {CALL_TIMEOUT:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn socket(inode: u64) -> Option<SocketIdentity> {
        Some(SocketIdentity {
            device: 1,
            inode,
            modified: (0, 0),
        })
    }

    fn none() -> BTreeSet<DetailsDigest> {
        BTreeSet::new()
    }

    fn missing(details: &str) -> BTreeSet<DetailsDigest> {
        BTreeSet::from([DetailsDigest::of(details)])
    }

    #[test]
    fn nothing_is_due_while_there_is_no_agent() {
        let mut rules = Rules::new(INTERVAL);
        assert_eq!(rules.due(Instant::now(), None, 0, none()), None);
    }

    #[test]
    fn an_agent_with_open_streams_is_told_once_and_again_only_when_its_socket_was_replaced() {
        let (mut rules, start) = (Rules::new(INTERVAL), Instant::now());
        assert_eq!(
            rules.due(start, socket(1), 0, none()),
            Some(Reason::NewAgent)
        );
        rules.registered(start, socket(1).unwrap(), Reason::NewAgent);
        assert_eq!(
            rules.due(start + 100 * INTERVAL, socket(1), 1, none()),
            None
        );
        assert_eq!(rules.due(start + 100 * INTERVAL, None, 1, none()), None);
        let again = rules.due(start + 100 * INTERVAL, socket(2), 1, none());
        assert_eq!(again, Some(Reason::NewAgent));
    }

    #[test]
    fn without_a_stream_it_is_due_every_interval() {
        let (mut rules, start) = (Rules::new(INTERVAL), Instant::now());
        rules.registered(start, socket(1).unwrap(), Reason::NewAgent);
        let almost = start + INTERVAL - Duration::from_millis(1);
        assert_eq!(rules.due(almost, socket(1), 0, none()), None);
        assert_eq!(
            rules.due(start + INTERVAL, socket(1), 0, none()),
            Some(Reason::NoStream)
        );
        rules.registered(start + INTERVAL, socket(1).unwrap(), Reason::NoStream);
        assert_eq!(rules.due(start + INTERVAL, socket(1), 0, none()), None);
    }

    #[test]
    fn what_only_a_sibling_serves_is_asked_for_again_with_growing_waits() {
        let (mut rules, start) = (Rules::new(INTERVAL), Instant::now());
        // A process that starts beside a sibling sees what it serves before the Agent has asked anything.
        let new = rules.due(start, socket(1), 0, missing("x"));
        assert_eq!(new, Some(Reason::NewAgent));
        rules.registered(start, socket(1).unwrap(), Reason::NewAgent);
        assert_eq!(rules.due(start, socket(1), 1, missing("x")), None);
        let first = start + INTERVAL;
        assert_eq!(
            rules.due(first, socket(1), 1, missing("x")),
            Some(Reason::Sibling)
        );
        rules.registered(first, socket(1).unwrap(), Reason::Sibling);
        assert_eq!(
            rules.due(first + INTERVAL, socket(1), 1, missing("x")),
            None
        );
        let second = rules.due(first + 2 * INTERVAL, socket(1), 1, missing("x"));
        assert_eq!(second, Some(Reason::Sibling));
        assert_eq!(rules.due(first + 9 * INTERVAL, socket(1), 1, none()), None);
    }
}
