//! Where a united stream stands: a sequence in each store. In: a cursor. Out: sequences; the cursor of a message,
//! which begins with its own store: `<store>:<sequence>`, then `,<store>:<sequence>` for each of the others.

use std::collections::BTreeMap;

use crate::api::service::{ServiceError, shorten};

/// More are not kept of stores that no member has.
pub(super) const MOST: usize = 64;
/// A cursor with more stores is none of ours: so many members, and those that no member has.
const MOST_READ: usize = 1_024 + MOST;
/// The longest name of a store.
const MOST_NAME: usize = 64;

/// Sequences by store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursors(pub(super) BTreeMap<String, u64>);

impl Cursors {
    /// Reads a cursor, of one message or of a stream.
    pub(super) fn read(text: &str) -> Result<Self, ServiceError> {
        let entries = text.split(',').zip(0..).map(|(entry, number)| {
            let (store, sequence) = entry.rsplit_once(':')?;
            let is_ours = number < MOST_READ && is_name(store);
            Some((is_ours.then(|| store.to_owned())?, sequence.parse().ok()?))
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

/// Whether a store could be called so. Its name is said again in cursors and gaps.
fn is_name(store: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=MOST_NAME).contains(&store.len()) && store.chars().all(is_plain)
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

    #[test]
    fn a_cursor_from_outside_is_bounded_and_has_names_that_may_be_said_again() {
        let of = |stores: usize| {
            let entries = (0..stores).map(|store| format!("{store}:1"));
            entries.collect::<Vec<_>>().join(",")
        };
        assert_eq!(Cursors::read(&of(MOST_READ)).unwrap().0.len(), MOST_READ);
        let long = format!("{}:1", "a".repeat(MOST_NAME + 1));
        let many = of(MOST_READ + 1);
        let huge = "a:1,".repeat(32 << 10);
        for wrong in [
            ":1",
            "a\nid: 7\ndata: b:1",
            "a b:1",
            "ä:1",
            &long,
            &many,
            &huge,
        ] {
            let error = Cursors::read(wrong).unwrap_err().to_string();
            assert!(error.len() < 1_000 && !error.contains('\n'), "{error}");
        }
    }
}
