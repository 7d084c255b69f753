//! Many filters at once: which of them take a topic. In: filters with values. Out: the values,
//! after a walk over the levels of the topic, however many filters there are.

use std::collections::HashMap;

use super::TopicFilter;

/// Values that are filed under topic filters.
#[derive(Clone, Debug)]
pub struct FilterTree<T> {
    /// The root is the first; free nodes are listed in `free`. An arena, because a filter may
    /// have 65,535 levels and nothing here may recurse that deep.
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Node<T> {
    children: HashMap<Box<str>, usize>,
    plus: Option<usize>,
    here: Vec<T>,
    hash: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            plus: None,
            here: Vec::new(),
            hash: Vec::new(),
        }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.here.is_empty()
            && self.hash.is_empty()
    }

    fn child(&self, level: &str) -> Option<usize> {
        if level == "+" {
            self.plus
        } else {
            self.children.get(level).copied()
        }
    }
}

impl<T> Default for FilterTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FilterTree<T> {
    /// A tree without filters.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            len: 0,
        }
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Files `value` under `filter`. A filter can have many values.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut at = 0;
        let mut ends_in_hash = false;
        for level in filter.levels() {
            if level == "#" {
                ends_in_hash = true;
                break;
            }
            at = self.child_or_new(at, level);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            if ends_in_hash {
                node.hash.push(value)
            } else {
                node.here.push(value)
            }
            self.len += 1;
        }
    }

    /// Takes out the values of `filter` that `which` names; returns how many.
    pub fn remove(&mut self, filter: &TopicFilter, mut which: impl FnMut(&T) -> bool) -> usize {
        let mut path = Vec::new();
        let mut at = 0;
        let mut ends_in_hash = false;
        for level in filter.levels() {
            if level == "#" {
                ends_in_hash = true;
                break;
            }
            let Some(next) = self.nodes.get(at).and_then(|n| n.child(level)) else {
                return 0;
            };
            path.push((at, level));
            at = next;
        }
        let Some(node) = self.nodes.get_mut(at) else {
            return 0;
        };
        let values = if ends_in_hash {
            &mut node.hash
        } else {
            &mut node.here
        };
        let before = values.len();
        values.retain(|value| !which(value));
        let removed = before - values.len();
        self.len -= removed;
        self.prune(at, path);
        removed
    }

    /// The values of all filters that take `topic`, in an order that only the tree decides.
    pub fn matching<'a>(&'a self, topic: &'a str) -> Matching<'a, T> {
        Matching {
            tree: self,
            todo: vec![Step::At(0, Some(topic))],
            ready: [].iter(),
            system: topic.starts_with('$'),
        }
    }

    fn child_or_new(&mut self, at: usize, level: &str) -> usize {
        if let Some(child) = self.nodes.get(at).and_then(|n| n.child(level)) {
            return child;
        }
        let new = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        });
        if let Some(node) = self.nodes.get_mut(at) {
            if level == "+" {
                node.plus = Some(new);
            } else {
                node.children.insert(level.into(), new);
            }
        }
        new
    }

    fn prune(&mut self, mut at: usize, mut path: Vec<(usize, &str)>) {
        while self.nodes.get(at).is_some_and(Node::is_empty) {
            let Some((parent, level)) = path.pop() else {
                return;
            };
            if let Some(node) = self.nodes.get_mut(parent) {
                if level == "+" {
                    node.plus = None;
                } else {
                    node.children.remove(level);
                }
            }
            self.free.push(at);
            at = parent;
        }
    }
}

/// What is still to look at for one topic.
#[derive(Debug)]
enum Step<'a> {
    /// A node, with the rest of the topic; `None` when the topic has ended there.
    At(usize, Option<&'a str>),
    /// The values under a `#` that takes its parent level too.
    Parent(usize),
}

/// The values of the filters that take one topic; see [`FilterTree::matching`].
#[derive(Debug)]
pub struct Matching<'a, T> {
    tree: &'a FilterTree<T>,
    todo: Vec<Step<'a>>,
    ready: std::slice::Iter<'a, T>,
    system: bool,
}

impl<'a, T> Matching<'a, T> {
    fn step(&mut self, at: usize, rest: Option<&'a str>) {
        let Some(node) = self.tree.nodes.get(at) else {
            return;
        };
        let Some(rest) = rest else {
            self.ready = node.here.iter();
            self.todo.push(Step::Parent(at));
            return;
        };
        // MQTT 5.0, 4.7.2: no wildcard at the first level takes `$…`.
        let wildcards = !(self.system && at == 0);
        if wildcards {
            self.ready = node.hash.iter();
        }
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        if let Some(child) = node.children.get(level) {
            self.todo.push(Step::At(*child, rest));
        }
        if let Some(child) = node.plus.filter(|_| wildcards) {
            self.todo.push(Step::At(child, rest));
        }
    }
}

impl<'a, T> Iterator for Matching<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(value) = self.ready.next() {
                return Some(value);
            }
            match self.todo.pop()? {
                Step::At(at, rest) => self.step(at, rest),
                Step::Parent(at) => {
                    if let Some(node) = self.tree.nodes.get(at) {
                        self.ready = node.hash.iter();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
