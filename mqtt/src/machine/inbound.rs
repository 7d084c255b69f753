//! Messages on their way in: the receive window, the order of acknowledgements, and QoS 2 exactly once.
//!
//! A QoS 2 message goes through: delivered (in progress) -> stored by the consumer, which puts the id into the
//! [`crate::SessionState`] -> acknowledged (PUBREC) -> PUBREL -> released, committed -> PUBCOMP. Connections may
//! come and go between any two of them; what is in progress and what is being released outlives a connection.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::BytesMut;

use crate::{
    Ack, QoS,
    codec::{AckKind, encode_ack},
};

/// A PUBLISH as far as its acknowledgement is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) qos: QoS,
    /// Packet id; means nothing for QoS 0.
    pub(super) id: u16,
    /// Its QoS 2 id is in the set.
    pub(super) stored: bool,
    /// It is for the consumer.
    pub(super) keep: bool,
}

/// What to do with a PUBLISH.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Hand it to the consumer.
    Deliver(Option<Ack>),
    /// The consumer has it already.
    Duplicate,
}

#[derive(Debug)]
struct Pending {
    id: u16,
    serial: u64,
    acked: bool,
}

/// A QoS 2 message that the consumer has and has not acknowledged.
#[derive(Debug)]
struct InProgress {
    /// Serial of its `Ack`.
    ack: u64,
    /// Where it stands in the order of the current connection, if it came on it.
    position: Option<u64>,
}

/// Whether a PUBACK or PUBREC was earned already when the packet came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Earned {
    Yes,
    NotYet,
}

#[derive(Debug)]
pub(super) struct Inbound {
    connection: u64,
    serial: u64,
    qos1: VecDeque<Pending>,
    qos1_ids: HashSet<u16>,
    qos2: VecDeque<Pending>,
    /// QoS 2 ids that came on this connection and have no PUBCOMP.
    qos2_open: HashSet<u16>,
    in_progress: HashMap<u16, InProgress>,
    /// Ids whose release is being committed, and whether this connection waits for PUBCOMP.
    releasing: HashMap<u16, bool>,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            connection: 0,
            serial: 0,
            qos1: VecDeque::new(),
            qos1_ids: HashSet::new(),
            qos2: VecDeque::new(),
            qos2_open: HashSet::new(),
            in_progress: HashMap::new(),
            releasing: HashMap::new(),
        }
    }

    /// A new connection.
    pub(super) fn connected(&mut self) {
        self.connection = self.connection.saturating_add(1);
        self.qos1.clear();
        self.qos1_ids.clear();
        self.qos2.clear();
        self.qos2_open.clear();
        self.in_progress
            .values_mut()
            .for_each(|entry| entry.position = None);
        self.releasing
            .values_mut()
            .for_each(|answer| *answer = false);
    }

    /// Messages of QoS 1 and 2 of this connection that wait for the consumer.
    pub(super) fn waiting(&self) -> usize {
        self.qos1.len().saturating_add(self.qos2.len())
    }

    /// Whether nothing of QoS 1 or 2 waits for the consumer.
    pub(super) fn is_idle(&self) -> bool {
        self.qos1.is_empty() && self.qos2.is_empty()
    }

    /// Whether no QoS 2 id is in the hands of the consumer or being released, so that the set may be cleared.
    pub(super) fn may_clear(&self) -> bool {
        self.in_progress.is_empty() && self.releasing.is_empty()
    }

    pub(super) fn releasing(&self) -> usize {
        self.releasing.len()
    }

    /// A message came.
    pub(super) fn publish(&mut self, came: Came, out: &mut BytesMut) -> Arrival {
        let arrival = match came.qos {
            QoS::AtMostOnce => return Arrival::Deliver(None),
            QoS::AtLeastOnce => self.publish1(came.id, came.keep),
            QoS::ExactlyOnce => self.publish2(came, out),
        };
        self.flush(out);
        arrival
    }

    fn publish1(&mut self, id: u16, keep: bool) -> Arrival {
        // A server may not use an id again before our PUBACK, so this is a retransmission of what waits.
        if !self.qos1_ids.insert(id) {
            return Arrival::Duplicate;
        }
        let serial = self.enqueue(
            QoS::AtLeastOnce,
            id,
            if keep { Earned::NotYet } else { Earned::Yes },
        );
        let ack = Ack {
            connection: self.connection,
            serial,
            packet_id: id,
            qos: QoS::AtLeastOnce,
        };
        Arrival::Deliver(keep.then_some(ack))
    }

    fn publish2(&mut self, came: Came, out: &mut BytesMut) -> Arrival {
        let Came {
            id, stored, keep, ..
        } = came;
        if !self.qos2_open.insert(id) {
            if !self.qos2.iter().any(|pending| pending.id == id) {
                encode_ack(out, AckKind::PubRec, id);
            }
            return Arrival::Duplicate;
        }
        if stored {
            self.enqueue(QoS::ExactlyOnce, id, Earned::Yes);
            return Arrival::Duplicate;
        }
        if self.in_progress.contains_key(&id) {
            let position = self.enqueue(QoS::ExactlyOnce, id, Earned::NotYet);
            if let Some(entry) = self.in_progress.get_mut(&id) {
                entry.position = Some(position);
            }
            return Arrival::Duplicate;
        }
        let serial = self.enqueue(
            QoS::ExactlyOnce,
            id,
            if keep { Earned::NotYet } else { Earned::Yes },
        );
        if !keep {
            return Arrival::Deliver(None);
        }
        self.in_progress.insert(
            id,
            InProgress {
                ack: serial,
                position: Some(serial),
            },
        );
        Arrival::Deliver(Some(Ack {
            connection: self.connection,
            serial,
            packet_id: id,
            qos: QoS::ExactlyOnce,
        }))
    }

    fn enqueue(&mut self, qos: QoS, id: u16, earned: Earned) -> u64 {
        self.serial = self.serial.saturating_add(1);
        let pending = Pending {
            id,
            serial: self.serial,
            acked: earned == Earned::Yes,
        };
        match qos {
            QoS::ExactlyOnce => self.qos2.push_back(pending),
            _ => self.qos1.push_back(pending),
        }
        self.serial
    }

    /// The consumer is done with a message.
    pub(super) fn acknowledge(&mut self, ack: &Ack, out: &mut BytesMut) {
        match ack.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                if ack.connection == self.connection {
                    mark(&mut self.qos1, ack.serial);
                }
            }
            QoS::ExactlyOnce => {
                let ours = self
                    .in_progress
                    .get(&ack.packet_id)
                    .is_some_and(|entry| entry.ack == ack.serial);
                let position = if ours {
                    self.in_progress.remove(&ack.packet_id)
                } else {
                    None
                };
                if let Some(serial) = position.and_then(|entry| entry.position) {
                    mark(&mut self.qos2, serial);
                }
            }
        }
        self.flush(out);
    }

    /// Acknowledgements leave in the order of their messages (MQTT 5.0, 4.6.0).
    fn flush(&mut self, out: &mut BytesMut) {
        while let Some(first) = self.qos1.pop_front_if(|pending| pending.acked) {
            self.qos1_ids.remove(&first.id);
            encode_ack(out, AckKind::PubAck, first.id);
        }
        while let Some(first) = self.qos2.pop_front_if(|pending| pending.acked) {
            encode_ack(out, AckKind::PubRec, first.id);
        }
    }

    /// PUBREL came. True if a release must be started.
    pub(super) fn pubrel(&mut self, id: u16) -> bool {
        // The server has our PUBREC, so the message is stored; an `Ack` that is still under way means the past.
        self.in_progress.remove(&id);
        self.qos2.retain(|pending| pending.id != id);
        self.releasing.insert(id, true).is_none()
    }

    /// The release is committed.
    pub(super) fn released(&mut self, id: u16, out: &mut BytesMut) {
        if self.releasing.remove(&id) == Some(true) {
            self.qos2_open.remove(&id);
            encode_ack(out, AckKind::PubComp, id);
        }
    }

    /// The release failed; the server will send PUBREL again on the next connection.
    pub(super) fn release_failed(&mut self, id: u16) {
        self.releasing.remove(&id);
    }
}

fn mark(queue: &mut VecDeque<Pending>, serial: u64) {
    if let Ok(index) = queue.binary_search_by_key(&serial, |pending| pending.serial)
        && let Some(pending) = queue.get_mut(index)
    {
        pending.acked = true;
    }
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
