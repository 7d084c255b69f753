//! The file of `--devices-file`: a list of devices, each by the variables that its pod would have. In: a path.
//! Out: the devices, again after every change, or each fault with line and column. What is done with them is
//! left to whoever looks.

mod parse;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use akri_mqtt_core::details::Fault;

use crate::source::Listed;
use parse::parse;

/// A larger file is refused: some 100,000 devices.
const MOST_BYTES: u64 = 32 << 20;
/// Faults that are shown; one mistake in a template makes many.
const SHOWN: usize = 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is too large.
    #[error("{}: it has {bytes} bytes, allowed are {MOST_BYTES}", path.display())]
    Large {
        /// The file.
        path: PathBuf,
        /// What it has.
        bytes: u64,
    },
    /// It says something wrong.
    #[error("{}: {}", path.display(), shown(faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// All of it, in the order of the file.
        faults: Vec<Fault>,
    },
}

fn shown(faults: &[Fault]) -> String {
    let lines: Vec<_> = faults.iter().take(SHOWN).map(Fault::to_string).collect();
    let more = faults.len().saturating_sub(SHOWN);
    let rest = (more > 0).then(|| format!("\nand {more} more"));
    lines.join("\n") + &rest.unwrap_or_default()
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// A file that is looked at again and again.
#[derive(Debug)]
pub struct DevicesFile {
    path: PathBuf,
    /// What was read last; an error of reading counts as well, so that it is told once.
    read: Option<Stamp>,
    /// What the last look saw. A file is read when two looks see the same: a write in place is not caught halfway.
    seen: Option<Stamp>,
}

impl DevicesFile {
    /// Reads a file for the first time.
    ///
    /// # Errors
    /// When it cannot be read or is wrong.
    pub fn open(path: &Path) -> Result<(Self, Listed), FileError> {
        let mut file = Self {
            path: path.to_owned(),
            read: None,
            seen: None,
        };
        let stamp = Stamp::of(path).map_err(|error| file.failed(error))?;
        file.seen = Some(stamp.clone());
        let listed = file.take(stamp)?;
        Ok((file, listed))
    }

    /// What it says if it has changed and stands still; every fault once. Blocks while it reads.
    ///
    /// # Errors
    /// When it cannot be read or is wrong: what it said before stands.
    pub fn look(&mut self) -> Option<Result<Listed, FileError>> {
        let now = Stamp::of(&self.path);
        match now {
            Ok(now) if self.read.as_ref() == Some(&now) => None,
            Ok(now) if self.seen.as_ref() == Some(&now) => Some(self.take(now)),
            Ok(now) => {
                self.seen = Some(now);
                None
            }
            // In the middle of being replaced; told if it is still missing at the next look.
            Err(_) if self.seen.take().is_some() => None,
            Err(error) => self.read.take().map(|_| Err(self.failed(error))),
        }
    }

    fn take(&mut self, stamp: Stamp) -> Result<Listed, FileError> {
        let bytes = stamp.bytes;
        self.read = Some(stamp);
        if bytes > MOST_BYTES {
            let path = self.path.clone();
            return Err(FileError::Large { path, bytes });
        }
        let text = std::fs::read_to_string(&self.path).map_err(|error| self.failed(error))?;
        parse(&text).map_err(|faults| FileError::Faults {
            path: self.path.clone(),
            faults,
        })
    }

    fn failed(&self, error: io::Error) -> FileError {
        FileError::Io {
            path: self.path.clone(),
            error,
        }
    }
}

#[cfg(test)]
mod tests;
