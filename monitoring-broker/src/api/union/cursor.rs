//! Where a united stream stands: a sequence in each store. In: a cursor. Out: sequences; the cursor of a message,
//! which begins with its own store: `<store>:<sequence>`, then `,<store>:<sequence>` for each of the others.

use std::collections::BTreeMap;

use crate::api::service::{ServiceError, shorten};

/// More are not kept of stores that no member has.
pub(super) const MOST: usize = 64;

/// Sequences by store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursors(pub(super) BTreeMap<String, u64>);

impl Cursors {
    /// Reads a cursor, of one message or of a stream.
    pub(super) fn read(text: &str) -> Result<Self, ServiceError> {
        let entries = text.split(',').map(|entry| {
            let (store, sequence) = entry.rsplit_once(':')?;
            Some((store.to_owned(), sequence.parse().ok()?))
        });
        let entries: Option<BTreeMap<_, _>> = entries.collect();
        entries.map(Self).ok_or_else(|| {
            let found = shorten(text);
            let why = format!("found {found:?}, allowed: the cursor of a message");
            ServiceError::invalid("cursor", why)
        })
    }

    /// As text, with the store of the message first.
    pub(super) fn text(&self, first: &str) -> String {
        let mut text = String::new();
        let rest = self.0.iter().filter(|(store, _)| *store != first);
        for (store, sequence) in self.0.get_key_value(first).into_iter().chain(rest) {
            let comma = if text.is_empty() { "" } else { "," };
            text.push_str(&format!("{comma}{store}:{sequence}"));
        }
        text
    }

    /// Everything up to it was sent.
    pub(super) fn set(&mut self, store: &str, sequence: u64) {
        match self.0.get_mut(store) {
            Some(known) => *known = sequence,
            None => {
                self.0.insert(store.to_owned(), sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_begins_with_the_store_of_its_message() {
        let cursors = Cursors::read("b:2,a:1,c:3").unwrap();
        assert_eq!(cursors.text("b"), "b:2,a:1,c:3");
        assert_eq!(cursors.text("gone"), "a:1,b:2,c:3");
        assert_eq!(Cursors::read("a:1").unwrap().text("a"), "a:1");
        for wrong in ["", "a", "a:", "a:-1", "a:1,", "a:1,b"] {
            assert!(Cursors::read(wrong).is_err(), "{wrong}");
        }
    }
}
