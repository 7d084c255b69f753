//! Why a request was not answered; each front maps it to its own codes.

use crate::store::StoreError;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// A field of the request is wrong.
    #[error("{field}: {why}")]
    Invalid {
        /// Its name.
        field: &'static str,
        /// What was found and what is allowed.
        why: String,
    },
    /// There is no such device.
    #[error("there is no device {0:?}; GET /v1/devices or ListDevices has the known ones")]
    UnknownDevice(String),
    /// Too many streams are open.
    #[error("{0} streams are open, more are not allowed; close one or try again later")]
    TooManyStreams(usize),
    /// Publishing is off.
    #[error("publishing is off")]
    PublishingIsOff,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError {
    /// A wrong field.
    pub fn invalid(field: &'static str, why: impl ToString) -> Self {
        Self::Invalid {
            field,
            why: why.to_string(),
        }
    }
}
