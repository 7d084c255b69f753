//! A directory as Kubernetes mounts a Secret: files behind links, swapped all at once. In: names and values.
//! Out: its path.

use std::os::unix::fs::symlink;
use std::path::Path;

/// A mounted Secret that exists for one test.
pub struct MountedSecret {
    directory: tempfile::TempDir,
    version: usize,
}

impl MountedSecret {
    /// Mounts these values.
    ///
    /// # Panics
    /// When it cannot be written.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn new(values: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut secret = Self {
            directory,
            version: 0,
        };
        secret.swap(values);
        for (name, _) in values {
            let link = secret.path().join(name);
            symlink(Path::new("..data").join(name), link).expect("a link can be made");
        }
        secret
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// New values for the same names, visible at one moment.
    ///
    /// # Panics
    /// When they cannot be written.
    #[allow(clippy::expect_used)]
    pub fn swap(&mut self, values: &[(&str, &str)]) {
        self.version += 1;
        let version = format!("..v{}", self.version);
        let directory = self.path().join(&version);
        std::fs::create_dir(&directory).expect("a directory can be made");
        for (name, value) in values {
            std::fs::write(directory.join(name), value).expect("a file can be written");
        }
        let link = self.path().join("..data_tmp");
        symlink(version, &link).expect("a link can be made");
        std::fs::rename(link, self.path().join("..data")).expect("a link can be swapped");
    }
}
