//! What the API answers, once, for both fronts: plain functions over store and devices.
//! In: checked requests. Out: views, pages, streams, errors. Knows neither gRPC nor HTTP.

mod births;
mod command;
mod error;
mod input;
mod latest;
mod list;
pub(super) mod page;
mod query;
mod readings;
mod start;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_watch;
pub(super) mod view;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use akri_mqtt_core::decode::{self, Decoded, Decoder};
use akri_mqtt_core::sparkplug;
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_runtime::Shutdown;
use akri_mqtt_runtime::metrics::Registry;
use tokio::sync::Semaphore;

pub use births::{Births, restore_births};
pub use command::CommandView;
pub use error::{ServiceError, shorten};
pub use input::{bound, ordered, time, topic_filter};
pub(super) use latest::check_latest;
pub use list::{Counts, DevicePage, DeviceQuery};
pub use page::{DEFAULT_LIMIT, MOST_LIMIT, limit};
pub use query::{MessagePage, MessageQuery};
pub use readings::{ReadingPage, ReadingQuery, ReadingView};
pub use start::{Start, WatchQuery};
use view::Viewer;
pub use view::{DeviceView, MessageView, age_ms};
pub use watch::{Slot, WatchEvent, Watcher};

use crate::api::metrics::{ApiMetrics, DecodeErrors};
use crate::api::union::Others;
use crate::devices::{Device, Devices};
use crate::store::{Store, Stored};
use crate::talk::Commands;

/// Streams that may be open at a time.
pub const STREAMS: usize = 1_000;
/// Parts of streams of other members of the pool that may be open beside them.
const PARTS: usize = 8 * STREAMS;

/// Which decoder reads which topics: the first filter that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Decoders {
    rules: Vec<(TopicFilter, Decoder)>,
    errors: DecodeErrors,
    births: Arc<Births>,
}

impl Decoders {
    /// Rules in their order; of topics that none matches, those of Sparkplug B are read as such, all others by `auto`.
    #[must_use]
    pub fn new(rules: Vec<(TopicFilter, Decoder)>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// The decoder of a topic.
    #[must_use]
    pub fn of(&self, topic: &str) -> Decoder {
        let rule = self.rules.iter().find(|(filter, _)| filter.matches(topic));
        match rule {
            Some((_, decoder)) => *decoder,
            None if sparkplug::is_payload(topic) => Decoder::SparkplugB,
            None => Decoder::Auto,
        }
    }

    /// Registers what is counted.
    pub fn register(&self, registry: &mut Registry) {
        self.errors.register(registry);
        registry.register(
            "decode_births_dropped",
            "Birth certificates that found no room, so that their metrics are shown by alias",
            self.births.dropped.clone(),
        );
    }

    /// What Sparkplug senders have said of their metrics.
    #[must_use]
    pub fn births(&self) -> &Arc<Births> {
        &self.births
    }

    /// Reads a payload.
    #[must_use]
    pub fn decode(&self, stored: &Stored) -> Decoded {
        let payload = &stored.record.payload;
        let decoder = self.of(&stored.topic);
        let decoded = match decoder {
            Decoder::SparkplugB => {
                let birth = self.births.of(&stored.topic, stored.sequence);
                sparkplug::decode(payload, birth.as_deref())
            }
            _ => decode::decode(decoder, payload),
        };
        if decoded.error.is_some() {
            self.errors.count(decoder);
        }
        decoded
    }
}

/// The API over one store.
#[derive(Clone)]
pub struct Service {
    /// The messages.
    pub store: Store,
    /// The devices.
    pub devices: Arc<Devices>,
    /// How payloads are read.
    pub decoders: Arc<Decoders>,
    /// Ends the streams.
    pub shutdown: Shutdown,
    /// What it counts.
    pub metrics: ApiMetrics,
    /// Commands for devices.
    pub commands: Commands,
    /// The other members of the pool; empty without one.
    pub(super) pool: Arc<OnceLock<Others>>,
    /// Whether there will be some.
    expects_pool: Arc<AtomicBool>,
    streams: Arc<Semaphore>,
    parts: Arc<Semaphore>,
}

impl Service {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        store: Store,
        devices: Arc<Devices>,
        decoders: Decoders,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            store,
            devices,
            decoders: Arc::new(decoders),
            shutdown,
            metrics: ApiMetrics::default(),
            commands: Commands::default(),
            pool: Arc::default(),
            expects_pool: Arc::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            parts: Arc::new(Semaphore::new(PARTS)),
        }
    }

    /// Without other members it has no answers for anybody but them: its own store is not all that there is.
    pub(crate) fn expect_pool(&self) {
        self.expects_pool.store(true, Ordering::Relaxed);
    }

    /// Whether it does not know yet of the other members of its pool.
    pub(super) fn is_joining(&self) -> bool {
        self.expects_pool.load(Ordering::Relaxed) && self.pool.get().is_none()
    }

    /// From now on it knows of the other members of its pool.
    pub(crate) fn join(&self, others: Others) {
        // Only ever called once.
        let _ = self.pool.set(others);
    }

    /// A device.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn device(&self, id: &str) -> Result<DeviceView, ServiceError> {
        let device = self.devices.get(id);
        let device = device.ok_or_else(|| ServiceError::unknown_device(id))?;
        Ok(self.view(device))
    }

    /// Whether other processes have a part of a device's messages.
    #[must_use]
    pub fn is_partial(&self, device: &str) -> bool {
        let device = self.devices.get(device);
        device.is_some_and(|device| device.is_shared)
    }

    fn view(&self, device: Device) -> DeviceView {
        let last = self.store.catalog().last_time(&device.id);
        DeviceView {
            last_message_at: last.map(view::timestamp),
            watched: self.devices.is_watched(&device.id),
            device,
        }
    }

    /// A stored message as the API shows it.
    #[must_use]
    pub fn message_view(&self, stored: Stored) -> MessageView {
        self.viewer().view(stored)
    }

    fn viewer(&self) -> Viewer {
        Viewer {
            store: self.store.id().into(),
            decoders: Arc::clone(&self.decoders),
        }
    }

    /// The numbers of a device's topics that match, sorted.
    fn topics(&self, device: &str, filter: Option<&TopicFilter>) -> Vec<u32> {
        let catalog = self.store.catalog();
        let mut topics: Vec<u32> = catalog
            .of_device(device)
            .filter(|(_, topic)| filter.is_none_or(|filter| filter.matches(&topic.name)))
            .map(|(number, _)| number)
            .collect();
        topics.sort_unstable();
        topics
    }
}
