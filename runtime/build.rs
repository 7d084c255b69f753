//! Finds the commit that `--version` prints. In: `AKRI_MQTT_COMMIT` (image builds), else git.
//! Out: the compile-time variable `AKRI_MQTT_BUILD_COMMIT`. Never fails: without git it is `unknown`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=AKRI_MQTT_COMMIT");
    let given = std::env::var("AKRI_MQTT_COMMIT").ok();
    let commit = given
        .filter(|commit| !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric()))
        .or_else(commit_of_checkout)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=AKRI_MQTT_BUILD_COMMIT={commit}");
}

/// The commit of the checkout that this crate lies in; none when the sources were unpacked into
/// some other repository.
fn commit_of_checkout() -> Option<String> {
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    if top.canonicalize().ok()? != workspace.canonicalize().ok()? {
        return None;
    }
    // The log of HEAD grows with every commit and checkout; HEAD itself names only the branch.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
