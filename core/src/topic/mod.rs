//! MQTT topic names and filters. In: text. Out: values that obey MQTT 5.0, section 4.7.
//! Patterns with named levels are in `pattern`, many filters at once in `tree`.

mod filter;
mod pattern;
mod tree;

use std::fmt;
use std::sync::Arc;

pub use filter::TopicFilter;
pub use pattern::{Naming, TopicPattern};
pub use tree::{FilterTree, Matching};

/// The longest UTF-8 string that MQTT can carry, in bytes (MQTT 5.0, 1.5.4).
pub const MAX_LENGTH: usize = 65_535;

/// Why a text is no topic name, filter or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TopicError {
    #[error("it is empty; a topic has at least one character (MQTT 5.0, 4.7.3)")]
    Empty,
    #[error("it has {0} bytes; a topic has at most {MAX_LENGTH} (MQTT 5.0, 1.5.4)")]
    TooLong(usize),
    #[error("it contains the null character, which no topic may (MQTT 5.0, 4.7.3)")]
    Null,
    #[error("a topic name contains no wildcard, but this one has `{0}` (MQTT 5.0, 4.7.1)")]
    WildcardInName(char),
    #[error("`+` takes a whole level, as in `a/+/b` (MQTT 5.0, 4.7.1.3)")]
    PlusNotAlone,
    #[error("`#` takes a whole level and is the last one, as in `a/#` (MQTT 5.0, 4.7.1.2)")]
    HashNotLast,
    #[error(
        "shared subscriptions (`$share/<group>/<filter>`) do not fit here, because every device needs all of its \
         messages; write the filter alone"
    )]
    Shared,
    #[error(
        "a capture takes a whole level, as in `robots/{{device}}/joints`; `+` stands for a level with braces"
    )]
    CaptureNotAlone,
    #[error("a capture's name has 1 to 64 letters, digits, `-` and `_`, as in `{{device}}`")]
    CaptureName,
    #[error("the capture `{{{0}}}` stands there twice; give the levels different names")]
    CaptureTwice(String),
}

/// The name of a topic that a message is published to: no wildcards.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks `text` by MQTT 5.0, section 4.7.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        if let Some(wildcard) = text.chars().find(|c| matches!(c, '+' | '#')) {
            return Err(TopicError::WildcardInName(wildcard));
        }
        Ok(Self(text.into()))
    }

    /// The name as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The rules that names and filters share.
fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        Err(TopicError::Empty)
    } else if text.len() > MAX_LENGTH {
        Err(TopicError::TooLong(text.len()))
    } else if text.contains('\0') {
        Err(TopicError::Null)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_obey_section_4_7() {
        assert!(TopicName::parse("a/b").is_ok());
        assert!(TopicName::parse("/").is_ok());
        assert!(TopicName::parse("$SYS/x").is_ok());
        assert_eq!(TopicName::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicName::parse("a\0"), Err(TopicError::Null));
        assert_eq!(
            TopicName::parse("a/+"),
            Err(TopicError::WildcardInName('+'))
        );
        assert_eq!(TopicName::parse("a#"), Err(TopicError::WildcardInName('#')));
        assert!(TopicName::parse(&"x".repeat(65_535)).is_ok());
        assert_eq!(
            TopicName::parse(&"x".repeat(65_536)),
            Err(TopicError::TooLong(65_536))
        );
    }
}
