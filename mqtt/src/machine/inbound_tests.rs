use proptest::prelude::*;

use super::*;

/// An inbound side with a connection, and what it wrote as (first byte, packet id).
struct Rig {
    inbound: Inbound,
    out: BytesMut,
}

impl Rig {
    fn new() -> Self {
        let mut inbound = Inbound::new();
        inbound.connected();
        Self {
            inbound,
            out: BytesMut::new(),
        }
    }

    fn publish(&mut self, qos: QoS, id: u16, stored: bool) -> Arrival {
        self.inbound.publish(
            Came {
                qos,
                id,
                stored,
                keep: true,
            },
            &mut self.out,
        )
    }

    fn deliver(&mut self, qos: QoS, id: u16) -> Ack {
        match self.publish(qos, id, false) {
            Arrival::Deliver(Some(ack)) => ack,
            other => panic!("not delivered: {other:?}"),
        }
    }

    fn acknowledge(&mut self, ack: &Ack) {
        self.inbound.acknowledge(ack, &mut self.out);
    }

    fn written(&mut self) -> Vec<(u8, u8)> {
        let bytes = self.out.split();
        bytes
            .chunks(4)
            .map(|packet| (packet[0], packet[3]))
            .collect()
    }
}

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

#[test]
fn acknowledgements_leave_in_the_order_of_the_messages() {
    let mut rig = Rig::new();
    let acks: Vec<Ack> = (1..=3)
        .map(|id| rig.deliver(QoS::AtLeastOnce, id))
        .collect();
    rig.acknowledge(&acks[2]);
    rig.acknowledge(&acks[1]);
    assert_eq!(rig.written(), []);
    rig.acknowledge(&acks[0]);
    assert_eq!(rig.written(), [(PUBACK, 1), (PUBACK, 2), (PUBACK, 3)]);
}

#[test]
fn qos_1_acknowledgement_of_an_older_connection_is_ignored() {
    let mut rig = Rig::new();
    let old = rig.deliver(QoS::AtLeastOnce, 1);
    rig.inbound.connected();
    let new = rig.deliver(QoS::AtLeastOnce, 1);
    rig.acknowledge(&old);
    assert_eq!(rig.written(), []);
    rig.acknowledge(&new);
    assert_eq!(rig.written(), [(PUBACK, 1)]);
}

#[test]
fn stored_qos_2_message_is_answered_and_not_delivered_again() {
    let mut rig = Rig::new();
    assert_eq!(rig.publish(QoS::ExactlyOnce, 7, true), Arrival::Duplicate);
    assert_eq!(rig.written(), [(PUBREC, 7)]);
    // And once more on the same connection.
    assert_eq!(rig.publish(QoS::ExactlyOnce, 7, true), Arrival::Duplicate);
    assert_eq!(rig.written(), [(PUBREC, 7)]);
}

#[test]
fn message_in_progress_is_not_delivered_again_and_its_old_acknowledgement_answers_the_new_connection()
 {
    let mut rig = Rig::new();
    let ack = rig.deliver(QoS::ExactlyOnce, 7);
    rig.inbound.connected();
    assert!(!rig.inbound.may_clear());
    assert_eq!(rig.publish(QoS::ExactlyOnce, 7, false), Arrival::Duplicate);
    assert_eq!(rig.written(), []);
    rig.acknowledge(&ack);
    assert_eq!(rig.written(), [(PUBREC, 7)]);
    assert!(rig.inbound.may_clear());
}

#[test]
fn late_acknowledgement_does_not_touch_the_next_message_with_its_id() {
    let mut rig = Rig::new();
    let late = rig.deliver(QoS::ExactlyOnce, 7);
    rig.inbound.connected();
    // The consumer has stored it, so its id is in the set; the server goes on to PUBREL.
    assert_eq!(rig.publish(QoS::ExactlyOnce, 7, true), Arrival::Duplicate);
    assert!(rig.inbound.pubrel(7));
    rig.inbound.released(7, &mut rig.out);
    assert_eq!(rig.written(), [(PUBREC, 7), (PUBCOMP, 7)]);
    let next = rig.deliver(QoS::ExactlyOnce, 7);
    rig.acknowledge(&late);
    assert_eq!(rig.written(), []);
    rig.acknowledge(&next);
    assert_eq!(rig.written(), [(PUBREC, 7)]);
}

#[test]
fn pubcomp_leaves_only_after_the_release_is_committed_and_on_the_connection_that_asked() {
    let mut rig = Rig::new();
    assert!(rig.inbound.pubrel(7));
    assert_eq!(rig.written(), []);
    rig.inbound.connected();
    rig.inbound.released(7, &mut rig.out);
    assert_eq!(rig.written(), [], "the new connection did not ask");
    assert!(rig.inbound.pubrel(7));
    assert!(!rig.inbound.pubrel(7), "one release at a time");
    rig.inbound.released(7, &mut rig.out);
    assert_eq!(rig.written(), [(PUBCOMP, 7)]);
}

/// A server's side of QoS 2 for one id: what it has to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Owed {
    PubRec,
    PubComp,
}

proptest! {
    /// Whatever happens in whatever order to connections, stores, acknowledgements and releases, each message is
    /// stored exactly once, and none is released before it is stored.
    #[test]
    fn every_qos_2_message_is_stored_exactly_once(steps in prop::collection::vec((0u8..7, 1u16..4), 1..200)) {
        let mut rig = Rig::new();
        let mut server: HashMap<u16, (u32, Owed)> = HashMap::new();
        let mut stored: HashSet<u16> = HashSet::new();
        let mut times: HashMap<(u16, u32), u32> = HashMap::new();
        let mut versions: HashMap<u16, u32> = HashMap::new();
        let mut consumer: Vec<(u16, u32, Ack)> = Vec::new();
        let mut to_ack: Vec<Ack> = Vec::new();
        for (step, id) in steps {
            match step {
                // The server begins a message, if the id is free.
                0 => if let std::collections::hash_map::Entry::Vacant(entry) = server.entry(id) {
                    let version = versions.entry(id).or_default();
                    *version += 1;
                    entry.insert((*version, Owed::PubRec));
                    if let Arrival::Deliver(Some(ack)) = rig.publish(QoS::ExactlyOnce, id, stored.contains(&id)) {
                        consumer.push((id, *version, ack));
                    } else {
                        prop_assert!(false, "a new message was not delivered");
                    }
                },
                // The connection breaks; the server sends again what it owes.
                1 => {
                    rig.inbound.connected();
                    rig.out.clear();
                    for (id, (_, owed)) in server.clone() {
                        match owed {
                            Owed::PubRec => {
                                let arrival = rig.publish(QoS::ExactlyOnce, id, stored.contains(&id));
                                prop_assert_eq!(arrival, Arrival::Duplicate);
                            }
                            Owed::PubComp => { rig.inbound.pubrel(id); }
                        }
                    }
                }
                // The consumer stores a message, then (later) acknowledges it.
                2 => if !consumer.is_empty() {
                    let (id, version, ack) = consumer.remove(0);
                    stored.insert(id);
                    *times.entry((id, version)).or_default() += 1;
                    to_ack.push(ack);
                },
                3 => if let Some(ack) = to_ack.pop() { rig.acknowledge(&ack); },
                // A release is committed.
                4 => if rig.inbound.releasing.contains_key(&id) {
                    stored.remove(&id);
                    rig.inbound.released(id, &mut rig.out);
                },
                // The server reads what we wrote.
                _ => for (kind, id) in rig.written() {
                    let id = u16::from(id);
                    if kind == PUBREC {
                        let (version, owed) = server[&id];
                        if owed == Owed::PubRec {
                            prop_assert!(times.contains_key(&(id, version)), "released before it was stored");
                        }
                        server.insert(id, (version, Owed::PubComp));
                        rig.inbound.pubrel(id);
                    } else if kind == PUBCOMP {
                        server.remove(&id);
                    }
                },
            }
        }
        prop_assert!(times.values().all(|count| *count == 1), "{:?}", times);
    }
}
