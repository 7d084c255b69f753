//! MQTT 5 properties (MQTT 5.0, 2.2.2): one reader for every packet, because an identifier means the same
//! in all of them.

use bytes::Bytes;

use super::{Malformed, wire::Cursor};

/// Every property that a server may send and a client may want. Boxed where it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Props {
    pub(crate) payload_is_utf8: bool,
    pub(crate) message_expiry: Option<u32>,
    pub(crate) content_type: Option<String>,
    pub(crate) response_topic: Option<String>,
    pub(crate) correlation_data: Option<Bytes>,
    pub(crate) subscription_ids: Vec<u32>,
    pub(crate) session_expiry: Option<u32>,
    pub(crate) server_keep_alive: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) server_reference: Option<String>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) topic_alias: Option<u16>,
    pub(crate) maximum_qos: Option<u8>,
    pub(crate) retain_available: Option<bool>,
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) identifiers_available: Option<bool>,
    pub(crate) shared_available: Option<bool>,
    pub(crate) user: Vec<(String, String)>,
}

impl Props {
    /// Reads the length and the properties; none if there are none.
    pub(super) fn read(cursor: &mut Cursor) -> Result<Option<Box<Self>>, Malformed> {
        let len = cursor.varint()?;
        if len == 0 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| Malformed("properties are too long"))?;
        let mut inner = Cursor::new(cursor.take(len)?);
        let mut props = Box::new(Self::default());
        let mut seen = 0u64;
        while !inner.is_empty() {
            let id = inner.u8()?;
            if !matches!(id, 0x0B | 0x26) {
                let bit = 1u64.checked_shl(u32::from(id)).unwrap_or(0);
                if seen & bit != 0 {
                    return Err(Malformed("a property occurs twice"));
                }
                seen |= bit;
            }
            props.read_one(id, &mut inner)?;
        }
        Ok(Some(props))
    }

    fn read_one(&mut self, id: u8, cursor: &mut Cursor) -> Result<(), Malformed> {
        match id {
            0x01 => self.payload_is_utf8 = flag(cursor)?,
            0x02 => self.message_expiry = Some(cursor.u32()?),
            0x03 => self.content_type = Some(cursor.string()?),
            0x08 => self.response_topic = Some(cursor.string()?),
            0x09 => self.correlation_data = Some(cursor.binary()?),
            0x0B => match cursor.varint()? {
                0 => return Err(Malformed("a subscription identifier is 0")),
                identifier => self.subscription_ids.push(identifier),
            },
            0x11 => self.session_expiry = Some(cursor.u32()?),
            0x13 => self.server_keep_alive = Some(cursor.u16()?),
            0x1C => self.server_reference = Some(cursor.string()?),
            0x1F => self.reason = Some(cursor.string()?),
            0x21 => match cursor.u16()? {
                0 => return Err(Malformed("the Receive Maximum is 0")),
                maximum => self.receive_maximum = Some(maximum),
            },
            0x23 => self.topic_alias = Some(cursor.u16()?),
            0x24 => self.maximum_qos = Some(u8::from(flag(cursor)?)),
            0x25 => self.retain_available = Some(flag(cursor)?),
            0x26 => self.user.push((cursor.string()?, cursor.string()?)),
            0x27 => match cursor.u32()? {
                0 => return Err(Malformed("the Maximum Packet Size is 0")),
                size => self.maximum_packet_size = Some(size),
            },
            0x29 => self.identifiers_available = Some(flag(cursor)?),
            0x2A => self.shared_available = Some(flag(cursor)?),
            _ => return skip(id, cursor),
        }
        Ok(())
    }
}

/// Properties that are read for their length only.
fn skip(id: u8, cursor: &mut Cursor) -> Result<(), Malformed> {
    match id {
        0x12 | 0x15 | 0x1A => cursor.string().map(drop),
        0x16 => cursor.binary().map(drop),
        0x22 => cursor.u16().map(drop),
        0x28 => cursor.u8().map(drop),
        _ => Err(Malformed("a property has an unknown identifier")),
    }
}

fn flag(cursor: &mut Cursor) -> Result<bool, Malformed> {
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a property that is 0 or 1 has another value")),
    }
}
