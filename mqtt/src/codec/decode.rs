//! The packets that a server sends to a client.

use bytes::Bytes;

use super::{Malformed, Props, frame::qos_of, wire::Cursor};
use crate::{QoS, Version};

/// A packet from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck(ConnAck),
    Publish(PublishIn),
    PubAck { id: u16, reason: u8 },
    PubRec { id: u16, reason: u8 },
    PubRel { id: u16 },
    PubComp { id: u16 },
    SubAck { id: u16, codes: Bytes },
    UnsubAck { id: u16, codes: Bytes },
    PingResp,
    Disconnect { reason: u8, text: Option<String> },
}

/// CONNACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    /// Return code (3.1.1) or reason code (5).
    pub(crate) reason: u8,
    pub(crate) props: Props,
}

/// PUBLISH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PublishIn {
    pub(crate) duplicate: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) topic: Bytes,
    /// 0 for QoS 0.
    pub(crate) id: u16,
    pub(crate) props: Option<Box<Props>>,
    pub(crate) payload: Bytes,
}

/// Reads one packet.
pub(crate) fn decode(first: u8, body: Bytes, version: Version) -> Result<Packet, Malformed> {
    let kind = first >> 4;
    let flags = first & 0x0F;
    let wanted = if kind == 6 { 2 } else { 0 };
    if kind != 3 && flags != wanted {
        return Err(Malformed("a packet has flags that its type does not allow"));
    }
    let cursor = Cursor::new(body);
    match kind {
        2 => connack(cursor, version),
        3 => publish(first, cursor, version),
        4 => ack(cursor).map(|(id, reason)| Packet::PubAck { id, reason }),
        5 => ack(cursor).map(|(id, reason)| Packet::PubRec { id, reason }),
        6 => ack(cursor).map(|(id, _)| Packet::PubRel { id }),
        7 => ack(cursor).map(|(id, _)| Packet::PubComp { id }),
        9 => codes(cursor, version).map(|(id, codes)| Packet::SubAck { id, codes }),
        11 => codes(cursor, version).map(|(id, codes)| Packet::UnsubAck { id, codes }),
        13 => Ok(Packet::PingResp),
        14 if version == Version::V5 => disconnect(cursor),
        _ => Err(Malformed("a packet of a type that a server must not send")),
    }
}

fn connack(mut cursor: Cursor, version: Version) -> Result<Packet, Malformed> {
    let flags = cursor.u8()?;
    if flags > 1 {
        return Err(Malformed("a CONNACK has reserved flags"));
    }
    let reason = cursor.u8()?;
    // A server that speaks only 3.1.1 answers an MQTT 5 CONNECT in its own form, without properties.
    let props = if version == Version::V5 && !cursor.is_empty() {
        Props::read(&mut cursor)?
    } else {
        None
    };
    Ok(Packet::ConnAck(ConnAck {
        session_present: flags == 1,
        reason,
        props: props.map(|props| *props).unwrap_or_default(),
    }))
}

fn publish(first: u8, mut cursor: Cursor, version: Version) -> Result<Packet, Malformed> {
    let qos = qos_of(first)?;
    let topic = cursor.binary()?;
    let id = if qos == QoS::AtMostOnce {
        0
    } else {
        cursor.packet_id()?
    };
    let props = if version == Version::V5 {
        Props::read(&mut cursor)?
    } else {
        None
    };
    Ok(Packet::Publish(PublishIn {
        duplicate: first & 8 != 0,
        qos,
        retain: first & 1 != 0,
        topic,
        id,
        props,
        payload: cursor.rest(),
    }))
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP: reason and properties may be left out.
fn ack(mut cursor: Cursor) -> Result<(u16, u8), Malformed> {
    let id = cursor.packet_id()?;
    let reason = if cursor.is_empty() { 0 } else { cursor.u8()? };
    if !cursor.is_empty() {
        Props::read(&mut cursor)?;
    }
    Ok((id, reason))
}

fn codes(mut cursor: Cursor, version: Version) -> Result<(u16, Bytes), Malformed> {
    let id = cursor.packet_id()?;
    if version == Version::V5 {
        Props::read(&mut cursor)?;
    }
    Ok((id, cursor.rest()))
}

fn disconnect(mut cursor: Cursor) -> Result<Packet, Malformed> {
    let reason = if cursor.is_empty() { 0 } else { cursor.u8()? };
    let props = if cursor.is_empty() {
        None
    } else {
        Props::read(&mut cursor)?
    };
    Ok(Packet::Disconnect {
        reason,
        text: props.and_then(|props| props.reason),
    })
}
