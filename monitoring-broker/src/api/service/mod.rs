//! What the API answers, once, for both fronts: plain functions over store and devices.
//! In: checked requests. Out: views, pages, streams, errors. Knows neither gRPC nor HTTP.

mod error;
mod page;
mod query;
mod readings;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_core::decode::{self, Decoded, Decoder};
use akri_mqtt_core::topic::TopicFilter;
use akri_mqtt_runtime::Shutdown;
use jiff::Timestamp;
use tokio::sync::Semaphore;

pub use error::ServiceError;
pub use page::{DEFAULT_LIMIT, MOST_LIMIT};
pub use query::{MessagePage, MessageQuery};
pub use readings::{ReadingPage, ReadingQuery, ReadingView};
pub use view::{DeviceView, MessageView};
pub use watch::{Start, WatchEvent, WatchQuery, Watcher};

use crate::api::metrics::ApiMetrics;
use crate::devices::{Device, Devices};
use crate::store::Store;

/// Streams that may be open at a time.
pub const STREAMS: usize = 1_000;

/// Which decoder reads which topics: the first filter that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Decoders(pub Vec<(TopicFilter, Decoder)>);

impl Decoders {
    /// The decoder of a topic.
    #[must_use]
    pub fn of(&self, topic: &str) -> Decoder {
        let rule = self.0.iter().find(|(filter, _)| filter.matches(topic));
        rule.map_or(Decoder::Auto, |(_, decoder)| *decoder)
    }

    /// Reads a payload.
    #[must_use]
    pub fn decode(&self, topic: &str, payload: &[u8]) -> Decoded {
        decode::decode(self.of(topic), payload)
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
    streams: Arc<Semaphore>,
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
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    /// A device.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn device(&self, id: &str) -> Result<DeviceView, ServiceError> {
        let device = self.devices.get(id);
        let device = device.ok_or_else(|| ServiceError::UnknownDevice(id.to_owned()))?;
        Ok(self.view(device))
    }

    /// The devices, sorted by id, and the token of the next page.
    ///
    /// # Errors
    /// When the token is none of ours.
    pub fn devices(
        &self,
        limit: usize,
        token: &str,
    ) -> Result<(Vec<DeviceView>, String), ServiceError> {
        let limit = page::limit(limit)?;
        let after = page::text(token)?;
        let mut devices = self.devices.after(after.as_deref(), limit + 1);
        let more = devices.len() > limit;
        devices.truncate(limit);
        let next = devices
            .last()
            .filter(|_| more)
            .map(|last| page::token(&last.id));
        let views = devices.into_iter().map(|device| self.view(device));
        Ok((views.collect(), next.unwrap_or_default()))
    }

    /// The latest message of each topic of a device, sorted by topic.
    ///
    /// # Errors
    /// When the device is unknown or the store fails.
    pub async fn latest(
        &self,
        device: &str,
        filter: Option<&TopicFilter>,
    ) -> Result<Vec<MessageView>, ServiceError> {
        self.device(device)?;
        let wanted: BTreeMap<u64, u32> = self
            .store
            .catalog()
            .of_device(device)
            .filter(|(_, topic)| topic.last > 0)
            .filter(|(_, topic)| filter.is_none_or(|filter| filter.matches(&topic.name)))
            .map(|(number, topic)| (topic.last, number))
            .take(MOST_LIMIT)
            .collect();
        let read = self.store.read(move |reader| {
            let messages = wanted
                .iter()
                .map(|(sequence, topic)| reader.message(*sequence, *topic));
            messages.collect::<Result<Vec<_>, _>>()
        });
        let mut found: Vec<_> = read.await?.into_iter().flatten().collect();
        found.sort_by(|left, right| left.topic.cmp(&right.topic));
        let views = found
            .into_iter()
            .map(|stored| MessageView::new(self, stored));
        Ok(views.collect())
    }

    fn view(&self, device: Device) -> DeviceView {
        let last = self.store.catalog().last_time(&device.id);
        DeviceView {
            last_message_at: last.map(view::timestamp),
            device,
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

/// A topic filter of a request; empty: none.
///
/// # Errors
/// When it is no MQTT topic filter.
pub fn topic_filter(text: &str) -> Result<Option<TopicFilter>, ServiceError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = TopicFilter::parse(text);
    parsed
        .map(Some)
        .map_err(|error| ServiceError::invalid("topic_filter", error))
}

/// A time of a request: RFC 3339 or Unix seconds.
///
/// # Errors
/// When it is neither.
pub fn time(field: &'static str, text: &str) -> Result<Timestamp, ServiceError> {
    let wrong = || {
        let why = format!(
            "found {text:?}, allowed: RFC 3339 such as 2026-01-31T12:00:00Z, or Unix seconds"
        );
        ServiceError::invalid(field, why)
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.chars().all(|c| c.is_ascii_digit()) && fraction.len() <= 9;
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    let signed = if whole.starts_with('-') {
        -nanoseconds
    } else {
        nanoseconds
    };
    match Timestamp::new(seconds, signed) {
        Ok(time) if digits => Ok(time),
        _ => Err(wrong()),
    }
}
