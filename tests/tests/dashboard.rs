//! The dashboard in a real Chromium. In: the programs, Node.js with the packages of `xtask/tools`, Chromium.
//! Out: what `tests/browser/` finds; what is tested is said there.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::process::Command;

use akri_mqtt_tests::binary::{DIRECTORY, binary};

#[test]
fn the_dashboard_does_in_chromium_what_it_promises() {
    let broker = binary("akri-mqtt-monitoring-broker", "akri-mqtt-monitoring-broker");
    let cli = binary("akri-mqtt-cli", "akri-mqtt");
    let directory = broker.parent().expect("it is in a directory");
    assert_eq!(cli.parent(), Some(directory));
    let status = Command::new("node")
        .args(["--test", "--test-reporter=spec", "browser/units.test.mjs"])
        .arg("browser/dashboard.test.mjs")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(DIRECTORY, directory)
        .status()
        .expect("node can be started; on Debian it is in the package nodejs");
    assert!(status.success(), "see above");
}
