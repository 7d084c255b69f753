//! Captures, and that the filter of a device takes its topics and no other.

use proptest::prelude::*;

use super::super::filter::tests::topics;
use super::*;

fn pattern(text: &str) -> TopicPattern {
    TopicPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn captures_are_whole_levels_with_distinct_names() {
    assert_eq!(
        pattern("robots/{device}/joints").filter().as_str(),
        "robots/+/joints"
    );
    for (text, error) in [
        ("a{b}", TopicError::CaptureNotAlone),
        ("{b}c", TopicError::CaptureNotAlone),
        ("{a}{b}", TopicError::CaptureNotAlone),
        ("a}/b", TopicError::CaptureNotAlone),
        ("{}", TopicError::CaptureName),
        ("{a b}", TopicError::CaptureName),
        ("{a}/{a}", TopicError::CaptureTwice("a".into())),
        ("{a}/#/b", TopicError::HashNotLast),
        ("$share/{a}/b", TopicError::Shared),
        ("", TopicError::Empty),
    ] {
        assert_eq!(TopicPattern::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_pattern_names_devices_by_rules_2_to_5() {
    for (text, topic, name, narrowed) in [
        ("{site}/x/{device}/#", "s/x/d/e/f", Some("s/d"), "s/x/d/#"),
        ("+/x/{device}", "s/x/d", Some("d"), "+/x/d"),
        ("{device}/+", "d/e", Some("d"), "d/+"),
        (
            "robots/+/joints",
            "robots/r1/joints",
            Some("robots/r1"),
            "robots/r1/joints",
        ),
        ("+/b/+/c/#", "a/b/r/c", Some("a/b/r"), "a/b/r/c/#"),
        ("system/d/#", "system/d/x/y", Some("system/d"), "system/d/#"),
        ("a/b", "a/b", Some("a/b"), "a/b"),
        ("robots/{device}/x", "robots//x", None, "robots//x"),
        ("robots/+/x", "robots//x", None, "robots//x"),
        ("+/#", "a/b", Some("a"), "a/#"),
        ("#", "a/b", None, "#"),
        ("/#", "/a", None, "/#"),
    ] {
        let pattern = pattern(text);
        assert_eq!(
            pattern.device_name(topic).as_deref(),
            name,
            "{text} {topic}"
        );
        assert_eq!(
            pattern.narrow(topic).unwrap().as_str(),
            narrowed,
            "{text} {topic}"
        );
        if let Some(name) = name {
            assert_eq!(
                pattern.for_device(name).unwrap().as_str(),
                narrowed,
                "{text} {name}"
            );
        }
    }
    assert_eq!(pattern("a/{b}").narrow("b/c"), None);
    assert_eq!(pattern("a/{b}/{c}").captures("a/x/y"), Some(vec!["x", "y"]));
    assert_eq!(pattern("a/{b}").captures("a/x/y"), None);
}

#[test]
fn names_that_no_topic_gives_have_no_filter() {
    for (text, name) in [
        ("a/{b}", "x/y"),
        ("a/{b}", ""),
        ("a/{b}", "+"),
        ("a/{b}/#", "#"),
        ("{b}/c", "$SYS"),
        ("a/+/c", "b/x"),
        ("a/+/c", "a/"),
        ("a/+/c", "x"),
        ("a/#", "b"),
        ("a/b", "a"),
    ] {
        assert_eq!(pattern(text).for_device(name), None, "{text} {name}");
    }
}

#[test]
fn a_pattern_can_name_whole_topics() {
    let pattern = pattern("robots/#").naming_whole_topics();
    assert_eq!(
        pattern.device_name("robots/r1/x").as_deref(),
        Some("robots/r1/x")
    );
    assert_eq!(
        pattern.for_device("robots/r1/x").unwrap().as_str(),
        "robots/r1/x"
    );
    assert_eq!(pattern.for_device("other"), None);
}

#[test]
fn a_filter_as_a_pattern_keeps_its_braces() {
    let pattern = TopicPattern::from(TopicFilter::parse("a/{b}/+").unwrap());
    assert_eq!(pattern.filter().as_str(), "a/{b}/+");
    assert_eq!(pattern.naming(), Naming::UpToPlus(3));
}

prop_compose! {
    /// Patterns of up to three levels.
    pub(crate) fn any_pattern()(levels in prop::collection::vec(
        prop::sample::select(vec!["a", "b", "", "$s", "+", "{x}", "{y}", "#"]), 1..=3,
    )) -> Option<TopicPattern> {
        TopicPattern::parse(&levels.join("/")).ok()
    }
}

proptest! {
    #[test]
    fn the_filter_of_a_device_takes_its_topics_and_no_other(pattern in any_pattern()) {
        let Some(pattern) = pattern else { return Ok(()) };
        let topics: Vec<String> = topics().into_iter().filter(|t| pattern.filter().matches(t)).collect();
        for topic in &topics {
            let Some(name) = pattern.device_name(topic) else { continue };
            let filter = pattern.for_device(&name);
            prop_assert_eq!(&filter, &pattern.narrow(topic), "{} {}", pattern, topic);
            let filter = filter.unwrap();
            prop_assert!(pattern.filter().covers(&filter));
            for other in &topics {
                let same = pattern.device_name(other).as_deref() == Some(&name);
                prop_assert_eq!(filter.matches(other), same, "{} {} {}", pattern, topic, other);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), topic in any::<String>()) {
        if let Ok(pattern) = TopicPattern::parse(&text) {
            let _ = pattern.device_name(&topic);
            let _ = pattern.captures(&topic);
            let _ = pattern.narrow(&topic);
            let _ = pattern.for_device(&topic);
        }
    }
}
