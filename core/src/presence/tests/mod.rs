//! Tests of presence with a driven clock: nothing here waits.

mod conventions;
mod evidence;
mod explanation;
mod first_list;
mod flapping;
mod hostile;
mod limits;
mod outage;
mod properties;
mod single;
mod sparkplug;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::*;
use crate::clock::Now;
use crate::details::{Details, QoS};
use crate::identity::{DeviceId, ServerName};

pub(super) const A: &str = "plant-a";
pub(super) const B: &str = "plant-b";

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

/// Noon, and an instant that goes with it.
pub(super) fn noon() -> Now {
    Now {
        mono: Instant::now(),
        wall: "2026-03-01T12:00:00Z".parse::<Timestamp>().unwrap(),
    }
}

pub(super) fn details(presence: &str) -> Arc<Details> {
    let yaml = format!(
        "servers:\n- {{name: plant-a, urls: ['tcp://a:1883']}}\n- {{name: plant-b, urls: ['tcp://b:1883']}}\n\
         topics: ['robots/{{device}}/joints/#']\n{presence}"
    );
    Arc::new(Details::parse(&yaml).unwrap())
}

/// Devices that announce themselves, with the defaults.
pub(super) const ANNOUNCED: &str = "presence: {availability: [{topic: 'robots/{device}/status'}]}";
/// Devices that are only heard, with the defaults.
pub(super) const PLAIN: &str = "";

/// A machine, its clock, and a server that answers every PINGREQ at once, if it is well.
pub(super) struct World {
    pub presence: Presence,
    pub now: Now,
    pub answers: bool,
}

impl World {
    pub fn new(presence: &str) -> Self {
        let now = noon();
        Self::of(details(presence), now)
    }

    pub fn of(details: Arc<Details>, now: Now) -> Self {
        Self {
            presence: Presence::new(details, Options::default(), now),
            now,
            answers: true,
        }
    }

    /// Connected and settled.
    pub fn up(presence: &str) -> Self {
        let mut world = Self::new(presence);
        world.connect(A);
        world.subscribe(A);
        world.pass(secs(6));
        world
    }

    pub fn connect(&mut self, name: &str) {
        self.presence.on_connected(&server(name), self.now);
    }

    pub fn subscribe(&mut self, name: &str) {
        self.presence.on_subscribed(&server(name), self.now);
    }

    /// The link is cut; the last packet came `ago`.
    pub fn cut(&mut self, ago: Duration) {
        let last = self.now.mono - ago;
        self.presence.on_disconnected(&server(A), last, self.now);
    }

    pub fn reconnect(&mut self) {
        self.connect(A);
        self.subscribe(A);
    }

    /// Lets time go by, as a shell would.
    pub fn pass(&mut self, by: Duration) {
        let end = self.now.plus(by);
        while let Some(next) = self.presence.poll_timeout().filter(|t| *t <= end.mono) {
            self.now = self.now.plus(next.saturating_duration_since(self.now.mono));
            self.presence.handle_timeout(self.now);
            self.probe();
        }
        self.now = end;
        self.presence.handle_timeout(self.now);
        self.probe();
    }

    fn probe(&mut self) {
        if self.answers {
            for name in self.presence.needs_probe() {
                self.presence.on_packet(&name, self.now.mono);
            }
        }
    }

    pub fn message(&mut self, name: &str, topic: &str, payload: &str, retained: bool) {
        let message = Inbound {
            topic,
            payload: payload.as_bytes(),
            retained,
            qos: QoS::AtMostOnce,
        };
        self.presence.on_message(&server(name), message, self.now);
    }

    pub fn live(&mut self, topic: &str, payload: &str) {
        self.message(A, topic, payload, false);
    }

    pub fn retained(&mut self, topic: &str, payload: &str) {
        self.message(A, topic, payload, true);
    }

    pub fn data(&mut self, device: &str) {
        self.live(&format!("robots/{device}/joints"), "1");
    }

    pub fn status(&mut self, device: &str, payload: &str) {
        self.live(&format!("robots/{device}/status"), payload);
    }

    pub fn retained_status(&mut self, device: &str, payload: &str) {
        self.retained(&format!("robots/{device}/status"), payload);
    }

    pub fn explain(&self, device: &str) -> Option<Explanation> {
        let id = DeviceId::new(server(A), device).unwrap();
        self.presence.explain(&id, self.now)
    }

    pub fn state(&self, device: &str) -> Option<State> {
        self.explain(device).map(|explanation| explanation.state)
    }

    pub fn published(&self) -> Vec<String> {
        self.presence.published().map(ToString::to_string).collect()
    }

    pub fn is_published(&self, device: &str) -> bool {
        self.published().contains(&format!("{A}/{device}"))
    }

    pub fn ignored(&self, reason: Ignored) -> u64 {
        let mut all = self.presence.counters().ignored();
        all.find(|(r, _)| *r == reason)
            .map_or(0, |(_, count)| count)
    }
}
