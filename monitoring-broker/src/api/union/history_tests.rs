//! Pages of several stores against one list of everything, for every size of page.

use std::sync::Arc;

use akri_mqtt_core::decode::Value;
use proptest::prelude::*;

use super::*;

fn reading(store: usize, sequence: u64, time: i64, index: usize) -> ReadingView {
    ReadingView {
        name: format!("{store}/{sequence}/{index}").into(),
        value: Value::Int(1),
        unit: None,
        received_at: Timestamp::from_second(time).unwrap(),
        sequence,
        topic: Arc::from("t"),
        device: Arc::from("d"),
    }
}

/// What a store answers, as `Service::readings` does: at most `limit` from a position on.
fn answer(
    store: &[ReadingView],
    start: Option<Position>,
    limit: usize,
    ascending: bool,
) -> (VecDeque<ReadingView>, Option<Position>) {
    let (mut items, mut skip, mut sequence) = (VecDeque::new(), 0, None);
    for item in store {
        skip = if sequence == Some(item.sequence) {
            skip + 1
        } else {
            0
        };
        sequence = Some(item.sequence);
        let is_before = start.is_some_and(|start| {
            let before = if ascending {
                item.sequence < start.sequence
            } else {
                item.sequence > start.sequence
            };
            before || item.sequence == start.sequence && skip < start.skip
        });
        if is_before {
            continue;
        }
        if items.len() == limit {
            let sequence = item.sequence;
            return (items, Some(Position { sequence, skip }));
        }
        items.push_back(item.clone());
    }
    (items, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_of_several_stores_have_everything_once_and_in_order(
        stores in prop::collection::vec(prop::collection::vec((0i64..40, 1usize..4), 0..12), 1..4),
        limit in 1usize..9,
        ascending: bool,
    ) {
        let stores: Vec<Vec<ReadingView>> = stores.into_iter().enumerate().map(|(number, mut store)| {
            store.sort_by_key(|(time, _)| *time);
            let messages = store.into_iter().zip(1u64..);
            let mut store: Vec<_> = messages.flat_map(|((time, count), sequence)| {
                (0..count).map(move |index| reading(number, sequence, time, index))
            }).collect();
            if !ascending {
                // Messages turn around, the readings of one do not.
                store.sort_by_key(|item| std::cmp::Reverse(item.sequence));
            }
            store
        }).collect();
        let mut places: BTreeMap<usize, Position> = BTreeMap::new();
        let mut found: Vec<ReadingView> = Vec::new();
        loop {
            let mut parts: Vec<_> = stores.iter().enumerate().map(|(number, store)| {
                let start = places.get(&number).copied();
                let (items, next) = answer(store, start, limit, ascending);
                Part { store: number.to_string(), start, items, next }
            }).collect();
            let (page, last) = merge(&mut parts, limit, ascending);
            found.extend(page);
            for (number, part) in parts.iter().enumerate() {
                places.extend(part.place(last.get(&part.store).copied(), ascending).map(|p| (number, p)));
            }
            if !parts.iter().any(|part| !part.items.is_empty() || part.next.is_some()) {
                break;
            }
        }
        let times: Vec<_> = found.iter().map(|item| item.received_at).collect();
        let is_ordered = if ascending { times.is_sorted() } else { times.iter().rev().is_sorted() };
        prop_assert!(is_ordered);
        for (number, store) in stores.iter().enumerate() {
            let prefix = format!("{number}/");
            let of_store: Vec<_> = found.iter().filter(|item| item.name.starts_with(&prefix)).collect();
            prop_assert_eq!(of_store, store.iter().collect::<Vec<_>>());
        }
    }
}
