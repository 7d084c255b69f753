//! Sparkplug B: the corpus, hostile payloads, and when an Edge Node is asked for a rebirth. Names that begin with
//! `tck_id` are of assertions of Eclipse Sparkplug 3.0.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::presence::Outgoing;

const CORPUS: &str = include_str!("../../../tests/data/sparkplugB/messages.tsv");

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// The payload of the corpus' message number `n` of this type.
fn payload(kind: &str, n: usize) -> Vec<u8> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#'));
    let mut of_kind = lines.filter(|line| line.split('/').nth(2) == Some(kind));
    bytes(of_kind.nth(n).unwrap().split('\t').nth(1).unwrap())
}

impl World {
    fn with(rebirth: bool, device: Option<&str>) -> Self {
        let convention = Convention::SparkplugB {
            groups: filters_of(&["+"]),
            host_id: None,
            rebirth,
        };
        let context = Context {
            device: device.map(str::to_owned),
            ..Context::default()
        };
        Self {
            module: convention.module(&context),
            now: Tick::START,
        }
    }

    fn hear(&mut self, kind: &str, n: usize) {
        let device = if kind.starts_with('D') { "/press" } else { "" };
        let topic = format!("spBv1.0/g/{kind}/n{device}");
        self.read(&topic, &payload(kind, n));
    }

    /// The requests until so long from now, each with its time in milliseconds since now.
    fn asked(&mut self, within: Duration) -> Vec<(u128, Outgoing)> {
        let (start, mut all) = (self.now, Vec::new());
        let end = start.plus(within);
        while let Some(next) = self.module.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.module.wake(self.now);
            let mut out = Vec::new();
            self.module.outgoing(1_486_144_502_122, &mut out);
            let at = self.now.since(start).as_millis();
            all.extend(out.into_iter().map(|one| (at, one)));
        }
        self.now = end;
        all
    }

    /// When requests come until so long from now.
    fn times(&mut self, within: u64) -> Vec<u128> {
        let asked = self.asked(Duration::from_secs(within));
        asked.into_iter().map(|(at, _)| at).collect()
    }
}

#[test]
fn sparkplug_b_is_read_as_eclipse_tahu_writes_it() {
    play_bytes(&sparkplug_b(), CORPUS, bytes);
}

#[test]
fn groups_that_are_not_named_are_left_alone() {
    let convention = Convention::SparkplugB {
        groups: filters_of(&["a", "b"]),
        host_id: None,
        rebirth: true,
    };
    let mut world = World::of(&convention);
    let birth = payload("NBIRTH", 0);
    assert_eq!(
        world.said_bytes("spBv1.0/b/NBIRTH/n", &birth),
        ["b/n online"]
    );
    assert_eq!(world.said_bytes("spBv1.0/c/NBIRTH/n", &birth), ["not mine"]);
    let all = convention.filters(None);
    let texts: Vec<&str> = all.announcing.iter().map(TopicFilter::as_str).collect();
    assert_eq!(
        texts[..5],
        [
            "spBv1.0/a/NBIRTH/+",
            "spBv1.0/a/NDEATH/+",
            "spBv1.0/a/DBIRTH/+/+",
            "spBv1.0/a/DDEATH/+/+",
            "spBv1.0/a/NCMD/+",
        ]
    );
    assert_eq!((texts.len(), all.data.len()), (10, 4));
}

#[test]
fn retained_messages_prove_nothing() {
    let mut world = World::of(&sparkplug_b());
    let birth = payload("NBIRTH", 0);
    let message = Inbound {
        topic: "spBv1.0/g/NBIRTH/n",
        payload: &birth,
        retained: true,
        qos: QoS::AtMostOnce,
    };
    let mut said = Vec::new();
    let verdict = world.module.read(&message, Tick::START, &mut said);
    assert_eq!(verdict, Verdict::Ignored(Ignored::Retained));
    assert!(said.is_empty());
}

#[test]
fn tck_id_operational_behavior_data_commands_ncmd_rebirth_is_sent_to_a_node_without_a_birth() {
    let mut world = World::with(true, None);
    world.hear("NDATA", 0);
    world.hear("NDATA", 0);
    let asked = world.asked(Duration::from_secs(1));
    let (at, request) = &asked[0];
    assert_eq!((asked.len(), *at), (1, 0));
    assert_eq!(request.topic, "spBv1.0/g/NCMD/n");
    // The corpus has one of Eclipse Tahu, whose metric has a time as well.
    assert!(crate::sparkplug::asks_for_rebirth(&request.payload));
    assert!(crate::sparkplug::asks_for_rebirth(&payload("NCMD", 0)));
    assert!(!crate::sparkplug::asks_for_rebirth(&payload("NCMD", 1)));
    assert_eq!(
        request.payload,
        bytes("08eaf2f5a8a02b121a0a144e6f646520436f6e74726f6c2f52656269727468200b7001")
    );
}

#[test]
fn a_node_is_asked_once_in_30_s_until_it_is_born() {
    let mut world = World::with(true, None);
    let mut times = Vec::new();
    for _ in 0..40 {
        world.hear("DDATA", 0);
        times.extend(world.times(1));
    }
    assert_eq!(times.len(), 2);
    world.hear("NBIRTH", 0);
    world.hear("DBIRTH", 0);
    world.hear("NDATA", 1);
    assert!(world.times(600).is_empty());
    let mut quiet = World::with(false, None);
    quiet.hear("DDATA", 0);
    assert!(quiet.times(600).is_empty());
}

#[test]
fn a_request_of_somebody_else_counts_as_ours() {
    let mut world = World::with(true, None);
    world.hear("NCMD", 0);
    world.hear("NDATA", 0);
    assert_eq!(world.times(29), [0_u128; 0]);
    assert_eq!(world.times(2), [1_000]);
}

#[test]
fn tck_id_operational_behavior_host_reordering_rebirth_is_asked_for_what_stays_missing() {
    let mut world = World::with(true, None);
    world.hear("NBIRTH", 0);
    world.hear("DBIRTH", 0);
    world.hear("DDATA", 1);
    assert_eq!(world.times(10), [2_000], "number 2 is missing");
}

#[test]
fn tck_id_operational_behavior_host_reordering_success_nobody_is_asked_for_what_came_late() {
    let mut world = World::with(true, None);
    world.hear("NBIRTH", 0);
    world.hear("DBIRTH", 0);
    world.hear("DDATA", 1);
    assert!(world.times(1).is_empty());
    world.hear("NDATA", 1);
    assert!(world.times(100).is_empty());
}

#[test]
fn nodes_that_were_known_before_a_connection_are_asked_unless_they_are_born_by_themselves() {
    let mut world = World::with(true, None);
    world.module.restored("g/n/press");
    world.module.restored("g/other");
    world.module.connected();
    world.module.snapshot_complete(world.now, &mut Vec::new());
    assert!(world.times(4).is_empty());
    world.hear("NBIRTH", 0);
    let asked = world.asked(Duration::from_secs(100));
    let topics: Vec<&str> = asked.iter().map(|(_, one)| one.topic.as_str()).collect();
    assert_eq!(topics, ["spBv1.0/g/NCMD/other"]);
}

#[test]
fn after_a_connection_a_death_of_any_session_counts_and_takes_restored_devices_along() {
    let mut world = World::with(true, None);
    world.hear("NBIRTH", 0);
    world.module.restored("g/n/press");
    world.module.connected();
    let said = world.said_bytes("spBv1.0/g/NDEATH/n", &payload("NDEATH", 0));
    assert_eq!(said, ["g/n offline", "g/n/press offline"]);
}

#[test]
fn a_lost_session_makes_doubtful_who_can_be_asked() {
    for rebirth in [true, false] {
        let mut world = World::with(rebirth, None);
        world.hear("NBIRTH", 0);
        world.hear("DBIRTH", 0);
        world.module.connected();
        let mut said = Vec::new();
        world.module.session_lost(&mut said);
        let expected: &[&str] = if rebirth { &["g/n", "g/n/press"] } else { &[] };
        let doubted: Vec<&str> = said.iter().map(|said| said.device.as_str()).collect();
        assert_eq!(doubted, expected);
        assert!(said.iter().all(|said| said.evidence == Evidence::Doubted));
    }
}

#[test]
fn a_monitoring_broker_asks_for_its_own_device_only_and_not_at_once() {
    let mut world = World::with(true, Some("g/n/press"));
    let said = world.said_bytes("spBv1.0/g/NDEATH/n", &payload("NDEATH", 0));
    assert_eq!(said, ["g/n offline", "g/n/press offline"]);
    world.hear("DDATA", 0);
    let times = world.times(10);
    assert_eq!(times.len(), 1);
    assert!(times[0] < 4_000);
    // It hears only a part of what the node says: gaps mean nothing.
    world.hear("NBIRTH", 0);
    world.hear("DBIRTH", 0);
    world.hear("DDATA", 1);
    assert!(world.times(100).is_empty());
    let own = sparkplug_b().filters(Some("g/n/press"));
    let texts = |filters: &[TopicFilter]| -> Vec<String> {
        filters.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        texts(&own.announcing),
        [
            "spBv1.0/g/NBIRTH/n",
            "spBv1.0/g/NDEATH/n",
            "spBv1.0/g/DBIRTH/n/press",
            "spBv1.0/g/DDEATH/n/press",
            "spBv1.0/g/NCMD/n",
        ]
    );
    assert_eq!(
        texts(&own.data),
        [
            "spBv1.0/g/DBIRTH/n/press",
            "spBv1.0/g/DDATA/n/press",
            "spBv1.0/g/DDEATH/n/press",
        ]
    );
    for wrong in ["", "g", "g/", "g//d", "g/n/d/x", "g/+/d", "#/n"] {
        let filters = sparkplug_b().filters(Some(wrong));
        assert!(filters.data.is_empty() || wrong.contains('+'), "{wrong}");
    }
}

#[test]
fn payloads_that_are_cut_anywhere_or_huge_are_read_or_counted() {
    let kinds = ["NBIRTH", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD"];
    for kind in kinds {
        let whole = payload(kind, 0);
        for end in 0..whole.len() {
            let mut world = World::with(true, None);
            let device = if kind.starts_with('D') { "/d" } else { "" };
            let topic = format!("spBv1.0/g/{kind}/n{device}");
            let (verdict, said) = world.read(&topic, &whole[..end]);
            assert!(verdict == Verdict::Taken || said.is_empty(), "{kind} {end}");
            assert!(end > 0 || verdict != Verdict::Taken, "{kind}");
        }
    }
    let mut world = World::with(true, None);
    // Half a million empty metrics, and a length that lies.
    let huge = [0x12, 0].repeat(1 << 19);
    assert_eq!(
        world.said_bytes("spBv1.0/g/NBIRTH/n", &huge),
        ["unknown_payload"]
    );
    assert_eq!(
        world.said_bytes("spBv1.0/g/DBIRTH/n/d", &huge),
        ["g/n data", "g/n/d online"]
    );
    let lies = b"\x12\xff\xff\xff\xff\x0f";
    assert_eq!(
        world.said_bytes("spBv1.0/g/NDATA/n", lies),
        ["unknown_payload"]
    );
    let long = format!("spBv1.0/g/NBIRTH/{}", "n".repeat(2_000));
    assert_eq!(
        world.said_bytes(&long, &payload("NBIRTH", 0)),
        ["long_name"]
    );
}

#[test]
fn nodes_and_devices_are_remembered_up_to_a_limit_and_given_back() {
    let mut world = World::with(true, None);
    let (birth, death) = (payload("NBIRTH", 0), payload("NDEATH", 1));
    let device = payload("DBIRTH", 0);
    let mut excess = 0;
    let mut hear = |world: &mut World, topic: &str, payload: &[u8]| {
        let said = world.said_bytes(topic, payload);
        excess += usize::from(said.iter().any(|said| said.ends_with(" excess")));
    };
    hear(&mut world, "spBv1.0/g/NBIRTH/n", &birth);
    for n in 0..60_000 {
        hear(&mut world, &format!("spBv1.0/g/NBIRTH/n{n}"), &birth);
        hear(&mut world, &format!("spBv1.0/g/DBIRTH/n/d{n}"), &device);
    }
    assert_eq!(excess, 20_001);
    let said = world.said_bytes("spBv1.0/g/NDEATH/n", &death);
    assert_eq!(said.len(), 1 + 49_999);
    let said = world.said_bytes("spBv1.0/g/NBIRTH/more", &birth);
    assert_eq!(said, ["g/more online"]);
}

proptest! {
    #[test]
    fn whatever_comes_it_is_read_and_requests_stay_bounded(
        noise in prop::collection::vec((0_usize..8, 0_usize..3, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 1..60)
    ) {
        let kinds = ["NBIRTH", "NDEATH", "NDATA", "NCMD", "DBIRTH", "DDEATH", "DDATA", "DCMD"];
        let mut world = World::with(true, None);
        let mut asked = 0;
        for (kind, node, mut bytes, real) in noise {
            let kind = kinds[kind];
            if real {
                bytes = payload(kind, 0);
            }
            let device = if kind.starts_with('D') { "/d" } else { "" };
            world.read(&format!("spBv1.0/g/{kind}/n{node}{device}"), &bytes);
            asked += world.times(1).len();
        }
        prop_assert!(asked <= 3 * 3);
    }
}
