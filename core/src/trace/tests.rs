//! The form of traces, and that a replay decides what was decided.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::details::Details;
use crate::presence::{Reason, State};
use crate::topic::FilterTree;

const SERVER: &str = "plant-a";

fn server() -> ServerName {
    ServerName::parse(SERVER).unwrap()
}

fn header() -> Header {
    Header {
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
        program: "0.1.0 (abc)".to_owned(),
        details: "00ff".to_owned(),
        payloads: Payloads::Full,
        servers: vec![server()],
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn message<'a>(topic: &'a str, payload: &'a [u8], retained: bool) -> Message<'a> {
    Message {
        topic: topic.into(),
        qos: QoS::AtLeastOnce,
        retained,
        payload: Payload::Kept(payload.into()),
    }
}

fn said<'a>(topic: &'a str, payload: &'a str) -> Event<'a> {
    Event::Message(message(topic, payload.as_bytes(), false))
}

fn reader() -> Reader {
    Reader::new(header_line(&header()).as_bytes()).unwrap().0
}

#[test]
fn the_lines_are_as_documented() {
    assert_eq!(
        header_line(&header()),
        "{\"format\":\"akri-mqtt-trace\",\"version\":1,\"time\":\"2026-03-01T12:00:00Z\",\"program\":\"0.1.0 (abc)\",\
         \"details\":\"00ff\",\"payloads\":\"full\",\"servers\":[\"plant-a\"]}\n"
    );
    let event = Event::Message(message("robots/r1/status", b"online", true));
    let entry = Entry {
        at: Duration::from_micros(1_500_000),
        what: What::Event(server(), event),
    };
    assert_eq!(
        entry_line(&entry),
        "{\"at\":1500000,\"event\":\"message\",\"server\":\"plant-a\",\"topic\":\"robots/r1/status\",\"qos\":1,\
         \"retained\":true,\"payload\":\"online\"}\n"
    );
    let end = Entry {
        at: secs(2),
        what: What::End,
    };
    assert_eq!(entry_line(&end), "{\"at\":2000000,\"event\":\"end\"}\n");
}

/// Lines, and how what is said about them begins.
const WRONG: [(&str, &str); 16] = [
    ("", "EOF while parsing a value, at column 0"),
    ("{\"at\":1", "EOF while parsing an object, at column 7"),
    (
        r#"{"at":1,"event":"alive","server":"plant-a","more":1}"#,
        "unknown field `more`, expected one of",
    ),
    (
        r#"{"at":-1,"event":"alive","server":"plant-a"}"#,
        "invalid value: integer `-1`, expected u64",
    ),
    (
        r#"{"at":1,"event":"born","server":"plant-a"}"#,
        "unknown variant `born`, expected one of",
    ),
    (
        r#"{"at":1,"event":"alive","server":"Plant"}"#,
        "server: found \"Plant\"; a server's name has",
    ),
    (
        r#"{"at":1,"event":"alive","server":"other"}"#,
        "server: the first line does not name other",
    ),
    (r#"{"at":1,"event":"alive"}"#, "`server` is missing"),
    (
        r#"{"at":1,"event":"end","server":"plant-a"}"#,
        "`server` does not belong to this event",
    ),
    (
        r#"{"at":1,"event":"connected","server":"plant-a"}"#,
        "`resumed` is missing",
    ),
    (
        r#"{"at":1,"event":"message","server":"plant-a","topic":"a/+","qos":1,"retained":true,"payload":""}"#,
        "topic: a topic name contains no wildcard",
    ),
    (
        r#"{"at":1,"event":"message","server":"plant-a","topic":"a","qos":3,"retained":true,"payload":""}"#,
        "qos: found 3; allowed are 0, 1 and 2",
    ),
    (
        r#"{"at":1,"event":"message","server":"plant-a","topic":"a","qos":1,"retained":true,"payload":"","bytes":1}"#,
        "a message has one of payload, base64 and bytes",
    ),
    (
        r#"{"at":1,"event":"message","server":"plant-a","topic":"a","qos":1,"retained":true,"base64":"*"}"#,
        "base64: Invalid",
    ),
    (
        r#"{"at":1,"event":"message","server":"plant-a","topic":"a","qos":1,"retained":true,"bytes":1,"hash":"x"}"#,
        "hash: found \"x\"; allowed are 16 digits",
    ),
    (
        r#"{"at":1,"event":"message","server":"plant-a","topic":"a","qos":1,"retained":true,"payload":"","hash":"0011223344556677"}"#,
        "`hash` does not belong to this event",
    ),
];

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let good = r#"{"at":1,"event":"alive","server":"plant-a"}"#;
    for (line, what) in WRONG {
        let mut reader = reader();
        reader.read(good.as_bytes()).unwrap();
        let fault = reader.read(line.as_bytes()).unwrap_err();
        assert_eq!(fault.line, 3, "{line}");
        assert!(fault.what.starts_with(what), "{line}: {fault}");
    }
}

#[test]
fn nothing_follows_the_end() {
    let mut reader = reader();
    reader.read(br#"{"at":1,"event":"end"}"#).unwrap();
    assert!(reader.has_ended());
    let fault = reader.read(br#"{"at":1,"event":"end"}"#).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "line 3: nothing may follow the line with `end`"
    );
}

#[test]
fn other_files_and_versions_are_told_apart() {
    let told = |first: &str| Reader::new(first.as_bytes()).unwrap_err().to_string();
    assert!(told("kind: Configuration").starts_with("line 1: this is no trace: expected value"));
    assert_eq!(
        told(r#"{"format":"x","version":1}"#),
        "line 1: this is no trace: its format is \"x\", not \"akri-mqtt-trace\""
    );
    assert_eq!(
        told(r#"{"format":"akri-mqtt-trace","version":2,"new":true}"#),
        "line 1: the trace has version 2; this program reads version 1"
    );
    assert!(told(r#"{"format":"akri-mqtt-trace","version":1}"#).contains("missing field `time`"));
}

#[test]
fn a_payload_that_no_line_can_hold_is_left_out() {
    let payload = vec![b'"'; MAX_LINE / 4 + 1];
    let entry = Entry {
        at: secs(1),
        what: What::Event(server(), Event::Message(message("a", &payload, false))),
    };
    let line = entry_line(&entry);
    assert!(line.contains("\"bytes\":16777217") && line.len() < 200);
}

/// Plays events to a machine and says what has changed, in short.
fn play(details: &str, events: &[(u64, Event<'_>)], end: u64) -> (Vec<(State, Reason)>, Replay) {
    let details = Arc::new(Details::parse(details).unwrap());
    let mut replay = Replay::new(details, header().time, Instant::now());
    let mut seen = Vec::new();
    for (at, event) in events {
        seen.extend(run_until(&mut replay, secs(*at)));
        seen.extend(replay.take(secs(*at), &server(), event));
    }
    seen.extend(run_until(&mut replay, secs(end)));
    let short = seen.iter().map(|it| (it.change.state, it.change.reason));
    (short.collect(), replay)
}

fn run_until(replay: &mut Replay, until: Duration) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(at) = replay.next_timer(until) {
        seen.extend(replay.wake(at));
    }
    seen
}

const UP: [(u64, Event<'static>); 2] = [
    (1, Event::Connected { resumed: false }),
    (1, Event::Subscribed),
];

fn plain(more: &str) -> String {
    format!(
        "servers: [{{name: {SERVER}, urls: ['tcp://h']}}]\ntopics: ['robots/{{device}}/data']\n{more}"
    )
}

#[test]
fn timers_go_off_between_entries_when_they_are_due() {
    let details = plain("presence: {offlineAfter: 30s, offlineDelay: 10s}");
    let mut events = UP.to_vec();
    events.push((10, said("robots/r1/data", "1")));
    events.push((55, Event::Alive));
    let (seen, replay) = play(&details, &events, 60);
    assert_eq!(
        seen,
        [
            (State::Online, Reason::Data),
            (State::Leaving, Reason::Silence),
            (State::Offline, Reason::Silence)
        ]
    );
    let told = replay.presence().explain_all(replay.now());
    assert!(
        told[0]
            .explanation
            .starts_with("offline since 12:00:55: silent for 30 s"),
        "{told:?}"
    );
}

#[test]
fn a_payload_that_was_not_kept_decides_nothing_and_is_counted() {
    let details = plain("presence: {availability: [{topic: 'robots/{device}/status'}]}");
    let without = |topic: &'static str, payload: &[u8]| {
        Event::Message(Message {
            payload: Payload::left(payload),
            ..message(topic, b"", false)
        })
    };
    let mut events = UP.to_vec();
    events.push((2, without("robots/r1/data", b"1")));
    events.push((3, without("robots/r1/status", b"offline")));
    events.push((4, without("robots/r2/data", b"1")));
    events.push((5, without("robots/r2/status", b"")));
    let (seen, replay) = play(&details, &events, 6);
    assert_eq!(replay.undecided(), 1);
    assert_eq!(
        seen,
        [
            (State::Online, Reason::Data),
            (State::Online, Reason::Data),
            (State::Leaving, Reason::Emptied)
        ]
    );
}

#[test]
fn equal_payloads_have_equal_hashes_under_one_key_only() {
    let (one, other) = (HashKey::new([1; 32]), HashKey::new([2; 32]));
    assert_eq!(one.hash(b"21.5"), one.hash(b"21.5"));
    assert_ne!(one.hash(b"21.5"), one.hash(b"21.6"));
    assert_ne!(one.hash(b"21.5"), other.hash(b"21.5"));
    assert_eq!(format!("{one:?}"), "HashKey");
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Topics and payloads of a convention's corpus, with the YAML that finds its devices.
fn corpus(convention: &str) -> (String, Vec<(String, Vec<u8>)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(convention)
        .join("messages.tsv");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let messages = lines.filter_map(|line| {
        let mut columns = line.split('\t');
        let (topic, payload) = (columns.next()?, columns.next()?);
        let payload = match convention {
            "sparkplugB" => bytes(payload),
            _ => payload.as_bytes().to_vec(),
        };
        Some((topic.to_owned(), payload))
    });
    let options = match convention {
        "emqxEvents" => "emqxEvents: {clients: ['#']}".to_owned(),
        other => other.to_owned(),
    };
    let details = format!(
        "servers: [{{name: {SERVER}, urls: ['tcp://h']}}]\nconventions: [{options}]\npresence: {{offlineAfter: 30s}}"
    );
    (details, messages.collect())
}

/// Whether the server would send a message on this topic.
fn comes(replay: &Replay, topic: &str) -> bool {
    let mut tree = FilterTree::new();
    for wanted in replay.presence().subscriptions_on(&server()) {
        tree.insert(&wanted.filter, ());
    }
    tree.matching(topic).next().is_some()
}

#[test]
fn a_trace_with_hashes_decides_what_the_full_one_does_for_every_convention() {
    let key = HashKey::new([7; 32]);
    for convention in [
        "emqxEvents",
        "esphome",
        "homeAssistant",
        "homie",
        "shelly",
        "sparkplugB",
        "tasmota",
        "zigbee2mqtt",
    ] {
        let (details, messages) = corpus(convention);
        assert!(messages.len() > 3, "{convention}");
        let mut full = UP.to_vec();
        for (at, (topic, payload)) in (2..).zip(&messages) {
            full.push((at, Event::Message(message(topic, payload, at % 2 == 0))));
        }
        let parsed = Arc::new(Details::parse(&details).unwrap());
        let mut recorder = Replay::new(parsed, header().time, Instant::now());
        let mut hashed = Vec::new();
        full.retain(|(at, event)| {
            if let Event::Message(message) = event
                && !comes(&recorder, &message.topic)
            {
                return false;
            }
            let mut kept = event.clone();
            if let Event::Message(message) = &mut kept
                && let Payload::Kept(payload) = &message.payload
                && !recorder.decides(&server(), &message.topic)
            {
                message.payload = key.hashed(payload);
            }
            recorder.take(secs(*at), &server(), event);
            hashed.push((*at, kept));
            true
        });
        let end = 100 + u64::try_from(full.len()).unwrap();
        let (wanted, _) = play(&details, &full, end);
        let (found, replay) = play(&details, &hashed, end);
        assert!(!wanted.is_empty(), "{convention}");
        assert_eq!(found, wanted, "{convention}");
        assert_eq!(replay.undecided(), 0, "{convention}");
    }
}

#[test]
fn payloads_decide_on_topics_from_when_they_are_named_until_they_are_taken_back() {
    let details = "servers: [{name: plant-a, urls: ['tcp://h']}]\nconventions: [homeAssistant]";
    let mut replay = Replay::new(
        Arc::new(Details::parse(details).unwrap()),
        header().time,
        Instant::now(),
    );
    let config = |n: u32| format!("homeassistant/sensor/n{n}/config");
    // So many that nothing may look at all of them for each message.
    for n in 0..3_000 {
        let named = format!("n{n}/status");
        assert!(!replay.decides(&server(), &named));
        assert!(replay.decides(&server(), &config(n)));
        let payload = format!(
            "{{\"availability_topic\":\"{named}\",\"state_topic\":\"n{n}/state\",\"unique_id\":\"n{n}\",\"device\":{{\"identifiers\":\"n{n}\"}}}}"
        );
        let (topic, payload) = (config(n), payload.into_bytes());
        let event = Event::Message(message(&topic, &payload, true));
        replay.take(secs(1), &server(), &event);
        assert!(replay.decides(&server(), &named));
        assert!(!replay.decides(&server(), &format!("n{n}/state")));
    }
    let topic = config(7);
    let event = Event::Message(message(&topic, b"", false));
    replay.take(secs(2), &server(), &event);
    assert!(!replay.decides(&server(), "n7/status"));
    assert!(replay.decides(&server(), "n8/status"));
}

fn payloads() -> impl Strategy<Value = Payload<'static>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Payload::Kept(bytes.into())),
        ".{0,20}".prop_map(|text| Payload::Kept(text.into_bytes().into())),
        any::<u64>().prop_map(|bytes| Payload::Left { bytes, hash: None }),
        any::<[u8; 4]>().prop_map(|bytes| HashKey::new([0; 32]).hashed(&bytes)),
    ]
}

fn events() -> impl Strategy<Value = Event<'static>> {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let message = (
        "[^+#\0]{1,20}",
        prop::sample::select(qos.to_vec()),
        any::<bool>(),
        payloads(),
    );
    prop_oneof![
        any::<bool>().prop_map(|resumed| Event::Connected { resumed }),
        Just(Event::Subscribed),
        Just(Event::Alive),
        ("[^+#\0]{1,20}", any::<bool>()).prop_map(|(topic, retained)| Event::TooLarge {
            topic: topic.into(),
            retained
        }),
        any::<u32>().prop_map(|at| Event::Disconnected {
            last_packet: Duration::from_micros(at.into())
        }),
        message.prop_map(|(topic, qos, retained, payload)| Event::Message(Message {
            topic: topic.into(),
            qos,
            retained,
            payload,
        })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(at in any::<u64>(), event in events()) {
        let entry = Entry { at: Duration::from_micros(at), what: What::Event(server(), event) };
        let line = entry_line(&entry);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let read = reader().read(line.as_bytes()).map(|read| read == entry);
        prop_assert_eq!(read, Ok(true));
    }

    #[test]
    fn whatever_is_in_a_file_is_read_or_refused(first in ".{0,80}", line in prop::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(Reader::new(first.as_bytes()).is_err());
        let _ = reader().read(&line);
    }

    #[test]
    fn a_replay_takes_any_events_at_any_time(all in prop::collection::vec((any::<u64>(), events()), 0..20)) {
        let details = "servers: [{name: plant-a, urls: ['tcp://h']}]\ntopics: ['#']\nidentity: ['{device}/#']\n\
                       conventions: [homeAssistant, sparkplugB]\npresence: {offlineAfter: 30s}";
        let details = Arc::new(Details::parse(details).unwrap());
        let mut replay = Replay::new(details, header().time, Instant::now());
        for (at, event) in all {
            let at = Duration::from_micros(at);
            run_until(&mut replay, at);
            replay.take(at, &server(), &event);
        }
    }
}
