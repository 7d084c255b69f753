//! The corpora, and what each convention subscribes.

use super::*;

macro_rules! corpus {
    ($path:literal) => {
        include_str!(concat!("../../../tests/data/", $path))
    };
}

#[test]
fn tasmota_speaks_as_documented() {
    play(&Convention::Tasmota {}, corpus!("tasmota/messages.tsv"));
}

#[test]
fn shelly_speaks_as_documented_in_both_generations() {
    play(&shelly(), corpus!("shelly/messages.tsv"));
}

#[test]
fn esphome_speaks_as_documented() {
    play(&esphome(), corpus!("esphome/messages.tsv"));
}

#[test]
fn events_of_the_server_name_its_clients() {
    play(&emqx(), corpus!("emqxEvents/messages.tsv"));
}

#[test]
fn homie_speaks_as_documented_in_versions_3_to_5() {
    play(&homie(), corpus!("homie/messages.tsv"));
}

#[test]
fn zigbee2mqtt_speaks_as_documented() {
    play(&zigbee2mqtt(), corpus!("zigbee2mqtt/messages.tsv"));
}

#[test]
fn home_assistant_discovery_is_read_as_documented() {
    play(&home_assistant(), corpus!("homeAssistant/messages.tsv"));
}

fn texts(filters: &[TopicFilter]) -> Vec<&str> {
    filters.iter().map(TopicFilter::as_str).collect()
}

#[test]
fn no_more_is_subscribed_than_announces_or_is_data() {
    let all = Convention::Tasmota {}.filters(None);
    assert_eq!(texts(&all.announcing), ["tele/+/LWT", "+/tele/LWT"]);
    let all = shelly().filters(None);
    assert_eq!(texts(&all.announcing), ["shellies/+/online", "+/online"]);
    let data = ["shellies/+/#", "+/events/rpc", "+/status/#"];
    assert_eq!(texts(&all.data), data);
    let all = esphome().filters(None);
    assert_eq!(texts(&all.announcing), ["+/status", "home/+/status"]);
    let all = emqx().filters(None);
    let events = [
        "$SYS/brokers/+/clients/+/connected",
        "$SYS/brokers/+/clients/+/disconnected",
        "$SYS/brokers/+/clients/plc/1/connected",
        "$SYS/brokers/+/clients/plc/1/disconnected",
    ];
    assert_eq!(texts(&all.announcing), events);
}

#[test]
fn a_device_gets_its_own_topics_only() {
    let one = esphome().filters(Some("home/lamp"));
    assert_eq!(texts(&one.announcing), ["home/lamp/status"]);
    assert_eq!(texts(&one.data), ["home/lamp/#"]);
    let one = emqx().filters(Some("robot-1"));
    let events = [
        "$SYS/brokers/+/clients/robot-1/connected",
        "$SYS/brokers/+/clients/robot-1/disconnected",
    ];
    assert_eq!(texts(&one.announcing), events);
    let wild = Convention::Tasmota {}.filters(Some("a#"));
    assert_eq!(wild, Filters::default());
}

#[test]
fn only_announcements_make_a_device_known() {
    let mut world = World::of(&Convention::Tasmota {});
    let (_, said) = world.read("tele/x/STATE", b"{}");
    assert!(!said[0].appears);
    let (_, said) = world.read("tele/x/LWT", b"Offline");
    assert!(said[0].appears);
}
