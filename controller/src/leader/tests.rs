//! The election on a paused clock, with a Lease in memory. In: candidates, cut connections.
//! Out: who led when.

use std::sync::{Mutex, MutexGuard};

use akri_mqtt_runtime::Shutdown;

use super::*;

/// The API server's part: versions, conflicts, and connections that can be cut or hang.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    lease: Option<Lease>,
    version: u64,
    cut: Vec<&'static str>,
    hung: Vec<&'static str>,
    writes: u32,
    reads: u32,
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap()
    }

    fn holder(&self) -> Option<String> {
        let record = self.lock().lease.as_ref().map(lease::record)?;
        record.holder.map(|holder| holder.to_string())
    }

    fn candidate(&self, name: &'static str) -> Candidate {
        let tasks = Tasks::new(Shutdown::new());
        let leases = Connection {
            server: self.clone(),
            name,
        };
        let leadership = Leadership::join(
            (leases, "x".to_owned()),
            name.into(),
            Timing::default(),
            &tasks,
        );
        Candidate { leadership, tasks }
    }
}

struct Connection {
    server: Server,
    name: &'static str,
}

impl Connection {
    async fn reach(&self) -> Result<(), Failure> {
        let hung = self.server.lock().hung.contains(&self.name);
        if hung {
            std::future::pending::<()>().await;
        }
        if self.server.lock().cut.contains(&self.name) {
            return Err(Failure::Other("refused".to_owned()));
        }
        Ok(())
    }
}

impl Leases for Connection {
    async fn read(&self, _: &str) -> Result<Option<Lease>, Failure> {
        self.reach().await?;
        let mut shared = self.server.lock();
        shared.reads += 1;
        Ok(shared.lease.clone())
    }

    async fn write(&self, _: &str, mut lease: Lease) -> Result<Lease, Failure> {
        self.reach().await?;
        let mut shared = self.server.lock();
        let current = shared
            .lease
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.clone());
        if current != lease.metadata.resource_version {
            return Err(Failure::Conflict);
        }
        shared.version += 1;
        shared.writes += 1;
        lease.metadata.resource_version = Some(shared.version.to_string());
        shared.lease = Some(lease.clone());
        Ok(lease)
    }
}

struct Candidate {
    leadership: Leadership,
    tasks: Tasks,
}

impl Candidate {
    fn leads(&self) -> bool {
        *self.leadership.leading().borrow()
    }

    async fn becomes(&self, leads: bool) -> Duration {
        let begun = Instant::now();
        let mut leading = self.leadership.leading();
        let wait = leading.wait_for(|now| *now == leads);
        timeout(Duration::from_secs(60), wait)
            .await
            .unwrap()
            .unwrap();
        begun.elapsed()
    }

    /// A clean stop.
    async fn stop(self) {
        self.tasks.shutdown().trigger();
        self.leadership.release().await;
        self.tasks.join().await.unwrap();
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_the_other_knows_who() {
    let server = Server::default();
    let first = server.candidate("a");
    assert!(first.becomes(true).await < Duration::from_secs(1));
    let second = server.candidate("b");
    pass(60).await;
    assert!(first.leads() && !second.leads());
    assert_eq!(second.leadership.holder().borrow().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_back_is_taken_over_within_a_second() {
    let server = Server::default();
    let first = server.candidate("a");
    first.becomes(true).await;
    let second = server.candidate("b");
    pass(10).await;
    let begun = Instant::now();
    first.stop().await;
    second.becomes(true).await;
    assert!(begun.elapsed() <= Duration::from_secs(1));
    assert_eq!(server.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_steps_down_before_the_other_begins() {
    for how in ["cut", "hung"] {
        let server = Server::default();
        let first = server.candidate("a");
        first.becomes(true).await;
        let second = server.candidate("b");
        pass(10).await;
        let cut = Instant::now();
        match how {
            "cut" => server.lock().cut.push("a"),
            _ => server.lock().hung.push("a"),
        }
        first.becomes(false).await;
        let down = cut.elapsed();
        assert!(down <= Duration::from_secs(10), "{how}: {down:?}");
        assert!(!second.leads(), "{how}");
        second.becomes(true).await;
        let up = cut.elapsed();
        assert!(up >= down + Duration::from_secs(4), "{how}: {up:?}");
        assert!(up <= Duration::from_secs(17), "{how}: {up:?}");
        server.lock().cut.clear();
        server.lock().hung.clear();
        pass(30).await;
        assert!(!first.leads() && second.leads(), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_survives_an_outage_shorter_than_its_deadline() {
    let server = Server::default();
    let first = server.candidate("a");
    first.becomes(true).await;
    let mut leading = first.leadership.leading();
    leading.mark_unchanged();
    for how in ["cut", "hung"] {
        match how {
            "cut" => server.lock().cut.push("a"),
            _ => server.lock().hung.push("a"),
        }
        pass(5).await;
        server.lock().cut.clear();
        server.lock().hung.clear();
        pass(20).await;
        assert!(!leading.has_changed().unwrap(), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_everybody_is_cut_off_the_first_to_return_leads() {
    let server = Server::default();
    let first = server.candidate("a");
    first.becomes(true).await;
    let second = server.candidate("b");
    pass(5).await;
    server.lock().cut.extend(["a", "b"]);
    pass(60).await;
    assert!(!first.leads() && !second.leads());
    server.lock().cut.retain(|name| *name == "b");
    first.becomes(true).await;
    server.lock().cut.clear();
    pass(30).await;
    assert!(first.leads() && !second.leads());
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_edit_of_the_labels_costs_no_leadership() {
    let server = Server::default();
    let first = server.candidate("a");
    first.becomes(true).await;
    let mut leading = first.leadership.leading();
    leading.mark_unchanged();
    for _ in 0..20 {
        {
            let mut shared = server.lock();
            shared.version += 1;
            let version = shared.version.to_string();
            let lease = shared.lease.as_mut().unwrap();
            lease.metadata.resource_version = Some(version);
        }
        pass(1).await;
    }
    assert!(!leading.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_steady_leader_writes_every_two_seconds_and_reads_nothing() {
    let server = Server::default();
    let first = server.candidate("a");
    first.becomes(true).await;
    let (reads, writes) = {
        let shared = server.lock();
        (shared.reads, shared.writes)
    };
    pass(100).await;
    let shared = server.lock();
    assert_eq!(shared.reads, reads);
    assert!((49..=51).contains(&(shared.writes - writes)));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_stops_leaves_the_lease_alone() {
    let server = Server::default();
    let first = server.candidate("a");
    first.becomes(true).await;
    server.candidate("b").stop().await;
    assert_eq!(server.holder().as_deref(), Some("a"));
    assert!(first.leads());
}

#[tokio::test]
async fn without_election_it_leads_and_its_watchers_see_no_end() {
    let alone = Leadership::alone("pod");
    let leading = alone.leading();
    assert!(*leading.borrow());
    assert!(!leading.has_changed().unwrap());
    assert_eq!(alone.holder().borrow().as_deref(), Some("pod"));
    alone.release().await;
}
