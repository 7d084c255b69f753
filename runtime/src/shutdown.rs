//! The one signal to stop. In: SIGTERM, SIGINT, or a call of [`Shutdown::trigger`]. Out: a token
//! that every task watches. A second signal ends the process at once.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit;

/// Tells every part of a process to stop; clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// One that only [`Shutdown::trigger`] sets off: for tests and for parts of a process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that the first SIGTERM or SIGINT sets off; the second ends the process with code 1.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn from_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(watch(shutdown.clone(), terminate, interrupt));
        Ok(shutdown)
    }

    /// A shutdown of a part: it fires with this one, or on its own without it.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
        }
    }

    /// Asks everything to stop. Any further call changes nothing.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether it was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once it was triggered. Safe to drop and call again, as in `select!`.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }

    /// The token itself, for what wants an owned future (`token().cancelled_owned()`).
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

/// `timeout` and some shells signal the process and then its group: the same signal twice within so
/// short a time is one wish.
const ECHO: Duration = Duration::from_millis(250);

async fn watch(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let first = next(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = first, "stopping");
    shutdown.trigger();
    let echo = Instant::now() + ECHO;
    let second = loop {
        let second = next(&mut terminate, &mut interrupt).await;
        if second != first || Instant::now() >= echo {
            break second;
        }
    };
    tracing::warn!(signal = second, "second signal, ending at once");
    std::process::exit(i32::from(exit::FAILED));
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clones_and_children_see_the_trigger() {
        let shutdown = Shutdown::new();
        let (clone, child) = (shutdown.clone(), shutdown.child());
        assert!(!clone.is_triggered() && !child.is_triggered());
        shutdown.trigger();
        shutdown.trigger();
        clone.triggered().await;
        child.triggered().await;
    }

    #[tokio::test]
    async fn child_stops_alone() {
        let shutdown = Shutdown::new();
        let child = shutdown.child();
        child.trigger();
        assert!(child.is_triggered() && !shutdown.is_triggered());
    }
}
