//! What a device's pod is told ("Device properties"). In: a device's id. Out: environment
//! variables, the same on every node and as long as the Configuration is: no time, no count, no
//! payload and no secret is in them. Reading them back is left to `crate::properties`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::units::{format_duration, format_size};
use super::{Availability, Convention, Details, MqttRules, PresenceRules};
use crate::identity::DeviceId;
use crate::topic::{TopicFilter, TopicPattern};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PresenceJson<'a> {
    offline_after: String,
    offline_delay: String,
    reconnect_grace: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    availability: Vec<AvailabilityJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AvailabilityJson<'a> {
    topic: TopicFilter,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offline: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retained_will: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionJson<'a> {
    version: &'a str,
    qos: u8,
    keep_alive: String,
    session_expiry: String,
    max_packet_size: String,
    insecure_skip_verify: bool,
    client_id_prefix: &'a str,
}

impl Details {
    /// The properties of a device that topics or availability rules found.
    #[must_use]
    pub fn properties(&self, id: &DeviceId) -> BTreeMap<String, String> {
        self.properties_with(id, None)
    }

    /// The properties of a device that `convention` found, if one did.
    #[must_use]
    pub fn properties_with(
        &self,
        id: &DeviceId,
        convention: Option<&Convention>,
    ) -> BTreeMap<String, String> {
        let name = id.plain_name();
        let own = self.device_filters(name);
        let by_convention = convention.map_or_else(Vec::new, |c| c.filters(Some(name)).data);
        let topics = least([own.clone(), by_convention].concat());
        let availability = self.device_availability(name);
        let mut properties = BTreeMap::new();
        let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
        set("MQTT_DEVICE_ID", id.to_string());
        set("MQTT_DEVICE_NAME", name.to_owned());
        set("MQTT_SERVER_NAME", id.server().to_string());
        if let Some(server) = self
            .servers
            .iter()
            .find(|server| server.name == *id.server())
        {
            let urls: Vec<String> = server.urls.iter().map(ToString::to_string).collect();
            set("MQTT_SERVER_URLS", urls.join(","));
            set("MQTT_SERVER_FAILOVER", server.failover.as_str().to_owned());
        }
        set("MQTT_TOPICS", json(&topics));
        set(
            "MQTT_PRESENCE",
            presence_json(&self.presence, &availability),
        );
        set("MQTT_SESSION", session_json(&self.mqtt));
        if let Some(convention) = convention {
            set("MQTT_CONVENTION", convention_json(convention));
        }
        let announced = availability.iter().map(|(filter, _)| filter.clone());
        let filters: Vec<TopicFilter> = own.into_iter().chain(announced).collect();
        let needed: Vec<&str> = self
            .identifier
            .needed_for(name, &filters)
            .into_iter()
            .map(TopicPattern::as_str)
            .collect();
        if !needed.is_empty() {
            set("MQTT_IDENTITY", json(&needed));
        }
        if let Some(legacy) = &self.legacy_properties {
            set(&format!("{}MQTT_TOPIC", legacy.prefix), name.to_owned());
            set(
                &format!("{}MQTT_BROKER_URI", legacy.prefix),
                legacy.uri.clone(),
            );
        }
        properties
    }

    /// The smallest filters for the data topics of the device with this name, sorted.
    #[must_use]
    pub fn device_filters(&self, name: &str) -> Vec<TopicFilter> {
        let announcing = self.presence.availability.iter().map(|rule| &rule.topic);
        let earlier = self.identity.iter().chain(announcing);
        let earlier: Vec<Earlier<'_>> = earlier.map(|p| (p, p.for_device(name))).collect();
        let filters = self
            .topics
            .iter()
            .flat_map(|topic| Self::narrowed(topic, name, &earlier))
            .collect();
        least(filters)
    }

    /// The availability rules of the device with this name, each with a filter for it alone.
    fn device_availability(&self, name: &str) -> Vec<(TopicFilter, &Availability)> {
        let identity: Vec<Earlier<'_>> = self
            .identity
            .iter()
            .map(|p| (p, p.for_device(name)))
            .collect();
        let mut rules = Vec::new();
        for rule in &self.presence.availability {
            rules.extend(
                Self::narrowed(&rule.topic, name, &identity)
                    .into_iter()
                    .map(|filter| (filter, rule)),
            );
        }
        rules
    }

    /// The topics that `pattern` takes and that name this device, by a pattern that decides
    /// `earlier` or by itself.
    fn narrowed(pattern: &TopicPattern, name: &str, earlier: &[Earlier<'_>]) -> Vec<TopicFilter> {
        let mut filters: Vec<TopicFilter> = earlier
            .iter()
            .filter_map(|(_, own)| own.as_ref()?.intersection(pattern.filter()))
            .collect();
        let own = pattern.for_device(name);
        filters
            .extend(own.filter(|own| !earlier.iter().any(|(other, _)| other.filter().covers(own))));
        filters.sort();
        filters.dedup();
        filters
    }
}

/// The filters, sorted, without those that another one covers.
fn least(mut filters: Vec<TopicFilter>) -> Vec<TopicFilter> {
    filters.sort();
    filters.dedup();
    let all = filters.clone();
    // Of two that take the same topics (`#` and `+/#`) the first stays.
    filters.retain(|filter| {
        let better = |other: &TopicFilter| {
            other.covers(filter) && !(filter.covers(other) && filter <= other)
        };
        !all.iter().any(better)
    });
    filters
}

/// A pattern that decides before others, and the filter of the device in question by it.
type Earlier<'p> = (&'p TopicPattern, Option<TopicFilter>);

fn presence_json(rules: &PresenceRules, availability: &[(TopicFilter, &Availability)]) -> String {
    let (online, offline) = (
        Availability::default_online(),
        Availability::default_offline(),
    );
    let availability = availability.iter().map(|(topic, rule)| AvailabilityJson {
        topic: topic.clone(),
        online: (rule.online != online).then_some(&rule.online),
        offline: (rule.offline != offline).then_some(&rule.offline),
        json_pointer: rule.json_pointer.as_deref(),
        retained_will: (!rule.retained_will).then_some(false),
    });
    json(&PresenceJson {
        offline_after: rules
            .offline_after
            .map_or("never".to_owned(), format_duration),
        offline_delay: format_duration(rules.offline_delay),
        reconnect_grace: format_duration(rules.reconnect_grace),
        availability: availability.collect(),
    })
}

fn session_json(rules: &MqttRules) -> String {
    json(&SessionJson {
        version: rules.version.as_str(),
        qos: rules.qos.level(),
        keep_alive: format_duration(rules.keep_alive),
        session_expiry: format_duration(rules.session_expiry),
        max_packet_size: format_size(rules.max_packet_size.into()),
        insecure_skip_verify: rules.insecure_skip_verify,
        client_id_prefix: &rules.client_id_prefix,
    })
}

/// A convention with its options as JSON.
pub(super) fn convention_json(convention: &Convention) -> String {
    json(convention)
}

/// JSON of values that always have one: no maps with other keys than texts, nothing that fails.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
