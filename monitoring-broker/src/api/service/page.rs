//! Pages: limits and tokens. In: numbers and tokens of requests. Out: where a page starts and how long it may be.
//! A token says where the next page starts and of which query it is, so messages that come or go
//! meanwhile shift nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ServiceError;

/// Items of a page when the request does not say.
pub const DEFAULT_LIMIT: usize = 100;
/// Most items of a page.
pub const MOST_LIMIT: usize = 10_000;
/// A page ends early when it has so many bytes: gRPC clients take 4 MiB unless they are told otherwise.
pub const PAGE_BYTES: usize = 3 << 20;

/// Where a page starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first sequence.
    pub sequence: u64,
    /// Readings of that message, out of those that are asked for, that were on the page before.
    pub skip: usize,
}

/// Checks the limit of a request; 0: the default.
///
/// # Errors
/// When it is too large; `field` is what the front calls it.
pub fn limit(field: &str, limit: usize) -> Result<usize, ServiceError> {
    match limit {
        0 => Ok(DEFAULT_LIMIT),
        1..=MOST_LIMIT => Ok(limit),
        _ => Err(ServiceError::invalid(
            field,
            format!("found {limit}, allowed: 1 to {MOST_LIMIT}"),
        )),
    }
}

/// A token of a text.
pub(in crate::api) fn token(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// The text of a token; none if it is empty.
pub(in crate::api) fn text(token: &str) -> Result<Option<String>, ServiceError> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    String::from_utf8(bytes).map(Some).map_err(|_| wrong())
}

/// The token of a position in the answer to a query; empty without one.
pub(in crate::api) fn position_token(query: &str, position: Option<Position>) -> String {
    let Some(position) = position else {
        return String::new();
    };
    let sum = crc32fast::hash(query.as_bytes());
    token(&format!(
        "{sum:08x}:{}:{}",
        position.sequence, position.skip
    ))
}

/// The position of a token, if it is of this query.
pub(in crate::api) fn position(query: &str, token: &str) -> Result<Option<Position>, ServiceError> {
    let Some(text) = text(token)? else {
        return Ok(None);
    };
    let mut parts = text.split(':');
    let sum = parts.next().map(|part| u32::from_str_radix(part, 16));
    let sequence = parts.next().and_then(|part| part.parse().ok());
    let skip = parts.next().and_then(|part| part.parse().ok());
    match (sum, sequence, skip) {
        (Some(Ok(sum)), Some(sequence), Some(skip)) if sum == crc32fast::hash(query.as_bytes()) => {
            Ok(Some(Position { sequence, skip }))
        }
        _ => Err(wrong()),
    }
}

/// It is no token of the query.
pub(in crate::api) fn wrong() -> ServiceError {
    ServiceError::invalid(
        "page_token",
        "found one that is not of this query, allowed: the next_page_token of an answer to the same query",
    )
}
