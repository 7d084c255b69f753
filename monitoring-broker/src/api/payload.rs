//! Payloads as JSON carries them. In: bytes and what kind they are. Out: a JSON value, a text or base64.
//! JSON is passed on token by token, not parsed into values, so that nothing in it changes but white space
//! and numbers that a reader's double would change: these become texts.

use akri_mqtt_core::decode::{self, Decoder, PayloadKind, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Numbers of so few characters and without an exponent have at most 15 digits, which every double keeps.
const ALWAYS_SURVIVES: usize = 15;

/// A payload with its encoding.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Payload)]
pub(super) struct Payload<'a> {
    /// Any JSON value, a text, or base64, as `payload_encoding` says. Numbers that would not survive in a double are texts.
    #[schema(value_type = serde_json::Value)]
    payload: Form<'a>,
    /// `json`, `text` or `base64`.
    payload_encoding: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Form<'a> {
    Json(Box<RawValue>),
    Text(&'a str),
    Base64(String),
}

impl<'a> Payload<'a> {
    pub(super) fn new(kind: PayloadKind, bytes: &'a [u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok();
        let (payload, payload_encoding) = match (kind, text) {
            (PayloadKind::Json, Some(text)) => match RawValue::from_string(compact(text)) {
                Ok(json) => (Form::Json(json), "json"),
                Err(_) => (Form::Text(text), "text"),
            },
            (PayloadKind::Text, Some(text)) => (Form::Text(text), "text"),
            _ => (Form::Base64(base64(bytes)), "base64"),
        };
        Self {
            payload,
            payload_encoding,
        }
    }
}

/// Bytes in the usual alphabet, padded.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Whether a reader that keeps numbers as doubles gets the same number.
pub(super) fn survives(value: &Value) -> bool {
    match value {
        Value::Int(value) => is_kept(&value.to_string()),
        Value::UInt(value) => is_kept(&value.to_string()),
        Value::Double(_) | Value::Bool(_) => true,
        Value::Text(_) => false,
    }
}

fn is_kept(digits: &str) -> bool {
    digits.len() <= ALWAYS_SURVIVES
        || digits
            .parse::<f64>()
            .is_ok_and(|double| double.to_string() == digits)
}

/// A JSON document without white space between its tokens, on one line; numbers that would not survive are texts.
fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            ' ' | '\t' | '\r' | '\n' => {
                rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
                continue;
            }
            '"' => string_end(rest),
            '-' | '0'..='9' => number_end(rest),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if matches!(first, '-' | '0'..='9') && !number_survives(token) {
            out.push('"');
            out.push_str(token);
            out.push('"');
        } else {
            out.push_str(token);
        }
        rest = after;
    }
    out
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

fn number_end(text: &str) -> usize {
    let is_part = |c: char| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

fn number_survives(token: &str) -> bool {
    if token.len() <= ALWAYS_SURVIVES && !token.contains(['e', 'E']) {
        return true;
    }
    let decoded = decode::decode(Decoder::Json, token.as_bytes());
    decoded.readings.iter().all(|(_, value)| survives(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(payload: &[u8]) -> String {
        let kind = decode::decode(Decoder::Auto, payload).kind;
        serde_json::to_string(&Payload::new(kind, payload)).unwrap()
    }

    #[test]
    fn json_is_passed_on_as_a_value_on_one_line() {
        assert_eq!(
            shown(b"{ \"a\" :\r\n [1, 2.50, \"x \\\" \\\\\"],\"b\": null }"),
            r#"{"payload":{"a":[1,2.50,"x \" \\"],"b":null},"payload_encoding":"json"}"#
        );
    }

    #[test]
    fn numbers_that_a_double_would_change_are_texts() {
        assert_eq!(
            shown(b"[9007199254740992,9007199254740993,18446744073709551615,-9007199254740993]"),
            r#"{"payload":[9007199254740992,"9007199254740993","18446744073709551615","-9007199254740993"],"payload_encoding":"json"}"#
        );
        assert_eq!(
            shown(b"[0.1,1e3,1e999,0.12345678901234567890123]"),
            r#"{"payload":[0.1,1e3,"1e999","0.12345678901234567890123"],"payload_encoding":"json"}"#
        );
    }

    #[test]
    fn text_and_bytes_have_their_encodings() {
        assert_eq!(
            shown("grün".as_bytes()),
            r#"{"payload":"grün","payload_encoding":"text"}"#
        );
        assert_eq!(
            shown(&[0xff, 0]),
            r#"{"payload":"/wA=","payload_encoding":"base64"}"#
        );
        assert_eq!(shown(b""), r#"{"payload":"","payload_encoding":"text"}"#);
    }

    proptest! {
        #[test]
        fn any_payload_becomes_one_line_of_valid_json(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let line = shown(&bytes);
            prop_assert!(!line.contains(['\r', '\n']));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        }

        #[test]
        fn what_looks_like_json_becomes_one_line_of_valid_json(text in "[\\[\\]{}:,\"\\\\0-9eE+. \n\r-]{0,24}") {
            let line = shown(text.as_bytes());
            prop_assert!(!line.contains(['\r', '\n']));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        }
    }
}
