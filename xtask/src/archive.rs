//! Container images without a container tool: docker archives, as `docker load`, `kind load image-archive`
//! and `ctr images import` take them. In: files and a command line. Out: one tar file; equal inputs
//! give equal bytes. Uses no base image and downloads nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An image of one layer.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Name and tag, as pods write it.
    pub name: String,
    /// Command line of the container.
    pub entrypoint: Vec<String>,
    /// User and group of the container.
    pub user: String,
    /// Machine that the programs are for, as container tools call it; none: this one.
    pub architecture: Option<String>,
    /// What registries show.
    pub labels: BTreeMap<String, String>,
    /// Files: where they are here, and their path in the image without a leading slash.
    pub files: Vec<(PathBuf, String)>,
}

impl Image {
    /// Writes the archive and returns the image's id, `sha256:…`.
    ///
    /// # Errors
    /// When a file cannot be read or the archive cannot be written.
    pub fn write(&self, archive: &Path) -> anyhow::Result<String> {
        let layer = self.layer()?;
        let digest = hex(&Sha256::digest(&layer));
        let architecture = self.architecture.as_deref();
        let architecture = architecture.unwrap_or(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        });
        let mut config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": self.user, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        if !self.labels.is_empty()
            && let Some(container) = config.get_mut("config").and_then(Value::as_object_mut)
        {
            container.insert("Labels".to_owned(), json!(self.labels));
        }
        let config = config.to_string().into_bytes();
        let id = hex(&Sha256::digest(&config));
        let manifest =
            json!([{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"]}]);
        let file = File::create(archive).with_context(|| archive.display().to_string())?;
        let mut tar = tar::Builder::new(file);
        for (path, bytes) in [
            ("config.json", config),
            ("layer.tar", layer),
            ("manifest.json", manifest.to_string().into_bytes()),
        ] {
            add(&mut tar, path, &bytes, 0o644)?;
        }
        tar.into_inner()?;
        Ok(format!("sha256:{id}"))
    }

    fn layer(&self) -> anyhow::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut directories = BTreeSet::new();
        for (_, path) in &self.files {
            let parents = Path::new(path).ancestors().skip(1);
            directories.extend(parents.filter(|path| !path.as_os_str().is_empty()));
        }
        for directory in directories {
            let mut header = header(0o755);
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, directory, std::io::empty())?;
        }
        let mut files = self.files.clone();
        files.sort_by(|a, b| a.1.cmp(&b.1));
        files.dedup_by(|a, b| a.1 == b.1);
        for (file, path) in files {
            let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
            let mode = if path.starts_with("etc/") {
                0o644
            } else {
                0o755
            };
            add(&mut tar, &path, &bytes, mode)?;
        }
        Ok(tar.into_inner()?)
    }
}

fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn add(
    tar: &mut tar::Builder<impl std::io::Write>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let mut header = header(mode);
    header.set_size(u64::try_from(bytes.len())?);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A program of this machine as `/bin/<name>`, with the shared libraries that it loads.
///
/// # Errors
/// When `ldd` cannot tell them.
pub fn program(path: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let name = path.file_name().context("a program has a name")?;
    let output = Command::new("ldd").arg(path).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A static program has none, which ldd takes for an error.
    let libraries = libraries(&text);
    ensure!(
        !text.contains("not found"),
        "{}: a library is missing: {text}",
        path.display()
    );
    let mut files = vec![(path.to_owned(), format!("bin/{}", name.to_string_lossy()))];
    files.extend(libraries.into_iter().map(|library| {
        let inside = library.trim_start_matches('/').to_owned();
        (PathBuf::from(library), inside)
    }));
    Ok(files)
}

/// The paths in the output of `ldd`: `name => /path (address)`, or `/path (address)`.
fn libraries(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let path = line.split_once(" => ").map_or(line, |(_, path)| path);
            let path = path.split(" (").next()?;
            path.starts_with('/').then(|| path.to_owned())
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_from_both_forms_of_lines() {
        let text =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n";
        assert_eq!(libraries(text), ["/lib/libc.so.6", "/lib64/ld.so"]);
    }

    #[test]
    fn equal_images_are_equal_files_that_name_their_layer() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        std::fs::write(&file, "content").unwrap();
        let image = Image {
            name: "akri-mqtt/a:1".into(),
            entrypoint: vec!["/bin/a".into()],
            user: "65532:65532".into(),
            files: vec![(file, "bin/a".into())],
            labels: BTreeMap::from([("a".into(), "b".into())]),
            architecture: Some("arm64".into()),
        };
        let archives: Vec<Vec<u8>> = ["one.tar", "two.tar"]
            .map(|name| {
                let path = directory.path().join(name);
                image.write(&path).unwrap();
                std::fs::read(path).unwrap()
            })
            .into();
        assert_eq!(archives.first(), archives.last());
        let mut tar = tar::Archive::new(archives.first().unwrap().as_slice());
        let names: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["config.json", "layer.tar", "manifest.json"]);
    }
}
