//! Filters against a naive reading of MQTT 5.0, 4.7, over every topic of up to four levels.

use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// MQTT 5.0, 4.7, written down once more without a thought for speed.
fn oracle(filter: &[&str], topic: &[&str], first: bool) -> bool {
    match (filter, topic) {
        (["#"], [level, ..]) if first => !level.starts_with('$'),
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [level, topic @ ..]) => {
            !(first && level.starts_with('$')) && oracle(filter, topic, false)
        }
        ([wanted, filter @ ..], [level, topic @ ..]) => {
            wanted == level && oracle(filter, topic, false)
        }
        _ => false,
    }
}

/// Every topic of up to four levels out of a few.
pub(in crate::topic) fn topics() -> Vec<String> {
    let levels = ["a", "b", "", "$s", "z"];
    let mut topics: Vec<String> = levels.map(str::to_owned).to_vec();
    let mut last = topics.clone();
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|t| levels.map(|level| format!("{t}/{level}")))
            .collect();
        topics.extend(last.iter().cloned());
    }
    topics.retain(|topic| !topic.is_empty());
    topics
}

/// Filters of up to three levels.
pub(in crate::topic) fn any_filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop::sample::select(vec!["a", "b", "", "$s", "+", "+", "#"]);
    let text = prop::collection::vec(level, 1..=3).prop_map(|levels| {
        let end = levels
            .iter()
            .position(|level| *level == "#")
            .map_or(levels.len(), |at| at + 1);
        levels[..end].join("/")
    });
    text.prop_filter_map("not a filter", |text| TopicFilter::parse(&text).ok())
}

#[test]
fn the_examples_of_the_specification_hold() {
    for (text, topic, matches) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/x", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
    ] {
        assert_eq!(filter(text).matches(topic), matches, "{text} {topic}");
    }
}

#[test]
fn what_is_no_filter_is_refused_with_its_reason() {
    for (text, error) in [
        ("", TopicError::Empty),
        ("a\0b", TopicError::Null),
        ("sport/tennis#", TopicError::HashNotLast),
        ("sport/#/ranking", TopicError::HashNotLast),
        ("sport+", TopicError::PlusNotAlone),
        ("a/+b/c", TopicError::PlusNotAlone),
        ("++", TopicError::PlusNotAlone),
        ("$share/group/a", TopicError::Shared),
        ("$share/", TopicError::Shared),
    ] {
        assert_eq!(TopicFilter::parse(text), Err(error), "{text}");
    }
    let long = "ä".repeat(32_768);
    assert_eq!(TopicFilter::parse(&long), Err(TopicError::TooLong(65_536)));
    assert!(TopicFilter::parse(&long[2..]).is_ok());
    assert!(TopicFilter::parse("$sharex/a").is_ok());
}

proptest! {
    #[test]
    fn a_filter_matches_what_the_specification_says(filter in any_filter()) {
        let levels: Vec<&str> = filter.levels().collect();
        for topic in topics() {
            let expected = oracle(&levels, &topic.split('/').collect::<Vec<_>>(), true);
            prop_assert_eq!(filter.matches(&topic), expected, "{} {}", filter, topic);
        }
    }

    #[test]
    fn covering_meeting_and_intersecting_are_about_the_topics_taken(a in any_filter(), b in any_filter()) {
        let of = |f: &TopicFilter| topics().into_iter().filter(|t| f.matches(t)).collect::<Vec<_>>();
        let (in_a, in_b) = (of(&a), of(&b));
        let both: Vec<_> = in_a.iter().filter(|t| in_b.contains(t)).cloned().collect();
        prop_assert_eq!(a.covers(&b), in_b.iter().all(|t| in_a.contains(t)), "{} covers {}", a, b);
        prop_assert_eq!(a.intersects(&b), !both.is_empty(), "{} meets {}", a, b);
        let intersection = a.intersection(&b);
        prop_assert_eq!(intersection.as_ref().map(of).unwrap_or_default(), both);
        if let Some(both) = intersection {
            prop_assert_eq!(TopicFilter::parse(both.as_str()), Ok(both));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), topic in any::<String>()) {
        if let Ok(filter) = TopicFilter::parse(&text) {
            let _ = filter.matches(&topic);
            prop_assert!(filter.covers(&filter));
        }
    }
}
