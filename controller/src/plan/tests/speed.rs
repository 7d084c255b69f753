//! How long plans take. The limits are those of a release build; without optimisation it is ten times
//! as much, and other processes take their share.

use super::*;

/// The limit of this build.
fn limit(millis: u64) -> Duration {
    Duration::from_millis(if cfg!(debug_assertions) {
        millis * 20
    } else {
        millis
    })
}

fn fastest<T>(mut what: impl FnMut() -> T) -> Duration {
    let times = (0..5).map(|_| {
        let start = Instant::now();
        what();
        start.elapsed()
    });
    times.min().unwrap()
}

#[test]
#[allow(clippy::too_many_lines)]
fn ten_thousand_devices_are_planned_in_a_tenth_of_a_second() {
    let mut cluster = Cluster::with_pods();
    let devices: Devices = (0..10_000)
        .map(|n| {
            let id: Arc<str> = format!("plant-a/d{n}").into();
            let properties =
                (0..10).map(|p| (format!("MQTT_PROPERTY_{p}"), format!("value {n} {p}")));
            let device = FoundDevice {
                properties: properties.collect(),
                ..(*device(&id)).clone()
            };
            (id, Arc::new(device))
        })
        .collect();
    cluster.finding = Some(Finding {
        stream: 1,
        devices: Some(Arc::new(devices)),
        ..finding()
    });
    let blueprint = cluster.blueprint().unwrap();
    let plan = |cluster: &Cluster, views: &[&InstanceView]| {
        let input = ConfigurationInput {
            key: &key(),
            blueprint: Some(&blueprint),
            finding: cluster.finding.as_ref(),
            instances: views,
            service: None,
            pods: 0,
        };
        instances(&mut Memory::default(), &input, cluster.now)
    };
    let all_new = fastest(|| plan(&cluster, &[]));
    while cluster.instances.len() < 10_000 {
        cluster.plan_configuration();
    }
    let views = cluster.instance_views();
    assert_eq!(views.len(), 10_000);
    let views: Vec<&InstanceView> = views.iter().collect();
    assert_eq!(plan(&cluster, &views).actions, []);
    let steady = fastest(|| plan(&cluster, &views));
    println!("10,000 devices: all new {all_new:?}, steady {steady:?}");
    assert!(steady <= limit(100), "{steady:?}");
    assert!(all_new <= limit(200), "{all_new:?}");

    // Their pods, each planned once.
    let nodes = BTreeMap::from([("n1".into(), NodeView::default())]);
    let mut memory = Memory::default();
    let mut plan = |view: &InstanceView| {
        let input = InstanceInput {
            key: &InstanceKey {
                namespace: NAMESPACE.into(),
                name: view.name.clone(),
            },
            configuration: "c",
            blueprint: Some(&blueprint),
            instance: Some(view),
            siblings: 10_000,
            pods: &[],
            jobs: &[],
            service: None,
            claims: &[],
            nodes: &nodes,
            cluster: "0a1b2c3d",
        };
        workloads(&mut memory, &input, cluster.now)
    };
    let start = Instant::now();
    for view in &views {
        assert_eq!(plan(view).actions.len(), 1);
    }
    let pods = start.elapsed();
    println!("10,000 pods made: {pods:?}");
    assert!(pods <= limit(2_000), "{pods:?}");
}
