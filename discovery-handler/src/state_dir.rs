//! Files that outlive the process: rosters, the cluster id, client-id suffixes, slots.
//! In: names and bytes. Out: the same bytes later, also after a crash in the middle of a write.
//! What the bytes mean is left to those who write them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tracing::warn;

/// Largest file read back: a roster of 1,000,000 devices with ids of 256 bytes has some 340 MB.
const MAX_FILE: u64 = 512 * 1024 * 1024;
/// What is written at once.
const BLOCK: usize = 256 * 1024;

/// A directory of small files that are replaced as a whole.
#[derive(Clone, Debug)]
pub struct StateDir {
    /// `None`: nothing can be written, so nothing is kept.
    path: Option<PathBuf>,
}

impl StateDir {
    /// Opens a directory, making it when it is missing. One that cannot be written is a warning,
    /// and nothing is kept then.
    pub fn open(path: &Path) -> Self {
        match probe(path) {
            Ok(()) => Self {
                path: Some(path.to_owned()),
            },
            Err(error) => {
                warn!(path = %path.display(), %error, "state directory cannot be written; rosters live in memory");
                Self { path: None }
            }
        }
    }

    /// A directory that keeps nothing.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { path: None }
    }

    /// Whether anything is kept.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.path.is_some()
    }

    /// The bytes last written under a name, or `None`.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.path.as_ref()?.join(name);
        match read_bounded(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(path = %path.display(), %error, "state file cannot be read");
                None
            }
        }
    }

    /// Replaces a file so that a crash leaves either the old or the new bytes.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_with(name, |to| to.write_all(bytes))
    }

    /// The same with bytes that are made while they are written.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn replace_with(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(directory) = &self.path else {
            return Ok(());
        };
        let (file, temporary) = write_beside(directory, name, write)?;
        file.sync_all()?;
        std::fs::rename(&temporary, directory.join(name))?;
        File::open(directory)?.sync_all()
    }

    /// Replaces a file that only running processes read: not synced to the disk.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn replace_volatile(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let Some(directory) = &self.path else {
            return Ok(());
        };
        let (_, temporary) = write_beside(directory, name, |to| to.write_all(bytes))?;
        std::fs::rename(&temporary, directory.join(name))
    }

    /// A short text that was made once and is kept for all processes with this directory.
    #[must_use]
    pub fn kept(
        &self,
        name: &str,
        is_valid: impl Fn(&str) -> bool,
        fresh: impl FnOnce() -> String,
    ) -> String {
        // Two handlers that start at once on an empty directory must end up with the same.
        let _alone = self
            .lock_waiting(&format!("{name}.lock"))
            .inspect_err(|error| warn!(name, %error, "state directory cannot be locked"));
        let kept = self
            .read(name)
            .and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(kept) = kept.filter(|kept| is_valid(kept)) {
            return kept;
        }
        let fresh = fresh();
        if let Err(error) = self.replace(name, fresh.as_bytes()) {
            warn!(name, %error, "it cannot be kept, and will be another one at the next start");
        }
        fresh
    }

    /// Says that a file is still in use; a missing one is fine.
    pub fn touch(&self, name: &str) {
        if let Some(directory) = &self.path
            && let Ok(file) = OpenOptions::new().write(true).open(directory.join(name))
        {
            // At worst it looks older than it is.
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// Removes files whose names end in `suffix` and that nobody has written or touched for `keep`.
    pub fn prune(&self, suffix: &str, keep: Duration, now: SystemTime) {
        for (name, modified) in self.list(suffix) {
            if now.duration_since(modified).is_ok_and(|age| age > keep) {
                self.remove(&name);
            }
        }
    }

    /// Removes a file; a missing one is fine.
    pub fn remove(&self, name: &str) {
        if let Some(directory) = &self.path {
            // A file that is gone is what was asked for.
            let _ = std::fs::remove_file(directory.join(name));
        }
    }

    /// Moves a damaged file aside, so that it can be looked at and is not read again.
    pub fn set_aside(&self, name: &str, why: &dyn std::fmt::Display) {
        let Some(directory) = &self.path else {
            return;
        };
        let (from, to) = (
            directory.join(name),
            directory.join(format!("{name}.damaged")),
        );
        match std::fs::rename(&from, &to) {
            Ok(()) => {
                warn!(path = %from.display(), moved_to = %to.display(), %why, "damaged state file moved aside");
            }
            Err(error) => {
                warn!(path = %from.display(), %error, %why, "damaged state file cannot be moved aside");
            }
        }
    }

    /// Names that end in `suffix` with the time of their last change, newest first.
    #[must_use]
    pub fn list(&self, suffix: &str) -> Vec<(String, SystemTime)> {
        let entries = self
            .path
            .as_ref()
            .and_then(|path| std::fs::read_dir(path).ok());
        let mut found: Vec<(String, SystemTime)> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let modified = entry.metadata().ok()?.modified().ok()?;
                (name.ends_with(suffix) && !name.starts_with('.')).then_some((name, modified))
            })
            .collect();
        found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found
    }

    /// Takes the lock of a name, or `None` while another process holds it. The lock goes with the process.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let Some(directory) = &self.path else {
            return Ok(Some(Lock { _file: None }));
        };
        let file = private_file().open(directory.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Takes the lock of a name and waits for it: for what takes a moment only.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn lock_waiting(&self, name: &str) -> io::Result<Lock> {
        let Some(directory) = &self.path else {
            return Ok(Lock::default());
        };
        let file = private_file().open(directory.join(name))?;
        file.lock()?;
        Ok(Lock { _file: Some(file) })
    }
}

/// A held lock; dropping it, or dying, releases it.
#[derive(Debug, Default)]
pub struct Lock {
    _file: Option<File>,
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(0o600);
    options
}

/// Writes a new file next to the one that it will replace. A directory that was removed is made again.
fn write_beside(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<(File, PathBuf)> {
    let temporary = directory.join(format!(".{name}.new"));
    let open = || private_file().truncate(true).open(&temporary);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(directory)?;
            open()?
        }
        opened => opened?,
    };
    let mut writer = BufWriter::with_capacity(BLOCK, file);
    write(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    Ok((file, temporary))
}

fn probe(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let file = path.join(format!(".probe-{}", std::process::id()));
    private_file().open(&file)?;
    match std::fs::remove_file(&file) {
        // A sibling in another container has the same process id: it was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(io::Error::other(format!(
            "it has more than {MAX_FILE} bytes"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let state = StateDir::open(&path);
        state.replace("a.json", b"one").unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        state.replace("a.json", b"two").unwrap();
        assert_eq!(std::fs::read(path.join("a.json")).unwrap(), b"two");
    }

    #[test]
    fn what_was_written_is_read_back_and_leaves_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        state.replace("a.json", b"one").unwrap();
        state.replace("a.json", b"two").unwrap();
        assert_eq!(state.read("a.json"), Some(b"two".to_vec()));
        assert_eq!(state.read("b.json"), None);
        assert_eq!(state.list(".json").len(), 1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_made_keeps_nothing_and_fails_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let state = StateDir::open(&file.path().join("below-a-file"));
        assert!(!state.is_durable());
        state.replace("a", b"x").unwrap();
        assert_eq!(state.read("a"), None);
    }

    #[test]
    fn a_lock_is_held_by_one_and_released_when_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let held = state.lock("n-0.lock").unwrap();
        assert!(held.is_some());
        assert!(state.lock("n-0.lock").unwrap().is_none());
        drop(held);
        assert!(state.lock("n-0.lock").unwrap().is_some());
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        state.replace("a.json", b"{").unwrap();
        state.set_aside("a.json", &"cut short");
        assert_eq!(state.read("a.json"), None);
        assert_eq!(state.read("a.json.damaged"), Some(b"{".to_vec()));
    }

    #[test]
    fn processes_with_one_id_that_start_at_once_all_keep_their_state() {
        let directory = tempfile::tempdir().unwrap();
        let starts: Vec<_> = (0..16)
            .map(|_| {
                let path = directory.path().to_owned();
                std::thread::spawn(move || (0..50).all(|_| StateDir::open(&path).is_durable()))
            })
            .collect();
        let durable = starts.into_iter().map(|one| one.join().unwrap());
        assert_eq!(durable.filter(|durable| *durable).count(), 16);
    }
}
