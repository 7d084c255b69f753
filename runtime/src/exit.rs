//! Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration.
//! In: the error a program ended with. Out: its code. What counts as usage is said by whoever
//! makes the error, with [`UsageError`] or [`usage`].

/// A program did what it was asked to.
pub const DONE: u8 = 0;
/// A program failed while it ran.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration, or an address or a directory that is in use; nothing was started.
pub const USAGE: u8 = 2;

/// Wrong flags, environment or configuration, found before anything was started: exit code 2.
///
/// It may stand anywhere in a chain of `anyhow` contexts.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    message: String,
}

impl UsageError {
    /// An error whose message says what is wrong, with which value, and what would be right.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// Marks any error as one of usage: `Details::parse(text).map_err(usage)?`.
pub fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError::new(error.to_string())
}

/// The exit code for the error that a program's `run` returned.
#[must_use]
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<UsageError>() || error.chain().any(<dyn std::error::Error>::is::<UsageError>) {
        USAGE
    } else {
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn usage_error_keeps_its_code_below_any_context() {
        let error = Err::<(), _>(UsageError::new("no device"))
            .context("while starting")
            .context("handler")
            .unwrap_err();
        assert_eq!(code_of(&error), USAGE);
        let context = anyhow::anyhow!("inner").context(UsageError::new("as context"));
        assert_eq!(code_of(&context), USAGE);
    }

    #[test]
    fn any_other_error_is_a_failure() {
        assert_eq!(code_of(&anyhow::anyhow!("disk full")), FAILED);
    }

    #[test]
    fn foreign_error_becomes_usage_with_its_own_text() {
        let error = "x".parse::<u16>().map_err(usage).unwrap_err();
        assert_eq!(error.to_string(), "invalid digit found in string");
    }
}
