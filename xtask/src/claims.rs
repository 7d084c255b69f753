//! The invariants of ARCHITECTURE.md and their tests. In: the document and the sources. Out: the
//! invariants without a test, and the names of tests that are not there (any more).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Checks that each invariant names tests and that these exist.
pub fn check(root: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let mut known = BTreeSet::new();
    functions(root, &mut known)?;
    let claims = claims(&text);
    let faults = faults(&claims, &known);
    if faults.is_empty() && !claims.is_empty() {
        return Ok(format!("{} invariants", claims.len()));
    }
    for fault in &faults {
        eprintln!("ARCHITECTURE.md: {fault}");
    }
    bail!(
        "{} of {} invariants are not shown by a test",
        faults.len(),
        claims.len()
    )
}

/// An invariant's number and the tests that it names.
type Claim = (String, Vec<String>);

/// The numbered items of the section "Invariants", with what stands in backticks after `Tests:`.
fn claims(text: &str) -> Vec<Claim> {
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with("Invariants"))
        .unwrap_or_default();
    let mut claims: Vec<(String, String)> = Vec::new();
    for line in section.lines() {
        match line.split_once(". **") {
            Some((number, _)) if number.chars().all(|c| c.is_ascii_digit()) => {
                claims.push((number.to_owned(), line.to_owned()));
            }
            _ => {
                if let Some((_, item)) = claims.last_mut() {
                    item.push('\n');
                    item.push_str(line);
                }
            }
        }
    }
    claims
        .into_iter()
        .map(|(number, item)| {
            let tests = item.split_once("Tests:").map_or("", |(_, tests)| tests);
            // Every second part lies between two backticks.
            let names = tests.split('`').skip(1).step_by(2).map(str::to_owned);
            (number, names.collect())
        })
        .collect()
}

fn faults(claims: &[Claim], known: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, tests) in claims {
        if tests.is_empty() {
            faults.push(format!("invariant {number} names no test"));
        }
        for test in tests.iter().filter(|test| !known.contains(*test)) {
            faults.push(format!("invariant {number}: there is no test {test}"));
        }
    }
    faults
}

/// The names of all functions without parameters in the Rust files of the workspace's crates.
fn functions(directory: &Path, known: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                functions(&path, known)?;
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path)?;
            let names = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split_once("()"));
            known.extend(
                names
                    .map(|(name, _)| name)
                    .filter(|name| is_name(name))
                    .map(str::to_owned),
            );
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A\n\n## Invariants\n\n1. **One.** Holds.\n   Tests: `a_holds`,\n   `b_holds`\n2. **Two** `code`.\n\n## Next\n\n3. **No.** Tests: `c`\n";

    #[test]
    fn claims_are_read_from_their_section_only() {
        let expected = [
            (
                "1".to_owned(),
                vec!["a_holds".to_owned(), "b_holds".to_owned()],
            ),
            ("2".to_owned(), vec![]),
        ];
        assert_eq!(claims(TEXT), expected);
    }

    #[test]
    fn invariant_without_a_test_and_test_that_is_gone_are_faults() {
        let known = BTreeSet::from(["a_holds".to_owned()]);
        assert_eq!(
            faults(&claims(TEXT), &known),
            [
                "invariant 1: there is no test b_holds",
                "invariant 2 names no test"
            ]
        );
    }

    #[test]
    fn tests_are_found_below_every_directory_but_target() {
        let root = tempfile::tempdir().unwrap();
        for (path, name) in [
            ("core/src", "seen"),
            ("target/x", "built"),
            (".git", "hidden"),
        ] {
            fs::create_dir_all(root.path().join(path)).unwrap();
            let text = format!("//! x\nasync fn {name}() {{}}\nfn other(a: u8) {{}}\n");
            fs::write(root.path().join(path).join("a.rs"), text).unwrap();
        }
        let mut known = BTreeSet::new();
        functions(root.path(), &mut known).unwrap();
        assert_eq!(known, BTreeSet::from(["seen".to_owned()]));
    }
}
