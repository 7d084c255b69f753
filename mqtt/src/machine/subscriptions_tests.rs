use super::{super::slot::RETRY_MIN, *};

fn wanted(filters: &[&str]) -> Vec<Subscription> {
    filters
        .iter()
        .map(|filter| Subscription::new(*filter, QoS::AtLeastOnce))
        .collect()
}

fn connected(
    wanted: Vec<Subscription>,
    held: &[&str],
    session_present: bool,
    now: Instant,
) -> Subscriptions {
    let held = held
        .iter()
        .map(|filter| ((*filter).to_owned(), QoS::AtLeastOnce))
        .collect();
    let mut subscriptions = Subscriptions::new(wanted, held, now);
    subscriptions.connected((true, 1 << 20), session_present, now);
    subscriptions
}

/// Sends the plan under ids from 1 on and returns it.
fn send(subscriptions: &mut Subscriptions, now: Instant) -> Vec<Step> {
    let steps = subscriptions.plan(true, now);
    for (id, step) in (1..).zip(&steps) {
        subscriptions.sent(id, step);
    }
    steps
}

fn filters(step: &Step) -> Vec<(&str, u8, u8)> {
    match step {
        Step::Subscribe { filters, .. } => filters
            .iter()
            .map(|entry| {
                (
                    entry.filter.as_str(),
                    entry.qos.level(),
                    entry.retain_handling,
                )
            })
            .collect(),
        Step::Unsubscribe { filters } => filters
            .iter()
            .map(|filter| (filter.as_str(), 9, 9))
            .collect(),
    }
}

#[test]
fn snapshot_is_taken_with_qos_0_and_then_raised() {
    let now = Instant::now();
    let mut subscriptions = connected(
        vec![wanted(&["a"]).remove(0).with_snapshot()],
        &[],
        true,
        now,
    );
    assert_eq!(
        subscriptions.plan(false, now),
        [],
        "queued messages come first"
    );
    subscriptions.drained();
    assert_eq!(filters(&send(&mut subscriptions, now)[0]), [("a", 0, 0)]);
    assert!(subscriptions.suback(1, &[0], now));
    assert_eq!(subscriptions.settled(true, now), None);
    assert_eq!(filters(&send(&mut subscriptions, now)[0]), [("a", 1, 2)]);
    assert!(subscriptions.suback(1, &[1], now));
    assert_eq!(send(&mut subscriptions, now), []);
    assert_eq!(subscriptions.settled(true, now), Some(Vec::new()));
    assert_eq!(subscriptions.settled(true, now), None, "reported once");
}

#[test]
fn what_an_earlier_process_left_is_unsubscribed_and_what_is_wanted_is_made_sure() {
    let now = Instant::now();
    let mut subscriptions = connected(wanted(&["new", "kept"]), &["gone", "kept"], true, now);
    let steps = send(&mut subscriptions, now);
    assert_eq!(filters(&steps[0]), [("gone", 9, 9)]);
    assert_eq!(filters(&steps[1]), [("kept", 1, 1), ("new", 1, 1)]);
}

#[test]
fn lost_session_is_subscribed_again_and_needs_no_unsubscribe() {
    let now = Instant::now();
    let mut subscriptions = connected(wanted(&["kept"]), &["gone", "kept"], false, now);
    let steps = send(&mut subscriptions, now);
    assert_eq!(steps.len(), 1);
    assert_eq!(filters(&steps[0]), [("kept", 1, 1)]);
}

#[test]
fn resumed_session_repeats_only_what_had_no_answer() {
    let now = Instant::now();
    let mut subscriptions = connected(wanted(&["a"]), &[], false, now);
    send(&mut subscriptions, now);
    assert!(subscriptions.suback(1, &[1], now));
    subscriptions.set_wanted(wanted(&["a", "b"]), now);
    send(&mut subscriptions, now);
    subscriptions.connected((true, 1 << 20), true, now);
    assert_eq!(filters(&send(&mut subscriptions, now)[0]), [("b", 1, 1)]);
}

#[test]
fn refused_filter_is_reported_and_tried_again_with_longer_pauses() {
    let mut now = Instant::now();
    let mut subscriptions = connected(wanted(&["a", "b"]), &[], false, now);
    send(&mut subscriptions, now);
    assert!(subscriptions.suback(1, &[1, 0x87], now));
    assert_eq!(send(&mut subscriptions, now), []);
    let refused = vec![("b".to_owned(), "not authorised (0x87)".to_owned())];
    assert_eq!(subscriptions.settled(true, now), Some(refused.clone()));
    for pause in [RETRY_MIN, RETRY_MIN * 2] {
        assert_eq!(subscriptions.poll_timeout(), Some(now + pause));
        now += pause;
        subscriptions.handle_timeout(now);
        assert_eq!(filters(&send(&mut subscriptions, now)[0]), [("b", 1, 1)]);
        assert!(subscriptions.suback(1, &[0x87], now));
        send(&mut subscriptions, now);
        assert_eq!(subscriptions.settled(true, now), Some(refused.clone()));
    }
}

#[test]
fn suback_that_does_not_fit_is_an_error() {
    let now = Instant::now();
    let mut subscriptions = connected(wanted(&["a", "b"]), &[], false, now);
    send(&mut subscriptions, now);
    assert!(!subscriptions.suback(9, &[1], now));
    assert!(!subscriptions.suback(1, &[1], now));
}

#[test]
fn packets_are_bounded_by_count_bytes_and_number_in_flight() {
    let now = Instant::now();
    let many: Vec<String> = (0..10_000).map(|n| format!("t/{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut subscriptions = Subscriptions::new(wanted(&many), Vec::new(), now);
    subscriptions.connected((false, 1000), false, now);
    let steps = send(&mut subscriptions, now);
    assert_eq!(steps.len(), PACKETS_IN_FLIGHT);
    let bytes = |step: &Step| {
        filters(step)
            .iter()
            .map(|(filter, ..)| subscribe_len(filter))
            .sum::<usize>()
    };
    assert!(
        steps
            .iter()
            .all(|step| bytes(step) <= 1000 && filters(step).len() <= FILTERS_PER_PACKET)
    );
    assert_eq!(subscriptions.plan(true, now), []);
}

#[test]
fn shared_subscription_may_receive_our_own_messages_and_has_no_identifier() {
    let now = Instant::now();
    let mut subscriptions = connected(wanted(&["$share/g/a/#", "a/b"]), &[], false, now);
    let steps = send(&mut subscriptions, now);
    let Step::Subscribe {
        filters,
        identifier,
    } = &steps[0]
    else {
        panic!("{steps:?}")
    };
    assert_eq!(*identifier, None);
    assert_eq!(
        filters
            .iter()
            .map(|entry| entry.no_local)
            .collect::<Vec<_>>(),
        [false, true]
    );
}
