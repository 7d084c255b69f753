//! How the MQTT session of a device behaves. In: the device's rules. Out: options, and what tells sessions apart.

use akri_mqtt_core::details::MqttRules;
use akri_mqtt_core::properties::DeviceSpec;
use akri_mqtt_session::Options;

/// Messages and bytes that a session reads ahead; the store's queue holds some more.
const EVENTS: usize = 1_024;
const EVENT_BYTES: usize = 4 << 20;
/// A member of a pool may have all shards of it, each with a session: one reads ahead so many times less.
const SHARD_SHARE: usize = 8;

/// How the session of a device behaves, which may be that of a pool's shard.
pub fn session_options(device: &DeviceSpec, client_id: String, is_shard: bool) -> Options {
    let mut options = Options::new(device.server.clone(), client_id);
    options.version = device.mqtt.version;
    options.keep_alive = device.mqtt.keep_alive;
    options.session_expiry = device.mqtt.session_expiry;
    options.max_packet_size = device.mqtt.max_packet_size;
    options.insecure_skip_verify = device.mqtt.insecure_skip_verify;
    let share = if is_shard { SHARD_SHARE } else { 1 };
    options.event_capacity = EVENTS / share;
    options.event_bytes = EVENT_BYTES / share;
    options
}

/// Options that sessions of one server may differ in.
pub fn options_text(rules: &MqttRules) -> String {
    let MqttRules {
        version,
        keep_alive,
        session_expiry,
        max_packet_size,
        insecure_skip_verify,
        ..
    } = rules;
    format!(
        "{version:?} {keep_alive:?} {session_expiry:?} {max_packet_size} {insecure_skip_verify}"
    )
}
