//! Runs the benchmarks: cargo's bench targets of the workspace and the programs `tests/bench/*/run`.
//! In: part of a name, or none for all. Out: their figures on standard output.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::e2e;
use crate::metadata::{Metadata, cargo};
use crate::process::{is_program, run as execute};
use crate::tools;

/// The one that needs a cluster.
const CLUSTER: &str = "cluster";

/// Runs the benchmarks whose name contains `part`, in the order of their names.
pub fn run(part: Option<&str>) -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    let wanted = |name: &str| part.is_none_or(|part| name.contains(part));
    let targets: Vec<_> = targets(&metadata)
        .into_iter()
        .filter(|(_, name)| wanted(name))
        .collect();
    let scripts: Vec<_> = scripts(&metadata.workspace_root)?
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .collect();
    ensure!(
        !targets.is_empty() || !scripts.is_empty(),
        "no benchmark's name contains {:?}",
        part.unwrap_or_default()
    );
    // Peers that the figures are compared with.
    let python = tools::python(&metadata)?;
    let node = tools::node_modules(&metadata)?;
    let start = |mut command: Command| {
        execute(
            command
                .current_dir(&metadata.workspace_root)
                .env(tools::PYTHON, &python)
                .env(tools::NODE_MODULES, &node),
        )
    };
    for (package, name) in targets {
        println!("==> {name} ({package})");
        if name == CLUSTER {
            e2e::benched(&metadata)?;
            continue;
        }
        let mut command = Command::new(cargo());
        command.args(["bench", "--locked", "--package", &package, "--bench", &name]);
        start(command)?;
    }
    for (name, script) in scripts {
        println!("==> {name}");
        start(Command::new(script))?;
    }
    Ok(())
}

/// Package and name of each bench target, sorted.
fn targets(metadata: &Metadata) -> Vec<(String, String)> {
    let mut found: Vec<_> = metadata
        .members()
        .into_iter()
        .flat_map(|(package, data)| {
            data.targets
                .iter()
                .filter(|target| target.kind.iter().any(|kind| kind == "bench"))
                .map(move |target| (package.to_owned(), target.name.clone()))
        })
        .collect();
    found.sort_unstable();
    found
}

/// Name and path of each program `tests/bench/<name>/run`, sorted.
fn scripts(root: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let directory = root.join("tests/bench");
    let mut found = Vec::new();
    for entry in directory.read_dir().context("tests/bench")? {
        let entry = entry?;
        let script = entry.path().join("run");
        if is_program(&script) {
            found.push((entry.file_name().to_string_lossy().into_owned(), script));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn every_runnable_script_is_a_benchmark() {
        let root = tempfile::tempdir().unwrap();
        for (name, mode) in [("store", 0o755), ("notes", 0o644), ("broker", 0o755)] {
            let directory = root.path().join("tests/bench").join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("run"), "").unwrap();
            fs::set_permissions(directory.join("run"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let names: Vec<_> = scripts(root.path())
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["broker", "store"]);
    }
}
