//! What a sink is to send next. In: a position in the store. Out: messages and gaps, in order, some ahead.
//! Near the end it reads the memory of the latest blocks, further behind the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::api::Service;
use crate::api::service::MessageView;
use crate::store::{Block, StoreError, Stored};

/// Messages that cannot be had any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first missing sequence.
    pub from: u64,
    /// The last missing sequence, inclusive.
    pub to: u64,
    /// Why.
    pub reason: &'static str,
}

impl Gap {
    /// How many are missing.
    pub fn messages(&self) -> u64 {
        self.to.saturating_sub(self.from) + 1
    }
}

/// What is next.
enum Item {
    Message(Box<MessageView>),
    Gap(Gap),
}

/// See the module.
pub struct Feed {
    service: Service,
    /// Everything up to it is in `blocks` or `items`, or was taken.
    read: u64,
    blocks: VecDeque<Arc<Block>>,
    items: VecDeque<Item>,
}

impl Feed {
    /// What comes after a sequence.
    pub fn new(service: Service, after: u64) -> Self {
        Self {
            service,
            read: after,
            blocks: VecDeque::new(),
            items: VecDeque::new(),
        }
    }

    /// Messages and gaps that wait here.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Reads until so many wait, or there are no more.
    pub async fn fill(&mut self, wanted: usize) -> Result<(), StoreError> {
        while self.items.len() < wanted {
            if let Some(block) = self.blocks.pop_front() {
                self.take_block(&block);
                continue;
            }
            let latest = *self.service.store.committed().borrow();
            if latest <= self.read {
                break;
            }
            let oldest = self.service.store.oldest();
            self.gap(oldest.saturating_sub(1).min(latest), RETENTION);
            let after = self.read;
            let blocks = match self.service.store.recent(after) {
                Some(blocks) => blocks,
                None => {
                    let read = self.service.store.read(move |r| r.blocks_after(after));
                    read.await?
                }
            };
            if blocks.is_empty() {
                self.gap(latest, RETENTION);
            }
            self.blocks.extend(blocks);
        }
        Ok(())
    }

    /// The gap that is next, if one is.
    pub fn gap_first(&self) -> Option<&Gap> {
        match self.items.front() {
            Some(Item::Gap(gap)) => Some(gap),
            _ => None,
        }
    }

    /// The message that is next, if one is.
    pub fn first_message(&self) -> Option<&MessageView> {
        match self.items.front() {
            Some(Item::Message(message)) => Some(message),
            _ => None,
        }
    }

    /// It was told.
    pub fn pop_gap(&mut self) {
        if self.gap_first().is_some() {
            self.items.pop_front();
        }
    }

    /// The messages that are next, up to a number and a size, at least one; none if a gap is next.
    pub fn take(&mut self, most: usize, most_bytes: usize) -> Vec<MessageView> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(Item::Message(message)) = self.items.front() {
            bytes += message.stored.record.payload.len() + message.stored.topic.len();
            let is_full = batch.len() >= most || bytes > most_bytes;
            if is_full && !batch.is_empty() {
                break;
            }
            if let Some(Item::Message(message)) = self.items.pop_front() {
                batch.push(*message);
            }
        }
        batch
    }

    fn take_block(&mut self, block: &Block) {
        self.gap(block.first.saturating_sub(1), RETENTION);
        let mut found = Vec::new();
        for record in block.records() {
            match record {
                Ok((sequence, record)) if sequence > self.read => found.push((sequence, record)),
                Ok(_) => {}
                Err(error) => {
                    self.service.store.unreadable(&error);
                    break;
                }
            }
        }
        // The writer waits for the catalog, so it is held for the names only.
        let catalog = self.service.store.catalog();
        let named: Vec<_> = found
            .into_iter()
            .filter_map(|(sequence, record)| Stored::name(&catalog, sequence, record))
            .collect();
        drop(catalog);
        for stored in named {
            let sequence = stored.sequence;
            self.gap(sequence.saturating_sub(1), RETENTION);
            let message = self.service.message_view(stored);
            self.items.push_back(Item::Message(Box::new(message)));
            self.read = sequence;
        }
        self.gap(block.last, DAMAGE);
    }

    /// Everything up to a sequence that was not read is gone.
    fn gap(&mut self, to: u64, reason: &'static str) {
        if to <= self.read {
            return;
        }
        let from = self.read + 1;
        self.read = to;
        if let Some(Item::Gap(gap)) = self.items.back_mut()
            && gap.to + 1 == from
        {
            gap.to = to;
            return;
        }
        self.items.push_back(Item::Gap(Gap { from, to, reason }));
    }
}

const RETENTION: &str = "Retention has deleted these messages.";
const DAMAGE: &str = "These messages cannot be read any more.";
