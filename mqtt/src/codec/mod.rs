//! The MQTT packets that a client reads and writes, versions 3.1.1 and 5. In: bytes. Out: packets, or the
//! reason why the bytes are none. Never panics, never allocates by an announced length.
//! What a packet means is left to the machine.

mod decode;
mod encode;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod properties;
mod wire;

pub(crate) use decode::{ConnAck, Packet, PublishIn, decode};
pub(crate) use encode::{
    AckKind, Connect, SubscribeFilter, encode_ack, encode_connect, encode_disconnect, encode_ping,
    encode_publish, encode_subscribe, encode_unsubscribe, subscribe_len,
};
pub(crate) use frame::{Frame, FrameReader, Head};
pub(crate) use properties::Props;

/// The bytes are not what the protocol allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

#[cfg(test)]
mod tests;
