//! The machine of a single device, as a monitoring broker runs it.

use super::*;
use crate::properties::DeviceSpec;

#[test]
fn a_monitoring_broker_runs_the_same_machine_from_the_properties_of_its_device() {
    let details = details(ANNOUNCED);
    let id = DeviceId::new(server(A), "r1").unwrap();
    let spec = DeviceSpec::from_properties(&details.properties(&id)).unwrap();
    let now = noon();
    let mut world = World {
        presence: Presence::for_device(Arc::new(spec), now),
        now,
        answers: true,
    };
    let filters: Vec<String> = world
        .presence
        .subscriptions()
        .iter()
        .map(|w| w.filter.to_string())
        .collect();
    assert_eq!(filters, ["robots/r1/joints/#", "robots/r1/status"]);
    world.connect(A);
    world.subscribe(A);
    world.data("r2");
    assert!(world.published().is_empty(), "another's message");
    world.data("r1");
    assert_eq!(
        world.explain("r1").unwrap().explanation,
        "online since 12:00:00: data on robots/r1/joints/#"
    );
    world.status("r1", "offline");
    world.pass(secs(10));
    assert_eq!(world.state("r1"), Some(State::Offline));
    assert!(sentence_names_the_topic(&world));
}

fn sentence_names_the_topic(world: &World) -> bool {
    let sentence = world.explain("r1").unwrap().explanation;
    sentence.contains("Last Will on robots/r1/status")
}
