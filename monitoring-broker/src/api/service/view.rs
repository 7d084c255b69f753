//! Messages and devices as they are shown. In: what store and devices have. Out: the same with its readings,
//! its age and its cursor, before a front gives it its form.

use std::sync::Arc;

use akri_mqtt_core::decode::{Decoded, Value};
use jiff::Timestamp;

use super::Decoders;
use crate::devices::Device;
use crate::store::Stored;

/// What a message takes in an answer beside its payload, names and values.
const MESSAGE_BYTES: usize = 192;
/// And a reading.
pub(super) const READING_BYTES: usize = 32;

/// A device with the time of its last message. Beside data and in streams only id and presence count.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceView {
    /// The device.
    pub device: Device,
    /// When its last message was received.
    pub last_message_at: Option<Timestamp>,
    /// Whether something is subscribed for it now.
    pub watched: bool,
}

/// A message with what it says.
#[derive(Clone, Debug)]
pub struct MessageView {
    /// `<store_id>:<sequence>`.
    pub cursor: String,
    /// The message.
    pub stored: Stored,
    /// Its readings.
    pub decoded: Decoded,
    /// When it was received.
    pub received_at: Timestamp,
    /// Milliseconds since then.
    pub age_ms: i64,
}

impl MessageView {
    /// About how many bytes it takes in an answer.
    pub(in crate::api) fn size(&self) -> usize {
        let record = &self.stored.record;
        let properties = record.properties.as_deref().map_or(0, |properties| {
            let user = properties.user.iter();
            user.map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
                + properties.correlation_data.as_ref().map_or(0, |b| b.len())
        });
        let readings = self.decoded.readings.iter();
        MESSAGE_BYTES
            + record.payload.len()
            + properties
            + readings
                .map(|(name, value)| reading_size(name, value))
                .sum::<usize>()
    }
}

/// About how many bytes a reading takes in an answer.
pub(in crate::api) fn reading_size(name: &str, value: &Value) -> usize {
    let text = match value {
        Value::Text(text) => text.len(),
        _ => 0,
    };
    READING_BYTES + name.len() + text
}

/// Makes views of messages, on any thread.
#[derive(Clone)]
pub(super) struct Viewer {
    pub(super) store: Arc<str>,
    pub(super) decoders: Arc<Decoders>,
}

impl Viewer {
    pub(super) fn view(&self, stored: Stored) -> MessageView {
        let received_at = timestamp(stored.record.time);
        MessageView {
            cursor: self.cursor(stored.sequence),
            decoded: self.decoders.decode(&stored),
            stored,
            received_at,
            age_ms: age_ms(received_at),
        }
    }

    pub(super) fn cursor(&self, sequence: u64) -> String {
        format!("{}:{sequence}", self.store)
    }
}

/// Milliseconds since a time; 0 if it is still to come.
pub fn age_ms(time: Timestamp) -> i64 {
    let age = Timestamp::now().as_millisecond() - time.as_millisecond();
    age.max(0)
}

/// A time of the store.
pub fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

/// A time for the store; one that it cannot hold becomes the nearest that it can.
pub fn nanoseconds(time: Timestamp) -> i64 {
    let nanoseconds = time.as_nanosecond();
    let nearest = if nanoseconds < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(nanoseconds).unwrap_or(nearest)
}
