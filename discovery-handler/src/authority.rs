//! Lets callers in that name a Unix socket by its percent-encoded path.
//! In: what a caller sends on the socket. Out: the same bytes, where each `%` in an HTTP/2 `:authority`
//! is a `-`: gRPC's C core, and with it Python and C++, writes the socket's path there, which the HTTP
//! library refuses before the service sees the call. Nobody reads it on a Unix socket.
//! Nothing is decoded: the HPACK fields (RFC 7541) are walked to find the value, and a caller that
//! breaks the rules is left to the HTTP library.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// Bytes before the first frame (RFC 9113, 3.4).
const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// What a priority takes in a HEADERS frame.
const PRIORITY_LENGTH: usize = 5;
const AUTHORITY: &[u8] = b":authority";
/// Its place in HPACK's static table.
const AUTHORITY_INDEX: usize = 1;

/// A caller's connection.
#[derive(Debug)]
pub struct Caller {
    stream: UnixStream,
    frames: Frames,
}

impl Caller {
    /// Takes an accepted connection.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            frames: Frames::default(),
        }
    }
}

impl Connected for Caller {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Caller {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        for byte in buf.filled_mut().iter_mut().skip(before) {
            *byte = this.frames.pass(*byte);
        }
        read
    }
}

impl AsyncWrite for Caller {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Where in the sequence of frames the next byte is.
#[derive(Debug, Default)]
struct Frames {
    preface: usize,
    /// Bytes of the frame's header that were seen.
    header: usize,
    length: usize,
    kind: u8,
    /// Whether the next byte says how much padding there is.
    padded: bool,
    /// Bytes before the fields.
    skip: usize,
    /// Bytes after the fields.
    padding: usize,
    fields: Fields,
}

impl Frames {
    fn pass(&mut self, byte: u8) -> u8 {
        if self.preface < PREFACE {
            self.preface += 1;
            return byte;
        }
        // Length (3 bytes), type, flags, stream (4 bytes).
        match self.header {
            0 => self.length = usize::from(byte) << 16,
            1 => self.length |= usize::from(byte) << 8,
            2 => self.length |= usize::from(byte),
            3 => self.kind = byte,
            4 => self.flags(byte),
            5..=8 => {}
            _ => return self.payload(byte),
        }
        self.header += 1;
        self.end_if_empty();
        byte
    }

    fn flags(&mut self, flags: u8) {
        let headers = self.kind == HEADERS;
        self.padded = headers && flags & PADDED != 0;
        self.padding = 0;
        self.skip = if headers && flags & PRIORITY != 0 {
            PRIORITY_LENGTH
        } else {
            0
        };
        if headers {
            self.fields = Fields::default();
        }
    }

    fn payload(&mut self, byte: u8) -> u8 {
        self.length = self.length.saturating_sub(1);
        let mut passed = byte;
        if self.padded {
            self.padded = false;
            self.padding = usize::from(byte);
        } else if self.skip > 0 {
            self.skip -= 1;
        } else if matches!(self.kind, HEADERS | CONTINUATION) && self.length >= self.padding {
            passed = self.fields.pass(byte);
        }
        self.end_if_empty();
        passed
    }

    fn end_if_empty(&mut self) {
        if self.header == 9 && self.length == 0 {
            self.header = 0;
        }
    }
}

/// What an HPACK integer says, of which the prefix is full and more bytes follow.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    value: usize,
    shift: u32,
}

impl Number {
    /// The value, when this was its last byte.
    fn add(&mut self, byte: u8) -> Option<usize> {
        let part = usize::from(byte & 0x7f).checked_shl(self.shift);
        self.value = self.value.saturating_add(part.unwrap_or(usize::MAX));
        self.shift = self.shift.saturating_add(7);
        (byte & 0x80 == 0).then_some(self.value)
    }
}

/// What the next byte of a block of fields is.
#[derive(Clone, Copy, Debug, Default)]
enum Fields {
    /// The first one of a field.
    #[default]
    Start,
    /// More of the index of a field that has no value of its own, or of a table size.
    Index,
    /// More of the index of a name.
    NameIndex(Number),
    /// The length of a name.
    NameLength,
    /// More of it.
    NameLengthMore(Number),
    /// A name: how much is left, and how much of `:authority` was seen; `None`: it is another name.
    Name(usize, Option<usize>),
    /// The length of a value, and whether it is an authority.
    ValueLength(bool),
    /// More of it, and whether the value is a plain authority.
    ValueLengthMore(bool, Number),
    /// A value: how much is left, and whether it is a plain authority.
    Value(usize, bool),
}

impl Fields {
    fn pass(&mut self, byte: u8) -> u8 {
        let mut passed = byte;
        *self = match *self {
            Self::Start => Self::start(byte),
            Self::Index if byte & 0x80 != 0 => Self::Index,
            Self::Index => Self::Start,
            Self::NameIndex(mut number) => match number.add(byte) {
                Some(index) => Self::ValueLength(index == AUTHORITY_INDEX),
                None => Self::NameIndex(number),
            },
            Self::NameLength => match prefix(byte, 0x7f) {
                Ok(length) => Self::name(length, byte & 0x80 != 0),
                Err(number) => Self::NameLengthMore(number),
            },
            // A name of 127 bytes and more is not `:authority`.
            Self::NameLengthMore(mut number) => match number.add(byte) {
                Some(length) => Self::Name(length, None),
                None => Self::NameLengthMore(number),
            },
            Self::Name(left, seen) => {
                let seen = seen.filter(|at| AUTHORITY.get(*at) == Some(&byte));
                match left {
                    0 | 1 => Self::ValueLength(seen.is_some()),
                    _ => Self::Name(left - 1, seen.map(|at| at + 1)),
                }
            }
            Self::ValueLength(authority) => {
                // A value in Huffman's code is left alone: who uses it writes no path.
                let plain = authority && byte & 0x80 == 0;
                match prefix(byte, 0x7f) {
                    Ok(length) => Self::value(length, plain),
                    Err(number) => Self::ValueLengthMore(plain, number),
                }
            }
            Self::ValueLengthMore(plain, mut number) => match number.add(byte) {
                Some(length) => Self::value(length, plain),
                None => Self::ValueLengthMore(plain, number),
            },
            Self::Value(left, plain) => {
                if plain && byte == b'%' {
                    passed = b'-';
                }
                Self::value(left.saturating_sub(1), plain)
            }
        };
        passed
    }

    /// The kinds of fields of RFC 7541, 6.
    fn start(byte: u8) -> Self {
        let (mask, named) = match byte {
            0x80.. => (0x7f, false),
            0x40.. => (0x3f, true),
            0x20.. => (0x1f, false),
            _ => (0x0f, true),
        };
        match (named, prefix(byte, mask)) {
            (false, Ok(_)) => Self::Start,
            (false, Err(_)) => Self::Index,
            (true, Ok(0)) => Self::NameLength,
            (true, Ok(index)) => Self::ValueLength(index == AUTHORITY_INDEX),
            (true, Err(number)) => Self::NameIndex(number),
        }
    }

    fn name(length: usize, huffman: bool) -> Self {
        let fits = !huffman && length == AUTHORITY.len();
        match length {
            0 => Self::ValueLength(false),
            _ => Self::Name(length, fits.then_some(0)),
        }
    }

    fn value(left: usize, plain: bool) -> Self {
        match left {
            0 => Self::Start,
            _ => Self::Value(left, plain),
        }
    }
}

/// An integer that fits into the bits of `mask`, else the start of a longer one.
fn prefix(byte: u8, mask: u8) -> Result<usize, Number> {
    let value = usize::from(byte & mask);
    if byte & mask == mask {
        Err(Number { value, shift: 0 })
    } else {
        Ok(value)
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
