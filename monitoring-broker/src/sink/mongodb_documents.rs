//! Documents of MongoDB. In: messages. Out: BSON with the same fields, names and kinds for every message.
//! Opens no connection.

use ::mongodb::bson::spec::BinarySubtype;
use ::mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, doc};
use akri_mqtt_core::decode::{PayloadKind, Value};
use serde_json::Number;

use super::Form;
use crate::api::service::MessageView;
use crate::store::Properties;

/// A message as a document; what it does not have is no field.
pub fn document(store_id: &str, message: &MessageView, form: Form) -> Document {
    let (stored, record) = (&message.stored, &message.stored.record);
    let mut document = doc! {
        "_id": format!("{store_id}:{}", stored.sequence),
        "received_at": DateTime::from_millis(message.received_at.as_millisecond()),
        "meta": {"store_id": store_id, "device_id": &*stored.device, "topic": &*stored.topic},
        "sequence": unsigned(stored.sequence),
        "qos": i32::from(record.qos),
        "retained": record.retained,
        "duplicate": record.duplicate,
        "payload": binary(&record.payload),
    };
    if form == Form::Full {
        if let Some(json) = json_payload(message) {
            document.insert("payload_json", json);
        }
        let readings = message.decoded.readings.iter();
        let readings: Vec<_> = readings
            .map(|(name, value)| doc! {"name": &**name, "value": reading(value)})
            .collect();
        if !readings.is_empty() {
            document.insert("readings", readings);
        }
    }
    if let Some(properties) = record.properties.as_deref() {
        add_properties(&mut document, properties);
    }
    document
}

fn add_properties(document: &mut Document, properties: &Properties) {
    if let Some(text) = &properties.content_type {
        document.insert("content_type", &**text);
    }
    if let Some(text) = &properties.response_topic {
        document.insert("response_topic", &**text);
    }
    if let Some(data) = &properties.correlation_data {
        document.insert("correlation_data", binary(data));
    }
    let all = properties.user.iter();
    let all: Vec<_> = all
        .map(|(name, value)| doc! {"name": &**name, "value": &**value})
        .collect();
    if !all.is_empty() {
        document.insert("user_properties", all);
    }
}

/// The payload if it is JSON.
fn json_payload(message: &MessageView) -> Option<Bson> {
    if message.decoded.kind != PayloadKind::Json {
        return None;
    }
    let value = serde_json::from_slice(&message.stored.record.payload).ok()?;
    Some(json(value))
}

/// The decoder has looked how deep it is.
fn json(value: serde_json::Value) -> Bson {
    match value {
        serde_json::Value::Null => Bson::Null,
        serde_json::Value::Bool(value) => Bson::Boolean(value),
        serde_json::Value::Number(value) => number(&value),
        serde_json::Value::String(value) => Bson::String(value),
        serde_json::Value::Array(values) => Bson::Array(values.into_iter().map(json).collect()),
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter();
            Bson::Document(
                fields
                    .map(|(key, value)| (clean(key), json(value)))
                    .collect(),
            )
        }
    }
}

fn number(number: &Number) -> Bson {
    match (number.as_i64(), number.as_u64()) {
        (Some(value), _) => Bson::Int64(value),
        (None, Some(value)) => unsigned(value),
        // Finite, as it comes from JSON.
        (None, None) => Bson::Double(number.as_f64().unwrap_or_default()),
    }
}

fn reading(value: &Value) -> Bson {
    match value {
        Value::Int(value) => Bson::Int64(*value),
        Value::UInt(value) => unsigned(*value),
        Value::Double(value) => Bson::Double(*value),
        Value::Bool(value) => Bson::Boolean(*value),
        Value::Text(value) => Bson::String(value.to_string()),
    }
}

/// BSON's integers end at `i64::MAX`; its decimals have 34 digits.
fn unsigned(value: u64) -> Bson {
    match i64::try_from(value) {
        Ok(value) => Bson::Int64(value),
        Err(_) => match value.to_string().parse::<Decimal128>() {
            Ok(value) => Bson::Decimal128(value),
            Err(_) => Bson::String(value.to_string()),
        },
    }
}

fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

/// BSON's keys cannot hold U+0000; its texts can.
fn clean(key: String) -> String {
    if key.contains('\0') {
        return key.replace('\0', "\u{fffd}");
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_numbers_apart_and_loses_no_key() {
        let text =
            r#"{"i":-1,"u":18446744073709551615,"d":0.5,"n":null,"a.b":[true,"x"],"$c\u0000":{}}"#;
        let found = json(serde_json::from_str(text).unwrap());
        let most: Decimal128 = "18446744073709551615".parse().unwrap();
        let wanted = doc! {
            "$c\u{fffd}": {}, "a.b": [true, "x"], "d": 0.5, "i": -1_i64, "n": null, "u": most,
        };
        assert_eq!(found, Bson::Document(wanted));
        assert_eq!(most.to_string(), "18446744073709551615");
    }

    #[test]
    fn readings_have_the_kind_that_they_were_sent_with() {
        assert_eq!(reading(&Value::Int(3)), Bson::Int64(3));
        assert_eq!(reading(&Value::UInt(3)), Bson::Int64(3));
        assert_eq!(reading(&Value::Double(3.0)), Bson::Double(3.0));
        assert_eq!(reading(&Value::Bool(true)), Bson::Boolean(true));
        assert_eq!(
            reading(&Value::Text("\0".into())),
            Bson::String("\0".to_owned())
        );
    }
}
