//! The lines of a file, one in memory at a time. In: bytes. Out: lines of bounded length, and whether each is
//! whole. While a pipe has none, whoever waits for it can be interrupted.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use akri_mqtt_core::trace::MAX_LINE;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

/// Read at once: each time is some work in another thread.
const CHUNK: usize = 256 << 10;

/// Reads lines.
pub struct Lines {
    input: Box<dyn AsyncBufRead + Send + Unpin>,
    line: Vec<u8>,
    number: u64,
}

/// A line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What stands in it.
    pub bytes: &'a [u8],
    /// Whether it had an end; else whoever wrote it was interrupted.
    pub is_whole: bool,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = if path.as_os_str() == "-" {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::open(path)?
        };
        let file = tokio::fs::File::from_std(file);
        Ok(Self::new(BufReader::with_capacity(CHUNK, file)))
    }

    fn new(input: impl AsyncBufRead + Send + Unpin + 'static) -> Self {
        Self {
            input: Box::new(input),
            line: Vec::new(),
            number: 0,
        }
    }

    /// The next line; `None` at the end of the file.
    ///
    /// # Errors
    /// It cannot be read, or is longer than any line of a trace.
    pub async fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        self.number += 1;
        let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let mut input = (&mut self.input).take(most.saturating_add(1));
        input.read_until(b'\n', &mut self.line).await?;
        let is_whole = self.line.pop_if(|last| *last == b'\n').is_some();
        if self.line.len() > MAX_LINE {
            let (line, mebibytes) = (self.number, MAX_LINE >> 20);
            let what = format!("line {line}: it has more than {mebibytes} MiB");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let bytes = &*self.line;
        Ok((is_whole || !bytes.is_empty()).then_some(Line { bytes, is_whole }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_last_line_without_an_end_is_not_whole() {
        let mut lines = Lines::new(&b"a\n\nb"[..]);
        for (bytes, is_whole) in [(&b"a"[..], true), (b"", true), (b"b", false)] {
            assert_eq!(lines.next().await.unwrap(), Some(Line { bytes, is_whole }));
        }
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_without_end_does_not_fill_the_memory() {
        let mut lines = Lines::new(BufReader::new(tokio::io::repeat(b'x')));
        let error = lines.next().await.unwrap_err();
        assert_eq!(error.to_string(), "line 1: it has more than 64 MiB");
        assert!(lines.line.len() <= MAX_LINE + 1);
    }
}
