//! What ends a connection: the server's DISCONNECT, or a rule that it broke.

use super::reason::{kind_of, reason_text};
use crate::{ErrorKind, SessionError};

/// Why a connection must end, and the reason code for DISCONNECT.
#[derive(Debug)]
pub(crate) struct Fatal {
    pub(crate) error: SessionError,
    pub(crate) code: u8,
}

/// The server broke the rules; the reason code for DISCONNECT and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) u8, pub(super) &'static str);

impl From<Violation> for Fatal {
    fn from(Violation(code, text): Violation) -> Self {
        let error = SessionError::new(
            ErrorKind::Protocol,
            format!("the server broke the protocol: {text}"),
        );
        Self { error, code }
    }
}

/// DISCONNECT came.
pub(super) fn told_to_go(code: u8, text: Option<String>) -> Fatal {
    let mut sentence = format!("the server ended the connection: {}", reason_text(code));
    if let Some(text) = text {
        sentence.push_str(": ");
        sentence.push_str(&text);
    }
    let kind = if code < 0x80 {
        ErrorKind::Closed
    } else {
        kind_of(code)
    };
    Fatal {
        error: SessionError::new(kind, sentence),
        code: 0,
    }
}
