use proptest::prelude::*;
use serde_json::json;

use super::*;

static COLD: Shape = Shape::But(&[("cold", Shape::Skip), ("list", Shape::Each(&Shape::But(&[("args", Shape::Skip)])))]);

#[test]
fn strings_without_escapes_are_borrowed_and_cold_parts_stay_raw() {
    let text = r#"{"a":"plain","b":"q\"uote","cold":{"x":[1, 2]},"list":[{"args":["-c"],"name":"n"}],"n":[-1,2,1.5,null,true]}"#;
    let arena = Bump::new();
    let value = Json::parse(text, &COLD, &arena).unwrap();
    let plain = value.get("a").unwrap().as_str().unwrap();
    assert!(text.as_bytes().as_ptr_range().contains(&plain.as_ptr()), "borrowed from the text");
    assert_eq!(value.get("b").unwrap().as_str(), Some("q\"uote"));
    assert!(matches!(value.get("cold"), Some(Json::Raw(raw)) if raw == r#"{"x":[1, 2]}"#));
    assert!(matches!(value.get_path(&["list"]).unwrap().items()[0].get("args"), Some(Json::Raw(_))));
    assert_eq!(value.to_value(), serde_json::from_str::<serde_json::Value>(text).unwrap());
}

#[test]
fn raw_text_equals_the_value_it_spells() {
    let arena = Bump::new();
    let raw = Json::parse(r#"{"cold":{"b":2,"a":[1]}}"#, &COLD, &arena).unwrap().get("cold").unwrap();
    let open = Json::parse(r#"{"a":[1],"b":2}"#, &Shape::All, &arena).unwrap();
    assert!(matches!(raw, Json::Raw(_)));
    assert_eq!(raw, open);
    assert_ne!(raw, Json::parse(r#"{"a":[1],"b":3}"#, &Shape::All, &arena).unwrap());
    assert_eq!(raw.open(&arena).get("b"), Some(Json::Uint(2)));
}

#[test]
fn changing_a_member_shares_the_rest() {
    let arena = Bump::new();
    let pod = Json::parse(r#"{"spec":{"volumes":[1]},"metadata":{"name":"x"}}"#, &Shape::All, &arena).unwrap();
    let changed = pod.with("metadata", Json::Null, &arena);
    assert!(pod.get("spec").unwrap().ptr_eq(&changed.get("spec").unwrap()));
    assert!(!pod.ptr_eq(&changed));
    assert!(pod.ptr_eq(&pod.without("absent", &arena)));
    assert_eq!(changed.without("metadata", &arena).members().len(), 1);
}

#[test]
fn nesting_without_end_is_an_error_and_not_an_overflow() {
    let text = "[".repeat(100_000);
    assert!(Json::parse(&text, &Shape::All, &Bump::new()).is_err());
    let skipped = format!("{{\"cold\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    // Skipped text is scanned, not built; if parsing it later fails, it stays raw.
    let arena = Bump::new();
    if let Ok(value) = Json::parse(&skipped, &COLD, &arena) {
        assert!(matches!(value.get("cold").unwrap().open(&arena), Json::Raw(_)));
    }
}

#[test]
fn trailing_text_is_an_error() {
    assert!(Json::parse("{} x", &Shape::All, &Bump::new()).is_err());
}

/// The value that `serde_json` reads from a text, and those of the reader with everything parsed and with raw parts.
fn read_by_both(text: &str) -> [Option<serde_json::Value>; 3] {
    let arena = Bump::new();
    let own = |shape| Json::parse(text, shape, &arena).ok().map(|value| rounded(value.to_value()));
    [serde_json::from_str(text).ok().map(rounded), own(&Shape::All), own(&COLD)]
}

/// Rounds floats: `serde_json` may change the last digit each time that it reads one.
fn rounded(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) if number.is_f64() => json!(format!("{:.12e}", number.as_f64().unwrap())),
        Value::Array(items) => items.into_iter().map(rounded).collect(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(key, value)| (key, rounded(value))).collect())
        }
        other => other,
    }
}

fn documents() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof!["[a-z]{0,20}", "[ -~]{0,12}", "\\PC{0,9}", "[\"\\\\\\x00-\\x1f/é\u{1F600}]{0,9}"];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|flag| json!(flag)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        any::<i32>().prop_map(|number| json!(f64::from(number) / 64.0)),
        text.prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let key = prop_oneof!["[a-z]{1,9}", Just("cold".to_owned()), Just("list".to_owned()), "[\"\\\\é\\n]{1,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
            prop::collection::btree_map(key, inner, 0..5).prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_reader_reads_what_serde_json_reads(document in documents(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let [serde, open, raw] = read_by_both(&text);
        prop_assert!(serde.is_some());
        prop_assert_eq!(&serde, &open);
        prop_assert_eq!(&serde, &raw, "with raw parts");
    }

    #[test]
    fn the_writer_writes_what_serde_json_writes(document in documents()) {
        prop_assert_eq!(Json::borrowed(&document, &Bump::new()).to_string(), serde_json::to_string(&document).unwrap());
    }

    /// With one byte inserted, removed or changed, both fail or both read one value.
    #[test]
    fn the_reader_fails_where_serde_json_fails(
        document in documents(),
        place: prop::sample::Index,
        way in 0..3,
        byte in prop::sample::select(&b"\"\\{}[],:0129.-+eEtfnu \n\t\x01x"[..]),
    ) {
        let mut bytes = serde_json::to_vec(&document).unwrap();
        let at = place.index(bytes.len());
        match way {
            0 => bytes.insert(at, byte),
            1 => bytes[at] = byte,
            _ => drop(bytes.remove(at)),
        }
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let [serde, open, raw] = read_by_both(&text);
        prop_assert_eq!(&serde, &open, "{}", &text);
        // half of a surrogate pair is an error only when the raw part is opened
        if serde.is_some() || !text.contains("\\u") {
            prop_assert_eq!(&serde, &raw, "{}", text);
        }
    }
}

#[test]
fn unusual_numbers_and_escapes_are_read_as_serde_json_reads_them() {
    let texts = [
        "0",
        "-0",
        "00",
        "01",
        "-",
        "-1",
        "1.",
        "1.5",
        ".5",
        "1e5",
        "1e",
        "1e400",
        "18446744073709551615",
        "1-2",
        "18446744073709551616",
        "-9223372036854775808",
        "999999999999999999",
        "1000000000000000000",
        "+1",
        "",
        r#""\u00e9\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\u12""#,
        r#""\x""#,
        r#""\é""#,
        r#""\"#,
        "\"\\\"",
        "\"a",
        "\"\u{1}\"",
        r#""\b\f\n\r\t\/\\\"""#,
        "tru",
        "truex",
        "nul",
        "[1,]",
        "{,}",
        "{\"a\"}",
        "{\"a\":1,}",
        "[}",
        "\u{feff}1",
        "1 ",
    ];
    for text in texts {
        let [serde, open, _] = read_by_both(text);
        assert_eq!(serde, open, "{text}");
    }
}
