//! Messages and devices as they are shown, before a front gives them its form.

use akri_mqtt_core::decode::Decoded;
use jiff::Timestamp;

use super::Service;
use crate::devices::Device;
use crate::store::Stored;

/// A device with the time of its last message.
#[derive(Clone, Debug)]
pub struct DeviceView {
    /// The device.
    pub device: Device,
    /// When its last message was received.
    pub last_message_at: Option<Timestamp>,
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
    pub(super) fn new(service: &Service, stored: Stored) -> Self {
        let received_at = timestamp(stored.record.time);
        let age = Timestamp::now().as_millisecond() - received_at.as_millisecond();
        Self {
            cursor: format!("{}:{}", service.store.id(), stored.sequence),
            decoded: service
                .decoders
                .decode(&stored.topic, &stored.record.payload),
            stored,
            received_at,
            age_ms: age.max(0),
        }
    }
}

/// A time of the store.
pub fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

/// A time for the store.
pub fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}
