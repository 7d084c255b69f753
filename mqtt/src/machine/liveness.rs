//! Keep-alive: when to ping, and when a silent connection is dead. Any packet is a sign of life, because a
//! PINGRESP waits behind the backlog.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Liveness {
    keep_alive: Duration,
    last_received: Instant,
    last_sent: Instant,
    /// When a PINGREQ went out that has no answer.
    pinged: Option<Instant>,
}

/// What the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Dead,
}

impl Liveness {
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        Self {
            keep_alive,
            last_received: now,
            last_sent: now,
            pinged: None,
        }
    }

    pub(super) fn received(&mut self, now: Instant) {
        self.last_received = now;
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    pub(super) fn pinged(&mut self, now: Instant) {
        self.pinged = Some(now);
        self.last_sent = now;
    }

    pub(super) fn answered(&mut self) {
        self.pinged = None;
    }

    fn dead_at(&self) -> Instant {
        self.last_received + self.keep_alive.mul_f32(1.5)
    }

    fn ping_at(&self) -> Instant {
        // The server must hear from us within the keep-alive; we want to hear from it as often.
        let for_server = self.last_sent + self.keep_alive.mul_f32(0.75);
        let for_us =
            (self.last_received + self.keep_alive / 2).max(self.last_sent + self.keep_alive / 4);
        if self.pinged.is_some() {
            for_server
        } else {
            for_server.min(for_us)
        }
    }

    /// `reading` is false while the consumer holds us back: then silence says nothing about the server.
    pub(super) fn poll_timeout(&self, reading: bool) -> Instant {
        if reading {
            self.ping_at().min(self.dead_at())
        } else {
            self.ping_at()
        }
    }

    pub(super) fn due(&self, now: Instant, reading: bool) -> Due {
        if reading && now >= self.dead_at() {
            Due::Dead
        } else if now >= self.ping_at() {
            Due::Ping
        } else {
            Due::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_link_is_pinged_at_half_and_dead_after_one_and_a_half_keep_alives() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut liveness = Liveness::new(60 * second, start);
        assert_eq!(liveness.due(start + 29 * second, true), Due::Nothing);
        assert_eq!(liveness.due(start + 30 * second, true), Due::Ping);
        liveness.pinged(start + 30 * second);
        assert_eq!(liveness.due(start + 74 * second, true), Due::Nothing);
        assert_eq!(liveness.due(start + 75 * second, true), Due::Ping);
        assert_eq!(liveness.due(start + 90 * second, true), Due::Dead);
    }

    #[test]
    fn time_in_which_the_consumer_holds_us_back_does_not_kill() {
        let start = Instant::now();
        let liveness = Liveness::new(Duration::from_secs(60), start);
        assert_ne!(
            liveness.due(start + Duration::from_secs(3600), false),
            Due::Dead
        );
    }
}
