//! Reads `topics` and `identity`, and checks that all entries give a device the same id.
//! In: nodes. Out: patterns with their places, and faults that name both lines.

use std::collections::BTreeSet;

use super::read::{Field, Reader};
use super::sections::Presence;
use crate::topic::{Naming, TopicPattern};
use crate::yaml::Position;

/// How many `topics`, and how many `identity` patterns, a Configuration may have.
const MAX_TOPICS: usize = 1000;

/// A pattern at its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub pattern: TopicPattern,
    pub at: Position,
    pub key: String,
}

/// Reads a list of patterns.
pub(super) fn patterns(reader: &mut Reader, field: &Field<'_>, what: &str) -> Vec<Placed> {
    let mut patterns = Vec::new();
    for element in reader.list(field, what, MAX_TOPICS) {
        let Some(pattern) = reader.parsed(&element, "a topic filter", TopicPattern::parse) else {
            continue;
        };
        refuse_own(reader, &element, &pattern);
        patterns.push(Placed {
            pattern,
            at: element.at,
            key: element.key,
        });
    }
    patterns
}

/// Topics under `akri-mqtt/` are never evidence, so an entry for them would silently do nothing.
pub(super) fn refuse_own(reader: &mut Reader, field: &Field<'_>, pattern: &TopicPattern) {
    if super::is_own(pattern.filter().as_str()) {
        let message =
            format!("found `{pattern}`; topics under akri-mqtt/ are our own and never a device's");
        reader.fault(field.at, &field.key, message);
    }
}

/// Reads `identity`, whose patterns need a capture.
pub(super) fn identity(reader: &mut Reader, field: &Field<'_>) -> Vec<Placed> {
    let patterns = patterns(reader, field, "identity patterns");
    for placed in patterns
        .iter()
        .filter(|p| p.pattern.naming() != Naming::Captures)
    {
        let message = format!(
            "found `{}`, which has no capture; allowed is a pattern that says which level names the device, as in \
             akri-devices/{{device}}/#",
            placed.pattern
        );
        reader.fault(placed.at, &placed.key, message);
    }
    patterns
}

/// `#`, `+/#` and the like name no device by themselves.
pub(super) fn need_identity(reader: &mut Reader, topics: &[Placed], identity: &[Placed]) {
    for topic in topics.iter().filter(|t| names_nothing(&t.pattern)) {
        let filter = topic.pattern.filter();
        if !identity
            .iter()
            .any(|i| i.pattern.filter().intersects(filter))
        {
            let message = format!(
                "found `{}`, which does not say what a device is; add an `identity` pattern that fits it, such as \
                 {{device}}/#, or name a level, as in {{device}}/status",
                topic.pattern
            );
            reader.fault(topic.at, &topic.key, message);
        }
    }
}

/// Whether a filter ends in `#` and has nothing but wildcards and empty levels before it.
fn names_nothing(pattern: &TopicPattern) -> bool {
    pattern.naming() != Naming::Captures
        && pattern.naming() != Naming::Whole
        && pattern.filter().as_str().ends_with('#')
        && pattern
            .filter()
            .levels()
            .all(|level| matches!(level, "+" | "#" | ""))
}

/// Each announcing rule must give the ids that a `topics` or `identity` entry gives.
pub(super) fn same_ids(
    reader: &mut Reader,
    presence: &Presence,
    topics: &[Placed],
    identity: &[Placed],
) {
    if topics.is_empty() && identity.is_empty() {
        return;
    }
    for Placed { pattern, at, key } in presence.topics() {
        let pattern = &pattern;
        let by_identity = identity
            .iter()
            .any(|i| i.pattern.filter().covers(pattern.filter()));
        if by_identity
            || identity
                .iter()
                .chain(topics)
                .any(|other| fit(pattern, &other.pattern))
        {
            continue;
        }
        let near = topics
            .iter()
            .find(|t| share_a_level(&t.pattern, pattern))
            .or(topics.first())
            .or(identity.first());
        let Some(near) = near else { continue };
        let message = format!(
            "`{pattern}` names devices `{}`, but {} `{}` in line {} names them `{}`; allowed is a pattern with the same \
             captures, or an `identity` pattern that takes both",
            sample(pattern),
            near.key,
            near.pattern,
            near.at.line,
            sample(&near.pattern),
        );
        reader.fault(at, &key, message);
    }
}

/// The levels of the names that a pattern gives; `None` for a level that differs.
fn shape(pattern: &TopicPattern) -> Vec<Option<String>> {
    let of = |count: usize| {
        let level = |level: &str| (level != "+").then(|| level.to_owned());
        pattern.filter().levels().take(count).map(level).collect()
    };
    match pattern.naming() {
        Naming::Captures => pattern.capture_names().map(|_| None).collect(),
        Naming::UpToPlus(count) | Naming::BeforeHash(count) => of(count),
        Naming::Whole => of(usize::MAX),
    }
}

/// Whether two patterns give names in common; not if they have the same captures in another order.
fn fit(a: &TopicPattern, b: &TopicPattern) -> bool {
    let names = |p: &TopicPattern| p.capture_names().map(str::to_owned).collect::<Vec<_>>();
    let sorted = |p: &TopicPattern| names(p).into_iter().collect::<BTreeSet<_>>();
    if names(a) != names(b) && sorted(a) == sorted(b) {
        return false;
    }
    let (a, b) = (shape(a), shape(b));
    let level = |(a, b): (&Option<String>, &Option<String>)| a.is_none() || b.is_none() || a == b;
    a.len() == b.len() && a.iter().zip(&b).all(level)
}

/// A name as the pattern gives it, for people: `{site}/{device}` or `robots/+`.
fn sample(pattern: &TopicPattern) -> String {
    if pattern.naming() == Naming::Captures {
        let names: Vec<String> = pattern
            .capture_names()
            .map(|name| format!("{{{name}}}"))
            .collect();
        return names.join("/");
    }
    let levels: Vec<String> = shape(pattern)
        .into_iter()
        .map(|level| level.unwrap_or("+".to_owned()))
        .collect();
    levels.join("/")
}

fn share_a_level(a: &TopicPattern, b: &TopicPattern) -> bool {
    let first = |p: &TopicPattern| p.filter().levels().next().map(str::to_owned);
    first(a) == first(b)
}
