//! Short names for a request and for a session, the same in every process. In: what the
//! Configuration says. Out: eight hex digits.

use std::fmt;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

use super::{Details, Server};

/// What makes an MQTT session the same: name, URLs and `clientIdPrefix` of its server
/// (invariant 4). Shown as eight hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key of `server` with this prefix.
    #[must_use]
    pub fn new(server: &Server, client_id_prefix: &str) -> Self {
        let mut hash = Hash::new();
        hash.part(server.name.as_str());
        hash.part(client_id_prefix);
        server
            .urls
            .iter()
            .for_each(|url| hash.part(&url.to_string()));
        Self(hash.finish())
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(4)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Details {
    /// The key of the session with one of its servers.
    #[must_use]
    pub fn session_key(&self, server: &Server) -> SessionKey {
        SessionKey::new(server, &self.mqtt.client_id_prefix)
    }

    /// Eight hex digits of servers and of what is listened to there, for metrics and logs.
    #[must_use]
    pub fn request_id(&self) -> String {
        let mut hash = Hash::new();
        for server in &self.servers {
            hash.part(server.name.as_str());
            hash.part(server.failover.as_str());
            server
                .urls
                .iter()
                .for_each(|url| hash.part(&url.to_string()));
        }
        hash.part("topics");
        self.topics
            .iter()
            .for_each(|topic| hash.part(topic.as_str()));
        hash.part("availability");
        self.presence
            .availability
            .iter()
            .for_each(|rule| hash.part(rule.topic.as_str()));
        hash.part("conventions");
        for convention in &self.conventions {
            hash.part(&super::properties::convention_json(convention));
        }
        hash.finish()
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// A hash over parts whose ends cannot be confused.
struct Hash(Blake2b<U32>);

impl Hash {
    fn new() -> Self {
        Self(Blake2b::new())
    }

    fn part(&mut self, part: &str) {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.0.update(length.to_le_bytes());
        self.0.update(part.as_bytes());
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
