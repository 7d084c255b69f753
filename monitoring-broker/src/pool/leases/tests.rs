//! Members on a paused clock around an API server in memory. In: members that come, go, die, are cut off. Out: who
//! had which shard when; that two have one at the same time fails every test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use akri_mqtt_cluster::{Leases, Quiet, lease};
use akri_mqtt_core::pool::{Action, Placement};
use akri_mqtt_runtime::Shutdown;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use kube::runtime::watcher::Event;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::*;

const SHARDS: u16 = 16;

/// The API server's part: versions, conflicts, watches, and connections with faults.
#[derive(Clone)]
struct Server(Arc<Mutex<Store>>);

struct Store {
    leases: BTreeMap<String, Lease>,
    version: u64,
    faults: BTreeMap<&'static str, Fault>,
    writes: Vec<String>,
    events: broadcast::Sender<Event<Lease>>,
    /// Who serves a shard, by all members.
    serving: BTreeMap<Shard, &'static str>,
    /// Shards that were taken while another one served them.
    twice: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Everything is refused.
    Cut,
    /// Nothing is answered.
    Hung,
    /// Only the watch hears nothing.
    Stalled,
    /// Writes are carried out, and not answered.
    Deaf,
}

impl Server {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Store {
            leases: BTreeMap::new(),
            version: 0,
            faults: BTreeMap::new(),
            writes: Vec::new(),
            events: broadcast::channel(4096).0,
            serving: BTreeMap::new(),
            twice: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap()
    }

    fn fault(&self, name: &'static str, fault: Option<Fault>) {
        let mut store = self.lock();
        store.faults.remove(name);
        store.faults.extend(fault.map(|fault| (name, fault)));
    }

    fn delete(&self, name: &str) {
        let mut store = self.lock();
        let gone = store.leases.remove(name).unwrap();
        let _ = store.events.send(Event::Delete(gone));
    }

    async fn try_join(&self, name: &'static str, shards: u16) -> Result<(Pool, Tasks)> {
        let tasks = Tasks::new(Shutdown::new());
        let leases = Connection {
            server: self.clone(),
            name,
        };
        let own = Own {
            member: Member::parse(name).unwrap(),
            says: Peer {
                address: "127.0.0.1:1".parse().unwrap(),
                store: format!("store-{name}"),
            },
            pod: None,
        };
        let names = Names::new("robots").unwrap();
        let shards = ShardCount::new(shards).unwrap();
        let pool = LeasePool::join(leases, names, own, shards, &tasks).await?;
        pool.joined().await?;
        Ok((Arc::new(pool), tasks))
    }

    async fn join(&self, name: &'static str) -> One {
        let (pool, tasks) = self.try_join(name, SHARDS).await.unwrap();
        let driver = tokio::spawn(drive(Arc::clone(&pool), self.clone(), name));
        One {
            name,
            server: self.clone(),
            pool,
            tasks,
            driver,
        }
    }

    /// How many shards each member serves.
    fn shares(&self) -> BTreeMap<&'static str, usize> {
        let mut shares = BTreeMap::new();
        let store = self.lock();
        assert!(store.twice.is_empty(), "{:?}", store.twice);
        for name in store.serving.values() {
            *shares.entry(*name).or_default() += 1;
        }
        shares
    }

    /// Waits until all shards are served by these. Returns how long that took.
    async fn settled(&self, names: &[&'static str]) -> Duration {
        let begun = Instant::now();
        let names: BTreeSet<_> = names.iter().copied().collect();
        loop {
            let shares = self.shares();
            let is_all = shares.values().sum::<usize>() == usize::from(SHARDS);
            if is_all && shares.keys().copied().collect::<BTreeSet<_>>() == names {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{shares:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

type Pool = Arc<LeasePool<Connection>>;

struct One {
    name: &'static str,
    server: Server,
    pool: Pool,
    tasks: Tasks,
    driver: JoinHandle<LeaseError>,
}

impl One {
    /// SIGKILL: whatever it did is over, and nothing is given back.
    async fn kill(self) {
        self.server.fault(self.name, Some(Fault::Cut));
        self.driver.abort();
        self.tasks.shutdown().trigger();
        self.tasks.join().await.unwrap();
        let mut store = self.server.lock();
        store.serving.retain(|_, name| *name != self.name);
        store.faults.remove(self.name);
    }

    async fn stop(self) {
        self.pool.leave();
        let begun = Instant::now();
        while self.server.shares().contains_key(self.name) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.pool.left();
        self.driver.abort();
        self.tasks.shutdown().trigger();
        self.tasks.join().await.unwrap();
    }
}

/// What the pool does with its answers, with sessions that take a second to end.
async fn drive(pool: Pool, server: Server, name: &'static str) -> LeaseError {
    let me = Member::parse(name).unwrap();
    let mut placement = Placement::new(me, pool.shards());
    let mut held = BTreeMap::new();
    let mut draining = stream::FuturesUnordered::new();
    loop {
        let live = match pool.live() {
            Ok(live) => live,
            Err(error) => return error,
        };
        for action in placement.decide(live.keys()) {
            match action {
                Action::Claim(shard) => {
                    let lock = match pool.claim(shard) {
                        Some(claim) => pool.enter(claim, name).await.unwrap_or_default(),
                        None => None,
                    };
                    placement.claimed(shard, lock.is_some());
                    if let Some(lock) = lock {
                        held.insert(shard, lock);
                        let mut store = server.lock();
                        if let Some(before) = store.serving.insert(shard, name) {
                            store
                                .twice
                                .push(format!("{name} takes {shard} of {before}"));
                        }
                    }
                }
                Action::Drain(shard) => {
                    let (pool, server, lock) = (&pool, &server, held.remove(&shard).unwrap());
                    draining.push(async move {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        server.lock().serving.remove(&shard);
                        pool.release(lock).await;
                        shard
                    });
                }
                Action::Release(_) => {}
            }
        }
        tokio::select! {
            Some(shard) = draining.next() => placement.drained(shard),
            () = pool.changed() => {}
        }
    }
}

#[derive(Clone)]
struct Connection {
    server: Server,
    name: &'static str,
}

impl Connection {
    fn fault(&self) -> Option<Fault> {
        self.server.lock().faults.get(self.name).copied()
    }

    async fn reach(&self) -> std::result::Result<(), Failure> {
        match self.fault() {
            Some(Fault::Cut) => Err(Failure::Other("refused".to_owned())),
            Some(Fault::Hung) => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

impl Leases for Connection {
    async fn read(&self, name: &str) -> std::result::Result<Option<Lease>, Failure> {
        self.reach().await?;
        Ok(self.server.lock().leases.get(name).cloned())
    }

    async fn write(&self, name: &str, mut lease: Lease) -> std::result::Result<Lease, Failure> {
        self.reach().await?;
        {
            let mut store = self.server.lock();
            let current = store.leases.get(name);
            let current = current.and_then(|lease| lease.metadata.resource_version.clone());
            if current != lease.metadata.resource_version {
                return Err(Failure::Conflict);
            }
            store.version += 1;
            store.writes.push(name.to_owned());
            lease.metadata.name = Some(name.to_owned());
            lease.metadata.resource_version = Some(store.version.to_string());
            store.leases.insert(name.to_owned(), lease.clone());
            let _ = store.events.send(Event::Apply(lease.clone()));
        }
        if self.fault() == Some(Fault::Deaf) {
            std::future::pending::<()>().await;
        }
        Ok(lease)
    }
}

impl SharedLeases for Connection {
    async fn delete(&self, name: &str, lease: &Lease) -> std::result::Result<(), Failure> {
        self.reach().await?;
        let current = self.server.lock().leases.get(name).cloned();
        let current = current.and_then(|current| current.metadata.resource_version);
        if current != lease.metadata.resource_version {
            return Err(Failure::Conflict);
        }
        self.server.delete(name);
        Ok(())
    }

    /// After a fault everything is listed anew, as a real watch would be.
    fn follow(
        &self,
        _: &str,
        _: Quiet,
        _: impl FnMut(Option<String>) + Send + 'static,
    ) -> BoxStream<'static, Event<Lease>> {
        type Heard = broadcast::Receiver<Event<Lease>>;
        let state: (Self, Vec<Event<Lease>>, Option<Heard>) = (self.clone(), Vec::new(), None);
        stream::unfold(state, |(connection, mut waiting, mut heard)| async move {
            loop {
                let is_faulty =
                    |fault| matches!(fault, Some(Fault::Cut | Fault::Hung | Fault::Stalled));
                if is_faulty(connection.fault()) {
                    heard = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                if let Some(event) = waiting.pop() {
                    return Some((event, (connection, waiting, heard)));
                }
                let Some(receiver) = &mut heard else {
                    let store = connection.server.lock();
                    heard = Some(store.events.subscribe());
                    waiting.push(Event::InitDone);
                    waiting.extend(store.leases.values().cloned().map(Event::InitApply));
                    waiting.push(Event::Init);
                    continue;
                };
                tokio::select! {
                    event = receiver.recv() => match event {
                        Ok(event) if is_faulty(connection.fault()) => drop(event),
                        Ok(event) => return Some((event, (connection, waiting, heard))),
                        Err(_) => heard = None,
                    },
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        })
        .boxed()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn members_share_the_shards_and_in_the_steady_state_only_renewals_are_written() {
    let server = Server::new();
    let _a = server.join("a").await;
    server.settled(&["a"]).await;
    let _b = server.join("b").await;
    let _c = server.join("c").await;
    server.settled(&["a", "b", "c"]).await;
    pass(5).await;
    server.lock().writes.clear();
    pass(60).await;
    let writes = std::mem::take(&mut server.lock().writes);
    assert!((87..=93).contains(&writes.len()), "{}", writes.len());
    assert!(writes.iter().all(|name| name.contains("-member-")));
}

#[tokio::test(start_paused = true)]
async fn shards_of_a_member_that_was_killed_move_when_it_was_silent_for_the_time_of_its_lease() {
    let server = Server::new();
    let _a = server.join("a").await;
    let b = server.join("b").await;
    server.settled(&["a", "b"]).await;
    pass(5).await;
    b.kill().await;
    let took = server.settled(&["a"]).await;
    assert!(took >= LEASE - RENEW, "{took:?}");
    assert!(took <= LEASE + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_started_again_under_its_name_takes_its_shards_back_at_once() {
    let server = Server::new();
    let _a = server.join("a").await;
    let b = server.join("b").await;
    server.settled(&["a", "b"]).await;
    b.kill().await;
    let again = server.join("b").await;
    let took = server.settled(&["a", "b"]).await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
    let claim = again
        .pool
        .names
        .of(&About::Shard(ShardCount::default().all().next().unwrap()));
    let lease = server.lock().leases.get(&claim).cloned().unwrap();
    assert!(last_store(&lease).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_cut_off_ends_its_sessions_before_others_take_them_and_comes_back() {
    for fault in [Fault::Cut, Fault::Hung] {
        let server = Server::new();
        let a = server.join("a").await;
        let _b = server.join("b").await;
        server.settled(&["a", "b"]).await;
        pass(5).await;
        server.fault("a", Some(fault));
        // That nobody takes what another one still serves is asserted there.
        let took = server.settled(&["b"]).await;
        assert!(
            took <= LEASE + Duration::from_secs(2),
            "{fault:?}: {took:?}"
        );
        assert!(a.pool.faults().is_some());
        pass(30).await;
        server.fault("a", None);
        let took = server.settled(&["a", "b"]).await;
        assert!(took <= Duration::from_secs(8), "{fault:?}: {took:?}");
        assert_eq!(a.pool.faults(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_shorter_than_the_deadline_moves_nothing() {
    let server = Server::new();
    let _a = server.join("a").await;
    let _b = server.join("b").await;
    server.settled(&["a", "b"]).await;
    pass(5).await;
    let before = server.lock().serving.clone();
    for fault in [Fault::Cut, Fault::Hung] {
        for name in ["a", "b"] {
            server.fault(name, Some(fault));
        }
        pass(3).await;
        for name in ["a", "b"] {
            server.fault(name, None);
        }
        pass(20).await;
        server.shares();
        assert_eq!(server.lock().serving, before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_gone_silent_kills_nobody() {
    let server = Server::new();
    let _a = server.join("a").await;
    let b = server.join("b").await;
    server.settled(&["a", "b"]).await;
    let before = server.lock().serving.clone();
    server.fault("b", Some(Fault::Stalled));
    for _ in 0..60 {
        pass(1).await;
        assert_eq!(b.pool.live().unwrap().len(), 2);
        assert_eq!(server.lock().serving, before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_hands_over_at_once_whoever_has_labelled_its_leases() {
    let server = Server::new();
    let _a = server.join("a").await;
    let b = server.join("b").await;
    server.settled(&["a", "b"]).await;
    let somebody = Connection {
        server: server.clone(),
        name: "somebody",
    };
    let leases = server.lock().leases.clone();
    for (name, mut lease) in leases {
        let labels = lease.metadata.labels.get_or_insert_default();
        labels.insert("by".to_owned(), "hand".to_owned());
        somebody.write(&name, lease).await.unwrap();
    }
    let begun = Instant::now();
    b.stop().await;
    server.settled(&["a"]).await;
    assert!(begun.elapsed() <= Duration::from_secs(4));
    assert!(!server.lock().leases.contains_key("robots-pool-member-b"));
}

#[tokio::test(start_paused = true)]
async fn leases_that_somebody_deletes_are_made_again_and_nothing_moves() {
    let server = Server::new();
    let _a = server.join("a").await;
    let _b = server.join("b").await;
    server.settled(&["a", "b"]).await;
    pass(5).await;
    let before = server.lock().serving.clone();
    let leases: Vec<_> = server.lock().leases.keys().cloned().collect();
    let id = facts(&server.lock().leases["robots-pool"]).unwrap();
    for name in &leases {
        server.delete(name);
    }
    pass(20).await;
    server.shares();
    assert_eq!(server.lock().serving, before);
    let again: Vec<_> = server.lock().leases.keys().cloned().collect();
    assert_eq!(again, leases);
    assert_eq!(facts(&server.lock().leases["robots-pool"]), Ok(id));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_was_taken_without_an_answer_is_given_back() {
    let server = Server::new();
    let _a = server.join("a").await;
    server.settled(&["a"]).await;
    pass(5).await;
    let b = server.join("b").await;
    server.fault("b", Some(Fault::Deaf));
    pass(5).await;
    server.fault("b", None);
    server.settled(&["a", "b"]).await;
    b.stop().await;
    server.settled(&["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_with_one_name_the_older_one_ends() {
    let server = Server::new();
    let first = server.join("a").await;
    server.settled(&["a"]).await;
    first.driver.abort();
    server.lock().serving.clear();
    let _second = server.join("a").await;
    pass(3).await;
    let error = first.pool.live().unwrap_err().to_string();
    assert!(
        error.starts_with("--pool: another process is the member a now (a_"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn all_agree_on_one_id_and_another_number_of_shards_is_refused() {
    let server = Server::new();
    let joins = (["a", "b", "c", "d"]).map(|name| server.try_join(name, SHARDS));
    let pools = futures_util::future::join_all(joins).await;
    let pools: Vec<_> = pools.into_iter().map(|joined| joined.unwrap().0).collect();
    let ids: BTreeSet<_> = pools.iter().map(|pool| pool.id().to_owned()).collect();
    assert_eq!(ids.len(), 1);
    let error = server.try_join("e", 32).await.err().unwrap().to_string();
    assert_eq!(
        error,
        "32 shards are asked for; the pool of the Configuration robots has 16, and keeps them for its life (Lease robots-pool)"
    );
    assert!(server.try_join("E_1", SHARDS).await.is_err());
    let mut other = server.lock().leases["robots-pool"].clone();
    other.metadata.annotations = None;
    let writer = Connection {
        server: server.clone(),
        name: "somebody",
    };
    writer.write("robots-pool", other).await.unwrap();
    pass(2).await;
    let error = pools[0].live().unwrap_err().to_string();
    assert!(
        error.contains("mqtt.akri.sh/pool-id: found none"),
        "{error}"
    );
    let record = lease::record(&server.lock().leases["robots-pool"]);
    assert_eq!(record.holder, None);
}

#[test]
fn names_of_leases_say_what_they_are_about() {
    let names = Names::new("robots.hall-1").unwrap();
    let shards = ShardCount::default();
    let shard = shards.all().nth(7).unwrap();
    let member = Member::parse("pool-0").unwrap();
    for (about, name) in [
        (About::Pool, "robots.hall-1-pool"),
        (About::Member(member), "robots.hall-1-pool-member-pool-0"),
        (About::Shard(shard), "robots.hall-1-pool-shard-7"),
    ] {
        assert_eq!(names.of(&about), name);
        let mut lease = Lease::default();
        lease.metadata.name = Some(name.to_owned());
        assert_eq!(names.about(&lease, shards), Some(about));
    }
    for name in ["robots.hall-1-pool-shard-64", "robots.hall-1", "other-pool"] {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name.to_owned());
        assert_eq!(names.about(&lease, shards), None, "{name}");
    }
    for name in ["", "A", "a_b", "-a", "a.", "a..b", &"a".repeat(64)] {
        assert!(Names::new(name).is_err(), "{name}");
    }
    assert_eq!(
        Identity::member_of("pool-0_1a2b3c4d"),
        Member::parse("pool-0").ok()
    );
    assert_eq!(Identity::member_of("by-hand"), None);
}
