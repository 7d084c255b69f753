//! What is wrong is refused with its place.

use super::*;

#[test]
fn all_faults_are_reported_in_one_go() {
    check(
        "serverUrls:\n  - tcp://a\n  - http://b\ntopics:\n  - a/#/b\n  - 5\npresense: {}\nmqtt:\n  qos: 3\n  keepAlive: 1s\n",
        &[
            "line 3, column 5: serverUrls[1]: the scheme `http` is unknown; allowed are tcp, mqtt (1883), ssl, tls, mqtts (8883), ws (80), \
             wss (443)",
            "line 5, column 5: topics[0]: found `a/#/b`: `#` takes a whole level and is the last one, as in `a/#` (MQTT 5.0, 4.7.1.2)",
            "line 6, column 5: topics[1]: found the number 5; allowed is a topic filter; put it in quotes if it is meant as text",
            "line 7, column 1: presense: found an unknown key; did you mean `presence`? Allowed are serverUrls, servers, topics, identity, \
             conventions, presence, mqtt, limits, mqttBrokerUri, timeoutSeconds, propertiesPrefix, messageRegexp",
            "line 9, column 8: mqtt.qos: found the number 3; allowed is 0, 1 or 2",
            "line 10, column 14: mqtt.keepAlive: found `1s`; allowed is a duration such as 500ms, 30s, 5m or 1h, from 5s to 1h in whole \
             seconds",
        ],
    );
}

#[test]
fn the_limits_of_the_text_are_faults_with_their_places() {
    let head = "serverUrls: [tcp://a]\ntopics: [a]\n#";
    let fits = format!("{head}{}", "x".repeat(65_536 - head.len()));
    details(&fits);
    check(
        &format!("{fits}x"),
        &["line 3, column 65503: the text has 65537 bytes; allowed are 65536"],
    );
    check(
        &format!(
            "serverUrls: [tcp://a]\ntopics: {}{}\n",
            "[".repeat(20),
            "]".repeat(20)
        ),
        &["line 2, column 24: lists and maps are nested deeper than 16, which is the limit"],
    );
    check(
        "serverUrls: [tcp://a]\ntopics: [a]\ntopics: [b]\n",
        &["line 3, column 1: the key `topics` stands there twice, first in line 2"],
    );
    check(
        "serverUrls: &x [tcp://a]\ntopics: *x\n",
        &[
            "line 1, column 13: anchors (`&name`) are not allowed; write the value out",
            "line 2, column 9: aliases (`*name`) are not allowed; write the value out",
        ],
    );
    check(
        "",
        &[
            "line 1, column 1: found nothing; allowed is a map with at least `serverUrls` and `topics`",
        ],
    );
}

#[test]
fn wrong_types_are_faults() {
    check(
        "- a\n",
        &[
            "line 1, column 1: found a list; allowed is a map with serverUrls, servers, topics, identity, conventions, presence, mqtt, limits, \
          mqttBrokerUri, timeoutSeconds, propertiesPrefix or messageRegexp",
        ],
    );
    check(
        "serverUrls: tcp://a\ntopics: {a: b}\n",
        &[
            "line 1, column 13: serverUrls: found `tcp://a`; allowed is a list of servers, each in a line that starts with `- `",
            "line 2, column 9: topics: found a map; allowed is a list of topics, each in a line that starts with `- `",
        ],
    );
    check(
        "serverUrls: [tcp://a]\ntopics: [[a], true, null]\n",
        &[
            "line 2, column 10: topics[0]: found a list; allowed is a topic filter",
            "line 2, column 15: topics[1]: found true; allowed is a topic filter; put it in quotes if it is meant as text",
            "line 2, column 21: topics[2]: found nothing; allowed is a topic filter",
        ],
    );
    check(
        "serverUrls: [tcp://a]\ntopics: [a]\nmqtt: {insecureSkipVerify: yes, maxPacketSize: 1MB, version: 4, sessionExpiry: 1500ms}\n\
         limits: {maxDevices: -1, idSalt: 'a b', publishInterval: 2m, maxResponseBytes: 1GiB}\npresence: []\n",
        &[
            "line 3, column 28: mqtt.insecureSkipVerify: found `yes`; allowed is true or false",
            "line 3, column 48: mqtt.maxPacketSize: found `1MB`; allowed is a size such as 64KiB or 1MiB, from 1KiB to 256MiB",
            "line 3, column 62: mqtt.version: found the number 4; allowed is auto, 5 or 3.1.1",
            "line 3, column 80: mqtt.sessionExpiry: found `1500ms`; allowed is a duration such as 500ms, 30s, 5m or 1h, from 0s to 8760h in \
             whole seconds",
            "line 4, column 22: limits.maxDevices: found the number -1; allowed is a whole number from 1 to 1000000",
            "line 4, column 34: limits.idSalt: found `a b`; allowed is up to 32 letters, digits, `-` and `_`",
            "line 4, column 58: limits.publishInterval: found `2m`; allowed is a duration such as 500ms, 30s, 5m or 1h, from 0s to 1m",
            "line 4, column 80: limits.maxResponseBytes: found `1GiB`; allowed is a size such as 64KiB or 1MiB, from 64KiB to 64MiB",
            "line 5, column 11: presence: found a list; allowed is a map with availability, offlineAfter, offlineDelay, reconnectGrace, \
             retained or serverLost",
        ],
    );
}

#[test]
fn servers_are_checked() {
    check(
        "topics: [a]\n",
        &[
            "line 1, column 1: found no server; allowed is `serverUrls` with a list such as [tcp://10.0.0.5:1883], or `servers`",
        ],
    );
    check(
        "serverUrls: []\ntopics: [a]\n",
        &["line 1, column 1: serverUrls: found an empty list; allowed is at least one server"],
    );
    check(
        "serverUrls:\n  - tcp://A:1883\n  - ssl://b\nservers:\n  - urls: [tcp://a, tcp://a]\n  - name: b-8883\n    urls: []\n  - name: B\n    \
         urls: [tcp://c]\n    fail: over\n  - 7\n",
        &[
            "line 1, column 1: topics: found no topics; allowed is a list such as [robots/+/joints]. It may be left out only with \
             `conventions` or `presence.availability`",
            "line 5, column 5: servers[0]: the server in line 2 has the name `a-1883` too; give one of them another `name` under `servers`",
            "line 5, column 21: servers[0].urls[1]: found tcp://a:1883 a second time; each member stands there once",
            "line 7, column 11: servers[1].urls: found an empty list; allowed is at least one URL",
            "line 8, column 11: servers[2].name: found `B`: a server's name has 1 to 32 characters out of a-z, 0-9 and `-`",
            "line 10, column 5: servers[2].fail: found an unknown key; allowed are name, urls, failover",
            "line 11, column 5: servers[3]: found the number 7; allowed is a map with name, urls or failover",
        ],
    );
    let many = |count: usize| {
        let urls: Vec<String> = (0..count).map(|n| format!("  - tcp://h{n}\n")).collect();
        format!("serverUrls:\n{}topics: [a]\n", urls.concat())
    };
    assert_eq!(details(&many(64)).servers.len(), 64);
    check(
        &many(65),
        &["line 2, column 3: serverUrls: found 65 servers; allowed are 64"],
    );
}

#[test]
fn credentials_in_a_url_are_refused_and_never_repeated() {
    let message = "a URL must not contain credentials; put them into the discoveryProperties MQTT_USERNAME and MQTT_PASSWORD, best from a \
                   Secret, or into --credentials-dir";
    check(
        "serverUrls: ['tcp://me:s3cret@a:1883']\ntopics: [a]\n",
        &[&format!("line 1, column 14: serverUrls[0]: {message}")],
    );
    for yaml in [
        "serverUrls: 'tcp://me:s3cret@a:1883'\ntopics: [a]\n",
        "servers: ['tcp://me:s3cret@a:1883']\ntopics: [a]\n",
        "servers: [{urls: 'tcp://me:s3cret@a', name: 'tcp://me:s3cret@a', failover: 'tcp://me:s3cret@a'}]\ntopics: ['tcp://me:s3cret@a/#/']\n",
        "mqttBrokerUri: 'tcp://me:s3cret@a:1883'\ntopics: [a]\ntimeoutSeconds: 5\n",
        "mqttBrokerUri: 'tcp://a:1883?username=me&password=s3cret'\ntopics: [a]\ntimeoutSeconds: 5\n",
        "serverUrls: ['wss://a/mqtt?token=s3cret', 'tcp://me:s3cret']\ntopics: [a]\n",
        "'tcp://me:s3cret@a': 1\nserverUrls: [tcp://a]\ntopics: [a]\npresence: {offlineAfter: 'tcp://me:s3cret@a'}\n",
        "serverUrls: [tcp://a]\ntopics: [a]\nconventions: ['tcp://me:s3cret@a', {'tcp://me:s3cret@a': {}}]\n",
    ] {
        let found = faults(yaml);
        assert!(!found.contains("s3cret"), "{found}");
    }
}

#[test]
fn topics_are_checked() {
    check(
        "serverUrls: [tcp://a]\ntopics:\n  - ''\n  - a/+b\n  - $share/g/a\n  - a/{b\n  - akri-mqtt/x/#\n  - \"a\\0b\"\n",
        &[
            "line 3, column 5: topics[0]: found ``: it is empty; a topic has at least one character (MQTT 5.0, 4.7.3)",
            "line 4, column 5: topics[1]: found `a/+b`: `+` takes a whole level, as in `a/+/b` (MQTT 5.0, 4.7.1.3)",
            "line 5, column 5: topics[2]: found `$share/g/a`: shared subscriptions (`$share/<group>/<filter>`) do not fit here, because \
             every device needs all of its messages; write the filter alone",
            "line 6, column 5: topics[3]: found `a/{b`: a capture takes a whole level, as in `robots/{device}/joints`; `+` stands for a \
             level with braces",
            "line 7, column 5: topics[4]: found `akri-mqtt/x/#`; topics under akri-mqtt/ are our own and never a device's",
            "line 8, column 5: topics[5]: found `a\u{fffd}b`: it contains the null character, which no topic may (MQTT 5.0, 4.7.3)",
        ],
    );
    let many = |count: usize| {
        format!(
            "serverUrls: [tcp://a]\ntopics:\n{}",
            "  - a\n".repeat(count)
        )
    };
    assert_eq!(details(&many(1000)).topics.len(), 1000);
    check(
        &many(1001),
        &["line 3, column 3: topics: found 1001 topics; allowed are 1000"],
    );
}

#[test]
fn filters_that_name_no_device_need_an_identity() {
    for filter in ["#", "+/#", "+/+/#", "/#", "/+/#"] {
        let yaml = format!("serverUrls: [tcp://a]\ntopics: ['{filter}']\n");
        let message = "which does not say what a device is; add an `identity` pattern that fits it, such as {device}/#, or name a level, as in \
                       {device}/status";
        check(
            &yaml,
            &[&format!(
                "line 2, column 10: topics[0]: found `{filter}`, {message}"
            )],
        );
        details(&format!(
            "{yaml}identity: ['+/{{device}}/#', '/{{device}}']\n"
        ));
    }
    let status = faults("serverUrls: [tcp://a]\npresence: {availability: [{topic: '#'}]}\n");
    assert!(
        status.starts_with(
            "line 2, column 35: presence.availability[0].topic: found `#`, which does not say"
        ),
        "{status}"
    );
    for filter in ["{device}/#", "+/x/#", "+", "+/+", "a/#"] {
        details(&format!("serverUrls: [tcp://a]\ntopics: ['{filter}']\n"));
    }
    check(
        "serverUrls: [tcp://a]\ntopics: ['#']\nidentity: ['robots/+/#', '$SYS/{x}']\n",
        &[
            "line 3, column 12: identity[0]: found `robots/+/#`, which has no capture; allowed is a pattern that says which level names the \
             device, as in akri-devices/{device}/#",
        ],
    );
}

#[test]
fn availability_is_checked() {
    check(
        "serverUrls: [tcp://a]\npresence:\n  availability:\n    - online: [1, true, '']\n      offline: []\n    - topic: s/{d}\n      online: \
         [DEAD]\n    - topic: s/{d}\n      jsonPointer: state\n      retainedWill: 1\n  offlineAfter: 30\n  offlineDelay: never\n  retained: \
         maybe\n  serverLost: drop\n",
        &[
            "line 4, column 7: presence.availability[0]: found no `topic`; allowed is a status topic such as robots/{device}/status",
            "line 4, column 25: presence.availability[0].online[2]: found ``; allowed is a word that is not empty; an empty payload always \
             removes the device",
            "line 5, column 16: presence.availability[0].offline: found an empty list; allowed is at least one word",
            "line 6, column 7: presence.availability[1]: `DEAD` means both online and offline, because ASCII case is ignored and a list that \
             is left out has its default words; allowed is one of the two",
            "line 9, column 20: presence.availability[2].jsonPointer: found `state`: a JSON pointer starts with `/`, as in /state (RFC 6901, 3)",
            "line 10, column 21: presence.availability[2].retainedWill: found the number 1; allowed is true or false",
            "line 11, column 17: presence.offlineAfter: found the number 30; allowed is never, or a duration such as 500ms, 30s, 5m or 1h",
            "line 12, column 17: presence.offlineDelay: found `never`; allowed is a duration such as 500ms, 30s, 5m or 1h, from 0s to 8760h",
            "line 13, column 13: presence.retained: found `maybe`; allowed is ignore or trust",
            "line 14, column 15: presence.serverLost: found `drop`; allowed is keep, or a duration such as 500ms, 30s, 5m or 1h",
        ],
    );
}

#[test]
fn conventions_are_checked() {
    let found = faults(
        "serverUrls: [tcp://a]\nconventions:\n  - tasmoto\n  - tasmota: {x: 1}\n  - homeAssistant: {prefix: a/+}\n  - esphome: {prefixes: ['#']}\n  - \
         sparkplugB: {groups: [], hostId: a/b, rebirth: 1}\n  - emqxEvents\n  - emqxEvents: {clients: [r#x]}\n  - {a: 1, b: 2}\n  - 5\n  - homie\n  \
         - homie: {domain: homie}\n",
    );
    let expected = [
        "line 3, column 5: conventions[0]: found the unknown convention `tasmoto`; did you mean `tasmota`?",
        "line 4, column 15: conventions[1].tasmota.x: found an unknown key; allowed are",
        "line 5, column 29: conventions[2].homeAssistant.prefix: found `a/+`: a topic name contains no wildcard",
        "line 6, column 26: conventions[3].esphome.prefixes[0]: found `#`: `#` does not fit here",
        "line 7, column 26: conventions[4].sparkplugB.groups: found an empty list",
        "line 7, column 38: conventions[4].sparkplugB.hostId: found `a/b`: allowed is a host id",
        "line 7, column 52: conventions[4].sparkplugB.rebirth: found the number 1; allowed is true or false",
        "line 8, column 5: conventions[5]: found no `clients`; required is a list of client ids",
        "line 9, column 28: conventions[6].emqxEvents.clients[0]: found `r#x`: `#` takes a whole level",
        "line 10, column 5: conventions[7]: found a map; allowed is the name of a convention",
        "line 11, column 5: conventions[8]: found the unknown convention `5`",
        "line 13, column 5: conventions[10]: found `homie` with the same options a second time",
    ];
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}
