//! The packets that a client sends. Lengths are checked by the callers (a filter, topic or client id is at
//! most 65,535 bytes).

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::wire::{put_binary, put_varint, varint_len};
use crate::{Properties, Publish, QoS, Version, Will};

/// What CONNECT says.
pub(crate) struct Connect<'a> {
    pub(crate) version: Version,
    pub(crate) client_id: &'a str,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive: u16,
    /// Seconds; MQTT 5 only.
    pub(crate) session_expiry: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    pub(crate) will: Option<&'a Will>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubscribeFilter {
    pub(crate) filter: String,
    pub(crate) qos: QoS,
    /// MQTT 5 only: do not send us what we publish ourselves.
    pub(crate) no_local: bool,
    /// MQTT 5 only: 0, 1 or 2 (3.8.3.1).
    pub(crate) retain_handling: u8,
}

/// Acknowledgements, by packet type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::enum_variant_names,
    reason = "the names are those of the specification"
)]
pub(crate) enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

/// The number of a quality of service.
pub(crate) fn qos_bits(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

fn finish(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.reserve(body.len().saturating_add(5));
    out.put_u8(first);
    put_varint(out, body.len());
    out.put_slice(body);
}

fn put_props(body: &mut BytesMut, props: &[u8]) {
    put_varint(body, props.len());
    body.put_slice(props);
}

pub(crate) fn encode_connect(out: &mut BytesMut, connect: &Connect<'_>) {
    let five = connect.version == Version::V5;
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = connect.will {
        flags |= 0x04 | (qos_bits(will.qos) << 3) | (u8::from(will.retain) << 5);
    }
    // MQTT 3.1.1 allows a password only with a user name (3.1.2.9).
    let password = connect
        .password
        .filter(|_| five || connect.username.is_some());
    flags |= u8::from(connect.username.is_some()) << 7 | u8::from(password.is_some()) << 6;

    let mut body = BytesMut::new();
    put_binary(&mut body, b"MQTT");
    body.put_u8(if five { 5 } else { 4 });
    body.put_u8(flags);
    body.put_u16(connect.keep_alive);
    if five {
        let mut props = BytesMut::new();
        if connect.session_expiry > 0 {
            props.put_u8(0x11);
            props.put_u32(connect.session_expiry);
        }
        props.put_u8(0x21);
        props.put_u16(connect.receive_maximum.max(1));
        put_props(&mut body, &props);
    }
    put_binary(&mut body, connect.client_id.as_bytes());
    if let Some(will) = connect.will {
        if five {
            put_props(&mut body, &will_props(will));
        }
        put_binary(&mut body, will.topic.as_bytes());
        put_binary(&mut body, &will.payload);
    }
    if let Some(username) = connect.username {
        put_binary(&mut body, username.as_bytes());
    }
    if let Some(password) = password {
        put_binary(&mut body, password);
    }
    finish(out, 0x10, &body);
}

fn will_props(will: &Will) -> BytesMut {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let mut props = BytesMut::new();
    if !will.delay.is_zero() {
        props.put_u8(0x18);
        props.put_u32(seconds(will.delay));
    }
    if let Some(expiry) = will.expiry {
        props.put_u8(0x02);
        props.put_u32(seconds(expiry));
    }
    props
}

/// Writes a PUBLISH; `id` is 0 for QoS 0.
pub(crate) fn encode_publish(out: &mut BytesMut, publish: &Publish, id: u16, version: Version) {
    let mut head = BytesMut::with_capacity(publish.topic.len().saturating_add(16));
    put_binary(&mut head, publish.topic.as_bytes());
    if publish.qos != QoS::AtMostOnce {
        head.put_u16(id);
    }
    if version == Version::V5 {
        let props = publish
            .properties
            .as_deref()
            .map(publish_props)
            .unwrap_or_default();
        put_props(&mut head, &props);
    }
    let len = head.len().saturating_add(publish.payload.len());
    out.reserve(len.saturating_add(5));
    out.put_u8(0x30 | qos_bits(publish.qos) << 1 | u8::from(publish.retain));
    put_varint(out, len);
    out.put_slice(&head);
    out.put_slice(&publish.payload);
}

fn publish_props(properties: &Properties) -> BytesMut {
    let mut props = BytesMut::new();
    if properties.payload_is_utf8 {
        props.put_slice(&[0x01, 1]);
    }
    if let Some(expiry) = properties.message_expiry {
        props.put_u8(0x02);
        props.put_u32(expiry);
    }
    let texts = [
        (0x03, properties.content_type.as_deref().map(str::as_bytes)),
        (
            0x08,
            properties.response_topic.as_deref().map(str::as_bytes),
        ),
        (0x09, properties.correlation_data.as_deref()),
    ];
    for (id, value) in texts {
        if let Some(value) = value {
            props.put_u8(id);
            put_binary(&mut props, value);
        }
    }
    for (name, value) in &properties.user {
        props.put_u8(0x26);
        put_binary(&mut props, name.as_bytes());
        put_binary(&mut props, value.as_bytes());
    }
    props
}

/// Writes an acknowledgement with reason 0 (success), which both versions write in the same way.
pub(crate) fn encode_ack(out: &mut BytesMut, kind: AckKind, id: u16) {
    out.put_u8(match kind {
        AckKind::PubAck => 0x40,
        AckKind::PubRec => 0x50,
        AckKind::PubRel => 0x62,
        AckKind::PubComp => 0x70,
    });
    out.put_u8(2);
    out.put_u16(id);
}

/// How many bytes a filter takes in a SUBSCRIBE or UNSUBSCRIBE.
pub(crate) fn subscribe_len(filter: &str) -> usize {
    filter.len().saturating_add(3)
}

pub(crate) fn encode_subscribe(
    out: &mut BytesMut,
    id: u16,
    filters: &[SubscribeFilter],
    identifier: Option<u32>,
    version: Version,
) {
    let mut body = BytesMut::new();
    body.put_u16(id);
    let five = version == Version::V5;
    if five {
        let identifier = identifier.and_then(|value| usize::try_from(value).ok());
        put_varint(
            &mut body,
            identifier.map_or(0, |value| varint_len(value).saturating_add(1)),
        );
        if let Some(value) = identifier {
            body.put_u8(0x0B);
            put_varint(&mut body, value);
        }
    }
    for entry in filters {
        put_binary(&mut body, entry.filter.as_bytes());
        // Retain As Published (bit 3) stays 0, so that the retained flag means "snapshot".
        let five_only = u8::from(entry.no_local) << 2 | entry.retain_handling << 4;
        body.put_u8(qos_bits(entry.qos) | if five { five_only } else { 0 });
    }
    finish(out, 0x82, &body);
}

pub(crate) fn encode_unsubscribe(
    out: &mut BytesMut,
    id: u16,
    filters: &[String],
    version: Version,
) {
    let mut body = BytesMut::new();
    body.put_u16(id);
    if version == Version::V5 {
        put_props(&mut body, &[]);
    }
    for filter in filters {
        put_binary(&mut body, filter.as_bytes());
    }
    finish(out, 0xA2, &body);
}

pub(crate) fn encode_ping(out: &mut BytesMut) {
    out.put_slice(&[0xC0, 0]);
}

/// Writes DISCONNECT; the reason is for MQTT 5. It never changes the session expiry.
pub(crate) fn encode_disconnect(out: &mut BytesMut, reason: u8, version: Version) {
    if version == Version::V5 && reason != 0 {
        out.put_slice(&[0xE0, 1, reason]);
    } else {
        out.put_slice(&[0xE0, 0]);
    }
}
