//! Devices that announce themselves by a convention, in the machine.

use super::*;
use crate::properties::DeviceSpec;

/// A machine with these conventions, connected and settled.
fn world(conventions: &str) -> World {
    let mut world = World::of(of(conventions), noon());
    world.connect(A);
    world.subscribe(A);
    world.pass(secs(6));
    world
}

fn of(conventions: &str) -> Arc<Details> {
    let yaml = format!(
        "servers:\n- {{name: plant-a, urls: ['tcp://a:1883']}}\n- {{name: plant-b, urls: ['tcp://b:1883']}}\n\
         conventions: {conventions}\n"
    );
    Arc::new(Details::parse(&yaml).unwrap())
}

/// The machine of a monitoring broker, from the properties of a published device.
fn monitor(world: &World, details: &Details, device: &str) -> World {
    let id = DeviceId::new(server(A), device).unwrap();
    let found_by = world.presence.found_by(&id).unwrap();
    let properties = details.properties_with(&id, details.convention(found_by));
    let spec = DeviceSpec::from_properties(&properties).unwrap();
    let mut monitor = World {
        presence: Presence::for_device(Arc::new(spec), world.now),
        now: world.now,
        answers: true,
    };
    monitor.connect(A);
    monitor.subscribe(A);
    monitor.pass(secs(6));
    monitor
}

#[test]
fn live_data_of_a_tasmota_device_overrides_an_old_retained_will() {
    let mut world = world("[tasmota]");
    world.retained("tele/plug/LWT", "Offline");
    assert_eq!(world.state("plug"), Some(State::Offline));
    world.live("tele/plug/STATE", "{}");
    assert_eq!(world.state("plug"), Some(State::Online));
    world.live("tele/plug/LWT", "Offline");
    world.live("cmnd/plug/POWER", "ON");
    world.pass(secs(11));
    assert_eq!(world.state("plug"), Some(State::Offline));
    assert_eq!(
        world.explain("plug").unwrap().explanation,
        "offline since 12:00:16: Last Will by tasmota; it struck at 12:00:06; last data 10.0 s before"
    );
}

#[test]
fn data_of_a_convention_makes_nobody_known() {
    let mut world = world("[tasmota, shelly, esphome]");
    world.live("tele/plug/STATE", "{}");
    world.live("x/status/switch:0", "{}");
    world.live("a/b/c/state", "1");
    assert!(world.published().is_empty());
    assert_eq!(world.ignored(Ignored::UnknownDevice), 3);
}

#[test]
fn a_retained_announcement_that_was_deleted_while_we_were_away_removes_the_device() {
    let mut world = world("[esphome]");
    world.retained("lamp/status", "online");
    assert!(world.is_published("lamp"));
    world.pass(secs(60));
    world.cut(secs(0));
    world.pass(secs(1));
    world.reconnect();
    world.pass(secs(180));
    assert_eq!(world.state("lamp"), Some(State::Removed));
}

#[test]
fn the_first_of_two_conventions_has_found_a_device_and_it_stays_so_while_published() {
    let details = of("[esphome, tasmota]");
    let mut world = World::of(Arc::clone(&details), noon());
    let id = DeviceId::new(server(A), "lamp").unwrap();
    world.retained("tele/lamp/LWT", "Offline");
    assert_eq!(world.presence.found_by(&id), Some(1));
    world.retained("lamp/status", "offline");
    assert_eq!(world.presence.found_by(&id), Some(0));
    world.live("tele/lamp/LWT", "Online");
    assert_eq!(world.published(), ["plant-a/lamp"]);
    let mut again = World::of(details, world.now);
    again.presence.restore(&world.presence.roster(), again.now);
    assert_eq!(again.presence.found_by(&id), Some(0));
    again.live("tele/plug/LWT", "Online");
    again.live("plug/status", "online");
    let id = DeviceId::new(server(A), "plug").unwrap();
    assert_eq!(again.presence.found_by(&id), Some(1));
}

#[test]
fn servers_do_not_share_what_a_convention_knows() {
    let mut world = world("[tasmota]");
    world.live("tele/plug/LWT", "Online");
    world.message(B, "tele/plug/STATE", "{}", false);
    assert_eq!(world.published(), ["plant-a/plug"]);
}

#[test]
fn a_monitoring_broker_judges_by_the_convention_as_the_handler_does() {
    let cases = [
        (
            "[tasmota]",
            "plug",
            ("tele/plug/LWT", "Online", "Offline"),
            "stat/plug/POWER",
        ),
        (
            "[shelly]",
            "s1",
            ("s1/online", "true", "false"),
            "s1/events/rpc",
        ),
        (
            "[shelly]",
            "s2",
            ("shellies/s2/online", "true", "false"),
            "shellies/s2/relay/0",
        ),
        (
            "[esphome]",
            "lamp",
            ("lamp/status", "online", "offline"),
            "lamp/switch/x/state",
        ),
    ];
    for (conventions, device, (topic, online, offline), data) in cases {
        let mut world = world(conventions);
        let details = of(conventions);
        world.live(topic, online);
        let mut monitor = monitor(&world, &details, device);
        for world in [&mut world, &mut monitor] {
            world.live(topic, online);
            assert_eq!(world.state(device), Some(State::Online), "{topic}");
            world.live(topic, offline);
            world.pass(secs(11));
            assert_eq!(world.state(device), Some(State::Offline), "{topic}");
            world.live(data, "1");
            assert_eq!(world.state(device), Some(State::Online), "{data}");
            world.live(&topic.replace(device, "other"), online);
        }
        assert_eq!(monitor.presence.published().len(), 1);
    }
}

#[test]
fn the_salt_of_a_configuration_is_in_the_names_of_conventions_too() {
    let yaml = "servers: [{name: plant-a, urls: ['tcp://a:1883']}]\nconventions: [tasmota]\n\
                limits: {idSalt: x}\n";
    let details = Arc::new(Details::parse(yaml).unwrap());
    let mut world = World::of(Arc::clone(&details), noon());
    world.live("tele/plug/LWT", "Online");
    assert_eq!(world.published(), ["plant-a/plug#x"]);
    let mut monitor = monitor(&world, &details, "plug#x");
    monitor.live("tele/plug/LWT", "Online");
    assert_eq!(monitor.published(), ["plant-a/plug#x"]);
}
