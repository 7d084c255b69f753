//! How the handler's sessions behave. In: what a Configuration says about MQTT. Out: a session's options.

use akri_mqtt_core::details::{MqttRules, Server};
use akri_mqtt_session::Options;

/// Messages that the server may send ahead of our acknowledgements.
const RECEIVE_MAXIMUM: u16 = 100;

/// Options of a session with a server.
#[must_use]
pub fn options(server: &Server, rules: &MqttRules, client_id: String) -> Options {
    let mut options = Options::new(server.clone(), client_id);
    options.version = rules.version;
    options.keep_alive = rules.keep_alive;
    options.session_expiry = rules.session_expiry;
    options.max_packet_size = rules.max_packet_size;
    options.insecure_skip_verify = rules.insecure_skip_verify;
    options.receive_maximum = RECEIVE_MAXIMUM;
    // The queue that another member has kept for us holds stale wills.
    options.clean_on_member_change = true;
    options
}
