//! What the annotations `mqtt.akri.sh/…` of a Configuration say. In: the Configuration. Out: settings,
//! and for every value that is wrong a sentence; the default stands in for it, but for claims: nothing is done about them then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_core::pool::ShardCount;
use akri_mqtt_crds::Configuration;

use super::naming;
use crate::names;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Longer than this nothing is waited for.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A claim for every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataVolume {
    /// A quantity, such as `1Gi`.
    pub size: Arc<str>,
    /// The storage class; without one, the cluster's default.
    pub class: Option<Arc<str>>,
}

/// Options of a Configuration that only agentless mode has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an Instance that exists when a stream begins is kept without being listed; `None`: as
    /// long as its device may be silent, at least 5m.
    pub hold: Option<Duration>,
    /// After how long on an unreachable node a pod is made anew.
    pub node_loss_after: Duration,
    /// A claim for every pod, instead of what the template says.
    pub data: Option<DataVolume>,
    /// How long a claim outlives its device.
    pub retention: Duration,
    /// Whether what is said about claims cannot be read: none is made or deleted, and no pod, until it can.
    pub data_unclear: bool,
    /// The StatefulSet that serves the devices; there is no pod per device then.
    pub pool: Option<Arc<str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hold: None,
            node_loss_after: MINUTE,
            data: None,
            retention: 24 * HOUR,
            data_unclear: false,
            pool: None,
        }
    }
}

/// Reads the annotations of a Configuration. The second list has one sentence for each that is wrong.
#[must_use]
pub fn settings(configuration: &Configuration) -> (Settings, Vec<String>) {
    let mut reader = Reader {
        annotations: configuration.metadata.annotations.as_ref(),
        faults: Vec::new(),
    };
    let default = Settings::default();
    let data = reader.read(names::DATA_VOLUME, data_volume);
    let retention = reader.duration(names::DATA_RETENTION);
    let data_unclear = !reader.faults.is_empty();
    let settings = Settings {
        hold: reader.duration(names::HOLD),
        node_loss_after: reader
            .duration(names::NODE_LOSS_AFTER)
            .unwrap_or(default.node_loss_after),
        data,
        data_unclear,
        retention: retention.unwrap_or(default.retention),
        pool: reader.read(names::POOL, |text| {
            naming::is_label(text)
                .then(|| text.into())
                .ok_or("the name of a StatefulSet")
        }),
    };
    // For the members of the pool; here somebody may see what is wrong with it.
    reader.read(names::SHARDS, |text| {
        let shards = text.parse::<ShardCount>();
        shards.map_err(|_| "a number from 1 to 1024")
    });
    (settings, reader.faults)
}

struct Reader<'a> {
    annotations: Option<&'a BTreeMap<String, String>>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn read<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let text = self.annotations?.get(name)?.trim();
        if text.is_empty() {
            return None;
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(allowed) => {
                let shown: String = text.chars().take(64).collect();
                self.faults.push(format!(
                    "annotation {name}: found `{shown}`, allowed is {allowed}"
                ));
                None
            }
        }
    }

    fn duration(&mut self, name: &str) -> Option<Duration> {
        self.read(name, |text| {
            duration(text).ok_or("a duration such as 500ms, 30s, 5m, 24h or 7d")
        })
    }
}

/// Reads `500ms`, `30s`, `5m`, `24h`, `7d`; zero may be without a unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at_checked(end.unwrap_or(text.len()))?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 0,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (duration <= LONGEST).then_some(duration)
}

fn data_volume(text: &str) -> Result<DataVolume, &'static str> {
    const ALLOWED: &str = "a size such as 1Gi, or a size and a storage class such as 1Gi,fast";
    let (size, class) = match text.split_once(',') {
        Some((size, class)) => (size.trim(), Some(class.trim())),
        None => (text, None),
    };
    let good_class = class.is_none_or(naming::is_subdomain);
    if !is_quantity(size) || !good_class {
        return Err(ALLOWED);
    }
    Ok(DataVolume {
        size: size.into(),
        class: class.map(Into::into),
    })
}

/// Whether this is a positive quantity of Kubernetes without an exponent: `512Mi`, `1.5Gi`, `1000000`.
fn is_quantity(text: &str) -> bool {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let Some((number, unit)) = text.split_at_checked(end) else {
        return false;
    };
    let positive = number.starts_with(|c: char| c.is_ascii_digit())
        && number.parse::<f64>().is_ok_and(|number| number > 0.0);
    let units = [
        "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    positive && text.len() <= 32 && units.contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(annotations: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let mut configuration = Configuration::new(
            "c",
            serde_json::from_value(serde_json::json!({"discoveryHandler": {"name": "mqtt"}}))
                .unwrap(),
        );
        configuration.metadata.annotations = Some(
            annotations
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        );
        settings(&configuration)
    }

    #[test]
    fn without_annotations_the_defaults_hold() {
        assert_eq!(with(&[]), (Settings::default(), Vec::new()));
        assert_eq!(
            with(&[(names::HOLD, " ")]),
            (Settings::default(), Vec::new())
        );
    }

    #[test]
    fn every_annotation_is_read() {
        let expected = Settings {
            hold: Some(Duration::ZERO),
            node_loss_after: Duration::from_millis(500),
            data: Some(DataVolume {
                size: "1.5Gi".into(),
                class: Some("fast.ssd".into()),
            }),
            retention: Duration::from_secs(7 * 24 * 3600),
            data_unclear: false,
            pool: Some("monitors".into()),
        };
        let read = with(&[
            (names::HOLD, "0"),
            (names::NODE_LOSS_AFTER, "500ms"),
            (names::DATA_VOLUME, "1.5Gi, fast.ssd"),
            (names::DATA_RETENTION, "7d"),
            (names::POOL, "monitors"),
            (names::SHARDS, "128"),
        ]);
        assert_eq!(read, (expected, Vec::new()));
    }

    #[test]
    fn wrong_annotations_are_told_and_the_defaults_stand_in() {
        let (read, faults) = with(&[
            (names::HOLD, "soon"),
            (names::NODE_LOSS_AFTER, "-1s"),
            (names::DATA_VOLUME, "0Gi"),
            (names::DATA_RETENTION, "9999999999999d"),
            (names::POOL, "No_Name"),
            (names::SHARDS, "0"),
        ]);
        let expected = Settings {
            data_unclear: true,
            ..Settings::default()
        };
        assert_eq!(read, expected);
        let duration = "allowed is a duration such as 500ms, 30s, 5m, 24h or 7d";
        assert_eq!(
            faults,
            [
                "annotation mqtt.akri.sh/data-volume: found `0Gi`, allowed is a size such as 1Gi, or a size and a storage class such as 1Gi,fast".to_owned(),
                format!("annotation mqtt.akri.sh/data-retention: found `9999999999999d`, {duration}"),
                format!("annotation mqtt.akri.sh/hold: found `soon`, {duration}"),
                format!("annotation mqtt.akri.sh/node-loss-after: found `-1s`, {duration}"),
                "annotation mqtt.akri.sh/pool: found `No_Name`, allowed is the name of a StatefulSet".to_owned(),
                "annotation mqtt.akri.sh/shards: found `0`, allowed is a number from 1 to 1024".to_owned(),
            ]
        );
    }

    #[test]
    fn sizes_are_positive_quantities() {
        for good in ["1Gi", "512Mi", "1.5G", "1000000", "1k"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in [
            "", "0", "0.0Gi", "-1Gi", "1gi", "Gi", ".5Gi", "1 Gi", "1.2.3Gi", "1e3", "1GiB",
        ] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }
}
