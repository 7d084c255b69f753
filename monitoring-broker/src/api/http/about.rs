//! What the OpenAPI document says about parameters that several routes take.

/// A device in a path.
pub(super) const ID: &str = "The device's id; its `/` is written %2F";
/// `topic`.
pub(super) const TOPIC: &str = "Only topics that this MQTT topic filter matches";
/// `from`.
pub(super) const FROM: &str = "Received at or after: RFC 3339 or Unix seconds";
/// `to`.
pub(super) const TO: &str = "Received before: RFC 3339 or Unix seconds";
/// `order`.
pub(super) const ORDER: &str = "`desc`, newest first [default], or `asc`";
/// `limit`.
pub(super) const LIMIT: &str = "At most this many, 1 to 10,000 [default: 100]";
/// `page_token`.
pub(super) const PAGE_TOKEN: &str = "`next_page_token` of the page before";
/// `since`.
pub(super) const SINCE: &str =
    "From the first message received at or after: RFC 3339 or Unix seconds";
/// `last_event_id`.
pub(super) const AFTER: &str = "After this cursor, as the header `Last-Event-ID`";
/// `presence`.
pub(super) const PRESENCE: &str = "`true` [default] or `false`: whether presence is sent";
/// The header `Last-Event-ID`.
pub(super) const RESUMES: &str = "Resumes after this cursor";
