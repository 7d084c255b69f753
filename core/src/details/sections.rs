//! Reads `presence`, `mqtt` and `limits`. In: nodes of a Configuration, or of a device's
//! properties, which have the same form. Out: rules, with defaults for what is left out.

use std::time::Duration;

use super::model::{
    Availability, Limits, MqttRules, PresenceRules, QoS, RetainedData, ServerLost, VersionChoice,
};
use super::read::{Field, Map, Reader, shown};
use super::topics::Placed;
use crate::topic::{TopicFilter, TopicPattern};
use crate::yaml::Position;

/// The longest time that can be set, a year.
const LONGEST: Duration = Duration::from_secs(8760 * 3600);
/// How many availability rules there may be.
const MAX_AVAILABILITY: usize = 1000;
/// How many words a rule may have for `online`, and for `offline`.
const MAX_WORDS: usize = 32;
/// The longest of these words, in bytes.
const MAX_WORD: usize = 256;
/// The longest JSON pointer, in bytes.
const MAX_POINTER: usize = 256;

const PRESENCE_KEYS: [&str; 6] = [
    "availability",
    "offlineAfter",
    "offlineDelay",
    "reconnectGrace",
    "retained",
    "serverLost",
];
const AVAILABILITY_KEYS: [&str; 5] = ["topic", "online", "offline", "jsonPointer", "retainedWill"];
const MQTT_KEYS: [&str; 7] = [
    "version",
    "qos",
    "keepAlive",
    "sessionExpiry",
    "clientIdPrefix",
    "maxPacketSize",
    "insecureSkipVerify",
];
const LIMITS_KEYS: [&str; 4] = [
    "maxDevices",
    "idSalt",
    "publishInterval",
    "maxResponseBytes",
];

/// What `presence` says.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// The rules, but for `offline_after`.
    pub rules: PresenceRules,
    /// `offlineAfter`, if it is set; `Some(None)`: never.
    pub offline_after: Option<Option<Duration>>,
    /// Where each availability topic stands.
    pub places: Vec<Position>,
}

impl Presence {
    /// The availability topics at their places.
    pub fn topics(&self) -> Vec<Placed> {
        let rules = self.rules.availability.iter().zip(&self.places).enumerate();
        let placed = |(index, (rule, at)): (usize, (&Availability, &Position))| Placed {
            pattern: rule.topic.clone(),
            at: *at,
            key: format!("presence.availability[{index}].topic"),
        };
        rules.map(placed).collect()
    }

    /// The rules, with the default of `offlineAfter`, which depends on whether anything announces.
    pub fn settled(self, conventions: bool) -> PresenceRules {
        let announced = conventions || !self.rules.availability.is_empty();
        let default = (!announced).then_some(PresenceRules::DEFAULT_OFFLINE_AFTER);
        PresenceRules {
            offline_after: self.offline_after.unwrap_or(default),
            ..self.rules
        }
    }
}

pub(crate) fn presence(reader: &mut Reader, field: &Field<'_>) -> Presence {
    let mut presence = Presence::default();
    let Some(map) = reader.map(field, &PRESENCE_KEYS) else {
        return presence;
    };
    if let Some(list) = map.get("availability") {
        for element in reader.list(&list, "availability rules", MAX_AVAILABILITY) {
            if let Some((rule, place)) = availability(reader, &element) {
                presence.rules.availability.push(rule);
                presence.places.push(place);
            }
        }
    }
    presence.offline_after = map
        .get("offlineAfter")
        .and_then(|f| or_word(reader, &f, "never", 1));
    set(
        &mut presence.rules.offline_delay,
        map.get("offlineDelay").and_then(|f| duration(reader, &f)),
    );
    set(
        &mut presence.rules.reconnect_grace,
        map.get("reconnectGrace").and_then(|f| duration(reader, &f)),
    );
    let retained = [
        ("ignore", RetainedData::Ignore),
        ("trust", RetainedData::Trust),
    ];
    set(
        &mut presence.rules.retained,
        map.get("retained")
            .and_then(|f| reader.choice(&f, &retained)),
    );
    if let Some(lost) = map
        .get("serverLost")
        .and_then(|f| or_word(reader, &f, "keep", 0))
    {
        presence.rules.server_lost = lost.map_or(ServerLost::Keep, ServerLost::After);
    }
    presence
}

/// A duration of at least `least` milliseconds, or a word, which is `Some(None)`.
fn or_word(
    reader: &mut Reader,
    field: &Field<'_>,
    word: &str,
    least: u64,
) -> Option<Option<Duration>> {
    if field.node.text() == Some(word) {
        return Some(None);
    }
    if field
        .node
        .text()
        .and_then(super::units::parse_duration)
        .is_none()
    {
        reader.wrong(
            field,
            &format!("{word}, or a duration such as 500ms, 30s, 5m or 1h"),
        );
        return None;
    }
    reader
        .duration(field, Duration::from_millis(least)..=LONGEST, false)
        .map(Some)
}

fn duration(reader: &mut Reader, field: &Field<'_>) -> Option<Duration> {
    reader.duration(field, Duration::ZERO..=LONGEST, false)
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn availability(reader: &mut Reader, field: &Field<'_>) -> Option<(Availability, Position)> {
    let map = reader.map(field, &AVAILABILITY_KEYS)?;
    let online = map.get("online").map(|f| words(reader, &f));
    let offline = map.get("offline").map(|f| words(reader, &f));
    let json_pointer = map
        .get("jsonPointer")
        .and_then(|f| reader.parsed(&f, "a JSON pointer such as /state", pointer));
    let retained_will = map
        .get("retainedWill")
        .map_or(Some(true), |f| reader.boolean(&f));
    let Some(topic) = map.get("topic") else {
        let what = "found no `topic`; allowed is a status topic such as robots/{device}/status";
        reader.fault(field.at, &field.key, what.to_owned());
        return None;
    };
    let literal = reader.literal;
    let pattern = reader.parsed(&topic, "a topic filter", |text| match literal {
        true => TopicFilter::parse(text).map(TopicPattern::from),
        false => TopicPattern::parse(text),
    })?;
    super::topics::refuse_own(reader, &topic, &pattern);
    let rule = Availability {
        topic: pattern,
        online: online.unwrap_or_else(Availability::default_online),
        offline: offline.unwrap_or_else(Availability::default_offline),
        json_pointer,
        retained_will: retained_will.unwrap_or(true),
    };
    let both = rule
        .online
        .iter()
        .find(|on| rule.offline.iter().any(|off| off.eq_ignore_ascii_case(on)));
    if let Some(word) = both {
        let message = format!(
            "`{}` means both online and offline, because ASCII case is ignored and a list that is left out has its \
             default words; allowed is one of the two",
            shown(word)
        );
        reader.fault(field.at, &field.key, message);
    }
    Some((rule, topic.at))
}

fn words(reader: &mut Reader, field: &Field<'_>) -> Vec<String> {
    let mut words = Vec::new();
    for element in reader.list(field, "words", MAX_WORDS) {
        let Some(word) = reader.word(&element, "a word that devices publish") else {
            continue;
        };
        if word.len() > MAX_WORD {
            let message = format!(
                "found a word of {} bytes; allowed are {MAX_WORD}",
                word.len()
            );
            reader.fault(element.at, &element.key, message);
        } else if word.is_empty() {
            // An empty payload on an announcing topic always means that the device is removed.
            reader.wrong(
                &element,
                "a word that is not empty; an empty payload always removes the device",
            );
        } else {
            words.push(word.to_owned());
        }
    }
    if field.node.elements().is_some_and(<[_]>::is_empty) {
        reader.fault(
            field.at,
            &field.key,
            "found an empty list; allowed is at least one word".to_owned(),
        );
    }
    words
}

fn pointer(text: &str) -> Result<String, &'static str> {
    let mut after_tilde = text.split('~').skip(1);
    if text.len() > MAX_POINTER {
        Err("a JSON pointer has at most 256 bytes here")
    } else if !text.is_empty() && !text.starts_with('/') {
        Err("a JSON pointer starts with `/`, as in /state (RFC 6901, 3)")
    } else if !after_tilde.all(|rest| rest.starts_with(['0', '1'])) {
        Err("`~` stands only in `~0` and `~1` (RFC 6901, 3)")
    } else {
        Ok(text.to_owned())
    }
}

pub(crate) fn mqtt(reader: &mut Reader, field: &Field<'_>) -> MqttRules {
    let mut rules = MqttRules::default();
    let Some(map) = reader.map(field, &MQTT_KEYS) else {
        return rules;
    };
    let versions = [
        ("auto", VersionChoice::Auto),
        ("5", VersionChoice::V5),
        ("3.1.1", VersionChoice::V311),
    ];
    let levels = [
        ("0", QoS::AtMostOnce),
        ("1", QoS::AtLeastOnce),
        ("2", QoS::ExactlyOnce),
    ];
    set(
        &mut rules.version,
        map.get("version")
            .and_then(|f| reader.choice(&f, &versions)),
    );
    set(
        &mut rules.qos,
        map.get("qos").and_then(|f| reader.choice(&f, &levels)),
    );
    let keep_alive = Duration::from_secs(5)..=Duration::from_secs(3600);
    set(
        &mut rules.keep_alive,
        map.get("keepAlive")
            .and_then(|f| reader.duration(&f, keep_alive, true)),
    );
    let expiry = Duration::ZERO..=LONGEST;
    set(
        &mut rules.session_expiry,
        map.get("sessionExpiry")
            .and_then(|f| reader.duration(&f, expiry, true)),
    );
    let prefix = map.get("clientIdPrefix").and_then(|f| {
        let what = "1 to 32 letters, digits, `-` and `_`";
        reader.parsed(&f, what, |text| plain_word(text, 1, what))
    });
    set(&mut rules.client_id_prefix, prefix);
    // The largest packet of MQTT is 256 MiB and a few bytes (MQTT 5.0, 2.1.4).
    let size = map
        .get("maxPacketSize")
        .and_then(|f| reader.size(&f, 1 << 10..=256 << 20));
    set(
        &mut rules.max_packet_size,
        size.and_then(|size| u32::try_from(size).ok()),
    );
    set(
        &mut rules.insecure_skip_verify,
        map.get("insecureSkipVerify")
            .and_then(|f| reader.boolean(&f)),
    );
    rules
}

fn plain_word<'m>(text: &str, least: usize, message: &'m str) -> Result<String, &'m str> {
    let good = (least..=32).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if good {
        Ok(text.to_owned())
    } else {
        Err(message)
    }
}

pub(super) fn limits(reader: &mut Reader, field: &Field<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(map) = reader.map(field, &LIMITS_KEYS) else {
        return limits;
    };
    let count = map
        .get("maxDevices")
        .and_then(|f| reader.integer(&f, 1..=1_000_000));
    set(
        &mut limits.max_devices,
        count.and_then(|n| usize::try_from(n).ok()),
    );
    set(&mut limits.id_salt, salt(reader, &map));
    let interval = Duration::ZERO..=Duration::from_secs(60);
    set(
        &mut limits.publish_interval,
        map.get("publishInterval")
            .and_then(|f| reader.duration(&f, interval, false)),
    );
    let size = map
        .get("maxResponseBytes")
        .and_then(|f| reader.size(&f, 64 << 10..=64 << 20));
    set(
        &mut limits.max_response_bytes,
        size.and_then(|n| usize::try_from(n).ok()),
    );
    limits
}

fn salt(reader: &mut Reader, map: &Map<'_>) -> Option<String> {
    let field = map.get("idSalt")?;
    let what = "up to 32 letters, digits, `-` and `_`";
    let word = reader.word(&field, what)?;
    match plain_word(word, 0, what) {
        Ok(salt) => Some(salt),
        Err(_) => {
            reader.wrong(&field, what);
            None
        }
    }
}
