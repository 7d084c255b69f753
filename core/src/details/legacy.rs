//! The form of `suse-edge/akri-mqtt-discovery-handler`, which works as it is. In: its keys.
//! Out: the same `Details` as for the current form, and the properties that its pods read.
//!
//! There each concrete topic is a device of its own, so wildcards name whole topics here.

use std::time::Duration;

use super::model::PresenceRules;
use super::parse::Parts;
use super::read::{Field, Reader};
use super::sections::Presence;
use super::server::ServerUrl;
use super::topics::{self, Placed};
use super::{Details, Limits, MqttRules, servers};

/// Keys of which one makes it the earlier form.
pub(super) const KEYS: [&str; 4] = [
    "mqttBrokerUri",
    "timeoutSeconds",
    "propertiesPrefix",
    "messageRegexp",
];

/// What its pods are told in addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Legacy {
    /// The address as it was written, without a query.
    pub uri: String,
    /// In front of the names of the two variables, with its `_`.
    pub prefix: String,
}

pub(super) fn document(reader: &mut Reader, top: &Field<'_>, current: &[&str]) -> Option<Details> {
    let known: Vec<&str> = KEYS.iter().chain(current).copied().collect();
    let map = reader.map(top, &known)?;
    let first = KEYS.iter().find_map(|key| Some((*key, map.place_of(key)?)));
    for key in current.iter().filter(|key| **key != "topics") {
        if let (Some(at), Some((other, place))) = (map.place_of(key), first) {
            let message = format!(
                "found together with `{other}` in line {}, which is the form of the earlier MQTT handler; allowed are \
                 keys of one form only (mqttBrokerUri becomes serverUrls, timeoutSeconds becomes presence.offlineAfter)",
                place.line
            );
            reader.fault(at, key, message);
        }
    }
    let mut required = |key: &str, what: &str| {
        let field = map.get(key);
        if field.is_none() {
            let message =
                format!("found no `{key}`; the form of the earlier MQTT handler needs {what}");
            reader.fault(top.at, key, message);
        }
        field
    };
    let uri = required(
        "mqttBrokerUri",
        "the address of the server, such as tcp://10.0.0.5:1883",
    );
    let list = required("topics", "a list of topic filters");
    let timeout = required("timeoutSeconds", "a number of seconds");
    let uri = uri.and_then(|field| address(reader, &field));
    let topics = list.map_or_else(Vec::new, |field| whole_topics(reader, &field));
    let seconds = timeout.and_then(|field| reader.integer(&field, 1..=8760 * 3600));
    let prefix = map
        .get("propertiesPrefix")
        .map(|field| prefix(reader, &field));
    let rules = PresenceRules {
        offline_after: seconds.map(Duration::from_secs),
        ..PresenceRules::default()
    };
    let (url, uri) = uri?;
    let parts = Parts {
        servers: vec![servers::of_url(url)],
        topics,
        identity: Vec::new(),
        conventions: Vec::new(),
        presence: Presence {
            offline_after: Some(rules.offline_after),
            rules,
            places: Vec::new(),
        },
        mqtt: MqttRules::default(),
        limits: Limits::default(),
        legacy: Some(Legacy {
            uri,
            prefix: prefix.unwrap_or_default(),
        }),
    };
    Some(parts.into_details())
}

/// Its URLs could carry options of its MQTT library (`?client_id=…`). They are ours to choose now,
/// and the query is dropped, because it could hold anything.
fn address(reader: &mut Reader, field: &Field<'_>) -> Option<(ServerUrl, String)> {
    let text = reader.text(field, "a URL such as tcp://10.0.0.5:1883")?;
    let address = text.split('?').next().unwrap_or_default();
    // Credentials in the query would be dropped silently, so they are refused like others.
    let secret = text.contains('@') || text.contains("password=");
    let url = if secret {
        ServerUrl::parse("@")
    } else {
        ServerUrl::parse(address)
    };
    match url {
        Ok(url) => Some((url, address.to_owned())),
        Err(error) => {
            reader.fault(field.at, &field.key, error.to_string());
            None
        }
    }
}

fn whole_topics(reader: &mut Reader, field: &Field<'_>) -> Vec<Placed> {
    let mut placed = topics::patterns(reader, field, "topics");
    if field.node.elements().is_some_and(<[_]>::is_empty) {
        reader.fault(
            field.at,
            &field.key,
            "found an empty list; allowed is at least one topic".to_owned(),
        );
    }
    for topic in &mut placed {
        topic.pattern = topic.pattern.clone().naming_whole_topics();
    }
    placed
}

fn prefix(reader: &mut Reader, field: &Field<'_>) -> String {
    let what = "a beginning for names of environment variables: letters, digits and `_`, not a digit first";
    let text = reader.text(field, what).unwrap_or_default();
    let good = text.len() <= 64
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !good {
        reader.wrong(field, what);
    }
    let mut prefix = text.to_ascii_uppercase();
    if !prefix.is_empty() && !prefix.ends_with('_') {
        prefix.push('_');
    }
    prefix
}
