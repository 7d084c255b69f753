//! Decoders of payloads. In: a byte that chooses the decoder, then a payload.

use akri_mqtt_core::decode::{
    DecodeError, Decoded, Decoder, MAX_DEPTH, MAX_NAME, MAX_READINGS, Value, decode,
};

/// Decodes, and looks at what came out of it.
pub fn run(data: &[u8]) {
    let Some((which, payload)) = data.split_first() else {
        return;
    };
    let which = usize::from(*which) % Decoder::ALL.len();
    let Some(decoder) = Decoder::ALL.get(which) else {
        return;
    };
    let decoded = decode(*decoder, payload);
    check(&decoded);
    if *decoder == Decoder::Json && !payload.is_empty() {
        let general = serde_json::from_slice::<serde::de::IgnoredAny>(payload);
        match decoded.error {
            None => assert!(general.is_ok(), "taken for JSON: {general:?}"),
            Some(DecodeError::TooDeep) => assert!(payload.len() > MAX_DEPTH),
            Some(_) => {}
        }
    }
}

/// What holds for whatever was decoded.
pub fn check(decoded: &Decoded) {
    let readings = &decoded.readings;
    assert!(readings.len() <= MAX_READINGS);
    assert!(readings.is_sorted_by(|(a, _), (b, _)| a < b));
    assert!(decoded.units.is_sorted_by(|(a, _), (b, _)| a < b));
    for (name, value) in readings {
        assert!(name.len() <= MAX_NAME);
        if let Value::Double(value) = value {
            assert!(value.is_finite());
        }
        serde_json::to_string(value).expect("it has a JSON form");
        let unit = decoded.units.iter().find(|(known, _)| known == name);
        assert_eq!(decoded.unit(name), unit.map(|(_, unit)| &**unit));
    }
    for (name, _) in &decoded.units {
        assert!(readings.iter().any(|(known, _)| known == name));
    }
    if let Some(error) = decoded.error {
        assert!(readings.is_empty());
        assert_eq!(DecodeError::read(&error.to_string()), Some(error));
    }
}
