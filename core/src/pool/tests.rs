use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn members(names: impl IntoIterator<Item = usize>) -> BTreeSet<Member> {
    let names = names.into_iter();
    names
        .map(|number| Member::parse(&format!("pool-{number}")).unwrap())
        .collect()
}

fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

#[test]
fn the_shard_of_a_device_and_the_member_of_a_shard_are_the_same_for_ever() {
    let shards = ShardCount::default();
    let of = |name: &str| shards.of(&id(name)).0;
    assert_eq!(
        [of("plant-a/r1"), of("plant-a/r2"), of("hall/line 7/press")],
        [33, 39, 41]
    );
    let members = members(0..3);
    let targets = shards.all().take(8).map(|shard| shard.target(&members));
    let targets: Vec<_> = targets.flatten().map(Member::as_str).collect();
    let expected = [0, 1, 0, 0, 2, 2, 0, 2].map(|number| format!("pool-{number}"));
    assert_eq!(targets, expected);
}

#[test]
fn devices_and_shards_are_spread_evenly() {
    let shards = ShardCount::default();
    let mut devices = BTreeMap::<Shard, u32>::new();
    for number in 0..16_000 {
        let shard = shards.of(&id(&format!("plant/robot-{number}")));
        *devices.entry(shard).or_default() += 1;
    }
    assert_eq!(devices.len(), 64);
    assert!(devices.values().all(|count| (190..310).contains(count)));
    let shards = ShardCount::new(1024).unwrap();
    for size in 2..=8 {
        let live = members(0..size);
        let mut held = BTreeMap::<&Member, usize>::new();
        for shard in shards.all() {
            *held.entry(shard.target(&live).unwrap()).or_default() += 1;
        }
        let fair = 1024 / size;
        assert!(
            held.values()
                .all(|count| (fair * 3 / 4..fair * 5 / 4).contains(count)),
            "{held:?}"
        );
    }
}

#[test]
fn names_and_numbers_that_mean_nothing_are_refused() {
    for name in ["", "-a", ".", "..", "a/b", "a b", "ä", &"x".repeat(254)] {
        assert_eq!(Member::parse(name), Err(PoolError::Member), "{name}");
    }
    for count in ["0", "1025", "-1", "many", ""] {
        assert_eq!(count.parse::<ShardCount>(), Err(PoolError::Shards));
    }
    assert_eq!("1024".parse::<ShardCount>().unwrap().get(), 1024);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_member_that_comes_or_goes_moves_only_its_own_shards(
        size in 1usize..12,
        count in 1u16..=256,
        changed in 0usize..12,
    ) {
        let before = members((0..12).filter(|number| *number < size || *number == changed));
        let one = members([changed]);
        let changed = one.first().unwrap();
        let after: BTreeSet<_> = before.difference(&one).cloned().collect();
        for shard in ShardCount::new(count).unwrap().all() {
            let with = shard.target(&before).unwrap();
            match shard.target(&after) {
                Some(without) if with != changed => prop_assert_eq!(with, without),
                Some(without) => prop_assert_ne!(without, changed),
                None => prop_assert!(after.is_empty()),
            }
        }
    }

    #[test]
    fn no_shard_is_served_twice_and_in_the_end_each_is_served_by_its_target(
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut world = World::new(16);
        for step in steps {
            world.step(step);
            world.check()?;
        }
        world.settle();
        world.check()?;
        let live = world.live();
        let target = |shard: Shard| shard.target(&live).cloned();
        let expected: BTreeMap<_, _> = world.shards.all().filter_map(|shard| Some((shard, target(shard)?))).collect();
        prop_assert_eq!(&world.locks, &expected);
        for (member, process) in &world.running {
            let held: Vec<_> = process.placement.held().collect();
            let due: Vec<_> = expected.iter().filter(|(_, owner)| *owner == member).map(|(shard, _)| *shard).collect();
            prop_assert_eq!(held, due);
        }
    }
}

/// One thing that happens to the member of a number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    /// Leaves in order.
    Leave(usize),
    Kill(usize),
    /// Looks at who lives, and decides.
    Decide(usize),
    /// Gets the answer to the oldest of its actions.
    Answer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0usize..5;
    prop_oneof![
        1 => member.clone().prop_map(Step::Start),
        1 => member.clone().prop_map(Step::Leave),
        1 => member.clone().prop_map(Step::Kill),
        6 => member.clone().prop_map(Step::Decide),
        12 => member.prop_map(Step::Answer),
    ]
}

struct Process {
    placement: Placement,
    waiting: std::collections::VecDeque<Action>,
    leaving: bool,
}

/// Members around exclusive locks that a member's death releases. What a member sees of the others may be old:
/// it decides at its own time.
struct World {
    shards: ShardCount,
    running: BTreeMap<Member, Process>,
    locks: BTreeMap<Shard, Member>,
}

impl World {
    fn new(shards: u16) -> Self {
        Self {
            shards: ShardCount::new(shards).unwrap(),
            running: BTreeMap::new(),
            locks: BTreeMap::new(),
        }
    }

    fn live(&self) -> BTreeSet<Member> {
        let staying = self.running.iter().filter(|(_, process)| !process.leaving);
        staying.map(|(member, _)| member.clone()).collect()
    }

    fn step(&mut self, step: Step) {
        let name = |number| members([number]).pop_first().unwrap();
        match step {
            Step::Start(number) => {
                let (me, shards) = (name(number), self.shards);
                self.running.entry(me.clone()).or_insert_with(|| Process {
                    placement: Placement::new(me, shards),
                    waiting: std::collections::VecDeque::new(),
                    leaving: false,
                });
            }
            Step::Leave(number) => {
                if let Some(process) = self.running.get_mut(&name(number)) {
                    process.leaving = true;
                }
            }
            Step::Kill(number) => self.end(&name(number)),
            Step::Decide(number) => self.decide(&name(number)),
            Step::Answer(number) => self.answer(&name(number)),
        }
    }

    fn end(&mut self, member: &Member) {
        self.running.remove(member);
        self.locks.retain(|_, owner| owner != member);
    }

    fn decide(&mut self, member: &Member) {
        let live = self.live();
        let Some(process) = self.running.get_mut(member) else {
            return;
        };
        process.waiting.extend(process.placement.decide(&live));
        if process.leaving && process.placement.is_empty() && process.waiting.is_empty() {
            self.end(member);
        }
    }

    fn answer(&mut self, member: &Member) {
        let Some(process) = self.running.get_mut(member) else {
            return;
        };
        match process.waiting.pop_front() {
            Some(Action::Claim(shard)) => {
                let owner = self.locks.entry(shard).or_insert_with(|| member.clone());
                process.placement.claimed(shard, owner == member);
            }
            Some(Action::Drain(shard)) => process.placement.drained(shard),
            Some(Action::Release(shard)) => {
                assert_eq!(self.locks.remove(&shard).as_ref(), Some(member));
            }
            None => {}
        }
    }

    /// Everybody gets to act until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..8 {
            for number in 0..5 {
                self.step(Step::Decide(number));
                for _ in 0..64 {
                    self.step(Step::Answer(number));
                }
            }
        }
    }

    /// Whoever serves a shard has its lock, and a lock has one owner.
    fn check(&self) -> Result<(), TestCaseError> {
        for (member, process) in &self.running {
            for shard in process.placement.held() {
                prop_assert_eq!(self.locks.get(&shard), Some(member));
            }
        }
        Ok(())
    }
}
