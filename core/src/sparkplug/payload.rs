//! The messages of `sparkplug_b.proto` (Eclipse Sparkplug 3.0, 6.4.1), as far as readings need them. In: bytes.
//! Out: fields as they were sent.

use prost::{Message, Oneof};

/// The payload of every Sparkplug message but STATE.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Payload {
    /// When it was sent, in milliseconds since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub(super) timestamp: Option<u64>,
    /// Its metrics.
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
}

/// As much of a payload as tells its place among the sender's messages.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Numbered {
    /// Counts the messages of an Edge Node and its devices, from 0 in the NBIRTH to 255 and on with 0.
    #[prost(uint64, optional, tag = "3")]
    pub(super) seq: Option<u64>,
}

/// As much of a payload as tells about an Edge Node's session.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Session {
    /// Its metrics.
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Flag>,
    /// As above.
    #[prost(uint64, optional, tag = "3")]
    pub(super) seq: Option<u64>,
}

/// A metric that is a number or a boolean.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Flag {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    /// Up to 32 bits.
    #[prost(uint32, optional, tag = "10")]
    pub(super) int: Option<u32>,
    /// Up to 64 bits.
    #[prost(uint64, optional, tag = "11")]
    pub(super) long: Option<u64>,
    /// A boolean.
    #[prost(bool, optional, tag = "14")]
    pub(super) boolean: Option<bool>,
}

/// A metric.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    /// Left out in data messages when there is an alias.
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    /// A number that stands for the name.
    #[prost(uint64, optional, tag = "2")]
    pub(super) alias: Option<u64>,
    /// One of the data types; may be left out in data messages.
    #[prost(uint32, optional, tag = "4")]
    pub(super) datatype: Option<u32>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub(super) is_null: Option<bool>,
    /// Properties, such as the unit.
    #[prost(message, optional, tag = "9")]
    pub(super) properties: Option<PropertySet>,
    /// The value.
    #[prost(oneof = "Content", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18")]
    pub(super) value: Option<Content>,
}

/// The value of a metric.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Content {
    /// Up to 32 bits, in two's complement where the type has a sign.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// Up to 64 bits, likewise.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// A float.
    #[prost(float, tag = "12")]
    Float(f32),
    /// A double.
    #[prost(double, tag = "13")]
    Double(f64),
    /// A boolean.
    #[prost(bool, tag = "14")]
    Boolean(bool),
    /// A text, or a UUID.
    #[prost(string, tag = "15")]
    Text(String),
    /// Bytes, a file, or an array.
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
    /// A data set; its rows are not read.
    #[prost(bytes = "vec", tag = "17")]
    DataSet(Vec<u8>),
    /// A template with metrics of its own.
    #[prost(message, tag = "18")]
    Template(Template),
}

/// A template instance or definition.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Template {
    /// Its metrics.
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
    /// It only defines types.
    #[prost(bool, optional, tag = "5")]
    pub(super) is_definition: Option<bool>,
}

/// Properties of a metric: names, and values in the same order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertySet {
    /// Names.
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    /// Values.
    #[prost(message, repeated, tag = "2")]
    values: Vec<PropertyValue>,
}

/// The value of a property; only texts are read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PropertyValue {
    /// A text.
    #[prost(string, optional, tag = "8")]
    text: Option<String>,
}

impl Metric {
    /// The unit that it states: by common usage the property `engUnit`.
    pub(super) fn unit(&self) -> Option<&str> {
        let properties = self.properties.as_ref()?;
        let mut all = properties.keys.iter().zip(&properties.values);
        let (_, value) = all.find(|(key, _)| key.as_str() == "engUnit")?;
        value.text.as_deref().filter(|unit| !unit.is_empty())
    }
}
