//! What a Configuration may say, and the fault of everything else at its line and column.

#[path = "parse_fault_tests.rs"]
mod faults;

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::KEYS;

const LEAST: &str = include_str!("../../tests/data/least.yaml");
const EVERYTHING: &str = include_str!("../../tests/data/everything.yaml");

fn details(yaml: &str) -> Details {
    Details::parse(yaml).unwrap_or_else(|faults| panic!("{yaml}\n{faults}"))
}

/// The faults of a text, one a line.
fn faults(yaml: &str) -> String {
    Details::parse(yaml)
        .map(|d| format!("{d:?}"))
        .unwrap_err()
        .to_string()
}

/// Every fault of `yaml` is where it should be and says what it should.
#[track_caller]
fn check(yaml: &str, expected: &[&str]) {
    let found = faults(yaml);
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, expected, "{yaml}");
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_form_of_the_akri_proposal_is_enough() {
    let details = details(LEAST);
    let names: Vec<&str> = details.servers.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["10-0-0-5-1883", "mqtt-example-com-8883"]);
    let topics: Vec<&str> = details.topics.iter().map(TopicPattern::as_str).collect();
    assert_eq!(
        topics,
        [
            "akri-devices/Device23920/temp",
            "robots/+/joints",
            "system/subsystem1/device2032/#"
        ]
    );
    assert_eq!(details.presence, PresenceRules::default());
    assert_eq!(details.mqtt, MqttRules::default());
    assert_eq!(details.limits, Limits::default());
    assert!(!details.legacy);
    for (topic, name) in [
        (
            "akri-devices/Device23920/temp",
            Some("akri-devices/Device23920/temp"),
        ),
        ("robots/r1/joints", Some("robots/r1")),
        (
            "system/subsystem1/device2032/a/b",
            Some("system/subsystem1/device2032"),
        ),
        (
            "system/subsystem1/device2032",
            Some("system/subsystem1/device2032"),
        ),
        ("robots/r1/other", None),
    ] {
        assert_eq!(
            details
                .identify(topic)
                .map(|i| i.name().to_owned())
                .as_deref(),
            name,
            "{topic}"
        );
    }
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let details = details(EVERYTHING);
    assert_eq!(details.servers.len(), 1);
    assert_eq!(details.servers[0].name.as_str(), "plant-a");
    assert_eq!(details.servers[0].urls.len(), 2);
    let names: Vec<&str> = details.conventions.iter().map(Convention::name).collect();
    assert_eq!(
        names,
        [
            "tasmota",
            "homeAssistant",
            "zigbee2mqtt",
            "homie",
            "esphome",
            "sparkplugB",
            "emqxEvents"
        ]
    );
    let Some(Convention::SparkplugB {
        host_id, rebirth, ..
    }) = details.conventions.get(5)
    else {
        panic!()
    };
    assert_eq!((host_id.as_deref(), *rebirth), (Some("plant-host"), true));
    let Some(Convention::EmqxEvents { clients }) = details.conventions.last() else {
        panic!()
    };
    assert!(clients[0].matches("robot-7") && !clients[0].matches("pump"));
    let rule = &details.presence.availability[0];
    assert_eq!(
        (rule.online.as_slice(), rule.json_pointer.as_deref()),
        (["online".into(), "1".into()].as_slice(), Some("/state"))
    );
    assert_eq!(details.presence.offline_after, Some(seconds(300)));
    // All values of the example that are no choice are the defaults.
    assert_eq!(
        (details.mqtt, details.limits),
        (MqttRules::default(), Limits::default())
    );
    let defaults = PresenceRules::default();
    assert_eq!(details.presence.offline_delay, defaults.offline_delay);
    assert_eq!(details.presence.reconnect_grace, defaults.reconnect_grace);
    let (retained, lost) = (details.presence.retained, details.presence.server_lost);
    assert_eq!((retained, lost), (defaults.retained, defaults.server_lost));
}

#[test]
fn silence_counts_unless_something_announces_presence() {
    let after = |yaml: &str| {
        details(&format!(
            "serverUrls: [tcp://a]\ntopics: ['r/{{d}}/x']\n{yaml}"
        ))
        .presence
        .offline_after
    };
    assert_eq!(after(""), Some(seconds(300)));
    assert_eq!(after("presence:"), Some(seconds(300)));
    assert_eq!(
        after("presence: {availability: [{topic: 'r/{d}/s'}]}"),
        None
    );
    assert_eq!(after("conventions: [tasmota]"), None);
    assert_eq!(
        after("presence: {availability: [{topic: 'r/{d}/s'}], offlineAfter: 1h}"),
        Some(seconds(3600))
    );
    assert_eq!(after("presence: {offlineAfter: never}"), None);
}

#[test]
fn announcing_rules_give_the_ids_that_topics_give() {
    let yaml = |topics: &str, status: &str, more: &str| {
        format!(
            "serverUrls: [tcp://a]\ntopics:\n  - '{topics}'\npresence:\n  availability:\n    - topic: '{status}'\n{more}"
        )
    };
    for (topic, status) in [
        ("robots/{device}/joints", "robots/{robot}/status"),
        ("robots/{site}/{device}/joints", "status/{site}/{device}"),
        ("robots/+/joints", "robots/+/status"),
        ("robots/r1/#", "robots/+/status"),
        ("system/d/#", "system/d/#"),
        ("+/joints", "{device}/status"),
    ] {
        details(&yaml(topic, status, ""));
    }
    check(
        &yaml("robots/{device}/joints", "robots/+/status", ""),
        &[
            "line 6, column 14: presence.availability[0].topic: `robots/+/status` names devices `robots/+`, but topics[0] \
          `robots/{device}/joints` in line 3 names them `{device}`; allowed is a pattern with the same captures, or an `identity` pattern that \
          takes both",
        ],
    );
    check(
        &yaml("robots/+/joints", "robots/r1/status", ""),
        &[
            "line 6, column 14: presence.availability[0].topic: `robots/r1/status` names devices `robots/r1/status`, but topics[0] \
          `robots/+/joints` in line 3 names them `robots/+`; allowed is a pattern with the same captures, or an `identity` pattern that takes \
          both",
        ],
    );
    details(&yaml(
        "robots/+/joints",
        "robots/+/x/status",
        "identity: ['robots/{device}/#']\n",
    ));
    let swapped = faults(&yaml(
        "{site}/{device}/joints",
        "{device}/{site}/status",
        "",
    ));
    assert!(
        swapped.contains("names devices `{device}/{site}`, but topics[0]"),
        "{swapped}"
    );
}

#[test]
fn a_configuration_of_the_earlier_handler_works_as_it_is() {
    let details = details(
        "mqttBrokerUri: \"tcp://192.168.1.14:1883?client_id=akri\"\ntopics: [\"hello\", \"wow/#\"]\ntimeoutSeconds: 60\n",
    );
    assert!(details.legacy);
    assert_eq!(
        details.servers[0].urls[0].to_string(),
        "tcp://192.168.1.14:1883"
    );
    assert_eq!(details.presence.offline_after, Some(seconds(60)));
    let id = details
        .identify("wow/a/b")
        .unwrap()
        .device(&details.servers[0].name);
    assert_eq!(id.as_str(), "192-168-1-14-1883/wow/a/b");
    let properties = details.properties(&id);
    assert_eq!(properties["MQTT_TOPIC"], "wow/a/b");
    assert_eq!(properties["MQTT_BROKER_URI"], "tcp://192.168.1.14:1883");
    assert_eq!(properties["MQTT_TOPICS"], "[\"wow/a/b\"]");
    assert!(!properties.contains_key("MQTT_IDENTITY"));
}

#[test]
fn the_two_forms_do_not_mix() {
    check(
        "mqttBrokerUri: tcp://a\nserverUrls: [tcp://b]\ntopics: [a]\npresence: {}\n",
        &[
            "line 1, column 1: timeoutSeconds: found no `timeoutSeconds`; the form of the earlier MQTT handler needs a number of seconds",
            "line 2, column 1: serverUrls: found together with `mqttBrokerUri` in line 1, which is the form of the earlier MQTT handler; \
             allowed are keys of one form only (mqttBrokerUri becomes serverUrls, timeoutSeconds becomes presence.offlineAfter)",
            "line 4, column 1: presence: found together with `mqttBrokerUri` in line 1, which is the form of the earlier MQTT handler; \
             allowed are keys of one form only (mqttBrokerUri becomes serverUrls, timeoutSeconds becomes presence.offlineAfter)",
        ],
    );
    let found = faults("timeoutSeconds: 0\ntopics: []\npropertiesPrefix: 1a\n");
    assert_eq!(found.lines().count(), 4, "{found}");
}

/// Texts made of the words of a Configuration.
fn configurationish() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "tcp://a",
        "[tcp://a, 'ws://[::1]/x']",
        "['a/{b}/#']",
        "['#']",
        "[tasmota, {homie: {domain: x}}]",
        "{}",
        "[]",
        "~",
        "5",
        "5m",
        "1MiB",
        "never",
        "[{topic: 'a/{b}/c', online: [x]}]",
        "{availability: [{topic: '+/s'}]}",
        "{qos: 1}",
        "\"\\0\"",
        "[{urls: [tcp://b]}]",
    ]);
    let keys = [
        KEYS.as_slice(),
        &[
            "name",
            "mqttBrokerUri",
            "timeoutSeconds",
            "availability",
            "#",
            "? ",
        ],
    ]
    .concat();
    let line = (prop::sample::select(keys), value, 0_usize..3);
    prop::collection::vec(line, 0..8).prop_map(|lines| {
        lines
            .into_iter()
            .map(|(key, value, indent)| format!("{}{key}: {value}\n", " ".repeat(indent / 2)))
            .collect()
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![configurationish(), any::<String>()]) {
        match Details::parse(&text) {
            Ok(details) => {
                prop_assert!(!details.servers.is_empty());
                let _ = (details.request_id(), details.host_id());
                for topic in ["a/b/c", "$SYS/x", "", "a//c", "x/s"] {
                    if let Some(found) = details.identify(topic) {
                        let _ = details.properties(&found.device(&details.servers[0].name));
                    }
                }
            }
            Err(faults) => prop_assert!(faults.iter().all(|f| f.line >= 1 && f.column >= 1 && !f.message.is_empty())),
        }
    }
}
