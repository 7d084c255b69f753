//! What `cargo metadata` says about the workspace. In: its JSON. Out: packages and resolved edges.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The top of the checkout. As cargo says at run time: builds may be shared between checkouts.
pub fn root() -> anyhow::Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
    let root = PathBuf::from(own).parent().map(Path::to_path_buf);
    root.context("xtask lies in no workspace")
}

/// The cargo that started this.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// The packages, their edges and where things are built.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Every package of the tree.
    pub packages: Vec<Package>,
    /// Ids of the packages of this workspace.
    pub workspace_members: Vec<String>,
    /// Where cargo builds.
    pub target_directory: PathBuf,
    /// The top of the checkout.
    pub workspace_root: PathBuf,
    resolve: Resolve,
}

/// One package.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its id in this metadata.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it declares, whether it is used on this platform or not.
    pub dependencies: Vec<Dependency>,
    /// What is built from it.
    pub targets: Vec<Target>,
}

/// A declared dependency.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The name of the package that is depended on.
    pub name: String,
    /// None: normal; else `dev` or `build`.
    pub kind: Option<String>,
}

/// Something that cargo builds.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// `lib`, `bin`, `test`, `bench`, …
    pub kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    /// Asks cargo about the workspace that xtask belongs to; `Cargo.lock` must be up to date.
    pub fn load() -> anyhow::Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--format-version=1", "--locked"])
            .current_dir(root()?)
            .output()
            .context("cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout)
            .context("cargo metadata gave other JSON than expected")
    }

    /// The packages of this workspace, by name.
    pub fn members(&self) -> BTreeMap<&str, &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
            .map(|package| (package.name.as_str(), package))
            .collect()
    }

    /// Names of all packages that `package` is built from, dev-dependencies aside, each with the
    /// chain of names that leads there.
    pub fn built_from<'a>(&'a self, package: &'a Package) -> BTreeMap<&'a str, Vec<&'a str>> {
        let names: BTreeMap<_, _> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package.name.as_str()))
            .collect();
        let nodes: BTreeMap<_, _> = self
            .resolve
            .nodes
            .iter()
            .map(|node| (node.id.as_str(), node))
            .collect();
        let mut found = BTreeMap::new();
        let mut next = vec![(package.id.as_str(), vec![package.name.as_str()])];
        while let Some((id, chain)) = next.pop() {
            let edges = nodes.get(id).map_or(&[][..], |node| node.deps.as_slice());
            for edge in edges.iter().filter(|edge| edge.is_built()) {
                let Some(&name) = names.get(edge.pkg.as_str()) else {
                    continue;
                };
                if found.contains_key(name) {
                    continue;
                }
                let mut chain = chain.clone();
                chain.push(name);
                found.insert(name, chain.clone());
                next.push((edge.pkg.as_str(), chain));
            }
        }
        found
    }
}

impl Edge {
    /// Whether it counts for what the package is made of; a build-time tool does not run in it.
    fn is_built(&self) -> bool {
        self.dep_kinds.iter().any(|kind| kind.kind.is_none())
    }
}
