use std::path::PathBuf;

use akri_mqtt_proto::akri::Device;
use prost::Message as _;

use super::*;
use crate::discover::Metrics;
use crate::discover::devices::{List, RawResponse, Reader};
use crate::handlers::Handlers;
use crate::references::Resolved;

fn at(name: &str) -> Endpoint {
    Endpoint::Unix(PathBuf::from(format!("/h/{name}.sock")))
}

fn book(registered: &[(&str, &str)]) -> Book {
    let handlers = Handlers::new(Metrics::default());
    for (handler, endpoint) in registered {
        handlers.register(handler, at(endpoint)).unwrap();
    }
    Book::clone(&handlers.watch().borrow())
}

fn ask(details: &str) -> Arc<Ask> {
    Arc::new(Ask {
        details: details.into(),
        properties: Resolved::default(),
    })
}

fn list(ids: &[&str], from: &str) -> List {
    let device = |id: &&str| Device {
        id: (*id).to_owned(),
        properties: BTreeMap::from([("FROM".to_owned(), from.to_owned())]),
        ..Device::default()
    };
    let devices = ids.iter().map(|id| device(id).encode_to_vec().into());
    Reader::default().read(RawResponse {
        devices: devices.collect(),
    })
}

#[derive(Default)]
struct Bench {
    desk: Desk,
    ids: CallIds,
    /// Running calls by endpoint, the newest last.
    calls: Vec<(Endpoint, CallId)>,
}

impl Bench {
    fn steer(&mut self, handler: &str, book: &Book, details: &str) {
        let ask = ask(details);
        let todo = self.desk.steer(handler, book, Ok(&ask), &mut self.ids);
        self.carry_out(todo);
    }

    fn unresolved(&mut self, handler: &str, book: &Book, why: Unresolved) {
        let todo = self.desk.steer(handler, book, Err(why), &mut self.ids);
        self.carry_out(todo);
    }

    fn carry_out(&mut self, todo: Todo) {
        for (place, command) in todo {
            match command {
                Command::Start(id, _) => self.calls.push((place.1, id)),
                Command::Stop(id) => self.calls.retain(|(_, running)| *running != id),
            }
        }
    }

    fn happened(&mut self, endpoint: &str, what: Happened) {
        let newest = self.calls.iter().rfind(|(of, _)| *of == at(endpoint));
        let id = newest.unwrap().1;
        let todo = self.desk.happened(id, what, &mut self.ids);
        self.carry_out(todo);
    }

    fn lists(&mut self, endpoint: &str, ids: &[&str]) {
        let list = list(ids, endpoint);
        self.happened(endpoint, Happened::List { list, first: true });
    }

    fn state(&self) -> DiscoveryState {
        self.desk.finding().state
    }

    fn stream(&self) -> u64 {
        self.desk.finding().stream
    }

    /// Devices, each with the endpoint whose properties it has.
    fn devices(&self) -> Option<Vec<String>> {
        let devices = self.desk.finding().devices?;
        let shown = |(id, device): (&Arc<str>, &Arc<crate::discover::FoundDevice>)| {
            format!("{id} {}", device.properties.get("FROM").unwrap())
        };
        Some(devices.iter().map(shown).collect())
    }
}

#[test]
fn endpoints_are_united_and_the_first_one_wins() {
    let mut bench = Bench::default();
    assert_eq!(bench.devices(), None);
    bench.steer("mqtt", &book(&[("mqtt", "b"), ("mqtt", "a")]), "x");
    assert_eq!(bench.state(), DiscoveryState::Connecting);
    bench.lists("b", &["1", "2"]);
    assert_eq!(bench.state(), DiscoveryState::Open);
    assert_eq!(bench.devices().unwrap(), ["1 b", "2 b"]);
    bench.lists("a", &["2", "3"]);
    assert_eq!(bench.devices().unwrap(), ["1 b", "2 a", "3 a"]);
    assert_eq!(bench.stream(), 2);
}

#[test]
fn without_an_endpoint_the_state_says_why() {
    let mut bench = Bench::default();
    bench.steer("mqtt", &book(&[]), "x");
    assert_eq!(bench.state(), DiscoveryState::NoHandler);
    let handlers = Handlers::new(Metrics::default());
    handlers.refuse_not_shared("mqtt", &at("a")).unwrap();
    let refused = Book::clone(&handlers.watch().borrow());
    bench.steer("mqtt", &refused, "x");
    assert_eq!(bench.state(), DiscoveryState::NotShared);
}

#[test]
fn the_last_list_stands_when_the_last_endpoint_is_lost_until_another_one_has_sent_its_own() {
    let mut bench = Bench::default();
    bench.steer("mqtt", &book(&[("mqtt", "a")]), "x");
    bench.lists("a", &["1", "2"]);
    bench.steer("mqtt", &book(&[]), "x");
    assert_eq!(bench.calls, []);
    assert_eq!(bench.state(), DiscoveryState::NoHandler);
    assert_eq!(bench.devices().unwrap(), ["1 a", "2 a"]);
    bench.steer("mqtt", &book(&[("mqtt", "b")]), "x");
    assert_eq!(bench.devices().unwrap(), ["1 a", "2 a"]);
    let before = bench.stream();
    bench.lists("b", &["1"]);
    assert_eq!(bench.devices().unwrap(), ["1 b"]);
    assert!(bench.stream() > before);
}

#[test]
fn a_lost_endpoint_with_devices_of_its_own_counts_as_a_new_stream() {
    let mut bench = Bench::default();
    let both = book(&[("mqtt", "a"), ("mqtt", "b")]);
    bench.steer("mqtt", &both, "x");
    bench.lists("a", &["1"]);
    bench.lists("b", &["1", "2"]);
    bench.steer("mqtt", &book(&[("mqtt", "a")]), "x");
    assert_eq!(bench.devices().unwrap(), ["1 a"]);
    assert_eq!(bench.stream(), 3);
    bench.steer("mqtt", &both, "x");
    bench.lists("b", &["1"]);
    bench.steer("mqtt", &book(&[("mqtt", "a")]), "x");
    assert_eq!(bench.stream(), 4);
}

#[test]
fn another_handlers_devices_are_not_listed_before_it_lists_them() {
    let mut bench = Bench::default();
    let both = book(&[("mqtt", "a"), ("other", "o")]);
    bench.steer("mqtt", &both, "x");
    bench.lists("a", &["1"]);
    bench.steer("other", &both, "x");
    let asked: Vec<_> = bench.calls.iter().map(|(at, _)| at.clone()).collect();
    assert_eq!(asked, [at("o")]);
    assert_eq!(bench.devices(), None);
    bench.lists("o", &["9"]);
    assert_eq!(bench.devices().unwrap(), ["9 o"]);
}

#[test]
fn what_cannot_be_resolved_any_more_leaves_the_stream_open() {
    let mut bench = Bench::default();
    let handlers = book(&[("mqtt", "a")]);
    bench.unresolved("mqtt", &handlers, Unresolved::Pending);
    assert_eq!(
        (bench.calls.len(), bench.state()),
        (0, DiscoveryState::Connecting)
    );
    bench.steer("mqtt", &handlers, "x");
    bench.lists("a", &["1"]);
    let reason = "there is no Secret ns/s".to_owned();
    bench.unresolved("mqtt", &handlers, Unresolved::Because(reason.clone()));
    assert_eq!(bench.state(), DiscoveryState::Unresolved { reason });
    bench.lists("a", &["1", "2"]);
    assert_eq!(bench.devices().unwrap(), ["1 a", "2 a"]);
    bench.steer("mqtt", &handlers, "x");
    assert_eq!(
        (bench.calls.len(), bench.state()),
        (1, DiscoveryState::Open)
    );
}

#[test]
fn unchanged_demand_and_registrations_touch_nothing() {
    let mut bench = Bench::default();
    let handlers = Handlers::new(Metrics::default());
    for _ in 0..3 {
        handlers.register("mqtt", at("a")).unwrap();
        bench.steer("mqtt", &Book::clone(&handlers.watch().borrow()), "x");
    }
    assert_eq!(bench.calls, [(at("a"), CallId(1))]);
}

#[test]
fn one_endpoint_that_works_is_enough_to_be_open() {
    let mut bench = Bench::default();
    bench.steer("mqtt", &book(&[("mqtt", "a"), ("mqtt", "b")]), "x");
    let failed = |reason: &str| Happened::Failed {
        refused: false,
        answered: false,
        reason: reason.to_owned(),
    };
    bench.happened("b", failed("down"));
    let reason = "down".to_owned();
    assert_eq!(bench.state(), DiscoveryState::Failed { reason });
    bench.happened("a", Happened::Opened);
    assert_eq!(bench.state(), DiscoveryState::Open);
}
