//! What one session saw, line by line, so that it can be looked at again: the form of the file, and the
//! machine that a recording is played to. In: lines. Out: entries, and what they change. Files are left to others.
//!
//! A trace is JSON lines. The first is the [`Header`]; each other one is an [`Entry`], in the order in which the
//! machine took them. Times are microseconds since the header's, so that a trace has one clock.

mod line;
mod replay;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::details::QoS;
use crate::identity::ServerName;

pub use line::{Fault, Reader, entry_line, header_line};
pub use replay::{Replay, Seen};

/// The form that is written and read.
pub const VERSION: u32 = 1;
/// The longest line, in bytes. [`entry_line`] leaves out a payload that would not fit.
pub const MAX_LINE: usize = 64 << 20;

/// What is kept of payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payloads {
    /// All of them.
    Full,
    /// Those that decide something; of the others length and hash.
    Hash,
    /// Of each only its length.
    None,
}

impl Payloads {
    /// Its name in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Hash => "hash",
            Self::None => "none",
        }
    }
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// When the recording began.
    pub time: Timestamp,
    /// Version and commit of the program that has recorded it.
    pub program: String,
    /// Digest of the `discoveryDetails` that it was recorded with.
    pub details: String,
    /// What is kept of payloads.
    pub payloads: Payloads,
    /// The servers of the Configuration, sorted.
    pub servers: Vec<ServerName>,
}

/// Another line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When, since the beginning.
    pub at: Duration,
    /// What has happened.
    pub what: What<'a>,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// Something on a server.
    Event(ServerName, Event<'a>),
    /// The recording was ended; nothing follows.
    End,
}

/// What has happened on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It has accepted the connection.
    Connected {
        /// Whether it has kept what came while we were away.
        resumed: bool,
    },
    /// Every filter is subscribed.
    Subscribed,
    /// It has sent a packet that is no message.
    Alive,
    /// The connection is gone, or could not be made.
    Disconnected {
        /// The last sign of life, since the beginning of the trace.
        last_packet: Duration,
    },
    /// A message has come.
    Message(Message<'a>),
    /// A message was too large to be received.
    TooLarge {
        /// Its topic.
        topic: Cow<'a, str>,
        /// Whether it is part of a snapshot.
        retained: bool,
    },
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its topic.
    pub topic: Cow<'a, str>,
    /// How it was delivered.
    pub qos: QoS,
    /// Whether it is part of a snapshot.
    pub retained: bool,
    /// What is known of its payload.
    pub payload: Payload<'a>,
}

/// What is known of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// All of it.
    Kept(Cow<'a, [u8]>),
    /// Only this.
    Left {
        /// Its length.
        bytes: u64,
        /// Equal for equal payloads of one trace.
        hash: Option<PayloadHash>,
    },
}

impl Payload<'_> {
    /// What is known of it without its hash and its content.
    #[must_use]
    pub fn left(payload: &[u8]) -> Self {
        Self::Left {
            bytes: u64::try_from(payload.len()).unwrap_or(u64::MAX),
            hash: None,
        }
    }
}

/// Eight bytes that stand for a payload, in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadHash(String);

impl PayloadHash {
    fn parse(text: &str) -> Option<Self> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        (text.len() == 16 && text.chars().all(hex)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for PayloadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of one trace's hashes. It is never written, so that nobody can try which payload has a hash: most are
/// short numbers.
#[derive(Clone)]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// A key of random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// What stands for a payload.
    #[must_use]
    pub fn hash(&self, payload: &[u8]) -> PayloadHash {
        // BLAKE2 cannot be extended, so a prefix is a key.
        let hash = Blake2b::<U8>::new()
            .chain_update(self.0)
            .chain_update(payload)
            .finalize();
        PayloadHash(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What is known of a payload with its hash and without its content.
    #[must_use]
    pub fn hashed(&self, payload: &[u8]) -> Payload<'static> {
        Payload::Left {
            bytes: u64::try_from(payload.len()).unwrap_or(u64::MAX),
            hash: Some(self.hash(payload)),
        }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

#[cfg(test)]
mod tests;
