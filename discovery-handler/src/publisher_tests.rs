use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const COMEBACK: Duration = Duration::from_secs(60);

/// A publisher, and the list of who is present that changes are told of.
struct World {
    publisher: Publisher,
    present: BTreeMap<DeviceId, u64>,
    orders: HashMap<DeviceId, u64>,
    now: Instant,
}

fn id(name: &str) -> DeviceId {
    DeviceId::parse(&format!("s/{name}")).unwrap()
}

impl World {
    fn new(collisions: Collisions) -> Self {
        let yaml = "servers: [{name: s, urls: [tcp://h:1883]}]\ntopics: ['r/{device}/x']\n";
        let details = Arc::new(Details::parse(yaml).unwrap());
        Self {
            publisher: Publisher::new(details, collisions, COMEBACK),
            present: BTreeMap::new(),
            orders: HashMap::new(),
            now: Instant::now(),
        }
    }

    /// These are present from now on, newcomers in this order.
    fn publish(&mut self, names: &[&str]) {
        self.publish_after(names, |_| false);
    }

    fn publish_after(&mut self, names: &[&str], waited: impl Fn(&DeviceId) -> bool) {
        let mut is = BTreeMap::new();
        for id in names.iter().map(|name| id(name)) {
            let next = u64::try_from(self.orders.len()).unwrap();
            is.insert(id.clone(), *self.orders.entry(id).or_insert(next));
        }
        self.moves_to(is, waited);
    }

    fn moves_to(&mut self, is: BTreeMap<DeviceId, u64>, waited: impl Fn(&DeviceId) -> bool) {
        let was = std::mem::replace(&mut self.present, is);
        let ids: std::collections::BTreeSet<&DeviceId> =
            was.keys().chain(self.present.keys()).collect();
        let moved = ids.into_iter().map(|id| Moved {
            id: id.clone(),
            was: was.get(id).copied(),
            is: self.present.get(id).copied(),
        });
        let mut moved: Vec<Moved> = moved.filter(|one| one.was != one.is).collect();
        moved.sort_by(|a, b| a.is.cmp(&b.is).then_with(|| a.id.cmp(&b.id)));
        let of = of(&self.present);
        self.publisher.publish(&moved, of, waited, self.now);
    }

    fn subscribe(&mut self, limit: usize) -> Lists {
        let present = || self.present.clone().into_iter().collect();
        self.publisher.subscribe(limit, present, of(&self.present))
    }
}

fn of(present: &BTreeMap<DeviceId, u64>) -> impl Fn(&DeviceId) -> Option<Listed> {
    |id| {
        let order = *present.get(id)?;
        Some(Listed {
            order,
            convention: None,
        })
    }
}

fn listed(lists: &Lists) -> Vec<String> {
    let list = lists.borrow().clone().unwrap();
    let devices = list.devices.iter();
    devices.map(|entry| entry.device.id.clone()).collect()
}

/// Bytes of a list with the device `a`.
fn one() -> usize {
    let mut world = World::new(Collisions::Withhold);
    world.publish(&["a"]);
    let lists = world.subscribe(usize::MAX);
    lists.borrow().as_ref().unwrap().bytes
}

#[test]
fn nothing_is_sent_until_something_was_published_and_only_changes_afterwards() {
    let mut world = World::new(Collisions::Withhold);
    let mut lists = world.subscribe(1 << 20);
    assert!(lists.borrow().is_none());
    world.publish(&["b", "a"]);
    assert_eq!(listed(&lists), ["s/a", "s/b"]);
    lists.mark_unchanged();
    world.publish(&["a", "b"]);
    assert!(!lists.has_changed().unwrap());
    world.publish(&["b"]);
    assert_eq!(listed(&lists), ["s/b"]);
    assert_eq!(listed(&world.subscribe(64 << 20)), ["s/b"]);
}

#[test]
fn a_list_of_nobody_is_sent_too() {
    let mut world = World::new(Collisions::Withhold);
    let lists = world.subscribe(1 << 20);
    world.publish(&[]);
    assert!(listed(&lists).is_empty());
}

#[test]
fn only_a_device_that_returns_within_a_minute_counts_as_come_back() {
    let mut world = World::new(Collisions::Withhold);
    let lists = world.subscribe(1 << 20);
    let comebacks = |lists: &Lists| lists.borrow().as_ref().unwrap().comebacks;
    world.publish(&["a"]);
    world.publish(&[]);
    world.now += COMEBACK / 2;
    world.publish(&["a"]);
    assert_eq!(comebacks(&lists), 1);
    world.now += COMEBACK / 2;
    world.publish(&[]);
    world.now += 2 * COMEBACK;
    world.publish(&["a"]);
    assert_eq!(comebacks(&lists), 1);
}

#[test]
fn what_no_list_has_room_for_is_told_in_devices_and_bytes_and_who_is_in_stays_in() {
    let each = one();
    let mut world = World::new(Collisions::Withhold);
    let lists = world.subscribe(2 * each);
    world.publish(&["z", "y"]);
    world.publish(&["z", "y", "b", "a"]);
    assert_eq!(listed(&lists), ["s/y", "s/z"]);
    let shortage = world.publisher.shortage();
    assert_eq!((shortage.left_out(), shortage.missing), (2, 2 * each));
    let (example, why) = world.publisher.example().unwrap();
    assert_eq!(example, &id("b"), "the first in line");
    assert_eq!(world.publisher.left_out(&id("b"), 2), Some(why));
    assert_eq!(world.publisher.left_out(&id("y"), 1), None);
    world.publish(&["y", "b", "a"]);
    assert_eq!(listed(&lists), ["s/b", "s/y"]);
}

#[test]
fn who_was_listed_before_a_restart_goes_before_those_who_waited() {
    let each = one();
    for listed_before in [vec!["c"], vec!["b", "c"]] {
        let mut world = World::new(Collisions::Withhold);
        let lists = world.subscribe(listed_before.len() * each);
        let waited = |id: &DeviceId| !listed_before.contains(&id.name());
        world.publish_after(&["a", "b", "c"], waited);
        let expected: Vec<String> = listed_before
            .iter()
            .map(|name| format!("s/{name}"))
            .collect();
        assert_eq!(listed(&lists), expected);
        match world.publisher.line() {
            Line::Waiting(ids) => assert_eq!(ids, [id("a")]),
            Line::Listed(ids) => assert_eq!(ids, [id("c")]),
        }
    }
}

/// Names of which some share the name of their Instance.
fn names() -> Vec<String> {
    let mut seen: HashMap<_, Vec<String>> = HashMap::new();
    for n in 0..40_000 {
        let name = format!("r{n}");
        seen.entry(id(&name).instance_hash())
            .or_default()
            .push(name);
    }
    let mut shared: Vec<String> = seen
        .into_values()
        .filter(|all| all.len() > 1)
        .flatten()
        .collect();
    shared.sort();
    shared.truncate(12);
    shared.extend(["a", "b", "c", "d"].map(str::to_owned));
    shared
}

thread_local! {
    static NAMES: RefCell<Vec<String>> = RefCell::new(names());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_list_that_follows_changes_is_right_whatever_happens(
        steps in prop::collection::vec(prop::collection::vec((0_usize..16, any::<bool>()), 0..12), 1..20),
        room in 0_usize..12,
    ) {
        let names = NAMES.with_borrow(Clone::clone);
        let mut world = World::new(Collisions::Withhold);
        // A little more than so many devices take.
        let limit = room * (one() + 40);
        let lists = world.subscribe(limit);
        let mut next = 0;
        let mut before: Vec<String> = Vec::new();
        for step in steps {
            let mut is = world.present.clone();
            for (device, here) in step {
                let id = id(&names[device]);
                next += 1;
                // A device that was forgotten meanwhile comes back under another place.
                if here { is.insert(id, next) } else { is.remove(&id) };
            }
            world.moves_to(is, |_| false);
            let now = listed(&lists);
            prop_assert!(now.is_sorted());
            prop_assert!(lists.borrow().as_ref().unwrap().bytes <= limit);
            let shortage = world.publisher.shortage();
            prop_assert_eq!(now.len() + shortage.left_out(), world.present.len());
            for (id, order) in &world.present {
                let why = world.publisher.left_out(id, *order);
                prop_assert_eq!(why.is_none(), now.contains(&id.to_string()), "{} {:?}", id, why);
                let twins = world.present.keys().filter(|other| other.instance_hash() == id.instance_hash());
                let wins = twins.min_by_key(|id| id.full_hash()) == Some(id);
                prop_assert_eq!(world.publisher.twins.loses_to(id).is_none(), wins);
                // Who is in stays in.
                if wins && before.contains(&id.to_string()) {
                    prop_assert!(now.contains(&id.to_string()), "{} was put out", id);
                }
            }
            before = now;
        }
        world.moves_to(BTreeMap::new(), |_| false);
        prop_assert!(listed(&lists).is_empty());
        prop_assert_eq!(world.publisher.shortage().left_out(), 0);
    }
}
