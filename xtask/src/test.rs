//! Everything that must hold before a merge; the same in CI and at a desk. In: the checkout.
//! Out: a table of steps. Failing steps do not hide those after them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::metadata::{Metadata, cargo};
use crate::process::{run as execute, run_watched};
use crate::report::{Missing, Report};
use crate::{claims, deps, e2e, generate, links, tools};

/// What to run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// All but the end-to-end tests, which need a cluster
    #[arg(long)]
    without_cluster: bool,
}

/// Runs all steps.
pub fn run(options: Options) -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut report = Report::new(ci);
    report.step("format", || {
        execute(in_root(&metadata).args(["fmt", "--all", "--check"])).map(|()| String::new())
    });
    report.step("generated files", || {
        generate::check().map(|()| String::new())
    });
    report.step("documents", || links::check(&metadata.workspace_root));
    report.step("invariants", || claims::check(&metadata.workspace_root));
    report.step("dependency law", || deps::run().map(|()| String::new()));
    report.step("cargo deny", || deny(&metadata));
    report.step("chart", || chart(&metadata));
    report.step("examples", || examples(&metadata));
    report.step("clippy", || {
        let arguments = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        execute(in_root(&metadata).args(arguments)).map(|()| String::new())
    });
    report.step("tests", || tests(&metadata, ci));
    if !options.without_cluster {
        report.step("end to end", || end_to_end(&metadata));
    }
    report.finish()
}

/// Cases of a property of the core in a night, where it sets no number itself; by day there are 256.
const NIGHTLY_CASES: &str = "10000";

/// What takes too long for [`run`]: ignored tests that need no cluster, and properties of what outsiders send.
pub fn nightly() -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    tools::mosquitto()?;
    let mut test = in_root(&metadata);
    test.args(["test", "--locked", "--package", "akri-mqtt-tests"]);
    test.args(["--test", "broker_crash", "--", "--ignored"]);
    println!("{}", counted(&mut test)?);
    let mut properties = in_root(&metadata);
    properties.args(["test", "--locked", "--package", "akri-mqtt-core", "--lib"]);
    properties.env("PROPTEST_CASES", NIGHTLY_CASES);
    println!("{}", counted(&mut properties)?);
    Ok(())
}

fn in_root(metadata: &Metadata) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(&metadata.workspace_root);
    command
}

fn deny(metadata: &Metadata) -> anyhow::Result<String> {
    let program = tools::cargo_deny(metadata)?;
    execute(
        Command::new(program)
            .args([
                "--workspace",
                "--all-features",
                "--locked",
                "check",
                "--hide-inclusion-graph",
            ])
            .args(["bans", "licenses", "sources"])
            .current_dir(&metadata.workspace_root),
    )?;
    Ok("bans, licenses, sources".to_owned())
}

fn chart(metadata: &Metadata) -> anyhow::Result<String> {
    let program = tools::helm(metadata)?;
    let chart = metadata.workspace_root.join("charts/akri-mqtt");
    let files = manifests(&chart.join("ci"))?;
    for file in &files {
        let mut lint = Command::new(&program);
        lint.args(["lint", "--strict", "--quiet", "--values"]);
        execute(lint.arg(file).arg(&chart))?;
    }
    Ok(format!("helm lint --strict with {} files", files.len()))
}

/// The YAML files of a directory, sorted.
fn manifests(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = directory.read_dir();
    for entry in entries.with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml") {
            files.push(path);
        }
    }
    files.sort_unstable();
    ensure!(!files.is_empty(), "{}: no files", directory.display());
    Ok(files)
}

/// The examples, each of which `akri-mqtt check` must name and accept. Those of one directory are checked
/// together: two Configurations of one name in what is applied together are a fault.
fn examples(metadata: &Metadata) -> anyhow::Result<String> {
    let examples = metadata.workspace_root.join("examples");
    let checked = checked(metadata, &examples)? + checked(metadata, &examples.join("kubernetes"))?;
    Ok(format!("{checked} files"))
}

fn checked(metadata: &Metadata, directory: &Path) -> anyhow::Result<usize> {
    let files = manifests(directory)?;
    let mut accepted = 0;
    let mut check = in_root(metadata);
    check.args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "akri-mqtt-cli",
        "--",
    ]);
    check.args(["check", "--file"]).args(&files);
    run_watched(&mut check, |line| {
        accepted += usize::from(
            files
                .iter()
                .any(|file| line.starts_with(&*file.to_string_lossy())),
        );
    })?;
    ensure!(
        accepted == files.len(),
        "{accepted} of {} files of {} were checked",
        files.len(),
        directory.display()
    );
    Ok(accepted)
}

/// All tests; at a desk without the tools that the integration tests need, those of the crates.
fn tests(metadata: &Metadata, ci: bool) -> anyhow::Result<String> {
    let found = tools::mosquitto().and_then(|_| {
        tools::redis()?;
        tools::postgresql()?;
        tools::faketime()?;
        tools::prometheus()?;
        let pythons = (tools::python(metadata)?, tools::sparkplug_python(metadata)?);
        Ok((
            pythons,
            tools::node_modules(metadata)?,
            tools::chromium()?,
            tools::helm(metadata)?,
        ))
    });
    let mut test = in_root(metadata);
    test.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    match found {
        Ok(((python, sparkplug), node, chromium, helm)) => {
            // The integration tests start the programs.
            counted(
                test.env(tools::BINARIES, build(metadata)?)
                    .env(tools::PYTHON, python)
                    .env(tools::SPARKPLUG_PYTHON, sparkplug)
                    .env(tools::NODE_MODULES, node)
                    .env(tools::CHROMIUM, chromium)
                    .env(tools::HELM, helm),
            )
        }
        Err(error) if error.is::<Missing>() && !ci => {
            let summary = counted(test.args(["--lib", "--bins"]))?;
            Err(error.context(format!("without the integration tests: {summary}")))
        }
        Err(error) => Err(error),
    }
}

/// Builds the programs for tests; the directory that they are in. Together with the tests, so that what
/// both need has the same features and is compiled once.
pub fn build(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    execute(in_root(metadata).args(["build", "--workspace", "--bins", "--tests", "--locked"]))?;
    Ok(metadata.target_directory.join("debug"))
}

/// The tests on a real cluster; without one the step says what it needs.
fn end_to_end(metadata: &Metadata) -> anyhow::Result<String> {
    summed_up(|count| e2e::tested(metadata, &e2e::Options::default(), |line| count.look(line)))
}

/// Runs `cargo test` and sums up its counts.
fn counted(test: &mut Command) -> anyhow::Result<String> {
    summed_up(|count| run_watched(test, |line| count.look(line)))
}

fn summed_up(run: impl FnOnce(&mut Count) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut count = Count::default();
    let result = run(&mut count);
    let summary = count.summary();
    result.map_err(|error| error.context(summary.clone()))?;
    ensure!(count.passed > 0, "no test was run");
    Ok(summary)
}

/// Sums up the result lines of the test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Count {
    fn look(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.binaries += 1;
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn summary(&self) -> String {
        let Self {
            binaries,
            passed,
            failed,
            ignored,
        } = self;
        format!("{passed} passed, {failed} failed, {ignored} ignored in {binaries} test binaries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_summed_up() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.08s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            count.look(line);
        }
        assert_eq!(
            count,
            Count {
                binaries: 2,
                passed: 7,
                failed: 2,
                ignored: 1
            }
        );
        assert_eq!(
            count.summary(),
            "7 passed, 2 failed, 1 ignored in 2 test binaries"
        );
    }
}
