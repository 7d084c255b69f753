//! "Outage": each sentence of it, and what follows from it.

use super::*;

/// A world with one device that is announced as online, a minute after the start.
fn with_device(presence: &str) -> World {
    let mut world = World::up(presence);
    world.status("r1", "online");
    world.pass(secs(60));
    world
}

#[test]
fn a_cut_withdraws_nobody_and_a_device_that_talks_again_stays() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.pass(secs(10));
    let revision = world.presence.revision();
    world.cut(Duration::ZERO);
    world.pass(secs(3600));
    world.reconnect();
    world.pass(secs(119));
    world.data("r1");
    world.pass(secs(290));
    assert!(world.is_published("r1"));
    assert_eq!(world.presence.revision(), revision);
}

#[test]
fn wills_of_a_stopping_server_before_the_cut_belong_to_the_outage() {
    let mut world = with_device(ANNOUNCED);
    world.status("r1", "offline");
    world.pass(secs(4));
    world.cut(Duration::ZERO);
    world.pass(secs(60));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.reconnect();
    world.retained_status("r1", "offline");
    world.pass(secs(119));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.status("r1", "online");
    world.pass(secs(1000));
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn a_device_that_died_in_an_outage_goes_at_the_end_of_the_grace() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    world.pass(secs(30));
    world.connect(A);
    world.status("r1", "offline");
    world.subscribe(A);
    world.pass(secs(119));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn a_retained_offline_of_the_snapshot_waits_for_the_end_of_the_grace() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    world.reconnect();
    world.retained_status("r1", "offline");
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(119));
    assert!(world.is_published("r1"));
    world.pass(secs(1));
    assert!(!world.is_published("r1"));
}

#[test]
fn the_snapshot_wins_over_queued_messages() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    world.connect(A);
    world.status("r1", "offline");
    world.subscribe(A);
    world.retained_status("r1", "online");
    assert_eq!(world.state("r1"), Some(State::Online));
    world.pass(secs(1000));
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn an_offline_late_in_the_grace_still_has_its_delay() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    world.reconnect();
    world.pass(secs(115));
    world.status("r1", "offline");
    world.pass(secs(9));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn deadlines_are_frozen_in_an_outage() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.pass(secs(100));
    world.cut(Duration::ZERO);
    world.pass(secs(1000));
    world.reconnect();
    world.pass(secs(120));
    // 100 s had passed, less the 5 s that belong to the outage: 205 are left.
    world.pass(secs(204));
    assert!(world.is_published("r1"));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(10));
    assert!(!world.is_published("r1"));
}

#[test]
fn a_deadline_that_falls_into_an_outage_makes_a_device_leaving() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.pass(secs(100));
    world.cut(Duration::ZERO);
    world.pass(secs(199));
    assert_eq!(world.state("r1"), Some(State::Online));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    assert!(world.is_published("r1"));
    world.reconnect();
    world.data("r1");
    assert_eq!(world.state("r1"), Some(State::Online));
    world.pass(secs(60));
    assert_eq!(
        world.state("r1"),
        Some(State::Online),
        "it was heard in the grace"
    );
}

#[test]
fn a_frozen_server_withdraws_nobody_before_the_freeze_is_noticed() {
    for presence in [PLAIN, ANNOUNCED, "presence: {offlineAfter: 20s}"] {
        let mut world = World::up(presence);
        world.data("r1");
        world.pass(secs(10));
        world.status("r1", "offline");
        world.answers = false;
        world.pass(secs(90));
        assert!(world.is_published("r1"), "{presence}");
        world.cut(secs(90));
        world.answers = true;
        world.pass(secs(10));
        world.reconnect();
        world.pass(secs(100));
        assert!(world.is_published("r1"), "{presence}");
        world.data("r1");
        world.pass(secs(15));
        assert_eq!(world.state("r1"), Some(State::Online), "{presence}");
    }
}

#[test]
fn a_packet_that_is_too_close_to_the_will_proves_nothing() {
    let mut world = with_device(ANNOUNCED);
    world.answers = false;
    world.status("r1", "offline");
    world.pass(secs(4));
    world.presence.on_packet(&server(A), world.now.mono);
    world.pass(secs(100));
    assert_eq!(
        world.state("r1"),
        Some(State::Leaving),
        "the outage may have begun before the will"
    );
    assert_eq!(world.presence.needs_probe(), [server(A)]);
    world.presence.on_packet(&server(A), world.now.mono);
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn with_a_short_delay_a_device_withdrawn_too_soon_comes_back_when_the_outage_is_noticed() {
    let yaml = "presence: {offlineDelay: 0s, availability: [{topic: 'robots/{device}/status'}]}";
    let mut world = with_device(yaml);
    world.status("r2", "online");
    world.status("r2", "offline");
    assert_eq!(world.state("r2"), Some(State::Offline), "at once");
    world.pass(secs(6));
    world.status("r1", "offline");
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.pass(secs(1));
    world.cut(Duration::ZERO);
    assert_eq!(world.state("r1"), Some(State::Leaving));
    assert_eq!(
        world.published(),
        ["plant-a/r1"],
        "r2 went before the outage"
    );
    world.reconnect();
    world.pass(secs(119));
    assert!(world.is_published("r1"));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn a_second_outage_within_the_grace_prolongs_the_first() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    world.reconnect();
    world.status("r1", "offline");
    world.pass(secs(100));
    world.cut(Duration::ZERO);
    world.pass(secs(100));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.reconnect();
    world.pass(secs(119));
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn attempts_to_connect_that_fail_change_nothing() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    for _ in 0..10 {
        world.pass(secs(30));
        world.cut(Duration::ZERO);
    }
    assert_eq!(world.state("r1"), Some(State::Online));
    world.reconnect();
    world.pass(secs(600));
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn a_retained_announcement_that_was_deleted_while_away_removes_its_device_after_the_grace() {
    let mut world = World::new(ANNOUNCED);
    world.connect(A);
    for device in ["r1", "r2", "r3"] {
        world.retained_status(device, "online");
    }
    world.retained_status("r4", "offline");
    world.subscribe(A);
    world.pass(secs(60));
    world.cut(Duration::ZERO);
    world.pass(secs(30));
    world.reconnect();
    world.retained_status("r1", "online");
    world.data("r3");
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Online));
    assert_eq!(world.state("r2"), Some(State::Leaving));
    assert_eq!(
        world.state("r3"),
        Some(State::Online),
        "it has shown itself"
    );
    assert_eq!(world.state("r4"), Some(State::Removed));
    world.pass(secs(118));
    assert!(world.is_published("r2"));
    world.pass(secs(1));
    assert_eq!(world.state("r2"), Some(State::Removed));
}

#[test]
fn a_birth_that_was_never_retained_is_not_missed_in_a_snapshot() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    world.reconnect();
    world.pass(secs(1000));
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn an_outage_of_one_server_does_not_touch_the_devices_of_another() {
    let mut world = World::up(ANNOUNCED);
    world.connect(B);
    world.subscribe(B);
    world.message(B, "robots/r9/status", "online", false);
    world.status("r1", "online");
    world.cut(Duration::ZERO);
    world.message(B, "robots/r9/status", "offline", false);
    world.status("r1", "offline");
    world.pass(secs(10));
    assert_eq!(world.published(), ["plant-a/r1"]);
}

#[test]
fn devices_of_a_server_that_stays_away_are_kept_or_withdrawn_as_the_rule_says() {
    let mut world = World::up("presence: {serverLost: 10m}");
    world.data("r1");
    world.pass(secs(10));
    world.cut(secs(10));
    world.pass(secs(589));
    assert!(world.is_published("r1"));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Offline));
    assert_eq!(world.explain("r1").unwrap().reason, Reason::ServerLost);
    world.reconnect();
    world.cut(Duration::ZERO);
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.reconnect();
    world.data("r1");
    assert_eq!(world.state("r1"), Some(State::Online));
}

#[test]
fn a_server_that_came_back_in_time_is_not_lost() {
    let mut world = World::up("presence: {serverLost: 1m, offlineAfter: never}");
    world.data("r1");
    world.cut(Duration::ZERO);
    world.pass(secs(59));
    world.reconnect();
    world.pass(secs(1000));
    assert!(world.is_published("r1"));
}

#[test]
fn the_wall_clock_may_jump() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.now.wall = "2031-01-01T00:00:00Z".parse().unwrap();
    world.pass(secs(299));
    assert_eq!(world.state("r1"), Some(State::Online));
    world.now.wall = "1999-01-01T00:00:00Z".parse().unwrap();
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Leaving));
}

#[test]
fn a_subscription_that_joins_later_does_not_prolong_the_grace() {
    let mut world = with_device(ANNOUNCED);
    world.cut(Duration::ZERO);
    world.reconnect();
    world.status("r1", "offline");
    world.pass(secs(60));
    world.subscribe(A);
    world.pass(secs(60));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn an_outage_right_after_another_freezes_no_time_twice() {
    let mut world = World::up(PLAIN);
    world.data("r1");
    world.pass(secs(100));
    for _ in 0..2 {
        world.cut(Duration::ZERO);
        world.reconnect();
        world.pass(secs(121));
    }
    // Of the 300 s, 95 had passed before the first outage and one has since the second.
    world.pass(secs(203));
    assert_eq!(world.state("r1"), Some(State::Online));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Leaving));
}

#[test]
fn a_will_at_the_end_of_one_outage_can_belong_to_the_next() {
    let yaml = "presence: {offlineDelay: 0s, availability: [{topic: 'robots/{device}/status'}]}";
    let mut world = with_device(yaml);
    world.cut(Duration::ZERO);
    world.reconnect();
    world.pass(secs(118));
    world.status("r1", "offline");
    world.pass(secs(2));
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.pass(secs(1));
    world.cut(Duration::ZERO);
    assert_eq!(world.state("r1"), Some(State::Leaving));
}

#[test]
fn a_device_withdrawn_because_its_server_was_lost_does_not_come_back_with_the_next_outage() {
    let mut world = World::up("presence: {serverLost: 10m, reconnectGrace: 0s}");
    world.data("r1");
    world.cut(Duration::ZERO);
    world.pass(secs(600));
    assert_eq!(world.state("r1"), Some(State::Offline));
    world.reconnect();
    world.pass(secs(1));
    world.cut(Duration::ZERO);
    assert_eq!(world.state("r1"), Some(State::Offline));
}
