//! The convention `sparkplugB` in the machine: a node's death takes its devices along, what was missed makes doubtful,
//! and requests for a rebirth come out as effects.

use super::*;

const NODE: &str = "plant-a/g/n";
const PRESS: &str = "plant-a/g/n/press";

/// A payload with this number, and `bdSeq` where it is one of a session.
fn payload(seq: u8, bd_seq: Option<u8>) -> Vec<u8> {
    let metric = |bd| [0x12, 9, 0x0a, 5, b'b', b'd', b'S', b'e', b'q', 0x58, bd];
    let mut payload = vec![0x18, seq];
    payload.extend(bd_seq.into_iter().flat_map(metric));
    payload
}

fn sparkplug(rebirth: bool) -> World {
    let yaml = format!(
        "servers:\n- {{name: plant-a, urls: ['tcp://a:1883']}}\nconventions: [{{sparkplugB: {{rebirth: {rebirth}}}}}]\n"
    );
    let mut world = World::of(Arc::new(Details::parse(&yaml).unwrap()), noon());
    world.connect(A);
    world.subscribe(A);
    world.pass(secs(6));
    world
}

impl World {
    fn hear(&mut self, topic: &str, payload: &[u8]) {
        let message = Inbound {
            topic,
            payload,
            retained: false,
            qos: QoS::AtMostOnce,
        };
        self.presence.on_message(&server(A), message, self.now);
    }

    fn born(&mut self, bd_seq: u8) {
        self.hear("spBv1.0/g/NBIRTH/n", &payload(0, Some(bd_seq)));
        self.hear("spBv1.0/g/DBIRTH/n/press", &payload(1, None));
    }

    fn names(&self) -> Vec<String> {
        self.presence.published().map(ToString::to_string).collect()
    }

    fn because(&self, id: &str) -> (State, Reason) {
        let id = DeviceId::parse(id).unwrap();
        let explanation = self.presence.explain(&id, self.now).unwrap();
        (explanation.state, explanation.reason)
    }

    fn asked(&mut self) -> Vec<String> {
        let outgoing = self.presence.outgoing(self.now).into_iter();
        outgoing
            .map(|(at, one)| format!("{at} {}", one.topic))
            .collect()
    }
}

#[test]
fn the_death_of_a_node_takes_its_devices_along_unless_it_is_of_another_session() {
    let mut world = sparkplug(false);
    world.born(7);
    assert_eq!(world.names(), [NODE, PRESS]);
    world.hear("spBv1.0/g/NDEATH/n", &payload(0, Some(6)));
    world.pass(secs(60));
    assert_eq!(world.names(), [NODE, PRESS]);
    let ignored: Vec<_> = world.presence.counters().ignored().collect();
    assert_eq!(ignored, [(Ignored::Superseded, 1)]);
    world.hear("spBv1.0/g/NDEATH/n", &payload(0, Some(7)));
    world.pass(secs(60));
    assert!(world.names().is_empty());
    world.hear("spBv1.0/g/DDATA/n/press", &payload(2, None));
    assert!(world.names().is_empty(), "data does not override a death");
    world.born(8);
    assert_eq!(world.names(), [NODE, PRESS]);
    world.hear("spBv1.0/g/DDEATH/n/press", &payload(2, None));
    world.pass(secs(60));
    assert_eq!(world.names(), [NODE]);
}

#[test]
fn a_node_that_was_born_before_us_is_asked_and_then_known() {
    let mut world = sparkplug(true);
    world.hear("spBv1.0/g/NDATA/n", &payload(9, None));
    assert!(world.names().is_empty());
    world.pass(secs(0));
    assert_eq!(world.asked(), ["plant-a spBv1.0/g/NCMD/n"]);
    assert_eq!(world.presence.counters().rebirths, 1);
    world.born(3);
    assert_eq!(world.names(), [NODE, PRESS]);
    world.pass(secs(600));
    assert!(world.asked().is_empty());
    assert_eq!(world.names(), [NODE, PRESS]);
}

#[test]
fn who_died_while_a_clean_session_was_away_goes_because_it_does_not_answer() {
    let mut world = sparkplug(true);
    world.born(3);
    world.hear("spBv1.0/g/NBIRTH/other", &payload(0, Some(1)));
    world.cut(secs(0));
    world.connect(A);
    world.presence.on_session_lost(&server(A), world.now);
    world.subscribe(A);
    assert_eq!(world.because(NODE), (State::Unconfirmed, Reason::Doubted));
    world.pass(secs(10));
    assert_eq!(
        world.asked(),
        ["plant-a spBv1.0/g/NCMD/n", "plant-a spBv1.0/g/NCMD/other"]
    );
    world.born(3);
    assert_eq!(world.because(PRESS), (State::Online, Reason::Announced));
    assert_eq!(world.names().len(), 3);
    world.pass(secs(600));
    assert_eq!(world.names(), [NODE, PRESS]);
}

#[test]
fn a_device_that_is_not_born_again_with_its_node_goes_after_a_while() {
    let mut world = sparkplug(false);
    world.born(3);
    world.hear("spBv1.0/g/NBIRTH/n", &payload(0, Some(3)));
    assert_eq!(world.because(PRESS), (State::Unconfirmed, Reason::Doubted));
    assert_eq!(world.names(), [NODE, PRESS]);
    world.pass(secs(600));
    assert_eq!(world.names(), [NODE]);
}

#[test]
fn restored_devices_are_asked_for_and_go_with_their_node() {
    let mut world = sparkplug(true);
    world.born(3);
    let roster = world.presence.roster();
    for dies in [false, true] {
        let mut next = sparkplug(true);
        next.presence.restore(&roster, next.now);
        next.connect(A);
        next.subscribe(A);
        next.pass(secs(10));
        assert_eq!(next.asked(), ["plant-a spBv1.0/g/NCMD/n"]);
        if dies {
            next.hear("spBv1.0/g/NDEATH/n", &payload(0, Some(9)));
        } else {
            next.born(3);
        }
        next.pass(secs(600));
        assert_eq!(next.names().is_empty(), dies);
    }
}

#[test]
fn a_restored_device_that_is_not_born_again_with_its_node_goes_though_nobody_is_asked() {
    let mut world = sparkplug(false);
    world.born(3);
    let roster = world.presence.roster();
    for heard_since in [false, true] {
        let mut next = sparkplug(false);
        next.presence.restore(&roster, next.now);
        next.connect(A);
        next.subscribe(A);
        if heard_since {
            next.born(3);
        }
        next.pass(secs(600));
        assert_eq!(next.names(), [NODE, PRESS], "{heard_since}");
        next.hear("spBv1.0/g/NBIRTH/n", &payload(0, Some(4)));
        assert_eq!(next.because(PRESS), (State::Unconfirmed, Reason::Doubted));
        next.pass(secs(600));
        assert_eq!(next.names(), [NODE], "{heard_since}");
    }
}
