//! Files that are one thing together and may change at any time, such as a mounted Secret. In: paths, and how to read
//! their contents. Out: what they mean, at the start and after each change, or why they mean nothing.
//! Contents are compared, not times: Kubernetes swaps a symlink.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::shutdown::Shutdown;

/// How often files are looked at. They are small, and a Secret takes up to a minute to arrive in a pod anyway.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// More is not read: certificates and tokens are small.
const FILE_BYTES: u64 = 1 << 20;

/// Why files mean nothing. Their contents are not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        why: String,
    },
    /// They can be read, and are wrong.
    #[error("{paths}: {why}")]
    Wrong {
        /// The files.
        paths: String,
        /// What is wrong.
        why: String,
    },
}

type Contents = Vec<Vec<u8>>;
type Meaning<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send>;

/// See the module.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    meaning: Meaning<T>,
    seen: Result<Contents, FileError>,
}

impl<T> Watched<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// A file cannot be read or is too large, or `meaning` finds them wrong.
    pub fn open(
        paths: Vec<PathBuf>,
        meaning: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + 'static,
    ) -> Result<(Self, T), FileError> {
        let contents = read(&paths)?;
        let watched = Self {
            paths,
            meaning: Box::new(meaning),
            seen: Ok(contents.clone()),
        };
        let first = watched.understand(&contents)?;
        Ok((watched, first))
    }

    /// Looks at the files until the shutdown. `changed` gets what they mean now, or why they mean nothing, once for each
    /// change.
    pub async fn run(
        mut self,
        shutdown: Shutdown,
        mut changed: impl FnMut(Result<T, FileError>) + Send,
    ) where
        T: Send,
    {
        loop {
            tokio::select! {
                () = shutdown.triggered() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let paths = self.paths.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || read(&paths)).await else {
                // The runtime stops.
                return;
            };
            if now != self.seen {
                let meaning = match &now {
                    Ok(contents) => self.understand(contents),
                    Err(error) => Err(error.clone()),
                };
                self.seen = now;
                changed(meaning);
            }
        }
    }

    fn understand(&self, contents: &[Vec<u8>]) -> Result<T, FileError> {
        (self.meaning)(contents).map_err(|why| {
            let paths: Vec<_> = self.paths.iter().map(|path| path.display()).collect();
            let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
            FileError::Wrong {
                paths: paths.join(", "),
                why,
            }
        })
    }
}

fn read(paths: &[PathBuf]) -> Result<Contents, FileError> {
    paths.iter().map(|path| read_one(path)).collect()
}

pub(crate) fn read_one(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |why: String| FileError::Unreadable {
        path: path.display().to_string(),
        why,
    };
    let mut contents = Vec::new();
    let metadata = path
        .metadata()
        .map_err(|error| unreadable(error.to_string()))?;
    // To open a pipe would already wait for its other end.
    if !metadata.is_file() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut file = file.take(FILE_BYTES + 1);
    let read = file.read_to_end(&mut contents);
    read.map_err(|error| unreadable(error.to_string()))?;
    if u64::try_from(contents.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        let why = format!("it is larger than {FILE_BYTES} bytes");
        return Err(unreadable(why));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn text(contents: &[Vec<u8>]) -> Result<String, String> {
        let text = String::from_utf8_lossy(&contents.concat()).into_owned();
        match text.as_str() {
            "wrong" => Err("it is wrong".to_owned()),
            _ => Ok(text),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_by_symlink_is_seen_once_and_a_wrong_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let point = |name: &str, contents: &str| {
            std::fs::write(directory.path().join(name), contents).unwrap();
            let link = directory.path().join("new");
            std::os::unix::fs::symlink(name, &link).unwrap();
            std::fs::rename(link, &path).unwrap();
        };
        point("1", "first");
        let (watched, first) = Watched::open(vec![path.clone()], text).unwrap();
        assert_eq!(first, "first");
        let (sender, mut changes) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new();
        let task = tokio::spawn(watched.run(shutdown.clone(), move |now| {
            sender.send(now.map_err(|error| error.to_string())).unwrap();
        }));
        point("2", "second");
        assert_eq!(changes.recv().await.unwrap().unwrap(), "second");
        point("3", "wrong");
        let error = changes.recv().await.unwrap().unwrap_err();
        assert_eq!(error, format!("{}: it is wrong", path.display()));
        std::fs::remove_file(&path).unwrap();
        let error = changes.recv().await.unwrap().unwrap_err();
        assert!(error.contains("No such file"), "{error}");
        tokio::time::sleep(LOOK_EVERY * 5).await;
        assert!(changes.try_recv().is_err());
        shutdown.trigger();
        task.await.unwrap();
    }

    #[test]
    fn what_is_no_small_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = Watched::open(vec![directory.path().to_owned()], text).err();
        assert!(error.unwrap().to_string().ends_with("it is not a file"));
        let large = directory.path().join("large");
        std::fs::write(&large, vec![b'a'; (1 << 20) + 1]).unwrap();
        let error = Watched::open(vec![large], text).err();
        assert!(error.unwrap().to_string().contains("larger than 1048576"));
    }
}
