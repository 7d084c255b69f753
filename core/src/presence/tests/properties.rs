//! Random histories: whatever happens, the machine keeps its promises.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One thing that can happen.
#[derive(Clone, Debug)]
enum Step {
    Data(u8, bool),
    Status(u8, &'static str, bool),
    Pass(u64),
    Late(u64),
    Packet,
    Connect,
    Subscribe,
    Cut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let word = prop_oneof![Just("online"), Just("offline"), Just(""), Just("what")];
    prop_oneof![
        4 => (0..6_u8, prop::bool::weighted(0.2)).prop_map(|(d, r)| Step::Data(d, r)),
        4 => (0..6_u8, word, any::<bool>()).prop_map(|(d, w, r)| Step::Status(d, w, r)),
        4 => (0..200_000_u64).prop_map(Step::Pass),
        1 => (0..200_000_u64).prop_map(Step::Late),
        2 => Just(Step::Packet),
        2 => Just(Step::Connect),
        3 => Just(Step::Subscribe),
        1 => (0..20_000_u64).prop_map(Step::Cut),
    ]
}

fn rules() -> impl Strategy<Value = String> {
    let after = prop_oneof![Just("never"), Just("3s"), Just("1m"), Just("5m")];
    let delay = prop_oneof![Just("0s"), Just("2s"), Just("10s"), Just("1m")];
    let grace = prop_oneof![Just("0s"), Just("7s"), Just("2m")];
    let lost = prop_oneof![Just("keep"), Just("30s")];
    let retained = prop_oneof![Just("ignore"), Just("trust")];
    (after, delay, grace, lost, retained, any::<bool>(), 1..5_usize).prop_map(
        |(after, delay, grace, lost, retained, will, max)| {
            format!(
                "limits: {{maxDevices: {max}}}\npresence: {{offlineAfter: {after}, offlineDelay: {delay}, \
                 reconnectGrace: {grace}, serverLost: {lost}, retained: {retained}, \
                 availability: [{{topic: 'robots/{{device}}/status', retainedWill: {will}}}]}}"
            )
        },
    )
}

fn apply(world: &mut World, step: &Step) {
    match step {
        Step::Data(device, retained) => {
            world.message(A, &format!("robots/r{device}/joints"), "1", *retained);
        }
        Step::Status(device, word, retained) => {
            world.message(A, &format!("robots/r{device}/status"), word, *retained);
        }
        Step::Pass(millis) => world.pass(Duration::from_millis(*millis)),
        Step::Late(millis) => {
            // The shell was busy: one call where there should have been many.
            world.now = world.now.plus(Duration::from_millis(*millis));
            world.presence.handle_timeout(world.now);
        }
        Step::Packet => world.presence.on_packet(&server(A), world.now.mono),
        Step::Connect => world.connect(A),
        Step::Subscribe => world.reconnect(),
        Step::Cut(ago) => {
            let last = world.now.mono.checked_sub(Duration::from_millis(*ago));
            let last = last.unwrap_or(world.now.mono);
            world.presence.on_disconnected(&server(A), last, world.now);
        }
    }
}

fn check(world: &World, max: usize) -> Result<(), TestCaseError> {
    let presence = &world.presence;
    let published = world.published();
    prop_assert!(published.len() <= max, "{published:?}");
    prop_assert!(published.is_sorted());
    let views = presence.explain_all(world.now);
    prop_assert!(views.is_sorted_by(|a, b| a.device < b.device));
    let shown: Vec<&String> = views
        .iter()
        .filter(|v| v.published)
        .map(|v| &v.device)
        .collect();
    prop_assert_eq!(shown, published.iter().collect::<Vec<_>>());
    for view in &views {
        prop_assert!(!view.published || view.state.is_present(), "{view:?}");
    }
    let of = |state| views.iter().filter(|v| v.state == state).count();
    for (state, count) in presence.counters().devices() {
        prop_assert_eq!(count, u64::try_from(of(state)).unwrap());
    }
    let there = views
        .iter()
        .filter(|v| v.state.is_present() && !v.published)
        .count();
    prop_assert!(presence.counters().refused <= u64::try_from(there).unwrap());
    prop_assert_eq!(presence.roster().devices.len(), published.len());
    Ok(())
}

/// Changes are taken now and then, so that some of them cancel each other out.
fn step_takes(step: &Step) -> bool {
    matches!(step, Step::Pass(_) | Step::Packet)
}

fn max_of(rules: &str) -> usize {
    let start = "limits: {maxDevices: ".len();
    rules[start..=start].parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn promises_are_kept_whatever_happens(rules in rules(), steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new(&rules);
        let max = max_of(&rules);
        let mut before: BTreeSet<String> = BTreeSet::new();
        let mut told: BTreeMap<u64, String> = BTreeMap::new();
        let mut revision = 0;
        for step in &steps {
            apply(&mut world, step);
            check(&world, max)?;
            let now: BTreeSet<String> = world.published().into_iter().collect();
            prop_assert_eq!(world.presence.published_count(), now.len());
            if step_takes(step) {
                for moved in world.presence.take_moved() {
                    prop_assert_ne!(moved.was, moved.is);
                    let before = moved.was.map(|was| told.remove(&was));
                    prop_assert_eq!(before.is_some(), before.flatten().is_some_and(|id| id == moved.id.as_str()));
                    if let Some(is) = moved.is {
                        prop_assert!(told.insert(is, moved.id.to_string()).is_none());
                    }
                }
                prop_assert_eq!(told.values().cloned().collect::<BTreeSet<_>>(), now.clone());
            }
            if now != before {
                prop_assert!(world.presence.revision() > revision, "a change without a revision");
            }
            (before, revision) = (now, world.presence.revision());
            world.presence.handle_timeout(world.now);
            if let Some(next) = world.presence.poll_timeout() {
                prop_assert!(next > world.now.mono, "a timeout in the past");
            }
        }
    }

    #[test]
    fn equal_inputs_give_equal_outputs(rules in rules(), steps in prop::collection::vec(step(), 1..60)) {
        let now = noon();
        let details = details(&rules);
        let mut one = World::of(details.clone(), now);
        let mut other = World::of(details, now);
        for step in &steps {
            apply(&mut one, step);
            apply(&mut other, step);
            prop_assert_eq!(one.presence.roster(), other.presence.roster());
            prop_assert_eq!(one.presence.explain_all(one.now), other.presence.explain_all(other.now));
            prop_assert_eq!(one.presence.counters(), other.presence.counters());
            prop_assert_eq!(one.presence.poll_timeout(), other.presence.poll_timeout());
        }
    }

    #[test]
    fn nobody_is_withdrawn_while_the_server_is_away_or_within_the_grace(
        steps in prop::collection::vec(step(), 1..40),
        wills in prop::collection::vec((0..6_u8, prop_oneof![Just("offline"), Just("")]), 0..20),
        frozen in 0..200_000_u64,
        away in 0..1_000_000_u64,
    ) {
        let rules = "presence: {offlineAfter: 1m, availability: [{topic: 'robots/{device}/status'}]}";
        let mut world = World::new(rules);
        world.reconnect();
        for step in &steps {
            apply(&mut world, step);
        }
        world.reconnect();
        world.pass(secs(200));
        // Who is silent already may go; everybody else is there when it happens.
        for device in 0..6 {
            if world.is_published(&format!("r{device}")) {
                world.data(&format!("r{device}"));
            }
        }
        let published = world.published();
        // The server stops: everybody's wills, then nothing, then the end of the link is noticed.
        for (device, word) in &wills {
            world.message(A, &format!("robots/r{device}/status"), word, false);
        }
        let revision = world.presence.revision();
        world.answers = false;
        world.pass(Duration::from_millis(frozen));
        world.cut(Duration::from_millis(frozen));
        world.pass(Duration::from_millis(away));
        world.answers = true;
        world.reconnect();
        world.pass(secs(119));
        prop_assert_eq!(world.presence.revision(), revision);
        prop_assert_eq!(world.published(), published);
    }

    #[test]
    fn a_restart_withdraws_nobody(rules in rules(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(&rules);
        for step in &steps {
            apply(&mut world, step);
        }
        let roster = world.presence.roster();
        let mut again = World::new(&rules);
        again.presence.restore(&roster, again.now);
        prop_assert_eq!(again.published(), world.published());
        let orders = |roster: &Roster| roster.devices.iter().map(|d| (d.id.clone(), d.order)).collect::<Vec<_>>();
        prop_assert_eq!(orders(&again.presence.roster()), orders(&roster));
    }
}
