//! Cuts the byte stream into packets. A PUBLISH above the limit is reported by its head and its payload is
//! skipped as it streams by, so that it costs no memory and blocks nothing.

use bytes::{Buf, Bytes, BytesMut};

use super::Malformed;
use crate::QoS;

/// Packets other than PUBLISH are small; this is far above what a server has reason to send.
const CONTROL_LIMIT: usize = 1024 * 1024;
/// Type 3 in the upper half of the first byte.
const PUBLISH: u8 = 3;

/// A whole packet, or the head of a PUBLISH that is too large.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// First byte and everything after the length.
    Packet { first: u8, body: Bytes },
    /// A PUBLISH above the limit; the rest of it will be skipped.
    Oversized(Head),
}

/// What is known of a PUBLISH that is skipped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) topic: Bytes,
    pub(crate) packet_id: Option<u16>,
    pub(crate) size: usize,
}

/// The state between two reads.
#[derive(Debug)]
pub(crate) struct FrameReader {
    limit: usize,
    skip: usize,
}

impl FrameReader {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            skip: 0,
        }
    }

    /// The next packet, if the buffer holds it. After `None`, read more.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
        if self.skip > 0 {
            let now = self.skip.min(buffer.len());
            buffer.advance(now);
            self.skip = self.skip.saturating_sub(now);
        }
        let Some((first, header, remaining)) = fixed_header(buffer)? else {
            return Ok(None);
        };
        let size = header.saturating_add(remaining);
        if first >> 4 == PUBLISH && size > self.limit {
            return self.oversized(buffer, first, (header, remaining));
        }
        if first >> 4 != PUBLISH && size > CONTROL_LIMIT {
            return Err(Malformed(
                "a packet that is no PUBLISH is larger than 1 MiB",
            ));
        }
        if buffer.len() < size {
            buffer.reserve(size.saturating_sub(buffer.len()));
            return Ok(None);
        }
        let mut packet = buffer.split_to(size);
        packet.advance(header);
        Ok(Some(Frame::Packet {
            first,
            body: packet.freeze(),
        }))
    }

    /// Waits for topic and packet identifier, which are at most 65,539 bytes, then skips the rest.
    fn oversized(
        &mut self,
        buffer: &mut BytesMut,
        first: u8,
        (header, remaining): (usize, usize),
    ) -> Result<Option<Frame>, Malformed> {
        let qos = qos_of(first)?;
        let mut head = buffer.get(header..).unwrap_or_default();
        let Ok(topic_len) = head.try_get_u16() else {
            return Ok(None);
        };
        let topic_len = usize::from(topic_len);
        let id_len = if qos == QoS::AtMostOnce { 0 } else { 2 };
        let used = topic_len.saturating_add(2).saturating_add(id_len);
        if used > remaining {
            return Err(Malformed("a packet ends before its content does"));
        }
        if head.len() < topic_len.saturating_add(id_len) {
            return Ok(None);
        }
        let topic = head.copy_to_bytes(topic_len);
        let packet_id = if id_len == 0 {
            None
        } else {
            head.try_get_u16().ok()
        };
        if packet_id == Some(0) {
            return Err(Malformed("a packet identifier is 0"));
        }
        buffer.advance(header.saturating_add(used));
        self.skip = remaining.saturating_sub(used);
        Ok(Some(Frame::Oversized(Head {
            qos,
            retain: first & 1 == 1,
            topic,
            packet_id,
            size: header.saturating_add(remaining),
        })))
    }
}

/// The quality of service in the first byte of a PUBLISH.
pub(super) fn qos_of(first: u8) -> Result<QoS, Malformed> {
    match (first >> 1) & 3 {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(Malformed("a PUBLISH has QoS 3")),
    }
}

/// First byte, length of the fixed header, remaining length.
fn fixed_header(buffer: &[u8]) -> Result<Option<(u8, usize, usize)>, Malformed> {
    let mut bytes = buffer.iter().copied();
    let Some(first) = bytes.next() else {
        return Ok(None);
    };
    let mut remaining = 0usize;
    for (index, shift) in [0u32, 7, 14, 21].into_iter().enumerate() {
        let Some(byte) = bytes.next() else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((first, index.saturating_add(2), remaining)));
        }
    }
    Err(Malformed("a remaining length has more than four bytes"))
}
