//! Messages on their way out: packet ids, the server's Receive Maximum, QoS 1 and 2.

use std::collections::{BTreeSet, HashMap};

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::ids::PacketIds;
use crate::{
    ErrorKind, Publish, Published, QoS, SessionError, Version,
    codec::{AckKind, Props, encode_ack, encode_publish},
};

/// Where the result of a publish goes.
pub(crate) type Reply = oneshot::Sender<Result<Published, SessionError>>;

/// Messages in flight at most, whatever more the server would take; further ones wait with their callers.
const IN_FLIGHT: usize = 256;

/// What the server speaks and can do, from its CONNACK.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimits {
    pub(super) version: Version,
    pub(super) receive_maximum: u16,
    pub(super) maximum_qos: QoS,
    pub(super) retain_available: bool,
    pub(super) maximum_packet_size: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            version: Version::V5,
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            // MQTT 5.0, 2.1.4: the largest remaining length.
            maximum_packet_size: 268_435_455,
        }
    }
}

impl ServerLimits {
    /// The limits in a CONNACK.
    pub(super) fn of(props: &Props, version: Version) -> Self {
        let default = Self::default();
        let size = props
            .maximum_packet_size
            .and_then(|size| usize::try_from(size).ok());
        Self {
            version,
            receive_maximum: props.receive_maximum.unwrap_or(default.receive_maximum),
            maximum_qos: match props.maximum_qos {
                Some(0) => QoS::AtMostOnce,
                Some(1) => QoS::AtLeastOnce,
                _ => default.maximum_qos,
            },
            retain_available: props.retain_available.unwrap_or(true),
            maximum_packet_size: size.map_or(default.maximum_packet_size, |size| {
                size.min(default.maximum_packet_size)
            }),
        }
    }
}

#[derive(Debug)]
#[allow(
    clippy::enum_variant_names,
    reason = "the names are those of the specification"
)]
enum Stage {
    /// QoS 1: waits for PUBACK.
    PubAck(Reply),
    /// QoS 2: waits for PUBREC.
    PubRec(Reply),
    /// QoS 2: waits for PUBCOMP, with what PUBREC said.
    PubComp(Option<(Reply, Published)>),
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    limits: ServerLimits,
    in_flight: HashMap<u16, Stage>,
    /// QoS 2 ids of an earlier connection that the server may still hold.
    unfinished: BTreeSet<u16>,
}

impl Outbound {
    /// Ids that must not be used for anything else.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = u16> {
        self.unfinished.iter().copied()
    }

    /// A new connection. A QoS 2 message whose caller was told that the connection broke is finished, so that
    /// the server does not take a later message with its id for a duplicate.
    pub(super) fn connected(
        &mut self,
        limits: ServerLimits,
        session_present: bool,
        out: &mut BytesMut,
    ) {
        self.limits = limits;
        if !session_present {
            self.unfinished.clear();
        }
        for id in std::mem::take(&mut self.unfinished) {
            encode_ack(out, AckKind::PubRel, id);
            self.in_flight.insert(id, Stage::PubComp(None));
        }
    }

    pub(super) fn disconnected(&mut self, error: &SessionError) {
        for (id, stage) in self.in_flight.drain() {
            let reply = match stage {
                Stage::PubAck(reply) => Some(reply),
                Stage::PubRec(reply) => {
                    self.unfinished.insert(id);
                    Some(reply)
                }
                Stage::PubComp(reply) => {
                    self.unfinished.insert(id);
                    reply.map(|(reply, _)| reply)
                }
            };
            if let Some(reply) = reply {
                let text =
                    format!("the connection ended before the message was confirmed: {error}");
                // The caller may have gone away.
                let _ = reply.send(Err(SessionError::new(error.kind, text)));
            }
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < usize::from(self.limits.receive_maximum).min(IN_FLIGHT)
    }

    /// Sends a message or tells the caller why not. True if it was sent.
    pub(super) fn publish(
        &mut self,
        publish: &Publish,
        reply: Reply,
        ids: &mut PacketIds,
        out: &mut BytesMut,
    ) -> bool {
        let checked = self.check(publish).and_then(|()| match publish.qos {
            QoS::AtMostOnce => Ok(0),
            _ => ids
                .take()
                .ok_or_else(|| refuse("every packet identifier is in use".to_owned())),
        });
        let id = match checked {
            Ok(id) => id,
            Err(error) => {
                let _ = reply.send(Err(error));
                return false;
            }
        };
        encode_publish(out, publish, id, self.limits.version);
        match publish.qos {
            QoS::AtMostOnce => {
                let _ = reply.send(Ok(Published::default()));
            }
            QoS::AtLeastOnce => {
                self.in_flight.insert(id, Stage::PubAck(reply));
            }
            QoS::ExactlyOnce => {
                self.in_flight.insert(id, Stage::PubRec(reply));
            }
        }
        true
    }

    fn check(&self, publish: &Publish) -> Result<(), SessionError> {
        let topic = &publish.topic;
        akri_mqtt_core::topic::TopicName::parse(topic)
            .map_err(|error| refuse(format!("{topic:?} is no topic name: {error}")))?;
        let strings = publish.properties.as_deref().map_or(0, properties_len);
        let size = topic
            .len()
            .saturating_add(publish.payload.len())
            .saturating_add(strings)
            .saturating_add(32);
        if size > self.limits.maximum_packet_size || strings > usize::from(u16::MAX) {
            let allowed = self.limits.maximum_packet_size;
            return Err(refuse(format!(
                "the message takes {size} bytes, the server allows {allowed}"
            )));
        }
        if publish.qos > self.limits.maximum_qos {
            return Err(refuse(format!(
                "the server allows at most QoS {}",
                self.limits.maximum_qos.level()
            )));
        }
        if publish.retain && !self.limits.retain_available {
            return Err(refuse("the server keeps no retained messages".to_owned()));
        }
        Ok(())
    }

    pub(super) fn puback(&mut self, id: u16, reason: u8, ids: &mut PacketIds) {
        match self.in_flight.remove(&id) {
            Some(Stage::PubAck(reply)) => {
                ids.give_back(id);
                let _ = reply.send(result_of(reason));
            }
            Some(other) => {
                self.in_flight.insert(id, other);
            }
            None => {}
        }
    }

    pub(super) fn pubrec(&mut self, id: u16, reason: u8, ids: &mut PacketIds, out: &mut BytesMut) {
        match self.in_flight.remove(&id) {
            Some(Stage::PubRec(reply)) if reason >= 0x80 => {
                ids.give_back(id);
                let _ = reply.send(result_of(reason));
            }
            Some(Stage::PubRec(reply)) => {
                encode_ack(out, AckKind::PubRel, id);
                let published = Published::of(reason);
                self.in_flight
                    .insert(id, Stage::PubComp(Some((reply, published))));
            }
            Some(other) => {
                self.in_flight.insert(id, other);
            }
            // Finishes what an earlier process began.
            None => encode_ack(out, AckKind::PubRel, id),
        }
    }

    pub(super) fn pubcomp(&mut self, id: u16, ids: &mut PacketIds) {
        match self.in_flight.remove(&id) {
            Some(Stage::PubComp(reply)) => {
                ids.give_back(id);
                if let Some((reply, published)) = reply {
                    let _ = reply.send(Ok(published));
                }
            }
            Some(other) => {
                self.in_flight.insert(id, other);
            }
            None => {}
        }
    }
}

fn properties_len(properties: &crate::Properties) -> usize {
    let texts = [&properties.content_type, &properties.response_topic];
    let texts = texts.into_iter().flatten().map(String::len);
    let user = properties
        .user
        .iter()
        .map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(5));
    let data = properties
        .correlation_data
        .as_ref()
        .map_or(0, bytes::Bytes::len);
    texts
        .chain(user)
        .chain([data])
        .fold(0usize, usize::saturating_add)
}

fn refuse(text: String) -> SessionError {
    SessionError::new(ErrorKind::Publish, text)
}

fn result_of(reason: u8) -> Result<Published, SessionError> {
    if reason < 0x80 {
        return Ok(Published::of(reason));
    }
    let text = format!(
        "the server refused the message: {}",
        super::reason::reason_text(reason)
    );
    let kind = match reason {
        0x87 => ErrorKind::NotAuthorised,
        0x97 => ErrorKind::Quota,
        _ => ErrorKind::Publish,
    };
    Err(SessionError::new(kind, text))
}
