//! From lists to Instances: holds, collisions, take-overs.

use super::*;
use crate::plan::naming;

pub const R1: &str = "plant-a/r1";
pub const R2: &str = "plant-a/r2";
pub const R1_NAME: &str = "c-35ced2";

pub(super) fn name(id: &str) -> String {
    naming::short("c", id)
}

/// Two devices with the same short name, by precedence.
fn colliding() -> (String, String) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for n in 0.. {
        let id = format!("plant-a/d{n}");
        if let Some(other) = seen.insert(name(&id), id.clone()) {
            let mut both = [id, other];
            both.sort_by_key(|id| naming::precedence(id));
            let [first, second] = both;
            return (first, second);
        }
    }
    unreachable!()
}

#[test]
fn a_listed_device_becomes_an_instance_and_a_pod() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    assert_eq!(
        cluster.words(),
        ["DevicesFound: 1 device found: plant-a/r1"]
    );
    assert_eq!(cluster.done(), ["apply c-35ced2", "create pod c-35ced2-0"]);
    let instance = serde_json::to_value(&cluster.instances[R1_NAME]).unwrap();
    assert_eq!(
        instance,
        json!({
            "apiVersion": "akri.sh/v0",
            "kind": "Instance",
            "metadata": {
                "namespace": "plant",
                "name": "c-35ced2",
                "uid": "uid-2",
                "labels": {
                    "akri.sh/configuration": "c",
                    "akri.sh/instance": "c-35ced2",
                    "app.kubernetes.io/name": "akri-mqtt-broker",
                    "app.kubernetes.io/instance": "c",
                    "app.kubernetes.io/managed-by": "akri-mqtt-controller",
                },
                "annotations": {
                    "mqtt.akri.sh/device-id": "plant-a/r1",
                    "mqtt.akri.sh/handler": "mqtt",
                },
                "ownerReferences": [{
                    "apiVersion": "akri.sh/v0", "kind": "Configuration", "name": "c", "uid": "uid-1",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "configurationName": "c",
                "cdiName": "akri.sh/c=35ced2",
                "capacity": 1,
                "brokerProperties": {"MQTT_DEVICE_ID": "plant-a/r1"},
                "shared": true,
                "nodes": [],
                "deviceUsage": {},
            },
        })
    );
}

#[test]
fn a_device_that_leaves_takes_everything_with_it_and_comes_back_the_same() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1, R2]);
    cluster.settle();
    cluster.done();
    cluster.list(&[R2]);
    cluster.settle();
    assert_eq!(
        cluster.words(),
        ["DevicesGone: 1 device no longer listed by handler `mqtt`: plant-a/r1"]
    );
    assert_eq!(
        cluster.done(),
        ["delete instance c-35ced2", "delete pod c-35ced2-0"]
    );
    cluster.list(&[R1, R2]);
    cluster.settle();
    assert_eq!(cluster.done(), ["apply c-35ced2", "create pod c-35ced2-0"]);
}

#[test]
fn nothing_is_deleted_before_the_first_list() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1, R2]);
    cluster.settle();
    cluster.restart();
    cluster.done();
    for state in [
        DiscoveryState::NoHandler,
        DiscoveryState::Connecting,
        DiscoveryState::Open,
        DiscoveryState::NotShared,
        DiscoveryState::Failed {
            reason: "no".into(),
        },
    ] {
        cluster.finding.as_mut().unwrap().state = state;
        cluster.pass(3_600);
        cluster.settle();
        assert_eq!(cluster.done(), Vec::<String>::new());
    }
    cluster.finding = None;
    cluster.pass(3_600);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn properties_and_capacity_of_the_configuration_reach_instances_and_nothing_else_is_touched() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.done();
    cluster.edit(|spec| spec.capacity = 2);
    cluster.settle();
    assert_eq!(cluster.done(), ["apply c-35ced2", "create pod c-35ced2-1"]);
    cluster.edit(|spec| spec.capacity = 1);
    cluster.settle();
    assert_eq!(cluster.done(), ["apply c-35ced2", "delete pod c-35ced2-1"]);
    cluster.edit(|spec| {
        spec.broker_properties
            .insert("MQTT_DEVICE_ID".to_owned(), "mine".to_owned());
    });
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "apply c-35ced2",
            "delete pod c-35ced2-0",
            "create pod c-35ced2-0"
        ]
    );
    let spec = &cluster.instances[R1_NAME].spec;
    assert_eq!(spec.broker_properties["MQTT_DEVICE_ID"], "mine");
    cluster.edit(|spec| spec.discovery_handler.discovery_details = "other".to_owned());
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn edits_reach_instances_that_are_not_listed() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.restart();
    cluster.edit(|spec| {
        spec.capacity = 2;
        spec.broker_properties
            .insert("A".to_owned(), "1".to_owned());
    });
    cluster.settle();
    let spec = &cluster.instances[R1_NAME].spec;
    assert_eq!(spec.capacity, 2);
    let expected: BTreeMap<String, String> = [("A", "1"), ("MQTT_DEVICE_ID", R1)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(spec.broker_properties, expected);
    cluster.done();
    cluster.list_anew(&[R1]);
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
}

#[test]
fn of_two_devices_that_collide_the_second_gets_a_long_name() {
    let (first, second) = colliding();
    let long = naming::long("c", &second);
    for ids in [[&*first, &*second], [&*second, &*first]] {
        let mut cluster = Cluster::with_pods();
        cluster.list(&ids);
        cluster.settle();
        let short = name(&first);
        let by_name: Vec<(&str, &str)> = cluster
            .instances
            .iter()
            .map(|(name, instance)| {
                (
                    name.as_str(),
                    instance.spec.broker_properties["MQTT_DEVICE_ID"].as_str(),
                )
            })
            .collect();
        let mut expected = [(&*short, &*first), (&*long, &*second)];
        expected.sort_unstable();
        assert_eq!(by_name, expected);
        let hash = long.strip_prefix("c-").unwrap();
        assert_eq!(hash.len(), 12);
        assert_eq!(
            cluster.instances[&long].spec.cdi_name,
            format!("akri.sh/c={hash}")
        );
    }
}

#[test]
fn who_is_in_keeps_its_name_when_others_come_and_go() {
    let (first, second) = colliding();
    let mut cluster = Cluster::with_pods();
    cluster.list(&[&second]);
    cluster.settle();
    assert_eq!(cluster.names().0, [name(&second)]);
    cluster.list(&[&first, &second]);
    cluster.settle();
    let long = naming::long("c", &first);
    assert_eq!(device_of(&cluster, &name(&second)), second);
    assert_eq!(device_of(&cluster, &long), first);
    cluster.done();
    cluster.list(&[&first]);
    cluster.settle();
    cluster.restart();
    cluster.list_anew(&[&first]);
    cluster.settle();
    assert_eq!(cluster.names().0, [long]);
    cluster.list(&[&first, &second]);
    cluster.settle();
    assert_eq!(device_of(&cluster, &name(&second)), second);
}

fn device_of(cluster: &Cluster, name: &str) -> String {
    let annotations = cluster.instances[name].metadata.annotations.as_ref();
    annotations.unwrap()[names::DEVICE_ID].clone()
}

#[test]
fn words_and_departures_come_before_newcomers() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[R1]);
    cluster.settle();
    cluster.log.clear();
    cluster.list(&[R2]);
    cluster.edit(|spec| spec.capacity = 2);
    cluster.plan_configuration();
    assert_eq!(
        cluster.log,
        [
            "say DevicesGone: 1 device no longer listed by handler `mqtt`: plant-a/r1".to_owned(),
            "say DevicesFound: 1 device found: plant-a/r2".to_owned(),
            "delete instance c-35ced2".to_owned(),
            format!("apply {}", name(R2)),
        ]
    );
}

#[test]
fn an_instance_of_which_nothing_is_left_is_forgotten() {
    let mut cluster = Cluster::with_pods();
    cluster.set_image("broken");
    cluster.list(&[R1]);
    cluster.settle();
    let gone = InstanceKey {
        namespace: NAMESPACE.into(),
        name: R1_NAME.into(),
    };
    cluster.memory.forget(&gone, |_| 0);
    assert_eq!(cluster.memory.instances.len(), 0);
    let whole = &cluster.memory.configurations[&key()];
    assert_eq!((whole.wanted, whole.ready, whole.troubled.len()), (0, 0, 0));
}

#[test]
fn refused_instances_do_not_keep_the_ones_behind_them_waiting() {
    let mut cluster = Cluster::with_pods();
    let ids: Vec<String> = (0..300).map(|n| format!("plant-a/d{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    cluster.list(&ids);
    let written = |cluster: &mut Cluster| {
        let blueprint = cluster.blueprint().unwrap();
        let input = ConfigurationInput {
            key: &blueprint.key,
            blueprint: Some(&blueprint),
            finding: cluster.finding.as_ref(),
            instances: &[],
            service: None,
            pods: 0,
        };
        let plan = instances(&mut cluster.memory, &input, cluster.now);
        let names = plan.actions.into_iter().filter_map(|action| match action {
            Action::ApplyInstance(instance) => instance.metadata.name,
            _ => None,
        });
        (names.collect::<Vec<String>>(), plan.more)
    };
    let key = cluster.blueprint().unwrap().key;
    let mut all = BTreeSet::new();
    for (refused, behind) in [(128, false), (128, false), (44, true)] {
        let (names, more) = written(&mut cluster);
        assert_eq!((names.len(), more), (refused, !behind));
        all.extend(names);
        assert_eq!(cluster.memory.pass(&key, refused, more), behind);
    }
    assert_eq!(all.len(), 300);
    // And from the beginning once more.
    assert!(
        written(&mut cluster)
            .0
            .iter()
            .all(|name| all.contains(name))
    );
    assert!(!cluster.memory.pass(&key, 0, false));
}

#[test]
fn devices_whose_names_cannot_fit_are_refused_in_words() {
    let mut cluster = Cluster::with_pods();
    let long = "a".repeat(55);
    cluster.configuration.as_mut().unwrap().metadata.name = Some(long.clone());
    let blueprint = cluster.blueprint().unwrap();
    let devices: Devices = [(R1.into(), device(R1))].into();
    let finding = Finding {
        devices: Some(Arc::new(devices)),
        stream: 1,
        ..finding()
    };
    let input = ConfigurationInput {
        key: &blueprint.key,
        blueprint: Some(&blueprint),
        finding: Some(&finding),
        instances: &[],
        service: None,
        pods: 0,
    };
    let plan = instances(&mut cluster.memory, &input, cluster.now);
    let about = About::Configuration(blueprint.key.clone(), "uid-1".into());
    let expected = Notice {
        about,
        reason: Reason::InvalidName,
        words: format!("1 device refused: the name `{long}-35ced2-0` has 64 characters, 63 fit"),
    };
    assert_eq!(plan.actions, [Action::Say(expected)]);
    let again = instances(&mut cluster.memory, &input, cluster.now);
    assert_eq!(again, InstancesPlan::default());
}

#[test]
fn bad_discovery_is_told_once_and_so_is_its_end() {
    let mut cluster = Cluster::with_pods();
    cluster.finding = Some(Finding {
        state: DiscoveryState::NotShared,
        ..finding()
    });
    cluster.settle();
    assert_eq!(cluster.words(), Vec::<String>::new());
    assert_eq!(cluster.next, Some(Duration::from_secs(5)));
    for _ in 0..3 {
        cluster.pass(5);
        cluster.settle();
    }
    assert_eq!(
        cluster.words(),
        [
            "DiscoveryFailed: discovery handler `mqtt` finds devices of its own node only (shared: false), which needs Akri"
        ]
    );
    cluster.finding.as_mut().unwrap().state = DiscoveryState::Open;
    cluster.list(&[]);
    cluster.settle();
    cluster.settle();
    assert_eq!(
        cluster.words(),
        ["DiscoveryWorks: discovery works again: 0 devices"]
    );
}

#[test]
fn wrong_annotations_are_told_once() {
    let mut cluster = Cluster::with_pods();
    cluster.annotate(names::HOLD, "soon");
    cluster.edit(|spec| spec.capacity = 100_000);
    for _ in 0..2 {
        cluster.settle();
    }
    assert_eq!(
        cluster.words(),
        [
            "InvalidSetting: annotation mqtt.akri.sh/hold: found `soon`, allowed is a duration such as 500ms, 30s, 5m, 24h or 7d; spec.capacity: found 100000, allowed are up to 1000; 1000 is used"
        ]
    );
}
