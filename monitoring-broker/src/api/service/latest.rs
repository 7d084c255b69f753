//! The latest message of each topic of a device. In: device and topic filter. Out: messages sorted by topic,
//! all of them or an error that says how to ask for fewer.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_core::topic::TopicFilter;

use super::page::MOST_LIMIT;
use super::{MessageView, Service, ServiceError};
use crate::store::StoreError;

/// Bytes of one answer. It has no pages, so what does not fit is refused.
const ANSWER_BYTES: usize = 32 << 20;
/// A message can be replaced or moved by retention just when it is looked up; then it is looked up again.
const TRIES: usize = 4;

/// Sequence and number of each topic's latest message.
type Wanted = BTreeMap<u64, u32>;

impl Service {
    /// The latest message of each topic of a device, sorted by topic. `field` is what the front calls the filter.
    ///
    /// # Errors
    /// When the device is unknown, the answer would be too large, or the store fails.
    pub async fn latest(
        &self,
        device: &str,
        field: &str,
        filter: Option<&TopicFilter>,
    ) -> Result<Vec<MessageView>, ServiceError> {
        self.device(device)?;
        let (mut found, mut bytes) = (BTreeMap::new(), 0);
        for _ in 0..TRIES {
            let wanted = self.wanted(device, filter, &found);
            if wanted.len() + found.len() > MOST_LIMIT {
                return Err(too_many(field, format!("{} topics", wanted.len())));
            }
            if wanted.is_empty() {
                break;
            }
            for view in self.read_latest(wanted, ANSWER_BYTES - bytes).await? {
                bytes += view.size();
                if bytes > ANSWER_BYTES {
                    return Err(too_many(field, format!("more than {ANSWER_BYTES} bytes")));
                }
                found.insert(Arc::clone(&view.stored.topic), view);
            }
        }
        Ok(found.into_values().collect())
    }

    fn wanted(
        &self,
        device: &str,
        filter: Option<&TopicFilter>,
        found: &BTreeMap<Arc<str>, MessageView>,
    ) -> Wanted {
        let catalog = self.store.catalog();
        let topics = catalog.of_device(device);
        topics
            .filter(|(_, topic)| topic.last > 0 && !found.contains_key(&topic.name))
            .filter(|(_, topic)| filter.is_none_or(|filter| filter.matches(&topic.name)))
            .map(|(number, topic)| (topic.last, number))
            .collect()
    }

    /// Reads messages until they are more than `most` bytes; those that have just gone are missing.
    async fn read_latest(
        &self,
        wanted: Wanted,
        most: usize,
    ) -> Result<Vec<MessageView>, StoreError> {
        let viewer = self.viewer();
        let read = self.store.read(move |reader| {
            let (mut views, mut bytes) = (Vec::new(), 0);
            for (sequence, topic) in wanted {
                if let Some(stored) = reader.message(sequence, topic)? {
                    let view = viewer.view(stored);
                    bytes += view.size();
                    views.push(view);
                }
                if bytes > most {
                    break;
                }
            }
            Ok(views)
        });
        read.await
    }
}

/// Whether messages make one answer.
///
/// # Errors
/// When they are too many or too large.
pub(in crate::api) fn check_latest(field: &str, views: &[MessageView]) -> Result<(), ServiceError> {
    if views.len() > MOST_LIMIT {
        return Err(too_many(field, format!("{} topics", views.len())));
    }
    if views.iter().map(MessageView::size).sum::<usize>() > ANSWER_BYTES {
        return Err(too_many(field, format!("more than {ANSWER_BYTES} bytes")));
    }
    Ok(())
}

fn too_many(field: &str, found: String) -> ServiceError {
    let why = format!(
        "found {found}, allowed: {MOST_LIMIT} topics and {ANSWER_BYTES} bytes; ask with a narrower topic filter"
    );
    ServiceError::invalid(field, why)
}
