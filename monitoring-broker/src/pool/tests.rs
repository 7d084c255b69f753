//! A member of a directory's pool in this process, without a server: what it does round by round.

use std::pin::pin;

use akri_mqtt_runtime::{Health, Tasks};
use tempfile::TempDir;

use super::*;
use crate::api::union::{Asked, Caller};
use crate::devices_file::DevicesFile;
use crate::monitor::MonitorOptions;
use crate::source::SourceMetrics;

/// A directory with a store, an empty list of devices, and a pool.
struct Scene {
    directory: TempDir,
    health: Health,
    monitor: Monitor,
    me: Member,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (tasks, health) = (Arc::new(Tasks::new(Shutdown::new())), Health::new());
        let options = MonitorOptions::new(directory.path().join("data"));
        Self {
            monitor: Monitor::open(options, health.clone(), tasks).await.unwrap(),
            directory,
            health,
            me: Member::parse("a").unwrap(),
        }
    }

    async fn pool(&self) -> Pool<'_> {
        let list = self.directory.path().join("devices.json");
        std::fs::write(&list, "[]").unwrap();
        let opened = DevicesFile::open(&list).unwrap();
        let place = open(&self.directory.path().join("pool"), ShardCount::default()).unwrap();
        let says = Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            store: self.monitor.service().store.id().to_owned(),
        };
        let locks = Locks::directory(place, &self.me, says).await.unwrap();
        let (me, live, counted) = (
            self.me.clone(),
            watch::Sender::default(),
            Default::default(),
        );
        let others = Others::new(me, locks.shards(), live.subscribe(), None, counted);
        Pool {
            monitor: &self.monitor,
            placement: Placement::new(self.me.clone(), locks.shards()),
            me: self.me.clone(),
            locks: Arc::new(locks),
            source: Source::of_file(opened, SourceMetrics::default()),
            servers: Servers::new(None, self.monitor.tasks()),
            metrics: PoolMetrics::default(),
            ready: self.monitor.membership(),
            live,
            others: Some(others),
            held: ManuallyDrop::default(),
            draining: FuturesUnordered::new(),
        }
    }
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_round_leaves_no_shard_without_a_lock() {
    let scene = Scene::new().await;
    let mut pool = scene.pool().await;
    let (shutdown, taken) = (Shutdown::new(), pool.metrics.taken.clone());
    {
        let mut round = pin!(pool.act([&scene.me], &shutdown));
        // Each claim waits for the disk: between two of them this looks.
        std::future::poll_fn(|context| {
            let round = round.as_mut().poll(context);
            if taken.get() > 0 {
                shutdown.trigger();
            }
            round
        })
        .await
        .unwrap();
    }
    let held: Vec<_> = pool.held.keys().copied().collect();
    assert_eq!(pool.placement.held().collect::<Vec<_>>(), held);
    assert!((1..64).contains(&held.len()), "{held:?}");
}

#[tokio::test]
async fn the_api_waits_for_the_first_list_of_members_with_this_one_in_it() {
    let scene = Scene::new().await;
    let pool = scene.pool().await;
    let (shutdown, live) = (Shutdown::new(), pool.live.subscribe());
    let ask = || Asked::new(scene.monitor.service().clone(), Caller::default());
    assert!(ask().is_err());
    let mut running = pin!(pool.run(&shutdown));
    std::future::poll_fn(|context| {
        let running = running.as_mut().poll(context);
        assert_eq!(ask().is_ok(), live.borrow().contains_key(&scene.me));
        if ask().is_ok() {
            shutdown.trigger();
        }
        running
    })
    .await
    .unwrap();
    assert!(ask().is_ok());
}

#[tokio::test]
async fn a_member_of_a_directory_that_somebody_removed_says_so() {
    let scene = Scene::new().await;
    let mut pool = scene.pool().await;
    std::fs::remove_file(scene.directory.path().join("pool/members/a")).unwrap();
    let live = pool.locks.live().await.unwrap();
    pool.act(live.keys(), &Shutdown::new()).await.unwrap();
    let said = format!("{:?}", scene.health.report());
    let expected = "no member now: its file in members/ was removed; start it again";
    assert!(said.contains(expected), "{said}");
}
