//! Holds YAML against a JSON schema, with the place of each fault: unknown fields, wrong types, missing fields.
//! In: nodes and schemas that are made from Akri's and Kubernetes' own types. Out: faults.
//! Knows the few keywords that those schemas use; conditions between fields are checked in `read`.

use akri_mqtt_core::yaml::{Kind, Node, Position};
use serde_json::Value;

/// After so many faults of one Configuration nobody reads on.
const MAX_FAULTS: usize = 100;
/// Field lists in messages stay readable up to this length.
const MAX_LISTED: usize = 12;

/// A fault and its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub at: Position,
    /// What, with the field's path.
    pub message: String,
}

/// Compares nodes with one schema and collects what does not fit.
pub struct Checker<'a> {
    root: &'a Value,
    found: &'a mut Vec<Found>,
}

impl<'a> Checker<'a> {
    /// A checker for a schema, whose `$defs` are used for references.
    pub fn new(root: &'a Value, found: &'a mut Vec<Found>) -> Self {
        Self { root, found }
    }

    /// Compares `node`, which stands at the dotted `path`, with the schema.
    pub fn check(&mut self, node: &Node, path: &str) {
        let root = self.root;
        self.value(node, root, path);
    }

    fn value(&mut self, node: &Node, schema: &'a Value, path: &str) {
        let schema = self.resolve(schema);
        let marked = |keyword: &str| schema.get(keyword).and_then(Value::as_bool) == Some(true);
        if self.found.len() >= MAX_FAULTS || matches!(node.kind, Kind::Refused) {
            return;
        }
        if marked("x-kubernetes-int-or-string") {
            if node.text().is_none() {
                self.wrong(node, path, "a number or a text");
            }
            return;
        }
        let open = marked("x-kubernetes-preserve-unknown-fields");
        match schema.get("type").and_then(Value::as_str) {
            Some("object") if open && matches!(node.kind, Kind::Mapping(_)) => {}
            Some("object") if open => self.wrong(node, path, "a map"),
            Some("object") => self.object(node, schema, path),
            Some("array") => self.array(node, schema, path),
            Some("string") if !is_text(node) => self.wrong(node, path, "a text"),
            Some("boolean") if node.boolean().is_none() => self.wrong(node, path, "true or false"),
            Some("number") if node.number().is_none() => self.wrong(node, path, "a number"),
            Some("integer") => self.integer(node, schema, path),
            _ => {}
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let Some(name) = schema.get("$ref").and_then(Value::as_str) else {
            return schema;
        };
        let name = name.trim_start_matches("#/$defs/");
        self.root
            .get("$defs")
            .and_then(|definitions| definitions.get(name))
            .unwrap_or(schema)
    }

    fn object(&mut self, node: &Node, schema: &'a Value, path: &str) {
        let Kind::Mapping(entries) = &node.kind else {
            return self.wrong(node, path, "a map");
        };
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|s| s.is_object());
        for entry in entries {
            let place = join(path, &entry.key);
            let known = properties.and_then(|all| all.get(&entry.key)).or(others);
            match known {
                // Kubernetes takes a null for a field that is left out.
                Some(_) if entry.value.is_null() && !required.contains(&entry.key.as_str()) => {}
                Some(known) => self.value(&entry.value, known, &place),
                None => {
                    let names = properties.map(|all| all.keys().map(String::as_str).collect());
                    let message = unknown(&place, &entry.key, names.unwrap_or_default());
                    self.add(entry.at, message);
                }
            }
        }
        for name in required {
            if node.get(name).is_none() {
                self.add(node.at, format!("{}: missing", join(path, name)));
            }
        }
    }

    fn array(&mut self, node: &Node, schema: &'a Value, path: &str) {
        let Some(elements) = node.elements() else {
            return self.wrong(node, path, "a list");
        };
        let Some(schema) = schema.get("items") else {
            return;
        };
        for (index, element) in elements.iter().enumerate() {
            self.value(element, schema, &format!("{path}[{index}]"));
        }
    }

    fn integer(&mut self, node: &Node, schema: &Value, path: &str) {
        let format = schema.get("format").and_then(Value::as_str);
        let (least, most) = match format {
            Some("uint32") => (0, i64::from(u32::MAX)),
            Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        let number = node.number().and_then(|text| text.parse::<i64>().ok());
        match number {
            Some(number) if (least..=most).contains(&number) => {}
            Some(_) => self.wrong(
                node,
                path,
                &format!("a whole number from {least} to {most}"),
            ),
            None => self.wrong(node, path, "a whole number"),
        }
    }

    fn wrong(&mut self, node: &Node, path: &str, wanted: &str) {
        let found = describe(node);
        let hint = if wanted == "a text" && node.text().is_some() && !node.is_null() {
            "; put it in quotes"
        } else {
            ""
        };
        self.add(
            node.at,
            format!("{path}: found {found}, allowed is {wanted}{hint}"),
        );
    }

    fn add(&mut self, at: Position, message: String) {
        self.found.push(Found { at, message });
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Whether YAML and so Kubernetes take this scalar for a text.
fn is_text(node: &Node) -> bool {
    node.text().is_some() && !node.is_null() && node.boolean().is_none() && node.number().is_none()
}

/// A value in a message, cut to a length that is still read.
pub fn describe(node: &Node) -> String {
    match &node.kind {
        Kind::Mapping(_) => "a map".to_owned(),
        Kind::Sequence(_) => "a list".to_owned(),
        Kind::Refused => "something that is not allowed".to_owned(),
        Kind::Scalar { .. } if node.is_null() => "nothing".to_owned(),
        Kind::Scalar { text, .. } => match (node.number(), node.boolean()) {
            (None, None) => format!("{:?}", crate::output::printable(text, 40)),
            _ => text.clone(),
        },
    }
}

/// The message about an unknown field, with the name that was probably meant.
pub fn unknown(path: &str, key: &str, mut names: Vec<&str>) -> String {
    names.sort_unstable();
    let lower = key.to_ascii_lowercase();
    let near = names
        .iter()
        .map(|name| {
            let other = name.to_ascii_lowercase();
            // Of two that are as near, the one that begins like it: few mistype the first letter.
            let elsewhere = other.chars().next() != lower.chars().next();
            (distance(&other, &lower), elsewhere, name)
        })
        .min();
    let hint = match near {
        Some((0..=2, _, name)) => format!("; did you mean {name}?"),
        None => String::new(),
        Some(_) if names.len() <= MAX_LISTED => format!("; allowed are {}", names.join(", ")),
        Some(_) => "; it is none of the fields that Akri knows here".to_owned(),
    };
    format!("{path}: unknown field, which Akri's webhook refuses{hint}")
}

/// How many characters have to be added, removed or exchanged (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // Only small distances matter, and field names are short; a long key is no misspelt field.
    if a.len().abs_diff(b.len()) > 2 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let next = row.iter().skip(1).zip(b.chars()).map(|(above, y)| {
            let cost = (diagonal + usize::from(x != y))
                .min(left + 1)
                .min(above + 1);
            diagonal = *above;
            left = cost;
            cost
        });
        row = std::iter::once(i + 1)
            .chain(next.collect::<Vec<_>>())
            .collect();
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, wanted) in [
            ("name", "name", 0),
            ("name", "nam", 1),
            ("name", "mane", 2),
            ("kitten", "sitting", 3),
            ("", "ab", 2),
        ] {
            assert_eq!(distance(a, b), wanted, "{a} {b}");
        }
    }
}
