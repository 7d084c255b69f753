//! Decodes payloads into readings. In: the bytes of a message. Out: named numbers, booleans and
//! texts, and what kind of payload it is. Whatever a device sends, decoding ends, takes time and room
//! in proportion to the payload, and never panics.
//!
//! Sparkplug B is read in [`crate::sparkplug`], because its messages need what an earlier one said.

mod json;
mod number;

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::sparkplug;

/// How many readings one message gives; further ones are counted.
pub const MAX_READINGS: usize = 1024;
/// The longest name of a reading, in bytes; readings with longer ones are counted.
pub const MAX_NAME: usize = 1024;
/// How deep arrays and objects may stand in each other.
pub const MAX_DEPTH: usize = 32;

/// How a payload is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decoder {
    /// JSON, else a UTF-8 number, boolean or text, else bytes.
    #[default]
    Auto,
    /// JSON and nothing else.
    Json,
    /// UTF-8, taken as it stands: `0042` is no number.
    Text,
    /// Sparkplug B: metrics by name, with the names of the sender's birth certificate.
    SparkplugB,
    /// Nothing is read.
    Bytes,
}

impl Decoder {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Json,
        Self::Text,
        Self::SparkplugB,
        Self::Bytes,
    ];

    /// Its name in flags and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Text => "text",
            Self::SparkplugB => "sparkplugB",
            Self::Bytes => "bytes",
        }
    }
}

impl fmt::Display for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no decoder with this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no decoder; there are auto, json, text, sparkplugB and bytes")]
pub struct UnknownDecoder(String);

impl FromStr for Decoder {
    type Err = UnknownDecoder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|d| d.as_str() == text);
        found.ok_or_else(|| UnknownDecoder(text.chars().take(64).collect()))
    }
}

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadKind {
    /// A JSON document.
    Json,
    /// UTF-8.
    Text,
    /// Anything.
    Bytes,
}

impl PayloadKind {
    /// Its name in metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytes => "bytes",
        }
    }
}

/// The value of a reading. Numbers keep their kind; one that none of the three can hold without
/// loss is a text, digit by digit as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number that fits into `i64`.
    Int(i64),
    /// A whole number that only fits into `u64`.
    UInt(u64),
    /// A number with a point or an exponent; always finite.
    Double(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A text, or a number that would not survive.
    Text(Box<str>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::UInt(value) => serializer.serialize_u64(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

/// Why a payload did not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, with the place of the first wrong byte.
    #[error("not JSON: byte {0} does not fit")]
    NotJson(usize),
    /// Arrays and objects stand too deep in each other.
    #[error("arrays and objects are more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not a Sparkplug B payload.
    #[error("not a Sparkplug B payload")]
    NotSparkplug,
}

impl DecodeError {
    /// Reads back what `Display` wrote, in another process; none if it is none of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let plain = [Self::TooDeep, Self::NotUtf8, Self::NotSparkplug];
        let plain = plain.into_iter().find(|error| error.to_string() == text);
        plain.or_else(|| {
            let rest = text.strip_prefix("not JSON: byte ")?;
            let (byte, _) = rest.split_once(' ')?;
            byte.parse().ok().map(Self::NotJson)
        })
    }
}

/// What a payload says.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Name and value, sorted by name. A name is a JSON pointer (RFC 6901), empty for a plain value.
    /// Where an object names a key twice, the last one counts.
    pub readings: Vec<(Box<str>, Value)>,
    /// The units that the payload states, by the name of the reading, in the same order.
    pub units: Vec<(Box<str>, Box<str>)>,
    /// How many readings were left out, because they are too many or their names too long.
    pub cut: usize,
    /// Why there are none, although the decoder should have found some.
    pub error: Option<DecodeError>,
    /// What the payload is.
    pub kind: PayloadKind,
}

impl Decoded {
    /// The unit of a reading, if the payload states it.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<&str> {
        let known = self
            .units
            .binary_search_by(|(known, _)| (**known).cmp(name));
        let (_, unit) = self.units.get(known.ok()?)?;
        Some(unit)
    }

    pub(crate) fn none(kind: PayloadKind, error: Option<DecodeError>) -> Self {
        Self {
            readings: Vec::new(),
            units: Vec::new(),
            cut: 0,
            error,
            kind,
        }
    }

    fn one(kind: PayloadKind, value: Value) -> Self {
        Self {
            readings: vec![("".into(), value)],
            ..Self::none(kind, None)
        }
    }
}

/// Reads a payload. An empty one says nothing, which is no error.
#[must_use]
pub fn decode(decoder: Decoder, payload: &[u8]) -> Decoded {
    let text = std::str::from_utf8(payload).ok();
    let kind = text.map_or(PayloadKind::Bytes, |_| PayloadKind::Text);
    match (decoder, text) {
        (Decoder::SparkplugB, _) => sparkplug::decode(payload, None),
        (Decoder::Bytes, _) => Decoded::none(PayloadKind::Bytes, None),
        (_, Some("")) => Decoded::none(kind, None),
        (Decoder::Auto, None) => Decoded::none(kind, None),
        (Decoder::Text | Decoder::Json, None) => Decoded::none(kind, Some(DecodeError::NotUtf8)),
        (Decoder::Text, Some(text)) => Decoded::one(kind, Value::Text(text.into())),
        (Decoder::Json, Some(text)) => {
            json::read(text).unwrap_or_else(|error| Decoded::none(kind, Some(error)))
        }
        (Decoder::Auto, Some(text)) => match json::read(text) {
            Ok(decoded) => decoded,
            Err(error @ DecodeError::TooDeep) => Decoded::none(kind, Some(error)),
            Err(_) => plain(text),
        },
    }
}

/// A payload that is not JSON: a number, a boolean or a text, if people could read it.
fn plain(text: &str) -> Decoded {
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    if text.contains(control) {
        return Decoded::none(PayloadKind::Bytes, None);
    }
    let word = text.trim();
    let value = if word.eq_ignore_ascii_case("true") {
        Value::Bool(true)
    } else if word.eq_ignore_ascii_case("false") {
        Value::Bool(false)
    } else {
        number::plain(word).unwrap_or_else(|| Value::Text(text.into()))
    };
    Decoded::one(PayloadKind::Text, value)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
