//! The binaries of the workspace, for tests that kill processes. In: a package. Out: the path of its
//! binary, built if it has to be. Starting it is left to the test.

use std::path::PathBuf;
use std::process::Command;

/// Directory with binaries that are already built; then nothing is built.
pub const DIRECTORY: &str = "AKRI_MQTT_TEST_BINARIES";

/// The path of a package's binary, which has the package's name.
///
/// # Panics
/// When it cannot be built.
#[allow(clippy::panic, clippy::expect_used)]
#[must_use]
pub fn binary(package: &str, name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return PathBuf::from(directory).join(name);
    }
    // This test's own binary is `<target>/<profile>/deps/<test>`.
    let own = std::env::current_exe().expect("a test has a binary");
    let profile = own
        .parent()
        .and_then(|deps| deps.parent())
        .expect("it is in deps");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", package, "--bin", name]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = build.status().expect("cargo is there");
    assert!(status.success(), "{name} cannot be built: {status}");
    profile.join(name)
}
