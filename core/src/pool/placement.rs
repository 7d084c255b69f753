//! What one member of a pool does about each shard. In: who is alive, how its claims and hand-overs went.
//! Out: actions. Holds no lock, opens no session: an exclusive lock per shard, which the caller has, is what
//! keeps two members from serving one; this decides when to ask for it and when to give it back.

use std::collections::BTreeMap;

use super::{Member, Shard, ShardCount};

/// What is to be done about a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Try to get its lock, without waiting, and serve it; answer with [`Placement::claimed`].
    Claim(Shard),
    /// End its sessions so that another member can go on with them; answer with [`Placement::drained`].
    Drain(Shard),
    /// Give its lock back; needs no answer.
    Release(Shard),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its lock is asked for.
    Claiming,
    /// It is locked and served.
    Held,
    /// It is locked, its sessions are ending.
    Draining,
    /// It is locked, nothing of it is left.
    Drained,
}

/// See the module.
#[derive(Debug)]
pub struct Placement {
    me: Member,
    shards: ShardCount,
    phases: BTreeMap<Shard, Phase>,
}

impl Placement {
    /// A member that holds nothing yet.
    #[must_use]
    pub fn new(me: Member, shards: ShardCount) -> Self {
        Self {
            me,
            shards,
            phases: BTreeMap::new(),
        }
    }

    /// What is to be done while these members live, sorted by shard. A member that is not among them gives
    /// everything back; that is how one leaves. Asking again repeats nothing that is under way.
    pub fn decide<'m>(
        &mut self,
        live: impl IntoIterator<Item = &'m Member> + Clone,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for shard in self.shards.all() {
            let is_mine = shard.target(live.clone()) == Some(&self.me);
            match (self.phases.get(&shard), is_mine) {
                (None, true) => {
                    self.phases.insert(shard, Phase::Claiming);
                    actions.push(Action::Claim(shard));
                }
                (Some(Phase::Held), false) => {
                    self.phases.insert(shard, Phase::Draining);
                    actions.push(Action::Drain(shard));
                }
                // Even where it is ours again: claiming it afresh is the one way in.
                (Some(Phase::Drained), _) => {
                    self.phases.remove(&shard);
                    actions.push(Action::Release(shard));
                }
                (None, false)
                | (Some(Phase::Held), true)
                | (Some(Phase::Claiming | Phase::Draining), _) => {}
            }
        }
        actions
    }

    /// How a claim went. One that was lost is made again by the next decision.
    pub fn claimed(&mut self, shard: Shard, won: bool) {
        if self.phases.get(&shard) != Some(&Phase::Claiming) {
            return;
        }
        if won {
            self.phases.insert(shard, Phase::Held);
        } else {
            self.phases.remove(&shard);
        }
    }

    /// The sessions of a shard have ended, and what they had acknowledged is stored.
    pub fn drained(&mut self, shard: Shard) {
        if self.phases.get(&shard) == Some(&Phase::Draining) {
            self.phases.insert(shard, Phase::Drained);
        }
    }

    /// The shards that are served, sorted.
    pub fn held(&self) -> impl Iterator<Item = Shard> + '_ {
        let held = self.phases.iter();
        held.filter(|(_, phase)| **phase == Phase::Held)
            .map(|(shard, _)| *shard)
    }

    /// Whether there is nothing that is locked or asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }
}
