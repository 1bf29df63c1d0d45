//! The algebra of shadows, as tables: request by request, and what every message then says.

use super::super::answer::Context;
use super::super::request::Request;
use super::*;
use proptest::prelude::*;
use serde_json::json;

/// The second of the first request; each further one comes a second later.
const START_S: u64 = 1_800_000_000;

fn limits() -> Limits {
    Limits { shadow_bytes: 200, shadow_levels: 4, ..Limits::default() }
}

fn parse(request: &str) -> Result<Update, ShadowError> {
    Request::read(request.as_bytes(), &limits())?.into_update(&limits())
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis((START_S + second) * 1_000)
}

/// The document after each of the requests has been accepted.
#[track_caller]
fn after(requests: &[&str]) -> Document {
    let mut document = Document::default();
    for (second, request) in (0..).zip(requests) {
        let update = parse(&format!("{{\"state\":{request}}}")).unwrap();
        document = document.updated(&update, at(second), &limits()).unwrap();
    }
    document
}

fn json(view: impl Serialize) -> Value {
    serde_json::to_value(view).unwrap()
}

#[track_caller]
fn check_state(requests: &[&str], expected: &str) {
    assert_eq!(json(after(requests).state()).to_string(), expected, "{requests:?}");
}

#[test]
fn an_update_merges_deeply() {
    check_state(&[r#"{"desired":{"a":1}}"#], r#"{"desired":{"a":1}}"#);
    check_state(
        &[r#"{"desired":{"a":1}}"#, r#"{"reported":{"a":2},"desired":{"b":true}}"#],
        r#"{"desired":{"a":1,"b":true},"reported":{"a":2}}"#,
    );
    check_state(
        &[r#"{"reported":{"o":{"a":1,"b":{"c":2}}}}"#, r#"{"reported":{"o":{"b":{"d":3}}}}"#],
        r#"{"reported":{"o":{"a":1,"b":{"c":2,"d":3}}}}"#,
    );
    check_state(&[r#"{"reported":{"a":"x"}}"#, "{}"], r#"{"reported":{"a":"x"}}"#);
}

#[test]
fn arrays_are_replaced_whole() {
    check_state(
        &[r#"{"reported":{"l":[1,2,3]}}"#, r#"{"reported":{"l":[4]}}"#],
        r#"{"reported":{"l":[4]}}"#,
    );
    check_state(
        &[r#"{"reported":{"l":[{"a":1}]}}"#, r#"{"reported":{"l":[{"b":2}]}}"#],
        r#"{"reported":{"l":[{"b":2}]}}"#,
    );
    check_state(&[r#"{"reported":{"l":[]}}"#], r#"{"reported":{"l":[]}}"#);
}

#[test]
fn null_deletes_and_empty_objects_disappear() {
    check_state(
        &[r#"{"reported":{"a":1,"b":2}}"#, r#"{"reported":{"a":null,"c":null}}"#],
        r#"{"reported":{"b":2}}"#,
    );
    check_state(
        &[r#"{"reported":{"o":{"p":{"a":1}},"b":2}}"#, r#"{"reported":{"o":{"p":{"a":null}}}}"#],
        r#"{"reported":{"b":2}}"#,
    );
    check_state(&[r#"{"reported":{"o":{"p":{}},"b":2}}"#], r#"{"reported":{"b":2}}"#);
    check_state(
        &[r#"{"desired":{"a":1},"reported":{"a":1}}"#, r#"{"desired":null}"#],
        r#"{"reported":{"a":1}}"#,
    );
    check_state(&[r#"{"reported":{"a":1}}"#, r#"{"reported":{"a":null}}"#], "{}");
    check_state(&[r#"{"desired":null}"#], "{}");
}

#[test]
fn a_value_may_change_its_type() {
    let object = r#"{"reported":{"a":{"b":1}}}"#;
    let number = r#"{"reported":{"a":7}}"#;
    let array = r#"{"reported":{"a":[7]}}"#;
    check_state(&[object, number], number);
    check_state(&[number, object], object);
    check_state(&[array, object], object);
    check_state(&[object, array], array);
    check_state(&[number, r#"{"reported":{"a":{}}}"#], "{}");
    check_state(
        &[number, r#"{"reported":{"a":{"b":null,"c":2}}}"#],
        r#"{"reported":{"a":{"c":2}}}"#,
    );
}

#[test]
fn metadata_has_the_time_of_each_leaf_that_a_request_set() {
    let document = after(&[
        r#"{"reported":{"a":1,"l":[1,[2],{"x":3}],"timestamp":0}}"#,
        r#"{"reported":{"a":1,"o":{"b":2}},"desired":{"c":null}}"#,
    ]);
    let (first, second) = (json!({"timestamp": START_S}), json!({"timestamp": START_S + 1}));
    let expected = json!({
        "reported": {
            "a": second,
            "l": [first, [first], {"x": first}],
            "o": {"b": second},
            "timestamp": first,
        },
    });
    assert_eq!(json(document.metadata()), expected);
}

#[track_caller]
fn check_delta(request: &str, expected: &str) {
    assert_eq!(json(State(&after(&[request]).delta())).to_string(), expected, "{request}");
}

#[test]
fn the_delta_is_what_is_desired_and_not_reported() {
    check_delta(r#"{"desired":{"a":1}}"#, r#"{"a":1}"#);
    check_delta(r#"{"desired":{"a":1},"reported":{"a":1}}"#, "{}");
    check_delta(r#"{"desired":{"a":1},"reported":{"a":2}}"#, r#"{"a":1}"#);
    check_delta(r#"{"reported":{"a":1}}"#, "{}");
    check_delta(r#"{"desired":{"a":1},"reported":{"b":1}}"#, r#"{"a":1}"#);
    check_delta(
        r#"{"desired":{"o":{"a":1,"b":2}},"reported":{"o":{"a":1,"b":3}}}"#,
        r#"{"o":{"b":2}}"#,
    );
    check_delta(r#"{"desired":{"o":{"a":1}},"reported":{"o":{"a":1,"b":3}}}"#, "{}");
    check_delta(r#"{"desired":{"o":{"a":1}},"reported":{"o":7}}"#, r#"{"o":{"a":1}}"#);
    check_delta(r#"{"desired":{"o":7},"reported":{"o":{"a":1}}}"#, r#"{"o":7}"#);
    check_delta(r#"{"desired":{"l":[1,2]},"reported":{"l":[1]}}"#, r#"{"l":[1,2]}"#);
    check_delta(r#"{"desired":{"l":[1,2]},"reported":{"l":[2,1]}}"#, r#"{"l":[1,2]}"#);
    check_delta(r#"{"desired":{"l":[{"a":[1.0]}]},"reported":{"l":[{"a":[1]}]}}"#, "{}");
    check_delta(r#"{"desired":{"a":20},"reported":{"a":20.0}}"#, "{}");
    check_delta(r#"{"desired":{"a":"20"},"reported":{"a":20}}"#, r#"{"a":"20"}"#);
    // One apart, and the same as floats.
    check_delta(
        r#"{"desired":{"a":9007199254740993},"reported":{"a":9007199254740992}}"#,
        r#"{"a":9007199254740993}"#,
    );
}

#[track_caller]
fn check_rejected(request: &str, expected: &str) {
    let error = parse(request).unwrap_err();
    assert_eq!(format!("{} {error}", error.code()), expected, "{request:.200}");
}

#[test]
fn a_malformed_request_is_rejected_in_the_words_of_aws() {
    for request in ["{", "[]", "7", "null", r#"{"state":{},}"#] {
        check_rejected(request, "400 Invalid JSON");
    }
    check_rejected("", "400 Missing required node: state");
    check_rejected("{}", "400 Missing required node: state");
    check_rejected(r#"{"state":null}"#, "400 State node must be an object");
    check_rejected(r#"{"state":[]}"#, "400 State node must be an object");
    check_rejected(r#"{"state":{"desired":7}}"#, "400 Desired node must be an object");
    check_rejected(r#"{"state":{"reported":[]}}"#, "400 Reported node must be an object");
    check_rejected(r#"{"state":{"delta":{}}}"#, "400 State contains an invalid node: 'delta'");
    for version in ["-1", "1.5", "\"1\"", "{}", "18446744073709551616"] {
        let request = format!(r#"{{"state":{{}},"version":{version}}}"#);
        check_rejected(&request, "400 Invalid version");
    }
    for token in ["7".to_owned(), format!("{:?}", "t".repeat(65))] {
        let request = format!(r#"{{"state":{{}},"clientToken":{token}}}"#);
        check_rejected(&request, "400 Invalid clientToken");
    }
    let null = r#"{"state":{"reported":{"a":[1,{"b":null}]}}}"#;
    check_rejected(null, "400 State contains an invalid node");
    let error = Request::read(b"{\"state\":\xff}", &limits()).unwrap_err();
    assert_eq!(error.code(), 415);
    let large = vec![b' '; limits().payload_bytes as usize + 1];
    assert_eq!(Request::read(&large, &limits()).unwrap_err(), ShadowError::TooLarge);
}

#[test]
fn of_many_mistakes_the_first_in_the_order_of_aws_is_told() {
    // Each line mends the first mistake of the line before.
    let steps = [
        (r#"{"version":"1","clientToken":7,"state":7}"#, "State node must be an object"),
        (
            r#"{"version":"1","clientToken":7,"state":{"delta":{},"desired":7,"reported":7}}"#,
            "Desired node must be an object",
        ),
        (
            r#"{"version":"1","clientToken":7,"state":{"delta":{},"reported":7}}"#,
            "Reported node must be an object",
        ),
        (r#"{"version":"1","clientToken":7,"state":{"delta":{}}}"#, "Invalid version"),
        (r#"{"clientToken":7,"state":{"delta":{}}}"#, "Invalid clientToken"),
        (
            r#"{"state":{"delta":{},"desired":{"a":[null],"b":[[[[[1]]]]]}}}"#,
            "JSON contains too many levels of nesting; maximum is 4",
        ),
        (
            r#"{"state":{"delta":{},"desired":{"a":[null]}}}"#,
            "State contains an invalid node: 'delta'",
        ),
        (r#"{"state":{"desired":{"a":[null]}}}"#, "State contains an invalid node"),
    ];
    for (request, message) in steps {
        check_rejected(request, &format!("400 {message}"));
    }
}

#[test]
fn nesting_is_counted_inside_the_sections() {
    let too_deep = "400 JSON contains too many levels of nesting; maximum is 4";
    parse(r#"{"state":{"desired":{"a":{"b":{"c":{"d":1}}}}}}"#).unwrap();
    check_rejected(r#"{"state":{"desired":{"a":{"b":{"c":{"d":{"e":1}}}}}}}"#, too_deep);
    parse(r#"{"state":{"reported":{"a":[[[1]]]}}}"#).unwrap();
    check_rejected(r#"{"state":{"reported":{"a":[[[[1]]]]}}}"#, too_deep);
    for levels in [100, 127, 500, 10_000] {
        let (open, close) = ("{\"a\":".repeat(levels), "}".repeat(levels));
        check_rejected(&format!(r#"{{"state":{{"desired":{open}1{close}}}}}"#), too_deep);
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        check_rejected(&format!(r#"{{"state":{{"desired":{{"a":{open}1{close}}}}}}}"#), too_deep);
    }
}

#[test]
fn the_state_has_a_bound_and_metadata_does_not_count() {
    let fits = format!(r#"{{"reported":{{"a":"{}"}}}}"#, "x".repeat(200 - 21));
    let document = after(&[&fits]);
    assert_eq!(json(document.state()).to_string().len(), 200);
    let one_more = format!(r#"{{"state":{{"reported":{{"a":"{}"}}}}}}"#, "x".repeat(201 - 21));
    let more = parse(&one_more).unwrap();
    let error = document.updated(&more, at(1), &limits()).unwrap_err();
    assert_eq!(error, ShadowError::TooLarge);
    assert_eq!(error.code(), 413);
    // It may shrink, also when the request itself is long.
    let shrink = format!(r#"{{"state":{{"reported":{{"a":null,"{}":null}}}}}}"#, "n".repeat(300));
    let document = document.updated(&parse(&shrink).unwrap(), at(1), &limits()).unwrap();
    assert_eq!(json(document.state()), json!({}));
}

#[test]
fn a_version_counts_updates_and_guards_them() {
    let with = |version: u64| Update { version: Some(version), ..Update::default() };
    let document = after(&["{}", "{}", r#"{"reported":{"a":1}}"#]);
    assert_eq!(document.version, 3);
    for version in [0, 2, 4, u64::MAX] {
        let result = document.updated(&with(version), at(9), &limits());
        assert_eq!(result, Err(ShadowError::VersionConflict), "{version}");
    }
    assert_eq!(document.updated(&with(3), at(9), &limits()).unwrap().version, 4);
    // What does not exist has version 0.
    assert_eq!(Document::default().updated(&with(0), at(9), &limits()).unwrap().version, 1);
    assert!(Document::default().updated(&with(1), at(9), &limits()).is_err());
}

#[test]
fn the_version_of_a_deleted_shadow_is_continued_for_48_hours() {
    let base = |second| {
        let deleted = Stored::Deleted { version: 7, at_s: START_S };
        Stored::base(Some(deleted), at(second))
    };
    assert_eq!(base(0), Document { version: 7, ..Document::default() });
    assert_eq!(base(48 * 3_600 - 1).version, 7);
    assert_eq!(base(48 * 3_600).version, 0);
    assert_eq!(Stored::base(None, at(0)).version, 0);
    assert_eq!(Stored::Deleted { version: 7, at_s: START_S }.existing(), None);
}

#[track_caller]
fn assert_json(bytes: &[u8], expected: &Value) {
    assert_eq!(&serde_json::from_slice::<Value>(bytes).unwrap(), expected);
}

#[test]
fn answers_look_as_aws_documents_them() {
    let request = r#"{"state":{"desired":{"a":null,"o":{"b":1,"c":null}},"reported":null}}"#;
    let update = parse(request).unwrap();
    let previous = after(&[r#"{"desired":{"a":1},"reported":{"o":{"b":2}}}"#]);
    let current = previous.updated(&update, at(5), &limits()).unwrap();
    let (first, now) = (json!({"timestamp": START_S}), json!({"timestamp": START_S + 5}));
    let context = Context { now: at(5), client_token: Some("t") };
    let ended = |mut answer: Value| {
        answer["timestamp"] = (START_S + 5).into();
        answer["clientToken"] = "t".into();
        answer
    };
    let accepted = json!({
        "state": {"desired": {"a": null, "o": {"b": 1, "c": null}}, "reported": null},
        "metadata": {"desired": {"o": {"b": now}}},
        "version": 2,
    });
    assert_json(&context.updated(&update, current.version), &ended(accepted));
    let delta = json!({"state": {"o": {"b": 1}}, "metadata": {"o": {"b": now}}, "version": 2});
    assert_json(&context.delta(&current.delta(), 2), &ended(delta));
    let documents = json!({
        "previous": {
            "state": {"desired": {"a": 1}, "reported": {"o": {"b": 2}}},
            "metadata": {"desired": {"a": first}, "reported": {"o": {"b": first}}},
            "version": 1,
        },
        "current": {
            "state": {"desired": {"o": {"b": 1}}},
            "metadata": {"desired": {"o": {"b": now}}},
            "version": 2,
        },
    });
    assert_json(&context.documents(&previous, &current), &ended(documents));
    let got = json!({
        "state": {"desired": {"o": {"b": 1}}, "delta": {"o": {"b": 1}}},
        "metadata": {"desired": {"o": {"b": now}}},
        "version": 2,
    });
    assert_json(&context.document(&current), &ended(got));
    assert_json(&context.deleted(2), &ended(json!({"version": 2})));
    let rejected = ended(json!({"code": 409, "message": "Version conflict"}));
    assert_json(&context.rejected(&ShadowError::VersionConflict), &rejected);
    let context = Context { now: at(0), client_token: None };
    assert_json(&context.deleted(2), &json!({"version": 2, "timestamp": START_S}));
}

/// Any section content that a request may hold, nulls included.
fn fields() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0..3_u8).prop_map(Value::from),
        prop::collection::vec(0..3_u8, 0..3).prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(2, 12, 3, |inner| {
        prop::collection::hash_map("[a-c]", inner, 0..3).prop_map(|map| json!(map))
    });
    prop::collection::hash_map("[a-c]", value, 0..4).prop_map(|map| json!(map))
}

proptest! {
    #[test]
    fn once_the_device_reports_the_delta_nothing_is_outstanding(
        updates in prop::collection::vec((fields(), fields()), 1..5),
    ) {
        let limits = Limits::default();
        let mut document = Document::default();
        for (desired, reported) in updates {
            let request = json!({"state": {"desired": desired, "reported": reported}});
            let request = Request::read(request.to_string().as_bytes(), &limits).unwrap();
            let update = request.into_update(&limits).unwrap();
            document = document.updated(&update, at(0), &limits).unwrap();
        }
        let report = json!({"state": {"reported": State(&document.delta())}});
        let request = Request::read(report.to_string().as_bytes(), &limits).unwrap();
        let update = request.into_update(&limits).unwrap();
        let settled = document.updated(&update, at(1), &limits).unwrap();
        prop_assert_eq!(settled.delta(), Tree::new());
        prop_assert_eq!(settled.desired, document.desired);
    }
}
