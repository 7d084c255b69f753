//! Values of requests that both fronts take as text or number. In: what was sent, and what the front calls
//! the field. Out: a checked value, or an error that says what was found and what is allowed.

use akri_mqtt_core::topic::TopicFilter;
use jiff::Timestamp;

use super::ServiceError;
use super::error::shorten;

/// A topic filter of a request; empty: none.
///
/// # Errors
/// When it is no MQTT topic filter.
pub fn topic_filter(field: &str, text: &str) -> Result<Option<TopicFilter>, ServiceError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |error| {
        let found = shorten(text);
        let why = format!("found {found:?}, allowed: an MQTT topic filter; {error}");
        ServiceError::invalid(field, why)
    };
    TopicFilter::parse(text).map(Some).map_err(wrong)
}

/// A time of a request: RFC 3339 or Unix seconds, also with a fraction.
///
/// # Errors
/// When it is neither.
pub fn time(field: &str, text: &str) -> Result<Timestamp, ServiceError> {
    let parsed = text.parse::<Timestamp>().ok();
    parsed.or_else(|| unix_seconds(text)).ok_or_else(|| {
        let found = shorten(text);
        let why = format!(
            "found {found:?}, allowed: RFC 3339 such as 2026-01-31T12:00:00Z, or Unix seconds such as 1769860800.5"
        );
        ServiceError::invalid(field, why)
    })
}

/// A bound of numbers.
///
/// # Errors
/// When it is none, infinite or NaN.
pub fn bound(field: &str, value: f64) -> Result<f64, ServiceError> {
    if value.is_finite() {
        return Ok(value);
    }
    let why = format!("found {value}, allowed: a finite number");
    Err(ServiceError::invalid(field, why))
}

/// Two bounds that leave room for a value; `field` is what the front calls the upper one.
///
/// # Errors
/// When the upper one is below the lower one.
pub fn ordered(field: &str, min: Option<f64>, max: Option<f64>) -> Result<(), ServiceError> {
    match (min, max) {
        (Some(min), Some(max)) if max < min => {
            let why = format!("found {max}, allowed: at least the lower bound, which is {min}");
            Err(ServiceError::invalid(field, why))
        }
        _ => Ok(()),
    }
}

fn unix_seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if !is_digits(digits) || !is_digits(fraction) {
        return None;
    }
    // Digits below a nanosecond are cut off.
    let fraction: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i32 = fraction.parse().ok()?;
    let is_negative = digits.len() < whole.len();
    let signed = if is_negative {
        -nanoseconds
    } else {
        nanoseconds
    };
    Timestamp::new(whole.parse().ok()?, signed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_unix_seconds_with_a_fraction() {
        let read = |text| time("from", text).unwrap().to_string();
        assert_eq!(read("2026-01-31T12:00:00Z"), "2026-01-31T12:00:00Z");
        assert_eq!(read("2026-01-31T13:00:00+01:00"), "2026-01-31T12:00:00Z");
        assert_eq!(read("1769860800"), "2026-01-31T12:00:00Z");
        assert_eq!(read("1769860800.25"), "2026-01-31T12:00:00.25Z");
        assert_eq!(read("1.0000000019"), "1970-01-01T00:00:01.000000001Z");
        assert_eq!(read("-0.5"), "1969-12-31T23:59:59.5Z");
    }

    #[test]
    fn what_is_no_time_is_named_with_what_is_allowed() {
        for text in [
            "",
            "yesterday",
            "1.",
            ".5",
            "1e9",
            "+1",
            "1.-5",
            "99999999999999",
        ] {
            let error = time("from", text).unwrap_err().to_string();
            let start = format!("from: found {text:?}, allowed: RFC 3339");
            assert!(error.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn what_is_no_topic_filter_is_named_with_its_rule() {
        let error = topic_filter("topic", "a/#/b").unwrap_err().to_string();
        assert!(error.starts_with("topic: found \"a/#/b\", allowed: an MQTT topic filter; "));
        assert_eq!(topic_filter("topic", ""), Ok(None));
    }

    #[test]
    fn bounds_are_finite() {
        assert_eq!(bound("min", -1.5), Ok(-1.5));
        assert!(bound("min", f64::NAN).is_err() && bound("max", f64::INFINITY).is_err());
    }
}
