//! Pods, Jobs and Services of an Instance that is there: what ends comes back, and no faster than it may.

use super::*;

const R1: &str = "plant-a/r1";
const POD: &str = "c-35ced2-0";

fn settled() -> Cluster {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.done();
    cluster
}

/// Plans on until something is written, and returns after how many seconds.
fn wait(cluster: &mut Cluster) -> u64 {
    let mut waited = 0;
    while cluster.round() == 0 {
        let next = cluster
            .next
            .expect("nothing will happen any more")
            .as_secs()
            .max(1);
        waited += next;
        cluster.pass(next);
    }
    waited
}

fn fail(cluster: &mut Cluster, reason: &str) {
    let facts = &mut cluster.pods.get_mut(POD).unwrap().facts;
    facts.phase = Phase::Failed;
    facts.ready = false;
    facts.reason = Some(reason.into());
}

#[test]
fn an_evicted_pod_is_deleted_and_made_again_after_a_while() {
    let mut cluster = settled();
    cluster.pass(3_600);
    fail(
        &mut cluster,
        "Evicted: The node was low on resource: memory",
    );
    cluster.settle();
    assert_eq!(
        cluster.words(),
        [
            "PodEnded: pod c-35ced2-0 has ended (Evicted: The node was low on resource: memory); it is made again in 10s"
        ]
    );
    assert_eq!(cluster.next, Some(Duration::from_secs(10)));
    cluster.pass(9);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.pass(1);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete pod c-35ced2-0", "create pod c-35ced2-0"]
    );
}

#[test]
fn back_off_doubles_up_to_five_minutes_and_begins_anew_after_a_long_life() {
    let mut cluster = settled();
    let mut waits = Vec::new();
    for life in [0, 0, 0, 0, 0, 0, 0, 599, 600, 0] {
        cluster.pass(life);
        fail(&mut cluster, "Error");
        waits.push(wait(&mut cluster));
        cluster.settle();
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300, 10, 20]);
}

#[test]
fn a_deleted_pod_comes_back_at_once_and_later_if_it_is_deleted_again_and_again() {
    let mut cluster = settled();
    let mut waits = Vec::new();
    for life in [0, 1, 1, 1, 600, 1] {
        cluster.pass(life);
        cluster.pods.remove(POD);
        waits.push(wait(&mut cluster));
        cluster.settle();
    }
    assert_eq!(waits, [0, 10, 20, 40, 0, 10]);
}

#[test]
fn a_pod_that_is_being_deleted_is_waited_for() {
    let mut cluster = settled();
    cluster.pods.get_mut(POD).unwrap().deleted_at = Some(cluster.now.wall);
    assert_eq!(cluster.round(), 0);
    cluster.kubelet();
    cluster.settle();
    assert_eq!(cluster.done(), ["create pod c-35ced2-0"]);
}

#[test]
fn pods_of_a_node_that_is_gone_are_made_elsewhere() {
    let mut cluster = settled();
    cluster.nodes = [("n2".into(), NodeView::default())].into();
    assert_eq!(cluster.round(), 0);
    assert_eq!(cluster.next, Some(Duration::from_secs(5)));
    cluster.pass(5);
    cluster.settle();
    assert_eq!(
        cluster.words(),
        [
            "NodeLost: node n1 is gone: pod c-35ced2-0 is deleted without waiting for it, and made again; it may still run there"
        ]
    );
    assert_eq!(
        cluster.done(),
        ["force pod c-35ced2-0", "create pod c-35ced2-0"]
    );
    assert_eq!(cluster.pods[POD].facts.node.as_deref(), Some("n2"));
}

#[test]
fn a_node_that_is_seen_later_than_its_pod_is_not_lost() {
    let mut cluster = settled();
    let nodes = std::mem::take(&mut cluster.nodes);
    cluster.round();
    cluster.pass(4);
    cluster.round();
    cluster.nodes = nodes;
    cluster.settle();
    cluster.pass(60);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn pods_of_a_node_out_of_service_are_made_elsewhere_at_once() {
    let mut cluster = settled();
    cluster.pods.get_mut(POD).unwrap().deleted_at = Some(cluster.now.wall);
    let out = NodeView {
        out_of_service: true,
        ..NodeView::default()
    };
    cluster.nodes = [("n1".into(), out), ("n2".into(), NodeView::default())].into();
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["force pod c-35ced2-0", "create pod c-35ced2-0"]
    );
}

#[test]
fn pods_of_a_node_that_does_not_answer_are_made_elsewhere_after_a_minute_or_what_is_set() {
    for (annotation, seconds) in [(None, 60), (Some("5m"), 300)] {
        let mut cluster = settled();
        if let Some(annotation) = annotation {
            cluster.annotate(names::NODE_LOSS_AFTER, annotation);
        }
        let silent = NodeView {
            unreachable_since: Some(cluster.now.wall),
            ..NodeView::default()
        };
        cluster.nodes = [("n1".into(), silent), ("n2".into(), NodeView::default())].into();
        cluster.pass(30);
        cluster.pods.get_mut(POD).unwrap().deleted_at = Some(cluster.now.wall);
        assert_eq!(wait(&mut cluster), seconds - 30);
        cluster.settle();
        assert_eq!(
            cluster.done(),
            ["force pod c-35ced2-0", "create pod c-35ced2-0"]
        );
    }
}

#[test]
fn pods_stay_where_they_are_while_no_other_node_answers() {
    let mut cluster = settled();
    let silent = NodeView {
        unreachable_since: Some(cluster.now.wall),
        ..NodeView::default()
    };
    cluster.nodes = [("n1".into(), silent), ("n2".into(), silent)].into();
    cluster.pass(3_600);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.nodes.insert("n2".into(), NodeView::default());
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["force pod c-35ced2-0", "create pod c-35ced2-0"]
    );
}

#[test]
fn pods_of_a_device_that_is_gone_do_not_wait_for_a_lost_node() {
    let mut cluster = settled();
    let silent = NodeView {
        unreachable_since: Some(cluster.now.wall),
        ..NodeView::default()
    };
    cluster.nodes = [("n1".into(), silent), ("n2".into(), NodeView::default())].into();
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
    cluster.pass(60);
    cluster.settle();
    assert_eq!(cluster.done(), ["force pod c-35ced2-0"]);
    assert_eq!(cluster.memory.instances.len(), 0);
}

#[test]
fn pods_of_a_former_instance_are_replaced_by_those_of_the_new_one() {
    let mut cluster = settled();
    let instance = cluster.instances.get_mut("c-35ced2").unwrap();
    instance.metadata.uid = Some("another".to_owned());
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete pod c-35ced2-0", "create pod c-35ced2-0"]
    );
}

#[test]
fn a_pod_of_our_name_that_is_not_ours_is_left_alone_and_told_once() {
    let mut cluster = settled();
    cluster.pods.get_mut(POD).unwrap().json["metadata"]["labels"][names::MANAGED_BY] = json!("me");
    cluster.settle();
    cluster.settle();
    assert_eq!(
        cluster.words(),
        ["NameTaken: pod `c-35ced2-0` exists and is not ours"]
    );
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn after_a_start_pods_whose_instance_is_not_seen_yet_are_left_alone() {
    let mut cluster = settled();
    let instances = std::mem::take(&mut cluster.instances);
    cluster.restart();
    cluster.settle();
    assert_eq!(cluster.next, Some(Duration::from_secs(2)));
    cluster.pass(1);
    cluster.instances = instances;
    cluster.settle();
    cluster.pass(10);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.instances.clear();
    cluster.restart();
    cluster.settle();
    cluster.pass(2);
    cluster.settle();
    assert_eq!(cluster.done(), ["delete pod c-35ced2-0"]);
}

#[test]
fn a_pool_and_a_configuration_without_brokers_have_instances_alone() {
    let mut cluster = Cluster::new(json!({
        "brokerSpec": {"brokerPodSpec": pod_spec("one")},
        "instanceServiceSpec": {}, "configurationServiceSpec": {},
    }));
    cluster.annotate(names::POOL, "monitors");
    cluster.list(&[R1]);
    cluster.settle();
    assert_eq!(cluster.done(), ["apply c-35ced2"]);
    cluster.annotate(names::POOL, "");
    cluster.settle();
    let made = [
        "create pod c-35ced2-0",
        "create service c-svc",
        "create service c-35ced2-svc",
    ];
    assert_eq!(cluster.done(), made);
    cluster.annotate(names::POOL, "monitors");
    cluster.settle();
    let gone = [
        "delete pod c-35ced2-0",
        "delete service c-35ced2-svc",
        "delete service c-svc",
    ];
    assert_eq!(cluster.done(), gone);
    cluster.annotate(names::POOL, "");
    cluster.settle();
    assert_eq!(cluster.done(), made);
    cluster.edit(|spec| spec.broker_spec = None);
    cluster.settle();
    assert_eq!(cluster.done(), gone);
    assert_eq!(cluster.names(), (vec!["c-35ced2"], vec![]));
}

#[test]
#[allow(clippy::too_many_lines)]
fn services_follow_their_spec_and_stay_while_pods_are_replaced() {
    let mut cluster = Cluster::new(json!({
        "brokerSpec": {"brokerPodSpec": pod_spec("one")},
        "instanceServiceSpec": {"ports": [{"port": 80}], "selector": {"a": "b"}},
    }));
    cluster.list(&[R1]);
    cluster.settle();
    let service = cluster.services["c-35ced2-svc"].json.clone();
    let digest = service["metadata"]["annotations"][names::TEMPLATE].clone();
    assert_eq!(
        service,
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": "plant",
                "name": "c-35ced2-svc",
                "uid": "uid-4",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {
                    "akri.sh/configuration": "c",
                    "akri.sh/instance": "c-35ced2",
                    "app.kubernetes.io/name": "akri-mqtt-broker",
                    "app.kubernetes.io/instance": "c",
                    "app.kubernetes.io/managed-by": "akri-mqtt-controller",
                },
                "annotations": {"mqtt.akri.sh/template-hash": digest},
                "ownerReferences": [{
                    "apiVersion": "akri.sh/v0", "kind": "Instance", "name": "c-35ced2", "uid": "uid-2",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {"ports": [{"port": 80}], "selector": {"akri.sh/instance": "c-35ced2"}},
        })
    );
    cluster.done();
    cluster.set_image("two");
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete pod c-35ced2-0", "create pod c-35ced2-0"]
    );
    let spec = |value: Value| serde_json::from_value(value).unwrap();
    cluster.edit(|of| of.instance_service_spec = spec(json!({"ports": [{"port": 81}]})));
    cluster.edit(|of| of.configuration_service_spec = spec(json!({"clusterIP": "None"})));
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["replace service c-35ced2-svc", "create service c-svc"]
    );
    let service = &cluster.services["c-svc"].json;
    assert_eq!(
        service["spec"],
        json!({"clusterIP": "None", "selector": {"akri.sh/configuration": "c"}})
    );
    assert_eq!(
        service["metadata"]["ownerReferences"][0]["kind"],
        "Configuration"
    );
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "delete instance c-35ced2",
            "delete pod c-35ced2-0",
            "delete service c-35ced2-svc",
            "delete service c-svc",
        ]
    );
}

#[test]
fn a_service_of_someone_else_is_left_alone_and_one_of_akri_is_made_anew() {
    let mut cluster = Cluster::new(json!({
        "brokerSpec": {"brokerPodSpec": pod_spec("one")}, "configurationServiceSpec": {},
    }));
    let theirs = json!({"metadata": {"name": "c-svc", "uid": "theirs"}});
    let object = Object {
        json: theirs,
        deleting: false,
    };
    cluster.services.insert("c-svc".to_owned(), object);
    cluster.list(&[R1]);
    cluster.settle();
    assert!(
        cluster
            .words()
            .contains(&"NameTaken: Service `c-svc` exists and belongs to another owner".to_owned())
    );
    assert_eq!(cluster.done(), ["apply c-35ced2", "create pod c-35ced2-0"]);
    let owner =
        json!([{"apiVersion": "akri.sh/v0", "kind": "Configuration", "name": "c", "uid": "uid-1"}]);
    let service = &mut cluster.services.get_mut("c-svc").unwrap().json;
    service["metadata"]["ownerReferences"] = owner;
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete service c-svc", "create service c-svc"]
    );
}

#[test]
fn a_job_runs_once_for_each_instance_and_again_only_for_a_new_spec() {
    let job = |image: &str| json!({"template": {"spec": pod_spec(image)}});
    let mut cluster = Cluster::new(json!({"brokerSpec": {"brokerJobSpec": job("one")}}));
    cluster.list(&[R1]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "apply c-35ced2",
            "create job c-35ced2-1-job",
            "annotate c-35ced2 mqtt.akri.sh/job"
        ]
    );
    cluster.jobs.get_mut("c-35ced2-1-job").unwrap().1 = JobState::Complete;
    cluster.settle();
    // Its time to live is over, the controller starts again, something else is edited.
    cluster.jobs.clear();
    cluster.restart();
    cluster.list_anew(&[R1]);
    cluster.edit(|spec| {
        spec.broker_properties
            .insert("A".to_owned(), "1".to_owned());
    });
    cluster.settle();
    assert_eq!(cluster.done(), ["apply c-35ced2"]);
    cluster.edit(|spec| {
        let brokers = spec.broker_spec.as_mut().unwrap();
        brokers.broker_job_spec = serde_json::from_value(job("two")).unwrap();
    });
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "create job c-35ced2-3-job",
            "annotate c-35ced2 mqtt.akri.sh/job"
        ]
    );
    cluster.edit(|spec| spec.broker_spec = None);
    cluster.settle();
    assert_eq!(cluster.done(), ["delete job c-35ced2-3-job"]);
}

#[test]
fn a_job_that_still_runs_gives_way_to_one_of_a_new_spec() {
    let job = |image: &str| json!({"template": {"spec": pod_spec(image)}});
    let mut cluster = Cluster::new(json!({"brokerSpec": {"brokerJobSpec": job("one")}}));
    cluster.list(&[R1]);
    cluster.settle();
    cluster.done();
    cluster.edit(|spec| {
        let brokers = spec.broker_spec.as_mut().unwrap();
        brokers.broker_job_spec = serde_json::from_value(job("two")).unwrap();
    });
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "delete job c-35ced2-1-job",
            "create job c-35ced2-2-job",
            "annotate c-35ced2 mqtt.akri.sh/job",
        ]
    );
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete job c-35ced2-2-job"]
    );
}
