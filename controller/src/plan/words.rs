//! Parts of sentences for people. In: names and durations. Out: short texts; an Event's message has
//! 1,024 characters at most, a device's id may be as long alone.

use std::time::Duration;

/// Names that a sentence lists before it counts the rest.
const LISTED: usize = 5;
/// Characters of a foreign text that a sentence shows.
const SHOWN: usize = 120;

/// A text that others wrote, cut to what fits into a sentence.
pub(super) fn shown(text: &str) -> String {
    if text.chars().nth(SHOWN).is_none() {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

/// `a, b and 3 more`.
pub(super) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let total = names.len();
    let first: Vec<String> = names.take(LISTED).map(shown).collect();
    let mut text = first.join(", ");
    if total > first.len() {
        text.push_str(&format!(" and {} more", total - first.len()));
    }
    text
}

/// `1 device`, `2 devices`.
pub(super) fn counted(count: usize, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {one}s")
    }
}

/// `10s`, `5m`, `24h`; what is not whole is rounded up to seconds.
pub(super) fn lasting(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1_000);
    if seconds > 0 && seconds.is_multiple_of(3_600) {
        format!("{}h", seconds / 3_600)
    } else if seconds > 0 && seconds.is_multiple_of(60) {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_short() {
        assert_eq!(listed(["a", "b"].into_iter()), "a, b");
        let many = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(listed(many.into_iter()), "a, b, c, d, e and 2 more");
        assert_eq!(shown(&"é".repeat(121)), format!("{}…", "é".repeat(120)));
        assert_eq!(shown(&"é".repeat(120)), "é".repeat(120));
    }

    #[test]
    fn durations_are_said_in_the_largest_whole_unit() {
        let said = [0, 1, 1_000, 59_500, 60_000, 90_000, 86_400_000]
            .map(|millis| lasting(Duration::from_millis(millis)));
        assert_eq!(said, ["0s", "1s", "1s", "1m", "1m", "90s", "24h"]);
    }
}
