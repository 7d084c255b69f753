//! Pools: which shard a device belongs to, and which member a shard. In: ids, names of live members.
//! Out: the same answers in every process. Who may act on them is left to `placement` and to locks.

mod placement;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest};

use crate::identity::DeviceId;

pub use placement::{Action, Placement};

/// The most shards of a pool: each is an MQTT session of its own per server.
const MOST_SHARDS: u16 = 1024;
/// The longest name of a member, which is a file name and a Kubernetes name.
const MOST_MEMBER: usize = 253;

/// Why a text or a number means nothing to a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No number of shards.
    #[error("a pool has 1 to {MOST_SHARDS} shards")]
    Shards,
    /// No name of a member.
    #[error(
        "the name of a member has 1 to {MOST_MEMBER} characters out of letters, digits, `-`, `_` and `.`, and begins with a letter or digit"
    )]
    Member,
}

/// How many shards a pool has. Fixed for its life: with another number devices belong to other shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardCount(u16);

impl Default for ShardCount {
    fn default() -> Self {
        Self(64)
    }
}

impl ShardCount {
    /// Checks a number.
    ///
    /// # Errors
    /// It is zero or too large.
    pub fn new(count: u16) -> Result<Self, PoolError> {
        if (1..=MOST_SHARDS).contains(&count) {
            Ok(Self(count))
        } else {
            Err(PoolError::Shards)
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// All shards, in order.
    pub fn all(self) -> impl Iterator<Item = Shard> {
        (0..self.0).map(Shard)
    }

    /// The shard of a device: the first 8 bytes of its id's BLAKE2b-64 as a big-endian number, modulo the count.
    /// Part of the contract: it never changes, or devices would leave what a server has queued for them behind.
    #[must_use]
    pub fn of(self, device: &DeviceId) -> Shard {
        let rest = hash(&[device.as_str().as_bytes()]) % u64::from(self.0);
        // Smaller than a `u16`, which the count is.
        Shard(u16::try_from(rest).unwrap_or(0))
    }
}

impl fmt::Display for ShardCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ShardCount {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        text.parse().map_or(Err(PoolError::Shards), Self::new)
    }
}

/// One part of a pool's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u16);

impl Shard {
    /// The member that is to hold it: the one with the highest weight, which is the BLAKE2b-64 of the shard's
    /// number (two bytes, big-endian) and the member's name. A member that comes takes what it has the highest
    /// weight for, a member that goes leaves its own to the next highest; nothing else moves.
    #[must_use]
    pub fn target<'m>(self, members: impl IntoIterator<Item = &'m Member>) -> Option<&'m Member> {
        let weight = |member: &Member| hash(&[&self.0.to_be_bytes(), member.as_str().as_bytes()]);
        let members = members.into_iter();
        members.max_by_key(|member| (weight(member), *member))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a member of a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(Arc<str>);

impl Member {
    /// Checks a name.
    ///
    /// # Errors
    /// It cannot be a file name everywhere.
    pub fn parse(name: &str) -> Result<Self, PoolError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good = (1..=MOST_MEMBER).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(plain);
        if good {
            Ok(Self(name.into()))
        } else {
            Err(PoolError::Member)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut digest = Blake2b::<U8>::new();
    for part in parts {
        digest.update(part);
    }
    u64::from_be_bytes(digest.finalize().into())
}

#[cfg(test)]
mod tests;
