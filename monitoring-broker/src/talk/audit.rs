//! One log line and one count per command, whatever ends it. Never the payload.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::command::{Command, CommandError, Done};
use super::metrics::{Outcome, TalkMetrics};
use crate::api::service::{ServiceError, shorten};

/// A command under way; dropped before its end, its caller has gone.
pub(super) struct Audit<'a> {
    metrics: &'a TalkMetrics,
    began: Instant,
    peer: Option<SocketAddr>,
    device: String,
    topic: String,
    qos: u32,
    bytes: usize,
    ended: bool,
}

impl<'a> Audit<'a> {
    pub(super) fn begin(metrics: &'a TalkMetrics, command: &Command) -> Self {
        Self {
            metrics,
            began: Instant::now(),
            peer: command.peer,
            device: shorten(&command.device),
            topic: shorten(&command.topic),
            qos: command.qos,
            bytes: command.payload.len(),
            ended: false,
        }
    }

    pub(super) fn end(mut self, result: &Result<Done, ServiceError>) {
        self.ended = true;
        let outcome = outcome(result);
        let error = result.as_ref().err().map(ToString::to_string);
        self.say(outcome, error.as_deref().unwrap_or_default());
    }

    fn say(&self, outcome: Outcome, error: &str) {
        let took = self.began.elapsed();
        self.metrics.count(outcome);
        if was_sent(outcome) {
            self.metrics.seconds.observe(took.as_secs_f64());
        }
        let peer = self
            .peer
            .map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let (qos, bytes) = (self.qos, self.bytes);
        let took = Duration::from_micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        // Device, topic and error may hold what came from outside: as `Debug` they stay on the line.
        tracing::info!(peer, device = ?self.device, topic = ?self.topic, qos, bytes,
            outcome = outcome.label(), ?took, ?error, "command");
    }
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.say(Outcome::CallerGone, "");
        }
    }
}

fn was_sent(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Accepted
            | Outcome::Answered
            | Outcome::Denied
            | Outcome::Quota
            | Outcome::Late
            | Outcome::CallerGone
    )
}

fn outcome(result: &Result<Done, ServiceError>) -> Outcome {
    match result {
        Ok(done) if done.response.is_some() => Outcome::Answered,
        Ok(_) => Outcome::Accepted,
        Err(ServiceError::PublishingIsOff) => Outcome::Off,
        Err(ServiceError::UnknownDevice(_)) => Outcome::UnknownDevice,
        Err(ServiceError::Command(error)) => match error {
            CommandError::NotServed(_) => Outcome::NotServed,
            CommandError::NotAllowed { .. } => Outcome::NotAllowed,
            CommandError::NotPossible(_) => Outcome::NotPossible,
            CommandError::Denied(_) => Outcome::Denied,
            CommandError::Quota(_) => Outcome::Quota,
            CommandError::Unavailable(_) => Outcome::Unavailable,
            CommandError::TooMany(_) => Outcome::TooMany,
            CommandError::Late(_) => Outcome::Late,
        },
        Err(_) => Outcome::Invalid,
    }
}
