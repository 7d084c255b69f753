//! Who asks. In: two headers of a request. Out: what is passed on to other members, and whether this is one.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};

/// See the module.
#[derive(Clone, Default)]
pub struct Caller {
    /// `Authorization`, as it came.
    token: Option<MetadataValue<Ascii>>,
    /// The store that a member means to ask.
    store: Option<String>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Caller");
        debug.field("store", &self.store).finish_non_exhaustive()
    }
}

impl Caller {
    /// `token` is `Authorization`; `store` is what a member says with its requests. One that is no text is none.
    #[must_use]
    pub fn new(token: Option<&[u8]>, store: Option<&[u8]>) -> Self {
        let token = token.and_then(|token| MetadataValue::try_from(token).ok());
        let store = store.map(|store| String::from_utf8_lossy(store).into_owned());
        Self { token, store }
    }

    pub(super) fn token(&self) -> Option<&MetadataValue<Ascii>> {
        self.token.as_ref()
    }

    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let caller = Caller::new(Some(b"Bearer 0123456789abcdef"), Some(b"store-1"));
        assert_eq!(
            format!("{caller:?}"),
            "Caller { store: Some(\"store-1\"), .. }"
        );
        assert_eq!(caller.token().unwrap(), "Bearer 0123456789abcdef");
    }
}
