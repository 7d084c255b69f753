//! The order of an Edge Node's messages. In: their numbers, which count from 0 to 255 and begin again with each
//! NBIRTH (Eclipse Sparkplug 3.0, `tck-id-payloads-sequence-num-incrementing`). Out: where each belongs, and whether
//! any is missing.

use std::collections::BTreeSet;

use crate::presence::Irregular;

/// Numbers are counted on beyond 255; so far apart, a smaller one is an earlier message.
const HALF: u64 = 128;
const ROUND: u64 = 256;

/// What is known of the numbers since the last NBIRTH.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The next one, counted on; none before an NBIRTH.
    next: Option<u64>,
    missing: BTreeSet<u64>,
}

/// Where a message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number, counted on; none where that cannot be known.
    pub at: Option<u64>,
    pub irregular: Option<Irregular>,
}

impl Order {
    /// An NBIRTH has this number.
    pub fn begin(&mut self, seq: Option<u64>) -> Option<Irregular> {
        self.missing.clear();
        let first = seq.filter(|seq| *seq < ROUND);
        self.next = Some(ROUND + first.unwrap_or(0) + 1);
        match first {
            Some(0) => None,
            Some(_) => Some(Irregular::FirstNumber),
            None => Some(Irregular::Unnumbered),
        }
    }

    /// Another message has this number.
    pub fn take(&mut self, seq: Option<u64>) -> Place {
        let Some(next) = self.next else {
            return Place {
                at: None,
                irregular: None,
            };
        };
        let Some(seq) = seq.filter(|seq| *seq < ROUND) else {
            return Place {
                at: None,
                irregular: Some(Irregular::Unnumbered),
            };
        };
        let ahead = (seq + ROUND - next % ROUND) % ROUND;
        if ahead < HALF {
            let at = next + ahead;
            self.next = Some(at + 1);
            self.missing = self.missing.split_off(&(at + 1).saturating_sub(HALF));
            self.missing.extend(next..at);
            return Place {
                at: Some(at),
                irregular: (ahead > 0).then_some(Irregular::Gap),
            };
        }
        let at = next + ahead - ROUND;
        let irregular = if self.missing.remove(&at) {
            Irregular::Late
        } else {
            Irregular::Duplicate
        };
        Place {
            at: Some(at),
            irregular: Some(irregular),
        }
    }

    /// Whether messages have not come that were sent before others that have.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an NBIRTH with 0 and these numbers after it are.
    fn irregular(numbers: &[u64]) -> (Vec<Option<Irregular>>, bool) {
        let mut order = Order::default();
        assert_eq!(order.begin(Some(0)), None);
        let numbers = numbers.iter().map(|seq| order.take(Some(*seq)).irregular);
        (numbers.collect(), order.is_complete())
    }

    #[test]
    fn tck_id_payloads_sequence_num_incrementing_255_is_followed_by_0() {
        let two_rounds: Vec<u64> = (1..=255).chain(0..=255).chain([0, 1]).collect();
        let (found, complete) = irregular(&two_rounds);
        assert!(complete && found.iter().all(Option::is_none));
    }

    #[test]
    fn gap_is_filled_by_what_comes_late_and_a_second_copy_is_a_duplicate() {
        let (gap, late, twice) = (Irregular::Gap, Irregular::Late, Irregular::Duplicate);
        let (found, complete) = irregular(&[1, 4, 3]);
        assert_eq!(found, [None, Some(gap), Some(late)]);
        assert!(!complete);
        let (found, complete) = irregular(&[1, 4, 3, 2, 2, 5]);
        assert_eq!(found[3..], [Some(late), Some(twice), None]);
        assert!(complete);
    }

    #[test]
    fn what_is_missing_for_half_a_round_is_waited_for_no_longer() {
        let numbers: Vec<u64> = [1].into_iter().chain(3..=140).collect();
        assert!(irregular(&numbers).1);
    }

    #[test]
    fn tck_id_topics_nbirth_seq_num_another_number_than_0_is_noted_and_counted_on() {
        let mut order = Order::default();
        assert_eq!(order.begin(Some(255)), Some(Irregular::FirstNumber));
        assert_eq!(order.take(Some(0)).irregular, None);
        assert_eq!(order.begin(Some(256)), Some(Irregular::Unnumbered));
        assert_eq!(order.take(None).irregular, Some(Irregular::Unnumbered));
        assert_eq!(order.take(Some(u64::MAX)).at, None);
    }
}
