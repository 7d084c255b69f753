//! Where the next older message of each topic is, so that reading backwards passes over the blocks without any.
//! In: the latest message of each topic, and each message that was looked at. Out: the next sequence worth looking at.

use std::collections::{BTreeSet, HashSet};

use super::block::Record;
use super::catalog::Catalog;
use super::scan::Scan;

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not known: look at every block.
    Unknown,
    /// Everything between is of no interest.
    At(u64),
    /// There is no older one.
    End,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Links {
    /// The next message of each topic of which one was seen.
    known: BTreeSet<u64>,
    /// Topics of which none was seen yet.
    unknown: HashSet<u32>,
    /// There are messages, from `oldest` on, that none points at.
    off: bool,
}

impl Links {
    /// Of a scan backwards. `oldest` is the oldest stored sequence.
    pub fn new(scan: &Scan, catalog: &Catalog, oldest: u64) -> Self {
        let mut links = Self {
            off: catalog.unlinked >= oldest,
            ..Self::default()
        };
        for number in &scan.topics {
            let Some(topic) = catalog.get(*number) else {
                continue;
            };
            // Later messages than those asked for are passed over block by block, not one by one.
            if scan.to.is_none() && topic.last <= scan.start {
                links.add(topic.last);
            } else {
                links.unknown.insert(*number);
            }
        }
        links
    }

    /// A message that fits the scan was looked at.
    pub fn seen(&mut self, sequence: u64, record: &Record) {
        if self.known.remove(&sequence) || self.unknown.remove(&record.topic) {
            self.add(record.previous);
        }
    }

    fn add(&mut self, sequence: u64) {
        if sequence > 0 {
            self.known.insert(sequence);
        }
    }

    /// Where the scan goes on.
    pub fn next(&self) -> Next {
        if self.off || !self.unknown.is_empty() {
            return Next::Unknown;
        }
        self.known.last().map_or(Next::End, |last| Next::At(*last))
    }
}
