//! The machine of a single device, as a monitoring broker runs it.

use proptest::prelude::*;

use super::*;
use crate::properties::DeviceSpec;

#[test]
fn a_monitoring_broker_runs_the_same_machine_from_the_properties_of_its_device() {
    let details = details(ANNOUNCED);
    let id = DeviceId::new(server(A), "r1").unwrap();
    let spec = DeviceSpec::from_properties(&details.properties(&id)).unwrap();
    let now = noon();
    let mut world = World {
        presence: Presence::for_device(Arc::new(spec), now),
        now,
        answers: true,
    };
    let filters: Vec<String> = world
        .presence
        .subscriptions()
        .iter()
        .map(|w| w.filter.to_string())
        .collect();
    assert_eq!(filters, ["robots/r1/joints/#", "robots/r1/status"]);
    world.connect(A);
    world.subscribe(A);
    world.data("r2");
    assert!(world.published().is_empty(), "another's message");
    world.data("r1");
    assert_eq!(
        world.explain("r1").unwrap().explanation,
        "online since 12:00:00: data on robots/r1/joints/#"
    );
    world.status("r1", "offline");
    world.pass(secs(10));
    assert_eq!(world.state("r1"), Some(State::Offline));
    assert!(sentence_names_the_topic(&world));
}

fn sentence_names_the_topic(world: &World) -> bool {
    let sentence = world.explain("r1").unwrap().explanation;
    sentence.contains("Last Will on robots/r1/status")
}

/// What happens to a device, its server, and the clock.
#[derive(Clone, Copy, Debug)]
enum Step {
    Data,
    RetainedData,
    Status(bool),
    Pass(u64),
    Cut,
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Data),
        1 => Just(Step::RetainedData),
        2 => any::<bool>().prop_map(Step::Status),
        6 => (1_u64..9_000).prop_map(Step::Pass),
        1 => Just(Step::Cut),
        2 => Just(Step::Connect),
    ]
}

const TOPIC: &str = "robots/r1/joints";

fn single(now: Now) -> World {
    let details =
        details("presence: {availability: [{topic: 'robots/{device}/status'}], offlineAfter: 12s}");
    let id = DeviceId::new(server(A), "r1").unwrap();
    let spec = DeviceSpec::from_properties(&details.properties(&id)).unwrap();
    World {
        presence: Presence::for_device(Arc::new(spec), now),
        now,
        answers: true,
    }
}

/// Tells it of plain data only when something else is to be told, as a monitoring broker does.
struct Lazy {
    world: World,
    heard: Option<Now>,
}

impl Lazy {
    fn told(&mut self) -> &mut World {
        if let Some(at) = self.heard.take() {
            let now = std::mem::replace(&mut self.world.now, at);
            self.world.live(TOPIC, "");
            self.world.now = now;
        }
        &mut self.world
    }

    fn data(&mut self) {
        let id = DeviceId::new(server(A), "r1").unwrap();
        if self.world.presence.is_plain_data(TOPIC) && self.world.presence.is_online(&id) {
            self.heard = Some(self.world.now);
        } else {
            self.told().live(TOPIC, "1");
        }
    }

    fn pass(&mut self, by: Duration) {
        let end = self.world.now.plus(by);
        loop {
            let next = self.world.presence.poll_timeout();
            let Some(next) = next.filter(|next| *next <= end.mono) else {
                break;
            };
            let world = self.world.now;
            self.world.now = world.plus(next.saturating_duration_since(world.mono));
            let world = self.told();
            world.presence.handle_timeout(world.now);
            world.probe();
        }
        self.world.now = end;
    }
}

proptest! {
    #[test]
    fn a_machine_that_is_told_only_of_the_last_plain_message_comes_to_the_same(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let now = noon();
        let (mut all, mut lazy) = (single(now), Lazy { world: single(now), heard: None });
        prop_assert!(all.presence.is_plain_data(TOPIC));
        prop_assert!(!all.presence.is_plain_data("robots/r1/status"));
        prop_assert!(!all.presence.is_plain_data("robots/r1/joints/set"));
        prop_assert!(!all.presence.is_plain_data("robots/r2/joints"));
        let mut connected = false;
        for step in steps {
            match step {
                Step::Data if connected => {
                    all.live(TOPIC, "1");
                    lazy.data();
                }
                Step::RetainedData if connected => {
                    all.retained(TOPIC, "1");
                    lazy.told().retained(TOPIC, "1");
                }
                Step::Status(online) if connected => {
                    let word = if online { "online" } else { "offline" };
                    all.status("r1", word);
                    lazy.told().status("r1", word);
                }
                Step::Pass(millis) => {
                    all.answers = connected;
                    lazy.world.answers = connected;
                    all.pass(Duration::from_millis(millis));
                    lazy.pass(Duration::from_millis(millis));
                }
                Step::Cut if connected => {
                    connected = false;
                    all.cut(Duration::ZERO);
                    lazy.told().cut(Duration::ZERO);
                }
                Step::Connect if !connected => {
                    connected = true;
                    all.reconnect();
                    lazy.told().reconnect();
                }
                _ => {}
            }
            prop_assert_eq!(all.state("r1"), lazy.world.state("r1"), "{:?}", step);
            prop_assert_eq!(all.published(), lazy.world.published());
        }
    }
}
