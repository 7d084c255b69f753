//! The latest committed blocks in memory, so that live streams read no disk. In: committed blocks.
//! Out: the blocks after a sequence. Whoever is further behind reads the store.

use std::collections::VecDeque;
use std::sync::Arc;

use super::block::Block;

/// What a live consumer may be behind before it is served from the store.
const MESSAGES: u64 = 1_024;
/// And in bytes, for large messages.
const BYTES: usize = 2 << 20;

/// See the module.
#[derive(Default)]
pub struct Tail {
    blocks: VecDeque<Arc<Block>>,
    messages: u64,
    bytes: usize,
}

impl Tail {
    /// Adds the newest block and drops those that are no longer needed.
    pub fn push(&mut self, block: Arc<Block>) {
        self.messages += block.last - block.first + 1;
        self.bytes += block.data.len();
        self.blocks.push_back(block);
        while let Some(oldest) = self.blocks.front() {
            let (messages, bytes) = (oldest.last - oldest.first + 1, oldest.data.len());
            let spare = self.messages - messages >= MESSAGES || self.bytes > BYTES;
            if !spare || self.blocks.len() == 1 {
                break;
            }
            self.messages -= messages;
            self.bytes -= bytes;
            self.blocks.pop_front();
        }
    }

    /// The blocks that end after a sequence; none if some of them are no longer here.
    pub fn after(&self, sequence: u64) -> Option<Vec<Arc<Block>>> {
        let oldest = self.blocks.front()?;
        if oldest.first > sequence.saturating_add(1) {
            return None;
        }
        let start = self.blocks.partition_point(|block| block.last <= sequence);
        Some(self.blocks.iter().skip(start).cloned().collect())
    }
}
