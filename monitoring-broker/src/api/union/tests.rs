//! Members with real stores and real ports, in one process: what one of them answers for all.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::tls::TlsFiles;
use akri_mqtt_runtime::{Health, Tasks};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::access::{self, Access, AccessFiles, AccessMetrics, PortName};
use crate::api::grpc;
use crate::api::service::{
    DeviceQuery, MessageQuery, ReadingQuery, Start, WatchEvent, WatchQuery, limit,
};
use crate::api::testing::{Bench, DEADLINE, device, listener};
use crate::devices::State;
use crate::pool::Peer;
use crate::talk::{self, AllowedTopic, Command, CommandError, Commands, TalkOptions};

const TOKEN: &[u8] = b"Bearer 0123456789abcdef";
/// Belongs to the member `b` while `a` and `b` live.
const OF_B: &str = "plant-a/r2";

/// The members of a pool, each with its bench.
struct Scene {
    files: AccessFiles,
    directory: TempDir,
    tasks: Tasks,
    allow_publish: Vec<AllowedTopic>,
    live: watch::Sender<Live>,
    benches: BTreeMap<&'static str, Bench>,
}

impl Scene {
    async fn new(files: AccessFiles, directory: TempDir) -> Self {
        let mut scene = Self {
            files,
            directory,
            tasks: Tasks::new(Shutdown::new()),
            allow_publish: Vec::new(),
            live: watch::Sender::default(),
            benches: BTreeMap::new(),
        };
        for name in ["a", "b"] {
            scene.join(name).await;
        }
        // Each watches one of the two devices.
        for (name, left) in [("a", OF_B), ("b", "plant-a/r1")] {
            let devices = &scene.benches[name].service.devices;
            devices.set_watched(&left.into(), false);
            devices.set_presence(left, |presence| presence.state = State::Unknown);
        }
        scene
    }

    async fn open() -> Self {
        Self::new(AccessFiles::default(), tempfile::tempdir().unwrap()).await
    }

    async fn join(&mut self, name: &'static str) {
        let mut bench = Bench::new();
        bench.service.expect_pool();
        bench.service.commands = Commands::new(TalkOptions {
            allow_publish: self.allow_publish.clone(),
            ..TalkOptions::default()
        });
        let (listener, address) = listener().await;
        let access = Access::open(&self.files, &self.tasks).unwrap();
        let (port, gate) = access.front(PortName::Grpc, listener);
        tokio::spawn(grpc::run(port, bench.service.clone(), Health::new(), gate));
        let metrics = AccessMetrics::default();
        let ca = self.directory.path().join("ca.crt");
        let tls = access::peers(self.files.tls.as_ref(), Some(&ca), &self.tasks, &metrics);
        let others = Others::new(
            Member::parse(name).unwrap(),
            ShardCount::default(),
            self.live.subscribe(),
            tls.unwrap(),
            ForwardMetrics::default(),
        );
        bench.service.join(others);
        self.says(name, address.port(), bench.service.store.id());
        self.benches.insert(name, bench);
    }

    fn says(&self, name: &str, port: u16, store: &str) {
        let peer = Peer {
            address: format!("localhost:{port}").parse().unwrap(),
            store: store.to_owned(),
        };
        self.live.send_modify(|live| {
            live.insert(Member::parse(name).unwrap(), Some(peer));
        });
    }

    fn ask(&self, name: &str) -> Asked {
        let caller = Caller::new(Some(TOKEN), None);
        Asked::new(self.benches[name].service.clone(), caller).unwrap()
    }
}

fn with_tls() -> (AccessFiles, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let path = |name: &str| directory.path().join(name);
    for (name, text) in [
        ("tls.crt", certificate),
        ("tls.key", key.serialize_pem()),
        ("ca.crt", authority),
        ("tokens", "0123456789abcdef\n".to_owned()),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    let files = AccessFiles {
        tls: Some(TlsFiles {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            client_authorities: Some(path("ca.crt")),
        }),
        tokens: Some(path("tokens")),
    };
    (files, directory)
}

fn history(device: &str) -> MessageQuery {
    MessageQuery {
        device: device.to_owned(),
        ascending: true,
        limit: limit("limit", 0).unwrap(),
        ..MessageQuery::default()
    }
}

fn command(device: &str) -> Command {
    Command {
        device: device.to_owned(),
        topic: "cmd".to_owned(),
        payload: "on".into(),
        qos: 1,
        retain: false,
        content_type: None,
        user_properties: Vec::new(),
        expect_response: false,
        timeout: talk::timeout("timeout", None).unwrap(),
        peer: None,
    }
}

async fn payloads(asked: &Asked, device: &str) -> (Vec<String>, About) {
    let (page, about) = asked.query(&history(device)).await.unwrap();
    let payloads = page.messages.into_iter().map(|view| {
        let payload = view.stored.record.payload.to_vec();
        String::from_utf8(payload).unwrap()
    });
    (payloads.collect(), about)
}

#[tokio::test]
async fn members_answer_for_each_other_over_mutual_tls_with_the_token_of_the_caller() {
    let (files, directory) = with_tls();
    let scene = Scene::new(files, directory).await;
    let big = i64::MAX.to_string();
    scene.benches["a"].send("r2", "t", "1").await;
    scene.benches["b"].pass_time(10);
    scene.benches["b"].send("r2", "t", big.clone()).await;
    let asked = scene.ask("a");

    let (found, about) = payloads(&asked, OF_B).await;
    assert_eq!(found, ["1".to_owned(), big.clone()]);
    assert!(!about.partial && about.device.watched);
    let (latest, _) = asked.latest(OF_B, "topic", None).await.unwrap();
    assert_eq!(latest.len(), 1);
    assert_eq!(latest[0].stored.record.payload, big);
    let query = ReadingQuery {
        messages: history(OF_B),
        ..ReadingQuery::default()
    };
    let (readings, _) = asked.readings(&query).await.unwrap();
    let readings: Vec<_> = readings
        .readings
        .iter()
        .map(|it| it.value.clone())
        .collect();
    use akri_mqtt_core::decode::Value;
    assert_eq!(readings, [Value::Int(1), Value::Int(i64::MAX)]);

    // The members see the same list, each device as the one shows it that watches it.
    let query = DeviceQuery {
        limit: 10,
        ..DeviceQuery::default()
    };
    let page = asked.devices(&query).await.unwrap();
    assert_eq!((page.counts.online, page.devices.len()), (2, 2));
    assert!(!page.partial && page.devices.iter().all(|view| view.watched));
    let other = scene.ask("b").devices(&query).await.unwrap();
    assert_eq!(page.devices, other.devices);

    // Errors come as the other member finds them.
    assert_eq!(
        asked.publish(command(OF_B)).await.unwrap_err(),
        ServiceError::PublishingIsOff
    );
    let unknown = asked.device("plant-a/nobody").await.unwrap_err();
    assert_eq!(unknown, ServiceError::unknown_device("plant-a/nobody"));

    // Without a token the other member does not answer, and that is told.
    let service = scene.benches["a"].service.clone();
    let anybody = Asked::new(service.clone(), Caller::default()).unwrap();
    let (found, about) = payloads(&anybody, OF_B).await;
    assert_eq!((found, about.partial), (vec!["1".to_owned()], true));
    let error = anybody.publish(command(OF_B)).await.unwrap_err();
    assert!(matches!(error, ServiceError::Unreachable(_)), "{error}");

    // Who takes this member for another one gets no answer.
    let mistaken = Caller::new(Some(TOKEN), Some(b"another-store"));
    assert!(Asked::new(service, mistaken).is_err());
}

#[tokio::test]
async fn before_it_is_in_its_pool_a_member_answers_other_members_only() {
    let service = Bench::new().service;
    service.expect_pool();
    let ask = |caller| Asked::new(service.clone(), caller);
    let error = ask(Caller::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "this process is not a member of its pool yet; ask again later"
    );
    assert!(matches!(error, ServiceError::Unreachable(_)));
    assert!(ask(Caller::new(None, Some(service.store.id().as_bytes()))).is_ok());
}

#[tokio::test]
async fn a_member_that_hangs_is_left_out_and_the_answer_says_so() {
    let scene = Scene::open().await;
    scene.benches["b"].send("r2", "t", "1").await;
    // Takes connections and never answers.
    let (_listener, address) = listener().await;
    scene.says("c", address.port(), "store-c");
    let asked = scene.ask("a");
    let answer = timeout(DEADLINE, payloads(&asked, OF_B)).await;
    let (found, about) = answer.unwrap();
    assert_eq!((found, about.partial), (vec!["1".to_owned()], true));
    let error = asked.device("plant-a/nobody").await.unwrap_err();
    assert!(
        matches!(&error, ServiceError::Unreachable(why) if why.contains("member c")),
        "{error}"
    );
}

#[tokio::test]
async fn a_command_for_a_device_that_changes_hands_was_not_sent_and_says_so() {
    let mut scene = Scene::open().await;
    scene.allow_publish = vec!["cmd".parse().unwrap()];
    for name in ["c", "d"] {
        scene.join(name).await;
        for id in ["plant-a/r1", OF_B] {
            scene.benches[name].service.devices.remove(id);
        }
    }
    let (from, to) = (scene.ask("a"), scene.ask("c"));
    let others = from.others().unwrap();
    // It belongs to `c`, and `b` watches it still.
    let mut ids = (0..).map(|number| format!("plant-a/x{number}"));
    let of_c = |id: &String| others.owner(id).is_some_and(|owner| owner.as_str() == "c");
    let id = ids.find(of_c).unwrap();
    let kept = &scene.benches["b"].service.devices;
    kept.put(device(id.strip_prefix("plant-a/").unwrap()));
    kept.set_watched(&id.as_str().into(), true);
    let goes = "the device goes to the member c of the pool just now; nothing was sent";
    for asked in [&from, &to] {
        let error = asked.publish(command(&id)).await.unwrap_err();
        let unavailable = CommandError::Unavailable(goes.to_owned());
        assert_eq!(error, ServiceError::Command(unavailable));
    }
    kept.set_watched(&id.as_str().into(), false);
    let error = from.publish(command(&id)).await.unwrap_err();
    let not_served = CommandError::NotServed(id.clone());
    assert_eq!(error, ServiceError::Command(not_served));
    kept.remove(&id);
    let error = from.publish(command(&id)).await.unwrap_err();
    assert_eq!(error, ServiceError::unknown_device(&id));
}

/// The payloads of the next messages of a stream, and the cursor after them.
async fn next(stream: &mut Stream, count: usize) -> (Vec<String>, String) {
    let (mut found, mut cursor) = (Vec::new(), stream.cursor());
    while found.len() < count {
        let event = timeout(DEADLINE, stream.next()).await.unwrap().unwrap();
        match event.unwrap() {
            WatchEvent::Message(view) => {
                let payload = view.stored.record.payload.to_vec();
                found.push(String::from_utf8(payload).unwrap());
                cursor = view.cursor;
            }
            WatchEvent::Gap { reason, .. } => found.push(reason),
            WatchEvent::Presence(_) | WatchEvent::Position { .. } => {}
        }
    }
    found.sort();
    (found, cursor)
}

fn since_ever() -> WatchQuery {
    WatchQuery {
        start: Start::Since(jiff::Timestamp::UNIX_EPOCH),
        ..WatchQuery::default()
    }
}

#[tokio::test]
async fn a_stream_of_all_members_is_resumed_with_any_of_them_without_loss_or_repetition() {
    let mut scene = Scene::open().await;
    scene.benches["a"].count(0..3).await;
    scene.benches["b"].count(3..6).await;
    let mut stream = scene.ask("a").watch(since_ever()).await.unwrap();
    let (found, cursor) = next(&mut stream, 6).await;
    assert_eq!(found, ["0", "1", "2", "3", "4", "5"]);
    // One reader, whom one member has.
    let watchers = |name| scene.benches[name].service.metrics.watchers.get();
    assert_eq!((watchers("a"), watchers("b")), (1, 0));

    scene.benches["a"].count(6..7).await;
    scene.benches["b"].count(7..9).await;
    let resumed = WatchQuery {
        start: Start::Cursor(cursor),
        ..WatchQuery::default()
    };
    let mut resumed = scene.ask("b").watch(resumed).await.unwrap();
    assert_eq!(next(&mut resumed, 3).await.0, ["6", "7", "8"]);
    assert_eq!(next(&mut stream, 3).await.0, ["6", "7", "8"]);

    // One that comes is taken in, with what it stored since the stream began.
    scene.join("c").await;
    scene.benches["c"].count(9..10).await;
    assert_eq!(next(&mut stream, 1).await.0, ["9"]);
    assert_eq!(next(&mut resumed, 1).await.0, ["9"]);

    // One that goes in order has sent everything: nothing is told, and the stream goes on.
    let gone = Member::parse("c").unwrap();
    scene.live.send_modify(|live| drop(live.remove(&gone)));
    scene.benches["c"].service.shutdown.trigger();
    scene.benches["b"].count(10..11).await;
    let (found, cursor) = next(&mut stream, 1).await;
    assert_eq!(found, ["10"]);

    // A cursor that names it says that it is not there.
    let resumed = WatchQuery {
        start: Start::Cursor(cursor),
        ..WatchQuery::default()
    };
    let mut resumed = scene.ask("b").watch(resumed).await.unwrap();
    let (found, _) = next(&mut resumed, 1).await;
    let gaps = |name| scene.benches[name].service.metrics.gaps.get();
    assert_eq!((gaps("a"), gaps("b")), (0, 1));
    let store = scene.benches["c"].service.store.id();
    assert!(
        found[0].starts_with(&format!("No member has the store {store}")),
        "{found:?}"
    );
}

#[tokio::test]
async fn presence_comes_once_from_the_member_that_watches_the_device() {
    let scene = Scene::open().await;
    let query = WatchQuery {
        presence: true,
        ..WatchQuery::default()
    };
    let mut stream = scene.ask("a").watch(query).await.unwrap();
    let mut seen = Vec::new();
    for round in 0..3 {
        if round == 2 {
            scene.benches["b"].set_state(OF_B, State::Offline);
        }
        let event = timeout(DEADLINE, stream.next()).await.unwrap().unwrap();
        match event.unwrap() {
            WatchEvent::Presence(view) => {
                seen.push((view.device.id.to_string(), view.device.presence.state));
            }
            other => panic!("presence expected, found {other:?}"),
        }
    }
    assert_eq!(seen.pop(), Some((OF_B.to_owned(), State::Offline)));
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let online = ["plant-a/r1", OF_B].map(|id| (id.to_owned(), State::Online));
    assert_eq!(seen, online);
}

#[test]
fn connections_to_members_that_go_are_dropped() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let scene = Scene::open().await;
        let others = scene.benches["a"].service.pool.get().unwrap().clone();
        let link = others.present().links.pop().unwrap();
        let weak = Arc::downgrade(&link);
        drop(link);
        assert!(weak.upgrade().is_some());
        let followed = tokio::spawn(others.follow(Shutdown::new()));
        scene.live.send_replace(Live::new());
        let end = std::time::Instant::now() + DEADLINE;
        while weak.upgrade().is_some() {
            assert!(std::time::Instant::now() < end);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        followed.abort();
    });
}
