//! Instances that this Configuration did not make, or makes no more: Akri's, others', and those of a Configuration that has gone.

use super::devices::*;
use super::*;

/// Makes an Instance one that Akri's Agent made.
fn akris(cluster: &mut Cluster, name: &str) {
    let instance = cluster.instances.get_mut(name).unwrap();
    instance.metadata.labels = None;
    instance.metadata.annotations = None;
    instance.spec.nodes = ["n1".to_owned()].into();
    instance.spec.device_usage = [(format!("{name}-0"), "n1".to_owned())].into();
    cluster.pods.clear();
}

#[test]
fn instances_of_akri_are_made_anew_when_their_devices_are_listed() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1, R2]);
    cluster.settle();
    cluster.restart();
    for id in [R1, R2] {
        akris(&mut cluster, &name(id));
    }
    cluster.done();
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.list_anew(&[R1]);
    cluster.settle();
    assert_eq!(
        cluster.words(),
        [
            "TakenOver: 1 Instance of Akri made anew without nodes: c-35ced2".to_owned(),
            format!(
                "DevicesHeld: 1 Instance not listed since the handler's stream began, kept for 5m more (mqtt.akri.sh/hold): {}",
                name(R2)
            ),
            "DevicesFound: 1 device found: plant-a/r1".to_owned(),
        ]
    );
    assert_eq!(
        cluster.done(),
        [
            "delete instance c-35ced2",
            "apply c-35ced2",
            "create pod c-35ced2-0"
        ]
    );
    cluster.pass(300);
    cluster.settle();
    assert_eq!(cluster.done(), [format!("delete instance {}", name(R2))]);
}

#[test]
fn instances_of_others_are_left_alone() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    akris(&mut cluster, R1_NAME);
    let owners = &mut cluster
        .instances
        .get_mut(R1_NAME)
        .unwrap()
        .metadata
        .owner_references;
    owners.as_mut().unwrap()[0].uid = "someone".to_owned();
    cluster.restart();
    cluster.done();
    cluster.list_anew(&[R1]);
    cluster.settle();
    cluster.pass(600);
    cluster.settle();
    assert_eq!(
        cluster.words(),
        ["NameTaken: 1 device refused: the Instance `c-35ced2` belongs to another owner"]
    );
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn instances_of_a_former_configuration_of_the_same_name_go_first() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.done();
    cluster.configure(
        "c",
        json!({"brokerSpec": {"brokerPodSpec": pod_spec("one")}}),
    );
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "delete instance c-35ced2",
            "delete pod c-35ced2-0",
            "apply c-35ced2",
            "create pod c-35ced2-0",
        ]
    );
}

#[test]
fn a_deleted_configuration_takes_everything_with_it() {
    for terminating in [false, true] {
        let mut cluster = Cluster::new(json!({
            "brokerSpec": {"brokerPodSpec": pod_spec("one"), "brokerJobSpec": {}},
            "instanceServiceSpec": {}, "configurationServiceSpec": {},
        }));
        cluster.list(&[R1]);
        cluster.settle();
        cluster.done();
        if terminating {
            let meta = &mut cluster.configuration.as_mut().unwrap().metadata;
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(cluster.now.wall);
            meta.deletion_timestamp = Some(now);
        } else {
            cluster.configuration = None;
        }
        cluster.settle();
        assert_eq!(
            cluster.done(),
            [
                "delete instance c-35ced2",
                "delete service c-svc",
                "delete pod c-35ced2-0",
                "delete job c-35ced2-1-job",
                "delete service c-35ced2-svc",
            ]
        );
        if !terminating {
            assert_eq!(cluster.memory.configurations.len(), 0);
        }
        assert_eq!(cluster.memory.instances.len(), 0);
    }
}

#[test]
fn after_a_start_a_configuration_that_is_not_seen_yet_is_not_believed_to_be_gone() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    let configuration = cluster.configuration.take();
    cluster.restart();
    cluster.done();
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    assert_eq!(cluster.next, Some(Duration::from_secs(2)));
    cluster.pass(1);
    cluster.configuration = configuration;
    cluster.settle();
    cluster.pass(5);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.configuration = None;
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
}
