//! Why a request was not answered. In: what the service found. Out: one enum; each front maps it to its own codes.

use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::talk::CommandError;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ServiceError {
    /// A field of the request is wrong.
    #[error("{field}: {why}")]
    Invalid {
        /// Its name, as the front calls it.
        field: String,
        /// What was found and what is allowed.
        why: String,
    },
    /// There is no such device.
    #[error("there is no device {0:?}; the list of devices has the known ones")]
    UnknownDevice(String),
    /// Too many streams are open.
    #[error("{0} streams are open, more are not allowed; close one or try again later")]
    TooManyStreams(usize),
    /// Publishing is off.
    #[error("publishing is off; --allow-publish FILTER switches it on for some topics")]
    PublishingIsOff,
    /// A command was not carried out.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another member of the pool, which has to answer, did not.
    #[error("{0}")]
    Unreachable(String),
}

impl ServiceError {
    /// A wrong field.
    pub fn invalid(field: impl Into<String>, why: impl ToString) -> Self {
        Self::Invalid {
            field: field.into(),
            why: why.to_string(),
        }
    }

    /// There is no such device; an id of any length came from outside, so only its start is repeated.
    pub fn unknown_device(id: &str) -> Self {
        Self::UnknownDevice(shorten(id))
    }
}

/// What is repeated of something that came from outside.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 200;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
