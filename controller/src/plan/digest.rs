//! Digests of what objects are made from. In: texts and JSON. Out: a short text that is equal for equal
//! inputs, whatever the order of keys, and from one release of the controller to the next.
//!
//! Only inputs count (templates, properties), never what this release makes of them: an upgrade of the
//! controller must not replace a pod. The number in front names the form; should it ever change, the
//! old form must go on to be computed for objects that carry its number.

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest};
use serde_json::Value;

/// The form of digests that this release writes.
const FORM: &str = "1-";

/// Takes inputs one by one.
#[derive(Clone)]
pub(super) struct Digester(Blake2b<U8>);

impl Digester {
    /// Begins a digest; `what` tells digests of different things apart.
    pub(super) fn new(what: &str) -> Self {
        Self(Blake2b::new()).text(what)
    }

    /// A text.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.write(b's', text.as_bytes());
        self
    }

    /// A text that may be missing.
    pub(super) fn maybe(mut self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(text),
            None => {
                self.write(b'n', b"");
                self
            }
        }
    }

    /// JSON; the order of an object's keys does not count.
    pub(super) fn json(mut self, value: &Value) -> Self {
        self.value(value);
        self
    }

    /// The digest, with its form in front.
    pub(super) fn finish(self) -> String {
        let mut text = FORM.to_owned();
        for byte in self.0.finalize() {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }

    fn write(&mut self, kind: u8, bytes: &[u8]) {
        self.0.update([kind]);
        self.0.update(bytes.len().to_be_bytes());
        self.0.update(bytes);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.write(b's', text.as_bytes()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.write(b'v', value.to_string().as_bytes());
            }
            Value::Array(elements) => {
                self.write(b'a', &elements.len().to_be_bytes());
                for element in elements {
                    self.value(element);
                }
            }
            Value::Object(fields) => {
                self.write(b'o', &fields.len().to_be_bytes());
                let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
                sorted.sort_unstable_by_key(|(name, _)| *name);
                for (name, field) in sorted {
                    self.write(b'k', name.as_bytes());
                    self.value(field);
                }
            }
        }
    }
}

/// Whether an object was made from something else than what `current` is the digest of. A form that
/// this release does not know, of a later one, does not count as something else.
pub(super) fn is_outdated(found: Option<&str>, current: &str) -> bool {
    match found {
        Some(found) if found.starts_with(FORM) => found != current,
        Some(_) => false,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn digests_do_not_change_from_release_to_release() {
        let spec =
            json!({"containers": [{"name": "a", "image": "b", "n": 1, "t": true, "z": null}]});
        let digest = Digester::new("pod")
            .json(&spec)
            .text("x")
            .maybe(None)
            .finish();
        assert_eq!(digest, "1-2a4caf820f61dddb");
    }

    #[test]
    fn the_order_of_keys_does_not_count_and_that_of_elements_does() {
        let of = |text: &str| {
            Digester::new("pod")
                .json(&serde_json::from_str(text).unwrap())
                .finish()
        };
        assert_eq!(of(r#"{"a":1,"b":[1,2]}"#), of(r#"{"b":[1,2],"a":1}"#));
        assert_ne!(of(r#"{"a":1,"b":[1,2]}"#), of(r#"{"a":1,"b":[2,1]}"#));
        assert_ne!(of(r#"["ab","c"]"#), of(r#"["a","bc"]"#));
        assert_ne!(of(r#"[1]"#), of(r#"["1"]"#));
    }

    #[test]
    fn a_digest_of_a_later_form_is_left_alone() {
        assert!(is_outdated(None, "1-aa"));
        assert!(is_outdated(Some("1-bb"), "1-aa"));
        assert!(!is_outdated(Some("1-aa"), "1-aa"));
        assert!(!is_outdated(Some("2-bb"), "1-aa"));
    }
}
