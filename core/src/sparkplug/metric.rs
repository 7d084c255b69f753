//! From metrics to readings. In: metrics with what a birth knows of them. Out: names, values, units.
//! The types are those of Eclipse Sparkplug 3.0, 6.4.16.

use super::Known;
use super::payload::{Content, Metric};
use crate::decode::{Decoded, MAX_DEPTH, MAX_NAME, MAX_READINGS, PayloadKind, Value};

/// A data type that has to be known to read a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Int8,
    Int16,
    Int32,
    Int64,
    /// Any other: its value tells what it is.
    Other,
}

impl Type {
    /// The type of a number; 0 is none.
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => return None,
            1 => Self::Int8,
            2 => Self::Int16,
            3 => Self::Int32,
            4 => Self::Int64,
            _ => Self::Other,
        })
    }
}

/// Collects readings.
#[derive(Default)]
pub(super) struct Reader {
    readings: Vec<(Box<str>, Value, Option<Box<str>>)>,
    cut: usize,
}

impl Reader {
    /// Reads a metric that stands in a template of this name, if in any.
    pub(super) fn metric(
        &mut self,
        metric: Metric,
        known: Option<&Known>,
        inside: &str,
        depth: usize,
    ) {
        let kind = metric.datatype.and_then(Type::of);
        let kind = kind.or_else(|| known.and_then(|known| known.kind));
        let own = metric.unit().map(Box::from);
        let unit = own.or_else(|| known.and_then(|known| known.unit.as_deref()).map(Box::from));
        let name = match (metric.name, metric.alias, known) {
            (Some(name), _, _) if !name.is_empty() => name,
            (_, _, Some(known)) => known.name.to_string(),
            (_, Some(alias), None) => format!("alias:{alias}"),
            _ => String::new(),
        };
        let name = match inside {
            "" => name,
            _ => format!("{inside}/{name}"),
        };
        let Some(content) = metric.value.filter(|_| metric.is_null != Some(true)) else {
            return;
        };
        if let Content::Template(template) = content {
            if template.is_definition == Some(true) {
                return;
            }
            if depth >= MAX_DEPTH || name.len() > MAX_NAME {
                self.cut += 1;
                return;
            }
            for metric in template.metrics {
                self.metric(metric, None, &name, depth + 1);
            }
            return;
        }
        let Some(value) = value(content, kind) else {
            return;
        };
        if name.len() <= MAX_NAME && self.readings.len() < MAX_READINGS {
            self.readings.push((name.into(), value, unit));
        } else {
            self.cut += 1;
        }
    }

    /// The readings, sorted by name; of equal names the last one.
    pub(super) fn finish(mut self) -> Decoded {
        self.readings.reverse();
        self.readings.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        self.readings
            .dedup_by(|(later, ..), (earlier, ..)| later == earlier);
        let mut decoded = Decoded::none(PayloadKind::Bytes, None);
        decoded.cut = self.cut;
        for (name, value, unit) in self.readings {
            decoded.units.extend(unit.map(|unit| (name.clone(), unit)));
            decoded.readings.push((name, value));
        }
        decoded
    }
}

/// None for what has no reading.
fn value(content: Content, kind: Option<Type>) -> Option<Value> {
    Some(match content {
        Content::Int(bits) => Value::Int(signed(bits, kind)),
        Content::Long(bits) => match i64::try_from(bits) {
            Ok(value) => Value::Int(value),
            Err(_) if kind == Some(Type::Int64) => Value::Int(bits.cast_signed()),
            Err(_) => Value::UInt(bits),
        },
        // By its digits: 0.1 stays 0.1.
        Content::Float(value) => finite(value.to_string().parse().ok()?),
        Content::Double(value) => finite(value),
        Content::Boolean(value) => Value::Bool(value),
        Content::Text(value) => Value::Text(value.into()),
        Content::Bytes(_) | Content::DataSet(_) | Content::Template(_) => return None,
    })
}

/// Senders differ in whether they extend the sign of small types to 32 bits.
fn signed(bits: u32, kind: Option<Type>) -> i64 {
    let [.., high, low] = bits.to_be_bytes();
    match kind {
        Some(Type::Int8) => i64::from(low.cast_signed()),
        Some(Type::Int16) => i64::from(u16::from_be_bytes([high, low]).cast_signed()),
        Some(Type::Int32) => i64::from(bits.cast_signed()),
        _ => i64::from(bits),
    }
}

fn finite(value: f64) -> Value {
    if value.is_finite() {
        Value::Double(value)
    } else {
        Value::Text(value.to_string().into())
    }
}
