//! Where the messages of a topic go. In: the topic and the devices whose data it is. Out: the same, with the number of
//! each pair in the catalog once it is known: a message that names its place is stored without a look at its texts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::block::INLINE;

/// See the module.
#[derive(Debug)]
pub struct Place {
    topic: Arc<str>,
    homes: SmallVec<[Home; 1]>,
}

/// A topic of a device.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) device: Arc<str>,
    number: AtomicU32,
}

impl Place {
    /// None of its numbers is known yet. Without a device, messages leave only their packet id.
    #[must_use]
    pub fn new(topic: &str, devices: impl IntoIterator<Item = Arc<str>>) -> Self {
        let homes = devices.into_iter().map(|device| Home {
            device,
            number: AtomicU32::new(INLINE),
        });
        Self {
            topic: topic.into(),
            homes: homes.collect(),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Whether it is a device's.
    #[must_use]
    pub fn has_devices(&self) -> bool {
        !self.homes.is_empty()
    }

    pub(super) fn homes(&self) -> &[Home] {
        &self.homes
    }
}

impl Home {
    /// The number that it had last, or [`INLINE`]. The catalog gives no number twice, so it is either still this one
    /// or nobody's.
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    pub(super) fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }
}
