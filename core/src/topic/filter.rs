//! Topic filters: which topics one takes, which other filters it covers or meets.
//! In: text. Out: a checked filter. Everything is decided level by level, without allocation.

use std::fmt;
use std::sync::Arc;

use super::{MAX_LENGTH, TopicError, check_text};

/// A topic filter without captures and without `$share`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks `text` by MQTT 5.0, section 4.7. `$share/…` is refused.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        if text == "$share" || text.starts_with("$share/") {
            return Err(TopicError::Shared);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicError::HashNotLast);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicError::PlusNotAlone);
            }
        }
        Ok(Self(text.into()))
    }

    /// The filter as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels from left to right.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether there is a wildcard in it, so that it can take more than one topic.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.levels().any(|level| matches!(level, "+" | "#"))
    }

    /// Whether a message on `topic` is taken. A wildcard at the first level takes no topic that
    /// starts with `$` (MQTT 5.0, 4.7.2).
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.starts_with_wildcard() {
            return false;
        }
        let mut topic = topic.split('/');
        for level in self.levels() {
            match (level, topic.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (level, Some(at)) if level == at => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }

    /// Whether every topic that `other` takes is also taken by this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.starts_with_wildcard() && other.0.starts_with('$') {
            return false;
        }
        // No topic is empty, so `#` and `/#` always take one more level.
        let theirs = match &*other.0 {
            "#" => "+/#",
            "/#" => "/+/#",
            theirs => theirs,
        };
        let mut theirs = theirs.split('/');
        for level in self.levels() {
            match (level, theirs.next()) {
                ("#", _) => return true,
                (_, Some("#")) | (_, None) => return false,
                ("+", Some(_)) => {}
                (level, Some(at)) if level == at => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether some topic is taken by both.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        let mut bytes: usize = 0;
        self.common(other, |level| bytes += level.len() + 1) && bytes > 1
    }

    /// The filter that takes exactly what both take, if there is such a topic.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let mut levels = Vec::new();
        if !self.common(other, |level| levels.push(level)) {
            return None;
        }
        let text = levels.join("/");
        // `/#` and `+` have only the empty topic in common, which is none.
        (1..=MAX_LENGTH)
            .contains(&text.len())
            .then(|| Self(text.into()))
    }

    /// Walks the levels of the intersection; false if there is none.
    fn common<'a>(&'a self, other: &'a Self, mut take: impl FnMut(&'a str)) -> bool {
        if (self.starts_with_wildcard() && other.0.starts_with('$'))
            || (other.starts_with_wildcard() && self.0.starts_with('$'))
        {
            return false;
        }
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), rest) => {
                    rest.into_iter().chain(theirs).for_each(take);
                    return true;
                }
                (rest, Some("#")) => {
                    rest.into_iter().chain(ours).for_each(take);
                    return true;
                }
                (Some("+"), Some(level)) | (Some(level), Some("+")) => take(level),
                (Some(a), Some(b)) if a == b => take(a),
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    fn starts_with_wildcard(&self) -> bool {
        self.0.starts_with(['+', '#'])
    }

    /// For levels that were checked before they were put together.
    pub(super) fn from_checked(text: String) -> Self {
        Self(text.into())
    }
}

impl serde::Serialize for TopicFilter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
pub(in crate::topic) mod tests;
