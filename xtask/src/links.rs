//! The links of the documents. In: every Markdown file of the checkout. Out: links to files and
//! headings that are not there, and pages of the guide that its table of contents leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Checks all documents that git knows or would add.
pub fn check(root: &Path) -> anyhow::Result<String> {
    let documents = documents(root)?;
    let mut faults = Vec::new();
    for (path, text) in &documents {
        for link in links(text) {
            if let Some(fault) = fault(root, &documents, path, &link) {
                faults.push(format!("{}: {fault}", path.display()));
            }
        }
    }
    faults.extend(unlisted(&documents));
    if faults.is_empty() {
        return Ok(format!("{} documents", documents.len()));
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!("{} links or pages are wrong", faults.len())
}

fn documents(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
            "*.md",
        ])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", output.status);
    let names = String::from_utf8(output.stdout)?;
    let mut documents = BTreeMap::new();
    for name in names
        .split_terminator('\0')
        .filter(|name| root.join(name).exists())
    {
        documents.insert(PathBuf::from(name), fs::read_to_string(root.join(name))?);
    }
    Ok(documents)
}

/// The targets of `[text](target)`, outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second part lies between two backticks.
        let plain: Vec<_> = line.split('`').step_by(2).collect();
        let plain = plain.join("code");
        let targets = plain
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        found.extend(targets.map(|(target, _)| target.to_owned()));
    }
    found
}

fn fault(
    root: &Path,
    documents: &BTreeMap<PathBuf, String>,
    from: &Path,
    link: &str,
) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        from.to_path_buf()
    } else {
        normal(&from.parent()?.join(file))
    };
    if !root.join(&target).exists() {
        return Some(format!("{link} does not exist"));
    }
    if heading.is_empty() {
        return None;
    }
    let text = documents.get(&target)?;
    let known = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor(line) == heading);
    (!known).then(|| format!("{link}: there is no such heading"))
}

/// `a/../b` as `b`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Pages of the guide that its table of contents does not name.
fn unlisted(documents: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let Some(summary) = documents.get(Path::new("docs/SUMMARY.md")) else {
        return vec!["docs/SUMMARY.md does not exist".to_owned()];
    };
    let listed: BTreeSet<_> = links(summary)
        .into_iter()
        .map(|link| Path::new("docs").join(link))
        .collect();
    documents
        .keys()
        .filter(|path| path.starts_with("docs") && !path.ends_with("SUMMARY.md"))
        .filter(|path| !listed.contains(*path))
        .map(|path| format!("{} is not in docs/SUMMARY.md", path.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_none() {
        let text = "[a](b.md) and `[c](d.md)` [`e`](f.md#g)\n```\n[h](i.md)\n```\n";
        assert_eq!(links(text), ["b.md", "f.md#g"]);
    }

    #[test]
    fn missing_files_headings_and_pages_are_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("docs")).unwrap();
        fs::write(root.path().join("LICENSE"), "").unwrap();
        let documents: BTreeMap<PathBuf, String> = [
            ("docs/SUMMARY.md", "[One](one.md)"),
            ("docs/one.md", "# The `first` page\n[x](../LICENSE)"),
            ("docs/two.md", ""),
        ]
        .into_iter()
        .map(|(path, text)| (PathBuf::from(path), text.to_owned()))
        .collect();
        for (path, text) in &documents {
            fs::write(root.path().join(path), text).unwrap();
        }
        let fault = |from: &str, link: &str| fault(root.path(), &documents, Path::new(from), link);
        assert_eq!(fault("docs/one.md", "../LICENSE"), None);
        assert_eq!(fault("docs/two.md", "one.md#the-first-page"), None);
        assert_eq!(fault("docs/one.md", "#the-first-page"), None);
        assert_eq!(fault("docs/one.md", "https://example.com/x"), None);
        assert_eq!(
            fault("docs/two.md", "three.md").unwrap(),
            "three.md does not exist"
        );
        assert_eq!(
            fault("docs/two.md", "one.md#no").unwrap(),
            "one.md#no: there is no such heading"
        );
        assert_eq!(
            unlisted(&documents),
            ["docs/two.md is not in docs/SUMMARY.md"]
        );
    }
}
