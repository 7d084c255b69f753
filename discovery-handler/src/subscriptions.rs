//! What one MQTT session subscribes to: the union over the requests that share it.
//! In: the wanted filters of each request. Out: a sorted set without what another filter covers.
//! That a message of two intersecting filters counts once is left to the session.

use std::collections::BTreeMap;

use akri_mqtt_core::presence::Wanted;
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_session::Subscription;

/// Whether what `one` asks for comes by `other` as well.
fn is_served(one: &Wanted, other: &Wanted) -> bool {
    other.filter.covers(&one.filter) && other.qos >= one.qos && (other.snapshot || !one.snapshot)
}

/// The union: equal filters merged, covered ones left out.
pub fn union<'a>(wanted: impl IntoIterator<Item = &'a Wanted>) -> Vec<Subscription> {
    let mut merged: BTreeMap<TopicFilter, Wanted> = BTreeMap::new();
    for one in wanted {
        let known = merged
            .entry(one.filter.clone())
            .or_insert_with(|| one.clone());
        known.qos = known.qos.max(one.qos);
        known.snapshot |= one.snapshot;
    }
    let all: Vec<&Wanted> = merged.values().collect();
    let (wild, _): (Vec<&Wanted>, Vec<&Wanted>) =
        all.iter().partition(|one| one.filter.has_wildcard());
    all.into_iter()
        .filter(|one| {
            !wild
                .iter()
                .any(|other| other.filter != one.filter && is_served(one, other))
        })
        .map(|one| Subscription {
            filter: one.filter.as_str().to_owned(),
            qos: one.qos,
            snapshot: one.snapshot,
            identifier: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use akri_mqtt_core::details::QoS;

    use super::*;

    fn data(filter: &str) -> Wanted {
        Wanted {
            filter: TopicFilter::parse(filter).unwrap(),
            qos: QoS::AtMostOnce,
            snapshot: false,
        }
    }

    fn announcing(filter: &str) -> Wanted {
        Wanted {
            qos: QoS::AtLeastOnce,
            snapshot: true,
            ..data(filter)
        }
    }

    fn filters(wanted: &[Wanted]) -> Vec<(String, bool)> {
        union(wanted)
            .into_iter()
            .map(|s| (s.filter, s.snapshot))
            .collect()
    }

    #[test]
    fn equal_filters_are_one_with_the_higher_demands() {
        let both = [data("a/+"), announcing("a/+"), data("a/+")];
        let union = union(&both);
        assert_eq!(union.len(), 1);
        assert!(union[0].snapshot && union[0].qos == QoS::AtLeastOnce);
    }

    #[test]
    fn a_covered_filter_is_left_out_unless_it_asks_for_more() {
        let all = [
            data("robots/#"),
            data("robots/+/joints"),
            data("x"),
            announcing("robots/+/status"),
        ];
        let expected = [("robots/#", false), ("robots/+/status", true), ("x", false)];
        assert_eq!(filters(&all), expected.map(|(f, s)| (f.to_owned(), s)));
    }
}
