//! Generates the committed files and runs the checks: `cargo xtask --help`.
//! In: the checkout it is started in. Out: files, or an exit code with the reason.

mod archive;
mod bench;
mod claims;
mod deps;
mod e2e;
mod fuzz;
mod generate;
mod images;
mod links;
mod metadata;
mod process;
mod report;
mod sections;
mod test;
mod tools;
mod values;
mod yaml;

use std::process::ExitCode;

use clap::Parser as _;

/// Tasks of the akri-mqtt checkout
#[derive(clap::Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Everything that must hold before a merge: format, lints, tests, generated files, dependencies, chart, cluster
    Test(test::Options),
    /// The tests that take too long to run before every merge
    Nightly,
    /// Fuzzes the readers of foreign bytes, each for ten minutes: needs cargo-fuzz
    Fuzz(fuzz::Options),
    /// Writes the generated files
    Generate {
        /// Writes nothing and fails when a committed file is stale
        #[arg(long)]
        check: bool,
    },
    /// Checks the dependency law of ARCHITECTURE.md
    Deps,
    /// Checks the documents: links, pages, and the tests that the invariants name
    Docs,
    /// Fetches into target/tools what the tests need and what needs no root
    Tools,
    /// Runs the end-to-end tests on a Kubernetes cluster: $KUBECONFIG's, or one that it starts
    E2e(e2e::Options),
    /// Builds the container images and writes them as archives, which `docker load` and `kind load image-archive` take
    Images(images::Options),
    /// Runs the benchmarks and prints their figures
    Bench {
        /// Only benchmarks whose name contains this
        name: Option<String>,
    },
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Test(options) => test::run(options),
        Task::Nightly => test::nightly(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Generate { check: true } => generate::check(),
        Task::Generate { check: false } => generate::write(),
        Task::Deps => deps::run(),
        Task::Docs => docs(),
        Task::Tools => tools::prepare_all(),
        Task::E2e(options) => e2e::run(&options),
        Task::Images(options) => images::run(&options),
        Task::Bench { name } => bench::run(name.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn docs() -> anyhow::Result<()> {
    let root = metadata::root()?;
    let (links, claims) = (links::check(&root), claims::check(&root));
    println!("{}, {}", links?, claims?);
    Ok(())
}
