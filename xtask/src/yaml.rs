//! Writes JSON values as YAML in block style. In: a JSON value. Out: its text, the same for the
//! same value. Plain only where no YAML 1.1 or 1.2 reader could take the text for something else;
//! every other string is written as in JSON, which YAML reads alike.

use serde_json::Value;

/// The YAML document of `value`, with a line break at its end.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut text),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut text),
        leaf => {
            text.push_str(&scalar(leaf));
            text.push('\n');
        }
    }
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                indent(depth, text);
                entry(key, child, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(depth, text);
                text.push_str("- ");
                element(item, depth, text);
            }
        }
        leaf => text.push_str(&scalar(leaf)),
    }
}

fn entry(key: &str, child: &Value, depth: usize, text: &mut String) {
    text.push_str(&string(key));
    text.push(':');
    if is_block(child) {
        text.push('\n');
        // Lists stand below their key, as Kubernetes' own tools write them.
        let deeper = if child.is_array() { depth } else { depth + 1 };
        block(child, deeper, text);
    } else {
        text.push(' ');
        text.push_str(&scalar(child));
        text.push('\n');
    }
}

fn element(item: &Value, depth: usize, text: &mut String) {
    match item {
        Value::Object(map) if !map.is_empty() => {
            for (number, (key, child)) in map.iter().enumerate() {
                if number > 0 {
                    indent(depth + 1, text);
                }
                entry(key, child, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(item, depth + 1, text);
        }
        leaf => {
            text.push_str(&scalar(leaf));
            text.push('\n');
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

fn string(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

/// Words, paths and names that begin with a letter or a dot before a letter, and are no word that
/// some YAML version reads as a boolean, a null or a number.
fn is_plain(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "inf", "nan",
    ];
    let rest = text.strip_prefix('.').unwrap_or(text);
    let starts = rest.starts_with(|c: char| c.is_ascii_alphabetic());
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_./ ,()'`".contains(c);
    starts
        && text.chars().all(inside)
        && !text.ends_with(' ')
        && !WORDS.contains(&rest.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use saphyr_parser::{Event, Parser, ScalarStyle};
    use serde_json::{Map, json};

    /// Reads the text back with a YAML 1.2 parser.
    fn read(text: &str) -> Value {
        let events: Vec<_> = Parser::new_from_str(text)
            .map(|event| event.unwrap().0)
            .collect();
        let mut events = events.into_iter().filter(|event| {
            !matches!(
                event,
                Event::StreamStart
                    | Event::StreamEnd
                    | Event::DocumentStart(_)
                    | Event::DocumentEnd
                    | Event::Nothing
            )
        });
        let value = node(&mut events).unwrap();
        assert!(events.next().is_none());
        value
    }

    fn node<'a>(events: &mut impl Iterator<Item = Event<'a>>) -> Option<Value> {
        Some(match events.next().unwrap() {
            Event::Scalar(text, ScalarStyle::Plain, ..) => {
                serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
            }
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while let Some(item) = node(events) {
                    items.push(item);
                }
                Value::Array(items)
            }
            Event::MappingStart(..) => {
                let mut map = Map::new();
                while let Some(key) = node(events) {
                    map.insert(key.as_str().unwrap().to_owned(), node(events).unwrap());
                }
                Value::Object(map)
            }
            Event::SequenceEnd | Event::MappingEnd => return None,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn definitions_are_read_back_as_they_were() {
        for (name, definition) in akri_mqtt_crds::definitions() {
            let value = serde_json::to_value(definition).unwrap();
            assert_eq!(read(&to_yaml(&value)), value, "{name}");
        }
    }

    #[test]
    fn awkward_values_are_read_back_as_they_were() {
        let value = json!({
            "no": "yes", "1": "1", "": "", "a: b": "c # d", "t": "true", "N": "Null", "d": "-",
            "q": "it's \"so\"", "l": "two\nlines", "e": [], "m": {}, "n": null, "f": 1.5, "i": -3,
            "nested": [[1, [2]], {"a": [{"b": {"c": "d"}}], "z": false}, "x", {}],
            "tail": "space ", "pattern": "^[_A-Za-z][_A-Za-z0-9]*$", "dot": ".spec", "inf": ".inf",
            "unicode": "Grüße",
        });
        assert_eq!(read(&to_yaml(&value)), value);
        assert_eq!(read(&to_yaml(&json!({}))), json!({}));
        assert_eq!(read(&to_yaml(&json!("x"))), json!("x"));
    }

    #[test]
    fn words_of_yaml_1_1_are_quoted() {
        for word in [
            "yes",
            "NO",
            "on",
            "Off",
            "~",
            "0x1f",
            "1e3",
            "n",
            "2026-01-01",
            "12:30:45",
        ] {
            assert_eq!(string(word), format!("\"{word}\""));
        }
        assert_eq!(string(".spec.capacity"), ".spec.capacity");
    }
}
