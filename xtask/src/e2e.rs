//! The end-to-end tests on a real cluster. In: the cluster of $KUBECONFIG, or the scripts next to the
//! checkout that start one; Mosquitto; helm. Out: images in the cluster's node, and the result of
//! `tests/tests/e2e_*.rs`. A cluster that it started is stopped in every case.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::archive::{Image, program};
use crate::metadata::{Metadata, cargo};
use crate::process::{find, is_program, run as execute, run_watched};
use crate::report::Missing;
use crate::{test, tools};

/// Tag of the images that the tests install.
const TAG: &str = "e2e";
/// The same images under another name, for upgrades.
const NEXT_TAG: &str = "e2e-next";
/// First part of the names of the project's images.
const PROJECT: &str = "akri-mqtt";
/// What runs in the pods of the tests.
const TEST_IMAGE: &str = "akri-mqtt/test-pod:e2e";
/// Package and image of each program.
const PRODUCT: [(&str, &str); 3] = [
    ("akri-mqtt-controller", "controller"),
    ("akri-mqtt-discovery-handler", "discovery-handler"),
    ("akri-mqtt-monitoring-broker", "monitoring-broker"),
];
const USER: &str = "65532:65532";

/// The cluster, and how images get there.
const KUBECONFIG: &str = "KUBECONFIG";
const LOAD: &str = "AKRI_MQTT_E2E_LOAD";
/// What the tests are told.
const ENABLED: &str = "AKRI_MQTT_E2E";

/// What to run.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Only tests whose name contains one of these
    names: Vec<String>,
    /// Build and test the programs as they are released
    #[arg(long)]
    release: bool,
    /// Use the images that are in the cluster already
    #[arg(long)]
    loaded: bool,
}

/// Runs the end-to-end tests.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    tested(&metadata, options, |_| ())
}

/// Runs the tests and shows each line of their output to `look`.
pub fn tested(
    metadata: &Metadata,
    options: &Options,
    look: impl FnMut(&str),
) -> anyhow::Result<()> {
    // With the features of the whole workspace, as all other steps, so that nothing is compiled twice.
    let mut test = Command::new(cargo());
    test.args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .args(["--test", "e2e_*", "--"])
        .args(["--ignored", "--test-threads=1", "--nocapture"])
        .args(&options.names);
    on_a_cluster(metadata, options, test, look)
}

/// Runs the benchmark of the cluster, with the programs as they are released.
pub fn benched(metadata: &Metadata) -> anyhow::Result<()> {
    let released = Options {
        release: true,
        ..Options::default()
    };
    let mut bench = Command::new(cargo());
    bench.args([
        "bench",
        "--locked",
        "--package",
        "akri-mqtt-tests",
        "--bench",
        "cluster",
    ]);
    on_a_cluster(metadata, &released, bench, |_| ())
}

/// Runs a command that uses a cluster in which our images are.
fn on_a_cluster(
    metadata: &Metadata,
    options: &Options,
    mut command: Command,
    look: impl FnMut(&str),
) -> anyhow::Result<()> {
    let helm = tools::helm(metadata)?;
    let archives = if options.loaded {
        Vec::new()
    } else {
        images(metadata, options.release)?
    };
    let cluster = Cluster::found_or_started(metadata)?;
    for archive in &archives {
        cluster.load(archive)?;
    }
    command
        .current_dir(&metadata.workspace_root)
        .env(KUBECONFIG, &cluster.kubeconfig)
        .env(ENABLED, TAG)
        .env(tools::HELM, helm);
    run_watched(&mut command, look)?;
    Ok(())
}

/// Packs the programs; with the libraries of this machine where they need some.
fn images(metadata: &Metadata, release: bool) -> anyhow::Result<Vec<PathBuf>> {
    let programs = match std::env::var_os(tools::BINARIES) {
        Some(directory) => PathBuf::from(directory),
        None => build(metadata, release)?,
    };
    let to = metadata.target_directory.join("e2e");
    std::fs::create_dir_all(&to)?;
    let mut archives = Vec::new();
    for (package, image) in PRODUCT {
        for tag in [TAG, NEXT_TAG] {
            let archive = to.join(format!("{image}-{tag}.tar"));
            Image {
                name: format!("{PROJECT}/{image}:{tag}"),
                entrypoint: vec![format!("/bin/{package}")],
                user: USER.to_owned(),
                files: program(&programs.join(package))?,
                ..Image::default()
            }
            .write(&archive)?;
            archives.push(archive);
        }
    }
    archives.push(test_image(&programs, &to)?);
    Ok(archives)
}

/// Builds the programs of the workspace; the directory that they are in.
fn build(metadata: &Metadata, release: bool) -> anyhow::Result<PathBuf> {
    if !release {
        return test::build(metadata);
    }
    execute(
        Command::new(cargo())
            .current_dir(&metadata.workspace_root)
            // Without what only tests need of the libraries: as the programs are released.
            .args(["build", "--locked", "--workspace", "--bins", "--release"]),
    )?;
    Ok(metadata.target_directory.join("release"))
}

/// The pods of the tests: our program, and this machine's Mosquitto.
fn test_image(programs: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    let pod = "akri-mqtt-test-pod";
    let mut files = program(&programs.join(pod))?;
    files.extend(program(&tools::mosquitto()?)?);
    for tool in ["mosquitto_passwd", "mosquitto_sub"] {
        let path = find(tool).with_context(|| format!("{tool} is with Mosquitto's packages"))?;
        files.extend(program(&path)?);
    }
    let archive = to.join("test-pod.tar");
    Image {
        name: TEST_IMAGE.to_owned(),
        entrypoint: vec![format!("/bin/{pod}")],
        user: USER.to_owned(),
        files,
        ..Image::default()
    }
    .write(&archive)?;
    Ok(archive)
}

fn scripts(metadata: &Metadata) -> PathBuf {
    metadata.workspace_root.join("../shared/cluster")
}

/// A cluster to test on; if we started it, it is stopped when this is dropped.
struct Cluster {
    kubeconfig: String,
    load: Vec<String>,
    down: Option<Command>,
}

impl Cluster {
    fn found_or_started(metadata: &Metadata) -> anyhow::Result<Self> {
        if let Ok(load) = std::env::var(LOAD) {
            let kubeconfig = std::env::var(KUBECONFIG)
                .with_context(|| format!("{LOAD} is set and {KUBECONFIG} is not"))?;
            return Ok(Self {
                kubeconfig,
                load: load.split_whitespace().map(str::to_owned).collect(),
                down: None,
            });
        }
        let scripts = scripts(metadata);
        if !is_program(&scripts.join("up")) {
            return Err(Missing(format!(
                "a cluster: `kind create cluster`, then {KUBECONFIG}=<its kubeconfig> and \
                 {LOAD}=\"kind load image-archive\""
            ))
            .into());
        }
        let binaries = output(&mut Command::new(
            metadata.workspace_root.join(".ci/cluster-binaries"),
        ))?;
        let script = |name: &str| {
            let mut command = Command::new(scripts.join(name));
            command.env("CLUSTER_BIN", &binaries);
            command
        };
        let mut cluster = Self {
            kubeconfig: String::new(),
            load: vec![scripts.join("load-image").display().to_string()],
            down: Some(script("down")),
        };
        let line = output(&mut script("up"))?;
        cluster.kubeconfig = line
            .strip_prefix("export KUBECONFIG=")
            .with_context(|| format!("`up` printed {line:?}"))?
            .to_owned();
        Ok(cluster)
    }

    fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let (program, arguments) = self
            .load
            .split_first()
            .context("no command to load images")?;
        execute(Command::new(program).args(arguments).arg(archive))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(down) = &mut self.down
            && let Err(error) = execute(down)
        {
            eprintln!("xtask: the cluster was not stopped: {error:#}");
        }
    }
}

/// The last line of a command's standard output.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let mut last = String::new();
    run_watched(command, |line| line.clone_into(&mut last))?;
    ensure!(!last.is_empty(), "nothing was printed");
    Ok(last)
}
