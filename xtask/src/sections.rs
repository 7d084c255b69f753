//! The generated sections of documents that people write. In: the sources and decision records.
//! Out: what stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// The crates in the order in which they are read, with their directories' names.
const CRATES: &[&str] = &[
    "core",
    "mqtt",
    "runtime",
    "proto",
    "crds",
    "discovery-handler",
    "monitoring-broker",
    "controller",
    "cli",
    "tests",
    "xtask",
];

/// The documents with generated sections, complete, by their paths.
pub fn documents(root: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let sections = [
        ("ARCHITECTURE.md", "code map", code_map(root)?),
        ("docs/adr/README.md", "decisions", decisions(root)?),
    ];
    let mut documents = Vec::new();
    for (path, name, section) in sections {
        let text = fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?;
        let text = replaced(&text, name, &section).with_context(|| path.to_owned())?;
        documents.push((path.to_owned(), text));
    }
    Ok(documents)
}

/// `text` with `section` between the two marks of `name`.
fn replaced(text: &str, name: &str, section: &str) -> anyhow::Result<String> {
    let (start, end) = (
        format!("<!-- generated: {name} -->\n"),
        format!("<!-- end: {name} -->"),
    );
    let (before, rest) = text
        .split_once(&start)
        .with_context(|| format!("the mark {} is missing", start.trim_end()))?;
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("the mark {end} is missing"))?;
    Ok(format!("{before}{start}\n{section}\n{end}{after}"))
}

/// Every source file with the first sentence of its own description.
fn code_map(root: &Path) -> anyhow::Result<String> {
    let mut map = String::new();
    for name in CRATES {
        let source = root.join(name).join("src");
        if !source.is_dir() {
            continue;
        }
        if !map.is_empty() {
            map.push('\n');
        }
        writeln!(map, "| `{name}/src` | |\n| --- | --- |")?;
        for file in sources(&source)? {
            let text = fs::read_to_string(&file)?;
            let path = file.strip_prefix(&source)?.display().to_string();
            let sentence = purpose(&text).with_context(|| {
                format!("{name}/src/{path} does not say in `//!` what it is for")
            })?;
            writeln!(map, "| `{path}` | {} |", sentence.replace('|', "\\|"))?;
        }
    }
    Ok(map)
}

/// The Rust files below a directory, without those that hold only tests, sorted.
fn sources(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The first sentence of the comment that a file opens with.
fn purpose(text: &str) -> Option<String> {
    let words: Vec<_> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let words = words.join(" ");
    let end = words.find(". ").map_or(words.len(), |dot| dot + 1);
    let sentence = words.get(..end)?.trim_end_matches('.');
    (!sentence.is_empty()).then(|| sentence.to_owned())
}

/// The decision records by number.
fn decisions(root: &Path) -> anyhow::Result<String> {
    let directory = root.join("docs/adr");
    let mut names = Vec::new();
    for entry in directory.read_dir().context("docs/adr")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "README.md" && name.ends_with(".md") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut list = String::new();
    for name in names {
        let numbered = name.split('-').next().is_some_and(|number| {
            number.len() == 4 && number.chars().all(|digit| digit.is_ascii_digit())
        });
        ensure!(numbered, "docs/adr/{name}: names are NNNN-words.md");
        let text = fs::read_to_string(directory.join(&name))?;
        let Some(title) = text.lines().next().and_then(|line| line.strip_prefix("# ")) else {
            bail!("docs/adr/{name} does not begin with its title");
        };
        writeln!(list, "- [{title}]({name})")?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_is_replaced_between_its_marks_only() {
        let text = "a\n<!-- generated: x -->\nold\n<!-- end: x -->\nb\n";
        let once = replaced(text, "x", "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- generated: x -->\n\nnew\n\n<!-- end: x -->\nb\n"
        );
        assert_eq!(replaced(&once, "x", "new\n").unwrap(), once);
        assert!(
            replaced("a", "x", "")
                .unwrap_err()
                .to_string()
                .contains("is missing")
        );
    }

    #[test]
    fn purpose_is_the_first_sentence() {
        let text =
            "//! Decides which devices\n//! are present. In: time.\n//!\n//! More.\nuse x;\n";
        assert_eq!(purpose(text).unwrap(), "Decides which devices are present");
        assert_eq!(purpose("//! Whole line.\n").unwrap(), "Whole line");
        assert_eq!(purpose("use x;\n"), None);
    }

    #[test]
    fn files_that_hold_only_tests_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("core/src");
        fs::create_dir_all(source.join("topic/tests")).unwrap();
        for name in [
            "lib.rs",
            "lib_tests.rs",
            "topic/mod.rs",
            "topic/tests.rs",
            "topic/tests/a.rs",
        ] {
            fs::write(source.join(name), "//! What for.\n").unwrap();
        }
        assert_eq!(
            code_map(root.path()).unwrap(),
            "| `core/src` | |\n| --- | --- |\n| `lib.rs` | What for |\n| `topic/mod.rs` | What for |\n"
        );
        fs::write(source.join("topic/tree.rs"), "use x;\n").unwrap();
        let error = code_map(root.path()).unwrap_err().to_string();
        assert_eq!(
            error,
            "core/src/topic/tree.rs does not say in `//!` what it is for"
        );
    }

    #[test]
    fn decisions_are_listed_by_number_and_title() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("docs/adr");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("0002-store.md"), "# The store\n").unwrap();
        fs::write(directory.join("0001-client.md"), "# The client\n").unwrap();
        fs::write(directory.join("README.md"), "# Decisions\n").unwrap();
        assert_eq!(
            decisions(root.path()).unwrap(),
            "- [The client](0001-client.md)\n- [The store](0002-store.md)\n"
        );
        fs::write(directory.join("store.md"), "# x\n").unwrap();
        assert!(decisions(root.path()).is_err());
    }
}
