//! The store's directory: the lock against a second process, small files replaced as a whole,
//! the reserve for a full disk, and moving aside what cannot be read.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::StoreError;

/// The database; SQLite keeps two files with suffixes beside it.
pub const DATABASE: &str = "store.db";
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
const RESERVE: &str = "reserve";
const DAMAGED: &str = "damaged";
/// A retention pass changes fewer than 100 pages of 4 KiB; this is five times as much.
pub const RESERVE_BYTES: usize = 2 << 20;

/// Makes the directory and locks it for as long as the file lives.
pub fn lock(directory: &Path) -> Result<File, StoreError> {
    fs::create_dir_all(directory).map_err(|error| io_error("make", directory, &error))?;
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| io_error("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path, &error)),
    }
}

/// Replaces a small file as a whole, durably.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Renames the database so that a new one can be made. Returns the new name.
pub fn move_aside(directory: &Path) -> Result<PathBuf, StoreError> {
    let base = (0..)
        .map(|number: u64| directory.join(format!("{DATABASE}.aside-{number}")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| directory.join(format!("{DATABASE}.aside")));
    for suffix in SUFFIXES {
        let from = with_suffix(&directory.join(DATABASE), suffix);
        let to = with_suffix(&base, suffix);
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("move aside", &from, &error)),
            Ok(()) => {}
        }
    }
    Ok(base)
}

/// Notes that the database is damaged, for the next start.
pub fn mark_damaged(directory: &Path, reason: &str) {
    if let Err(error) = replace(&directory.join(DAMAGED), reason.as_bytes()) {
        tracing::error!(%error, "the damage cannot be noted for the next start");
    }
}

/// Why the database was found damaged in an earlier run.
pub fn damage(directory: &Path) -> Option<String> {
    fs::read_to_string(directory.join(DAMAGED)).ok()
}

/// The damaged database is out of the way.
pub fn forget_damage(directory: &Path) {
    // Without it there was none.
    let _ = fs::remove_file(directory.join(DAMAGED));
}

/// The files of an open database, by which it is seen that somebody has taken them away: what is written then
/// is gone with the process, however successfully it was written.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// Device and number of the database and its log, as they were first seen.
    known: [Option<(u64, u64)>; 2],
}

impl Files {
    /// Of the database of a directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            known: [None; 2],
        }
    }

    /// Whether both are still the ones that were opened.
    pub fn check(&mut self) -> Result<(), StoreError> {
        for (suffix, known) in SUFFIXES.iter().zip(&mut self.known) {
            let path = with_suffix(&self.directory.join(DATABASE), suffix);
            let found = fs::metadata(&path).map_err(|error| io_error("find", &path, &error))?;
            let found = (found.dev(), found.ino());
            if *known.get_or_insert(found) != found {
                let path = path.display();
                return Err(StoreError::Io(format!(
                    "{path} was replaced by another file"
                )));
            }
        }
        Ok(())
    }
}

/// Bytes of the database with its log.
pub fn size(directory: &Path) -> u64 {
    SUFFIXES
        .iter()
        .filter_map(|suffix| fs::metadata(with_suffix(&directory.join(DATABASE), suffix)).ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Takes the room that a retention pass needs on a full disk. True if it is there.
pub fn take_reserve(directory: &Path) -> bool {
    let path = directory.join(RESERVE);
    let there = u64::try_from(RESERVE_BYTES).unwrap_or(u64::MAX);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == there) {
        return true;
    }
    let written = File::create(&path).and_then(|mut file| {
        for _ in 0..RESERVE_BYTES / 4096 {
            file.write_all(&[0; 4096])?;
        }
        file.sync_all()
    });
    if written.is_err() {
        release_reserve(directory);
    }
    written.is_ok()
}

/// Gives the reserve back.
pub fn release_reserve(directory: &Path) {
    // A reserve that is not there cannot be released; nothing else depends on it.
    let _ = fs::remove_file(directory.join(RESERVE));
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io(format!("cannot {what} {}: {error}", path.display()))
}
