//! The list of devices. In: what to look for, and a page. Out: devices sorted by id, how many there are in each
//! state, and the MQTT servers, so that an outage is seen without looking through the devices.

use std::collections::{BTreeMap, BTreeSet};

use super::{DeviceView, Service, ServiceError, page};
use crate::devices::{Device, State};

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct DeviceQuery {
    /// Only ids with this text in them, in upper or lower case; empty: all.
    pub search: String,
    /// Only these; none: all.
    pub ids: BTreeSet<String>,
    /// Only devices in this state.
    pub state: Option<State>,
    /// At most so many.
    pub limit: usize,
    /// Of the answer before; empty: the first page.
    pub page_token: String,
}

/// How many devices there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Online.
    pub online: usize,
    /// Offline.
    pub offline: usize,
    /// Unknown.
    pub unknown: usize,
}

/// A page of devices.
#[derive(Clone, Debug)]
pub struct DevicePage {
    /// Sorted by id.
    pub devices: Vec<DeviceView>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Of all devices that the search finds, whatever state was asked for.
    pub counts: Counts,
    /// The MQTT servers of watched devices by name, and whether each is connected for all of them; with ids, of those.
    pub servers: BTreeMap<String, bool>,
    /// A member of the pool did not answer: there may be more.
    pub partial: bool,
}

impl Counts {
    pub(in crate::api) fn add(&mut self, state: State) {
        let count = match state {
            State::Online => &mut self.online,
            State::Offline => &mut self.offline,
            State::Unknown => &mut self.unknown,
        };
        *count += 1;
    }
}

impl Service {
    /// Devices that are looked for.
    ///
    /// # Errors
    /// When the token is none of ours.
    pub fn devices(&self, query: &DeviceQuery) -> Result<DevicePage, ServiceError> {
        let after = page::text(&query.page_token)?;
        let search = query.search.to_lowercase();
        let mut found: Vec<Device> = Vec::new();
        let mut counts = Counts::default();
        let mut servers: BTreeMap<String, bool> = BTreeMap::new();
        let look = |device: &Device, watched: bool| {
            let connected = device.presence.server_connected;
            match servers.get_mut(&device.server) {
                Some(all) => *all &= connected || !watched,
                None if watched => {
                    servers.insert(device.server.clone(), connected);
                }
                None => {}
            }
            if !search.is_empty() && !device.id.to_lowercase().contains(&search) {
                return;
            }
            let state = device.presence.state;
            counts.add(state);
            let is_after = after.as_deref().is_none_or(|after| *device.id > *after);
            let is_wanted = query.state.is_none_or(|wanted| wanted == state);
            // One more than the page has tells that there is another.
            if is_after && is_wanted && found.len() <= query.limit {
                found.push(device.clone());
            }
        };
        if query.ids.is_empty() {
            self.devices.each(look);
        } else {
            self.devices.each_of(&query.ids, look);
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let last = found.last().filter(|_| more);
        Ok(DevicePage {
            next_page_token: last.map(|last| page::token(&last.id)).unwrap_or_default(),
            devices: found.into_iter().map(|device| self.view(device)).collect(),
            counts,
            servers,
            partial: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::api::testing::{Bench, device};

    fn found(bench: &Bench, search: &str, state: Option<State>) -> (Vec<String>, Counts) {
        let query = DeviceQuery {
            search: search.to_owned(),
            state,
            limit: 2,
            ..DeviceQuery::default()
        };
        let page = bench.service.devices(&query).unwrap();
        let ids = page.devices.iter().map(|view| view.device.id.to_string());
        (ids.collect(), page.counts)
    }

    #[tokio::test]
    async fn devices_are_found_by_a_part_of_their_id_and_by_their_state() {
        let bench = Bench::new();
        bench.set_state("plant-a/r2", State::Offline);
        let both = Counts {
            online: 1,
            offline: 1,
            unknown: 0,
        };
        let one = Counts { offline: 0, ..both };
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            found(&bench, "", None),
            (ids(&["plant-a/r1", "plant-a/r2"]), both)
        );
        assert_eq!(found(&bench, "A/R1", None), (ids(&["plant-a/r1"]), one));
        assert_eq!(
            found(&bench, "", Some(State::Offline)),
            (ids(&["plant-a/r2"]), both)
        );
        assert_eq!(found(&bench, "r1", Some(State::Offline)), (ids(&[]), one));
        assert_eq!(found(&bench, "nobody", None), (ids(&[]), Counts::default()));
    }

    #[tokio::test]
    async fn devices_that_are_named_are_looked_at_and_no_others() {
        let bench = Bench::new();
        let mut other = device("r3");
        other.server = "plant-b".to_owned();
        bench.service.devices.put(other);
        bench
            .service
            .devices
            .set_watched(&"plant-a/r3".into(), true);
        let query = DeviceQuery {
            ids: ["plant-a/r2", "plant-a/nobody"].map(str::to_owned).into(),
            limit: 10,
            ..DeviceQuery::default()
        };
        let page = bench.service.devices(&query).unwrap();
        let ids: Vec<_> = page.devices.iter().map(|view| &*view.device.id).collect();
        assert_eq!((ids, page.counts.online), (vec!["plant-a/r2"], 1));
        assert_eq!(page.servers, BTreeMap::from([("plant-a".to_owned(), true)]));
    }

    #[tokio::test]
    async fn a_server_counts_as_connected_when_it_is_for_all_of_its_devices() {
        let bench = Bench::new();
        let page = bench.service.devices(&DeviceQuery::default()).unwrap();
        assert_eq!(page.servers, BTreeMap::from([("plant-a".to_owned(), true)]));
        let cut = |presence: &mut crate::devices::Presence| presence.server_connected = false;
        bench.service.devices.set_presence("plant-a/r2", cut);
        let page = bench.service.devices(&DeviceQuery::default()).unwrap();
        assert_eq!(
            page.servers,
            BTreeMap::from([("plant-a".to_owned(), false)])
        );
        // Nothing is subscribed for a device that was withdrawn, so it says nothing of its server.
        bench
            .service
            .devices
            .set_watched(&"plant-a/r2".into(), false);
        let page = bench.service.devices(&DeviceQuery::default()).unwrap();
        assert_eq!(page.servers, BTreeMap::from([("plant-a".to_owned(), true)]));
    }

    #[tokio::test]
    async fn ten_thousand_devices_are_searched_fast_and_page_by_page() {
        let bench = Bench::new();
        for number in 0..10_000 {
            bench.service.devices.put(device(&format!("x{number:05}")));
        }
        let mut query = DeviceQuery {
            search: "X0".to_owned(),
            limit: 3_000,
            ..DeviceQuery::default()
        };
        let mut ids = Vec::new();
        let before = Instant::now();
        loop {
            let page = bench.service.devices(&query).unwrap();
            assert_eq!(page.counts.online, 10_000);
            ids.extend(page.devices.into_iter().map(|view| view.device.id));
            query.page_token = page.next_page_token;
            if query.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(ids.len(), 10_000);
        assert!(ids.is_sorted());
        // Four pages; generous, since tests run unoptimised and side by side.
        assert!(before.elapsed() < Duration::from_secs(4));
    }
}
