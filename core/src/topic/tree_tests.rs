//! The tree against its filters one by one.

use proptest::prelude::*;

use super::super::filter::tests::{any_filter, topics};
use super::*;

proptest! {
    #[test]
    fn a_tree_finds_what_its_filters_match(
        filters in prop::collection::vec(any_filter(), 0..12),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut tree = FilterTree::new();
        for (index, filter) in filters.iter().enumerate() {
            tree.insert(filter, index);
        }
        let mut kept: Vec<usize> = (0..filters.len()).collect();
        for index in removed.iter().filter(|_| !filters.is_empty()).map(|i| i.index(filters.len())) {
            let there = kept.contains(&index);
            prop_assert_eq!(tree.remove(&filters[index], |value| *value == index), usize::from(there));
            kept.retain(|k| *k != index);
        }
        prop_assert_eq!(tree.len(), kept.len());
        for topic in topics() {
            let mut found: Vec<usize> = tree.matching(&topic).copied().collect();
            found.sort_unstable();
            let expected: Vec<usize> = kept.iter().copied().filter(|k| filters[*k].matches(&topic)).collect();
            prop_assert_eq!(found, expected, "{}", topic);
        }
        for index in kept {
            tree.remove(&filters[index], |_| true);
        }
        prop_assert!(tree.is_empty());
        prop_assert_eq!(tree.nodes.len() - tree.free.len(), 1, "only the root is left");
    }
}

#[test]
fn a_filter_with_the_most_levels_is_no_trouble() {
    let deep = "/".repeat(65_535);
    let mut tree = FilterTree::new();
    tree.insert(&TopicFilter::parse(&deep).unwrap(), ());
    assert_eq!(tree.matching(&deep).count(), 1);
    assert_eq!(
        tree.remove(&TopicFilter::parse(&deep).unwrap(), |()| true),
        1
    );
}
