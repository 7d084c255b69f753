//! The book of running requests: which there are, who asks for them, which may end.
//! In: requests and their streams. Out: keys. Starting and ending them is left to `requests`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::credentials::Properties;
use crate::naming::{DetailsDigest, RequestLabel};
use crate::pool::Membership;
use crate::request::Command;
use crate::tally::Counted;

/// How long a request that another one has replaced is kept.
const REPLACED: Duration = Duration::from_secs(30);

/// What makes a request distinct.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its details.
    pub details: DetailsDigest,
    /// Its credentials.
    pub properties: Properties,
}

/// A request that runs.
pub struct Running {
    /// Its name.
    pub label: RequestLabel,
    /// Tells it from others with the same details.
    pub number: u32,
    /// Its task.
    pub commands: mpsc::Sender<Command>,
    /// Its parts in sessions.
    pub members: Vec<Membership>,
    /// Its open streams.
    pub streams: watch::Sender<usize>,
    /// Counts it while it is here.
    pub counted: Counted,
    /// Since when it has no stream.
    pub idle_since: Option<Instant>,
}

impl Running {
    /// Tells the request which sessions it has.
    pub async fn tell_sessions(&self) {
        let sessions = self.members.iter();
        let sessions = sessions.map(|member| {
            let part = (member.info.clone(), member.wants.clone());
            (member.server().clone(), part)
        });
        let command = Command::Sessions(sessions.collect());
        // It fails only at shutdown.
        let _ = self.commands.send(command).await;
    }
}

/// The lowest number that no request with these details has.
#[must_use]
pub fn free_number(running: &BTreeMap<Key, Running>, details: &DetailsDigest) -> u32 {
    let same = running.iter().filter(|(key, _)| key.details == *details);
    let taken: BTreeSet<u32> = same.map(|(_, one)| one.number).collect();
    (1..).find(|number| !taken.contains(number)).unwrap_or(1)
}

/// A request with the same details and other credentials that has lost its stream; best one of the same user.
#[must_use]
pub fn idle_with_other_credentials(running: &BTreeMap<Key, Running>, key: &Key) -> Option<Key> {
    let same = running
        .iter()
        .filter(|(other, _)| other.details == key.details);
    let idle = same.filter(|(_, one)| *one.streams.borrow() == 0);
    let other_user = |other: &Key| other.properties.user().ne(key.properties.user());
    idle.map(|(other, _)| other)
        .min_by_key(|other| other_user(other))
        .cloned()
}

/// The details for which a stream is open.
#[must_use]
pub fn serving(running: &BTreeMap<Key, Running>) -> BTreeSet<DetailsDigest> {
    let open = running.iter().filter(|(_, one)| *one.streams.borrow() > 0);
    open.map(|(key, _)| key.details.clone()).collect()
}

/// Requests that have been without a stream for `idle`, or shorter where another one has replaced them.
pub fn expired(running: &mut BTreeMap<Key, Running>, now: Instant, idle: Duration) -> Vec<Key> {
    let mut details = BTreeMap::<DetailsDigest, usize>::new();
    for key in running.keys() {
        *details.entry(key.details.clone()).or_default() += 1;
    }
    let mut expired = Vec::new();
    for (key, one) in running.iter_mut() {
        if *one.streams.borrow() > 0 {
            one.idle_since = None;
            continue;
        }
        let since = *one.idle_since.get_or_insert(now);
        let replaced = details.get(&key.details).is_some_and(|count| *count > 1);
        let limit = if replaced { idle.min(REPLACED) } else { idle };
        if now.duration_since(since) >= limit {
            expired.push(key.clone());
        }
    }
    expired
}
