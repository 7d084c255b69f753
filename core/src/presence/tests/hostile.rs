//! What a hostile publisher sends. It makes nobody a device, it is counted, and others are seen meanwhile.

use super::*;

fn world(rest: &str) -> World {
    let yaml = format!("servers: [{{name: plant-a, urls: ['tcp://a:1883']}}]\n{rest}");
    let mut world = World::of(Arc::new(Details::parse(&yaml).unwrap()), noon());
    world.connect(A);
    world.subscribe(A);
    world.pass(secs(6));
    world
}

#[test]
fn topics_at_their_limits_make_nobody_a_device_and_are_counted() {
    let mut world = world("topics: ['robots/{device}/joints/#', '{site}/{device}/state']");
    let longest = "x".repeat(65_535 - "robots//joints".len());
    let cases = [
        ("robots//joints/1", Ignored::EmptyName),
        ("//state", Ignored::EmptyName),
        ("/a/state", Ignored::EmptyName),
        (&format!("robots/{longest}/joints"), Ignored::LongName),
        ("$SYS/broker/state", Ignored::NoRule),
        ("$share/broker/state", Ignored::NoRule),
        ("akri-mqtt/r1/state", Ignored::Own),
        ("/", Ignored::NoRule),
        ("\u{10FFFF}", Ignored::NoRule),
    ];
    for (n, (topic, reason)) in cases.into_iter().enumerate() {
        let before = world.ignored(reason);
        world.live(topic, "1");
        assert_eq!(world.ignored(reason), before + 1, "{reason:?}");
        world.live(&format!("robots/r{n}/joints/1"), "1");
        assert_eq!(
            world.published().len(),
            n + 1,
            "{topic:.20} or another device"
        );
    }
}

#[test]
fn a_configuration_of_a_mebibyte_holds_nobody_up() {
    let mut world = world("conventions: [homeAssistant, homie, zigbee2mqtt]");
    let padding = "x".repeat(1 << 20);
    let device =
        format!("{{\"dev\":{{\"ids\":\"big\",\"name\":\"{padding}\"}},\"stat_t\":\"big/state\"}}");
    world.live("homeassistant/sensor/big/config", &device);
    let name = format!("{{\"dev\":{{\"ids\":\"{padding}\"}},\"stat_t\":\"named/state\"}}");
    world.live("homeassistant/sensor/named/config", &name);
    world.live("homeassistant/sensor/junk/config", &padding);
    world.live("zigbee2mqtt/bridge/devices", &padding);
    world.live("homie/5/a/$description", &padding);
    assert_eq!(world.published(), ["plant-a/big"]);
    assert_eq!(world.ignored(Ignored::UnknownPayload), 3);
    world.live("homie/5/a/$state", "ready");
    assert_eq!(world.published(), ["plant-a/a", "plant-a/big"]);
}
