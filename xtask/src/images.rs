//! The container images of the project. In: the checkout, and a name for each image. Out: docker archives,
//! or, for the Dockerfile, a directory for each image. Built from static programs alone, `FROM scratch`:
//! equal sources give equal bytes. Loading or pushing them is left to others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;

use crate::archive::Image;
use crate::metadata::{Metadata, cargo};
use crate::process::{find, output_of, run as execute};
use crate::report::Missing;

/// A program that an image is made of.
struct Program {
    package: &'static str,
    binary: &'static str,
    image: &'static str,
    title: &'static str,
    /// The profile of Cargo.toml with which it is released.
    profile: &'static str,
}

const PROGRAMS: [Program; 4] = [
    Program {
        package: "akri-mqtt-controller",
        binary: "akri-mqtt-controller",
        image: "controller",
        title: "Pods for MQTT devices, without Akri",
        profile: "release",
    },
    Program {
        package: "akri-mqtt-discovery-handler",
        binary: "akri-mqtt-discovery-handler",
        image: "discovery-handler",
        title: "Akri's discovery handler for MQTT devices",
        profile: "release",
    },
    Program {
        package: "akri-mqtt-monitoring-broker",
        binary: "akri-mqtt-monitoring-broker",
        image: "monitoring-broker",
        title: "Stores and serves the messages of a device",
        profile: "pod",
    },
    Program {
        package: "akri-mqtt-cli",
        binary: "akri-mqtt",
        image: "cli",
        title: "MQTT devices without Kubernetes; checks and tools",
        profile: "compact",
    },
];
/// Where rustls and everybody else look for authorities first.
const CA_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Nobody in particular, and never root.
const USER: &str = "65532:65532";
/// An image of a release must stay below.
const MAX_BYTES: u64 = 20 << 20;

/// What builds the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum With {
    /// cargo where it builds for Linux, else docker, else buildah
    Auto,
    /// cargo alone; no container tool, no download of a base image
    Cargo,
    /// The Dockerfile
    Docker,
    /// The Dockerfile
    Buildah,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// Fast to build, large
    Dev,
    /// As released
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Arch {
    Amd64,
    Arm64,
}

/// What to build.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How the programs are built
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// Directory of the archives [default: target/images]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// First part of the images' names
    #[arg(long, value_name = "NAME", default_value = "ghcr.io/akri-mqtt")]
    registry: String,
    /// Build this image only; can be repeated
    #[arg(long, value_name = "IMAGE", value_parser = image_names())]
    only: Vec<String>,
    /// Tag of the images [default: the version]
    #[arg(long)]
    tag: Option<String>,
    /// Machine that the images are for [default: this one]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// What builds them
    #[arg(long, value_enum, default_value = "auto")]
    with: With,
    /// Write a directory for each image instead of an archive, for the Dockerfile
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    stage: Option<PathBuf>,
}

/// Builds the images and prints their names, sizes and digests.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    let arch = match options.arch {
        Some(arch) => arch,
        None => Arch::of_this_machine()?,
    };
    let out = match &options.out {
        Some(out) => out.clone(),
        None => metadata.target_directory.join("images"),
    };
    match options.with.chosen()? {
        With::Docker => in_containers(&metadata, options, arch, &out, docker),
        With::Buildah => in_containers(&metadata, options, arch, &out, buildah),
        With::Cargo | With::Auto => {
            let built = build(&metadata, options, arch)?;
            match &options.stage {
                Some(stage) => staged(options, &built, stage),
                None => archives(&metadata, options, arch, &built, &out),
            }
        }
    }
}

/// The names of all images.
fn image_names() -> Vec<&'static str> {
    PROGRAMS.iter().map(|program| program.image).collect()
}

impl Options {
    /// Those that are to be built.
    fn programs(&self) -> impl Iterator<Item = &'static Program> {
        let wanted = |program: &&Program| {
            self.only.is_empty() || self.only.iter().any(|image| image == program.image)
        };
        PROGRAMS.iter().filter(wanted)
    }
}

impl With {
    fn chosen(self) -> anyhow::Result<Self> {
        if self != Self::Auto {
            return Ok(self);
        }
        if cfg!(target_os = "linux") {
            return Ok(Self::Cargo);
        }
        for (program, with) in [("docker", Self::Docker), ("buildah", Self::Buildah)] {
            if find(program).is_some() {
                return Ok(with);
            }
        }
        Err(Missing("docker or buildah: images hold programs for Linux".to_owned()).into())
    }
}

impl Arch {
    fn of_this_machine() -> anyhow::Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("--arch: there are no images for {other}"),
        }
    }

    /// As container tools call it.
    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As compilers call it.
    fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

/// Programs that were built.
struct Built {
    /// Directory of the target's builds.
    target: PathBuf,
    profile: Profile,
}

impl Built {
    fn path(&self, program: &Program) -> PathBuf {
        let profile = match self.profile {
            Profile::Dev => "debug",
            Profile::Release => program.profile,
        };
        self.target.join(profile).join(program.binary)
    }
}

/// Builds the programs statically.
fn build(metadata: &Metadata, options: &Options, arch: Arch) -> anyhow::Result<Built> {
    ensure!(
        cfg!(target_os = "linux"),
        "--with cargo: the images are for Linux; use docker or buildah here"
    );
    let triple = format!("{}-unknown-linux-gnu", arch.machine());
    let environment = environment(metadata, arch, &triple)?;
    // One after the other: in one build each would have what any of them needs of a library.
    for program in options.programs() {
        let profile = match options.profile {
            Profile::Dev => "dev",
            Profile::Release => program.profile,
        };
        let mut build = Command::new(cargo());
        build
            .current_dir(&metadata.workspace_root)
            .args(["build", "--locked", "--target", &triple])
            .args(["--profile", profile, "--package", program.package])
            .args(["--bin", program.binary])
            .envs(&environment);
        execute(&mut build)?;
    }
    Ok(Built {
        target: metadata.target_directory.join(triple),
        profile: options.profile,
    })
}

/// What makes the programs static, and the same wherever they are built: no path of this machine is in them.
fn environment(
    metadata: &Metadata,
    arch: Arch,
    triple: &str,
) -> anyhow::Result<BTreeMap<String, String>> {
    let root = metadata.workspace_root.display().to_string();
    let home = std::env::var("CARGO_HOME")
        .ok()
        .or_else(|| Some(format!("{}/.cargo", std::env::var("HOME").ok()?)))
        .context("neither CARGO_HOME nor HOME is set")?;
    let target = metadata.target_directory.display().to_string();
    let mapped = [
        (root.as_str(), "/src"),
        (target.as_str(), "/target"),
        (home.as_str(), "/cargo"),
    ];
    let mut rust = vec![
        "-C target-feature=+crt-static".to_owned(),
        // A 25th part of the command line tool: its relocations, without what they all have in common.
        "-C link-arg=-Wl,-z,pack-relative-relocs".to_owned(),
    ];
    let mut c = Vec::new();
    for (from, to) in mapped {
        ensure!(
            !from.contains(' '),
            "{from}: images cannot be built in a path with spaces"
        );
        rust.push(format!("--remap-path-prefix={from}={to}"));
        c.push(format!("-ffile-prefix-map={from}={to}"));
    }
    let name = triple.replace('-', "_");
    let mut environment = BTreeMap::from([
        ("RUSTFLAGS".to_owned(), rust.join(" ")),
        (format!("CFLAGS_{name}"), c.join(" ")),
        // Compilers put no later time than this into what they make.
        ("SOURCE_DATE_EPOCH".to_owned(), "0".to_owned()),
        ("CARGO_INCREMENTAL".to_owned(), "0".to_owned()),
    ]);
    if arch.machine() != std::env::consts::ARCH {
        let gcc = format!("{}-linux-gnu-gcc", arch.machine());
        if find(&gcc).is_none() {
            return Err(Missing(format!("{gcc}: a C compiler for {}", arch.name())).into());
        }
        let linker = format!("CARGO_TARGET_{}_LINKER", name.to_ascii_uppercase());
        environment.insert(linker, gcc.clone());
        environment.insert(format!("CC_{name}"), gcc);
    }
    Ok(environment)
}

/// Mozilla's authorities as of the version in Cargo.lock: the same on every machine.
fn ca_bundle() -> String {
    let mut bundle = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        bundle.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
            bundle.push_str(line);
            bundle.push('\n');
            rest = after;
        }
        bundle.push_str("-----END CERTIFICATE-----\n");
    }
    bundle
}

fn staged(options: &Options, built: &Built, stage: &Path) -> anyhow::Result<()> {
    for program in options.programs() {
        let root = stage.join(program.image);
        let bundle = root.join(CA_BUNDLE);
        for directory in [root.join("bin"), bundle.with_file_name("")] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        fs::write(&bundle, ca_bundle())?;
        let to = root.join("bin").join(program.binary);
        fs::copy(built.path(program), to).context(program.binary)?;
    }
    Ok(())
}

fn archives(
    metadata: &Metadata,
    options: &Options,
    arch: Arch,
    built: &Built,
    out: &Path,
) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let bundle = out.join("ca-certificates.crt");
    fs::write(&bundle, ca_bundle())?;
    for program in options.programs() {
        let name = name(options, program.image);
        let archive = out.join(format!("{}.tar", program.image));
        let file = built.path(program);
        let size = fs::metadata(&file)?.len() + fs::metadata(&bundle)?.len();
        let digest = Image {
            name: name.clone(),
            architecture: Some(arch.name().to_owned()),
            entrypoint: vec![format!("/bin/{}", program.binary)],
            user: USER.to_owned(),
            labels: labels(program.title, &commit(metadata)),
            files: vec![
                (file, format!("bin/{}", program.binary)),
                (bundle.clone(), CA_BUNDLE.to_owned()),
            ],
        }
        .write(&archive)?;
        println!("{name}  {size} bytes  {digest}  {}", archive.display());
        ensure!(
            size < MAX_BYTES || options.profile == Profile::Dev,
            "{name} has {size} bytes, allowed are {MAX_BYTES}"
        );
    }
    fs::remove_file(bundle)?;
    Ok(())
}

fn name(options: &Options, image: &str) -> String {
    let tag = options.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    format!("{}/{image}:{tag}", options.registry)
}

/// The same labels as in the Dockerfile.
fn labels(title: &str, commit: &str) -> BTreeMap<String, String> {
    let repository = env!("CARGO_PKG_REPOSITORY");
    [
        ("title", title),
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", commit),
        ("source", repository),
        ("licenses", env!("CARGO_PKG_LICENSE")),
    ]
    .into_iter()
    .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned()))
    .collect()
}

fn commit(metadata: &Metadata) -> String {
    let given = std::env::var("AKRI_MQTT_COMMIT").ok();
    given
        .filter(|commit| !commit.is_empty())
        .or_else(|| {
            let mut git = Command::new("git");
            git.args(["rev-parse", "--short=12", "HEAD"])
                .current_dir(&metadata.workspace_root);
            output_of(&mut git).ok()
        })
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Builds each image with the Dockerfile and saves it.
fn in_containers(
    metadata: &Metadata,
    options: &Options,
    arch: Arch,
    out: &Path,
    commands: fn(&Container<'_>) -> [Command; 2],
) -> anyhow::Result<()> {
    ensure!(
        options.stage.is_none() && options.profile == Profile::Release,
        "--stage and --profile dev are for --with cargo"
    );
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let commit = commit(metadata);
    for Program { image, .. } in options.programs() {
        let archive = out.join(format!("{image}.tar"));
        if archive.exists() {
            fs::remove_file(&archive)?;
        }
        let container = Container {
            image,
            name: &name(options, image),
            platform: &format!("linux/{}", arch.name()),
            commit: &commit,
            archive: &archive,
        };
        for mut command in commands(&container) {
            execute(command.current_dir(&metadata.workspace_root))?;
        }
        println!("{}  {}", container.name, archive.display());
    }
    Ok(())
}

struct Container<'a> {
    image: &'a str,
    name: &'a str,
    platform: &'a str,
    commit: &'a str,
    archive: &'a Path,
}

fn docker(container: &Container<'_>) -> [Command; 2] {
    let mut build = Command::new("docker");
    build
        .args(["build", "--target", container.image])
        .args(["--platform", container.platform, "--tag", container.name])
        .args(["--build-arg", &format!("COMMIT={}", container.commit), "."]);
    let mut save = Command::new("docker");
    save.args(["save", "--output"])
        .arg(container.archive)
        .arg(container.name);
    [build, save]
}

fn buildah(container: &Container<'_>) -> [Command; 2] {
    let mut build = Command::new("buildah");
    build
        .args(["build", "--timestamp", "0", "--target", container.image])
        .args(["--platform", container.platform, "--tag", container.name])
        .args(["--build-arg", &format!("COMMIT={}", container.commit), "."]);
    let mut push = Command::new("buildah");
    let archive = container.archive.display();
    push.args(["push", container.name])
        .arg(format!("docker-archive:{archive}:{}", container.name));
    [build, push]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundle_holds_the_authorities_as_pem() {
        let bundle = ca_bundle();
        let begins = bundle.matches("-----BEGIN CERTIFICATE-----\n").count();
        assert_eq!(begins, webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
        assert!(begins > 50, "{begins}");
        assert!(bundle.lines().all(|line| line.len() <= 64));
        assert_eq!(bundle, ca_bundle());
    }

    #[test]
    fn no_path_of_this_machine_gets_into_a_program() {
        let metadata = Metadata::load().unwrap();
        let triple = "aarch64-unknown-linux-gnu";
        let Ok(environment) = environment(&metadata, Arch::Amd64, "x86_64-unknown-linux-gnu")
        else {
            // Another machine without a compiler for this one.
            return;
        };
        let flags = &environment["RUSTFLAGS"];
        let root = metadata.workspace_root.display().to_string();
        assert!(
            flags.contains(&format!("--remap-path-prefix={root}=/src")),
            "{flags}"
        );
        assert!(flags.contains("+crt-static"), "{flags}");
        assert!(environment["CFLAGS_x86_64_unknown_linux_gnu"].contains(&root));
        assert!(!environment.contains_key(&format!("CFLAGS_{}", triple.replace('-', "_"))));
    }
}
