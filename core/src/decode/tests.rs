//! Tests of `decode`: what devices send, what they should not send, and that it agrees with a
//! general JSON parser about what is JSON.

use proptest::prelude::*;

use super::*;

fn readings(decoder: Decoder, payload: &str) -> Vec<(String, Value)> {
    let decoded = decode(decoder, payload.as_bytes());
    assert_eq!(decoded.error, None, "{payload}");
    let named = decoded.readings.into_iter();
    named.map(|(name, value)| (name.into(), value)).collect()
}

fn plain(payload: &str) -> Value {
    let mut all = readings(Decoder::Auto, payload);
    assert_eq!(all.len(), 1, "{payload}");
    let (name, value) = all.remove(0);
    assert_eq!(name, "");
    value
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn readings_of_an_object_are_named_by_json_pointer_and_sorted() {
    let all = readings(
        Decoder::Auto,
        r#"{"t": 21.5, "a/b": {"~": [1, true, null, {"x": "on"}]}, "": -3, "empty": {}, "none": []}"#,
    );
    let wanted = [
        ("/", Value::Int(-3)),
        ("/a~1b/~0/0", Value::Int(1)),
        ("/a~1b/~0/1", Value::Bool(true)),
        ("/a~1b/~0/3/x", text("on")),
        ("/t", Value::Double(21.5)),
    ];
    assert_eq!(all, wanted.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn names_are_the_ones_by_which_a_json_parser_finds_the_values() {
    let payload = r#"{"a":{"b~/c":[10,{"d":2.5}]},"ä\u00e9\n":"x"}"#;
    let tree: serde_json::Value = serde_json::from_str(payload).unwrap();
    for (name, value) in readings(Decoder::Json, payload) {
        assert_eq!(
            tree.pointer(&name),
            Some(&serde_json::to_value(&value).unwrap()),
            "{name}"
        );
    }
}

#[test]
fn whole_numbers_keep_their_kind() {
    assert_eq!(plain("42"), Value::Int(42));
    assert_eq!(plain("-9223372036854775808"), Value::Int(i64::MIN));
    assert_eq!(plain("9223372036854775807"), Value::Int(i64::MAX));
    assert_eq!(plain("9223372036854775808"), Value::UInt(1 << 63));
    assert_eq!(plain("18446744073709551615"), Value::UInt(u64::MAX));
    assert_eq!(plain("18446744073709551616"), text("18446744073709551616"));
    assert_eq!(plain("-9223372036854775809"), text("-9223372036854775809"));
}

#[test]
fn numbers_that_would_not_survive_stay_as_they_were_sent() {
    for kept in [
        "0.1",
        "1.0",
        "1e3",
        "21.299999237060547",
        "1.50",
        "5e-324",
        "1E+2",
        "0.0",
        "0e5",
    ] {
        assert_eq!(plain(kept), Value::Double(kept.parse().unwrap()), "{kept}");
    }
    for lost in [
        "1e400",
        "1e-400",
        "0.10000000000000000555",
        "3.14159265358979323846",
        "1e99999999999",
    ] {
        assert_eq!(plain(lost), text(lost));
    }
    // What `%.17g` prints, and both texts that are equally near to one double.
    for kept in [
        "0.10000000000000001",
        "983823078922126.2",
        "983823078922126.3",
    ] {
        assert_eq!(plain(kept), Value::Double(kept.parse().unwrap()), "{kept}");
    }
    // 2^53 + 1: the nearest double is another whole number.
    assert_eq!(plain("9007199254740993.0"), text("9007199254740993.0"));
    let Value::Double(zero) = plain("-0") else {
        panic!("-0 is no double");
    };
    assert!(zero.is_sign_negative());
}

#[test]
fn what_is_not_json_is_a_number_a_boolean_or_a_text() {
    assert_eq!(plain("+5"), Value::Int(5));
    assert_eq!(plain(" .5\n"), Value::Double(0.5));
    assert_eq!(plain("5."), Value::Int(5));
    assert_eq!(plain("-.25e1"), Value::Double(-2.5));
    assert_eq!(plain("TRUE"), Value::Bool(true));
    assert_eq!(plain("False"), Value::Bool(false));
    for other in [
        "007", "NaN", "inf", "on", "1,5", "--1", "+", ".", "1e", "0x10", "21.5 C", "{\"a\":", "é",
    ] {
        assert_eq!(plain(other), text(other));
    }
    assert_eq!(decode(Decoder::Auto, b"on").kind, PayloadKind::Text);
    assert_eq!(decode(Decoder::Auto, b"1").kind, PayloadKind::Json);
}

#[test]
fn what_nobody_could_read_is_bytes() {
    for bytes in [&[0xff, 0xfe][..], b"\x00\x01", b"a\x07"] {
        let decoded = decode(Decoder::Auto, bytes);
        assert_eq!(decoded, Decoded::none(PayloadKind::Bytes, None));
    }
    assert_eq!(
        decode(Decoder::Bytes, b"1"),
        Decoded::none(PayloadKind::Bytes, None)
    );
}

#[test]
fn a_decoder_that_was_asked_for_says_why_it_cannot() {
    let error = |decoder, payload: &[u8]| decode(decoder, payload).error;
    assert_eq!(
        error(Decoder::Json, b"{\"a\" 1}"),
        Some(DecodeError::NotJson(5))
    );
    assert_eq!(error(Decoder::Json, b"[1,]"), Some(DecodeError::NotJson(3)));
    assert_eq!(error(Decoder::Json, &[0xff]), Some(DecodeError::NotUtf8));
    assert_eq!(error(Decoder::Text, &[0xff]), Some(DecodeError::NotUtf8));
    assert_eq!(readings(Decoder::Text, "12"), [(String::new(), text("12"))]);
    assert_eq!(
        error(Decoder::Json, b"[1,]").unwrap().to_string(),
        "not JSON: byte 3 does not fit"
    );
}

#[test]
fn an_empty_payload_says_nothing() {
    for decoder in Decoder::ALL {
        let decoded = decode(decoder, b"");
        assert!(decoded.readings.is_empty() && decoded.error.is_none());
    }
}

#[test]
fn the_last_of_equal_names_counts() {
    assert_eq!(
        readings(Decoder::Json, r#"{"a":1,"b":2,"a":3,"a":4}"#),
        [
            ("/a".to_owned(), Value::Int(4)),
            ("/b".to_owned(), Value::Int(2))
        ]
    );
}

#[test]
fn nesting_is_bounded() {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(readings(Decoder::Auto, &deep(MAX_DEPTH)).len(), 1);
    for n in [MAX_DEPTH + 1, 1_000_000] {
        let decoded = decode(Decoder::Auto, deep(n).as_bytes());
        assert_eq!(decoded.error, Some(DecodeError::TooDeep));
    }
}

#[test]
fn readings_and_names_are_bounded_and_counted() {
    let many: Vec<String> = (0..MAX_READINGS + 7).map(|n| n.to_string()).collect();
    let decoded = decode(Decoder::Auto, format!("[{}]", many.join(",")).as_bytes());
    assert_eq!((decoded.readings.len(), decoded.cut), (MAX_READINGS, 7));

    let long = format!(r#"{{"{}":[1,2],"b":3}}"#, "k".repeat(MAX_NAME));
    let decoded = decode(Decoder::Auto, long.as_bytes());
    assert_eq!((decoded.readings.len(), decoded.cut), (1, 2));
}

#[test]
fn decoders_have_names() {
    for decoder in Decoder::ALL {
        assert_eq!(decoder.to_string().parse(), Ok(decoder));
    }
    let error = "sparkplug".parse::<Decoder>().unwrap_err().to_string();
    assert_eq!(
        error,
        "`sparkplug` is no decoder; there are auto, json, text, sparkplugB and bytes"
    );
}

/// RFC 8259, section 8.2: half a surrogate pair fits the grammar, but is no text that could be kept.
#[test]
fn half_a_surrogate_pair_is_not_decoded() {
    let payload = br#"{"a":"\ud800"}"#;
    let decoded = decode(Decoder::Json, payload);
    assert_eq!(decoded.error, Some(DecodeError::NotJson(5)));
    assert_eq!(decode(Decoder::Auto, payload).kind, PayloadKind::Text);
    assert_eq!(
        plain(r#""\ud83d\ude00""#),
        text("\u{1f600}"),
        "a whole pair is"
    );
}

/// Texts that are JSON, nearly JSON, or nothing like it. Half surrogate pairs are left out: a
/// parser that ignores strings takes them, and we cannot.
fn json_like() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"a\""),
        Just("\"\\u00e9\""),
        Just("\"\\x\""),
        Just("1"),
        Just("-"),
        Just("0"),
        Just(".5"),
        Just("e3"),
        Just("-0.25E+2"),
        Just("true"),
        Just("nul"),
        Just("null"),
        Just(" "),
        Just("\n"),
        Just("\""),
        Just("\\"),
    ];
    prop_oneof![
        proptest::collection::vec(token, 0..20).prop_map(|tokens| tokens.concat()),
        json_tree().prop_map(|tree| tree.to_string()),
        ".{0,40}",
    ]
}

fn json_tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map("[a-z/~é\"\\\\]{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_what_a_general_parser_takes_for_json(text in json_like()) {
        let ours = json::read(&text).is_ok();
        // Where a number is out of range, the general parser gives up; we keep its digits.
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn every_scalar_of_a_tree_is_found_under_its_pointer(tree in json_tree()) {
        let decoded = decode(Decoder::Json, tree.to_string().as_bytes());
        prop_assert_eq!(decoded.error, None);
        for (name, value) in &decoded.readings {
            let found = tree.pointer(name).unwrap();
            prop_assert_eq!(found, &serde_json::to_value(value).unwrap());
        }
        prop_assert!(decoded.readings.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for decoder in Decoder::ALL {
            let _ = decode(decoder, &bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_finite_double_is_read_back_however_it_was_printed(bits in any::<u64>(), digits in 16..17_usize) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        for sent in [format!("{value:e}"), format!("{value:.digits$e}"), serde_json::json!(value).to_string()] {
            let read = number::json(&sent);
            let same = matches!(&read, Value::Double(read) if read.to_bits() == bits);
            prop_assert!(same, "{sent} became {read:?}");
        }
    }
}

#[test]
fn an_error_is_read_back_as_it_was_written() {
    for error in [
        DecodeError::NotJson(17),
        DecodeError::TooDeep,
        DecodeError::NotUtf8,
        DecodeError::NotSparkplug,
    ] {
        assert_eq!(DecodeError::read(&error.to_string()), Some(error));
    }
    assert_eq!(DecodeError::read("another"), None);
}
