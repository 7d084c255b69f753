//! The table of evidence, row by row.

use super::*;

#[test]
fn live_data_makes_a_device_online() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    assert_eq!(world.state("r1"), Some(State::Online));
    assert_eq!(world.published(), ["plant-a/r1"]);
}

#[test]
fn live_data_overrides_a_retained_offline_of_a_plain_topic() {
    let mut world = World::up(ANNOUNCED);
    world.retained_status("r1", "offline");
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.data("r1");
    assert_eq!(world.state("r1"), Some(State::Online));
    world.retained_status("r1", "offline");
    assert_eq!(
        world.state("r1"),
        Some(State::Online),
        "the same old will says nothing new"
    );
}

#[test]
fn an_announcing_topic_wins_over_a_data_filter_whatever_the_payload() {
    let yaml = "presence: {availability: [{topic: 'robots/{device}/joints/status'}]}";
    let mut world = World::up(yaml);
    world.live("robots/r1/joints/status", "warming up");
    assert_eq!(world.state("r1"), None);
    assert_eq!(world.ignored(Ignored::UnknownPayload), 1);
    world.live("robots/r1/joints/status", "OFFLINE");
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.live("robots/r1/joints/status", "Online ");
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn a_message_on_a_command_topic_is_no_evidence() {
    let mut world = World::up(PLAIN);
    for topic in ["set", "rpc", "command", "elbow/set"] {
        world.live(&format!("robots/r1/joints/{topic}"), "1");
    }
    assert_eq!(world.state("r1"), None);
    assert_eq!(world.ignored(Ignored::Command), 4);

    let yaml = "serverUrls: ['tcp://a']\ntopics: ['{root}/{device}/x']";
    let details = Arc::new(Details::parse(yaml).unwrap());
    let name = details.servers[0].name.clone();
    let mut presence = Presence::new(details, Options::default(), noon());
    for topic in ["cmnd/r1/x", "tele/r1/x"] {
        let message = Inbound {
            topic,
            payload: b"1",
            retained: false,
            qos: QoS::AtMostOnce,
        };
        presence.on_message(&name, message, noon());
    }
    let published: Vec<String> = presence
        .published()
        .map(|id| id.name().to_owned())
        .collect();
    assert_eq!(published, ["tele/r1"]);
}

#[test]
fn a_live_online_announcement_makes_a_device_online() {
    let mut world = World::up(ANNOUNCED);
    for (device, word) in [
        ("r1", "online"),
        ("r2", "1"),
        ("r3", "TRUE"),
        ("r4", "ready"),
        ("r5", "alive"),
    ] {
        world.status(device, word);
        assert_eq!(world.state(device), Some(State::Online), "{word}");
    }
}

#[test]
fn a_retained_online_is_believed_if_the_will_is_retained() {
    let mut world = World::up(ANNOUNCED);
    world.retained_status("r1", "online");
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn a_retained_online_is_unconfirmed_if_the_will_is_not_retained() {
    let mut world = World::up(
        "presence: {availability: [{topic: 'robots/{device}/status', retainedWill: false}]}",
    );
    world.retained_status("r1", "online");
    assert_eq!(world.state("r1"), Some(State::Unconfirmed));
    assert!(world.is_published("r1"));
    world.data("r2");
    world.retained_status("r2", "online");
    assert_eq!(
        world.state("r2"),
        Some(State::Online),
        "it proves nothing, in either direction"
    );
}

#[test]
fn a_live_offline_is_leaving_and_offline_after_the_delay() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    world.status("r1", "offline");
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(9));
    world.status("r1", "offline");
    assert!(world.is_published("r1"));
    world.pass(secs(1));
    assert_eq!(
        world.state("r1"),
        Some(State::Offline),
        "a second will does not renew the delay"
    );
    assert!(!world.is_published("r1"));
}

#[test]
fn evidence_of_life_within_the_delay_brings_a_leaving_device_back() {
    for life in ["joints", "status"] {
        let mut world = World::up(ANNOUNCED);
        world.status("r1", "online");
        let revision = world.presence.revision();
        world.status("r1", "offline");
        world.pass(secs(9));
        world.live(&format!("robots/r1/{life}"), "online");
        assert_eq!(world.state("r1"), Some(State::Online));
        world.pass(secs(60));
        assert_eq!(world.state("r1"), Some(State::Online));
        assert_eq!(
            world.presence.revision(),
            revision,
            "nobody was told anything"
        );
    }
}

#[test]
fn a_retained_offline_is_offline_at_once() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    world.retained_status("r1", "offline");
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.retained_status("r2", "offline");
    assert_eq!(world.state("r2"), Some(State::Offline));
    assert!(world.published().is_empty());
}

#[test]
fn retained_data_is_ignored_by_default_and_counted() {
    let mut world = World::up(PLAIN);
    world.retained("robots/r1/joints", "1");
    assert_eq!(world.state("r1"), None);
    assert_eq!(world.ignored(Ignored::Retained), 1);
}

#[test]
fn trusted_retained_data_makes_a_device_unconfirmed() {
    let mut world = World::up("presence: {retained: trust}");
    world.retained("robots/r1/joints", "1");
    assert_eq!(world.state("r1"), Some(State::Unconfirmed));
    world.data("r1");
    world.retained("robots/r1/joints", "1");
    assert_eq!(world.state("r1"), Some(State::Online));
    assert!(
        world
            .presence
            .subscriptions()
            .iter()
            .all(|wanted| wanted.snapshot)
    );
}

#[test]
fn trusted_retained_data_does_not_contradict_an_announcement() {
    let mut world =
        World::up("presence: {retained: trust, availability: [{topic: 'robots/{device}/status'}]}");
    world.retained_status("r1", "offline");
    world.retained("robots/r1/joints", "1");
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn an_empty_announcement_removes_a_device_after_the_delay_retained_or_not() {
    for retained in [false, true] {
        let mut world = World::up(ANNOUNCED);
        world.status("r1", "online");
        world.message(A, "robots/r1/status", "", retained);
        assert_eq!(world.state("r1"), Some(State::Leaving));
        world.pass(secs(10));
        assert_eq!(world.state("r1"), Some(State::Removed));
        assert!(world.published().is_empty());
    }
}

#[test]
fn an_empty_announcement_removes_an_offline_device_at_once_and_says_nothing_about_an_unknown_one() {
    let mut world = World::up(ANNOUNCED);
    world.retained_status("r1", "offline");
    world.status("r1", "");
    assert_eq!(world.state("r1"), Some(State::Removed));
    world.status("r2", "");
    assert_eq!(world.state("r2"), None);
    assert_eq!(world.ignored(Ignored::UnknownDevice), 1);
    world.data("r1");
    assert_eq!(
        world.state("r1"),
        Some(State::Online),
        "a removed device can come back"
    );
}

#[test]
fn a_leaving_device_whose_announcement_is_deleted_ends_as_removed() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    world.status("r1", "offline");
    world.pass(secs(4));
    world.status("r1", "");
    world.pass(secs(6));
    assert_eq!(world.state("r1"), Some(State::Removed));
}

#[test]
fn silence_makes_a_device_leave_and_then_go() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.pass(secs(200));
    world.data("r1");
    world.pass(secs(299));
    assert_eq!(world.state("r1"), Some(State::Online));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(10));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn silence_counts_only_if_a_packet_came_after_the_deadline() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.answers = false;
    world.pass(secs(400));
    assert_eq!(world.state("r1"), Some(State::Online));
    assert_eq!(world.presence.needs_probe(), [server(A)]);
    assert_eq!(
        world.presence.poll_timeout(),
        None,
        "nothing to do before a packet comes"
    );
    world.presence.on_packet(&server(A), world.now.mono);
    assert_eq!(world.state("r1"), Some(State::Offline));
    assert!(world.presence.needs_probe().is_empty());
}

#[test]
fn a_late_message_that_proves_the_link_is_itself_evidence_of_life() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.answers = false;
    world.pass(secs(400));
    world.data("r1");
    assert_eq!(world.state("r1"), Some(State::Online));
    world.answers = true;
    world.pass(secs(299));
    assert_eq!(
        world.state("r1"),
        Some(State::Online),
        "renewed by its own message"
    );
}

#[test]
fn devices_that_announce_themselves_may_be_silent_for_ever() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    world.pass(secs(1_000_000));
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn an_unconfirmed_device_goes_after_five_minutes_or_offline_after() {
    for (rule, wait) in [("", 300), ("offlineAfter: 30s, ", 30)] {
        let mut world = World::up(&format!(
            "presence: {{{rule}availability: [{{topic: 'robots/{{device}}/status', retainedWill: false}}]}}"
        ));
        world.retained_status("r1", "online");
        world.pass(secs(wait - 1));
        world.retained_status("r1", "online");
        assert_eq!(world.state("r1"), Some(State::Unconfirmed));
        world.pass(secs(1));
        assert_eq!(world.state("r1"), Some(State::Offline));
        assert!(world.published().is_empty());
    }
}

#[test]
fn the_word_can_stand_inside_a_json_payload() {
    let mut world = World::up(
        "presence: {availability: [{topic: 'robots/{device}/status', jsonPointer: /state/0, online: [up, '7'], offline: ['true']}]}",
    );
    for (payload, state) in [
        (r#"{"state":["UP"]}"#, State::Online),
        (r#"{"state":[true]}"#, State::Leaving),
        (r#"{"state":[7]}"#, State::Online),
    ] {
        world.status("r1", payload);
        assert_eq!(world.state("r1"), Some(state), "{payload}");
    }
    for payload in ["up", r#"{"state":"up"}"#, r#"{"state":[null]}"#, "{"] {
        world.status("r1", payload);
    }
    assert_eq!(world.ignored(Ignored::UnknownPayload), 4);
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn our_own_topics_are_no_evidence() {
    let yaml = "serverUrls: ['tcp://a']\ntopics: ['{root}/{device}/#']";
    let details = Arc::new(Details::parse(yaml).unwrap());
    let name = details.servers[0].name.clone();
    let mut presence = Presence::new(details, Options::default(), noon());
    for topic in ["akri-mqtt/r1/x", "akri-mqtt-2/r1/x"] {
        let message = Inbound {
            topic,
            payload: b"1",
            retained: false,
            qos: QoS::AtMostOnce,
        };
        presence.on_message(&name, message, noon());
    }
    let published: Vec<String> = presence
        .published()
        .map(|id| id.name().to_owned())
        .collect();
    assert_eq!(published, ["akri-mqtt-2/r1"]);
    assert_eq!(
        presence.counters().ignored().collect::<Vec<_>>(),
        [(Ignored::Own, 1)]
    );
}

#[test]
fn messages_that_name_no_device_are_counted() {
    let mut world = World::up(PLAIN);
    world.live("robots//joints", "1");
    world.live("elsewhere", "1");
    world.message("plant-c", "robots/r1/joints", "1", false);
    assert_eq!(world.ignored(Ignored::EmptyName), 1);
    assert_eq!(world.ignored(Ignored::NoRule), 1);
    assert_eq!(world.ignored(Ignored::UnknownServer), 1);
    assert_eq!(world.presence.counters().messages, 3);
    assert!(world.published().is_empty());
}

#[test]
fn a_message_that_is_delivered_twice_counts_once() {
    let mut once = World::up(ANNOUNCED);
    let mut twice = World::up(ANNOUNCED);
    twice.now = once.now;
    for (topic, payload) in [
        ("joints", "1"),
        ("status", "offline"),
        ("status", "online"),
        ("status", ""),
    ] {
        once.live(&format!("robots/r1/{topic}"), payload);
        twice.live(&format!("robots/r1/{topic}"), payload);
        twice.live(&format!("robots/r1/{topic}"), payload);
        let moves = |world: &World| world.presence.counters().transitions().collect::<Vec<_>>();
        assert_eq!(moves(&once), moves(&twice));
    }
}

#[test]
fn the_same_name_on_two_servers_is_two_devices() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.message(B, "robots/r1/joints", "1", false);
    assert_eq!(world.published(), ["plant-a/r1", "plant-b/r1"]);
}

#[test]
fn data_is_subscribed_with_qos_0_and_announcements_with_the_chosen_one_and_a_snapshot() {
    let world = World::new(ANNOUNCED);
    let wanted: Vec<(String, QoS, bool)> = world
        .presence
        .subscriptions()
        .iter()
        .map(|w| (w.filter.to_string(), w.qos, w.snapshot))
        .collect();
    assert_eq!(
        wanted,
        [
            ("robots/+/joints/#".to_owned(), QoS::AtMostOnce, false),
            ("robots/+/status".to_owned(), QoS::AtLeastOnce, true),
        ]
    );
}

#[test]
fn filters_that_another_covers_are_not_subscribed() {
    let yaml = "serverUrls: ['tcp://a']\nidentity: ['a/{device}/#']\ntopics: ['a/+/x', 'a/#', 'a/+/x/y', 'a/1/status']\n\
                presence: {availability: [{topic: 'a/{device}/status'}]}";
    let details = Arc::new(Details::parse(yaml).unwrap());
    let presence = Presence::new(details, Options::default(), noon());
    let wanted: Vec<String> = presence
        .subscriptions()
        .iter()
        .map(|w| w.filter.to_string())
        .collect();
    assert_eq!(
        wanted,
        ["a/#", "a/+/status"],
        "data does not bring a snapshot of announcements"
    );
}

#[test]
fn a_will_does_not_wait_for_the_deadline_of_silence() {
    let mut world = World::up(
        "presence: {offlineAfter: 5m, availability: [{topic: 'robots/{device}/status'}]}",
    );
    world.data("r1");
    world.status("r1", "offline");
    world.pass(secs(10));
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.data("r1");
    world.pass(secs(299));
    assert_eq!(
        world.state("r1"),
        Some(State::Online),
        "an old timer means nothing"
    );
}

#[test]
fn with_qos_0_a_data_filter_still_does_not_stand_in_for_an_announcing_one() {
    let yaml = "serverUrls: ['tcp://a']\nmqtt: {qos: 0}\nidentity: ['a/{device}/#']\ntopics: ['a/#']\n\
                presence: {availability: [{topic: 'a/{device}/status'}]}";
    let details = Arc::new(Details::parse(yaml).unwrap());
    let presence = Presence::new(details, Options::default(), noon());
    let wanted: Vec<(String, bool)> = presence
        .subscriptions()
        .iter()
        .map(|w| (w.filter.to_string(), w.snapshot))
        .collect();
    assert_eq!(
        wanted,
        [("a/#".to_owned(), false), ("a/+/status".to_owned(), true)]
    );
}
