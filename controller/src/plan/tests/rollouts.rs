//! New templates: one pod at a time, a few devices at a time, never all down, and none for nothing.

use super::*;
use crate::plan::naming;

/// Plans without letting time or kubelets do anything, until nothing is written any more.
fn plan(cluster: &mut Cluster) -> Vec<String> {
    while cluster.round() > 0 {}
    cluster.done()
}

fn image(cluster: &Cluster, pod: &str) -> String {
    let spec = &cluster.pods[pod].json["spec"];
    spec["containers"][0]["image"].as_str().unwrap().to_owned()
}

fn with_capacity(capacity: u32) -> Cluster {
    let mut cluster = Cluster::with_pods();
    cluster.edit(|spec| spec.capacity = capacity);
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    cluster.done();
    cluster
}

fn devices(cluster: &mut Cluster, count: usize) {
    let ids: Vec<String> = (0..count).map(|n| format!("plant-a/d{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    cluster.list(&ids);
    cluster.settle();
    cluster.done();
}

#[test]
fn pods_of_an_instance_are_replaced_one_after_the_other() {
    let mut cluster = with_capacity(2);
    cluster.set_image("two");
    assert_eq!(plan(&mut cluster), ["delete pod c-35ced2-0"]);
    cluster.kubelet();
    assert_eq!(plan(&mut cluster), ["create pod c-35ced2-0"]);
    assert_eq!(plan(&mut cluster), Vec::<String>::new());
    cluster.kubelet();
    assert_eq!(plan(&mut cluster), ["delete pod c-35ced2-1"]);
    cluster.settle();
    assert_eq!(image(&cluster, "c-35ced2-0"), "two");
    assert_eq!(image(&cluster, "c-35ced2-1"), "two");
    let annotations = &cluster.pods["c-35ced2-1"].json["metadata"]["annotations"];
    assert_eq!(annotations[names::REPLACEMENT], "true");
}

#[test]
fn a_broken_template_stays_at_the_first_pod_until_it_is_mended() {
    let mut cluster = with_capacity(3);
    cluster.set_image("broken");
    for _ in 0..20 {
        cluster.settle();
        cluster.pass(600);
    }
    assert_eq!(
        cluster.done(),
        ["delete pod c-35ced2-0", "create pod c-35ced2-0"]
    );
    cluster.restart();
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.set_image("three");
    cluster.settle();
    let replaced = |n: u32| {
        [
            format!("delete pod c-35ced2-{n}"),
            format!("create pod c-35ced2-{n}"),
        ]
    };
    assert_eq!(
        cluster.done(),
        [replaced(0), replaced(1), replaced(2)].concat()
    );
}

#[test]
fn a_broken_template_takes_down_a_tenth_of_the_devices_and_no_more_after_restarts() {
    let mut cluster = Cluster::with_pods();
    devices(&mut cluster, 30);
    cluster.set_image("broken");
    cluster.settle();
    let ready = |cluster: &Cluster| cluster.pods.values().filter(|pod| pod.facts.ready).count();
    assert_eq!(ready(&cluster), 27);
    for reversed in [true, false, true] {
        cluster.reversed = reversed;
        cluster.restart();
        cluster.pass(600);
        cluster.settle();
        assert_eq!(ready(&cluster), 27);
    }
    cluster.done();
    cluster.set_image("three");
    cluster.settle();
    assert_eq!(cluster.done().len(), 60);
    assert_eq!(ready(&cluster), 30);
}

#[test]
fn a_rollout_over_many_devices_is_told_once() {
    let mut cluster = Cluster::with_pods();
    devices(&mut cluster, 30);
    cluster.set_image("two");
    cluster.settle();
    assert_eq!(
        cluster.words(),
        [
            "Rollout: pods are replaced, since what they are made from has changed; up to 3 devices at a time wait for theirs to be ready"
        ]
    );
    assert_eq!(cluster.done().len(), 60);
}

#[test]
fn pods_that_do_not_serve_anyway_do_not_hold_up_a_rollout() {
    let mut cluster = Cluster::with_pods();
    devices(&mut cluster, 4);
    // Two devices whose pods never get ready, whatever the template.
    let all: Vec<String> = cluster.pods.keys().cloned().collect();
    for name in &all[..2] {
        cluster.pods.get_mut(name).unwrap().facts.ready = false;
    }
    cluster.set_image("two");
    for _ in 0..100 {
        cluster.round();
        cluster.kubelet();
        for name in &all[..2] {
            if let Some(pod) = cluster.pods.get_mut(name) {
                pod.facts.ready = false;
            }
        }
    }
    let images: Vec<String> = all.iter().map(|name| image(&cluster, name)).collect();
    assert_eq!(images, ["two"; 4]);
}

#[test]
fn missing_pod_does_not_hold_up_the_mending_of_another() {
    let mut cluster = with_capacity(2);
    // A quota has no room for the second pod while the first one asks for too much.
    cluster.pods.get_mut("c-35ced2-0").unwrap().facts.ready = false;
    for _ in 0..4 {
        cluster.pods.remove("c-35ced2-1");
        plan(&mut cluster);
    }
    assert!(!cluster.pods.contains_key("c-35ced2-1"));
    cluster.set_image("two");
    assert_eq!(plan(&mut cluster), ["delete pod c-35ced2-0"]);
}

#[test]
fn pod_that_has_served_does_not_hold_up_the_next_rollout_after_a_restart() {
    let mut cluster = Cluster::with_pods();
    devices(&mut cluster, 4);
    cluster.set_image("two");
    cluster.settle();
    // One of them is unwell today, for a reason of its own.
    let all: Vec<String> = cluster.pods.keys().cloned().collect();
    cluster.pods.get_mut(&all[0]).unwrap().facts.ready = false;
    cluster.restart();
    cluster.set_image("three");
    for _ in 0..100 {
        cluster.round();
        cluster.kubelet();
        if let Some(pod) = cluster.pods.get_mut(&all[0]) {
            pod.facts.ready = false;
            pod.facts.served = pod.json["spec"]["containers"][0]["image"] == "two";
        }
    }
    let images: Vec<String> = all.iter().map(|name| image(&cluster, name)).collect();
    assert_eq!(images, ["three"; 4]);
}

#[test]
fn an_edit_that_comes_while_another_is_rolled_out_goes_on_from_there() {
    let mut cluster = with_capacity(2);
    cluster.set_image("two");
    plan(&mut cluster);
    cluster.set_image("three");
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "create pod c-35ced2-0",
            "delete pod c-35ced2-1",
            "create pod c-35ced2-1"
        ]
    );
}

#[test]
fn an_order_of_keys_that_differs_and_a_digest_of_a_later_release_replace_nothing() {
    let mut cluster = with_capacity(1);
    cluster.edit(|spec| {
        let brokers = spec.broker_spec.as_mut().unwrap();
        let text = r#"{"containers": [{"image": "one", "name": "monitor"}]}"#;
        brokers.broker_pod_spec = serde_json::from_str(text).unwrap();
    });
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    let pod = cluster.pods.get_mut("c-35ced2-0").unwrap();
    pod.json["metadata"]["annotations"][names::TEMPLATE] = json!("2-0123");
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn what_a_pod_is_made_from_has_the_same_digest_in_every_release() {
    let cluster = with_capacity(1);
    let annotations = &cluster.pods["c-35ced2-0"].json["metadata"]["annotations"];
    assert_eq!(
        *annotations,
        json!({"mqtt.akri.sh/template-hash": "1-43b1ab37938274ec"})
    );
    assert_eq!(naming::suffix("c", "c-35ced2"), "35CED2");
}

#[test]
fn a_template_that_is_mended_does_not_wait_for_back_off() {
    let mut cluster = with_capacity(1);
    for _ in 0..6 {
        let facts = &mut cluster.pods.get_mut("c-35ced2-0").unwrap().facts;
        facts.phase = Phase::Failed;
        facts.ready = false;
        cluster.settle();
        if let Some(next) = cluster.next {
            cluster.pass(next.as_secs() - 1);
        }
        if cluster.next.is_some_and(|next| next.as_secs() >= 160) {
            break;
        }
        cluster.pass(1);
        cluster.settle();
    }
    cluster.done();
    cluster.set_image("two");
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete pod c-35ced2-0", "create pod c-35ced2-0"]
    );
}
