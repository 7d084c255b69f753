//! Numbers without loss. In: the digits that a device sent. Out: the kind of number that holds
//! exactly them, or the digits.

use super::Value;

/// The longest exponent that is looked at, in digits; a longer one is out of range anyway.
const MAX_EXPONENT_DIGITS: usize = 6;
/// The most significant digits that tell one double from all others (IEEE 754, binary64).
const MAX_DIGITS: usize = 17;

/// The value of a number in the grammar of JSON.
pub(super) fn json(digits: &str) -> Value {
    if digits.contains(['.', 'e', 'E']) || digits == "-0" {
        return double(digits);
    }
    if let Ok(value) = digits.parse::<i64>() {
        Value::Int(value)
    } else if let Ok(value) = digits.parse::<u64>() {
        Value::UInt(value)
    } else {
        Value::Text(digits.into())
    }
}

/// The value of a text that is a number, though not in the grammar of JSON: `+5`, `.5`, `5.`.
/// `007` is none: it would not come back as it was sent, and is more likely a name.
pub(super) fn plain(text: &str) -> Option<Value> {
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => ("", rest),
        Some(("-", rest)) => ("-", rest),
        _ => ("", text),
    };
    let end = rest.find(['e', 'E']).unwrap_or(rest.len());
    let (mantissa, exponent) = rest.split_at_checked(end)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent_fits = exponent.is_empty() || {
        let digits = exponent.get(1..)?;
        let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        !digits.is_empty() && all_digits(digits)
    };
    let fits = all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && (whole.len() < 2 || !whole.starts_with('0'))
        && exponent_fits;
    if !fits {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    let value = json(&format!("{sign}{whole}{point}{fraction}{exponent}"));
    match value {
        // As it was sent, not as it was rebuilt.
        Value::Text(_) => Some(Value::Text(text.into())),
        value => Some(value),
    }
}

fn double(digits: &str) -> Value {
    let kept = digits
        .parse::<f64>()
        .ok()
        .filter(|value| value.is_finite() && survives(digits, *value));
    kept.map_or_else(|| Value::Text(digits.into()), Value::Double)
}

/// Whether the number gives back the digits that were sent: rounded to as many of them, if a
/// double can hold so many, or written as shortly as possible. Where two short texts are equally
/// near to one double, as 983823078922126.2 and .3 are, each of the two rules finds one.
fn survives(digits: &str, value: f64) -> bool {
    let Some(sent) = Scientific::of(digits) else {
        return false;
    };
    let says_the_same = |text: &str| Scientific::of(text).as_ref() == Some(&sent);
    let count = sent.digits.len();
    says_the_same(&format!("{value:e}"))
        || (count <= MAX_DIGITS && says_the_same(&format!("{value:.*e}", count.saturating_sub(1))))
}

/// A decimal number in a form that only equal ones share: digits without zeros at either end, and
/// the exponent of the last one.
#[derive(Debug, PartialEq, Eq)]
struct Scientific {
    digits: String,
    exponent: i64,
}

impl Scientific {
    fn of(text: &str) -> Option<Self> {
        let text = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let leading = all.trim_start_matches('0');
        let digits = leading.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self {
                digits: String::new(),
                exponent: 0,
            });
        }
        let dropped = i64::try_from(leading.len() - digits.len()).ok()?;
        let exponent = exponent_of(exponent)?;
        let exponent = exponent + dropped - i64::try_from(fraction.len()).ok()?;
        Some(Self {
            digits: digits.to_owned(),
            exponent,
        })
    }
}

fn exponent_of(text: &str) -> Option<i64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let digits = digits.trim_start_matches('0');
    if digits.len() > MAX_EXPONENT_DIGITS {
        return None;
    }
    let value = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -value } else { value })
}
