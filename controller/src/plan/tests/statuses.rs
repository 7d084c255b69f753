//! Statuses: counts, and conditions with reasons in words.

use akri_mqtt_crds::{ConfigurationStatus, status as kind};

use super::*;

fn of(cluster: &Cluster, previous: Option<&ConfigurationStatus>) -> ConfigurationStatus {
    let blueprint = cluster.blueprint().unwrap();
    let input = StatusInput {
        blueprint: &blueprint,
        finding: cluster.finding.as_ref(),
        instances: cluster.instances.len(),
        previous,
    };
    status(&cluster.memory, &input, cluster.now)
}

fn said(status: &ConfigurationStatus, kind: &str) -> String {
    status
        .condition(kind)
        .map_or_else(String::new, |condition| {
            format!(
                "{} {}: {}",
                condition.status, condition.reason, condition.message
            )
        })
}

fn report(cluster: &mut Cluster, servers: Vec<ServerReport>) {
    cluster.servers(servers, None);
}

#[test]
fn a_configuration_that_works_says_so() {
    let mut cluster = Cluster::with_pods();
    cluster.edit(|spec| spec.capacity = 2);
    cluster.list(&["plant-a/r1", "plant-a/r2"]);
    report(&mut cluster, vec![server("plant-a", None)]);
    cluster.settle();
    assert_eq!(
        serde_json::to_value(of(&cluster, None)).unwrap(),
        json!({
            "observedGeneration": 2,
            "devices": 2,
            "instances": 2,
            "brokers": 4,
            "brokersReady": 4,
            "conditions": [
                {
                    "type": "Discovered", "status": "True", "reason": "Listed", "message": "2 devices",
                    "observedGeneration": 2, "lastTransitionTime": "2026-01-02T03:04:05Z",
                },
                {
                    "type": "ServersReachable", "status": "True", "reason": "Connected",
                    "message": "1 server connected",
                    "observedGeneration": 2, "lastTransitionTime": "2026-01-02T03:04:05Z",
                },
                {
                    "type": "BrokersReady", "status": "True", "reason": "AllReady",
                    "message": "4 of 4 ready",
                    "observedGeneration": 2, "lastTransitionTime": "2026-01-02T03:04:05Z",
                },
            ],
        })
    );
}

#[test]
fn a_status_stays_the_same_as_long_as_nothing_changes_and_times_change_with_their_condition() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    let first = of(&cluster, None);
    cluster.pass(100);
    cluster.settle();
    assert_eq!(of(&cluster, Some(&first)), first);
    cluster.pods.get_mut("c-35ced2-0").unwrap().facts.ready = false;
    cluster.settle();
    let second = of(&cluster, Some(&first));
    let time = |status: &ConfigurationStatus, kind: &str| {
        status
            .condition(kind)
            .unwrap()
            .last_transition_time
            .0
            .to_string()
    };
    assert_eq!(time(&second, kind::BROKERS_READY), "2026-01-02T03:05:45Z");
    assert_eq!(time(&second, kind::DISCOVERED), "2026-01-02T03:04:05Z");
}

#[test]
fn what_is_wrong_with_discovery_is_said_in_words() {
    let mut cluster = Cluster::with_pods();
    let discovered = |cluster: &Cluster| said(&of(cluster, None), kind::DISCOVERED);
    assert_eq!(
        discovered(&cluster),
        "Unknown Waiting: discovery has not begun"
    );
    cluster.finding = Some(finding());
    assert_eq!(
        discovered(&cluster),
        "Unknown NoList: handler `mqtt` has not sent a list yet"
    );
    let mut with = |state: DiscoveryState| {
        cluster.finding.as_mut().unwrap().state = state;
        discovered(&cluster)
    };
    assert_eq!(
        with(DiscoveryState::NoHandler),
        "False NoHandler: no discovery handler `mqtt` has registered; it must run as a container of the controller's pod"
    );
    let reason = "Secret plant/mqtt does not exist".to_owned();
    assert_eq!(
        with(DiscoveryState::Unresolved { reason }),
        "False Unresolved: Secret plant/mqtt does not exist"
    );
    assert_eq!(
        with(DiscoveryState::Connecting),
        "Unknown Connecting: handler `mqtt` is being asked"
    );
    cluster.list(&["plant-a/r1"]);
    cluster.annotate(names::HOLD, "soon");
    let finding = cluster.finding.as_mut().unwrap();
    finding.left_out.duplicates = 2;
    assert_eq!(
        discovered(&cluster),
        "True Listed: 1 device; left out: 2 listed twice; annotation mqtt.akri.sh/hold: found `soon`, allowed is a duration such as 500ms, 30s, 5m, 24h or 7d"
    );
    let reason = "line 1, column 1: topics: found a map".to_owned();
    cluster.finding.as_mut().unwrap().state = DiscoveryState::Failed { reason };
    assert!(discovered(&cluster).starts_with(
        "False Failed: line 1, column 1: topics: found a map; the last list stands (1 device)"
    ));
}

#[test]
fn instances_that_are_held_are_counted() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    cluster.list_anew(&[]);
    cluster.settle();
    assert_eq!(
        said(&of(&cluster, None), kind::DISCOVERED),
        "True Listed: 0 devices; 1 Instance kept without being listed yet"
    );
}

#[test]
fn servers_that_are_not_reached_are_named() {
    let mut cluster = Cluster::with_pods();
    cluster.list(&[]);
    let reachable = |cluster: &Cluster| said(&of(cluster, None), kind::SERVERS_REACHABLE);
    assert_eq!(
        reachable(&cluster),
        "Unknown NotReported: the handler does not say"
    );
    report(
        &mut cluster,
        vec![server("a", None), server("b", Some("connection refused"))],
    );
    assert_eq!(
        reachable(&cluster),
        "False NotConnected: b: connection refused"
    );
    let mut refusing = server("a", None);
    refusing.refused_filters = vec![("robots/#".to_owned(), "not authorised".to_owned())];
    report(&mut cluster, vec![refusing]);
    assert_eq!(
        reachable(&cluster),
        "False FilterRefused: a refuses `robots/#`: not authorised"
    );
}

#[test]
fn pods_that_are_not_ready_are_named_with_their_reason() {
    let mut cluster = Cluster::with_pods();
    let ready = |cluster: &Cluster| said(&of(cluster, None), kind::BROKERS_READY);
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(ready(&cluster), "True NoDevices: there are no devices");
    cluster.set_image("broken");
    cluster.list(&["plant-a/r1", "plant-a/r2"]);
    cluster.settle();
    assert_eq!(
        ready(&cluster),
        "False NotReady: 0 of 2 ready; pod c-35ced2-0: ImagePullBackOff"
    );
    let key = InstanceKey {
        namespace: NAMESPACE.into(),
        name: "c-35ced2".into(),
    };
    cluster
        .memory
        .report(&key, Some("pods is forbidden: exceeded quota"));
    assert_eq!(
        ready(&cluster),
        "False NotReady: 0 of 2 ready; pods is forbidden: exceeded quota"
    );
    cluster.memory.report(&key, None);
    cluster.set_image("one");
    cluster.settle();
    assert_eq!(ready(&cluster), "True AllReady: 2 of 2 ready");
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    assert_eq!(ready(&cluster), "True AllReady: 1 of 1 ready");
    cluster.annotate(names::POOL, "monitors");
    cluster.settle();
    assert_eq!(
        ready(&cluster),
        "True Pool: the pool `monitors` serves the devices"
    );
    cluster.annotate(names::POOL, "");
    cluster.edit(|spec| spec.broker_spec = None);
    cluster.settle();
    assert_eq!(ready(&cluster), "True NothingToRun: there is no brokerSpec");
    assert_eq!(
        (of(&cluster, None).brokers, of(&cluster, None).brokers_ready),
        (0, 0)
    );
}

#[test]
fn jobs_count_as_ready_when_they_are_complete() {
    let mut cluster = Cluster::new(json!({"brokerSpec": {"brokerJobSpec": {}}}));
    cluster.list(&["plant-a/r1"]);
    cluster.settle();
    let ready = |cluster: &Cluster| said(&of(cluster, None), kind::BROKERS_READY);
    assert_eq!(ready(&cluster), "False NotReady: 0 of 1 ready");
    cluster.jobs.get_mut("c-35ced2-1-job").unwrap().1 = JobState::Failed;
    cluster.settle();
    assert_eq!(
        ready(&cluster),
        "False NotReady: 0 of 1 ready; job c-35ced2-1-job has failed"
    );
    cluster.jobs.get_mut("c-35ced2-1-job").unwrap().1 = JobState::Complete;
    cluster.settle();
    assert_eq!(ready(&cluster), "True AllReady: 1 of 1 ready");
    cluster.jobs.clear();
    cluster.settle();
    assert_eq!(ready(&cluster), "True AllReady: 1 of 1 ready");
}

#[test]
fn a_name_that_cannot_fit_is_a_condition_before_there_is_a_device() {
    let mut cluster = Cluster::new(json!({
        "brokerSpec": {"brokerPodSpec": pod_spec("one")}, "instanceServiceSpec": {},
    }));
    let invalid = |cluster: &Cluster| said(&of(cluster, None), kind::INVALID_NAME);
    assert_eq!(invalid(&cluster), "");
    cluster.configuration.as_mut().unwrap().metadata.name = Some("plant.a".to_owned());
    assert_eq!(
        invalid(&cluster),
        "True DoesNotFit: the Service name `plant.a-000000-svc` does not begin with a letter or has a `.`, which Services must not"
    );
}
