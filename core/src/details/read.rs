//! How values are taken out of YAML nodes. In: nodes and what is allowed. Out: values, and a fault
//! for each that is not allowed; reading goes on after a fault, so that all of them are found.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::Fault;
use super::units::{format_duration, format_size, parse_duration, parse_size};
use crate::yaml::{Entry, Kind, Node, Position};

/// Further faults of one text are not kept.
const MAX_FAULTS: usize = 1000;
/// How much of a text a message repeats, in characters.
const SHOWN: usize = 60;

/// Collects the faults of one text.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub faults: Vec<Fault>,
    /// Whether braces in topics stand for themselves, as in the properties of a device, whose
    /// topics came from its messages.
    pub literal: bool,
}

/// A node with the key that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    pub key: String,
    pub at: Position,
    pub node: &'a Node,
}

/// A map whose keys are all known.
#[derive(Clone, Debug)]
pub(crate) struct Map<'a> {
    key: String,
    entries: &'a [Entry],
}

impl<'a> Map<'a> {
    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|e| e.key == name)?;
        Some(Field {
            key: join(&self.key, name),
            at: entry.value.at,
            node: &entry.value,
        })
    }

    /// Where a key stands.
    pub fn place_of(&self, name: &str) -> Option<Position> {
        self.entries.iter().find(|e| e.key == name).map(|e| e.at)
    }
}

fn join(key: &str, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else {
        format!("{key}.{name}")
    }
}

impl Reader {
    /// Notes a fault.
    pub fn fault(&mut self, at: Position, key: &str, message: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault {
                line: at.line,
                column: at.column,
                key: key.to_owned(),
                message,
            });
        }
    }

    /// Notes that `field` is something else than allowed.
    pub fn wrong(&mut self, field: &Field<'_>, allowed: &str) {
        if field.node.kind != Kind::Refused {
            self.fault(
                field.at,
                &field.key,
                format!("found {}; allowed is {allowed}", describe(field.node)),
            );
        }
    }

    /// A map with known keys; nothing at all counts as an empty one.
    pub fn map<'a>(&mut self, field: &Field<'a>, known: &[&str]) -> Option<Map<'a>> {
        let entries: &[Entry] = match &field.node.kind {
            Kind::Mapping(entries) => entries,
            _ if field.node.is_null() => &[],
            _ => {
                self.wrong(field, &format!("a map with {}", one_of(known)));
                return None;
            }
        };
        for entry in entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            let allowed = known.join(", ");
            let message = match nearest(&entry.key, known) {
                Some(near) => {
                    format!("found an unknown key; did you mean `{near}`? Allowed are {allowed}")
                }
                None => format!("found an unknown key; allowed are {allowed}"),
            };
            self.fault(entry.at, &join(&field.key, &shown(&entry.key)), message);
        }
        let key = field.key.clone();
        Some(Map { key, entries })
    }

    /// A list of at most `most` elements.
    pub fn list<'a>(&mut self, field: &Field<'a>, what: &str, most: usize) -> Vec<Field<'a>> {
        let Kind::Sequence(nodes) = &field.node.kind else {
            self.wrong(
                field,
                &format!("a list of {what}, each in a line that starts with `- `"),
            );
            return Vec::new();
        };
        if nodes.len() > most {
            let message = format!("found {} {what}; allowed are {most}", nodes.len());
            self.fault(field.at, &field.key, message);
        }
        let element = |(index, node): (usize, &'a Node)| Field {
            key: format!("{}[{index}]", field.key),
            at: node.at,
            node,
        };
        nodes.iter().take(most).enumerate().map(element).collect()
    }

    /// A text; what looks like a number or a boolean must be in quotes.
    pub fn text<'a>(&mut self, field: &Field<'a>, what: &str) -> Option<&'a str> {
        let node = field.node;
        match node.text() {
            Some(text)
                if !node.is_null() && node.boolean().is_none() && node.number().is_none() =>
            {
                Some(text)
            }
            Some(_) if !node.is_null() => {
                self.wrong(
                    field,
                    &format!("{what}; put it in quotes if it is meant as text"),
                );
                None
            }
            _ => {
                self.wrong(field, what);
                None
            }
        }
    }

    /// A word, which may look like a number or a boolean.
    pub fn word<'a>(&mut self, field: &Field<'a>, what: &str) -> Option<&'a str> {
        let word = field.node.text().filter(|_| !field.node.is_null());
        if word.is_none() {
            self.wrong(field, what);
        }
        word
    }

    /// A text that `parse` understands.
    pub fn parsed<T, E: std::fmt::Display>(
        &mut self,
        field: &Field<'_>,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(field, what)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(
                    field.at,
                    &field.key,
                    format!("found `{}`: {error}", shown(text)),
                );
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, field: &Field<'_>) -> Option<bool> {
        let value = field.node.boolean();
        if value.is_none() {
            self.wrong(field, "true or false");
        }
        value
    }

    /// One of some words.
    pub fn choice<T: Copy>(&mut self, field: &Field<'_>, choices: &[(&str, T)]) -> Option<T> {
        let found = field
            .node
            .text()
            .and_then(|text| choices.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(field, &one_of(&words));
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number.
    pub fn integer(&mut self, field: &Field<'_>, allowed: RangeInclusive<u64>) -> Option<u64> {
        let value = field
            .node
            .text()
            .and_then(|text| text.parse().ok())
            .filter(|n| allowed.contains(n));
        if value.is_none() {
            self.wrong(
                field,
                &format!(
                    "a whole number from {} to {}",
                    allowed.start(),
                    allowed.end()
                ),
            );
        }
        value
    }

    /// A duration; `seconds`: only whole ones.
    pub fn duration(
        &mut self,
        field: &Field<'_>,
        allowed: RangeInclusive<Duration>,
        seconds: bool,
    ) -> Option<Duration> {
        let value = field
            .node
            .text()
            .and_then(parse_duration)
            .filter(|d| allowed.contains(d) && !(seconds && d.subsec_millis() > 0));
        if value.is_none() {
            let (from, to) = (
                format_duration(*allowed.start()),
                format_duration(*allowed.end()),
            );
            let whole = if seconds { " in whole seconds" } else { "" };
            self.wrong(
                field,
                &format!("a duration such as 500ms, 30s, 5m or 1h, from {from} to {to}{whole}"),
            );
        }
        value
    }

    /// A size in bytes.
    pub fn size(&mut self, field: &Field<'_>, allowed: RangeInclusive<u64>) -> Option<u64> {
        let value = field
            .node
            .text()
            .and_then(parse_size)
            .filter(|n| allowed.contains(n));
        if value.is_none() {
            let (from, to) = (format_size(*allowed.start()), format_size(*allowed.end()));
            self.wrong(
                field,
                &format!("a size such as 64KiB or 1MiB, from {from} to {to}"),
            );
        }
        value
    }
}

/// Says what a node is; texts are repeated only as far as they cannot hold a secret.
fn describe(node: &Node) -> String {
    match &node.kind {
        Kind::Sequence(_) => "a list".to_owned(),
        Kind::Mapping(_) => "a map".to_owned(),
        Kind::Refused => "something that is not allowed".to_owned(),
        Kind::Scalar { .. } if node.is_null() => "nothing".to_owned(),
        Kind::Scalar { text, .. } => match (node.boolean(), node.number()) {
            (Some(value), _) => value.to_string(),
            (None, Some(number)) => format!("the number {}", shown(number)),
            (None, None) => format!("`{}`", shown(text)),
        },
    }
}

/// The beginning of a text, in one line. Of what looks like a URL, nothing that could be a user
/// name, password or token is kept.
pub(super) fn shown(text: &str) -> String {
    let text = match (text.split_once("://"), text.contains('@')) {
        (_, true) => "…@…",
        (Some(_), false) => text.split(['?', '#']).next().unwrap_or_default(),
        (None, false) => text,
    };
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The known word that is so close that it may have been meant.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|known| {
            (
                distance(&word.to_lowercase(), &known.to_lowercase(), limit),
                *known,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance; words whose lengths differ by more than `limit` are not compared.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let b: Vec<char> = b.chars().collect();
    let length = a.chars().count();
    if length.abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = above + usize::from(x != *y);
            above = *cell;
            left = replaced.min(left + 1).min(above + 1);
            *cell = left;
        }
    }
    row.last()
        .copied()
        .unwrap_or(length)
        .max(usize::from(b.is_empty()) * length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognised() {
        let known = ["serverUrls", "topics", "presence"];
        assert_eq!(nearest("serverUrl", &known), Some("serverUrls"));
        assert_eq!(nearest("serverurls", &known), Some("serverUrls"));
        assert_eq!(nearest("topcis", &known), Some("topics"));
        assert_eq!(nearest("mqtt", &known), None);
        assert_eq!(nearest("", &known), None);
    }

    #[test]
    fn the_distance_is_levenshteins() {
        assert_eq!(distance("kitten", "sitting", 9), 3);
        assert_eq!(distance("abc", "abc", 9), 0);
        assert_eq!(distance("abc", "", 9), 3);
        assert_eq!(distance("", "abc", 9), 3);
    }

    #[test]
    fn nothing_that_could_be_a_secret_is_shown() {
        assert_eq!(shown("tcp://u:s3cret@host"), "…@…");
        assert_eq!(shown("ws://host/x?token=s3cret"), "ws://host/x");
        assert_eq!(shown("a\nb"), "a\u{fffd}b");
    }
}
