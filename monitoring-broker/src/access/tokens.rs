//! The tokens of `--auth-token-file`. In: the file's content. Out: whether a token is one of them, in a time that
//! does not depend on how much of it is right. What was presented and what is allowed is never shown.

use std::fmt;

use blake2::{Blake2s256, Digest as _};
use subtle::{Choice, ConstantTimeEq as _};

/// Fewer characters could be guessed.
const LEAST_CHARACTERS: usize = 16;
/// More would not fit into a header together with other ones.
const MOST_CHARACTERS: usize = 4_096;
/// Each request is compared with all of them.
const MOST_TOKENS: usize = 100;

/// Hashes of the tokens: they have one length, and a memory dump does not tell what to present.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tokens(Vec<[u8; 32]>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Tokens {
    /// One token a line; empty lines and those that begin with `#` are left out.
    pub(super) fn read(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut hashes = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let (number, token) = (number + 1, line.trim());
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            let length = token.chars().count();
            if !(LEAST_CHARACTERS..=MOST_CHARACTERS).contains(&length) {
                return Err(format!(
                    "line {number}: found a token of {length} characters, allowed: {LEAST_CHARACTERS} to {MOST_CHARACTERS}"
                ));
            }
            if !token.chars().all(|c| c.is_ascii_graphic()) {
                return Err(format!(
                    "line {number}: found a token with a space or a character that is not ASCII, allowed: visible ASCII"
                ));
            }
            hashes.push(hash(token.as_bytes()));
        }
        match hashes.len() {
            0 => Err("found no token, allowed: one a line, comments begin with #".to_owned()),
            1..=MOST_TOKENS => Ok(Self(hashes)),
            found => Err(format!(
                "found {found} tokens, allowed: at most {MOST_TOKENS}"
            )),
        }
    }

    /// Whether `token` is one of them. All of them are looked at each time.
    pub(super) fn know(&self, token: &[u8]) -> bool {
        let presented = hash(token);
        let known = self.0.iter();
        let is_known = known.fold(Choice::from(0), |found, known| {
            found | known.ct_eq(&presented)
        });
        is_known.into()
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    Blake2s256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef";

    #[test]
    fn each_line_is_a_token_and_comments_are_none() {
        let text = format!("# of the dashboard\r\n{GOOD}\r\n\n  fedcba9876543210  \n");
        let tokens = Tokens::read(text.as_bytes()).unwrap();
        assert!(tokens.know(GOOD.as_bytes()) && tokens.know(b"fedcba9876543210"));
        for wrong in [
            "",
            "# of the dashboard",
            "0123456789abcde",
            "0123456789abcdeF",
        ] {
            assert!(!tokens.know(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{tokens:?}"), "2 tokens");
    }

    #[test]
    fn a_file_that_protects_nothing_is_refused_without_repeating_it() {
        let many = format!("{GOOD}\n").repeat(101);
        for (text, message) in [
            (
                "",
                "found no token, allowed: one a line, comments begin with #",
            ),
            (
                "#x\n\n",
                "found no token, allowed: one a line, comments begin with #",
            ),
            (
                "#\nsecret-15-chars\n",
                "line 2: found a token of 15 characters, allowed: 16 to 4096",
            ),
            (
                "two words that are long",
                "line 1: found a token with a space or a character that is not ASCII, allowed: visible ASCII",
            ),
            (many.as_str(), "found 101 tokens, allowed: at most 100"),
        ] {
            assert_eq!(Tokens::read(text.as_bytes()).unwrap_err(), message);
        }
        assert_eq!(Tokens::read(b"\xff").unwrap_err(), "it is not UTF-8");
    }
}
