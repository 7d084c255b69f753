//! Histories of each convention. In: histories, see [`crate::history`]. One target each, so that a fuzzer's inputs stay with
//! the words of one convention.

use crate::history::run;

/// Tasmota, Shelly and ESPHome, who publish one word, and `presence.availability` with a JSON pointer.
pub fn announced(data: &[u8]) {
    run(
        "topics: ['robots/{device}/joints/#']\nconventions: [tasmota, shelly, esphome]\n\
         presence: {serverLost: 1h, availability: [{topic: 'robots/{device}/status', jsonPointer: /state}]}\n",
        data,
    );
}

/// Events of a server about its clients.
pub fn emqx_events(data: &[u8]) {
    run("conventions: [{emqxEvents: {clients: ['#']}}]\n", data);
}

/// Home Assistant's discovery.
pub fn home_assistant(data: &[u8]) {
    run("conventions: [homeAssistant]\n", data);
}

/// Homie 3, 4 and 5.
pub fn homie(data: &[u8]) {
    run("conventions: [homie]\npresence: {offlineAfter: 1h}\n", data);
}

/// Edge Nodes of Sparkplug B and their devices, asked for rebirths.
pub fn sparkplug_nodes(data: &[u8]) {
    run(
        "conventions: [{sparkplugB: {groups: ['+'], rebirth: true}}]\n",
        data,
    );
}

/// Zigbee2MQTT.
pub fn zigbee2mqtt(data: &[u8]) {
    run("conventions: [zigbee2mqtt]\n", data);
}

/// All at once, and data topics that take everything: who finds what first.
pub fn all_conventions(data: &[u8]) {
    run(
        "topics: ['{site}/{device}/#', '+/state']\npresence: {offlineAfter: 1m, retained: trust}\n\
         conventions: [tasmota, shelly, esphome, homie, zigbee2mqtt, homeAssistant, \
         {sparkplugB: {groups: ['plant'], rebirth: true}}, {emqxEvents: {clients: ['robot-#']}}]\n",
        data,
    );
}
