//! The language, case by case: expression, payload, what a column of it becomes.

use super::*;
use crate::ids::{ClientId, Principal};
use crate::message::Publisher;
use crate::random::SeededRandom;
use crate::topic::TopicName;
use proptest::prelude::*;
use std::sync::Arc;

fn message(payload: &[u8]) -> Message {
    let publisher = Publisher {
        client_id: Some(ClientId::parse("lamp-7").unwrap()),
        principal: Some(Principal::new("ab12")),
    };
    let topic = TopicName::parse("site/hall/temp").unwrap();
    Message::new(topic, payload.to_vec(), Arc::new(publisher), Timestamp::from_millis(0))
}

fn run(sql: &str, version: Version, payload: &[u8]) -> Result<Option<Bytes>, EvaluationError> {
    let statement = Statement::parse_version(sql, version).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let now = Timestamp::from_millis(1_700_000_000_123);
    let random = SeededRandom::new(1);
    let answers = &Answers::NONE;
    let account = "123456789012";
    evaluate(
        &statement,
        &Input { message: &message(payload), now, random: &random, account, answers },
    )
}

const PAYLOAD: &str = r#"{
    "temp": 31.5, "int": 7, "neg": -3, "zero": 0, "whole": 10.0, "big": 18446744073709551615,
    "text": "Hall", "digits": "42", "half": "2.5", "yes": "TRUE", "on": true, "off": false,
    "nil": null, "empty": "", "list": [1, "b", null], "same": [1.0, "b", null],
    "state": {"led": {"r": 255}, "name": "x"}, "value": 5, "a-b": 1, "accent": "aé"
}"#;

/// The JSON of the expression as a column; empty text when it is Undefined.
#[track_caller]
fn check_all(version: Version, cases: &[(&str, &str)]) {
    for (expression, expected) in cases {
        let result = run(&format!("SELECT {expression} AS x"), version, PAYLOAD.as_bytes());
        let json = result.unwrap().expect("there is no WHERE");
        let json = std::str::from_utf8(&json).unwrap();
        let value = json.strip_prefix("{\"x\":").and_then(|rest| rest.strip_suffix('}'));
        assert_eq!(value.unwrap_or(""), *expected, "{expression} -> {json}");
    }
}

#[track_caller]
fn check_select(sql: &str, payload: &str, expected: Option<&str>) {
    let result = run(sql, Version::V2016, payload.as_bytes()).unwrap();
    let result = result.as_deref().map(|json| std::str::from_utf8(json).unwrap());
    assert_eq!(result, expected, "{sql}");
}

#[track_caller]
fn check_error(sql: &str, expected: &str) {
    match Statement::parse_version(sql, Version::V2016) {
        Ok(_) => panic!("{sql} parses"),
        Err(error) => assert_eq!(error.to_string(), expected, "{sql}"),
    }
}

#[test]
fn literals_and_paths_have_their_values() {
    check_all(
        Version::V2016,
        &[
            ("1", "1"),
            ("-1", "-1"),
            ("1.50", "1.5"),
            ("1E3", "1000"),
            ("1e-2", "0.01"),
            ("10.0", "10"),
            ("9999999999999999999999999999999999", "9999999999999999999999999999999999"),
            ("'a''b'", "\"a'b\""),
            ("\"it's\"", "\"it's\""),
            ("'back\\slash'", r#""back\\slash""#),
            ("''", "\"\""),
            ("true", "true"),
            ("False", "false"),
            ("NULL", "null"),
            ("temp", "31.5"),
            ("big", "18446744073709551615"),
            ("whole", "10"),
            ("list", r#"[1,"b",null]"#),
            ("state.led", r#"{"r":255}"#),
            ("state.led.r", "255"),
            ("(state).led.r", "255"),
            ("value", "5"),
            ("nothing", ""),
            ("temp.nothing", ""),
            ("state.nothing.r", ""),
            ("list.r", ""),
            ("TEMP", ""),
        ],
    );
}

#[test]
fn whole_decimals_stay_decimal_in_2015() {
    check_all(
        Version::V2015,
        &[
            ("whole", "10.0"),
            ("10.0", "10.0"),
            ("whole = 10", "true"),
            ("temp + 0.5", "32.0"),
            ("ceil(temp)", "32"),
        ],
    );
}

#[test]
fn arithmetic_follows_the_operator_tables() {
    check_all(
        Version::V2016,
        &[
            ("1 + 2", "3"),
            ("int + temp", "38.5"),
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("10 - 4 - 3", "3"),
            ("-int - -1", "-6"),
            ("- 2 * 3", "-6"),
            ("7 % 4", "3"),
            ("-7 % 4", "-3"),
            ("7.5 % 2", "1.5"),
            ("6 / 3", "2"),
            ("7 / 2", "3.5"),
            ("1 / 0", ""),
            ("1.0 / 0", ""),
            ("1 % 0", ""),
            ("big * big", "3.402823669209385e+38"),
            // A string converts, except for +, where it joins.
            ("digits * 2", "84"),
            ("half * 2", "5"),
            ("digits - half", "39.5"),
            ("-digits", "-42"),
            ("digits + 1", "\"421\""),
            ("'a' + on", "\"atrue\""),
            ("'a' + 1.5", "\"a1.5\""),
            ("'a' + list", r#""a[1,\"b\",null]""#),
            // Wrong types.
            ("'a' + nil", ""),
            ("'a' + nothing", ""),
            ("on + 1", ""),
            ("nil + 1", ""),
            ("nothing + 1", ""),
            ("list + 1", ""),
            ("state * 2", ""),
            ("text * 2", ""),
            ("'' * 2", ""),
            ("'+1' * 2", ""),
            ("'1.' * 2", ""),
            ("'1e2' * 2", "200"),
            ("'1E-1' * 2", "0.2"),
            ("'1e+2' * 2", ""),
            ("-text", ""),
            ("1E308 * 10", ""),
        ],
    );
}

#[test]
fn comparisons_follow_the_operator_tables() {
    check_all(
        Version::V2016,
        &[
            ("temp > 30", "true"),
            ("temp <= 30", "false"),
            ("30 < temp", "true"),
            ("int >= 7", "true"),
            ("big > 18446744073709551614", "true"),
            ("digits > 41", "true"),
            ("digits < half", "false"),
            ("text > 1", ""),
            ("on > 0", ""),
            ("nil > 0", ""),
            ("nothing > 0", ""),
            ("list > 0", ""),
            ("int = 7", "true"),
            ("int = 7.0", "true"),
            ("temp = 31", "false"),
            ("text = 'Hall'", "true"),
            ("text = 'hall'", "false"),
            ("digits = 42", "false"),
            ("digits <> 42", "true"),
            ("int != 8", "true"),
            ("on = true", "true"),
            ("on = 'true'", "false"),
            ("list = same", "true"),
            ("state = state", "true"),
            ("state = list", "false"),
            ("nil = NULL", "true"),
            ("nil <> NULL", "false"),
            ("nil = 0", "false"),
            ("nothing = 1", ""),
            ("nothing <> 1", ""),
            ("nothing = nothing", ""),
            ("1 < 2 = true", "true"),
        ],
    );
}

#[test]
fn logic_has_no_shortcut_for_undefined() {
    check_all(
        Version::V2016,
        &[
            ("on AND off", "false"),
            ("on or off", "true"),
            ("NOT on", "false"),
            ("not not on", "true"),
            ("NOT int = 8", "true"),
            ("off AND off OR on", "true"),
            ("on OR on AND off", "true"),
            ("(on OR on) AND off", "false"),
            ("yes AND on", "true"),
            ("yes AND 'False'", "false"),
            ("on OR nothing", ""),
            ("off AND nothing", ""),
            ("on AND 1", ""),
            ("on AND text", ""),
            ("on AND nil", ""),
            ("NOT nothing", ""),
            ("NOT 1", ""),
        ],
    );
}

#[test]
fn cast_converts_or_is_undefined() {
    check_all(
        Version::V2016,
        &[
            ("cast(int AS String)", "\"7\""),
            ("CAST(temp as varchar)", "\"31.5\""),
            ("cast(state AS Text)", r#""{\"led\":{\"r\":255},\"name\":\"x\"}""#),
            ("cast(nil AS String)", ""),
            ("cast(temp AS Int)", "31"),
            ("cast(-31.5 AS Int)", "-32"),
            ("cast('-2.5' AS Integer)", "-2"),
            ("cast(text AS Int)", ""),
            ("cast(on AS Int)", "1"),
            ("cast(nil AS Int)", "null"),
            ("cast(list AS Int)", ""),
            ("cast(half AS Double)", "2.5"),
            ("cast(digits AS Decimal)", "42"),
            ("cast(off AS Decimal)", "0"),
            ("cast(2 AS Bool)", "true"),
            ("cast(zero AS Boolean)", "false"),
            ("cast(yes AS Boolean)", "true"),
            ("cast(text AS Boolean)", ""),
            ("cast(nothing AS Boolean)", ""),
        ],
    );
}

#[test]
fn functions_of_the_message_answer_from_it() {
    check_all(
        Version::V2016,
        &[
            ("topic()", "\"site/hall/temp\""),
            ("topic(1)", "\"site\""),
            ("topic(3)", "\"temp\""),
            ("topic('2')", "\"hall\""),
            ("topic(0)", ""),
            ("topic(4)", ""),
            ("topic(-1)", ""),
            ("topic(text)", ""),
            ("topic(1, 2)", ""),
            ("timestamp()", "1700000000123"),
            ("clientid()", "\"lamp-7\""),
            ("principal()", "\"ab12\""),
            ("sql_version()", "\"2016-03-23\""),
            ("length(newuuid())", "36"),
            ("rand() < 1", "true"),
        ],
    );
}

#[test]
fn functions_of_values_convert_or_are_undefined() {
    check_all(
        Version::V2016,
        &[
            ("abs(neg)", "3"),
            ("abs('-2.5')", "2.5"),
            ("abs(on)", ""),
            ("abs(nil)", ""),
            ("abs()", ""),
            ("abs(1, 2)", ""),
            ("ceil(1.2)", "2"),
            ("Floor(-1.2)", "-2"),
            ("round(1.5)", "2"),
            ("round(-1.5)", "-2"),
            ("round('2.4')", "2"),
            ("round(text)", ""),
            ("sqrt(16)", "4"),
            ("sqrt(-1)", ""),
            ("ln(0)", ""),
            ("log(1000)", "3"),
            ("power(2, 10)", "1024"),
            ("power(-1, 0.5)", ""),
            ("bitand(13, 5.9)", "5"),
            ("bitor(8, 5)", "13"),
            ("bitxor(13, 5)", "8"),
            ("nanvl(temp, 1)", "31.5"),
            ("nanvl(text, 1)", "1"),
            ("lower(text)", "\"hall\""),
            ("upper('straße')", "\"STRASSE\""),
            ("lower(on)", "\"true\""),
            ("lower(nil)", ""),
            ("trim('  a ')", "\"a\""),
            ("ltrim('  a ')", "\"a \""),
            ("rtrim('  a ')", "\"  a\""),
            ("length(accent)", "2"),
            ("numbytes(accent)", "3"),
            ("length(int)", "1"),
            ("length(nil)", ""),
            ("startswith(text, 'Ha')", "true"),
            ("endswith(text, 'Ha')", "false"),
            ("endswith(text, nothing)", ""),
            ("substring('012345', 2)", "\"2345\""),
            ("substring('012345', -1, 3)", "\"012\""),
            ("substring('012345', 3, 1)", "\"\""),
            ("substring('012345', 'a')", ""),
            ("concat()", ""),
            ("concat(int)", "7"),
            ("concat('a', 1, true)", "\"a1true\""),
            ("concat('a', nil)", ""),
            ("concat(list, 2)", r#"[1,"b",null,2]"#),
            ("get(list, 1)", "\"b\""),
            ("get(list, 9)", ""),
            ("get(state, 'led').r", "255"),
            ("get(state, 'none')", ""),
            ("get(text, 0)", "\"H\""),
            ("get(int, 0)", ""),
            ("isNull(nil)", "true"),
            ("isnull(nothing)", "false"),
            ("isUndefined(nothing)", "true"),
            ("isUndefined(nil)", "false"),
        ],
    );
}

#[test]
fn where_passes_only_what_is_true() {
    let hot = r#"{"temp": 31, "ok": "true"}"#;
    let star = "SELECT * FROM 'sensor/temp' WHERE";
    check_select(&format!("{star} temp > 30"), hot, Some(hot));
    check_select(&format!("{star} temp > 31"), hot, None);
    check_select(&format!("{star} humidity > 30"), hot, None);
    check_select(&format!("{star} NOT humidity > 30"), hot, None);
    check_select(&format!("{star} ok"), hot, Some(hot));
    check_select(&format!("{star} temp"), hot, None);
    check_select(&format!("{star} topic(2) = 'hall' AND temp > 30"), hot, Some(hot));
}

#[test]
fn select_builds_an_object_in_the_order_of_its_columns() {
    let payload = r#"{"b": 1, "a": {"c": 2, "d": null}, "e": [3]}"#;
    check_select("SELECT b, a.c", payload, Some(r#"{"b":1,"c":2}"#));
    check_select("SELECT a.c, b, nothing, a.d", payload, Some(r#"{"c":2,"b":1,"d":null}"#));
    check_select("SELECT nothing", payload, Some("{}"));
    check_select(
        "SELECT topic(1), b AS x.y.z",
        payload,
        Some(r#"{"topic":"site","x":{"y":{"z":1}}}"#),
    );
    check_select("SELECT b AS x.y, b + 1 AS x.z", payload, Some(r#"{"x":{"y":1,"z":2}}"#));
    check_select("SELECT a, 9 AS a.f", payload, Some(r#"{"a":{"c":2,"d":null,"f":9}}"#));
    check_select("SELECT b AS x, 9 AS x.f", payload, Some(r#"{"x":{"f":9}}"#));
    check_select("SELECT b AS x, e AS x", payload, Some(r#"{"x":[3]}"#));
    check_select("SELECT b AS select", payload, Some(r#"{"select":1}"#));
    let all = r#"{"b":9,"a":{"c":2,"d":null},"e":[3],"t":"site"}"#;
    check_select("SELECT *, 9 AS b, topic(1) AS t", payload, Some(all));
}

#[test]
fn select_star_alone_hands_the_payload_on_untouched() {
    let odd = "{\"b\" : 1.50,\n\"b\":2, \"huge\": 1e400, \"n\": 12345678901234567890123}";
    check_select("SELECT *", odd, Some(odd));
    check_select("SELECT * WHERE b = 2", odd, Some(odd));
    let binary = [0xff, 0x00, 0x80];
    let result = run("SELECT *", Version::V2016, &binary).unwrap().unwrap();
    assert_eq!(&*result, &binary);
}

#[test]
fn a_payload_that_is_no_json_object_has_only_undefined_members() {
    for payload in [
        &b"\xff\x00"[..],
        b"",
        b"text",
        b"[1]",
        b"7",
        b"{\"b\":1",
        b"{\"b\":1} x",
        b"\xef\xbb\xbf{\"b\":1}",
        b"{\"b\":1,}",
        b"NaN",
    ] {
        let column = run("SELECT b, topic(1) AS t", Version::V2016, payload).unwrap().unwrap();
        assert_eq!(&*column, br#"{"t":"site"}"#, "{payload:?}");
        assert_eq!(run("SELECT * WHERE b = 1", Version::V2016, payload), Ok(None), "{payload:?}");
    }
    let attached = run("SELECT *, topic(1) AS t", Version::V2016, b"\xff\x00").unwrap().unwrap();
    assert_eq!(&*attached, br#"{"payload":"/wA=","t":"site"}"#);
    check_select("SELECT *, topic(1) AS t", "", Some(r#"{"t":"site"}"#));
    check_select("SELECT *, topic(1) AS t", "[1]", Some(r#"{"payload":[1],"t":"site"}"#));
}

#[test]
fn of_duplicate_members_the_last_one_counts() {
    check_select("SELECT a.b", r#"{"a":{"b":1},"a":{"b":2}}"#, Some(r#"{"b":2}"#));
    check_select("SELECT a.b", r#"{"a":{"b":1},"a":2}"#, Some("{}"));
    check_select("SELECT a", r#"{"a":{"b":1},"a":2}"#, Some(r#"{"a":2}"#));
    check_select("SELECT a, a.b", r#"{"a":1,"a":{"b":2}}"#, Some(r#"{"a":{"b":2},"b":2}"#));
}

#[test]
fn a_deep_payload_is_skipped_or_refused_but_never_recursed_into() {
    let deep = |levels: usize| {
        format!("{{\"temp\":31,\"deep\":{}1{}}}", "[".repeat(levels), "]".repeat(levels))
    };
    check_select("SELECT temp WHERE temp > 30", &deep(30_000), Some(r#"{"temp":31}"#));
    let read = |sql: &str, levels| run(sql, Version::V2016, deep(levels).as_bytes());
    assert_eq!(read("SELECT deep", 30_000), Err(EvaluationError::TooDeep));
    assert_eq!(read("SELECT *, 1 AS x", JSON_DEPTH_MAX), Err(EvaluationError::TooDeep));
    assert!(read("SELECT *, 1 AS x", JSON_DEPTH_MAX - 1).is_ok());
}

#[test]
fn a_statement_cannot_multiply_its_payload_without_bound() {
    let payload = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
    let columns: Vec<_> = (0..50).map(|n| format!("a AS c{n}")).collect();
    let wide = format!("SELECT {}", columns.join(", "));
    let long = format!("SELECT concat({}) AS x", vec!["a"; 1_000].join(", "));
    let doubled = (0..20).fold("a".to_owned(), |inner, _| format!("concat({inner}, a, a)"));
    let doubled = format!("SELECT {doubled} AS x");
    for sql in [wide, long, doubled] {
        let result = run(&sql, Version::V2016, payload.as_bytes());
        assert_eq!(result, Err(EvaluationError::TooLarge), "{sql:.60}");
    }
}

#[test]
fn from_is_a_topic_filter() {
    let filter = |sql: &str| Statement::parse(sql).unwrap().filter().map(ToString::to_string);
    assert_eq!(filter("SELECT * FROM 'a/+/#'").as_deref(), Some("a/+/#"));
    assert_eq!(
        filter("select\n* from \"$aws/things/+/shadow/update\"").as_deref(),
        Some("$aws/things/+/shadow/update")
    );
    assert_eq!(filter("SELECT *"), None);
}

#[test]
fn a_syntax_error_says_where_and_what_was_expected() {
    check_error("", "line 1, column 1: expected SELECT, found the end of the statement");
    check_error("SELEC *", "line 1, column 1: expected SELECT, found `SELEC`");
    check_error(
        "SELECT",
        "line 1, column 7: expected a value, a name or a function, found the end of the statement",
    );
    check_error(
        "SELECT FROM 'a'",
        "line 1, column 8: expected a value, a name or a function, found `FROM`",
    );
    check_error(
        "SELECT * FROM sensor/temp",
        "line 1, column 15: expected a topic filter in quotes after FROM, found `sensor`",
    );
    check_error(
        "SELECT * FROM 'a' WERE x",
        "line 1, column 19: expected WHERE or the end of the statement, found `WERE`",
    );
    check_error(
        "SELECT * FROM 'a' WHERE",
        "line 1, column 24: expected a value, a name or a function, found the end of the statement",
    );
    check_error(
        "SELECT *\nFROM 'a'\n  WHERE temp > ",
        "line 3, column 16: expected a value, a name or a function, found the end of the statement",
    );
    check_error(
        "SELECT * FROM 'a' WHERE temp 30",
        "line 1, column 30: expected an operator, AND, OR or the end of the statement, found a number",
    );
    check_error(
        "SELECT * FROM 'a' WHERE (temp > 30",
        "line 1, column 35: expected an operator or `)`, found the end of the statement",
    );
    check_error(
        "SELECT * FROM 'é' WHERE temp = ü)",
        "line 1, column 33: expected an operator, AND, OR or the end of the statement, found `)`",
    );
    check_error("SELECT a.1", "line 1, column 10: expected a name after `.`, found a number");
    check_error(
        "SELECT a b",
        "line 1, column 10: expected `,`, AS, an operator, FROM, WHERE or the end of the statement, found `b`",
    );
    check_error(
        "SELECT topic(1",
        "line 1, column 15: expected an operator, `,` or `)`, found the end of the statement",
    );
    check_error(
        "SELECT topic(1,)",
        "line 1, column 16: expected a value, a name or a function, found `)`",
    );
    check_error("SELECT a AS 'x'", "line 1, column 13: expected a name after AS, found a string");
    check_error("SELECT 1 + 1", "line 1, column 8: this column has no name; add AS and a name");
    check_error(
        "SELECT * FROM 'a' WHERE t = 'x",
        "line 1, column 29: this string is not closed; expected another '",
    );
    check_error("SELECT * FROM 'a' WHERE t # 1", "line 1, column 27: unexpected character '#'");
    check_error(
        "SELECT 2nd AS x",
        "line 1, column 8: a name cannot begin with a digit; read such a member with get(object, 'name')",
    );
    check_error(
        "SELECT 1E999 AS x",
        "line 1, column 8: this number is out of range; at most 1.7E308",
    );
    check_error(
        "SELECT * FROM 'a/#/b'",
        "line 1, column 15: topic filter has a misplaced '#' at byte 2",
    );
    check_error("SELECT * FROM ''", "line 1, column 15: topic is empty");
    check_error(
        "SELECT * FROM '$share/g/a'",
        "line 1, column 15: a rule cannot use a shared subscription",
    );
    check_error(
        "SELECT * FROM '$aws/rules/r/a'",
        "line 1, column 15: a rule cannot read $aws/rules/…; those messages go to the rule they name",
    );
    check_error(
        "SELECT cast(a AS Date)",
        "line 1, column 18: expected String, Int, Double, Decimal or Boolean, found `Date`",
    );
    check_error("SELECT cast(a, Int)", "line 1, column 14: expected AS and a type, found `,`");
    check_error(
        "SELECT a = NOT b AS x",
        "line 1, column 12: expected a value, a name or a function, found `NOT`",
    );
}

#[test]
fn a_syntax_error_in_what_goes_beyond_columns_says_where_too() {
    check_error(
        "SET",
        "line 1, column 4: expected a variable (`@name`) after SET, found the end of the statement",
    );
    check_error(
        "SET a = 1 SELECT a",
        "line 1, column 5: expected a variable (`@name`) after SET, found `a`",
    );
    check_error(
        "SET @a 1 SELECT @a",
        "line 1, column 8: expected `=` after the variable, found a number",
    );
    check_error("SET @a = 1, @a = 2 SELECT @a", "line 1, column 13: @a is set twice");
    check_error("SELECT @b", "line 1, column 8: @b is not set; set it before SELECT by SET");
    check_error(
        "SET @a = @b, @b = 1 SELECT @a",
        "line 1, column 10: @b is not set; set it before SELECT by SET",
    );
    check_error(
        "SELECT CASE a END AS x",
        "line 1, column 15: expected an operator or WHEN, found `END`",
    );
    check_error(
        "SELECT CASE a WHEN 1 END AS x",
        "line 1, column 22: expected an operator or THEN, found `END`",
    );
    check_error(
        "SELECT CASE a WHEN 1 THEN 2 AS x",
        "line 1, column 29: expected an operator, WHEN, ELSE or END, found `AS`",
    );
    check_error(
        "SELECT [1, 2 AS x",
        "line 1, column 14: expected an operator, `,` or `]`, found `AS`",
    );
    check_error(
        "SELECT {1: 2} AS x",
        "line 1, column 9: expected the name of a member, in quotes, found a number",
    );
    check_error(
        "SELECT {'a' 2} AS x",
        "line 1, column 13: expected `:` after the name of a member, found a number",
    );
    check_error(
        "SELECT (SELECT a) AS x",
        "line 1, column 17: expected an operator, `,` or FROM; a nested SELECT needs a FROM, found `)`",
    );
    check_error("SELECT a[1 AS x", "line 1, column 12: expected an operator or `]`, found `AS`");
    check_error(
        "SELECT * FROM 'a' WHERE EXISTS(a)",
        "line 1, column 32: expected SELECT after EXISTS(, found `a`",
    );
    check_error("SELECT [1]", "line 1, column 8: this column has no name; add AS and a name");
}

#[test]
fn what_2016_brought_is_refused_before_by_name() {
    for (sql, message) in [
        ("SELECT length(a)", "`length` needs awsIotSqlVersion 2016-03-23"),
        ("SELECT [1] AS x", "an array literal needs awsIotSqlVersion 2016-03-23"),
        ("SELECT {'a': 1} AS x", "an object literal needs awsIotSqlVersion 2016-03-23"),
        ("SELECT (SELECT a FROM b) AS x", "a nested SELECT needs awsIotSqlVersion 2016-03-23"),
    ] {
        let error = Statement::parse_version(sql, Version::V2015).unwrap_err();
        assert_eq!(error.message, message);
    }
}

#[test]
fn hostile_statements_end_with_an_error() {
    let deep = "the expression is nested deeper than 64 levels";
    let chain = "the expression joins more than 128 parts in a row; use IN, concat or parentheses";
    let deep_from = "expected a topic filter in quotes after FROM, found `(`";
    let long =
        "the statement has more than 4096 names, literals, operators and calls; split the rule";
    for (sql, message) in [
        (format!("SELECT {}1 AS x", "(".repeat(10_000)), deep),
        (format!("SELECT {}1 AS x", "-".repeat(10_000)), deep),
        (format!("SELECT {}1 AS x", "NOT ".repeat(10_000)), deep),
        (format!("SELECT {}1 AS x", "abs(".repeat(10_000)), deep),
        (format!("SELECT {}1{} AS x", "[".repeat(10_000), "]".repeat(10_000)), deep),
        (format!("SELECT {}1", "{'a':".repeat(10_000)), deep),
        (format!("SELECT {}1", "CASE ".repeat(10_000)), deep),
        (format!("SELECT {}a", "(SELECT VALUE ".repeat(1_000)), deep),
        (format!("SELECT a{} AS x", " FROM (SELECT VALUE a".repeat(1_000)), deep_from),
        (format!("SELECT a{}", "[0]".repeat(10_000)), chain),
        (format!("SELECT {}", vec!["a"; 10_000].join(".")), chain),
        (format!("SELECT {} AS x", vec!["a"; 10_000].join("+")), chain),
        (format!("SELECT {}", vec!["a"; 10_000].join(",")), long),
        (format!("SELECT {}", vec!["a"; 100].join(".")), "a path has at most 64 names"),
        (" ".repeat(1_000_000), "the statement has 1000000 bytes; at most 131072"),
    ] {
        let error = Statement::parse(&sql).expect_err("a hostile statement parses");
        assert_eq!(error.message, message);
    }
    // As deep as allowed: on the small stack of a test thread.
    let nested = format!("SELECT {}temp{} AS x", "abs(".repeat(62), ")".repeat(62));
    check_select(&nested, r#"{"temp":-1}"#, Some(r#"{"x":1}"#));
    let nested = format!("SELECT {}n{} AS x", "(SELECT VALUE ".repeat(60), " FROM *)".repeat(60));
    let expected = format!("{{\"x\":{}1{}}}", "[".repeat(60), "]".repeat(60));
    check_select(&nested, r#"{"n":1}"#, Some(&expected));
    let chain = format!("SELECT {} AS x", vec!["n"; 128].join(" + "));
    check_select(&chain, r#"{"n":1}"#, Some(r#"{"x":128}"#));
}

fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "AND",
        "OR",
        "NOT",
        "AS",
        "cast",
        "topic",
        "(",
        ")",
        "*",
        ",",
        ".",
        "=",
        "<>",
        "<",
        "+",
        "-",
        "/",
        "%",
        "'a/b'",
        "'x",
        "\"q\"",
        "1",
        "2.5e3",
        "temp",
        "a",
        "NULL",
        "true",
        "@v",
        "[",
        "]",
        "{",
        "}",
        ":",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "IN",
        "EXISTS",
        "VALUE",
        "SET",
        "get",
        "regexp_matches",
        "decode",
        "é",
        "\n",
    ])
}

mod functions;
mod language;

proptest! {
    #[test]
    fn the_parser_never_panics_on_text(text in "\\PC{0,200}") {
        let _ = Statement::parse(&text);
    }

    #[test]
    fn the_parser_never_panics_on_tokens(tokens in prop::collection::vec(token(), 0..60)) {
        let _ = Statement::parse(&tokens.join(" "));
        let _ = Statement::parse(&tokens.concat());
    }

    #[test]
    fn evaluation_never_panics(
        tokens in prop::collection::vec(token(), 1..12),
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "\\{\"(a|temp)\":[0-9e.\\[\\]{}\",:a-c-]{0,30}\\}".prop_map(String::into_bytes),
        ],
    ) {
        let sql = format!("SELECT *, {} AS x WHERE a", tokens.join(" "));
        if let Ok(statement) = Statement::parse_version(&sql, Version::V2016) {
            let random = SeededRandom::new(1);
            let message = message(&payload);
            let input = Input {
                message: &message,
                now: Timestamp::default(),
                random: &random,
                account: "1",
                answers: &Answers::NONE,
            };
            let _ = evaluate(&statement, &input);
        }
    }
}
