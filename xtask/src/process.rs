//! Runs commands. In: a command. Out: success, or an error that shows the command line.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Runs it with our standard streams.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line_of(command);
    let status = command.status().with_context(|| line.clone())?;
    if status.success() {
        return Ok(());
    }
    bail!("{line}: {status}")
}

/// Runs it, passes its standard output on line by line, and shows each line to `look`.
pub fn run_watched(command: &mut Command, mut look: impl FnMut(&str)) -> anyhow::Result<()> {
    let line = line_of(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| line.clone())?;
    let output = child.stdout.take().context("no standard output")?;
    let mut own = std::io::stdout().lock();
    for text in BufReader::new(output).split(b'\n') {
        let text = text?;
        let text = String::from_utf8_lossy(&text);
        look(&text);
        writeln!(own, "{text}")?;
    }
    drop(own);
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    bail!("{line}: {status}")
}

/// Runs it and returns its standard output without the line's end.
pub fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let line = line_of(command);
    let output = command.output().with_context(|| line.clone())?;
    if !output.status.success() {
        bail!("{line}: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)
        .with_context(|| line)?
        .trim_end()
        .to_owned())
}

/// Where `program` is: on PATH, or where servers are installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|directory| directory.join(program))
        .find(|file| is_program(file))
}

/// Whether `file` is there to be run.
pub fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn line_of(command: &Command) -> String {
    let words: Vec<OsString> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsString::from)
        .collect();
    words
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_command_is_an_error_with_its_line() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh -c exit 3: exit status: 3");
    }

    #[test]
    fn output_is_seen_line_by_line() {
        let mut seen = Vec::new();
        run_watched(Command::new("sh").args(["-c", "echo a; echo b"]), |line| {
            seen.push(line.to_owned());
        })
        .unwrap();
        assert_eq!(seen, ["a", "b"]);
    }

    #[test]
    fn shell_is_found_and_nonsense_is_not() {
        assert!(find("sh").is_some());
        assert!(find("akri-mqtt-no-such-program").is_none());
    }
}
