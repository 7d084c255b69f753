//! "Flapping" as the machine shows it; its arithmetic is tested where it stands.

use super::*;

const QUICK: &str =
    "presence: {offlineDelay: 0s, availability: [{topic: 'robots/{device}/status'}]}";

/// How long `r1` is published after a will.
fn lasts(world: &mut World) -> u64 {
    world.status("r1", "online");
    world.status("r1", "offline");
    (0..)
        .find(|_| {
            let gone = !world.is_published("r1");
            if !gone {
                world.pass(secs(1));
            }
            gone
        })
        .unwrap()
}

#[test]
fn a_device_that_comes_and_goes_is_believed_to_be_gone_later_and_later() {
    let mut world = World::up(QUICK);
    let delays: Vec<u64> = (0..14).map(|_| lasts(&mut world)).collect();
    // Each round is two transitions; the delay is taken when the odd one of a round has come.
    assert_eq!(delays, [0, 0, 2, 2, 2, 4, 4, 8, 8, 8, 16, 16, 16, 16]);
    assert_eq!(world.presence.counters().flapping, 1);
    assert!(world.explain("r1").unwrap().flapping);
}

#[test]
fn after_ten_quiet_minutes_the_delay_is_back() {
    let mut world = World::up(QUICK);
    for _ in 0..14 {
        lasts(&mut world);
    }
    world.pass(secs(599));
    assert_eq!(world.presence.counters().flapping, 1);
    world.pass(secs(1));
    assert_eq!(world.presence.counters().flapping, 0);
    assert_eq!(lasts(&mut world), 0);
}

#[test]
fn what_nobody_was_told_is_no_transition() {
    let mut world = World::up(ANNOUNCED);
    for _ in 0..100 {
        world.status("r1", "online");
        world.pass(secs(1));
        world.status("r1", "offline");
        world.pass(secs(1));
    }
    assert_eq!(world.presence.counters().flapping, 0);
    assert_eq!(world.presence.revision(), 1);
}
