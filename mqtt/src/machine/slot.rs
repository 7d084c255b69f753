//! One filter: what is wanted, what the server holds, and the next step between the two.

use std::time::{Duration, Instant};

use akri_mqtt_core::topic::TopicFilter;

use super::reason::reason_text;
use crate::QoS;

/// A refused filter is tried again after this, doubled up to the next.
pub(super) const RETRY_MIN: Duration = Duration::from_secs(5);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(300);
/// A filter that is no filter is not tried again.
pub(super) const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What one subscription looks like at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) qos: QoS,
    pub(super) identifier: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    No,
    /// The server may hold it: an earlier process subscribed, or an answer was lost.
    Maybe(QoS),
    Yes(Spec),
}

#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) reason: String,
    /// None once it is due.
    pub(super) retry_at: Option<Instant>,
    pub(super) pause: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) wanted: Option<Wanted>,
    pub(super) held: Held,
    pub(super) in_flight: bool,
    pub(super) snapshot_taken: bool,
    pub(super) refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) spec: Spec,
    pub(super) snapshot: bool,
    pub(super) no_local: bool,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            wanted: None,
            held: Held::No,
            in_flight: false,
            snapshot_taken: false,
            refused: None,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    Unsubscribe,
    Subscribe {
        spec: Spec,
        retain_handling: u8,
        no_local: bool,
    },
}

impl Slot {
    pub(super) fn next(&self, drained: bool, now: Instant) -> Next {
        let Some(wanted) = self.wanted else {
            return if self.held == Held::No {
                Next::Nothing
            } else {
                Next::Unsubscribe
            };
        };
        if self
            .refused
            .as_ref()
            .is_some_and(|refused| refused.retry_at.is_some_and(|at| at > now))
        {
            return Next::Nothing;
        }
        let subscribe = |spec, retain_handling| Next::Subscribe {
            spec,
            retain_handling,
            no_local: wanted.no_local,
        };
        let done = match self.held {
            Held::No => false,
            // The list is written before SUBSCRIBE goes out, so only a SUBACK proves that the server holds it.
            Held::Maybe(_) => false,
            Held::Yes(spec) => spec == wanted.spec,
        };
        match (wanted.snapshot, self.snapshot_taken) {
            (true, false) if drained => subscribe(
                Spec {
                    qos: QoS::AtMostOnce,
                    ..wanted.spec
                },
                0,
            ),
            (true, false) => Next::Nothing,
            (true, true) if done => Next::Nothing,
            (true, true) => subscribe(wanted.spec, 2),
            (false, _) if done => Next::Nothing,
            (false, _) => subscribe(wanted.spec, 1),
        }
    }

    pub(super) fn answered(&mut self, spec: Spec, code: u8, now: Instant) {
        self.in_flight = false;
        if code >= 0x80 {
            let pause = self
                .refused
                .as_ref()
                .map_or(RETRY_MIN, |last| (last.pause * 2).min(RETRY_MAX));
            let reason = reason_text(code);
            self.refused = Some(Refused {
                reason,
                retry_at: Some(now + pause),
                pause,
            });
            return;
        }
        if code < spec.qos.level() {
            tracing::warn!(
                granted = code,
                wanted = spec.qos.level(),
                "subscription granted with a lower QoS"
            );
        }
        self.refused = None;
        self.held = Held::Yes(spec);
        self.snapshot_taken |= self.wanted.is_some_and(|wanted| wanted.snapshot);
    }
}

pub(super) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Checks a filter; of a shared subscription (MQTT 5.0, 4.8.2) the part behind the group.
pub(super) fn parse(filter: &str) -> Result<TopicFilter, String> {
    let plain = match filter.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').map_or("", |(_, plain)| plain),
        None => filter,
    };
    if filter.len() > usize::from(u16::MAX) {
        return Err("a topic filter has at most 65,535 bytes".to_owned());
    }
    TopicFilter::parse(plain).map_err(|error| error.to_string())
}
