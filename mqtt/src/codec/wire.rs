//! The basic data types (MQTT 5.0, 1.5), read from `Bytes` without copying.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Malformed;

const SHORT: Malformed = Malformed("a packet ends before its content does");

/// Reads basic types off the front of a packet.
pub(super) struct Cursor(Bytes);

impl Cursor {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been read.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    /// A packet identifier, which is never 0 (MQTT 5.0, 2.2.1).
    pub(super) fn packet_id(&mut self) -> Result<u16, Malformed> {
        match self.u16()? {
            0 => Err(Malformed("a packet identifier is 0")),
            id => Ok(id),
        }
    }

    /// A variable byte integer (1.5.5).
    pub(super) fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in [0u32, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed(
            "a variable byte integer has more than four bytes",
        ))
    }

    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if self.0.len() < len {
            return Err(SHORT);
        }
        Ok(self.0.split_to(len))
    }

    /// Binary data (1.5.6).
    pub(super) fn binary(&mut self) -> Result<Bytes, Malformed> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    /// A UTF-8 string (1.5.4).
    pub(super) fn string(&mut self) -> Result<String, Malformed> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Malformed("a string is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Malformed("a string holds a null character"));
        }
        Ok(text.to_owned())
    }
}

/// Writes a length-prefixed field, cut at 65,535 bytes; callers check lengths before.
pub(super) fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(len);
    out.extend(bytes.iter().take(usize::from(len)));
}

/// Writes a variable byte integer; values above 268,435,455 do not occur, callers check lengths before.
pub(super) fn put_varint(out: &mut BytesMut, value: usize) {
    let mut rest = value;
    loop {
        let low = u8::try_from(rest & 0x7F).unwrap_or(0);
        rest >>= 7;
        if rest == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// The length of a variable byte integer.
pub(super) fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}
