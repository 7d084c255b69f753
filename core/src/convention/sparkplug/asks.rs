//! When to ask which Edge Node for a rebirth. In: nodes that should be asked, nodes that others have asked, births, and
//! time. Out: whom to ask now. No node is asked twice in [`EVERY`], whoever asked, and the server gets one request in
//! [`SPACING`] at most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::presence::Tick;

/// Between two requests to one node.
const EVERY: Duration = Duration::from_secs(30);
/// Between two requests to different nodes: a rebirth is a burst of messages.
const SPACING: Duration = Duration::from_millis(10);
/// Nodes that are waited for; further ones are not asked.
const MAX_NODES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Asks {
    nodes: BTreeMap<String, Node>,
    /// One entry for each node.
    due: BTreeSet<(Tick, String)>,
    /// Nobody is asked before this time.
    free: Option<Tick>,
    /// Who is to be asked now.
    ready: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    at: Tick,
    /// Whether it was asked, so that until `at` it is not asked again.
    asked: bool,
    /// Whether it is to be asked at that time.
    wanted: bool,
}

impl Asks {
    /// A node should be asked at this time; false if there is no room to remember it.
    pub fn want(&mut self, name: &str, at: Tick) -> bool {
        let has_room = self.nodes.len() < MAX_NODES;
        match self.nodes.get_mut(name) {
            Some(node) if node.asked => node.wanted = true,
            Some(node) if node.at <= at => {}
            None if !has_room => return false,
            _ => self.set(name, at, false, true),
        }
        true
    }

    /// Somebody has asked a node.
    pub fn heard(&mut self, name: &str, now: Tick) {
        if self.nodes.contains_key(name) || self.nodes.len() < MAX_NODES {
            self.set(name, now.plus(EVERY), true, false);
        }
    }

    /// There is nothing to ask a node for.
    pub fn answered(&mut self, name: &str) {
        match self.nodes.get_mut(name) {
            Some(node) if node.asked => node.wanted = false,
            Some(node) => {
                let at = node.at;
                self.nodes.remove(name);
                self.due.remove(&(at, name.to_owned()));
            }
            None => {}
        }
    }

    /// When to look again.
    pub fn next(&self) -> Option<Tick> {
        let (at, _) = self.due.first()?;
        Some(self.free.map_or(*at, |free| free.max(*at)))
    }

    pub fn wake(&mut self, now: Tick) {
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, name)) = self.due.pop_first() else {
                return;
            };
            let Some(node) = self.nodes.remove(&name) else {
                continue;
            };
            if node.wanted {
                self.set(&name, now.plus(EVERY), true, false);
                self.free = Some(now.plus(SPACING));
                self.ready.push(name);
            }
        }
    }

    /// Takes those that are to be asked now.
    pub fn ready(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ready)
    }

    fn set(&mut self, name: &str, at: Tick, asked: bool, wanted: bool) {
        let node = Node { at, asked, wanted };
        if let Some(before) = self.nodes.insert(name.to_owned(), node) {
            self.due.remove(&(before.at, name.to_owned()));
        }
        self.due.insert((at, name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::START.plus(Duration::from_millis(millis))
    }

    /// Who is asked until a time, and when.
    fn asked(asks: &mut Asks, until: u64) -> Vec<(u128, String)> {
        let mut all = Vec::new();
        while let Some(next) = asks.next().filter(|next| *next <= at(until)) {
            asks.wake(next);
            let when = next.since(Tick::START).as_millis();
            all.extend(asks.ready().into_iter().map(|name| (when, name)));
        }
        all
    }

    #[test]
    fn a_node_is_asked_once_in_30_s_however_often_it_is_heard() {
        let mut asks = Asks::default();
        for millis in [0, 10, 20] {
            assert!(asks.want("g/n", at(millis)));
        }
        assert_eq!(asked(&mut asks, 25_000), [(0, "g/n".to_owned())]);
        assert!(asks.want("g/n", at(25_000)));
        assert_eq!(asked(&mut asks, 60_000), [(30_000, "g/n".to_owned())]);
        assert!(asked(&mut asks, 200_000).is_empty());
        assert!(asks.nodes.is_empty() && asks.due.is_empty());
    }

    #[test]
    fn who_was_born_or_was_asked_by_somebody_else_is_not_asked() {
        let mut asks = Asks::default();
        asks.want("g/born", at(5));
        asks.want("g/other", at(5));
        asks.answered("g/born");
        asks.heard("g/other", at(3));
        assert!(asked(&mut asks, 100_000).is_empty());
        asks.want("g/n", at(100_000));
        assert_eq!(asked(&mut asks, 100_000).len(), 1);
        asks.want("g/n", at(100_001));
        asks.answered("g/n");
        assert!(asked(&mut asks, 200_000).is_empty());
    }

    #[test]
    fn requests_are_spread_and_nodes_bounded() {
        let mut asks = Asks::default();
        let room = (0..10_100).filter(|n| asks.want(&format!("g/{n:05}"), at(0)));
        assert_eq!(room.count(), MAX_NODES);
        let asked = asked(&mut asks, 990);
        assert_eq!(asked.len(), 100);
        assert_eq!(asked.last().unwrap().0, 990);
    }
}
