//! Topic names, filters, captures and trees of filters. In: two filters or patterns and a topic, a line each.

use akri_mqtt_core::topic::{FilterTree, TopicFilter, TopicName, TopicPattern};

/// Reads all three, and compares what must agree about them.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (one, other, topic) = (line(), line(), line());
    let name = TopicName::parse(topic).ok();
    let topic = name.as_ref().map(TopicName::as_str);
    for text in [one, other] {
        if let Ok(pattern) = TopicPattern::parse(text) {
            check_pattern(&pattern, topic);
            check_pattern(&pattern.naming_whole_topics(), topic);
        }
    }
    if let (Ok(one), Ok(other)) = (TopicFilter::parse(one), TopicFilter::parse(other)) {
        check_pair(&one, &other, topic);
        check_tree(&one, &other, topic);
    }
}

fn check_filter(filter: &TopicFilter) {
    assert_eq!(TopicFilter::parse(filter.as_str()).as_ref(), Ok(filter));
}

fn check_pattern(pattern: &TopicPattern, topic: Option<&str>) {
    check_filter(pattern.filter());
    let Some(topic) = topic else {
        return;
    };
    let captures = pattern.captures(topic);
    assert_eq!(captures.is_some(), pattern.filter().matches(topic));
    let Some(captures) = captures else {
        return;
    };
    assert_eq!(captures.len(), pattern.capture_names().count());
    let narrow = pattern.narrow(topic).expect("it matches");
    check_filter(&narrow);
    assert!(pattern.filter().covers(&narrow), "{pattern:?} {narrow:?}");
    assert!(narrow.matches(topic));
    if let Some(device) = pattern.device_name(topic) {
        assert!(!device.is_empty());
        let own = pattern.for_device(&device).expect("it was named by it");
        check_filter(&own);
        assert!(own.matches(topic), "{own:?} of {device:?}");
        assert!(pattern.filter().covers(&own));
    }
}

fn check_pair(one: &TopicFilter, other: &TopicFilter, topic: Option<&str>) {
    assert!(one.covers(one));
    let common = one.intersection(other);
    assert_eq!(common, other.intersection(one));
    if let Some(common) = &common {
        check_filter(common);
        assert!(one.intersects(other));
        assert!(one.covers(common) && other.covers(common), "{common:?}");
    }
    if let Some(topic) = topic {
        let (by_one, by_other) = (one.matches(topic), other.matches(topic));
        assert!(by_one || !by_other || !one.covers(other));
        let by_both = common.is_some_and(|common| common.matches(topic));
        assert_eq!(by_both, by_one && by_other);
    }
}

fn check_tree(one: &TopicFilter, other: &TopicFilter, topic: Option<&str>) {
    let mut tree = FilterTree::new();
    tree.insert(one, 1);
    tree.insert(other, 2);
    assert_eq!(tree.len(), 2);
    if let Some(topic) = topic {
        let mut found: Vec<i32> = tree.matching(topic).copied().collect();
        found.sort_unstable();
        let wanted = [(one, 1), (other, 2)];
        let wanted = wanted
            .into_iter()
            .filter(|(filter, _)| filter.matches(topic));
        assert_eq!(found, wanted.map(|(_, value)| value).collect::<Vec<_>>());
    }
    assert_eq!(tree.remove(one, |value| *value == 1), 1);
    assert_eq!(tree.remove(other, |value| *value == 2), 1);
    assert!(tree.is_empty());
}
