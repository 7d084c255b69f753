//! Filters whose levels can have names, and which device a topic names by them.
//! In: `robots/{device}/joints`. Out: the filter to subscribe, captures, device names and back.
//! Which of several patterns decides is left to `details`.

use std::fmt;
use std::sync::Arc;

use super::{MAX_LENGTH, TopicError, TopicFilter};

/// The longest name of a capture, in characters.
const MAX_CAPTURE: usize = 64;

/// A topic filter of which whole levels may be named captures.
#[derive(Clone)]
pub struct TopicPattern {
    source: Arc<str>,
    filter: TopicFilter,
    captures: Arc<[Capture]>,
    naming: Naming,
}

#[derive(Clone, Debug)]
struct Capture {
    level: usize,
    name: Box<str>,
}

/// How a pattern names a device ("Which device is it?", rules 2 to 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By its captures, joined by `/`.
    Captures,
    /// By the topic up to and including this many levels, of which the last is a `+`.
    UpToPlus(usize),
    /// By the levels before the final `#`, which are this many.
    BeforeHash(usize),
    /// By the whole topic.
    Whole,
}

impl TopicPattern {
    /// Reads a filter with captures such as `robots/{device}/joints`.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        super::check_text(text)?;
        let mut captures: Vec<Capture> = Vec::new();
        let mut levels = Vec::new();
        for (level, part) in text.split('/').enumerate() {
            if let Some(name) = capture_name(part)? {
                if captures.iter().any(|c| &*c.name == name) {
                    return Err(TopicError::CaptureTwice(name.to_owned()));
                }
                let name = name.into();
                captures.push(Capture { level, name });
                levels.push("+");
            } else {
                levels.push(part);
            }
        }
        let naming = naming(&levels, !captures.is_empty());
        Ok(Self {
            source: text.into(),
            filter: TopicFilter::parse(&levels.join("/"))?,
            captures: captures.into(),
            naming,
        })
    }

    /// The same filter, of which each topic is a device of its own, wildcards or not.
    #[must_use]
    pub fn naming_whole_topics(mut self) -> Self {
        self.naming = Naming::Whole;
        self
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The filter to subscribe: captures are `+`.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// How it names a device.
    #[must_use]
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// The names of its captures from left to right.
    pub fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.captures.iter().map(|c| &*c.name)
    }

    /// The captured levels of a topic that matches, from left to right.
    #[must_use]
    pub fn captures<'t>(&self, topic: &'t str) -> Option<Vec<&'t str>> {
        self.filter
            .matches(topic)
            .then(|| self.captured(topic).collect())
    }

    /// The filter with the levels of `topic` filled in that name its device (captures, or all up
    /// to the last `+`), if the topic matches.
    #[must_use]
    pub fn narrow(&self, topic: &str) -> Option<TopicFilter> {
        if !self.filter.matches(topic) {
            return None;
        }
        let filled: Vec<&str> = match self.naming {
            Naming::Captures => self.captured(topic).collect(),
            Naming::UpToPlus(count) => topic.split('/').take(count).collect(),
            Naming::BeforeHash(_) => Vec::new(),
            Naming::Whole => return Some(TopicFilter::from_checked(topic.to_owned())),
        };
        Some(self.fill(&filled))
    }

    /// The name that a matching topic gives its device; `None` where a level that names it is
    /// empty. The caller has seen that the filter matches.
    #[must_use]
    pub fn device_name(&self, topic: &str) -> Option<String> {
        match self.naming {
            Naming::Captures => join_full(self.captured(topic)),
            Naming::UpToPlus(count) => {
                let full = topic
                    .split('/')
                    .zip(self.filter.levels())
                    .take(count)
                    .all(|(level, wanted)| wanted != "+" || !level.is_empty());
                full.then(|| leading(topic, count).to_owned())
            }
            Naming::BeforeHash(count) => {
                let name = leading(topic, count);
                (count > 0 && !name.is_empty()).then(|| name.to_owned())
            }
            Naming::Whole => Some(topic.to_owned()),
        }
    }

    /// The filter of all topics that this pattern gives to the device `name`; `None` if it gives
    /// it none.
    #[must_use]
    pub fn for_device(&self, name: &str) -> Option<TopicFilter> {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.iter().any(|p| p.contains(['+', '#', '\0'])) {
            return None;
        }
        let fits = match self.naming {
            Naming::Captures => {
                parts.len() == self.captures.len() && parts.iter().all(|p| !p.is_empty())
            }
            Naming::UpToPlus(count) => parts.len() == count && self.leads_with(&parts),
            Naming::BeforeHash(count) => {
                return (parts.len() == count && self.leads_with(&parts))
                    .then(|| self.filter.clone());
            }
            Naming::Whole => {
                return self
                    .filter
                    .matches(name)
                    .then(|| TopicFilter::from_checked(name.to_owned()));
            }
        };
        if !fits
            || (self.filter.as_str().starts_with('+')
                && self
                    .first_filled(&parts)
                    .is_some_and(|p| p.starts_with('$')))
        {
            return None;
        }
        let filter = self.fill(&parts);
        (filter.as_str().len() <= MAX_LENGTH).then_some(filter)
    }

    /// What `for_device` would put at the first level.
    fn first_filled<'p>(&self, parts: &[&'p str]) -> Option<&'p str> {
        match self.naming {
            Naming::Captures => self
                .captures
                .first()
                .filter(|c| c.level == 0)
                .and(parts.first().copied()),
            _ => parts.first().copied(),
        }
    }

    /// The levels of `filter` at the places of the captures; `None` where it ends before one.
    pub(crate) fn captured_levels<'f>(&self, filter: &'f TopicFilter) -> Option<Vec<&'f str>> {
        let levels: Vec<&str> = self.captured(filter.as_str()).collect();
        (levels.len() == self.captures.len()).then_some(levels)
    }

    /// Whether the first levels of the filter take `parts`, each `+` a level that is not empty.
    fn leads_with(&self, parts: &[&str]) -> bool {
        self.filter
            .levels()
            .zip(parts)
            .all(|(level, part)| (level == "+" && !part.is_empty()) || level == *part)
    }

    fn captured<'t>(&self, topic: &'t str) -> impl Iterator<Item = &'t str> {
        let mut captures = self.captures.iter().peekable();
        topic
            .split('/')
            .enumerate()
            .filter_map(move |(index, level)| captures.next_if(|c| c.level == index).map(|_| level))
    }

    /// Puts `parts` into the levels that name the device.
    fn fill(&self, parts: &[&str]) -> TopicFilter {
        let mut captures = self.captures.iter().peekable();
        let mut parts = parts.iter();
        let by_captures = self.naming == Naming::Captures;
        let levels: Vec<&str> = self
            .filter
            .levels()
            .enumerate()
            .map(|(index, level)| {
                let named = if by_captures {
                    captures.next_if(|c| c.level == index).is_some()
                } else {
                    true
                };
                named
                    .then(|| parts.next())
                    .flatten()
                    .copied()
                    .unwrap_or(level)
            })
            .collect();
        TopicFilter::from_checked(levels.join("/"))
    }
}

/// The first `count` levels of a topic.
fn leading(topic: &str, count: usize) -> &str {
    let end = topic
        .match_indices('/')
        .nth(count.saturating_sub(1))
        .map_or(topic.len(), |(at, _)| at);
    topic.get(..end).unwrap_or(topic)
}

fn join_full<'t>(levels: impl Iterator<Item = &'t str>) -> Option<String> {
    let mut name = String::new();
    for level in levels {
        if level.is_empty() {
            return None;
        }
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(level);
    }
    Some(name)
}

fn capture_name(level: &str) -> Result<Option<&str>, TopicError> {
    if !level.contains(['{', '}']) {
        return Ok(None);
    }
    let name = level
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| !name.contains(['{', '}']))
        .ok_or(TopicError::CaptureNotAlone)?;
    let good = (1..=MAX_CAPTURE).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if good {
        Ok(Some(name))
    } else {
        Err(TopicError::CaptureName)
    }
}

fn naming(levels: &[&str], captures: bool) -> Naming {
    if captures {
        Naming::Captures
    } else if let Some(last) = levels.iter().rposition(|level| *level == "+") {
        Naming::UpToPlus(last + 1)
    } else if levels.last() == Some(&"#") {
        Naming::BeforeHash(levels.len() - 1)
    } else {
        Naming::Whole
    }
}

impl From<TopicFilter> for TopicPattern {
    /// A pattern without captures, in which braces stand for themselves.
    fn from(filter: TopicFilter) -> Self {
        let levels: Vec<&str> = filter.levels().collect();
        let naming = naming(&levels, false);
        Self {
            source: filter.as_str().into(),
            filter,
            captures: Arc::new([]),
            naming,
        }
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.filter == other.filter && self.naming == other.naming
    }
}

impl Eq for TopicPattern {}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.source)
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
