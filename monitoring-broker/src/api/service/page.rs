//! Pages: limits and tokens. A token says where the next page starts and of which query it is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ServiceError;

/// Items of a page when the request does not say.
pub const DEFAULT_LIMIT: usize = 100;
/// Most items of a page.
pub const MOST_LIMIT: usize = 10_000;

/// Where a page starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first sequence.
    pub sequence: u64,
    /// Readings of that message that were on the page before.
    pub skip: usize,
}

/// Checks the limit of a request; 0: the default.
pub fn limit(limit: usize) -> Result<usize, ServiceError> {
    match limit {
        0 => Ok(DEFAULT_LIMIT),
        1..=MOST_LIMIT => Ok(limit),
        _ => Err(ServiceError::invalid(
            "limit",
            format!("found {limit}, allowed: 1 to {MOST_LIMIT}"),
        )),
    }
}

/// A token of a text.
pub fn token(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// The text of a token; none if it is empty.
pub fn text(token: &str) -> Result<Option<String>, ServiceError> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    String::from_utf8(bytes).map(Some).map_err(|_| wrong())
}

/// The token of a position in the answer to a query.
pub fn position_token(query: &str, position: Position) -> String {
    let sum = crc32fast::hash(query.as_bytes());
    token(&format!(
        "{sum:08x}:{}:{}",
        position.sequence, position.skip
    ))
}

/// The position of a token, if it is of this query.
pub fn position(query: &str, token: &str) -> Result<Option<Position>, ServiceError> {
    let Some(text) = text(token)? else {
        return Ok(None);
    };
    let mut parts = text.split(':');
    let sum = parts
        .next()
        .and_then(|part| u32::from_str_radix(part, 16).ok());
    let sequence = parts.next().and_then(|part| part.parse().ok());
    let skip = parts.next().and_then(|part| part.parse().ok());
    match (sum, sequence, skip) {
        (Some(sum), Some(sequence), Some(skip)) if sum == crc32fast::hash(query.as_bytes()) => {
            Ok(Some(Position { sequence, skip }))
        }
        _ => Err(wrong()),
    }
}

fn wrong() -> ServiceError {
    ServiceError::invalid(
        "page_token",
        "is not the next_page_token of an answer to the same query",
    )
}
