//! Which topics commands may be published on. In: `--allow-publish`. Out: yes or no for a device and a topic.

use std::fmt;
use std::str::FromStr;

use akri_mqtt_core::topic::{TopicFilter, TopicPattern};

/// The level that stands for the device's own name.
const DEVICE: &str = "{device}";

/// A topic filter; in one with `{device}` that level is the name of the device that the command is for.
#[derive(Clone, Debug)]
pub struct AllowedTopic {
    pattern: TopicPattern,
    is_of_device: bool,
}

impl FromStr for AllowedTopic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pattern = TopicPattern::parse(text).map_err(|error| error.to_string())?;
        if let Some(other) = pattern.capture_names().find(|name| *name != "device") {
            return Err(format!("found {{{other}}}, allowed: {DEVICE}"));
        }
        let is_of_device = pattern.capture_names().next().is_some();
        Ok(Self {
            pattern,
            is_of_device,
        })
    }
}

impl fmt::Display for AllowedTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pattern.as_str())
    }
}

impl AllowedTopic {
    /// Whether a command for the device of this name (without its server's) may go to this topic.
    #[must_use]
    pub fn allows(&self, device: &str, topic: &str) -> bool {
        if !self.is_of_device {
            return self.pattern.filter().matches(topic);
        }
        // A name may have several levels, but never one that would take other topics.
        if device.is_empty() || device.contains(['+', '#']) {
            return false;
        }
        let levels = self.pattern.as_str().split('/');
        let levels: Vec<&str> = levels
            .map(|level| if level == DEVICE { device } else { level })
            .collect();
        TopicFilter::parse(&levels.join("/")).is_ok_and(|filter| filter.matches(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(filter: &str, device: &str, topic: &str) -> bool {
        let filter: AllowedTopic = filter.parse().unwrap();
        filter.allows(device, topic)
    }

    #[test]
    fn filter_without_the_device_allows_any_topic_that_it_matches() {
        assert!(allows("cmnd/#", "r1", "cmnd/r2/POWER"));
        assert!(allows("robots/+/cmd", "r1", "robots/r2/cmd"));
        assert!(!allows("robots/+/cmd", "r1", "robots/r1/state"));
    }

    #[test]
    fn filter_with_the_device_allows_only_its_own_topics() {
        assert!(allows("robots/{device}/cmd/#", "r1", "robots/r1/cmd/stop"));
        assert!(!allows("robots/{device}/cmd/#", "r1", "robots/r2/cmd/stop"));
        assert!(allows("{device}/set", "hall/lamp", "hall/lamp/set"));
        for name in ["", "+", "#", "a/+", "x#"] {
            assert!(!allows("robots/{device}/cmd", name, "robots/r2/cmd"));
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_rule_that_it_breaks() {
        for (text, word) in [
            ("robots/{name}/cmd", "{device}"),
            ("robots/r{device}/cmd", "whole level"),
            ("a/#/b", "last one"),
            ("", "empty"),
        ] {
            let error = text.parse::<AllowedTopic>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
