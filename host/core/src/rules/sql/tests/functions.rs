//! Every function of the table: its answers, and what it makes of wrong types and of nothing.
//!
//! Expected values are those of AWS's guide where it has them.

use super::*;
use crate::message::Properties;

#[test]
fn numbers() {
    check_all(
        Version::V2016,
        &[
            ("acos(1)", "0"),
            ("acos(2)", ""),
            ("acos(text)", ""),
            ("asin(0)", "0"),
            ("asin(on)", ""),
            ("atan(0)", "0"),
            ("atan(nil)", ""),
            ("atan2(1, 0) > 1.57", "true"),
            ("atan2(0, 1)", "0"),
            ("atan2('0', '1')", "0"),
            ("atan2(0, nothing)", ""),
            ("atan2(list, 1)", ""),
            ("bitnot(13)", "-14"),
            ("bitnot(13.9)", "-14"),
            ("bitnot('13')", "-14"),
            ("bitnot(on)", ""),
            ("bitand(text, 1)", ""),
            ("bitor(nothing, 1)", ""),
            ("bitxor(1, nil)", ""),
            ("cos(0)", "1"),
            ("cosh(0)", "1"),
            ("exp(0)", "1"),
            ("exp('0')", "1"),
            ("exp(state)", ""),
            ("mod(8, 3)", "2"),
            ("mod(-8, 3)", "-2"),
            ("mod(8.5, '3')", "2.5"),
            ("mod(8, 0)", ""),
            ("mod(8, text)", ""),
            ("remainder(7, 4)", "3"),
            ("remainder(nothing, 4)", ""),
            ("sign(-7)", "-1"),
            ("sign(0)", "0"),
            ("sign(13)", "1"),
            ("sign('-0.1')", "-1"),
            ("sign(on)", ""),
            ("sin(0)", "0"),
            ("sinh(0)", "0"),
            ("tan(0)", "0"),
            ("tanh(0)", "0"),
            ("tanh(nothing)", ""),
            ("trunc(2.3, 0)", "2"),
            ("trunc(2.3123, 2)", "2.31"),
            ("trunc(2.888, 2)", "2.88"),
            ("trunc(2.00, 5)", "2"),
            ("trunc('2.888', '2')", "2.88"),
            ("trunc(7, 3)", "7"),
            ("trunc(2.5, -1)", ""),
            ("trunc(2.5, 35)", ""),
            ("trunc(on, 1)", ""),
            ("trunc(2.5, nothing)", ""),
            ("power(2, nothing)", ""),
            ("sqrt('9')", "3"),
            ("nanvl(nothing, 1)", "1"),
            ("ceil(nil)", ""),
            ("floor(text)", ""),
        ],
    );
}

#[test]
fn texts() {
    check_all(
        Version::V2016,
        &[
            ("chr(65)", "\"A\""),
            ("chr(49.9)", "\"1\""),
            ("chr('8364')", "\"€\""),
            ("chr(-1)", ""),
            ("chr(55296)", ""),
            ("chr(text)", ""),
            ("chr(nil)", ""),
            ("indexof('abcd', 'bc')", "1"),
            ("indexof('aébc', 'bc')", "2"),
            ("indexof('abcd', 'x')", "-1"),
            ("indexof(31.5, '.')", "2"),
            ("indexof(nil, 'a')", ""),
            ("indexof('a', nothing)", ""),
            ("lpad('hello', 2)", "\"  hello\""),
            ("lpad(1, 3)", "\"   1\""),
            ("lpad('hello', -2)", "\"hello\""),
            ("length(lpad('', 5000))", "1000"),
            ("lpad(nil, 1)", ""),
            ("lpad('a', text)", ""),
            ("rpad('hello', 2.9)", "\"hello  \""),
            ("rpad(nothing, 1)", ""),
            ("replace('abcd', 'bc', 'x')", "\"axd\""),
            ("replace('abcdabcd', 'b', 'x')", "\"axcdaxcd\""),
            ("replace(1231, 1, 'x')", "\"x23x\""),
            ("replace('ab', '', '-')", "\"-a-b-\""),
            ("replace(nil, 'a', 'b')", ""),
            ("replace('a', 'a', nothing)", ""),
            ("startswith('ranger', 'ran')", "true"),
            ("startswith(nothing, 'a')", ""),
            ("endswith(123, 3)", "true"),
            ("substring('012345', 0)", "\"012345\""),
            ("substring('012345', 2.745)", "\"2345\""),
            ("substring(123, 2)", "\"3\""),
            ("substring('012345', -1)", "\"012345\""),
            ("substring(on, 1.2)", "\"rue\""),
            ("substring(off, -2.411E247)", "\"false\""),
            ("substring('012345', 1, 3)", "\"12\""),
            ("substring('012345', -50, 50)", "\"012345\""),
            ("substring(nil, 1)", ""),
            ("substring('012', 1, nothing)", ""),
            ("regexp_matches('aaaa', 'a{2,}')", "true"),
            ("regexp_matches('aaaa', 'b')", "false"),
            ("regexp_matches(31.5, '\\d+')", "true"),
            ("regexp_matches(list, 'null')", "true"),
            ("regexp_matches(nil, 'a')", ""),
            ("regexp_matches('a', nil)", ""),
            ("regexp_matches('a', '(')", ""),
            ("regexp_matches('a', '(?=a)')", ""),
            ("regexp_matches(text, text)", "true"),
            ("regexp_replace('abcd', 'b{2,}', 'x')", "\"abcd\""),
            ("regexp_replace('abcd', 'b{1,2}', 'x')", "\"axcd\""),
            ("regexp_replace('abcd', 'b(.*)d', '$1')", "\"ac\""),
            ("regexp_replace('ab', '(a)', '$1$1x$')", "\"aax$b\""),
            ("regexp_replace('ab', 'a', nothing)", ""),
            ("regexp_substr('hihihello', 'hi')", "\"hi\""),
            ("regexp_substr('hihihello', '(hi)*')", "\"hihi\""),
            ("regexp_substr('a', 'b')", ""),
            ("regexp_substr(nothing, 'b')", ""),
            ("upper(nothing)", ""),
            ("trim(nil)", ""),
            ("numbytes('hi')", "2"),
            ("numbytes('€')", "3"),
            ("numbytes(nothing)", ""),
        ],
    );
}

#[test]
fn hashes_and_encodings() {
    check_all(
        Version::V2016,
        &[
            ("md2('hello')", "\"a9046c73e00331af68917d3804f70655\""),
            ("md5('hello')", "\"5d41402abc4b2a76b9719d911017c592\""),
            ("md5('iot123')", "\"e37f81fb397e595c4aeb5645b8cbbbd1\""),
            ("sha1('hello')", "\"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d\""),
            ("sha224('hello')", "\"ea09ae9cc6768c50fcee903ed054556e5bfc8347907f12598aa24193\""),
            (
                "sha256('hello')",
                "\"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\"",
            ),
            ("length(sha384(1))", "96"),
            ("length(sha512(on))", "128"),
            ("md5(nil)", ""),
            ("sha256(nothing)", ""),
            ("encode('hello', 'base64')", "\"aGVsbG8=\""),
            ("encode(list, 'base64')", "\"WzEsImIiLG51bGxd\""),
            ("encode('a', 'hex')", ""),
            ("encode(nil, 'base64')", ""),
            ("decode('aGVsbG8=', 'base64')", "\"hello\""),
            ("decode('eyJhIjogWzFdfQ==', 'base64').a", "[1]"),
            ("decode('%', 'base64')", "null"),
            ("decode(nil, 'base64')", "null"),
            ("decode('aGVsbG8=', 'hex')", ""),
        ],
    );
}

#[test]
fn times() {
    check_all(
        Version::V2016,
        &[
            ("parse_time('yyyy-MM-dd', 1481252162000)", "\"2016-12-09\""),
            ("parse_time(\"HH:mm:ss\", 1481252162000, 'America/Los_Angeles')", "\"18:56:02\""),
            ("parse_time('yyyy', '1481252162000')", "\"2016\""),
            ("parse_time('yyyy', text)", ""),
            ("parse_time('yyyy', nil)", ""),
            ("parse_time('yyyy', 0, 'Atlantis/North')", ""),
            ("parse_time('yyyy', 1E30)", ""),
            (
                "time_to_epoch('2020-04-03 09:45:18 UTC+01:00', 'yyyy-MM-dd HH:mm:ss VV')",
                "1585903518000",
            ),
            ("time_to_epoch('18 December 2015', 'dd MMMM yyyy')", "1450396800000"),
            ("time_to_epoch(text, 'yyyy')", ""),
            ("time_to_epoch(nil, 'yyyy')", ""),
            ("time_to_epoch('2015', nothing)", ""),
        ],
    );
}

#[test]
fn collections() {
    check_all(
        Version::V2016,
        &[
            ("get('abc', '1')", "\"b\""),
            ("get(list, -1)", ""),
            ("get(nil, 0)", ""),
            ("get(state, nothing)", ""),
            ("get_or_default(temp, 1)", "31.5"),
            ("get_or_default(nothing, 1)", "1"),
            ("get_or_default(nothing)", ""),
            ("get_or_default(nil, 1)", "null"),
            (
                "transform('enrichArray', {'d': 1, 'a': 9}, [{'a': 3}, {'b': 4}])",
                r#"[{"a":3,"d":1},{"b":4,"d":1,"a":9}]"#,
            ),
            ("transform('enrichArray', {'d': 1}, [])", "[]"),
            ("transform('other', {'d': 1}, [])", ""),
            ("transform('enrichArray', nothing, [])", ""),
            ("transform('enrichArray', {'d': 1}, [1])", ""),
            ("transform('enrichArray', {'d': 1}, temp)", ""),
        ],
    );
}

#[test]
fn services_that_only_aws_has_are_undefined() {
    check_all(
        Version::V2016,
        &[
            ("get_dynamodb('t', 'k', 'v', 'arn')", ""),
            ("get_secret('id', 'SecretString', 'arn')", ""),
            ("machinelearning_predict('m', 'arn', state)", ""),
        ],
    );
}

#[test]
fn the_message_has_properties_and_a_place() {
    let mut message = message(b"{}");
    message.topic = TopicName::parse("$aws/rules/hot/site/hall").unwrap();
    message.properties = Some(Box::new(Properties {
        payload_is_utf8: true,
        content_type: Some("text/plain".into()),
        response_topic: Some(TopicName::parse("answers").unwrap()),
        correlation_data: Some(Bytes::from_static(b"\x01\x02")),
        user: vec![("k".into(), "1".into()), ("k".into(), "2".into()), ("l".into(), "3".into())],
        ..Properties::default()
    }));
    let random = SeededRandom::new(1);
    let evaluate = |message: &Message, expression: &str| {
        let sql = format!("SELECT {expression} AS x");
        let statement = Statement::parse(&sql).unwrap();
        let answers = &Answers::NONE;
        let now = Timestamp::default();
        let input = Input { message, now, random: &random, account: "123456789012", answers };
        let json = super::evaluate(&statement, &input).unwrap().unwrap();
        String::from_utf8(json.to_vec()).unwrap()
    };
    for (expression, expected) in [
        ("topic()", r#"{"x":"site/hall"}"#),
        ("topic(1)", r#"{"x":"site"}"#),
        ("accountid()", r#"{"x":"123456789012"}"#),
        ("get_mqtt_property('content_type')", r#"{"x":"text/plain"}"#),
        ("get_mqtt_property('format_indicator')", r#"{"x":"UTF8_DATA"}"#),
        ("get_mqtt_property('response_topic')", r#"{"x":"answers"}"#),
        ("get_mqtt_property('correlation_data')", r#"{"x":"AQI="}"#),
        ("get_mqtt_property('nothing')", "{}"),
        ("get_user_properties('k')", r#"{"x":["1","2"]}"#),
        ("get_user_properties('m')", "{}"),
        ("get_user_properties()", r#"{"x":[{"k":"1"},{"k":"2"},{"l":"3"}]}"#),
    ] {
        assert_eq!(evaluate(&message, expression), expected, "{expression}");
    }
    let id = evaluate(&message, "traceid()");
    assert_eq!(id, evaluate(&message, "traceid()"));
    message.properties = None;
    for expression in ["get_mqtt_property('format_indicator')", "get_user_properties()"] {
        assert_eq!(evaluate(&message, expression), "{}", "{expression}");
    }
}

#[test]
fn a_regular_expression_is_bounded_in_time_and_memory() {
    let long = format!("{{\"t\":\"{}!\"}}", "a".repeat(100_000));
    let run = |sql: &str| run(sql, Version::V2016, long.as_bytes());
    // Exponential where an engine goes back.
    let bomb = "SELECT VALUE regexp_matches(t, '^(a+)+$')";
    assert_eq!(run(bomb).unwrap().unwrap(), "false");
    // Too large compiled: Undefined.
    let large = "SELECT VALUE isUndefined(regexp_matches(t, '((a{1000}){1000}){1000}'))";
    assert_eq!(run(large).unwrap().unwrap(), "true");
    let grown = format!("SELECT VALUE regexp_replace(t, 'a', '{}')", "b".repeat(1_000));
    assert_eq!(run(&grown), Err(EvaluationError::TooLarge));
}
