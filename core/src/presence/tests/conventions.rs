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
fn data_of_a_device_that_a_convention_does_not_know_goes_on_to_whoever_wants_it() {
    let yaml = "[esphome, homeAssistant]\ntopics: ['plant/{line}/{cell}/state']";
    let mut world = world(yaml);
    let state = "home/light/kitchen/state";
    world.retained(
        "homeassistant/light/kitchen/config",
        "{\"stat_t\":\"home/light/kitchen/state\",\"dev\":{\"ids\":\"k1\"}}",
    );
    world.live(state, "ON");
    assert_eq!(world.state("k1"), Some(State::Online));
    world.live("plant/a/1/state", "run");
    assert_eq!(world.published(), ["plant-a/a/1", "plant-a/k1"]);
    world.live("other/sensor/x/state", "1");
    assert_eq!(world.ignored(Ignored::UnknownDevice), 1);
    assert_eq!(world.ignored(Ignored::NoRule), 0);
    world.live("home/status", "online");
    world.live("plant/status", "online");
    world.live(state, "ON");
    world.live("plant/a/2/state", "run");
    assert!(!world.is_published("a/2"));
}

#[test]
fn a_group_of_zigbee2mqtt_is_no_device_of_other_entries_either() {
    let mut world = world("[zigbee2mqtt]\ntopics: ['zigbee2mqtt/{device}']");
    world.retained(LIST, "[]");
    world.live("zigbee2mqtt/all_lights", "{\"state\":\"ON\"}");
    world.live("zigbee2mqtt/bridge/groups", "[]");
    assert!(world.published().is_empty());
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

const LIST: &str = "zigbee2mqtt/bridge/devices";
const BRIDGE: &str = "zigbee2mqtt/bridge/state";

/// Zigbee2MQTT with two devices, of which `lamp` has an availability.
fn zigbee() -> World {
    let mut world = world("[zigbee2mqtt]");
    world.retained(BRIDGE, "{\"state\":\"online\"}");
    world.retained(
        LIST,
        "[{\"friendly_name\":\"lamp\"},{\"friendly_name\":\"hall/door\"}]",
    );
    world.retained("zigbee2mqtt/lamp/availability", "{\"state\":\"online\"}");
    world
}

#[test]
fn a_listed_device_is_unconfirmed_until_it_says_something() {
    let mut world = zigbee();
    assert_eq!(world.state("hall/door"), Some(State::Unconfirmed));
    assert_eq!(world.state("lamp"), Some(State::Online));
    world.live("zigbee2mqtt/hall/door", "{\"contact\":true}");
    assert_eq!(world.state("hall/door"), Some(State::Online));
    world.live("zigbee2mqtt/all_lights", "{\"state\":\"ON\"}");
    assert_eq!(world.published(), ["plant-a/hall/door", "plant-a/lamp"]);
}

#[test]
fn a_list_that_has_become_too_large_to_be_received_is_not_gone() {
    let mut world = zigbee();
    world.live("zigbee2mqtt/hall/door", "{}");
    for (lacks, stays) in [(LIST, true), ("zigbee2mqtt/lamp", false)] {
        world.pass(secs(60));
        world.cut(secs(0));
        world.pass(secs(1));
        world.reconnect();
        let now = world.now;
        world.presence.on_too_large(&server(A), lacks, now);
        world.pass(secs(180));
        assert_eq!(world.is_published("hall/door"), stays, "{lacks}");
    }
}

#[test]
fn an_entity_of_which_the_message_is_too_large_to_be_received_is_not_gone() {
    let mut world = world("[homeAssistant]");
    world.retained(CONFIG, ENTITY);
    world.retained("n/lwt", "online");
    for lacks in [true, false] {
        world.pass(secs(60));
        world.cut(secs(0));
        world.pass(secs(1));
        world.reconnect();
        world.retained("n/lwt", "online");
        if lacks {
            let now = world.now;
            world.presence.on_too_large(&server(A), CONFIG, now);
        }
        world.pass(secs(180));
        assert_eq!(world.is_published("n1"), lacks);
    }
}

#[test]
fn a_listed_device_may_be_silent_for_as_long_as_it_is_listed() {
    let mut world = zigbee();
    world.pass(secs(24 * 3600));
    assert_eq!(world.state("hall/door"), Some(State::Unconfirmed));
    let mut again = World::of(of("[zigbee2mqtt]"), world.now);
    again.presence.restore(&world.presence.roster(), again.now);
    again.connect(A);
    again.subscribe(A);
    again.retained(LIST, "[{\"friendly_name\":\"hall/door\"}]");
    again.pass(secs(24 * 3600));
    assert_eq!(again.published(), ["plant-a/hall/door"]);
    again.live(LIST, "[]");
    again.pass(secs(11));
    assert!(again.published().is_empty());
}

#[test]
fn a_listed_device_is_gone_after_the_silence_that_the_configuration_names() {
    let mut world = world("[zigbee2mqtt]\npresence: {offlineAfter: 1h}");
    world.retained(LIST, "[{\"friendly_name\":\"door\"}]");
    world.pass(secs(3500));
    assert!(world.is_published("door"));
    world.pass(secs(200));
    assert!(!world.is_published("door"));
}

#[test]
fn a_client_that_was_connected_before_a_restart_stays_while_the_session_brings_what_was_missed() {
    let events = "[{emqxEvents: {clients: ['robot-#']}}]";
    let mut before = world(events);
    for client in ["robot-1", "robot-2"] {
        let topic = format!("$SYS/brokers/1/clients/{client}/connected");
        before.live(&topic, &format!("{{\"clientid\":\"{client}\"}}"));
    }
    for resumed in [true, false] {
        let mut after = World::of(of(events), before.now);
        let roster = before.presence.roster();
        after.presence.restore(&roster, after.now);
        after.connect(A);
        if !resumed {
            after.presence.on_session_lost(&server(A), after.now);
        }
        after.subscribe(A);
        let gone = "$SYS/brokers/1/clients/robot-2/disconnected";
        after.live(gone, "{\"clientid\":\"robot-2\",\"reason\":\"tcp_closed\"}");
        after.pass(secs(3600));
        assert_eq!(after.is_published("robot-1"), resumed);
        assert!(!after.is_published("robot-2"));
    }
}

#[test]
fn cached_data_of_a_dead_zigbee_device_does_not_override_its_offline() {
    let mut world = zigbee();
    world.live("zigbee2mqtt/lamp/availability", "offline");
    world.pass(secs(11));
    world.live("zigbee2mqtt/lamp", "{\"state\":\"ON\"}");
    assert_eq!(world.state("lamp"), Some(State::Offline));
    assert_eq!(world.ignored(Ignored::Overruled), 1);
}

#[test]
fn the_bridge_takes_its_devices_along_and_brings_each_back_as_it_was() {
    let mut world = zigbee();
    world.live("zigbee2mqtt/hall/door", "{}");
    world.live(BRIDGE, "offline");
    world.pass(secs(11));
    assert!(world.published().is_empty());
    world.live(BRIDGE, "online");
    assert_eq!(world.state("lamp"), Some(State::Online));
    assert_eq!(world.state("hall/door"), Some(State::Unconfirmed));
    world.live(BRIDGE, "offline");
    world.pass(secs(2));
    world.live(BRIDGE, "online");
    assert_eq!(world.state("hall/door"), Some(State::Unconfirmed));
    world.pass(secs(20));
    assert_eq!(world.published(), ["plant-a/hall/door", "plant-a/lamp"]);
}

#[test]
fn a_zigbee_device_that_is_no_longer_listed_is_removed_and_may_come_back() {
    let mut world = zigbee();
    world.live(LIST, "[{\"friendly_name\":\"hall/door\"}]");
    world.pass(secs(11));
    assert_eq!(world.state("lamp"), Some(State::Removed));
    world.live(
        LIST,
        "[{\"friendly_name\":\"hall/door\"},{\"friendly_name\":\"lamp\"}]",
    );
    assert_eq!(world.state("lamp"), Some(State::Unconfirmed));
}

#[test]
fn a_list_after_a_reconnect_keeps_devices_whose_availability_was_switched_off_meanwhile() {
    let mut world = zigbee();
    world.pass(secs(60));
    world.cut(secs(0));
    world.pass(secs(1));
    world.reconnect();
    world.retained(
        LIST,
        "[{\"friendly_name\":\"lamp\"},{\"friendly_name\":\"hall/door\"}]",
    );
    world.pass(secs(180));
    assert!(world.is_published("lamp"));
}

#[test]
fn a_monitoring_broker_of_a_zigbee_device_hears_the_bridge_and_no_list() {
    let world = zigbee();
    let mut monitor = monitor(&world, &of("[zigbee2mqtt]"), "lamp");
    let wanted = monitor.presence.subscriptions();
    let filters: Vec<&str> = wanted.iter().map(|wanted| wanted.filter.as_str()).collect();
    let expected = [
        "zigbee2mqtt/bridge/state",
        "zigbee2mqtt/lamp",
        "zigbee2mqtt/lamp/availability",
    ];
    assert_eq!(filters, expected);
    monitor.retained(BRIDGE, "online");
    assert_eq!(monitor.state("lamp"), Some(State::Unconfirmed));
    monitor.live("zigbee2mqtt/lamp", "{}");
    assert_eq!(monitor.state("lamp"), Some(State::Online));
    monitor.live(BRIDGE, "offline");
    monitor.pass(secs(11));
    assert_eq!(monitor.state("lamp"), Some(State::Offline));
    monitor.live("zigbee2mqtt/lamp", "{}");
    assert_eq!(monitor.state("lamp"), Some(State::Offline));
    monitor.live(BRIDGE, "online");
    assert_eq!(monitor.state("lamp"), Some(State::Unconfirmed));
}

#[test]
fn a_child_follows_its_lost_root_in_its_monitoring_broker_too() {
    let mut world = world("[homie]");
    world.live("homie/5/child/$state", "ready");
    let mut monitor = monitor(&world, &of("[homie]"), "child");
    monitor.live("homie/5/child/$state", "ready");
    assert_eq!(monitor.presence.subscriptions_revision(), 0);
    monitor.live("homie/5/child/$description", "{\"root\":\"hub\"}");
    assert_eq!(monitor.presence.subscriptions_revision(), 1);
    let wanted = monitor.presence.subscriptions_on(&server(A));
    assert!(
        wanted
            .iter()
            .any(|w| w.filter.as_str() == "homie/5/hub/$state" && w.snapshot)
    );
    monitor.live("homie/5/hub/$state", "lost");
    monitor.pass(secs(11));
    assert_eq!(monitor.state("child"), Some(State::Offline));
    monitor.live("homie/5/child/meter/power", "1");
    assert_eq!(monitor.state("child"), Some(State::Offline));
    monitor.live("homie/5/hub/$state", "ready");
    assert_eq!(monitor.state("child"), Some(State::Online));
}

const CONFIG: &str = "homeassistant/sensor/node/t/config";
const ENTITY: &str = "{\"avty_t\":\"n/lwt\",\"stat_t\":\"n/t\",\"dev\":{\"ids\":\"n1\"}}";

fn filters_on(world: &World, name: &str) -> Vec<(String, bool)> {
    let wanted = world.presence.subscriptions_on(&server(name));
    let shown = wanted.iter().map(|w| (w.filter.to_string(), w.snapshot));
    shown.collect()
}

#[test]
fn topics_that_discovery_names_are_subscribed_on_the_server_that_named_them() {
    let mut world = world("[homeAssistant]");
    let first = [
        ("homeassistant/+/+/+/config".to_owned(), true),
        ("homeassistant/+/+/config".to_owned(), true),
    ];
    assert_eq!(filters_on(&world, A), first);
    world.retained(CONFIG, ENTITY);
    let named = [("n/lwt".to_owned(), true), ("n/t".to_owned(), false)];
    assert_eq!(filters_on(&world, A), [&first[..], &named[..]].concat());
    assert_eq!(filters_on(&world, B), first);
    let revision = world.presence.subscriptions_revision();
    world.retained(CONFIG, ENTITY);
    assert_eq!(world.presence.subscriptions_revision(), revision);
    world.live(CONFIG, "");
    assert_eq!(filters_on(&world, A), first);
}

#[test]
fn a_device_of_home_assistant_is_as_available_as_it_says_and_data_does_not_override_it() {
    let mut world = world("[homeAssistant]");
    world.retained(CONFIG, ENTITY);
    assert_eq!(world.state("n1"), Some(State::Unconfirmed));
    world.retained("n/lwt", "online");
    assert_eq!(world.state("n1"), Some(State::Online));
    world.live("n/lwt", "offline");
    world.pass(secs(11));
    world.live("n/t", "21");
    assert_eq!(world.state("n1"), Some(State::Offline));
    world.live("n/lwt", "online");
    assert_eq!(world.published(), ["plant-a/n1"]);
    world.live(CONFIG, "");
    world.pass(secs(11));
    assert_eq!(world.state("n1"), Some(State::Removed));
}

#[test]
fn a_device_without_availability_lives_by_its_data() {
    let mut world = world("[homeAssistant]");
    world.retained(CONFIG, "{\"stat_t\":\"n/t\",\"dev\":{\"ids\":\"n1\"}}");
    world.pass(secs(310));
    assert_eq!(
        world.state("n1"),
        Some(State::Offline),
        "nothing confirmed it"
    );
    world.live("n/t", "21");
    assert_eq!(world.state("n1"), Some(State::Online));
}

#[test]
fn an_entity_that_was_deleted_while_we_were_away_is_gone_and_its_device_with_the_last_one() {
    let mut world = world("[homeAssistant]");
    let second = CONFIG.replace("/t/", "/h/");
    world.retained(CONFIG, ENTITY);
    world.retained(&second, ENTITY);
    world.retained("n/lwt", "online");
    for (seen, removed) in [(true, false), (false, true)] {
        world.pass(secs(60));
        world.cut(secs(0));
        world.pass(secs(1));
        world.reconnect();
        if seen {
            world.retained(CONFIG, ENTITY);
        }
        world.retained("n/lwt", "online");
        world.pass(secs(180));
        assert_eq!(world.state("n1") == Some(State::Removed), removed);
    }
}

#[test]
fn an_entity_of_a_device_that_another_convention_announces_is_that_device() {
    let mut world = world("[homeAssistant, tasmota]");
    world.retained(
        "homeassistant/switch/49A3BC_RL_1/config",
        "{\"stat_t\":\"tele/plug/STATE\",\"avty_t\":\"tele/plug/LWT\",\"dev\":{\"ids\":[\"49A3BC\"]}}",
    );
    world.retained("tele/plug/LWT", "Online");
    assert_eq!(world.published(), ["plant-a/plug"]);
}

#[test]
fn what_zigbee2mqtt_publishes_for_home_assistant_hides_its_bridge_from_nobody() {
    let mut world = world("[homeAssistant, zigbee2mqtt]");
    let bridge = "\"device\":{\"identifiers\":[\"zigbee2mqtt_bridge_0x00124b00120144ae\"]}";
    let device = "\"device\":{\"identifiers\":[\"zigbee2mqtt_0x0017880104e45522\"]}";
    for (topic, config) in [
        (
            "binary_sensor/1221051039810110150109113116116_0x00124b00120144ae/connection_state",
            format!("{{\"state_topic\":\"{BRIDGE}\",{bridge}}}"),
        ),
        (
            "device_automation/0x0017880104e45522/action_single",
            format!(
                "{{\"automation_type\":\"trigger\",\"topic\":\"zigbee2mqtt/lamp/action\",{device}}}"
            ),
        ),
        (
            "tag/0x0017880104e45522",
            format!("{{\"topic\":\"zigbee2mqtt/lamp/tag\",{device}}}"),
        ),
    ] {
        world.retained(&format!("homeassistant/{topic}/config"), &config);
    }
    world.retained(LIST, "[{\"friendly_name\":\"lamp\"}]");
    world.retained("zigbee2mqtt/lamp/availability", "{\"state\":\"online\"}");
    assert_eq!(world.published(), ["plant-a/lamp"]);
    world.live(BRIDGE, "{\"state\":\"offline\"}");
    world.pass(secs(11));
    assert!(world.published().is_empty());
}

#[test]
fn a_monitoring_broker_subscribes_what_discovery_names_for_its_device_only() {
    let mut world = world("[homeAssistant]");
    world.retained(CONFIG, ENTITY);
    world.retained("n/lwt", "online");
    let mut monitor = monitor(&world, &of("[homeAssistant]"), "n1");
    monitor.retained(CONFIG, ENTITY);
    let other = ENTITY.replace("n/", "m/").replace("n1", "m1");
    monitor.retained("homeassistant/sensor/m/config", &other);
    let named: Vec<(String, bool)> = filters_on(&monitor, A).split_off(2);
    assert_eq!(
        named,
        [("n/lwt".to_owned(), true), ("n/t".to_owned(), false)]
    );
    monitor.retained("n/lwt", "online");
    assert_eq!(monitor.state("n1"), Some(State::Online));
    monitor.live("n/lwt", "offline");
    monitor.pass(secs(11));
    assert_eq!(monitor.state("n1"), Some(State::Offline));
}
