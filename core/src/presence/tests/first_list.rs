//! "First list" and the roster: when a list may be given out, and what a restart keeps.

use super::*;

#[test]
fn a_server_has_settled_one_second_after_its_suback_without_a_retained_message() {
    let mut world = World::new(ANNOUNCED);
    world.connect(B);
    world.subscribe(B);
    world.connect(A);
    world.pass(secs(4));
    assert!(!world.presence.is_settled(), "plant-a has no SUBACK yet");
    world.subscribe(A);
    for n in 0..3 {
        world.pass(Duration::from_millis(900));
        world.retained_status(&format!("r{n}"), "online");
        assert!(!world.presence.is_settled());
    }
    world.pass(Duration::from_millis(999));
    assert!(!world.presence.is_settled());
    world.pass(Duration::from_millis(1));
    assert!(world.presence.is_settled());
}

#[test]
fn a_snapshot_that_does_not_end_holds_the_list_back_for_five_seconds() {
    let mut world = World::new(ANNOUNCED);
    world.cut_b();
    world.connect(A);
    world.subscribe(A);
    for n in 0..49 {
        world.pass(Duration::from_millis(100));
        world.retained_status(&format!("r{n}"), "online");
    }
    assert!(!world.presence.is_settled());
    world.pass(Duration::from_millis(100));
    assert!(world.presence.is_settled());
}

#[test]
fn a_server_that_cannot_be_reached_does_not_hold_back_the_others() {
    let mut world = World::new(ANNOUNCED);
    world.connect(A);
    world.subscribe(A);
    world.pass(secs(1));
    assert!(!world.presence.is_settled());
    world.cut_b();
    assert!(
        world.presence.is_settled(),
        "plant-b refused the connection"
    );

    let mut world = World::new(ANNOUNCED);
    world.pass(secs(5));
    assert!(world.presence.is_settled(), "nobody answers");
}

#[test]
fn a_restored_roster_is_published_at_once_as_unconfirmed() {
    let mut before = World::up(ANNOUNCED);
    for device in ["r2", "r1"] {
        before.status(device, "online");
    }
    before.retained_status("r3", "offline");
    let text = serde_json::to_string(&before.presence.roster()).unwrap();
    assert_eq!(
        text,
        r#"{"version":1,"devices":[{"id":"plant-a/r1","order":1,"state":"online"},{"id":"plant-a/r2","order":0,"state":"online"}]}"#
    );
    let mut world = World::new(ANNOUNCED);
    world
        .presence
        .restore(&serde_json::from_str(&text).unwrap(), world.now);
    assert_eq!(world.published(), ["plant-a/r1", "plant-a/r2"]);
    assert_eq!(world.state("r1"), Some(State::Unconfirmed));
    assert_eq!(world.presence.revision(), 2);
}

#[test]
fn restored_devices_stay_while_the_server_is_away_and_go_if_nothing_confirms_them() {
    let mut world = restored(ANNOUNCED);
    world.pass(secs(86_400));
    assert_eq!(world.published(), ["plant-a/r1", "plant-a/r2"]);
    world.connect(A);
    world.subscribe(A);
    world.retained_status("r1", "online");
    assert_eq!(world.state("r1"), Some(State::Online));
    world.pass(secs(419));
    assert_eq!(world.state("r2"), Some(State::Unconfirmed));
    world.pass(secs(1));
    assert_eq!(
        world.published(),
        ["plant-a/r1"],
        "grace and five minutes are over"
    );
}

#[test]
fn a_restored_device_that_died_while_we_were_away_goes_after_the_grace() {
    let mut world = restored(ANNOUNCED);
    world.connect(A);
    world.subscribe(A);
    world.retained_status("r1", "offline");
    assert_eq!(world.state("r1"), Some(State::Leaving));
    world.pass(secs(119));
    assert!(world.is_published("r1"));
    world.pass(secs(1));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn without_a_roster_the_first_connection_is_no_outage() {
    let mut world = World::up(ANNOUNCED);
    world.status("r1", "online");
    world.status("r1", "offline");
    world.pass(secs(10));
    assert_eq!(world.state("r1"), Some(State::Offline));
}

#[test]
fn the_order_of_first_appearance_survives() {
    let mut world = restored(ANNOUNCED);
    world.connect(A);
    world.subscribe(A);
    world.status("r0", "online");
    let orders: Vec<(String, u64)> = world
        .presence
        .roster()
        .devices
        .iter()
        .map(|entry| (entry.id.name().to_owned(), entry.order))
        .collect();
    assert_eq!(
        orders,
        [
            ("r0".to_owned(), 8),
            ("r1".to_owned(), 3),
            ("r2".to_owned(), 7)
        ]
    );
}

#[test]
fn a_roster_of_another_version_and_devices_of_other_servers_are_left_out() {
    let mut world = World::new(ANNOUNCED);
    let mut roster = roster();
    roster.version = 2;
    world.presence.restore(&roster, world.now);
    assert!(world.published().is_empty());
    roster.version = Roster::VERSION;
    roster.devices[0].id = DeviceId::parse("plant-z/r1").unwrap();
    roster.devices[1].state = State::Offline;
    world.presence.restore(&roster, world.now);
    assert!(world.published().is_empty());
}

fn roster() -> Roster {
    let entry = |name: &str, order| RosterEntry {
        id: DeviceId::new(server(A), name).unwrap(),
        order,
        state: State::Online,
        convention: None,
    };
    Roster {
        version: Roster::VERSION,
        devices: vec![entry("r1", 3), entry("r2", 7)],
    }
}

fn restored(presence: &str) -> World {
    let mut world = World::new(presence);
    world.presence.restore(&roster(), world.now);
    world
}

impl World {
    fn cut_b(&mut self) {
        self.presence
            .on_disconnected(&server(B), self.now.mono, self.now);
    }
}
