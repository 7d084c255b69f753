//! A real store in a directory of its own, with devices, for the tests of service and fronts.
//! In: messages and presence. Out: the service over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use akri_mqtt_core::decode::Decoder;
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_runtime::tls::Port;
use akri_mqtt_runtime::{Shutdown, Tasks};
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;

use super::Service;
use super::service::Decoders;
use crate::access::{Access, AccessFiles, Gate, PortName};
use crate::devices::{Device, Devices, Presence, State};
use crate::metrics::StoreMetrics;
use crate::store::{Arrival, Config, Place, Store};

pub const SECOND: i64 = 1_000_000_000;
/// 2025-01-01T00:00:00Z.
pub const START: i64 = 1_735_689_600 * SECOND;
/// What is waited for comes within this time, or never.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Bench {
    pub service: Service,
    pub time: Arc<AtomicI64>,
    directory: TempDir,
}

impl Bench {
    /// Devices `plant-a/r1`, `plant-a/r2`, online; topics below `raw/` are bytes.
    pub fn new() -> Self {
        Self::retaining(Duration::from_secs(86_400))
    }

    pub fn retaining(retain_for: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&time);
        let store = Store::open(Config {
            directory: directory.path().to_owned(),
            retain_for,
            retain_bytes: 256 << 20,
            commit_window: Duration::from_millis(1),
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
            observer: Arc::new(|_, _, _| {}),
            metrics: StoreMetrics::default(),
        });
        let raw = TopicFilter::parse("raw/#").unwrap();
        let strict = TopicFilter::parse("strict").unwrap();
        let decoders = Decoders::new(vec![(raw, Decoder::Bytes), (strict, Decoder::Json)]);
        let devices = Arc::new(Devices::default());
        for name in ["r1", "r2"] {
            let device = device(name);
            let id = Arc::clone(&device.id);
            devices.put(device);
            devices.set_watched(&id, true);
        }
        let service = Service::new(store.unwrap(), devices, decoders, Shutdown::new());
        Self {
            service,
            time,
            directory,
        }
    }

    pub fn pass_time(&self, seconds: i64) {
        self.time.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }

    pub fn arrival(&self, name: &str, topic: &str, payload: impl Into<Bytes>) -> Arrival {
        Arrival {
            place: Arc::new(Place::new(topic, [format!("plant-a/{name}").into()])),
            payload: payload.into(),
            qos: 1,
            retained: false,
            duplicate: false,
            time: self.time.load(Ordering::Relaxed),
            properties: None,
            packet: None,
            is_observed: false,
            receipt: None,
        }
    }

    /// Stores a message of `plant-a/<name>`, one second after the one before.
    pub async fn send(&self, name: &str, topic: &str, payload: impl Into<Bytes>) {
        let arrival = self.arrival(name, topic, payload);
        self.service.store.append(arrival).await.unwrap();
        self.service.store.sync().await.unwrap();
        self.pass_time(1);
    }

    /// Stores the numbers of a range as messages of `plant-a/r1` on `t`.
    pub async fn count(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let arrival = self.arrival("r1", "t", number.to_string());
            self.service.store.append(arrival).await.unwrap();
        }
        self.service.store.sync().await.unwrap();
    }

    /// Lets everything grow old, and waits until retention has deleted it.
    pub async fn forget(&self, oldest: u64) {
        self.pass_time(1_000_000);
        self.forget_but(oldest).await;
    }

    /// Waits until retention has deleted everything before a sequence.
    pub async fn forget_but(&self, oldest: u64) {
        until("retention", || self.service.store.oldest() == oldest).await;
    }

    /// Damages the block that begins with a sequence.
    pub fn damage(&self, first: u64) {
        let path = self.directory.path().join("store.db");
        let other = rusqlite::Connection::open(path).unwrap();
        other.busy_timeout(DEADLINE).unwrap();
        let sql = "UPDATE blocks SET data=zeroblob(length(data)) WHERE first=?";
        assert_eq!(other.execute(sql, [first]).unwrap(), 1);
    }

    pub fn set_state(&self, id: &str, state: State) {
        let changed = self.service.devices.set_presence(id, |presence| {
            presence.state = state;
        });
        assert!(changed.is_some());
    }

    pub fn cursor(&self, sequence: u64) -> String {
        format!("{}:{sequence}", self.service.store.id())
    }
}

pub fn device(name: &str) -> Device {
    Device {
        id: format!("plant-a/{name}").into(),
        name: name.to_owned(),
        server: "plant-a".to_owned(),
        topics: vec![format!("robots/{name}/#")],
        is_shared: false,
        presence: Presence {
            state: State::Online,
            since: Timestamp::from_second(1_735_689_600).unwrap(),
            reason: "It sent a message.".to_owned(),
            server_connected: true,
        },
    }
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server of either front on a port of its own; stops when the bench's service is shut down.
pub async fn listener() -> (tokio::net::TcpListener, std::net::SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port that is open to everybody.
pub fn open_port(name: PortName, listener: tokio::net::TcpListener) -> (Port, Gate) {
    let tasks = Tasks::new(Shutdown::new());
    let access = Access::open(&AccessFiles::default(), &tasks).unwrap();
    access.front(name, listener)
}
