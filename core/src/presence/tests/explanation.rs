//! What people read about a device.

use super::*;

fn sentence(world: &World, device: &str) -> String {
    world.explain(device).unwrap().explanation
}

#[test]
fn a_will_is_explained_with_its_topic_and_the_last_data() {
    let mut world = World::up(
        "presence: {offlineDelay: 0s, availability: [{topic: 'robots/{device}/status'}]}",
    );
    world.data("r1");
    world.pass(Duration::from_millis(3200));
    world.status("r1", "offline");
    world.pass(secs(30));
    assert_eq!(
        sentence(&world, "r1"),
        "offline since 12:00:09: Last Will on robots/r1/status; last data 3.2 s before"
    );
}

#[test]
fn with_a_delay_both_times_are_told() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    assert_eq!(
        sentence(&world, "r1"),
        "online since 12:00:06: announcement on robots/r1/status"
    );
    world.status("r1", "offline");
    world.pass(secs(60));
    assert_eq!(
        sentence(&world, "r1"),
        "offline since 12:00:16: Last Will on robots/r1/status; it struck at 12:00:06"
    );
}

#[test]
fn silence_and_the_state_of_the_server_are_explained() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    assert_eq!(
        sentence(&world, "r1"),
        "online since 12:00:06: data on robots/r1/joints/#"
    );
    world.pass(secs(300));
    assert_eq!(
        sentence(&world, "r1"),
        "leaving since 12:05:06: silent for 5 min; last data 300.0 s before"
    );
    world.cut(Duration::ZERO);
    assert!(sentence(&world, "r1").ends_with("; the MQTT server plant-a cannot be heard"));
    world.reconnect();
    assert!(
        sentence(&world, "r1").ends_with("nobody is believed to be gone before the grace is over")
    );
}

#[test]
fn times_of_another_day_have_a_date() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    world.pass(secs(86_400));
    assert!(sentence(&world, "r1").starts_with("online since 2026-03-01 12:00:06: "));
}

#[test]
fn explanations_are_sorted_and_have_a_stable_form() {
    let mut world = World::up(ANNOUNCED);
    world.retained_status("r2", "online");
    world.retained_status("r1", "offline");
    let all = world.presence.explain_all(world.now);
    assert_eq!(
        serde_json::to_value(&all).unwrap(),
        serde_json::json!([
            {
                "device": "plant-a/r1", "state": "offline", "published": false, "since": "2026-03-01T12:00:06Z",
                "reason": "will_retained", "flapping": false,
                "explanation": "offline since 12:00:06: retained Last Will on robots/r1/status",
            },
            {
                "device": "plant-a/r2", "state": "online", "published": true, "since": "2026-03-01T12:00:06Z",
                "reason": "announced_retained", "flapping": false,
                "explanation": "online since 12:00:06: retained announcement on robots/r2/status",
            },
        ])
    );
}

#[test]
fn transitions_are_counted_by_state_and_reason() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    world.status("r1", "offline");
    world.pass(secs(10));
    let moves: Vec<_> = world.presence.counters().transitions().collect();
    assert_eq!(
        moves,
        [
            (State::Online, Reason::Announced, 1),
            (State::Leaving, Reason::Will, 1),
            (State::Offline, Reason::Will, 1),
        ]
    );
}
