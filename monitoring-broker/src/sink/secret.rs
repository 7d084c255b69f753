//! Passwords and tokens. In: a URL or a file. Out: a text that only whoever presents it can see.

use std::fmt;
use std::path::PathBuf;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A password or token: given, or in a file that is read at each connect, so that it can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// In the URL.
    Given(Secret),
    /// In a file; white space at its end does not count.
    File(PathBuf),
}

impl Credential {
    /// The text, as it is now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(Secret::new(text.trim_end().to_owned()))
            }
        }
    }
}
