//! Whatever is published, nothing panics and nobody without a name is found.

use proptest::prelude::*;

use super::*;

fn conventions() -> Vec<Convention> {
    vec![Convention::Tasmota {}, shelly(), esphome(), emqx()]
}

fn level() -> impl Strategy<Value = String> {
    let words = [
        "tele",
        "stat",
        "cmnd",
        "LWT",
        "shellies",
        "online",
        "status",
        "state",
        "rpc",
        "events",
        "command",
        "$SYS",
        "brokers",
        "clients",
        "homie",
        "zigbee2mqtt",
        "bridge",
        "devices",
        "availability",
        "5",
        "$state",
        "$description",
        "connected",
        "disconnected",
        "robot-1",
        "",
    ];
    prop_oneof![
        4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => "[a-z$é ]{0,3}",
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "Online",
        "lost",
        "ready",
        "[{\"friendly_name\":\"a\"}]",
        "{\"state\":\"online\"}",
        "{\"root\":\"a\"}",
        "offline",
        "true",
        "false",
        "",
        "{\"clientid\":\"robot-1\"}",
    ];
    prop_oneof![
        2 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

#[test]
fn children_of_one_root_are_bounded() {
    let mut world = World::of(&homie());
    let mut excess = 0;
    for n in 0..1_010 {
        world.said(&format!("homie/5/c{n}/$state"), "ready");
        let said = world.said(&format!("homie/5/c{n}/$description"), "{\"root\":\"r\"}");
        excess += usize::from(said == [format!("c{n} excess")]);
    }
    assert_eq!(excess, 10);
    assert_eq!(world.said("homie/5/r/$state", "lost").len(), 1 + 1_000);
}

#[test]
fn a_list_of_devices_is_looked_at_up_to_a_limit() {
    let mut world = World::of(&zigbee2mqtt());
    let devices: Vec<String> = (0..10_500)
        .map(|n| format!("{{\"friendly_name\":\"device {n}\"}}"))
        .collect();
    let list = format!("[{}]", devices.join(","));
    let said = world.said("zigbee2mqtt/bridge/devices", &list);
    assert_eq!(said.len(), 10_001);
    assert!(said[0].ends_with(" excess"), "{}", said[0]);
    let deep = format!("[{}]", "[".repeat(100_000));
    let said = world.said("zigbee2mqtt/bridge/devices", &deep);
    assert_eq!(said, ["unknown_payload"]);
    let names = (0..30_000).map(|n| format!("zigbee2mqtt/early {n}/availability"));
    let full = names.filter(|topic| world.said(topic, "online") == ["excess"]);
    assert_eq!(full.count(), 10_000);
}

#[test]
fn a_large_or_deep_description_is_refused_or_read_without_harm() {
    let mut world = World::of(&homie());
    let deep = format!(
        "{{\"root\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let topic = "homie/5/a/$description";
    assert_eq!(world.said(topic, &deep), ["unknown_payload"]);
    let large = format!("{{\"root\":\"r\",\"name\":\"{}\"}}", "x".repeat(1 << 20));
    assert!(world.said(topic, &large).is_empty());
}

proptest! {
    #[test]
    fn any_message_is_read_or_counted(
        messages in prop::collection::vec((prop::collection::vec(level(), 1..7), payload()), 1..20)
    ) {
        for convention in conventions() {
            let mut world = World::of(&convention);
            for (levels, payload) in &messages {
                let (verdict, said) = world.read(&levels.join("/"), payload);
                prop_assert!(said.iter().all(|said| !said.device.is_empty()));
                prop_assert!(verdict == Verdict::Taken || said.is_empty());
            }
        }
    }
}
