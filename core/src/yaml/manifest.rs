//! Where the discoveryDetails of Configurations stand in a file of Kubernetes manifests, so that a
//! fault inside them gets the file's line and column. In: the file. Out: texts with their places.
//! Whether the rest of a manifest is right is left to whoever knows its schema.

use super::{Bounds, Kind, Node, Position, Problem, Style};

/// One `Configuration` of a file.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Where its document starts.
    pub at: Position,
    /// `metadata.name`
    pub name: Option<String>,
    /// `metadata.namespace`
    pub namespace: Option<String>,
    /// `spec.discoveryHandler.discoveryDetails`, if it is a text.
    pub details: Option<Embedded>,
    /// The whole document.
    pub document: Node,
}

/// A text inside a YAML file.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// What the scalar says.
    pub text: String,
    /// Where the scalar starts.
    pub at: Position,
    /// For a literal block: the place of the first column of each of its lines.
    lines: Option<Vec<Position>>,
}

/// The Configurations of a file, also those inside of a `List`, in its order.
///
/// # Errors
/// Everything that is not plain YAML.
pub fn configurations(file: &str) -> Result<Vec<Manifest>, Vec<Problem>> {
    let parsed = super::parse(file, Bounds::MANIFESTS);
    if !parsed.problems.is_empty() {
        return Err(parsed.problems);
    }
    let mut found = Vec::new();
    for document in parsed.documents {
        if let Some(items) = document.get("items").and_then(Node::elements) {
            found.extend(
                items
                    .iter()
                    .filter(|item| is_configuration(item))
                    .map(|item| manifest(file, item.clone())),
            );
        } else if is_configuration(&document) {
            found.push(manifest(file, document));
        }
    }
    Ok(found)
}

fn is_configuration(document: &Node) -> bool {
    let is = |key, wanted: &str| {
        document
            .get(key)
            .and_then(Node::text)
            .is_some_and(|text| text.starts_with(wanted))
    };
    document.get("kind").and_then(Node::text) == Some("Configuration")
        && is("apiVersion", "akri.sh/")
}

fn manifest(file: &str, document: Node) -> Manifest {
    let metadata = document.get("metadata");
    let field = |key| {
        metadata
            .and_then(|m| m.get(key))
            .and_then(Node::text)
            .map(str::to_owned)
    };
    let details = document
        .get("spec")
        .and_then(|spec| spec.get("discoveryHandler"))
        .and_then(|handler| handler.get("discoveryDetails"))
        .and_then(|scalar| Embedded::new(file, scalar));
    Manifest {
        at: document.at,
        name: field("name"),
        namespace: field("namespace"),
        details,
        document,
    }
}

impl Embedded {
    /// The text of `scalar`, a scalar of the YAML `file`.
    #[must_use]
    pub fn new(file: &str, scalar: &Node) -> Option<Self> {
        let Kind::Scalar { text, style } = &scalar.kind else {
            return None;
        };
        let lines = (*style == Style::Literal).then(|| line_starts(file, text, scalar.at));
        Some(Self {
            text: text.clone(),
            at: scalar.at,
            lines,
        })
    }

    /// Where the file has what the text has at `line` and `column`: exact in a literal block, the
    /// scalar's own place otherwise, because folding and escapes move what they hold.
    #[must_use]
    pub fn place(&self, line: u32, column: u32) -> Position {
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        match self
            .lines
            .as_ref()
            .and_then(|lines| lines.get(index).or(lines.last()))
        {
            Some(start) => Position {
                line: start.line,
                column: start.column.saturating_add(column.saturating_sub(1)),
            },
            None => self.at,
        }
    }
}

/// The place of each line of a literal block. The parser gives the first line that is not empty;
/// the empty ones before it are part of the text.
fn line_starts(file: &str, text: &str, first_full: Position) -> Vec<Position> {
    let empty = u32::try_from(text.chars().take_while(|c| *c == '\n').count()).unwrap_or(u32::MAX);
    let first = first_full.line.saturating_sub(empty);
    let skipped = usize::try_from(first.saturating_sub(1)).unwrap_or(usize::MAX);
    let of_file = file.lines().skip(skipped);
    let mut starts = Vec::new();
    for (number, (raw, content)) in (first..).zip(of_file.zip(text.lines())) {
        let indentation = raw.chars().count().saturating_sub(content.chars().count());
        let column = u32::try_from(indentation)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        starts.push(Position {
            line: number,
            column,
        });
    }
    starts
}
