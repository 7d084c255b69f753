//! Runs the fuzzers of `fuzz/`: cargo-fuzz, on stable Rust. In: a target and a time. Out: new inputs in
//! `target/fuzz-corpus`, or the input that is a finding in `fuzz/artifacts`.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::metadata::{Metadata, cargo};
use crate::process::run as execute;

/// What to fuzz.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this target, a file of fuzz/fuzz_targets
    target: Option<String>,
    /// How long each target is fuzzed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    seconds: u32,
    /// Adds to fuzz/corpus the new inputs that reach something new
    #[arg(long)]
    keep: bool,
}

/// Fuzzes one target after the other, and stops at the first finding.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    let all = targets(&metadata)?;
    let chosen: Vec<&String> = match &options.target {
        None => all.iter().collect(),
        Some(name) => all.iter().filter(|target| *target == name).collect(),
    };
    ensure!(
        !chosen.is_empty(),
        "there is no such target; there are {}",
        all.join(", ")
    );
    let mut version = Command::new(cargo());
    execute(version.args(["fuzz", "--version"]))
        .context("`cargo install --locked cargo-fuzz` installs it, and needs a C++ compiler")?;
    for target in chosen {
        fuzz(&metadata, target, options)?;
    }
    Ok(())
}

/// The names of all targets, sorted.
fn targets(metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    let directory = metadata.workspace_root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    let entries = directory.read_dir();
    for entry in entries.with_context(|| directory.display().to_string())? {
        if let Some(name) = entry?.path().file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn fuzz(metadata: &Metadata, target: &str, options: &Options) -> anyhow::Result<()> {
    let committed = metadata.workspace_root.join("fuzz/corpus").join(target);
    let found = metadata.target_directory.join("fuzz-corpus").join(target);
    std::fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
    let words = metadata.workspace_root.join("fuzz/words.dict");
    // libFuzzer writes what it finds into the first directory.
    let mut command = cargo_fuzz(metadata, target);
    command.args([&found, &committed]).arg("--");
    command.arg(format!("-dict={}", words.display()));
    command.arg(format!("-max_total_time={}", options.seconds));
    execute(command.args(["-print_final_stats=1", "-timeout=60", "-rss_limit_mb=2048"]))?;
    if options.keep {
        let mut merge = cargo_fuzz(metadata, target);
        execute(merge.args([&committed, &found]).args(["--", "-merge=1"]))?;
    }
    Ok(())
}

/// Without a sanitizer, which only nightly Rust has: no code of ours is unsafe.
fn cargo_fuzz(metadata: &Metadata, target: &str) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(&metadata.workspace_root);
    // What makes a release small makes a fuzzer slow to build.
    command.env("CARGO_PROFILE_RELEASE_LTO", "false");
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    command.args(["fuzz", "run", "--sanitizer", "none"]);
    let features = if target == "packets" {
        "packets"
    } else {
        "libfuzzer"
    };
    command.args(["--features", features, target]);
    command
}
