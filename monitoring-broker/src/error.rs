//! Why a monitor could not do something. In: what its parts say. Out: one enum, and the end of a process that it means.

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_runtime::files::FileError;
use akri_mqtt_runtime::usage;

use crate::store::StoreError;

/// Why a monitor could not do something.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The certificate or the tokens of the ports cannot be used.
    #[error(transparent)]
    Access(#[from] FileError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory cannot be written.
    #[error("cannot write the data directory: {0}")]
    Io(#[from] std::io::Error),
    /// The session of the device has ended.
    #[error("the session of {0} has ended")]
    Ended(DeviceId),
}

impl MonitorError {
    /// As the end of a process: what the files of flags hold, and a directory that is taken, are matters of usage.
    #[must_use]
    pub fn or_usage(self) -> anyhow::Error {
        match self {
            Self::Access(error) => usage(error).into(),
            Self::Store(error @ StoreError::Locked(_)) => {
                usage(format!("--data-dir: {error}")).into()
            }
            error => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_runtime::exit;

    use super::*;

    #[test]
    fn a_directory_that_is_in_use_is_a_matter_of_usage() {
        let locked = MonitorError::Store(StoreError::Locked("data".into())).or_usage();
        assert_eq!(exit::code_of(&locked), exit::USAGE);
        let said = "--data-dir: data is in use by another process";
        assert_eq!(locked.to_string(), said);
        let failed = MonitorError::Store(StoreError::Closed).or_usage();
        assert_eq!(exit::code_of(&failed), exit::FAILED);
    }
}
