//! How long Instances that no list names are held.

use super::devices::*;
use super::*;

#[test]
fn what_is_there_when_a_stream_begins_is_held_for_a_while() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1, R2]);
    cluster.settle();
    cluster.restart();
    cluster.done();
    cluster.list_anew(&[R2]);
    cluster.settle();
    assert_eq!(cluster.next, Some(Duration::from_secs(300)));
    assert_eq!(
        cluster.words(),
        [
            "DevicesHeld: 1 Instance not listed since the handler's stream began, kept for 5m more (mqtt.akri.sh/hold): c-35ced2"
        ]
    );
    cluster.pass(299);
    cluster.settle();
    assert_eq!(cluster.words(), Vec::<String>::new());
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.pass(1);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
}

#[test]
fn hold_counts_from_the_return_of_the_devices_own_server() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1, "plant-b/r9"]);
    cluster.settle();
    cluster.restart();
    cluster.servers(
        vec![server("plant-a", Some("refused")), server("plant-b", None)],
        None,
    );
    cluster.list_anew(&[]);
    cluster.settle();
    cluster.done();
    cluster.pass(300);
    cluster.settle();
    let other = name("plant-b/r9");
    assert_eq!(
        cluster.done(),
        [
            format!("delete instance {other}"),
            format!("delete pod {other}-0"),
        ]
    );
    cluster.pass(3_600);
    cluster.servers(vec![server("plant-a", None), server("plant-b", None)], None);
    cluster.settle();
    cluster.pass(299);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.pass(1);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
}

#[test]
fn hold_is_as_long_as_a_device_may_be_silent_unless_it_is_set() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.servers(
        vec![server("plant-a", None)],
        Some(Duration::from_secs(3_600)),
    );
    cluster.list_anew(&[]);
    cluster.settle();
    assert_eq!(cluster.next, Some(Duration::from_secs(3_600)));
    cluster.annotate(names::HOLD, "1m");
    cluster.settle();
    assert_eq!(cluster.next, Some(Duration::from_secs(60)));
}

#[test]
fn stream_that_begins_anew_does_not_begin_a_hold_anew() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1, R2]);
    cluster.settle();
    cluster.list_anew(&[R2]);
    cluster.settle();
    cluster.pass(200);
    cluster.list_anew(&[R2]);
    cluster.settle();
    cluster.done();
    cluster.pass(100);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
}

#[test]
fn what_was_listed_once_in_a_stream_is_not_held_any_more() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1, R2]);
    cluster.settle();
    cluster.list_anew(&[]);
    cluster.settle();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.done();
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
    assert_eq!(cluster.names().0, [name(R2)]);
}

#[test]
fn a_hold_of_zero_holds_nothing_and_an_edited_hold_counts_at_once() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.list_anew(&[]);
    cluster.settle();
    cluster.done();
    cluster.annotate(names::HOLD, "0s");
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
}

#[test]
fn instances_of_a_former_handler_are_not_held() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.done();
    cluster.edit(|spec| spec.discovery_handler.name = "onvif".to_owned());
    // Its list stands until there is one of the new handler.
    cluster.pass(600);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.list_anew(&["camera"]);
    cluster.settle();
    let camera = name("camera");
    assert_eq!(
        cluster.done(),
        [
            "delete instance c-35ced2".to_owned(),
            format!("apply {camera}"),
            "delete pod c-35ced2-0".to_owned(),
            format!("create pod {camera}-0"),
        ]
    );
}
