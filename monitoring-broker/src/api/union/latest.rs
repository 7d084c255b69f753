//! The latest message of each topic of a device, wherever it is stored.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use akri_mqtt_core::topic::TopicFilter;

use super::each::ANSWER_WITHIN;
use super::list::merge;
use super::{About, Asked, ServiceError, wire};
use crate::api::service::{MessageView, check_latest};

/// The latest messages by topic; the newest counts.
#[derive(Default)]
struct Newest(BTreeMap<Arc<str>, MessageView>);

impl Newest {
    fn add(&mut self, views: Vec<MessageView>) {
        for view in views {
            match self.0.entry(Arc::clone(&view.stored.topic)) {
                Entry::Vacant(entry) => {
                    entry.insert(view);
                }
                Entry::Occupied(mut entry) if view.received_at > entry.get().received_at => {
                    entry.insert(view);
                }
                Entry::Occupied(_) => {}
            }
        }
    }
}

impl Asked {
    /// The latest message of each topic of a device, sorted by topic. `field` is what the front calls the filter.
    ///
    /// # Errors
    /// When the device is unknown, the answer would be too large, or the store fails.
    pub async fn latest(
        &self,
        device: &str,
        field: &str,
        filter: Option<&TopicFilter>,
    ) -> Result<(Vec<MessageView>, About), ServiceError> {
        let own = self.service.latest(device, field, filter);
        let Some(others) = self.others() else {
            let views = own.await?;
            return Ok((views, self.about(device)?));
        };
        let each = others.each(|link| async move {
            let request = wire::latest_request(device, filter);
            let answer = link.call(
                &self.caller,
                ANSWER_WITHIN,
                request,
                |mut client, request| async move { client.get_latest(request).await },
            );
            answer.await
        });
        let (own, each) = tokio::join!(own, each);
        let rename = |error| match error {
            ServiceError::Invalid { why, .. } => ServiceError::invalid(field, why),
            error => error,
        };
        let mut each = each.map_err(rename)?;
        let (mut newest, mut about) = (Newest::default(), None::<About>);
        match own {
            Ok(views) => {
                newest.add(views);
                about = Some(self.about(device)?);
            }
            Err(ServiceError::UnknownDevice(_)) => {}
            Err(error) => return Err(error),
        }
        for (_, answer) in std::mem::take(&mut each.given) {
            newest.add(answer.messages.into_iter().map(wire::message).collect());
            let view = wire::device_view(device, answer.presence);
            add(&mut about, view, answer.partial);
        }
        let partial = each.missing.is_some();
        let mut about = about.ok_or_else(|| each.nobody(device))?;
        about.partial |= partial;
        let views: Vec<_> = newest.0.into_values().collect();
        check_latest(field, &views)?;
        Ok((views, about))
    }
}

/// Adds what one more member says.
pub(super) fn add(about: &mut Option<About>, device: super::DeviceView, partial: bool) {
    match about {
        None => *about = Some(About { device, partial }),
        Some(about) => {
            merge(&mut about.device, device);
            about.partial |= partial;
        }
    }
}
