//! Where the next page of a united history starts: a position in each store. In: the token of the page before.
//! Out: positions; the token of the next page. A store that is not in it is read from the start of the query.

use std::collections::BTreeMap;

use crate::api::service::ServiceError;
use crate::api::service::page::{self, Position};

/// More stores than a pool has at a time; a token is no place to send a large number of them.
const MOST: usize = 4_096;

/// Positions by store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places(pub(super) BTreeMap<String, Position>);

impl Places {
    /// The positions of a token, if it is of this query.
    pub(super) fn read(query: &str, token: &str) -> Result<Self, ServiceError> {
        let Some(text) = page::text(token)? else {
            return Ok(Self::default());
        };
        let mut parts = text.split(';');
        if parts.next() != Some(&sum(query)) {
            return Err(page::wrong());
        }
        let places = parts.take(MOST).map(|part| {
            let (store, position) = part.rsplit_once('=')?;
            let (sequence, skip) = position.split_once('.')?;
            let position = Position {
                sequence: sequence.parse().ok()?,
                skip: skip.parse().ok()?,
            };
            Some((store.to_owned(), position))
        });
        let places: Option<_> = places.collect();
        places.map(Self).ok_or_else(page::wrong)
    }

    /// The token of these positions.
    pub(super) fn token(&self, query: &str) -> String {
        let mut text = sum(query);
        for (store, Position { sequence, skip }) in &self.0 {
            text.push_str(&format!(";{store}={sequence}.{skip}"));
        }
        page::token(&text)
    }
}

fn sum(query: &str) -> String {
    format!("{:08x}", crc32fast::hash(query.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_a_position_in_each_store_for_one_query() {
        let at = |sequence, skip| Position { sequence, skip };
        let places = [
            ("a".to_owned(), at(7, 0)),
            ("b".to_owned(), at(u64::MAX, 3)),
        ];
        let places = Places(places.into());
        let token = places.token("query");
        assert_eq!(Places::read("query", &token), Ok(places));
        assert!(Places::read("another", &token).is_err());
        assert_eq!(Places::read("query", ""), Ok(Places::default()));
        for wrong in [
            "x",
            "####",
            &page::token("a:1:0"),
            &page::token(&(sum("query") + ";a")),
        ] {
            assert!(Places::read("query", wrong).is_err(), "{wrong}");
        }
    }
}
