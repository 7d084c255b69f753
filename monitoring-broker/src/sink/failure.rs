//! Why a sink did not take something. In: errors of clients and answers of servers. Out: a reason of a closed
//! set, a text without secrets, and whether trying again helps.

use std::fmt;
use std::time::Duration;

/// The longest text of a server that is logged.
const MOST_TEXT: usize = 300;

/// Why, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The server cannot be reached, or the connection ended.
    Connection,
    /// TLS failed.
    Tls,
    /// The server does not accept our credentials, or allows too little.
    Auth,
    /// No answer in time.
    Timeout,
    /// The server is busy, starting, stopping or full.
    Unavailable,
    /// What the sink is to write to is missing or of another form.
    Configuration,
    /// The server answers something that was not asked for.
    Protocol,
    /// The server does not take this message.
    Refused,
    /// Our store cannot be read.
    Store,
}

impl Reason {
    /// Its name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Configuration => "configuration",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
            Self::Store => "store",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// See the module. Of [`Reason::Refused`] trying the same again is of no use; of all others it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What was said about it.
    pub text: String,
    /// The server wants us to wait so long.
    pub wait: Option<Duration>,
}

impl Failure {
    /// A failure with what was said about it, shortened.
    pub fn new(reason: Reason, text: impl fmt::Display) -> Self {
        let text = text.to_string();
        Self {
            reason,
            text: text.chars().take(MOST_TEXT).collect(),
            wait: None,
        }
    }

    /// Whether the server refuses the messages themselves.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.reason == Reason::Refused
    }
}

/// The pauses between attempts: they double, and a random half of each keeps many sinks apart.
#[derive(Debug, Default)]
pub struct Pauses {
    failures: u32,
}

impl Pauses {
    const SHORTEST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);

    /// The next one; `random` is in 0..1.
    pub fn next(&mut self, random: f64) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let bound = Self::SHORTEST.saturating_mul(factor).min(Self::LONGEST);
        bound / 2 + (bound / 2).mul_f64(random.clamp(0.0, 1.0))
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_start_again_after_a_success() {
        let mut pauses = Pauses::default();
        let longest: Vec<u128> = (0..10).map(|_| pauses.next(1.0).as_millis()).collect();
        assert_eq!(
            longest,
            [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
        );
        for _ in 0..100 {
            assert_eq!(pauses.next(0.0), Duration::from_secs(15));
        }
        pauses.reset();
        assert_eq!(pauses.next(1.0), Duration::from_millis(200));
    }
}
