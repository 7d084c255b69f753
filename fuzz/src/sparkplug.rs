//! Sparkplug B payloads. In: a birth certificate, the byte 0x1E, a payload that is read with it.

use akri_mqtt_core::sparkplug::{Birth, Host, State, decode};

use crate::history::STEP_END;
use crate::readings;

/// Reads the birth, the payload with and without it, and the latter as what a Host Application states.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == STEP_END);
    let (first, payload) = (parts.next().unwrap_or_default(), parts.next());
    let payload = payload.unwrap_or(first);
    readings::check(&decode(payload, None));
    if let Ok(birth) = Birth::read(first) {
        // A metric takes at least two bytes.
        assert!(birth.size() <= first.len() * 128);
        readings::check(&decode(payload, Some(&birth)));
    }
    let stated = State::parse(payload);
    if let Some(state) = stated {
        assert_eq!(State::parse(state.payload().as_bytes()), Some(state));
    }
    let host = Host::new("plant-host");
    let denied = host.is_denied_by(host.topic(), payload);
    assert_eq!(denied, stated.is_some_and(|state| !state.online));
}
