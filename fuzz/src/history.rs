//! What happens to a machine. In: steps, each ended by 0x1E: a letter, then what it needs; of a message the topic, 0x1F and
//! the payload. That form is easily written by hand, made of recorded messages, and cut and glued by a fuzzer. Out: a
//! panic if the machine breaks a promise on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::details::{Details, QoS};
use akri_mqtt_core::identity::{DeviceId, ServerName};
use akri_mqtt_core::presence::{Inbound, Options, Presence};
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_core::topic::{TopicFilter, TopicName};
use jiff::Timestamp;

/// Ends a step.
pub const STEP_END: u8 = 0x1E;
/// Ends a topic.
pub const TOPIC_END: u8 = 0x1F;

/// Few, so that a short history fills them.
const MAX_DEVICES: usize = 4;
const REMEMBERED: usize = 6;
/// Between two requests to one Edge Node.
const REBIRTH: Duration = Duration::from_secs(30);
/// The longest history that is looked at, in steps: a fuzzer has more from many short ones.
const MAX_STEPS: usize = 200;

/// Noon, and an instant that goes with it.
#[must_use]
pub fn noon() -> Now {
    Now {
        mono: Instant::now(),
        wall: Timestamp::constant(1_772_366_400, 0),
    }
}

/// Does to the machine of these details, with one server and room for few devices, what `data` says.
pub fn run(rules: &str, data: &[u8]) {
    let mut world = World::new(rules);
    for step in data.split(|byte| *byte == STEP_END).take(MAX_STEPS) {
        world.step(step);
        world.check();
    }
    world.check_restart();
}

struct World {
    details: Arc<Details>,
    presence: Presence,
    server: ServerName,
    now: Now,
    asked: BTreeMap<String, Instant>,
}

impl World {
    fn new(rules: &str) -> Self {
        let yaml = format!(
            "servers: [{{name: plant-a, urls: ['tcp://a:1883']}}]\nlimits: {{maxDevices: {MAX_DEVICES}}}\n{rules}"
        );
        let details = Arc::new(Details::parse(&yaml).expect("it is right"));
        let now = noon();
        let mut world = Self {
            presence: Self::machine(&details, now),
            details,
            server: ServerName::parse("plant-a").expect("a name"),
            now,
            asked: BTreeMap::new(),
        };
        world.connect(true);
        world
    }

    fn machine(details: &Arc<Details>, now: Now) -> Presence {
        let options = Options {
            remembered: REMEMBERED,
        };
        Presence::new(Arc::clone(details), options, now)
    }

    fn connect(&mut self, resumed: bool) {
        self.presence.on_connected(&self.server, self.now);
        if !resumed {
            self.presence.on_session_lost(&self.server, self.now);
        }
        self.presence.on_subscribed(&self.server, self.now);
    }

    fn step(&mut self, step: &[u8]) {
        let Some((kind, rest)) = step.split_first() else {
            return;
        };
        // Half a minute for each byte.
        let time =
            Duration::from_millis(rest.first().map_or(500, |byte| u64::from(*byte) * 30_000));
        match kind {
            b'l' => self.message(rest, false),
            b'r' => self.message(rest, true),
            b'p' => self.pass(time, true),
            b'q' => self.pass(time, false),
            b'c' => self.connect(true),
            b'n' => self.connect(false),
            b'd' => {
                let last = self.now.mono.checked_sub(time).unwrap_or(self.now.mono);
                self.presence.on_disconnected(&self.server, last, self.now);
            }
            b't' => {
                let topic = String::from_utf8_lossy(rest);
                self.presence.on_too_large(&self.server, &topic, self.now);
            }
            _ => {}
        }
    }

    fn message(&mut self, rest: &[u8], retained: bool) {
        let mut parts = rest.splitn(2, |byte| *byte == TOPIC_END);
        let topic = parts
            .next()
            .and_then(|topic| std::str::from_utf8(topic).ok());
        // No other topic comes from a session.
        let Some(topic) = topic.filter(|topic| TopicName::parse(topic).is_ok()) else {
            return;
        };
        let message = Inbound {
            topic,
            payload: parts.next().unwrap_or_default(),
            retained,
            qos: QoS::AtLeastOnce,
        };
        self.presence.on_message(&self.server, message, self.now);
    }

    /// Lets time go by; the server answers whoever asks it, or is silent.
    fn pass(&mut self, by: Duration, answers: bool) {
        let end = self.now.plus(by);
        let mut timers = 0;
        while let Some(next) = self.presence.poll_timeout().filter(|at| *at <= end.mono) {
            self.now = self.now.plus(next.saturating_duration_since(self.now.mono));
            self.tick(answers);
            timers += 1;
            assert!(timers < 100_000, "{timers} timers in {by:?}");
        }
        self.now = end;
        self.tick(answers);
    }

    fn tick(&mut self, answers: bool) {
        self.presence.handle_timeout(self.now);
        if answers {
            for name in self.presence.needs_probe() {
                self.presence.on_packet(&name, self.now.mono);
            }
        }
        self.send();
    }

    /// What is published is a request for a rebirth; no node gets two of them in 30 s.
    fn send(&mut self) {
        for (_, message) in self.presence.outgoing(self.now) {
            assert!(TopicName::parse(&message.topic).is_ok());
            assert!(message.topic.contains("/NCMD/"), "{}", message.topic);
            let before = self.asked.insert(message.topic, self.now.mono);
            let since = before.map(|before| self.now.mono.duration_since(before));
            assert!(since.is_none_or(|since| since >= REBIRTH), "{since:?}");
        }
    }

    fn check(&mut self) {
        self.presence.handle_timeout(self.now);
        self.send();
        let next = self.presence.poll_timeout();
        assert!(
            next.is_none_or(|next| next > self.now.mono),
            "a timeout in the past"
        );
        let published: Vec<DeviceId> = self.presence.published().cloned().collect();
        assert!(published.len() <= MAX_DEVICES && published.is_sorted());
        let views = self.presence.explain_all(self.now);
        assert!(
            views.len() <= MAX_DEVICES + 2 * REMEMBERED,
            "{}",
            views.len()
        );
        assert!(views.is_sorted_by(|a, b| a.device < b.device));
        assert_eq!(
            views.iter().filter(|view| view.published).count(),
            published.len()
        );
        for view in &views {
            assert!(!view.published || view.state.is_present());
            assert!(
                !view.device.starts_with("plant-a/akri-mqtt/"),
                "{}",
                view.device
            );
        }
        for (state, count) in self.presence.counters().devices() {
            let there = views.iter().filter(|view| view.state == state).count();
            assert_eq!(u64::try_from(there), Ok(count));
        }
        let wanted = self.presence.subscriptions_on(&self.server);
        assert!(wanted.is_sorted());
        for one in wanted {
            assert!(TopicFilter::parse(one.filter.as_str()).is_ok());
        }
    }

    /// A restart withdraws nobody, and whoever is told of a device can read it.
    fn check_restart(&self) {
        let roster = self.presence.roster();
        let mut again = Self::machine(&self.details, self.now);
        again.restore(&roster, self.now);
        assert!(again.published().eq(self.presence.published()));
        for id in self.presence.published() {
            let found_by = self.presence.found_by(id);
            let convention = found_by.and_then(|index| self.details.convention(index));
            let properties = self.details.properties_with(id, convention);
            let spec = DeviceSpec::from_properties(&properties);
            let spec = spec.unwrap_or_else(|faults| panic!("{id}: {faults}"));
            assert_eq!(spec.id, *id);
        }
    }
}
