//! Standard output, written in one place. In: whole lines or frames. Out: bytes, at once.
//! A reader that has gone (`| head`) ends the program quietly: writing then says so, and nothing panics as `println!` would.

use std::io::{self, Write as _};

/// Whether the reader of standard output is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// It is, as far as can be told.
    Listening,
    /// It has closed its end.
    Gone,
}

/// Writes `text` and flushes.
///
/// # Errors
/// Any failure but a closed pipe, for example a full disk behind a redirection.
pub fn write(text: &str) -> io::Result<Reader> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error),
    }
}

/// Makes text from the network harmless on a terminal: control characters become their escapes, and what is longer than `width`
/// characters is cut with `…`.
pub fn printable(text: &str, width: usize) -> String {
    let escaped = text.chars().flat_map(|c| {
        let plain = (!c.is_control()).then_some(c);
        let escape = c.is_control().then(|| c.escape_default());
        plain.into_iter().chain(escape.into_iter().flatten())
    });
    // One more than fits, to know whether anything has to be cut: payloads can be large.
    let mut shown: Vec<char> = escaped.take(width.saturating_add(1)).collect();
    if shown.len() > width {
        shown.truncate(width.saturating_sub(1));
        shown.push('…');
    }
    shown.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_payload_never_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n", 80), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn long_text_is_cut_to_the_width() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcde…");
        assert_eq!(printable("äöüß", 3), "äö…");
        assert_eq!(printable("abc", 0), "…");
    }
}
