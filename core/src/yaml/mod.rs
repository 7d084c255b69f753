//! YAML as a tree in which every node knows its place. In: text. Out: nodes, and everything that
//! is refused, with line and column. What the nodes mean is left to `details`.
//!
//! The parser's events are bounded before anything is built of them: bytes, depth and documents.
//! Anchors, aliases, tags, merge keys and duplicate keys are refused, so that a small text cannot
//! become a large tree and nothing is said twice.

mod build;
pub mod manifest;
mod node;

pub use node::{Entry, Kind, Node, Style};

/// A place in a text; both numbers start at 1 and columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// Something that is refused, at its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", at.line, at.column)]
pub struct Problem {
    /// Where it stands.
    pub at: Position,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// How much YAML is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of the whole text.
    pub bytes: usize,
    /// Of lists and maps in one another.
    pub depth: usize,
    /// In the stream.
    pub documents: usize,
}

impl Bounds {
    /// Those of `discoveryDetails`.
    pub const DETAILS: Self = Self {
        bytes: 64 << 10,
        depth: 16,
        documents: 1,
    };
    /// Those of a file with Kubernetes manifests: pod templates nest deeper.
    pub const MANIFESTS: Self = Self {
        bytes: 1 << 20,
        depth: 64,
        documents: 1000,
    };
}

/// What a text holds: its documents, without those that are empty, and what was refused on the way.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// As far as they could be read.
    pub documents: Vec<Node>,
    /// In the order of the text.
    pub problems: Vec<Problem>,
}

/// Reads a stream of documents. Never panics, whatever the text.
#[must_use]
pub fn parse(text: &str, bounds: Bounds) -> Parsed {
    build::parse(text, bounds)
}

#[cfg(test)]
mod tests;
