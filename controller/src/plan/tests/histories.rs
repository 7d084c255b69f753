//! Whatever happens in whatever order: nothing that is listed is deleted, there are never two pods of one
//! name, and in the end the cluster is what the list and the Configuration say, and nothing is written.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::plan::naming;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    List(Vec<u8>),
    ListAnew(Vec<u8>),
    Image(&'static str),
    Property(u8),
    Capacity(u32),
    Data(bool),
    Services(bool),
    LosePod(usize),
    FailPod(usize),
    UnreadyPod(usize),
    LoseNode,
    RestartController,
    Pass(u64),
    /// One plan of every key.
    Plan,
    Kubelet,
}

fn step() -> impl Strategy<Value = Step> {
    let list = || proptest::collection::vec(0_u8..6, 0..6);
    prop_oneof![
        4 => list().prop_map(Step::List),
        2 => list().prop_map(Step::ListAnew),
        1 => prop_oneof![Just("one"), Just("two"), Just("broken")].prop_map(Step::Image),
        1 => (0_u8..3).prop_map(Step::Property),
        1 => (0_u32..4).prop_map(Step::Capacity),
        1 => any::<bool>().prop_map(Step::Data),
        1 => any::<bool>().prop_map(Step::Services),
        2 => (0_usize..8).prop_map(Step::LosePod),
        2 => (0_usize..8).prop_map(Step::FailPod),
        1 => (0_usize..8).prop_map(Step::UnreadyPod),
        1 => Just(Step::LoseNode),
        1 => Just(Step::RestartController),
        2 => prop_oneof![Just(1_u64), Just(10), Just(299), Just(3_600)].prop_map(Step::Pass),
        8 => Just(Step::Plan),
        4 => Just(Step::Kubelet),
    ]
}

/// Devices 0 and 1 have the same short name.
fn ids() -> &'static [String] {
    static IDS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    IDS.get_or_init(|| {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let pair = (0..).find_map(|n| {
            let id = format!("plant-a/d{n}");
            let other = seen.insert(naming::short("c", &id), id.clone())?;
            Some([id, other])
        });
        let mut all = Vec::from(pair.unwrap());
        all.extend((0..4).map(|n| format!("plant-a/r{n}")));
        all
    })
}

fn happen(cluster: &mut Cluster, step: &Step) {
    let chosen = |devices: &[u8]| -> Vec<&str> {
        devices
            .iter()
            .map(|n| ids()[usize::from(*n)].as_str())
            .collect()
    };
    let pod = |cluster: &Cluster, n: usize| cluster.pods.keys().nth(n).cloned();
    match step {
        Step::List(devices) => cluster.list(&chosen(devices)),
        Step::ListAnew(devices) => cluster.list_anew(&chosen(devices)),
        Step::Image(image) => cluster.set_image(image),
        Step::Property(value) => cluster.edit(|spec| {
            spec.broker_properties = [("A".to_owned(), value.to_string())].into();
        }),
        Step::Capacity(capacity) => cluster.edit(|spec| spec.capacity = *capacity),
        Step::Data(on) => cluster.annotate(names::DATA_VOLUME, if *on { "1Gi" } else { "" }),
        Step::Services(on) => cluster.edit(|spec| {
            let raw = on.then(|| serde_json::from_value(json!({})).unwrap());
            spec.instance_service_spec.clone_from(&raw);
            spec.configuration_service_spec = raw;
        }),
        Step::LosePod(n) => {
            pod(cluster, *n).map(|name| cluster.pods.remove(&name));
        }
        Step::FailPod(n) | Step::UnreadyPod(n) => {
            if let Some(name) = pod(cluster, *n) {
                let facts = &mut cluster.pods.get_mut(&name).unwrap().facts;
                facts.ready = false;
                if matches!(step, Step::FailPod(_)) {
                    facts.phase = Phase::Failed;
                }
            }
        }
        Step::LoseNode => {
            let next = format!("{}x", cluster.nodes.keys().next().unwrap());
            cluster.nodes = [(next.into(), NodeView::default())].into();
        }
        Step::RestartController => {
            // Its handlers have told it their lists before anything else happens.
            let finding = cluster.finding.clone();
            cluster.restart();
            cluster.finding = finding.map(|finding| Finding {
                stream: finding.stream + 1,
                ..finding
            });
        }
        Step::Pass(seconds) => cluster.pass(*seconds),
        Step::Plan => {
            let listed = listed(cluster);
            cluster.done();
            cluster.round();
            for line in cluster.done() {
                if let Some(name) = line.strip_prefix("delete instance ") {
                    assert!(!listed.contains(name), "{name} is listed");
                }
            }
        }
        Step::Kubelet => {
            cluster.kubelet();
        }
    }
}

/// Instances whose devices are listed.
fn listed(cluster: &Cluster) -> BTreeSet<String> {
    let devices = cluster
        .finding
        .as_ref()
        .and_then(|finding| finding.devices.clone());
    let devices = devices.unwrap_or_default();
    let views = cluster.instance_views();
    let of = |view: &&InstanceView| {
        view.device
            .as_ref()
            .is_some_and(|id| devices.contains_key(id))
    };
    views
        .iter()
        .filter(of)
        .map(|view| view.name.to_string())
        .collect()
}

/// Time passes, and everything else works.
fn calm_down(cluster: &mut Cluster) {
    cluster.set_image("last");
    for pod in cluster.pods.values_mut() {
        if pod.facts.phase == Phase::Running && pod.deleted_at.is_none() {
            pod.facts.ready = true;
        }
    }
    for _ in 0..4 {
        cluster.settle();
        cluster.pass(3_600);
    }
    cluster.settle();
    cluster.pass(25 * 3_600);
    cluster.settle();
}

/// Instances by device, and names of all else.
fn shape(cluster: &Cluster) -> (BTreeMap<String, String>, Vec<String>) {
    let views = cluster.instance_views();
    let devices = views.iter().map(|view| {
        (
            view.device.as_deref().unwrap().to_owned(),
            view.name.to_string(),
        )
    });
    let all = [
        cluster.pods.keys().cloned().collect::<Vec<_>>(),
        cluster.services.keys().cloned().collect(),
        cluster.claims.keys().cloned().collect(),
    ];
    (devices.collect(), all.concat())
}

fn expected(cluster: &Cluster) -> Vec<String> {
    let blueprint = cluster.blueprint().unwrap();
    let names: Vec<&str> = cluster.instances.keys().map(String::as_str).collect();
    let mut pods: Vec<String> = names
        .iter()
        .flat_map(|name| (0..blueprint.capacity).map(move |n| format!("{name}-{n}")))
        .collect();
    pods.sort_unstable();
    let mut services: Vec<String> = Vec::new();
    if blueprint.instance_service.is_some() && !pods.is_empty() {
        services.extend(names.iter().map(|name| format!("{name}-svc")));
        services.push("c-svc".to_owned());
        services.sort_unstable();
    }
    let claims = if blueprint.settings.data.is_some() {
        pods.clone()
    } else {
        Vec::new()
    };
    [pods, services, claims].concat()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("src/plan/tests/histories.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_cluster_becomes_what_it_should_be_and_stays_so(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut cluster = Cluster::with_pods();
        cluster.list(&[]);
        for step in &steps {
            happen(&mut cluster, step);
        }
        calm_down(&mut cluster);
        let devices = cluster.finding.as_ref().unwrap().devices.clone().unwrap();
        let (by_device, others) = shape(&cluster);
        let listed: Vec<&str> = devices.keys().map(|id| &**id).collect();
        prop_assert_eq!(by_device.keys().map(String::as_str).collect::<Vec<_>>(), listed);
        prop_assert_eq!(others, expected(&cluster));
        for pod in cluster.pods.values() {
            prop_assert!(pod.facts.ready, "{:?}", pod);
            prop_assert_eq!(&pod.json["spec"]["containers"][0]["image"], "last");
        }
        // No plan writes anything any more, nor does one of a controller that has just started.
        cluster.done();
        cluster.settle();
        prop_assert_eq!(cluster.done(), Vec::<String>::new());
        happen(&mut cluster, &Step::RestartController);
        for _ in 0..3 {
            cluster.settle();
            cluster.pass(3_600);
        }
        prop_assert_eq!(cluster.done(), Vec::<String>::new());
    }

    #[test]
    fn the_order_in_which_keys_are_planned_does_not_count(
        steps in proptest::collection::vec(step(), 0..30),
    ) {
        let mut shapes = Vec::new();
        for reversed in [false, true] {
            let mut cluster = Cluster::with_pods();
            cluster.reversed = reversed;
            cluster.list(&[]);
            for step in &steps {
                happen(&mut cluster, step);
                cluster.settle();
            }
            calm_down(&mut cluster);
            shapes.push(shape(&cluster));
        }
        prop_assert_eq!(&shapes[0], &shapes[1]);
    }

    #[test]
    fn a_template_that_is_edited_never_takes_all_pods_of_an_instance_down(
        images in proptest::collection::vec(prop_oneof![Just("one"), Just("two"), Just("broken")], 1..8),
        capacity in 2_u32..4,
    ) {
        let mut cluster = Cluster::with_pods();
        cluster.edit(|spec| spec.capacity = capacity);
        cluster.list(&["plant-a/r1"]);
        cluster.settle();
        for image in images {
            cluster.set_image(image);
            for _ in 0..30 {
                cluster.round();
                let serving = cluster.pods.values().filter(|pod| pod.facts.ready && pod.deleted_at.is_none());
                prop_assert!(serving.count() >= 1);
                cluster.kubelet();
            }
        }
    }
}
