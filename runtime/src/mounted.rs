//! The files of a directory that count by their names, such as a mounted Secret. In: the directory, and which names
//! count. Out: their contents at the start, and then whenever they have changed and come to rest: a file that is being
//! written, or one of several that is not there yet, is not taken. What they mean is left to those who read them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::files::{FileError, LOOK_EVERY, read_one};
use crate::shutdown::Shutdown;

/// A change is taken when it was read again, unchanged, after this time.
const REST: Duration = Duration::from_millis(500);
/// Files that count; a Secret has a handful.
const MAX_FILES: usize = 256;

/// Contents by file name.
pub type Contents = BTreeMap<String, Vec<u8>>;

/// Which names count.
pub type Counts = fn(&str) -> bool;

/// What is known of a directory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mounted {
    /// What was read last; it holds on while nothing can be read.
    pub contents: Arc<Contents>,
    /// Why the directory or one of its files cannot be read now.
    pub trouble: Option<String>,
}

/// Reads a directory now, and gives the task that keeps on reading it.
pub fn watch(
    directory: PathBuf,
    counts: Counts,
    shutdown: Shutdown,
) -> (
    watch::Receiver<Mounted>,
    impl Future<Output = anyhow::Result<()>> + Send,
) {
    let first = Mounted::default().after(read(&directory, counts));
    tell(&directory, &first);
    let (sender, receiver) = watch::channel(first);
    (receiver, follow(directory, counts, sender, shutdown))
}

async fn follow(
    directory: PathBuf,
    counts: Counts,
    sender: watch::Sender<Mounted>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut resting = Resting::default();
    loop {
        let pause = if resting.0.is_some() {
            REST
        } else {
            LOOK_EVERY
        };
        tokio::select! {
            () = shutdown.triggered() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        let path = directory.clone();
        let found = tokio::task::spawn_blocking(move || read(&path, counts)).await?;
        let known = sender.borrow().clone();
        if let Some(changed) = resting.take(known.after(found), &known) {
            tell(&directory, &changed);
            sender.send_replace(changed);
        }
    }
}

impl Mounted {
    fn after(&self, found: Result<Contents, FileError>) -> Self {
        match found {
            Ok(contents) => Self {
                contents: Arc::new(contents),
                trouble: None,
            },
            Err(error) => Self {
                contents: Arc::clone(&self.contents),
                trouble: Some(error.to_string()),
            },
        }
    }
}

/// What was read once and may still be changing.
#[derive(Default)]
struct Resting(Option<Mounted>);

impl Resting {
    /// Takes what was read, if it is new and was the same the last time.
    fn take(&mut self, now: Mounted, known: &Mounted) -> Option<Mounted> {
        let before = self.0.take();
        if now == *known {
            return None;
        }
        if before.as_ref() == Some(&now) {
            return before;
        }
        self.0 = Some(now);
        None
    }
}

fn tell(directory: &Path, now: &Mounted) {
    let directory = directory.display();
    match &now.trouble {
        None => info!(%directory, files = now.contents.len(), "mounted files were read"),
        Some(trouble) => {
            warn!(%directory, trouble, "mounted files cannot be read; what was read before holds");
        }
    }
}

fn read(directory: &Path, counts: Counts) -> Result<Contents, FileError> {
    let unreadable = |why: String| FileError::Unreadable {
        path: directory.display().to_string(),
        why,
    };
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(error.to_string()))?;
    let names: io::Result<Vec<_>> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    let names = names.map_err(|error| unreadable(error.to_string()))?;
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    let names: Vec<String> = names.filter(|name| counts(name)).collect();
    if names.len() > MAX_FILES {
        let why = format!("it has more than {MAX_FILES} files that count");
        return Err(unreadable(why));
    }
    let files = names.into_iter().map(|name| {
        let contents = read_one(&directory.join(&name))?;
        Ok((name, contents))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(name: &str) -> bool {
        name.starts_with("MQTT_")
    }

    fn holding(password: &str) -> Mounted {
        Mounted::default().after(Ok(Contents::from([(
            "MQTT_PASSWORD".to_owned(),
            password.as_bytes().to_vec(),
        )])))
    }

    #[test]
    fn what_changes_between_two_looks_is_not_taken() {
        let known = holding("old");
        let mut resting = Resting::default();
        assert!(resting.take(known.clone(), &known).is_none());
        for half in ["", "n", "ne"] {
            assert!(resting.take(holding(half), &known).is_none());
        }
        assert!(resting.take(holding("new"), &known).is_none());
        assert!(resting.take(holding("new"), &known) == Some(holding("new")));
        // One that goes back to what is known was nothing.
        assert!(resting.take(holding("x"), &known).is_none());
        assert!(resting.take(known.clone(), &known).is_none());
        assert!(resting.take(holding("x"), &known).is_none());
    }

    #[test]
    fn a_swapped_link_of_a_mounted_secret_is_read_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for (version, password) in [("v1", "old"), ("v2", "new")] {
            std::fs::create_dir(path.join(version)).unwrap();
            std::fs::write(path.join(version).join("MQTT_PASSWORD"), password).unwrap();
        }
        std::fs::write(path.join("other"), "does not count").unwrap();
        std::os::unix::fs::symlink("v1", path.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/MQTT_PASSWORD", path.join("MQTT_PASSWORD")).unwrap();
        assert_eq!(read(path, any).unwrap(), *holding("old").contents);
        std::os::unix::fs::symlink("v2", path.join("..next")).unwrap();
        std::fs::rename(path.join("..next"), path.join("..data")).unwrap();
        assert_eq!(read(path, any).unwrap(), *holding("new").contents);
    }

    #[test]
    fn what_cannot_be_read_whole_leaves_what_was_read_before() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("secret");
        std::fs::create_dir(&path).unwrap();
        let file = path.join("MQTT_PASSWORD");
        std::fs::write(&file, "old").unwrap();
        let known = Mounted::default().after(read(&path, any));
        assert!(known == holding("old"));
        let still = |found: Result<Contents, FileError>, why: &str| {
            let now = known.after(found);
            assert_eq!(now.contents, known.contents);
            let trouble = now.trouble.unwrap_or_default();
            assert!(trouble.contains(why), "{trouble}");
        };
        std::fs::write(&file, vec![b'a'; (1 << 20) + 1]).unwrap();
        still(read(&path, any), "larger than");
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        still(read(&path, any), "MQTT_PASSWORD: No such file");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        still(read(&path, any), "it is not a file");
        std::fs::remove_dir(&file).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(pipe.unwrap().success());
        still(read(&path, any), "it is not a file");
        std::fs::remove_dir_all(&path).unwrap();
        still(read(&path, any), "secret: No such file");
    }
}
