//! Reads JSON (RFC 8259) into readings in one pass. In: a text. Out: its numbers, booleans and
//! strings by JSON pointer. There is no recursion and no tree: what is kept is the path and the readings. Numbers
//! are taken from the text, because a general parser would already have rounded them.

use std::fmt::Write;

use super::{DecodeError, Decoded, MAX_DEPTH, MAX_NAME, MAX_READINGS, PayloadKind, Value, number};

/// Reads a whole document.
pub(super) fn read(text: &str) -> Result<Decoded, DecodeError> {
    let mut reader = Reader {
        text,
        at: 0,
        path: String::new(),
        open: Vec::new(),
        readings: Vec::new(),
        cut: 0,
    };
    reader.document()?;
    let mut readings = reader.readings;
    sort_last_wins(&mut readings);
    Ok(Decoded {
        readings,
        units: Vec::new(),
        cut: reader.cut,
        error: None,
        kind: PayloadKind::Json,
    })
}

/// Sorts by name; of equal names the last one stays.
fn sort_last_wins(readings: &mut Vec<(Box<str>, Value)>) {
    readings.sort_by(|a, b| a.0.cmp(&b.0));
    readings.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}

/// An array or object that is not closed yet.
struct Open {
    /// The length of the path outside of it.
    outside: usize,
    /// Which element of an array is being read; `None` in an object.
    element: Option<usize>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    path: String,
    open: Vec<Open>,
    readings: Vec<(Box<str>, Value)>,
    cut: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(), DecodeError> {
        loop {
            // Here a value begins; if it is a container that is not empty, so does its first one.
            if self.value()? {
                continue;
            }
            // Here a value has ended, and maybe with it those that it stands in.
            if self.go_on()? {
                return Ok(());
            }
        }
    }

    /// Reads a value; true if it has opened a container and the next value is inside.
    fn value(&mut self) -> Result<bool, DecodeError> {
        self.space();
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                self.enter(None, b'}')
            }
            Some(b'[') => {
                self.at += 1;
                self.enter(Some(0), b']')
            }
            Some(b'"') => {
                let value = self.string()?;
                self.keep(|| Value::Text(value.into()));
                Ok(false)
            }
            Some(b'-' | b'0'..=b'9') => {
                let digits = self.number()?;
                self.keep(|| number::json(digits));
                Ok(false)
            }
            _ => self.word().map(|()| false),
        }
    }

    fn word(&mut self) -> Result<(), DecodeError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, value) in [
            ("true", Some(Value::Bool(true))),
            ("false", Some(Value::Bool(false))),
            ("null", None),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                if let Some(value) = value {
                    self.keep(|| value);
                }
                return Ok(());
            }
        }
        Err(self.wrong())
    }

    fn enter(&mut self, element: Option<usize>, end: u8) -> Result<bool, DecodeError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.space();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(false);
        }
        self.open.push(Open {
            outside: self.path.len(),
            element,
        });
        match element {
            Some(_) => self.path.push_str("/0"),
            None => self.key()?,
        }
        Ok(true)
    }

    /// Goes from the end of a value to the beginning of the next; true at the end of the document.
    fn go_on(&mut self) -> Result<bool, DecodeError> {
        loop {
            self.space();
            let Some(open) = self.open.last_mut() else {
                return if self.at == self.text.len() {
                    Ok(true)
                } else {
                    Err(self.wrong())
                };
            };
            let (outside, element) = (open.outside, open.element);
            let end = if element.is_some() { b']' } else { b'}' };
            self.path.truncate(outside);
            match self.text.as_bytes().get(self.at) {
                Some(b',') => {
                    self.at += 1;
                    let Some(element) = element else {
                        self.space();
                        self.key()?;
                        return Ok(false);
                    };
                    open.element = Some(element + 1);
                    self.path.push('/');
                    // Writing into a String cannot fail.
                    let _ = write!(self.path, "{}", element + 1);
                    return Ok(false);
                }
                Some(byte) if *byte == end => {
                    self.at += 1;
                    self.open.pop();
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    /// Reads a key and its colon, and appends the key to the path.
    fn key(&mut self) -> Result<(), DecodeError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong());
        }
        let key = self.string()?;
        self.path.push('/');
        for c in key.chars() {
            match c {
                '~' => self.path.push_str("~0"),
                '/' => self.path.push_str("~1"),
                c => self.path.push(c),
            }
        }
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a string; the caller has seen its opening quote.
    fn string(&mut self) -> Result<std::borrow::Cow<'a, str>, DecodeError> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    // What follows is checked below; here only a quote must not end the string.
                    self.at += 2;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.wrong()),
            }
        }
        self.at += 1;
        let text: &'a str = self.text;
        if escaped {
            let quoted = text.get(start..self.at).unwrap_or_default();
            return serde_json::from_str::<String>(quoted)
                .map(Into::into)
                .map_err(|_| DecodeError::NotJson(start));
        }
        let inner = text.get(start + 1..self.at - 1).unwrap_or_default();
        Ok(inner.into())
    }

    /// Reads a number (RFC 8259, section 6).
    fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text: &'a str = self.text;
        Ok(text.get(start..self.at).unwrap_or_default())
    }

    fn digits(&mut self) -> Result<(), DecodeError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.wrong());
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    /// Keeps a reading under the present path, if there is room; the last of a name counts, so a
    /// name that comes again when there is no room is counted like any other.
    fn keep(&mut self, value: impl FnOnce() -> Value) {
        if self.readings.len() < MAX_READINGS && self.path.len() <= MAX_NAME {
            self.readings.push((self.path.as_str().into(), value()));
        } else {
            self.cut += 1;
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self) -> DecodeError {
        DecodeError::NotJson(self.at.min(self.text.len()))
    }
}
