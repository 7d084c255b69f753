//! What is said about a Configuration's devices and discovery, each thing once. In: what a plan has found.
//! Out: notices.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::action::{Action, Notice, Reason};
use super::super::assign::Refused;
use super::super::discovery::{self, Verdict};
use super::super::words::{counted, lasting, listed};
use super::Desk;
use crate::discover::FoundDevice;
use crate::model::InstanceView;
use crate::names;

/// How long discovery must have been bad before an Event says so; handlers need a moment to start.
const BAD_FOR: Duration = Duration::from_secs(5);

impl Desk<'_, '_> {
    fn say(&mut self, reason: Reason, words: String) {
        let notice = Notice::new(&self.about, reason, words);
        self.memory.said.say(&mut self.plan.actions, "", notice);
    }

    pub(super) fn tell_faults(&mut self) {
        if self.blueprint.faults.is_empty() {
            self.memory.said.forget(Reason::InvalidSetting, "");
        } else {
            self.say(Reason::InvalidSetting, self.blueprint.faults.join("; "));
        }
    }

    pub(super) fn tell_discovery(&mut self) {
        let Verdict { good, words, .. } = discovery::discovered(self.blueprint, self.input.finding);
        match good {
            Some(true) => {
                self.memory.bad_since = None;
                if self.memory.said.forget(Reason::DiscoveryFailed, "") {
                    self.plan.actions.push(Action::Say(Notice::new(
                        &self.about,
                        Reason::DiscoveryWorks,
                        format!("discovery works again: {words}"),
                    )));
                }
            }
            Some(false) => {
                let since = *self.memory.bad_since.get_or_insert(self.now.mono);
                let bad_for = self.now.mono.saturating_duration_since(since);
                let left = BAD_FOR.saturating_sub(bad_for);
                if left.is_zero() {
                    self.say(Reason::DiscoveryFailed, words);
                } else {
                    self.plan.again(left);
                }
            }
            None => {}
        }
    }

    pub(super) fn tell_found(&mut self, new: &[(&FoundDevice, String)]) {
        let names: BTreeSet<Arc<str>> = new
            .iter()
            .map(|(device, _)| Arc::clone(&device.id))
            .collect();
        let news: Vec<&str> = names
            .difference(&self.memory.coming)
            .map(|id| &**id)
            .collect();
        if !news.is_empty() {
            let words = format!(
                "{} found: {}",
                counted(news.len(), "device"),
                listed(news.iter().copied())
            );
            let notice = Notice::new(&self.about, Reason::DevicesFound, words);
            self.plan.actions.push(Action::Say(notice));
        }
        self.memory.coming = names;
    }

    pub(super) fn tell_gone(&mut self, gone: &[&InstanceView]) {
        let shown = |view: &&InstanceView| Arc::clone(view.device.as_ref().unwrap_or(&view.name));
        let names: BTreeSet<Arc<str>> = gone.iter().map(shown).collect();
        let news: Vec<&str> = names
            .difference(&self.memory.going)
            .map(|id| &**id)
            .collect();
        if !news.is_empty() {
            let words = format!(
                "{} no longer listed by handler `{}`: {}",
                counted(news.len(), "device"),
                self.blueprint.handler,
                listed(news.iter().copied())
            );
            let notice = Notice::new(&self.about, Reason::DevicesGone, words);
            self.plan.actions.push(Action::Say(notice));
        }
        self.memory.going = names;
    }

    /// Said once for each stream.
    pub(super) fn tell_held(&mut self, held: &[&str], left: Duration) {
        if self.memory.told_held == self.memory.stream {
            return;
        }
        self.memory.told_held = self.memory.stream;
        let words = format!(
            "{} not listed since the handler's stream began, kept for {} more ({}): {}",
            counted(held.len(), "Instance"),
            lasting(left),
            names::HOLD,
            listed(held.iter().copied())
        );
        let notice = Notice::new(&self.about, Reason::DevicesHeld, words);
        self.plan.actions.push(Action::Say(notice));
    }

    pub(super) fn tell_refused(&mut self, refused: Refused) {
        let all = [
            (Reason::InvalidName, &refused.invalid),
            (Reason::NameCollision, &refused.collided),
            (Reason::NameTaken, &refused.taken),
        ];
        for (reason, tally) in all {
            if tally.count == 0 {
                self.memory.said.forget(reason, "");
                continue;
            }
            let words = format!(
                "{} refused: {}",
                counted(tally.count, "device"),
                tally.first
            );
            let notice = Notice::new(&self.about, reason, words);
            self.memory.said.say(&mut self.plan.actions, "", notice);
        }
        self.memory.refused = refused;
    }
}
