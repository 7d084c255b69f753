use proptest::prelude::*;
use prost::Message as _;

use super::payload::{Content, Template};
use super::*;
use crate::decode::Value;

/// As Eclipse Tahu's JavaScript library writes a birth with eight metrics, one of them a template.
const BIRTH: &str = "0880d095ffbc31120b0a05626453657120085803121c0a144e6f646520436f6e74726f6c2f526562697274681000200b7000122a0a0b496e707574732f74656d70100120094a120a07656e67556e69741207080c4203c2b04365cdcccc3d12180a0c496e707574732f6c6576656c1002200250fbffffff0f121d0a0c496e707574732f636f756e74100320045880808080808080f0ff01120e0a04746578741004200c7a02686912230a056d6f746f7220139201170a0131120d0a0372706d200350d0f6ffff0f22016d2800120a0a04676f6e65200a38011800";
/// And a message with three metrics, by alias; no birth has the last one.
const DATA: &str = "08e8d795ffbc31120910012009650000ac41120a1002200250faffffff0f120d1009200a6900000000000004401801";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn shown(decoded: &Decoded) -> Vec<(&str, Value)> {
    let readings = decoded.readings.iter();
    readings
        .map(|(name, value)| (&**name, value.clone()))
        .collect()
}

fn metric(name: &str, value: Content) -> Metric {
    Metric {
        name: Some(name.to_owned()),
        value: Some(value),
        ..Metric::default()
    }
}

fn encoded(metrics: Vec<Metric>) -> Vec<u8> {
    Payload {
        timestamp: None,
        metrics,
    }
    .encode_to_vec()
}

#[test]
fn birth_has_its_metrics_by_name_with_their_units() {
    let decoded = decode(&bytes(BIRTH), None);
    assert_eq!(
        shown(&decoded),
        [
            ("Inputs/count", Value::Int(-9_007_199_254_740_992)),
            ("Inputs/level", Value::Int(-5)),
            ("Inputs/temp", Value::Double(0.1)),
            ("Node Control/Rebirth", Value::Bool(false)),
            ("bdSeq", Value::Int(3)),
            ("motor/rpm", Value::Int(-1200)),
            ("text", Value::Text("hi".into())),
        ]
    );
    assert_eq!(decoded.unit("Inputs/temp"), Some("°C"));
    assert_eq!(decoded.unit("Inputs/level"), None);
    assert_eq!((decoded.cut, decoded.error), (0, None));
}

#[test]
fn data_gets_names_types_and_units_from_its_birth() {
    let birth = Birth::read(&bytes(BIRTH)).unwrap();
    let decoded = decode(&bytes(DATA), Some(&birth));
    assert_eq!(
        shown(&decoded),
        [
            ("Inputs/level", Value::Int(-6)),
            ("Inputs/temp", Value::Double(21.5)),
            ("alias:9", Value::Double(2.5)),
        ]
    );
    assert_eq!(decoded.unit("Inputs/temp"), Some("°C"));
    // Types may be left out of data messages.
    let untyped = Metric {
        alias: Some(2),
        value: Some(Content::Int(0xffff_fffa)),
        ..Metric::default()
    };
    let decoded = decode(&encoded(vec![untyped.clone()]), Some(&birth));
    assert_eq!(shown(&decoded), [("Inputs/level", Value::Int(-6))]);
    let decoded = decode(&encoded(vec![untyped]), None);
    assert_eq!(shown(&decoded), [("alias:2", Value::Int(0xffff_fffa))]);
}

#[test]
fn integers_keep_every_digit_and_their_sign() {
    let typed = |kind, value| Metric {
        datatype: Some(kind),
        ..metric("x", value)
    };
    for (kind, value, read) in [
        (1, Content::Int(0xff), Value::Int(-1)),
        (1, Content::Int(0xffff_ff80), Value::Int(-128)),
        (2, Content::Int(0x8000), Value::Int(-32_768)),
        (3, Content::Int(u32::MAX), Value::Int(-1)),
        (7, Content::Int(u32::MAX), Value::Int(4_294_967_295)),
        (4, Content::Long(u64::MAX), Value::Int(-1)),
        (8, Content::Long(u64::MAX), Value::UInt(u64::MAX)),
        (
            13,
            Content::Long(1_700_000_000_000),
            Value::Int(1_700_000_000_000),
        ),
        (10, Content::Double(f64::NAN), Value::Text("NaN".into())),
    ] {
        let decoded = decode(&encoded(vec![typed(kind, value)]), None);
        assert_eq!(shown(&decoded), [("x", read)]);
    }
}

#[test]
fn of_two_metrics_of_one_name_the_last_one_counts() {
    let twice = encoded(vec![
        metric("x", Content::Int(1)),
        metric("x", Content::Int(2)),
    ]);
    assert_eq!(shown(&decode(&twice, None)), [("x", Value::Int(2))]);
}

#[test]
fn templates_end_at_a_depth_and_too_many_metrics_are_counted() {
    let mut inner = metric("v", Content::Int(1));
    for _ in 0..40 {
        let template = Template {
            metrics: vec![inner],
            is_definition: None,
        };
        inner = metric("t", Content::Template(template));
    }
    let decoded = decode(&encoded(vec![inner]), None);
    assert_eq!((decoded.readings.len(), decoded.cut), (0, 1));
    let many = (0..1_100).map(|n| metric(&format!("m{n}"), Content::Int(n)));
    let decoded = decode(&encoded(many.collect()), None);
    assert_eq!((decoded.readings.len(), decoded.cut), (1_024, 76));
}

#[test]
fn topics_name_their_births() {
    assert_eq!(
        birth_of("spBv1.0/g/DDATA/n/d").as_deref(),
        Some("spBv1.0/g/DBIRTH/n/d")
    );
    assert_eq!(
        birth_of("spBv1.0/g/NDEATH/n").as_deref(),
        Some("spBv1.0/g/NBIRTH/n")
    );
    assert!(is_birth("spBv1.0/g/DBIRTH/n/d") && is_birth("spBv1.0/g/NBIRTH/n"));
    for topic in [
        "spBv1.0/STATE/host",
        "spBv1.0/g/NBIRTH",
        "spBv1.0/g/DBIRTH/n",
        "spBv1.0/g/NBIRTH/n/d/x",
        "spAv1.0/g/NBIRTH/n",
        "",
    ] {
        assert!(!is_birth(topic) && birth_of(topic).is_none(), "{topic}");
    }
}

#[test]
fn garbage_says_that_it_is_none() {
    let decoded = decode(b"{\"a\": 1}", None);
    assert_eq!(decoded.error, Some(DecodeError::NotSparkplug));
    assert!(Birth::read(b"\xff\xff").is_err());
}

proptest! {
    #[test]
    fn whatever_bytes_there_are_reading_ends(noise in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let birth = Birth::read(&bytes(BIRTH)).unwrap();
        let _ = decode(&noise, Some(&birth));
        let mut payload = bytes(BIRTH);
        payload.truncate(cut);
        payload.extend(&noise);
        let _ = decode(&payload, Some(&birth));
        let _ = Birth::read(&payload);
    }
}
