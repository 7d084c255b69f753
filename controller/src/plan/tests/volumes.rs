//! Claims: made with pods, kept after the device, found again, deleted in the end.

use super::devices::name;
use super::*;

const R1: &str = "plant-a/r1";
const CLAIM: &str = "c-35ced2-0";

fn with_claims(template: Value) -> Cluster {
    let mut cluster = Cluster::new(json!({"brokerSpec": {"brokerPodSpec": template}}));
    cluster.annotate(names::DATA_VOLUME, "1Gi,fast");
    cluster.list(&[R1]);
    cluster.settle();
    cluster
}

#[test]
fn a_claim_is_made_before_its_pod_and_nothing_owns_it() {
    let mut cluster = with_claims(pod_spec("one"));
    assert_eq!(
        cluster.done(),
        [
            "apply c-35ced2",
            "create claim c-35ced2-0",
            "create pod c-35ced2-0"
        ]
    );
    assert_eq!(
        cluster.claims[CLAIM].json,
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "namespace": "plant",
                "name": "c-35ced2-0",
                "uid": "uid-3",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"mqtt.akri.sh/data-retention": "24h"},
                "labels": {
                    "akri.sh/configuration": "c",
                    "akri.sh/instance": "c-35ced2",
                    "app.kubernetes.io/name": "akri-mqtt-broker",
                    "app.kubernetes.io/instance": "c",
                    "app.kubernetes.io/managed-by": "akri-mqtt-controller",
                },
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "fast",
            },
        })
    );
}

#[test]
fn wrong_word_about_claims_changes_no_pod_and_deletes_no_claim() {
    for (annotation, wrong) in [(names::DATA_VOLUME, "1GiB"), (names::DATA_RETENTION, "7dd")] {
        let mut cluster = with_claims(pod_spec("one"));
        cluster.done();
        cluster.annotate(annotation, wrong);
        cluster.pass(3 * 24 * 3_600);
        cluster.settle();
        assert_eq!(cluster.done(), Vec::<String>::new(), "{annotation}");
        // A device that comes gets its pod when it is mended.
        cluster.list(&[R1, "plant-a/r2"]);
        cluster.settle();
        let (new, made) = (name("plant-a/r2"), cluster.done());
        assert_eq!(made, [format!("apply {new}")], "{annotation}");
        cluster.annotate(names::DATA_VOLUME, "1Gi,fast");
        cluster.annotate(names::DATA_RETENTION, "7d");
        cluster.settle();
        assert!(
            cluster.done().contains(&format!("create pod {new}-0")),
            "{annotation}"
        );
    }
}

fn volumes(cluster: &Cluster) -> (Value, Value) {
    let spec = &cluster.pods[CLAIM].json["spec"];
    (
        spec["volumes"].clone(),
        spec["containers"][0]["volumeMounts"].clone(),
    )
}

#[test]
fn the_claim_takes_the_place_of_the_data_volume() {
    let claimed = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": CLAIM}});
    let at = |name: &str| json!([{"name": name, "mountPath": "/var/lib/akri-mqtt"}]);
    let cases = [
        (pod_spec("one"), json!([claimed("data")]), at("data")),
        (
            json!({
                "containers": [{"name": "m", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
            }),
            json!([{"name": "b", "emptyDir": {}}, claimed("data")]),
            json!([{"name": "data", "mountPath": "/d"}]),
        ),
        (
            json!({
                "containers": [{"name": "m", "volumeMounts": at("state")}],
                "volumes": [{"name": "state", "emptyDir": {}}],
            }),
            json!([claimed("state")]),
            at("state"),
        ),
        (
            json!({"containers": [{"name": "m"}], "volumes": [{"name": "data", "emptyDir": {}}]}),
            json!([claimed("data")]),
            at("data"),
        ),
    ];
    for (template, expected, mounts) in cases {
        let cluster = with_claims(template);
        assert_eq!(volumes(&cluster), (expected, mounts));
    }
}

#[test]
fn a_claim_outlives_its_device_for_a_day_and_is_found_again() {
    let mut cluster = with_claims(pod_spec("one"));
    cluster.done();
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "delete instance c-35ced2",
            "delete pod c-35ced2-0",
            "annotate claim c-35ced2-0"
        ]
    );
    let annotations =
        |cluster: &Cluster| cluster.claims[CLAIM].json["metadata"]["annotations"].clone();
    assert_eq!(
        annotations(&cluster),
        json!({"mqtt.akri.sh/gone-since": "2026-01-02T03:04:05Z", "mqtt.akri.sh/data-retention": "24h"})
    );
    cluster.pass(23 * 3_600);
    cluster.restart();
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    cluster.list_anew(&[R1]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "apply c-35ced2",
            "annotate claim c-35ced2-0",
            "create pod c-35ced2-0"
        ]
    );
    assert_eq!(
        annotations(&cluster),
        json!({"mqtt.akri.sh/data-retention": "24h"})
    );
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(cluster.next, Some(Duration::from_secs(24 * 3_600)));
    cluster.done();
    cluster.pass(24 * 3_600);
    cluster.settle();
    assert_eq!(cluster.done(), ["delete claim c-35ced2-0"]);
    assert_eq!(cluster.memory.instances.len(), 0);
}

#[test]
fn a_pool_takes_the_pods_and_leaves_their_claims_for_as_long_as_those_of_devices_that_went() {
    let mut cluster = with_claims(pod_spec("one"));
    cluster.done();
    cluster.annotate(names::POOL, "monitors");
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["annotate claim c-35ced2-0", "delete pod c-35ced2-0"]
    );
    cluster.annotate(names::POOL, "");
    cluster.settle();
    assert_eq!(
        cluster.done(),
        ["annotate claim c-35ced2-0", "create pod c-35ced2-0"]
    );
    cluster.annotate(names::POOL, "monitors");
    cluster.settle();
    cluster.done();
    cluster.pass(24 * 3_600);
    cluster.settle();
    assert_eq!(cluster.done(), ["delete claim c-35ced2-0"]);
}

#[test]
fn a_claim_outlives_its_configuration_as_long_as_that_said() {
    let mut cluster = with_claims(pod_spec("one"));
    cluster.annotate(names::DATA_RETENTION, "1h");
    cluster.settle();
    cluster.configuration = None;
    cluster.settle();
    assert_eq!(cluster.next, Some(Duration::from_secs(3_600)));
    cluster.restart();
    cluster.settle();
    cluster.pass(2);
    cluster.settle();
    cluster.done();
    cluster.pass(3_600);
    cluster.settle();
    assert_eq!(cluster.done(), ["delete claim c-35ced2-0"]);
}

#[test]
fn without_retention_the_claim_goes_with_the_device() {
    let mut cluster = with_claims(pod_spec("one"));
    cluster.annotate(names::DATA_RETENTION, "0");
    cluster.settle();
    cluster.done();
    cluster.list(&[]);
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "delete instance c-35ced2",
            "delete pod c-35ced2-0",
            "delete claim c-35ced2-0"
        ]
    );
}

#[test]
fn claims_that_are_not_needed_any_more_are_kept_for_a_while_too() {
    let mut cluster = with_claims(pod_spec("one"));
    cluster.done();
    cluster.annotate(names::DATA_VOLUME, "");
    cluster.settle();
    assert_eq!(
        cluster.done(),
        [
            "annotate claim c-35ced2-0",
            "delete pod c-35ced2-0",
            "create pod c-35ced2-0"
        ]
    );
    cluster.pass(24 * 3_600);
    cluster.settle();
    assert_eq!(
        cluster.words(),
        ["DataDeleted: claim `c-35ced2-0` is deleted: not needed for 24h"]
    );
    assert_eq!(cluster.done(), ["delete claim c-35ced2-0"]);
}

#[test]
fn a_claim_of_someone_else_is_not_used() {
    let mut cluster = with_claims(pod_spec("one"));
    let claim = cluster.claims.get_mut(CLAIM).unwrap();
    claim.json["metadata"]["labels"][names::MANAGED_BY] = json!("me");
    cluster.pods.clear();
    cluster.settle();
    cluster.done();
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
    assert_eq!(cluster.names(), (vec!["c-35ced2"], vec![]));
}

#[test]
fn another_size_counts_for_new_claims_only() {
    let mut cluster = with_claims(pod_spec("one"));
    cluster.done();
    cluster.annotate(names::DATA_VOLUME, "2Gi");
    cluster.settle();
    assert_eq!(cluster.done(), Vec::<String>::new());
}
