//! What attackers and broken devices put into a request, line by line, and what comes of it.
//!
//! In: a request. Out: the state that is stored and read again, or the rejection. Nothing here may
//! panic, take long, or leave a document that does not survive being stored.

use super::*;
use crate::shadow::answer::Context;
use crate::shadow::document::{Document, State, Stored};
use crate::shadow::request::Request;
use proptest::prelude::*;

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis((START_S + second) * 1_000)
}

fn json(view: impl serde::Serialize) -> Value {
    serde_json::to_value(view).unwrap()
}

/// The document after a request, stored and read again.
fn apply(document: &Document, request: &[u8], limits: &Limits) -> Result<Document, ShadowError> {
    let update = Request::read(request, limits)?.into_update(limits)?;
    let next = document.updated(&update, at(0), limits)?;
    let stored = Stored::Document(next.clone());
    assert_eq!(record::decode(&record::encode(&stored)).unwrap(), stored);
    let context = Context { now: at(0), client_token: Some("t") };
    let messages = [
        context.updated(&update, next.version),
        context.documents(document, &next),
        context.delta(&next.delta(), next.version),
        context.document(&next),
    ];
    for message in messages {
        serde_json::from_slice::<Value>(&message).unwrap();
    }
    Ok(next)
}

fn first(request: &[u8]) -> Result<Document, ShadowError> {
    apply(&Document::default(), request, &Limits::default())
}

/// The requests leave this state; the last of them this delta.
#[track_caller]
fn check(requests: &[&str], expected: &str, delta: &str) {
    let mut document = Document::default();
    for request in requests {
        let request = format!(r#"{{"state":{request}}}"#);
        document = apply(&document, request.as_bytes(), &Limits::default()).unwrap();
    }
    assert_eq!(json(document.state()).to_string(), expected, "{requests:?}");
    assert_eq!(json(State(&document.delta())).to_string(), delta, "{requests:?}");
}

#[track_caller]
fn check_rejected(request: impl AsRef<[u8]>, expected: &str) {
    let request = request.as_ref();
    let error = first(request).unwrap_err();
    let begin = String::from_utf8_lossy(&request[..request.len().min(200)]);
    assert_eq!(format!("{} {error}", error.code()), expected, "{begin}");
}

/// What a device reported as `n`, as it is told again; or the rejection.
#[track_caller]
fn check_value(written: &str, told: &str) {
    let request = format!(r#"{{"state":{{"reported":{{"n":{written}}}}}}}"#);
    let found = match first(request.as_bytes()) {
        Ok(document) => json(document.state())["reported"]["n"].to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, told, "{written:.200}");
}

#[test]
fn a_number_is_kept_or_refused_and_never_infinite() {
    check_value("0", "0");
    check_value("-0", "-0.0");
    check_value("-0.0", "-0.0");
    check_value("9223372036854775807", "9223372036854775807");
    check_value("-9223372036854775808", "-9223372036854775808");
    check_value("18446744073709551615", "18446744073709551615");
    // From 2^64 on a number is a double, as for most who read JSON.
    check_value("18446744073709551616", "1.8446744073709552e+19");
    check_value("-9223372036854775809", "-9.223372036854776e+18");
    check_value("1e308", "1e+308");
    check_value("1e-400", "0.0");
    check_value("1e400", "Invalid JSON");
    check_value("-1e400", "Invalid JSON");
    check_value(&"9".repeat(300), "1e+300");
    check_value(&"9".repeat(400), "Invalid JSON");
    check_value(&format!("0.{}", "3".repeat(400)), "0.3333333333333333");
    check_value(&format!("1e{}", "9".repeat(400)), "Invalid JSON");
    check_value(&format!("{}e-{}", "9".repeat(400), 399), "10.0");
    for written in ["NaN", "Infinity", "-Infinity", "nan", "+1", "01", "0x10", "1.", ".5", "1e"] {
        check_value(written, "Invalid JSON");
    }
}

#[test]
fn numbers_that_are_equal_have_no_delta_however_they_are_written() {
    for (desired, reported) in [
        ("0", "-0"),
        ("-0.0", "0"),
        ("1", "1.0"),
        ("1e2", "100"),
        ("18446744073709551616", "1.8446744073709552e19"),
    ] {
        let request =
            format!(r#"{{"state":{{"desired":{{"n":{desired}}},"reported":{{"n":{reported}}}}}}}"#);
        let document = first(request.as_bytes()).unwrap();
        assert_eq!(document.delta(), document::Tree::new(), "{request}");
    }
    check(
        &[r#"{"desired":{"n":18446744073709551615},"reported":{"n":18446744073709551614}}"#],
        r#"{"desired":{"n":18446744073709551615},"reported":{"n":18446744073709551614}}"#,
        r#"{"n":18446744073709551615}"#,
    );
}

#[test]
fn text_is_unicode_or_refused() {
    check_value(r#""\ud83d\ude00""#, "\"\u{1f600}\"");
    check_value(r#""\u0000""#, r#""\u0000""#);
    for written in [
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83d\ud83d""#,
        r#""\ude00\ud83d""#,
        r#""\ud83dx""#,
        r#""\u12""#,
        "\"\0\"",
        "\"\n\"",
        r#""\x00""#,
        "'a'",
    ] {
        check_value(written, "Invalid JSON");
    }
    let encoding = "415 Unsupported documented encoding; supported encoding is UTF-8";
    // A surrogate in UTF-8, an overlong NUL, a broken sequence, Latin-1, UTF-16 with its mark.
    for bytes in [&b"\xed\xa0\x80"[..], b"\xc0\x80", b"\xe2\x82", b"\xfc"] {
        let request = [&br#"{"state":{"reported":{"n":""#[..], bytes, br#""}}}"#].concat();
        check_rejected(request, encoding);
    }
    check_rejected(b"\xff\xfe{\0}\0", encoding);
    check_rejected(b"{\0}\0", "400 Invalid JSON");
    check_rejected("\u{feff}{\"state\":{}}", "400 Invalid JSON");
}

#[test]
fn a_name_may_be_anything_that_json_allows() {
    for name in [
        "",
        " ",
        "\\u0000",
        "a\\u0000b",
        "__proto__",
        "constructor",
        "toString",
        "timestamp",
        "desired",
        "reported",
        "delta",
        "version",
        "clientToken",
        "$x",
        "a.b",
        "a/b",
        "+",
        "#",
        "..",
        "\u{202e}",
        "\u{1f600}",
        "${a}",
    ] {
        let state =
            format!(r#"{{"desired":{{"{name}":{{"{name}":1}}}},"reported":{{"{name}":2}}}}"#);
        check(&[&state], &state, &format!(r#"{{"{name}":{{"{name}":1}}}}"#));
        let metadata = format!(r#"{{"{name}":{{"timestamp":{START_S}}}}}"#);
        let document = first(format!(r#"{{"state":{state}}}"#).as_bytes()).unwrap();
        assert_eq!(json(document.metadata())["reported"].to_string(), metadata);
    }
}

#[test]
fn of_a_name_that_comes_twice_the_last_counts() {
    check(&[r#"{"reported":{"a":1,"a":{"b":2},"a":3}}"#], r#"{"reported":{"a":3}}"#, "{}");
    check(&[r#"{"reported":{"a":1},"reported":{"b":2}}"#], r#"{"reported":{"b":2}}"#, "{}");
    // Also where an escape hides it.
    check(&[r#"{"reported":{"a":1,"\u0061":2}}"#], r#"{"reported":{"a":2}}"#, "{}");
    let twice = r#"{"state":7,"state":{"reported":{"a":1}},"version":9,"version":0}"#;
    assert_eq!(first(twice.as_bytes()).unwrap().version, 1);
}

#[test]
fn many_names_are_a_matter_of_the_bounds_and_not_of_time() {
    let members: Vec<_> = (0..1_000_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let request = format!(r#"{{"state":{{"reported":{{{}}}}}}}"#, members.join(","));
    let too_large = "413 The payload exceeds the maximum size allowed";
    check_rejected(&request, too_large);
    let wide = Limits { payload_bytes: u32::MAX, ..Limits::default() };
    let error = apply(&Document::default(), request.as_bytes(), &wide).unwrap_err();
    assert_eq!(error, ShadowError::TooLarge);
    // What removes them takes no room, however often they come.
    let nulls = "\"k\":null,".repeat(12_000);
    let request = format!(r#"{{"state":{{"reported":{{{nulls}"a":1}}}}}}"#);
    assert_eq!(json(first(request.as_bytes()).unwrap().state()), json!({"reported": {"a": 1}}));
}

#[test]
fn depth_ends_in_a_rejection_and_not_in_the_stack() {
    let wide = Limits { payload_bytes: u32::MAX, shadow_levels: u32::MAX, ..Limits::default() };
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        for levels in [101, 1_000, 100_000] {
            let (opened, closed) = (open.repeat(levels), close.repeat(levels));
            let request = format!(r#"{{"state":{{"reported":{{"a":{opened}1{closed}}}}}}}"#);
            for request in [&request, &request[..request.len() - 2]] {
                let error = apply(&Document::default(), request.as_bytes(), &wide).unwrap_err();
                // Not even the widest limits allow more.
                let expected =
                    [ShadowError::TooDeep { max: 100 }, ShadowError::InvalidJson].contains(&error);
                assert!(expected, "{open} {levels}: {error}");
            }
            let token = Request::read_token(request.as_bytes()).client_token();
            assert_eq!(token, Ok(None));
        }
        // What is just allowed can be stored and read.
        let (opened, closed) = ("{\"a\":".repeat(98), "}".repeat(98));
        let request = format!(r#"{{"state":{{"desired":{{"a":{opened}[1]{closed}}}}}}}"#);
        apply(&Document::default(), request.as_bytes(), &wide).unwrap();
    }
    let default =
        format!(r#"{{"state":{{"reported":{}1{}}}}}"#, "{\"a\":".repeat(8), "}".repeat(8));
    first(default.as_bytes()).unwrap();
    let one_more =
        format!(r#"{{"state":{{"reported":{}1{}}}}}"#, "{\"a\":".repeat(9), "}".repeat(9));
    check_rejected(one_more, "400 JSON contains too many levels of nesting; maximum is 8");
}

#[test]
fn a_state_of_8_kib_fits_and_one_byte_more_does_not() {
    // {"reported":{"a":""}}
    let request = |length: usize| {
        format!(r#"{{"state":{{"reported":{{"a":"{}"}}}}}}"#, "x".repeat(length - 21))
    };
    for length in [8_191, 8_192] {
        let document = first(request(length).as_bytes()).unwrap();
        assert_eq!(json(document.state()).to_string().len(), length);
    }
    check_rejected(request(8_193), "413 The payload exceeds the maximum size allowed");
    // What counts is the state that comes of it, not the request.
    let full = first(request(8_192).as_bytes()).unwrap();
    let one_more = br#"{"state":{"reported":{"b":1}}}"#;
    let error = apply(&full, one_more, &Limits::default()).unwrap_err();
    assert_eq!(error, ShadowError::TooLarge);
    let spaces = format!(r#"{{"state":{{"reported":{{"a":1}}{}}}}}"#, " ".repeat(20_000));
    apply(&full, spaces.as_bytes(), &Limits::default()).unwrap();
    // Bytes count, and not characters; an escape counts as it is stored.
    let umlauts = format!(r#"{{"state":{{"reported":{{"a":"{}"}}}}}}"#, "ü".repeat(4_086));
    check_rejected(umlauts, "413 The payload exceeds the maximum size allowed");
    let escapes = format!(r#"{{"state":{{"reported":{{"a":"{}"}}}}}}"#, "\\u0061".repeat(8_171));
    first(escapes.as_bytes()).unwrap();
}

#[test]
fn nulls_delete_whatever_is_there_or_not() {
    let object = r#"{"desired":{"a":{"b":1,"c":2}},"reported":{"a":{"b":1,"c":2}}}"#;
    for (nulls, expected, delta) in [
        (
            r#"{"reported":{"a":null}}"#,
            r#"{"desired":{"a":{"b":1,"c":2}}}"#,
            r#"{"a":{"b":1,"c":2}}"#,
        ),
        (r#"{"desired":{"a":null}}"#, r#"{"reported":{"a":{"b":1,"c":2}}}"#, "{}"),
        (
            r#"{"desired":{"a":{"b":null}}}"#,
            r#"{"desired":{"a":{"c":2}},"reported":{"a":{"b":1,"c":2}}}"#,
            "{}",
        ),
        (r#"{"desired":{"a":{"b":null,"c":null}},"reported":null}"#, "{}", "{}"),
        (r#"{"desired":null,"reported":null}"#, "{}", "{}"),
        (r#"{"desired":{"x":null,"a":{"x":{"y":null}}}}"#, object, "{}"),
    ] {
        check(&[object, nulls], expected, delta);
        // Nothing is left to be deleted the second time.
        check(&[object, nulls, nulls], expected, delta);
    }
    check_rejected(r#"{"state":{"reported":{"a":[null]}}}"#, "400 State contains an invalid node");
    let deep = r#"{"state":{"reported":{"a":[{"b":[{"c":null}]}]}}}"#;
    check_rejected(deep, "400 State contains an invalid node");
}

#[test]
fn an_array_is_one_value_and_a_type_may_change() {
    let values = ["1", "\"1\"", "true", "[1]", "[[1],{\"b\":2}]", "{\"b\":1}", "[]", "1.5"];
    for before in values {
        for after in values {
            let of = |value: &str| format!(r#"{{"reported":{{"a":{value}}}}}"#);
            let wanted = format!(r#"{{"desired":{{"a":{before}}}}}"#);
            let both = format!(r#"{{"desired":{{"a":{before}}},"reported":{{"a":{after}}}}}"#);
            check(&[&of(before), &of(after)], &of(after), "{}");
            let delta = format!(r#"{{"a":{before}}}"#);
            check(&[&wanted, &of(after)], &both, if before == after { "{}" } else { &delta });
        }
    }
}

#[test]
fn nothing_desired_is_no_delta() {
    for request in ["{}", r#"{"desired":{}}"#, r#"{"desired":null}"#, r#"{"desired":{"a":{}}}"#] {
        check(&[request], "{}", "{}");
        check(&[r#"{"reported":{"a":1}}"#, request], r#"{"reported":{"a":1}}"#, "{}");
    }
}

#[test]
fn a_token_has_at_most_64_bytes() {
    let with = |token: &str| format!(r#"{{"state":{{}},"clientToken":"{token}"}}"#);
    for token in ["", "t", &"t".repeat(64), &"ü".repeat(32), "\\u0000"] {
        first(with(token).as_bytes()).unwrap();
    }
    for token in [&"t".repeat(65), &format!("{}t", "ü".repeat(32))] {
        check_rejected(with(token), "400 Invalid clientToken");
    }
    for token in ["7", "true", "[]", "{}", "[\"t\"]"] {
        let request = format!(r#"{{"state":{{}},"clientToken":{token}}}"#);
        check_rejected(request, "400 Invalid clientToken");
    }
}

#[test]
fn a_version_is_a_whole_number_and_the_present_one() {
    let with = |version: &str| format!(r#"{{"state":{{}},"version":{version}}}"#);
    assert_eq!(first(with("0").as_bytes()).unwrap().version, 1);
    for version in ["1", "2", "18446744073709551615"] {
        check_rejected(with(version), "409 Version conflict");
    }
    for version in ["-1", "-0", "0.0", "1e0", "18446744073709551616", "\"0\"", "[0]", "true"] {
        check_rejected(with(version), "400 Invalid version");
    }
}

proptest! {
    #[test]
    fn no_bytes_bring_it_down(request in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = first(&request);
        let _ = Request::read_token(&request).client_token();
    }

    #[test]
    fn nothing_that_looks_like_a_request_brings_it_down(
        request in r#"\{"state":\{("(desired|reported|x)":(\{"[ab]":(1|null|\[1\]|\{\}|"\\ud800")\}|null|7),?){0,3}\}(,"version":[0-9.e-]{0,3})?\}"#,
    ) {
        let _ = first(request.as_bytes());
    }
}
