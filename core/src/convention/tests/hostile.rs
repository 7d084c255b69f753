//! Whatever is published, nothing panics and nobody without a name is found.

use proptest::prelude::*;

use super::*;

fn conventions() -> Vec<Convention> {
    vec![
        Convention::Tasmota {},
        shelly(),
        esphome(),
        emqx(),
        homie(),
        home_assistant(),
        zigbee2mqtt(),
        sparkplug_b(),
    ]
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
        "homeassistant",
        "config",
        "device",
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
        "spBv1.0",
        "NBIRTH",
        "DDEATH",
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
        "{\"dev\":{\"ids\":\"a\"},\"avty_t\":\"tele/a\",\"stat_t\":\"~stat\",\"cmps\":{\"b\":{\"p\":\"x\",\"~\":\"b\"}}}",
        "{\"dev\":{\"cns\":[[1]]},\"avty\":{\"t\":1}}",
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
fn children_that_are_taken_back_in_any_order_leave_nothing_behind() {
    let mut world = World::of(&homie());
    for n in 0..100_010 {
        let (state, description) = (
            format!("homie/5/c{n}/$state"),
            format!("homie/5/c{n}/$description"),
        );
        match n % 3 {
            0 => world.said(&state, "ready"),
            1 => world.said(&description, "{\"root\":\"r\"}"),
            _ => Vec::new(),
        };
        world.said(&state, "");
        assert!(world.said(&description, "").is_empty());
        world.said(&description, "{}");
        assert!(world.said(&description, "").is_empty());
    }
    assert_eq!(world.said("homie/5/last/$state", "ready"), ["last online"]);
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
fn entities_of_a_device_are_kept_up_to_a_limit_and_given_back() {
    let mut world = World::of(&home_assistant());
    let topic = |n| format!("homeassistant/sensor/s{n}/config");
    let mut excess = 0;
    for n in 0..10_000 {
        let config =
            format!("{{\"stat_t\":\"x/{n}\",\"avty_t\":\"x/lwt\",\"dev\":{{\"ids\":\"d\"}}}}");
        excess += usize::from(world.said(&topic(n), &config) == ["d excess"]);
    }
    assert_eq!(excess, 9_000);
    assert_eq!(world.module.named().data.len(), 1_000);
    assert_eq!(world.said("x/lwt", "online"), ["d online"]);
    for n in 0..10_000 {
        world.said(&topic(n), "");
    }
    assert_eq!(world.module.named(), Filters::default());
    let components: Vec<String> = (0..10_000)
        .map(|n| format!("\"c{n}\":{{\"p\":\"sensor\",\"stat_t\":\"x/{n}\"}}"))
        .collect();
    let device = format!(
        "{{\"dev\":{{\"ids\":\"d\"}},\"cmps\":{{{}}}}}",
        components.join(",")
    );
    let said = world.said("homeassistant/device/d/config", &device);
    assert_eq!(said, ["d unknown", "d listed"]);
    assert_eq!(world.module.named().data.len(), 1_000);
    let deep = format!(
        "{{\"dev\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let said = world.said("homeassistant/device/e/config", &deep);
    assert_eq!(said, ["unknown_payload"]);
}

#[test]
fn what_discovery_messages_name_is_kept_up_to_a_limit_in_bytes() {
    let mut world = World::of(&home_assistant());
    let components: Vec<String> = (0..1_000)
        .map(|n| format!("\"c{n}\":{{\"p\":\"x\",\"a\":1}}"))
        .collect();
    let list: Vec<String> = (0..16).map(|n| format!("{{\"t\":\"~{n}\"}}")).collect();
    let base = "x".repeat(500);
    let mut excess = 0;
    for n in 0..10 {
        let config = format!(
            "{{\"~\":\"{base}\",\"dev\":{{\"ids\":\"d{n}\"}},\"avty\":[{}],\"cmps\":{{{}}}}}",
            list.join(","),
            components.join(",")
        );
        let said = world.said(&format!("homeassistant/device/d{n}/config"), &config);
        excess += usize::from(said.iter().any(|said| said.ends_with("excess")));
    }
    assert!(excess >= 7, "{excess}");
    assert_eq!(world.module.named().announcing.len(), 16);
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
