//! The nodes of a YAML document. In: what the parser said. Out: values to look at.

use super::Position;

/// A value at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it starts.
    pub at: Position,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A single value.
    Scalar {
        /// Without quotes, escapes resolved.
        text: String,
        /// How it was written.
        style: Style,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map in the order of the text, without duplicates.
    Mapping(Vec<Entry>),
    /// Something that was refused and reported; whoever reads it passes over it.
    Refused,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: may be null, a boolean or a number.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// A literal block, `|`.
    Literal,
    /// A folded block, `>`.
    Folded,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key starts.
    pub at: Position,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The value of `key`, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The text of a scalar, whatever its style.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The elements of a list.
    #[must_use]
    pub fn elements(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::Sequence(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// Whether it is null: nothing, `~` or `null` without quotes (YAML 1.2, 10.3.2).
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.plain()
            .is_some_and(|text| matches!(text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The boolean that it is (YAML 1.2, 10.3.2).
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.plain()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// The text of a plain scalar that is a number (YAML 1.2, 10.3.2).
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        self.plain().filter(|text| is_number(text))
    }

    fn plain(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar {
                text,
                style: Style::Plain,
            } => Some(text),
            _ => None,
        }
    }

    /// The same value out of JSON, which has no places.
    #[must_use]
    pub fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        let scalar = |text: String, style| Kind::Scalar { text, style };
        let kind = match value {
            Value::Null => scalar(String::new(), Style::Plain),
            Value::Bool(value) => scalar(value.to_string(), Style::Plain),
            Value::Number(value) => scalar(value.to_string(), Style::Plain),
            Value::String(value) => scalar(value.clone(), Style::Quoted),
            Value::Array(values) => Kind::Sequence(values.iter().map(Self::from_json).collect()),
            Value::Object(map) => Kind::Mapping(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        at: Position::default(),
                        value: Self::from_json(value),
                    })
                    .collect(),
            ),
        };
        let at = Position::default();
        Self { at, kind }
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.parse::<f64>().is_ok()
}
