//! The pace of a new template across the Instances of a Configuration. In: which Instances have a pod
//! that was replaced and does not serve yet. Out: who may replace a pod that serves.
//!
//! At most a tenth of the Instances, and at least one, wait for a replaced pod at a time. A template
//! whose pods do not get ready stays at those: the others go on with their old pods until the
//! template is edited. Pods that do not serve anyway need no permission.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Instances that may wait for replaced pods at a time, of a hundred.
const PERCENT: usize = 10;
/// The most, so that a large Configuration's rollout does not hold up what else there is to do.
const MOST: usize = 100;

/// One Configuration's rollout.
#[derive(Debug, Default)]
pub(super) struct Rollout {
    /// Instances that have had a plan, so that what they wait for is known.
    known: BTreeSet<Arc<str>>,
    /// Instances that wait for a replaced pod.
    busy: BTreeSet<Arc<str>>,
    /// Instances that would replace a pod.
    waiting: BTreeSet<Arc<str>>,
}

impl Rollout {
    /// How many Instances of `siblings` may wait for replaced pods.
    pub(super) fn limit(siblings: usize) -> usize {
        (siblings * PERCENT).div_ceil(100).clamp(1, MOST)
    }

    /// Notes whether an Instance waits for a replaced pod.
    pub(super) fn note(&mut self, instance: &Arc<str>, busy: bool) {
        self.known.insert(Arc::clone(instance));
        if busy {
            self.busy.insert(Arc::clone(instance));
        } else {
            self.busy.remove(instance);
        }
        self.waiting.remove(instance);
    }

    /// Forgets an Instance.
    pub(super) fn forget(&mut self, instance: &str) {
        self.known.remove(instance);
        self.busy.remove(instance);
        self.waiting.remove(instance);
    }

    /// Asks for leave to replace a pod that serves; who does not get it is woken when there is room.
    pub(super) fn permit(&mut self, instance: &Arc<str>, siblings: usize) -> bool {
        let granted = self.room(siblings) > 0;
        let set = if granted {
            &mut self.busy
        } else {
            &mut self.waiting
        };
        set.insert(Arc::clone(instance));
        granted
    }

    /// Takes out those who may ask again.
    pub(super) fn wake(&mut self, siblings: usize) -> Vec<Arc<str>> {
        let mut room = self.room(siblings);
        let mut woken = Vec::new();
        while room > 0 {
            let Some(next) = self.waiting.pop_first() else {
                break;
            };
            woken.push(next);
            room -= 1;
        }
        woken
    }

    /// There is no room before every Instance was looked at: after a restart, pods of a broken
    /// template must be known before the next one is replaced.
    fn room(&self, siblings: usize) -> usize {
        if self.known.len() < siblings {
            return 0;
        }
        Self::limit(siblings).saturating_sub(self.busy.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|n| format!("c-{n:06}").into()).collect()
    }

    #[test]
    fn a_tenth_of_the_instances_at_a_time() {
        assert_eq!(
            [0, 1, 10, 11, 200, 5_000].map(Rollout::limit),
            [1, 1, 1, 2, 20, 100]
        );
    }

    #[test]
    fn nobody_replaces_before_all_were_looked_at() {
        let names = names(3);
        let mut rollout = Rollout::default();
        rollout.note(&names[0], false);
        rollout.note(&names[1], false);
        assert!(!rollout.permit(&names[0], 3));
        assert_eq!(rollout.wake(3), Vec::<Arc<str>>::new());
        rollout.note(&names[2], false);
        assert_eq!(rollout.wake(3), [Arc::clone(&names[0])]);
        assert!(rollout.permit(&names[0], 3));
    }

    #[test]
    fn the_next_goes_when_the_former_is_ready_or_gone() {
        let names = names(3);
        let mut rollout = Rollout::default();
        for name in &names {
            rollout.note(name, false);
        }
        assert!(rollout.permit(&names[0], 3));
        assert!(!rollout.permit(&names[1], 3));
        assert!(!rollout.permit(&names[2], 3));
        rollout.note(&names[0], true);
        assert!(rollout.wake(3).is_empty());
        rollout.note(&names[0], false);
        assert_eq!(rollout.wake(3), [Arc::clone(&names[1])]);
        assert!(rollout.permit(&names[1], 3));
        rollout.forget(&names[1]);
        assert_eq!(rollout.wake(2), [Arc::clone(&names[2])]);
    }
}
