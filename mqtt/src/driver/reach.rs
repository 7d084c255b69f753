//! Reaches one member of the failover list, in the protocol version that it speaks.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Credentials, ErrorKind, Options, ServerUrl, SessionError, Version, VersionChoice,
    net::{Attempt, Established, establish},
};

/// What is known about the versions of a member (`VersionChoice::Auto`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// It spoke 5, so that a connection that breaks early is no sign of an old server.
    speaks_v5: bool,
    /// It said that it does not speak 5.
    refuses_v5: bool,
}

/// The members' known versions.
pub(super) type Versions = BTreeMap<ServerUrl, Known>;

/// Everything that an attempt needs, owned, so that it can run beside the session.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) options: Arc<Options>,
    pub(super) credentials: Credentials,
    pub(super) url: ServerUrl,
    pub(super) known: Known,
    pub(super) clean_start: bool,
}

impl Reach {
    /// Connects; returns also what was learned about the member.
    pub(super) async fn run(mut self) -> (ServerUrl, Known, Result<Established, SessionError>) {
        let result = match self.options.version {
            VersionChoice::V5 => self.attempt(Version::V5).await,
            VersionChoice::V311 => self.attempt(Version::V311).await,
            VersionChoice::Auto => self.auto().await,
        };
        (self.url, self.known, result)
    }

    async fn auto(&mut self) -> Result<Established, SessionError> {
        if self.known.refuses_v5 {
            let result = self.attempt(Version::V311).await;
            if result
                .as_ref()
                .is_err_and(|error| error.kind == ErrorKind::UnsupportedVersion)
            {
                self.known.refuses_v5 = false;
            }
            return result;
        }
        let first = match self.attempt(Version::V5).await {
            Ok(established) => {
                self.known.speaks_v5 = true;
                return Ok(established);
            }
            Err(error) => error,
        };
        let refused = first.kind == ErrorKind::UnsupportedVersion;
        let silent =
            matches!(first.kind, ErrorKind::Closed | ErrorKind::Protocol) && !self.known.speaks_v5;
        if !refused && !silent {
            return Err(first);
        }
        let result = self.attempt(Version::V311).await;
        // A connection that merely broke may have been an accident: 5 is tried again next time.
        self.known.refuses_v5 = refused && result.is_ok();
        match result {
            Err(second) if second.kind == ErrorKind::Closed => Err(first),
            result => result,
        }
    }

    /// A server that refuses us may refuse only our Last Will (its topic, its QoS, that it is retained): asked
    /// again without it. Some servers say no more than that they close the connection.
    async fn attempt(&self, version: Version) -> Result<Established, SessionError> {
        let first = self.once(version, true).await;
        let may_be_the_will = first.as_ref().is_err_and(|error| {
            let kinds = [
                ErrorKind::NotAuthorised,
                ErrorKind::Refused,
                ErrorKind::Closed,
            ];
            self.options.will.is_some() && kinds.contains(&error.kind)
        });
        if !may_be_the_will {
            return first;
        }
        let second = self.once(version, false).await;
        if second.is_ok() { second } else { first }
    }

    async fn once(&self, version: Version, with_will: bool) -> Result<Established, SessionError> {
        let attempt = Attempt {
            options: &self.options,
            url: &self.url,
            credentials: &self.credentials,
            version,
            clean_start: self.clean_start,
            will: with_will.then(|| self.options.will_now()).flatten(),
        };
        establish(attempt).await
    }
}
