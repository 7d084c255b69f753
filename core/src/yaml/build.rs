//! Builds nodes out of the parser's events, within bounds. In: text. Out: documents and problems.

use std::collections::HashSet;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::{Bounds, Entry, Kind, Node, Parsed, Position, Problem, Style};

/// After this many problems the rest is not looked at.
const MAX_PROBLEMS: usize = 100;

pub(super) fn parse(text: &str, bounds: Bounds) -> Parsed {
    let mut builder = Builder {
        bounds,
        parsed: Parsed::default(),
        open: Vec::new(),
        documents: 0,
    };
    if text.len() > bounds.bytes {
        let at = position_of_byte(text, bounds.bytes);
        let message = format!(
            "the text has {} bytes; allowed are {}",
            text.len(),
            bounds.bytes
        );
        builder.parsed.problems.push(Problem { at, message });
        return builder.parsed;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if !builder.event(event, position(span.start)) {
                    break;
                }
            }
            Err(error) => {
                // The parser looks ahead and has a limit of its own, far beyond ours.
                let message = match error.info() {
                    "recursion limit exceeded" => builder.too_deep(),
                    info => format!("this is not YAML: {info}"),
                };
                builder.problem(position(*error.marker()), message);
                break;
            }
        }
    }
    builder.parsed
}

fn position(mark: Marker) -> Position {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: number(mark.line()).max(1),
        column: number(mark.col()).saturating_add(1),
    }
}

fn position_of_byte(text: &str, byte: usize) -> Position {
    let (mut line, mut column) = (1, 1);
    for (_, c) in text.char_indices().take_while(|(at, _)| *at < byte) {
        if c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    Position { line, column }
}

/// A list or map that is not closed yet.
enum Open {
    Sequence(Position, Vec<Node>),
    Mapping {
        at: Position,
        entries: Vec<Entry>,
        seen: HashSet<String>,
        key: Option<Key>,
    },
}

/// A key that waits for its value.
enum Key {
    Good(String, Position),
    /// Reported; its value is dropped.
    Refused,
}

struct Builder {
    bounds: Bounds,
    parsed: Parsed,
    open: Vec<Open>,
    documents: usize,
}

impl Builder {
    /// Takes an event; false when it makes no sense to go on.
    fn event(&mut self, event: Event<'_>, at: Position) -> bool {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => return self.document(at),
            Event::Alias(_) => {
                self.problem(
                    at,
                    "aliases (`*name`) are not allowed; write the value out".to_owned(),
                );
                self.add(Node {
                    at,
                    kind: Kind::Refused,
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                let text = text.into_owned();
                self.add(Node {
                    at,
                    kind: Kind::Scalar { text, style },
                });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                return self.push(Open::Sequence(at, Vec::new()), at);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                let mapping = Open::Mapping {
                    at,
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    key: None,
                };
                return self.push(mapping, at);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(at, nodes)) => self.add(Node {
                    at,
                    kind: Kind::Sequence(nodes),
                }),
                Some(Open::Mapping { at, entries, .. }) => self.add(Node {
                    at,
                    kind: Kind::Mapping(entries),
                }),
                None => {}
            },
        }
        self.parsed.problems.len() < MAX_PROBLEMS
    }

    fn document(&mut self, at: Position) -> bool {
        self.documents += 1;
        if self.documents <= self.bounds.documents {
            return true;
        }
        let message = match self.bounds.documents {
            1 => "a second document starts here; allowed is one".to_owned(),
            most => format!("one more document starts here; allowed are {most}"),
        };
        self.problem(at, message);
        false
    }

    fn push(&mut self, open: Open, at: Position) -> bool {
        if self.open.len() >= self.bounds.depth {
            let message = self.too_deep();
            self.problem(at, message);
            return false;
        }
        self.open.push(open);
        true
    }

    fn too_deep(&self) -> String {
        format!(
            "lists and maps are nested deeper than {}, which is the limit",
            self.bounds.depth
        )
    }

    /// Puts a complete node where it belongs.
    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            None => {
                if !node.is_null() {
                    self.parsed.documents.push(node);
                }
            }
            Some(Open::Sequence(_, nodes)) => nodes.push(node),
            Some(Open::Mapping {
                entries, seen, key, ..
            }) => match key.take() {
                None => {
                    let (good, problem) = as_key(node, seen, entries);
                    *key = Some(good);
                    if let Some((at, message)) = problem {
                        self.problem(at, message);
                    }
                }
                Some(Key::Good(key, at)) => entries.push(Entry {
                    key,
                    at,
                    value: node,
                }),
                Some(Key::Refused) => {}
            },
        }
    }

    fn refuse_extras(&mut self, at: Position, anchor: usize, tag: bool) {
        if anchor != 0 {
            self.problem(
                at,
                "anchors (`&name`) are not allowed; write the value out".to_owned(),
            );
        }
        if tag {
            self.problem(
                at,
                "tags (`!name`) are not allowed; leave it out".to_owned(),
            );
        }
    }

    fn problem(&mut self, at: Position, message: String) {
        self.parsed.problems.push(Problem { at, message });
    }
}

/// Makes a key of a node, or says why it is none.
fn as_key(
    node: Node,
    seen: &mut HashSet<String>,
    entries: &[Entry],
) -> (Key, Option<(Position, String)>) {
    let at = node.at;
    let refused = |message: String| (Key::Refused, Some((at, message)));
    let Kind::Scalar { text, style } = node.kind else {
        return refused("a key is a word, not a list, a map or an alias".to_owned());
    };
    if text == "<<" && style == Style::Plain {
        return refused("merge keys (`<<`) are not allowed; write the entries out".to_owned());
    }
    if text.is_empty() {
        return refused("a key is missing before the `:`".to_owned());
    }
    if !seen.insert(text.clone()) {
        let first = entries
            .iter()
            .find(|e| e.key == text)
            .map_or(0, |e| e.at.line);
        return refused(format!(
            "the key `{}` stands there twice, first in line {first}",
            shown(&text)
        ));
    }
    (Key::Good(text, at), None)
}

/// At most 40 characters of what was found.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
