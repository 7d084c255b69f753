//! Topics that begin with a device's prefix, of one or more levels. In: filters for the prefix, and a
//! topic. Out: where the prefix may end.

use crate::topic::TopicFilter;

/// Filters for the first levels of topics, from the longest on: `home/+` says more than `+`.
#[derive(Clone, Debug)]
pub(super) struct Prefixes(Vec<TopicFilter>);

impl Prefixes {
    pub fn new(filters: &[TopicFilter]) -> Self {
        let mut filters = filters.to_vec();
        filters.sort_by_key(|filter| std::cmp::Reverse(filter.levels().count()));
        Self(filters)
    }

    /// The ways to take a topic apart into a prefix, none of whose levels is empty, and the rest.
    pub fn split<'t>(&self, topic: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.0.iter().filter_map(move |filter| {
            let (end, _) = topic.match_indices('/').nth(filter.levels().count() - 1)?;
            let (prefix, rest) = topic.split_at_checked(end)?;
            let full = !prefix.split('/').any(str::is_empty);
            (full && filter.matches(prefix)).then(|| (prefix, rest.trim_start_matches('/')))
        })
    }
}
