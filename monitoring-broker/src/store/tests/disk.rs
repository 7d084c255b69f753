//! What the store does on a full disk. These tests mount small file systems, which needs root.

use std::collections::BTreeSet;
use std::process::Command;

use super::*;

/// A file system of a few MiB; unmounted with it.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        let needed = "this test needs root, to mount a small file system";
        let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!ci, "{needed}");
        eprintln!("not checked: {needed}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

type Acknowledged = Arc<Mutex<BTreeSet<u64>>>;

/// Messages of 2 kB that note their numbers once they are acknowledged.
fn numbered(bench: &Bench, total: usize, acknowledged: &Acknowledged) -> Vec<Arrival> {
    let payload = "x".repeat(2_000);
    let message = |number: u64| {
        let mut message = bench.message("s/d", "t", format!("{number} {payload}"));
        let acknowledged = Arc::clone(acknowledged);
        message.receipt = Some(receipt(number, move |numbers| {
            acknowledged.lock().unwrap().extend(numbers);
        }));
        message
    };
    (0..).take(total).map(message).collect()
}

async fn full(status: &mut watch::Receiver<Status>) {
    let full = status.wait_for(|status| matches!(status, Status::Full(_)));
    tokio::time::timeout(Duration::from_secs(20), full)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_stops_acknowledging_and_goes_on_when_there_is_room_without_a_loss() {
    let Some(disk) = SmallDisk::mount(12) else {
        return;
    };
    let bench = Bench::new();
    let store = bench.try_open(disk.0.path()).unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 6 << 20]).unwrap();
    let acknowledged = Acknowledged::default();
    let total = 2_500;
    let messages = numbered(&bench, total, &acknowledged);
    let sender = store.clone();
    let sending = tokio::spawn(async move {
        for message in messages {
            sender.append(message).await.unwrap();
        }
    });
    let mut status = store.status();
    full(&mut status).await;
    // What is left of the room, and of the log once it was written back, is used up first.
    let count = || acknowledged.lock().unwrap().len();
    let (mut before, mut since) = (count(), Instant::now());
    until("standstill", async || {
        if count() != before {
            (before, since) = (count(), Instant::now());
        }
        since.elapsed() > Duration::from_millis(1_500)
    })
    .await;
    assert!(before < total, "all {total} messages fitted");
    assert!(matches!(*status.borrow(), Status::Full(_)));
    let committed = usize::try_from(*store.committed().borrow()).unwrap();
    assert_eq!(committed, before);
    std::fs::remove_file(ballast).unwrap();
    tokio::time::timeout(Duration::from_secs(20), sending)
        .await
        .unwrap()
        .unwrap();
    until("all acknowledged", async || {
        acknowledged.lock().unwrap().len() == total
    })
    .await;
    assert_eq!(*status.borrow_and_update(), Status::Ready);
    let stored = all(&store).await;
    assert_eq!(
        numbers(&stored),
        (1..=u64::try_from(total).unwrap()).collect::<Vec<_>>()
    );
    for (number, (_, payload)) in stored.iter().enumerate() {
        assert_eq!(payload.split(' ').next().unwrap(), number.to_string());
    }
    store.close().await;
    drop(store);
    let store = bench.try_open(disk.0.path()).unwrap();
    assert_eq!(all(&store).await.len(), total);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_makes_room_on_a_full_disk_with_the_help_of_the_reserve() {
    let Some(disk) = SmallDisk::mount(12) else {
        return;
    };
    let mut bench = Bench::new();
    bench.retain_for = Duration::from_secs(60);
    let store = bench.try_open(disk.0.path()).unwrap();
    let payload = "x".repeat(2_000);
    for _ in 0..1_000 {
        store
            .append(bench.message("s/d", "t", payload.clone()))
            .await
            .unwrap();
    }
    store.sync().await.unwrap();
    let mut rest = std::fs::File::create(disk.0.path().join("ballast")).unwrap();
    while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
    let (sender, late) = (store.clone(), bench.message("s/d", "t", payload.clone()));
    let more: Vec<_> = (0..3_000)
        .map(|_| bench.message("s/d", "t", payload.clone()))
        .collect();
    let sending = tokio::spawn(async move {
        for message in more {
            sender.append(message).await.unwrap();
        }
        sender.append(late).await.unwrap();
        sender.sync().await.unwrap();
    });
    full(&mut store.status()).await;
    bench.pass_time(120);
    tokio::time::timeout(Duration::from_secs(30), sending)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*store.committed().borrow(), 4_001);
    store.close().await;
}
