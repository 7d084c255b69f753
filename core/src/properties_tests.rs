//! Properties of devices: exactly those of the table, and the same after a round trip through an
//! environment; each device gets all of its topics and only its own.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::details::{Details, PresenceRules};
use crate::topic::TopicName;

fn details(yaml: &str) -> Details {
    Details::parse(yaml).unwrap_or_else(|faults| panic!("{yaml}\n{faults}"))
}

fn properties(details: &Details, topic: &str) -> BTreeMap<String, String> {
    let device = details
        .identify(topic)
        .unwrap_or_else(|| panic!("{topic} names no device"));
    details.properties(&device.device(&details.servers[0].name))
}

fn pairs(properties: &BTreeMap<String, String>, suffix: &str) -> Vec<(String, String)> {
    properties
        .iter()
        .map(|(name, value)| (format!("{name}{suffix}"), value.clone()))
        .collect()
}

const YAML: &str = "servers: [{name: plant-a, urls: [tcp://a, 'tcp://[::1]:1884'], failover: roundRobin}]
topics: ['robots/{device}/joints', 'zigbee/{device}', 'robots/r1/#']
identity: ['robots/{device}/#']
presence:
  availability:
    - {topic: 'robots/{device}/status', online: [up, \"1\"], jsonPointer: /state, retainedWill: false}
    - {topic: 'lwt/{device}'}
  offlineAfter: 90s
  offlineDelay: 1500ms
mqtt: {version: 5, qos: 2, sessionExpiry: 0s, maxPacketSize: 1500, insecureSkipVerify: true, clientIdPrefix: p}
";

#[test]
fn properties_are_exactly_those_of_the_table() {
    let got = properties(&details(YAML), "robots/r1/joints");
    let expected = [
        ("MQTT_DEVICE_ID", "plant-a/r1"),
        ("MQTT_DEVICE_NAME", "r1"),
        (
            "MQTT_PRESENCE",
            "{\"offlineAfter\":\"90s\",\"offlineDelay\":\"1500ms\",\"reconnectGrace\":\"2m\",\"availability\":[{\"topic\":\
             \"robots/r1/status\",\"online\":[\"up\",\"1\"],\"jsonPointer\":\"/state\",\"retainedWill\":false},{\"topic\":\"lwt/r1\"}]}",
        ),
        ("MQTT_SERVER_FAILOVER", "roundRobin"),
        ("MQTT_SERVER_NAME", "plant-a"),
        ("MQTT_SERVER_URLS", "tcp://a:1883,tcp://[::1]:1884"),
        (
            "MQTT_SESSION",
            "{\"version\":\"5\",\"qos\":2,\"keepAlive\":\"1m\",\"sessionExpiry\":\"0s\",\"maxPacketSize\":\"1500B\",\
             \"insecureSkipVerify\":true,\"clientIdPrefix\":\"p\"}",
        ),
        ("MQTT_TOPICS", "[\"robots/r1/#\",\"zigbee/r1\"]"),
    ];
    let got: Vec<(&str, &str)> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(got, expected);
}

#[test]
fn filters_are_the_smallest_for_the_device() {
    let details = details(
        "serverUrls: [tcp://a]\ntopics: ['akri-devices/Device23920/temp', 'akri-devices/+/hum', 'x/#']\nidentity: \
         ['akri-devices/{device}/#', 'x/{device}']\n",
    );
    let topics = |topic| properties(&details, topic)["MQTT_TOPICS"].clone();
    let device =
        "[\"akri-devices/Device23920/hum\",\"akri-devices/Device23920/temp\",\"x/Device23920\"]";
    assert_eq!(topics("akri-devices/Device23920/temp"), device);
    assert_eq!(
        topics("akri-devices/d2/hum"),
        "[\"akri-devices/d2/hum\",\"x/d2\"]"
    );
    // What of x/# no identity pattern takes is the device `x`, by rule 4.
    assert_eq!(topics("x/y/z"), "[\"akri-devices/x/hum\",\"x/#\"]");
    let x = properties(&details, "x/y/z");
    assert_eq!(
        x["MQTT_IDENTITY"],
        "[\"akri-devices/{device}/#\",\"x/{device}\",\"x/#\"]"
    );
    let x = DeviceSpec::from_properties(&x).unwrap();
    assert!(x.owns("x/y/z") && x.owns("x") && !x.owns("x/y") && !x.owns("akri-mqtt/x"));
}

#[test]
fn one_device_may_have_plain_and_suffixed_variables() {
    let properties = properties(&details(YAML), "robots/r1/joints");
    let spec = DeviceSpec::from_properties(&properties).unwrap();
    assert_eq!(spec.presence.offline_after, Some(Duration::from_secs(90)));
    for environment in [
        pairs(&properties, ""),
        pairs(&properties, "_35CED2"),
        [pairs(&properties, ""), pairs(&properties, "_35ced2")].concat(),
        [pairs(&properties, ""), pairs(&properties, "_35CED2AABBCC")].concat(),
    ] {
        assert_eq!(DeviceSpec::from_env(environment), Ok(vec![spec.clone()]));
    }
}

#[test]
fn several_devices_have_suffixes_and_plain_ones_are_those_of_any() {
    let details = details("serverUrls: [tcp://a]\ntopics: ['r/{d}/x']\n");
    let (one, two) = (properties(&details, "r/1/x"), properties(&details, "r/2/x"));
    let environment = [
        pairs(&two, "_BBBBBB"),
        pairs(&one, "_AAAAAA"),
        pairs(&two, ""),
    ]
    .concat();
    let specs = DeviceSpec::from_env(environment).unwrap();
    let ids: Vec<&str> = specs.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["a-1883/1", "a-1883/2"]);
    let one_alone = [pairs(&one, ""), pairs(&two, "_BBBBBB")].concat();
    assert_eq!(
        DeviceSpec::from_env(one_alone).unwrap().len(),
        2,
        "a plain device beside a suffixed one"
    );
    assert_eq!(specs[0].session_key(), specs[1].session_key());
}

#[test]
fn broker_properties_may_override_those_of_a_single_device() {
    let mut environment = pairs(&properties(&details(YAML), "robots/r1/joints"), "_35CED2");
    environment.push(("MQTT_TOPICS".to_owned(), "[\"robots/r1/other\"]".to_owned()));
    environment.push((
        "MQTT_SESSION".to_owned(),
        "{\"keepAlive\":\"2m\"}".to_owned(),
    ));
    let spec = DeviceSpec::from_env(environment).unwrap().remove(0);
    assert_eq!(spec.topics[0].as_str(), "robots/r1/other");
    assert_eq!(spec.mqtt.keep_alive, Duration::from_secs(120));
    assert_eq!(spec.mqtt.client_id_prefix, "akri-mqtt");
}

#[test]
fn missing_and_wrong_variables_are_named() {
    let faults = |variables: &[(&str, &str)]| {
        let variables = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let faults = DeviceSpec::from_env(variables).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let missing = [
        "MQTT_DEVICE_ID: is not set; it holds the device's id, such as plant-a/r1",
        "MQTT_SERVER_URLS: is not set; it holds the server's URLs, such as tcp://10.0.0.5:1883",
        "MQTT_TOPICS: is not set; it holds the device's topics as a JSON array, such as [\"robots/r1/joints\"]",
    ];
    assert_eq!(faults(&[]), missing);
    assert_eq!(faults(&[("MQTT_DEVICE_ID", ""), ("PATH", "/bin")]), missing);
    assert_eq!(
        faults(&[
            ("MQTT_DEVICE_ID_AAAAAA", "a/b"),
            ("MQTT_TOPICS_AAAAAA", "[]")
        ]),
        [
            "MQTT_SERVER_URLS_AAAAAA: is not set; it holds the server's URLs, such as tcp://10.0.0.5:1883"
        ]
    );
    let one = faults(&[
        ("MQTT_DEVICE_ID", "a/b"),
        ("MQTT_SERVER_URLS", "tcp://h"),
        ("MQTT_TOPICS", "not json"),
    ]);
    assert_eq!(one.len(), 1, "{one:?}");
    assert!(one[0].starts_with("MQTT_TOPICS: "), "{one:?}");
    let wrong = faults(&[
        ("MQTT_DEVICE_ID", "nonsense"),
        ("MQTT_SERVER_URLS", "tcp://a,tcp://u:s3cret@b"),
        ("MQTT_SERVER_FAILOVER", "x"),
        ("MQTT_TOPICS", "[\"a/#/b\", 5]"),
        ("MQTT_PRESENCE", "{\"offlineAfter\": 5, \"x\": 1}"),
        ("MQTT_SESSION", "{"),
        ("MQTT_CONVENTION", "\"tasmoto\""),
        ("MQTT_IDENTITY", "[\"{a\"]"),
    ]);
    let beginnings = [
        "MQTT_CONVENTION: found the unknown convention `tasmoto`; did you mean `tasmota`?",
        "MQTT_DEVICE_ID: a device's id is `<server>/<device>`",
        "MQTT_IDENTITY[0]: found `{a`: a capture takes a whole level",
        "MQTT_PRESENCE.offlineAfter: found the number 5; allowed is never, or a duration",
        "MQTT_PRESENCE.x: found an unknown key",
        "MQTT_SERVER_FAILOVER: found something else; allowed is ordered or roundRobin",
        "MQTT_SERVER_URLS: a URL must not contain credentials",
        "MQTT_SESSION: this is not JSON: ",
        "MQTT_TOPICS[0]: found `a/#/b`: `#` takes a whole level",
        "MQTT_TOPICS[1]: found the number 5; allowed is a topic filter",
    ];
    assert_eq!(wrong.len(), beginnings.len(), "{wrong:#?}");
    for (wrong, beginning) in wrong.iter().zip(beginnings) {
        assert!(
            wrong.starts_with(beginning) && !wrong.contains("s3"),
            "{wrong}\n{beginning}"
        );
    }
}

#[test]
fn presence_alone_is_enough() {
    let yaml = "serverUrls: [tcp://a]\npresence: {availability: [{topic: 'lwt/{d}'}]}\n";
    let details = details(yaml);
    let properties = properties(&details, "lwt/1");
    assert_eq!(properties["MQTT_TOPICS"], "[]");
    let spec = DeviceSpec::from_properties(&properties).unwrap();
    assert_eq!(spec.presence.availability[0].topic.as_str(), "lwt/1");
    assert_eq!(spec.presence.offline_after, None);
}

#[test]
fn a_convention_travels_with_its_options() {
    let details = details(include_str!("../tests/data/everything.yaml"));
    let id = DeviceId::parse("plant-a/r1").unwrap();
    for convention in &details.conventions {
        let properties = details.properties_with(&id, Some(convention));
        let spec = DeviceSpec::from_properties(&properties).unwrap();
        assert_eq!(spec.convention.as_ref(), Some(convention));
    }
    let json = |n: usize| {
        details.properties_with(&id, details.conventions.get(n))["MQTT_CONVENTION"].clone()
    };
    assert_eq!(json(0), "{\"tasmota\":{}}");
    assert_eq!(
        json(5),
        "{\"sparkplugB\":{\"groups\":[\"+\"],\"hostId\":\"plant-host\",\"rebirth\":true}}"
    );
    assert_eq!(json(6), "{\"emqxEvents\":{\"clients\":[\"robot-#\"]}}");
}

#[test]
fn the_session_key_depends_on_name_urls_and_prefix_alone() {
    let base = details("servers: [{name: a, urls: [tcp://x, tcp://y]}]\ntopics: [a]\n");
    let key = |yaml: &str| {
        let details = details(yaml);
        details.session_key(&details.servers[0]).to_string()
    };
    let first = base.session_key(&base.servers[0]).to_string();
    assert_eq!(first.len(), 8);
    let same = "servers: [{name: a, urls: [tcp://x, tcp://y], failover: roundRobin}]\ntopics: [b, c]\nmqtt: {keepAlive: 5s}\n";
    assert_eq!(key(same), first);
    for other in [
        "servers: [{name: b, urls: [tcp://x, tcp://y]}]\ntopics: [a]\n",
        "servers: [{name: a, urls: [tcp://y, tcp://x]}]\ntopics: [a]\n",
        "servers: [{name: a, urls: [tcp://x]}]\ntopics: [a]\n",
        "servers: [{name: a, urls: [tcp://x, tcp://y]}]\ntopics: [a]\nmqtt: {clientIdPrefix: p}\n",
    ] {
        assert_ne!(key(other), first, "{other}");
    }
    let other = details("servers: [{name: a, urls: [tcp://x, tcp://y]}]\ntopics: [b]\n");
    assert_ne!(base.request_id(), other.request_id());
    assert_eq!(
        base.request_id(),
        details(
            "servers: [{name: a, urls: [tcp://x, tcp://y]}]\ntopics: [a]\nlimits: {maxDevices: 1}\n"
        )
        .request_id()
    );
}

/// Lists of patterns of up to three levels.
fn patterns(
    levels: &'static [&'static str],
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<String>> {
    let pattern = prop::collection::vec(prop::sample::select(levels), 1..=3)
        .prop_map(|levels| levels.join("/"));
    let good = pattern.prop_filter("no pattern", |text| TopicPattern::parse(text).is_ok());
    prop::collection::vec(good, count)
}

const LEVELS: &[&str] = &["a", "b", "c", "+", "{x}", "#"];

prop_compose! {
    fn any_details()(
        topics in patterns(LEVELS, 0..4),
        identity in patterns(LEVELS, 0..3),
        availability in patterns(LEVELS, 0..3),
        after in 1_u64..5000,
        qos in 0..3_u8,
    ) -> Option<Details> {
        let rules: Vec<_> = availability.iter().map(|topic| serde_json::json!({"topic": topic})).collect();
        let mut yaml = serde_json::json!({
            "serverUrls": ["tcp://h"],
            "topics": topics,
            "identity": identity,
            "presence": {"availability": rules, "offlineAfter": format!("{after}ms")},
            "mqtt": {"qos": qos},
        });
        if rules.is_empty() {
            yaml["presence"]["availability"].take();
            yaml["presence"].as_object_mut().unwrap().remove("availability");
        }
        Details::parse(&yaml.to_string()).ok()
    }
}

/// Every topic of up to four levels out of three.
fn topics() -> Vec<String> {
    let levels = ["a", "b", "c"];
    let mut topics: Vec<String> = levels.map(str::to_owned).to_vec();
    let mut last = topics.clone();
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|t| levels.map(|level| format!("{t}/{level}")))
            .collect();
        topics.extend(last.iter().cloned());
    }
    topics
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn a_device_gets_all_of_its_topics_and_only_its_own(details in any_details()) {
        let Some(details) = details else { return Ok(()) };
        let server = details.servers[0].name.clone();
        let topics = topics();
        let names: BTreeMap<&str, String> = topics
            .iter()
            .filter_map(|topic| Some((topic.as_str(), details.identify(topic)?.name().to_owned())))
            .collect();
        let devices: BTreeSet<&String> = names.values().collect();
        for name in devices {
            let id = details.device_id(&server, name).unwrap();
            let properties = details.properties(&id);
            let spec = DeviceSpec::from_properties(&properties).unwrap();
            prop_assert_eq!(&spec.id, &id);
            prop_assert_eq!(&spec.server, &details.servers[0]);
            prop_assert_eq!(&spec.mqtt, &details.mqtt);
            prop_assert_eq!(spec.presence.offline_after, details.presence.offline_after);
            prop_assert_eq!(&spec.topics, &details.device_filters(name));
            let mut other_topics = false;
            for topic in &topics {
                let own = names.get(topic.as_str()) == Some(name);
                let data = details.topics.iter().any(|p| p.filter().matches(topic));
                let taken = spec.topics.iter().any(|f| f.matches(topic));
                prop_assert!(!(own && data) || taken, "{} misses {}: {:?}", id, topic, properties);
                prop_assert!(!taken || data, "{} subscribes {} that no topic takes", id, topic);
                let announces = |rules: &PresenceRules| rules.availability.iter().any(|a| a.topic.filter().matches(topic));
                prop_assert!(!(own && announces(&details.presence)) || announces(&spec.presence), "{} misses {}", id, topic);
                if taken || announces(&spec.presence) {
                    prop_assert_eq!(spec.owns(topic), own, "{} {} {:?}", id, topic, properties);
                    other_topics |= !own;
                }
            }
            prop_assert_eq!(properties.contains_key("MQTT_IDENTITY"), other_topics, "{} {:?}", id, properties);
        }
    }

    #[test]
    fn no_environment_makes_it_panic(values in prop::collection::vec(any::<String>(), 8), suffix in any::<bool>()) {
        let names = ["DEVICE_ID", "SERVER_URLS", "SERVER_FAILOVER", "TOPICS", "PRESENCE", "SESSION", "CONVENTION", "IDENTITY"];
        let end = if suffix { "_0123AB" } else { "" };
        let variables = names.iter().zip(values).map(|(name, value)| (format!("MQTT_{name}{end}"), value));
        let _ = DeviceSpec::from_env(variables);
    }

    #[test]
    fn any_device_name_comes_back(name in "[^/\0+#]{1,12}") {
        let details = details("serverUrls: [tcp://a]\ntopics: ['r/{d}/x']\npresence: {availability: [{topic: 'r/{d}/s'}]}\n");
        let topic = format!("r/{name}/x");
        prop_assume!(TopicName::parse(&topic).is_ok());
        let spec = DeviceSpec::from_properties(&properties(&details, &topic)).unwrap();
        prop_assert_eq!(spec.id.plain_name(), &name);
        prop_assert!(spec.topics[0].matches(&topic) && spec.topics.len() == 1);
        prop_assert_eq!(spec.presence.availability[0].topic.as_str(), format!("r/{name}/s"));
    }
}

#[test]
fn a_group_shares_data_by_its_name_and_a_wrong_name_is_refused() {
    let read = |group: &str| {
        DeviceSpec::from_env([
            ("MQTT_DEVICE_ID".to_owned(), "plant/r1".to_owned()),
            ("MQTT_SERVER_URLS".to_owned(), "tcp://a".to_owned()),
            ("MQTT_TOPICS".to_owned(), r#"["robots/r1/#"]"#.to_owned()),
            ("MQTT_SHARED_GROUP".to_owned(), group.to_owned()),
        ])
    };
    let device = read("sinks").unwrap().remove(0);
    let shared = device.shared_group.as_ref().unwrap();
    assert_eq!(shared.share(&device.topics[0]), "$share/sinks/robots/r1/#");
    assert_eq!(read("").unwrap()[0].shared_group, None);
    for wrong in ["a/b", "a+", "#", "a\u{0}", &"x".repeat(129)] {
        let faults = read(wrong).unwrap_err().to_string();
        assert!(faults.contains("MQTT_SHARED_GROUP: found"), "{faults}");
        assert!(faults.contains("allowed are 1 to 128 bytes without /, + and #"));
    }
}
