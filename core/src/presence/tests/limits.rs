//! `maxDevices`, what is remembered, and that nothing grows with the number of messages.

use super::*;

fn small(max: usize, presence: &str) -> World {
    World::of(
        details(&format!("limits: {{maxDevices: {max}}}\n{presence}")),
        noon(),
    )
}

fn small_up(max: usize, presence: &str) -> World {
    let mut world = small(max, presence);
    world.connect(A);
    world.subscribe(A);
    world
}

const WORDS: &str = "presence: {offlineDelay: 0s, offlineAfter: 5m, availability: [{topic: 'robots/{device}/status'}]}";

#[test]
fn newcomers_are_refused_in_order_of_first_appearance_and_nobody_is_evicted() {
    let mut world = small_up(2, PLAIN);
    for device in ["r9", "r8", "r1", "r2", "r9", "r1"] {
        world.data(device);
    }
    assert_eq!(world.published(), ["plant-a/r8", "plant-a/r9"]);
    let counters = world.presence.counters();
    assert_eq!((counters.refused, counters.refusals), (2, 2));
    let why = world.explain("r1").unwrap();
    assert!(!why.published);
    assert_eq!(why.state, State::Online);
    assert!(
        why.explanation.contains("limits.maxDevices"),
        "{}",
        why.explanation
    );
}

#[test]
fn a_freed_place_goes_to_the_next_refused_device_when_it_next_shows_evidence() {
    let mut world = small_up(1, WORDS);
    for device in ["a", "b", "c"] {
        world.status(device, "online");
    }
    world.status("a", "offline");
    assert!(world.published().is_empty());
    world.data("c");
    world.data("d");
    assert!(world.published().is_empty(), "the place is kept for b");
    world.data("b");
    assert_eq!(world.published(), ["plant-a/b"]);
    world.data("a");
    world.data("c");
    assert_eq!(world.published(), ["plant-a/b"], "a has lost its place");
}

#[test]
fn a_kept_place_goes_on_when_the_invited_device_is_gone() {
    let mut world = small_up(1, WORDS);
    for device in ["a", "b", "c"] {
        world.status(device, "online");
    }
    world.status("a", "offline");
    world.pass(secs(200));
    world.data("c");
    world.pass(secs(101));
    assert_eq!(world.state("b"), Some(State::Offline), "it was silent");
    world.data("c");
    assert_eq!(world.published(), ["plant-a/c"]);
}

#[test]
fn where_silence_means_nothing_a_freed_place_is_taken_at_once() {
    let mut world = small_up(
        1,
        "presence: {offlineDelay: 0s, availability: [{topic: 'robots/{device}/status'}]}",
    );
    for device in ["a", "b"] {
        world.status(device, "online");
    }
    world.status("a", "offline");
    assert_eq!(world.published(), ["plant-a/b"]);
}

#[test]
fn a_refused_device_that_goes_is_not_waited_for() {
    let mut world = small_up(1, WORDS);
    for device in ["a", "b", "c"] {
        world.status(device, "online");
    }
    world.status("b", "offline");
    assert_eq!(world.presence.counters().refused, 1);
    world.status("a", "offline");
    world.data("c");
    assert_eq!(world.published(), ["plant-a/c"]);
}

#[test]
fn restored_devices_are_in_whatever_the_limit_is_now() {
    let mut before = World::up(PLAIN);
    for device in ["a", "b", "c"] {
        before.data(device);
    }
    let mut world = small(1, "presence: {offlineDelay: 0s, reconnectGrace: 0s}");
    world.presence.restore(&before.presence.roster(), world.now);
    world.connect(A);
    world.subscribe(A);
    world.data("d");
    assert_eq!(world.presence.published().len(), 3);
    world.pass(secs(100));
    world.data("c");
    world.data("d");
    world.pass(secs(250));
    assert_eq!(
        world.published(),
        ["plant-a/c"],
        "a and b went, and c is as many as there may be"
    );
}

#[test]
fn a_withdrawn_device_comes_back_in_an_outage_only_if_its_place_is_still_free() {
    let mut world = small_up(1, WORDS);
    world.status("a", "online");
    world.status("a", "offline");
    world.status("b", "online");
    world.cut(Duration::ZERO);
    assert_eq!(world.published(), ["plant-a/b"]);
}

#[test]
fn devices_that_are_gone_are_remembered_up_to_a_limit() {
    let now = noon();
    let options = Options { remembered: 3 };
    let mut world = World {
        presence: Presence::new(details(ANNOUNCED), options, now),
        now,
        answers: true,
    };
    for n in 0..10 {
        world.retained_status(&format!("r{n}"), "offline");
        world.pass(secs(1));
    }
    let known: Vec<String> = world
        .presence
        .explain_all(world.now)
        .into_iter()
        .map(|e| e.device)
        .collect();
    assert_eq!(known, ["plant-a/r7", "plant-a/r8", "plant-a/r9"]);
    let devices: Vec<_> = world.presence.counters().devices().collect();
    assert_eq!(devices, [(State::Offline, 3)]);
}

#[test]
fn refused_devices_are_remembered_up_to_a_limit() {
    let now = noon();
    let details = details("limits: {maxDevices: 1}");
    let mut world = World {
        presence: Presence::new(details, Options { remembered: 2 }, now),
        now,
        answers: true,
    };
    for n in 0..10 {
        world.data(&format!("r{n}"));
    }
    assert_eq!(world.presence.explain_all(world.now).len(), 3);
    assert_eq!(world.ignored(Ignored::Full), 7);
}

#[test]
fn timers_do_not_grow_with_the_number_of_messages() {
    let mut world = World::up(
        "presence: {offlineDelay: 1s, offlineAfter: 1h, availability: [{topic: 'robots/{device}/status'}]}",
    );
    for _ in 0..20_000 {
        world.status("r1", "online");
        world.status("r1", "offline");
        world.pass(secs(1));
    }
    assert!(
        world.presence.timers.len() < 3000,
        "{}",
        world.presence.timers.len()
    );
}
