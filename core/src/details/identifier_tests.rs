//! Which entry decides, and which device a topic names by it.

use super::super::Details;
use super::*;
use crate::identity::ServerName;

fn details(yaml: &str) -> Details {
    Details::parse(&format!("serverUrls: [tcp://a]\n{yaml}"))
        .unwrap_or_else(|faults| panic!("{yaml}\n{faults}"))
}

fn name(details: &Details, topic: &str) -> Result<(String, Rule), Unidentified> {
    details
        .identifier()
        .identify(topic)
        .map(|found| (found.name().to_owned(), found.rule))
}

#[test]
fn the_first_entry_that_takes_a_topic_decides() {
    let details = details(
        "topics: ['a/+/x', 'a/{d}/#', 'b/#', 'b/c', 'c/d', '$SYS/{n}/x']\nidentity: ['+/i/{d}', 'nowhere/{d}']\n",
    );
    for (topic, expected) in [
        ("a/i/z", Ok(("z", Rule::Identity(0)))),
        ("a/r/x", Ok(("a/r", Rule::Topic(0)))),
        ("a/r/y", Ok(("r", Rule::Topic(1)))),
        ("a/r", Ok(("r", Rule::Topic(1)))),
        ("b/c", Ok(("b", Rule::Topic(2)))),
        ("c/d", Ok(("c/d", Rule::Topic(4)))),
        ("$SYS/n1/x", Ok(("n1", Rule::Topic(5)))),
        ("a//x", Err(Unidentified::EmptyName)),
        ("a/i/", Err(Unidentified::EmptyName)),
        ("nowhere/x", Err(Unidentified::NoRule)),
        ("c/i/z", Err(Unidentified::NoRule)),
        ("c/e", Err(Unidentified::NoRule)),
        ("$SYS/i/z", Err(Unidentified::NoRule)),
    ] {
        let expected = expected.map(|(name, rule)| (name.to_owned(), rule));
        assert_eq!(name(&details, topic), expected, "{topic}");
    }
}

#[test]
fn a_name_that_is_too_long_is_none() {
    let details = details("topics: ['a/{d}/x']\n");
    let of = |length: usize| name(&details, &format!("a/{}/x", "d".repeat(length)));
    assert!(of(1_024).is_ok());
    assert_eq!(of(1_025), Err(Unidentified::LongName));
}

#[test]
fn availability_topics_name_devices_like_topics() {
    let details = details("topics: ['r/+/x']\npresence: {availability: [{topic: 'r/+/s'}]}\n");
    assert_eq!(
        name(&details, "r/1/s"),
        Ok(("r/1".to_owned(), Rule::Availability(0)))
    );
    assert_eq!(
        name(&details, "r/1/x"),
        Ok(("r/1".to_owned(), Rule::Topic(0)))
    );
}

#[test]
fn nothing_of_ours_is_a_device() {
    let details = details("topics: ['+/{d}']\n");
    assert_eq!(name(&details, "akri-mqtt/x"), Err(Unidentified::Own));
    assert!(name(&details, "akri-mqttx/x").is_ok());
}

#[test]
fn the_salt_changes_every_id_and_no_topic() {
    let details = details("topics: ['r/{d}/x']\nlimits: {idSalt: s1}\n");
    let server = ServerName::parse("a-1883").unwrap();
    let id = details.identify("r/1/x").unwrap().device(&server);
    assert_eq!((id.as_str(), id.plain_name()), ("a-1883/1#s1", "1"));
    assert_eq!(details.device_id(&server, "1"), Ok(id.clone()));
    let properties = details.properties(&id);
    assert_eq!(properties["MQTT_DEVICE_ID"], "a-1883/1#s1");
    assert_eq!(properties["MQTT_DEVICE_NAME"], "1");
    assert_eq!(properties["MQTT_TOPICS"], "[\"r/1/x\"]");
}
