//! Decides which monitors have to run. In: the lists of devices that the Configurations' requests brought, and what runs.
//! Out: what to stop and what to start. Starts nothing by itself: `fleet` does.

use std::collections::BTreeMap;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_proto::akri::Device;

use crate::configuration::Configuration;

/// What a Configuration adds to its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The Configuration's name; Instances are called after it.
    pub configuration: String,
    /// `brokerProperties`: they override device properties of the same name, as in Akri.
    pub properties: BTreeMap<String, String>,
    /// Whether it is written for the earlier MQTT handler, whose names of credentials count then.
    pub legacy: bool,
}

impl Template {
    /// What this Configuration adds.
    pub fn of(configuration: &Configuration) -> Self {
        Self {
            configuration: configuration.name.clone(),
            properties: configuration.broker_properties.clone(),
            legacy: configuration
                .details
                .as_ref()
                .is_some_and(|details| details.legacy),
        }
    }
}

/// A device that has to have a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Index of the Configuration that it is served for.
    pub configuration: usize,
    /// The name of its Instance, `<configuration>-<hash>`.
    pub instance: String,
    /// The environment that Akri would give its pod, without the `_<HASH>` copies.
    pub properties: BTreeMap<String, String>,
}

/// All devices by id. A device that several Configurations find belongs to the first of them.
/// Devices whose ids are not of the form `<server>/<device>` are left out; our discovery handler sends none.
pub fn wanted(templates: &[Template], lists: &[Vec<Device>]) -> BTreeMap<DeviceId, Wanted> {
    let mut all = BTreeMap::new();
    for (configuration, (template, devices)) in templates.iter().zip(lists).enumerate() {
        for device in devices {
            let Ok(id) = DeviceId::parse(&device.id) else {
                continue;
            };
            let instance = instance_name(&template.configuration, &id);
            all.entry(id).or_insert_with(|| Wanted {
                configuration,
                instance,
                properties: environment(&device.properties, &template.properties),
            });
        }
    }
    all
}

/// `<configuration>-<hash>`, as Akri's Agent names the Instance of a shared device.
pub fn instance_name(configuration: &str, device: &DeviceId) -> String {
    format!("{configuration}-{}", device.instance_hash())
}

/// Device properties, overridden by those of the Configuration.
pub fn environment(
    device: &BTreeMap<String, String>,
    configuration: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = device.clone();
    all.extend(configuration.clone());
    all
}

/// One step from what runs to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stop this device's monitor.
    Stop(DeviceId),
    /// Start one for this device.
    Start(DeviceId),
}

/// The steps, sorted by device, stops first. A device whose properties changed, which Akri's contract rules out while it is
/// present, is stopped and started.
pub fn steps(
    running: &BTreeMap<DeviceId, Wanted>,
    wanted: &BTreeMap<DeviceId, Wanted>,
) -> Vec<Step> {
    let stops = running
        .iter()
        .filter(|(id, now)| wanted.get(*id) != Some(*now))
        .map(|(id, _)| Step::Stop(id.clone()));
    let starts = wanted
        .iter()
        .filter(|(id, then)| running.get(*id) != Some(*then))
        .map(|(id, _)| Step::Start(id.clone()));
    stops.chain(starts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, topics: &str) -> Device {
        Device {
            id: id.to_owned(),
            properties: [("MQTT_TOPICS".to_owned(), topics.to_owned())].into(),
            ..Device::default()
        }
    }

    fn id(text: &str) -> DeviceId {
        DeviceId::parse(text).unwrap()
    }

    fn template(name: &str) -> Template {
        Template {
            configuration: name.to_owned(),
            ..Template::default()
        }
    }

    #[test]
    fn a_device_of_two_configurations_belongs_to_the_first_and_then_to_the_other() {
        let templates = [template("a"), template("b")];
        let both = wanted(
            &templates,
            &[vec![device("s/r1", "1")], vec![device("s/r1", "2")]],
        );
        assert_eq!(both[&id("s/r1")].configuration, 0);
        let second = wanted(&templates, &[vec![], vec![device("s/r1", "2")]]);
        assert_eq!(
            steps(&both, &second),
            [Step::Stop(id("s/r1")), Step::Start(id("s/r1"))]
        );
    }

    #[test]
    fn a_list_that_says_the_same_changes_nothing() {
        let templates = [template("a")];
        let now = wanted(
            &templates,
            &[vec![device("s/r1", "1"), device("s/r2", "1")]],
        );
        assert_eq!(steps(&now, &now.clone()), []);
        let fewer = wanted(
            &templates,
            &[vec![device("s/r2", "1"), device("s/r3", "1")]],
        );
        assert_eq!(
            steps(&now, &fewer),
            [Step::Stop(id("s/r1")), Step::Start(id("s/r3"))]
        );
    }

    #[test]
    fn properties_of_the_configuration_override_those_of_the_device() {
        let mut template = template("a");
        template.properties = [
            ("MQTT_TOPICS".to_owned(), "mine".to_owned()),
            ("EXTRA".to_owned(), "x".to_owned()),
        ]
        .into();
        let all = wanted(&[template], &[vec![device("s/r1", "1")]]);
        assert_eq!(all[&id("s/r1")].properties["MQTT_TOPICS"], "mine");
        assert_eq!(all[&id("s/r1")].properties["EXTRA"], "x");
    }

    #[test]
    fn an_instance_is_named_after_the_configuration_and_the_hash_of_the_id() {
        let name = instance_name("plant", &id("plant-a/r1"));
        assert!(
            name.starts_with("plant-") && name.len() == "plant-".len() + 6,
            "{name}"
        );
    }
}
