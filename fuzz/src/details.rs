//! `discoveryDetails`. In: their text.

use std::sync::Arc;

use akri_mqtt_core::clock::Now;
use akri_mqtt_core::details::{Convention, Details};
use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::presence::{Options, Presence};
use akri_mqtt_core::properties::DeviceSpec;

use crate::history::noon;

/// Longer than this, all that one message of a fault may repeat of the text is not short.
const MESSAGE: usize = 4096;

/// Reads the text, and does with it what a handler does.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Details::parse(text) {
        Ok(details) => use_it(details),
        Err(faults) => {
            assert!(faults.len() > 0);
            for fault in faults.iter() {
                assert!(!fault.message.is_empty() && fault.message.len() <= MESSAGE);
                assert!(fault.line >= 1 && fault.column >= 1);
            }
        }
    }
}

fn use_it(details: Details) {
    let now: Now = noon();
    let details = Arc::new(details);
    let presence = Presence::new(Arc::clone(&details), Options::default(), now);
    assert!(presence.subscriptions().is_sorted());
    let conventions = details.conventions.iter().map(Some).chain([None]);
    for server in &details.servers {
        for convention in conventions.clone() {
            let id = DeviceId::new(server.name.clone(), "robots/r1").expect("a name");
            check_properties(&details, &id, convention);
        }
    }
}

/// What a monitoring broker is told of a device is what it can read.
fn check_properties(details: &Details, id: &DeviceId, convention: Option<&Convention>) {
    let properties = details.properties_with(id, convention);
    assert_eq!(properties, details.properties_with(id, convention));
    let spec = DeviceSpec::from_properties(&properties);
    let spec = spec.unwrap_or_else(|faults| panic!("{faults}: {properties:?}"));
    assert_eq!(&spec.server.name, id.server());
    let presence = Presence::for_device(Arc::new(spec), noon());
    assert!(presence.subscriptions().is_sorted());
}
