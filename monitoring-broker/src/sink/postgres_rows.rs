//! Tables and rows of PostgreSQL. In: messages. Out: SQL, and rows in the text format of COPY.
//! Opens no connection. Every value of a device goes through COPY; SQL holds checked table names only.

use std::fmt::Write as _;

use akri_mqtt_core::decode::{PayloadKind, Value};
use serde_json::{Map, json};

use super::Form;
use crate::api::service::MessageView;
use crate::store::Properties;

const MESSAGE_COLUMNS: &str = "store_id, sequence, received_at, device_id, topic, qos, retained, duplicate, \
     payload, payload_json, readings, content_type, response_topic, correlation_data, user_properties";
const READING_COLUMNS: &str = "store_id, sequence, received_at, position, device_id, topic, name, number, integer, text, boolean";
const MESSAGE_TYPES: &str =
    "store_id text NOT NULL, sequence bigint NOT NULL, received_at timestamptz NOT NULL,
    device_id text NOT NULL, topic text NOT NULL, qos smallint NOT NULL, retained boolean NOT NULL,
    duplicate boolean NOT NULL, payload bytea NOT NULL, payload_json jsonb, readings jsonb,
    content_type text, response_topic text, correlation_data bytea, user_properties jsonb";
const READING_TYPES: &str =
    "store_id text NOT NULL, sequence bigint NOT NULL, received_at timestamptz NOT NULL,
    position smallint NOT NULL, device_id text NOT NULL, topic text NOT NULL, name text NOT NULL,
    number double precision, integer bigint, text text, boolean boolean";
/// The longest name of PostgreSQL.
const MOST_NAME: usize = 63;

/// A table, with its schema if it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    quoted: String,
    name: String,
}

impl Table {
    /// Checks a name, so that nothing else gets into SQL.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| {
            let is_start = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
            let mut rest = part.chars();
            is_start
                && part.len() <= MOST_NAME
                && rest.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let parts: Vec<&str> = text.split('.').collect();
        let name = parts.last().copied().unwrap_or_default();
        if parts.len() > 2 || !parts.iter().copied().all(is_name) {
            return Err(
                "a table is [schema.]name of lower-case letters, digits and underscores".to_owned(),
            );
        }
        let quoted: Vec<_> = parts.iter().map(|part| format!("\"{part}\"")).collect();
        Ok(Self {
            quoted: quoted.join("."),
            name: name.to_owned(),
        })
    }

    /// A name of one of its indexes, no longer than allowed.
    fn index(&self, what: &str) -> String {
        let room = MOST_NAME - what.len() - 1;
        let name: String = self.name.chars().take(room).collect();
        format!("\"{name}_{what}\"")
    }
}

/// Makes the tables if they are missing.
pub fn create(table: &Table, readings: Option<&Table>) -> String {
    let (name, index) = (&table.quoted, table.index("device_idx"));
    let mut sql = format!(
        "CREATE TABLE IF NOT EXISTS {name}({MESSAGE_TYPES}, PRIMARY KEY (store_id, sequence, received_at));
         CREATE INDEX IF NOT EXISTS {index} ON {name}(device_id, received_at DESC);"
    );
    if let Some(table) = readings {
        let (name, index) = (&table.quoted, table.index("name_idx"));
        // Writing to a string cannot fail.
        let _ = write!(
            sql,
            "CREATE TABLE IF NOT EXISTS {name}({READING_TYPES},
                 PRIMARY KEY (store_id, sequence, position, received_at));
             CREATE INDEX IF NOT EXISTS {index} ON {name}(device_id, name, received_at DESC);"
        );
    }
    sql
}

/// Makes the temporary tables of a connection.
pub fn temporary(readings: bool) -> String {
    let mut sql =
        format!("CREATE TEMP TABLE akri_mqtt_new({MESSAGE_TYPES}) ON COMMIT DELETE ROWS;");
    if readings {
        let _ = write!(
            sql,
            "CREATE TEMP TABLE akri_mqtt_new_readings({READING_TYPES}) ON COMMIT DELETE ROWS;"
        );
    }
    sql
}

/// Takes [`messages`].
pub fn copy_messages() -> String {
    format!("COPY akri_mqtt_new({MESSAGE_COLUMNS}) FROM STDIN")
}

/// Takes [`readings`].
pub fn copy_readings() -> String {
    format!("COPY akri_mqtt_new_readings({READING_COLUMNS}) FROM STDIN")
}

/// Takes over the messages that are not there yet.
pub fn move_messages(table: &Table) -> String {
    let name = &table.quoted;
    format!(
        "INSERT INTO {name}({MESSAGE_COLUMNS}) SELECT {MESSAGE_COLUMNS} FROM akri_mqtt_new
         ORDER BY sequence ON CONFLICT DO NOTHING"
    )
}

/// Takes over the readings that are not there yet.
pub fn move_readings(table: &Table) -> String {
    let name = &table.quoted;
    format!(
        "INSERT INTO {name}({READING_COLUMNS}) SELECT {READING_COLUMNS} FROM akri_mqtt_new_readings
         ORDER BY sequence, position ON CONFLICT DO NOTHING"
    )
}

/// Messages as rows.
pub fn messages(store_id: &str, messages: &[MessageView], form: Form) -> String {
    let mut rows = Rows::default();
    for message in messages {
        let (stored, record) = (&message.stored, &message.stored.record);
        rows.text(store_id);
        rows.raw(&stored.sequence.to_string());
        rows.raw(&format!("{:.9}", message.received_at));
        rows.text(&stored.device);
        rows.text(&stored.topic);
        rows.raw(&record.qos.to_string());
        rows.flag(record.retained);
        rows.flag(record.duplicate);
        rows.bytes(&record.payload);
        rows.optional(json_payload(message).filter(|_| form == Form::Full));
        rows.optional(
            readings_object(message)
                .filter(|_| form == Form::Full)
                .as_deref(),
        );
        let none = Properties::default();
        let properties = record.properties.as_deref().unwrap_or(&none);
        rows.optional(properties.content_type.as_deref());
        rows.optional(properties.response_topic.as_deref());
        match &properties.correlation_data {
            Some(data) => rows.bytes(data),
            None => rows.optional(None),
        }
        rows.optional(user_properties(properties).as_deref());
        rows.end();
    }
    rows.text
}

/// Their readings as rows.
pub fn readings(store_id: &str, messages: &[MessageView]) -> String {
    let mut rows = Rows::default();
    for message in messages {
        let stored = &message.stored;
        for (position, (name, value)) in message.decoded.readings.iter().enumerate() {
            rows.text(store_id);
            rows.raw(&stored.sequence.to_string());
            rows.raw(&format!("{:.9}", message.received_at));
            rows.raw(&position.to_string());
            rows.text(&stored.device);
            rows.text(&stored.topic);
            rows.text(&clean(name));
            rows.value(value);
            rows.end();
        }
    }
    rows.text
}

/// The payload if it is JSON that PostgreSQL takes: it has no form for U+0000.
fn json_payload(message: &MessageView) -> Option<&str> {
    let is_json = message.decoded.kind == PayloadKind::Json;
    let text = std::str::from_utf8(&message.stored.record.payload).ok();
    text.filter(|text| is_json && !text.contains("\\u0000"))
}

fn readings_object(message: &MessageView) -> Option<String> {
    let readings = message.decoded.readings.iter();
    let object: Map<_, _> = readings
        .map(|(name, value)| {
            let value = match value {
                Value::Text(text) => json!(clean(text)),
                other => json!(other),
            };
            (clean(name), value)
        })
        .collect();
    (!object.is_empty()).then(|| serde_json::Value::Object(object).to_string())
}

fn user_properties(properties: &Properties) -> Option<String> {
    let all = properties.user.iter();
    let all: Vec<_> = all
        .map(|(name, value)| json!({"name": clean(name), "value": clean(value)}))
        .collect();
    (!all.is_empty()).then(|| serde_json::Value::Array(all).to_string())
}

/// PostgreSQL's texts cannot hold U+0000.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Rows in the text format of COPY.
#[derive(Default)]
struct Rows {
    text: String,
    is_inside: bool,
}

impl Rows {
    fn separate(&mut self) {
        if self.is_inside {
            self.text.push('\t');
        }
        self.is_inside = true;
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.is_inside = false;
    }

    /// What needs no escapes.
    fn raw(&mut self, text: &str) {
        self.separate();
        self.text.push_str(text);
    }

    fn text(&mut self, text: &str) {
        self.separate();
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\0' => self.text.push('\u{fffd}'),
                c => self.text.push(c),
            }
        }
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.raw("\\N"),
        }
    }

    fn flag(&mut self, flag: bool) {
        self.raw(if flag { "t" } else { "f" });
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.raw("\\\\x");
        for byte in bytes {
            let _ = write!(self.text, "{byte:02x}");
        }
    }

    /// The four columns of a value; a whole number is in `number` as well, so that one column has them all.
    fn value(&mut self, value: &Value) {
        let (mut number, mut integer, mut text, mut boolean) = (None, None, None, None);
        match value {
            Value::Int(value) => {
                number = Some(value.to_string());
                integer = Some(value.to_string());
            }
            Value::UInt(value) => {
                number = Some(value.to_string());
                text = Some(value.to_string());
            }
            Value::Double(value) => number = Some(value.to_string()),
            Value::Bool(value) => boolean = Some(value.to_string()),
            Value::Text(value) => text = Some(value.to_string()),
        }
        for column in [number, integer, text, boolean] {
            self.optional(column.as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_get_into_sql() {
        for name in ["t", "akri_mqtt_messages", "plant.messages_2", "order"] {
            assert!(Table::parse(name).is_ok(), "{name}");
        }
        for name in ["", "a.b.c", "a.", "T", "a\"b", "a;b", "1a", "a-b", "ä"] {
            assert!(Table::parse(name).is_err(), "{name}");
        }
        assert_eq!(Table::parse("s.t").unwrap().quoted, "\"s\".\"t\"");
        let long = Table::parse(&"x".repeat(63)).unwrap();
        assert_eq!(long.index("device_idx").len(), 65);
    }

    #[test]
    fn rows_escape_what_copy_would_take_for_something_else() {
        let mut rows = Rows::default();
        rows.text("a\\b\tc\nd\re\0f");
        rows.optional(None);
        rows.optional(Some("\\N"));
        rows.bytes(&[0, 0x5c, 0xff]);
        rows.flag(true);
        rows.end();
        assert_eq!(
            rows.text,
            "a\\\\b\\tc\\nd\\re\u{fffd}f\t\\N\t\\\\N\t\\\\x005cff\tt\n"
        );
    }

    #[test]
    fn values_keep_their_kind_and_all_numbers_are_in_one_column() {
        let row = |value: Value| {
            let mut rows = Rows::default();
            rows.value(&value);
            rows.text
        };
        assert_eq!(row(Value::Int(-3)), "-3\t-3\t\\N\t\\N");
        assert_eq!(
            row(Value::UInt(u64::MAX)),
            "18446744073709551615\t\\N\t18446744073709551615\t\\N"
        );
        assert_eq!(row(Value::Double(0.5)), "0.5\t\\N\t\\N\t\\N");
        assert_eq!(row(Value::Bool(true)), "\\N\t\\N\t\\N\ttrue");
        assert_eq!(row(Value::Text("x".into())), "\\N\t\\N\tx\t\\N");
    }
}
