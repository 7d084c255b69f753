//! The devices of all members. In: what to look for. Out: each device once, as the member shows it that watches it;
//! of one that nobody watches, as it was last.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use akri_mqtt_proto::monitoring as pb;

use super::each::ANSWER_WITHIN;
use super::link::Link;
use super::{Asked, DeviceView, Others, ServiceError, wire};
use crate::api::service::page::{self, MOST_LIMIT};
use crate::api::service::{Counts, DevicePage, DeviceQuery};

/// What all members know.
#[derive(Default)]
struct Union {
    devices: BTreeMap<Arc<str>, DeviceView>,
    servers: BTreeMap<String, bool>,
}

impl Union {
    fn add(&mut self, page: DevicePage) {
        for view in page.devices {
            match self.devices.entry(Arc::clone(&view.device.id)) {
                Entry::Vacant(entry) => {
                    entry.insert(view);
                }
                Entry::Occupied(mut entry) => merge(entry.get_mut(), view),
            }
        }
        for (name, connected) in page.servers {
            *self.servers.entry(name).or_insert(true) &= connected;
        }
    }
}

/// Takes whichever is better, and the time of the last message, wherever that is stored.
pub(super) fn merge(known: &mut DeviceView, other: DeviceView) {
    let last = known.last_message_at.max(other.last_message_at);
    let rank = |view: &DeviceView| (view.watched, view.device.presence.since);
    if rank(&other) > rank(known) {
        *known = other;
    }
    known.last_message_at = last;
}

impl Asked {
    /// Devices that are looked for.
    ///
    /// # Errors
    /// When the token is none of ours.
    pub async fn devices(&self, query: &DeviceQuery) -> Result<DevicePage, ServiceError> {
        let Some(others) = self.others() else {
            return self.service.devices(query);
        };
        let after = page::text(&query.page_token)?;
        let (union, missing) = self.union(others, query).await?;
        let (mut counts, mut found) = (Counts::default(), Vec::new());
        for (id, view) in union.devices {
            let state = view.device.presence.state;
            counts.add(state);
            let is_after = after.as_deref().is_none_or(|after| *id > *after);
            let is_wanted = query.state.is_none_or(|wanted| wanted == state);
            if is_after && is_wanted && found.len() <= query.limit {
                found.push(view);
            }
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let last = found.last().filter(|_| more);
        Ok(DevicePage {
            next_page_token: last
                .map(|last| page::token(&last.device.id))
                .unwrap_or_default(),
            devices: found,
            counts,
            servers: union.servers,
            partial: missing.is_some(),
        })
    }

    /// A device.
    ///
    /// # Errors
    /// When no member knows it.
    pub async fn device(&self, id: &str) -> Result<DeviceView, ServiceError> {
        let Some(others) = self.others() else {
            return self.service.device(id);
        };
        let query = DeviceQuery {
            ids: [id.to_owned()].into(),
            ..DeviceQuery::default()
        };
        let (mut union, missing) = self.union(others, &query).await?;
        union.devices.remove(id).ok_or_else(|| {
            let unknown = || ServiceError::unknown_device(id);
            missing.unwrap_or_else(unknown)
        })
    }

    /// What all members find, in whatever state, and why one is missing.
    async fn union(
        &self,
        others: &Others,
        query: &DeviceQuery,
    ) -> Result<(Union, Option<ServiceError>), ServiceError> {
        let query = DeviceQuery {
            search: query.search.clone(),
            ids: query.ids.clone(),
            limit: MOST_LIMIT,
            ..DeviceQuery::default()
        };
        let each = others.each(|link| self.all_of(link, &query)).await?;
        let mut union = Union::default();
        let limit = usize::MAX - 1;
        union.add(self.service.devices(&DeviceQuery {
            limit,
            ..query.clone()
        })?);
        for (_, pages) in each.given {
            for page in pages {
                union.add(wire::device_page(page));
            }
        }
        Ok((union, each.missing))
    }

    async fn all_of(
        &self,
        link: Arc<Link>,
        query: &DeviceQuery,
    ) -> Result<Vec<pb::ListDevicesResponse>, ServiceError> {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let request = wire::device_request(query, token);
            let answer = link.call(
                &self.caller,
                ANSWER_WITHIN,
                request,
                |mut client, request| async move { client.list_devices(request).await },
            );
            let page = answer.await?;
            token = page.next_page_token.clone();
            pages.push(page);
            if token.is_empty() {
                return Ok(pages);
            }
        }
    }
}
