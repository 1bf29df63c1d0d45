//! Constructs beyond a list of columns: SET, VALUE, CASE, IN, EXISTS, literals, nested SELECT,
//! `*` as a value, templates, and the trace of a statement.

use super::*;

const EVENTS: &str = r#"{"e":[
    {"n":"temperature","u":"Cel","t":1234,"v":22.5},
    {"n":"light","u":"lm","t":1235,"v":135},
    {"n":"acidity","u":"pH","t":1235,"v":7}
],"one":{"n":"x","v":1},"list":[1,2,"a",null],"t":31.5,"nil":null,"matrix":[[1,2],[3]]}"#;

#[track_caller]
fn check(sql: &str, expected: &str) {
    check_select(sql, EVENTS, Some(expected));
}

#[test]
fn a_nested_select_runs_over_the_elements_of_an_array() {
    check(
        "SELECT (SELECT VALUE n FROM e) AS sensors",
        r#"{"sensors":["temperature","light","acidity"]}"#,
    );
    check("SELECT (SELECT v FROM e WHERE n = 'temperature') AS x", r#"{"x":[{"v":22.5}]}"#);
    check("SELECT get((SELECT v FROM e WHERE n = 'temperature'), 0).v AS x", r#"{"x":22.5}"#);
    check("SELECT (SELECT VALUE v * 2 FROM e WHERE t > 1234) AS x", r#"{"x":[270,14]}"#);
    check(
        "SELECT (SELECT v AS a.b, n AS a.c FROM e WHERE v = 7) AS x",
        r#"{"x":[{"a":{"b":7,"c":"acidity"}}]}"#,
    );
    check(
        "SELECT (SELECT * FROM e WHERE v = 7) AS x",
        r#"{"x":[{"n":"acidity","u":"pH","t":1235,"v":7}]}"#,
    );
    check("SELECT (SELECT *, 1 AS k FROM one) AS x", r#"{"x":[{"n":"x","v":1,"k":1}]}"#);
    check("SELECT (SELECT VALUE * FROM list WHERE * > 1) AS x", r#"{"x":[2]}"#);
    check("SELECT (SELECT VALUE nothing FROM e) AS x", r#"{"x":[]}"#);
    check("SELECT (SELECT VALUE n FROM t) AS x", "{}");
    check("SELECT (SELECT VALUE n FROM nothing) AS x", "{}");
    check("SELECT (SELECT VALUE (SELECT VALUE * FROM *) FROM matrix) AS x", r#"{"x":[[1,2],[3]]}"#);
    check("SELECT (SELECT VALUE topic(1) FROM one) AS x", r#"{"x":["site"]}"#);
    check("SET @k = t SELECT (SELECT VALUE v + @k FROM one) AS x", r#"{"x":[32.5]}"#);
    // Names are the element's, never the message's.
    check("SELECT (SELECT VALUE t FROM one) AS x", r#"{"x":[]}"#);
}

#[test]
fn exists_and_in_ask_arrays() {
    check("SELECT VALUE EXISTS(SELECT * FROM e WHERE v > 100)", "true");
    check("SELECT VALUE exists (SELECT n FROM e WHERE v > 200)", "false");
    check("SELECT VALUE isUndefined(EXISTS(SELECT n FROM t))", "true");
    check("SELECT VALUE 2 IN list", "true");
    check("SELECT VALUE 2.0 in [1, 2]", "true");
    check("SELECT VALUE 'b' IN list", "false");
    check("SELECT VALUE nil IN list", "true");
    check("SELECT VALUE 'light' IN (SELECT VALUE n FROM e)", "true");
    check("SELECT VALUE 3 IN (1, 2, 3)", "true");
    check("SELECT VALUE 3 NOT IN (1, 2)", "true");
    check("SELECT VALUE NOT 3 IN (1, 2)", "true");
    check("SELECT VALUE isUndefined(nothing IN list)", "true");
    check("SELECT VALUE isUndefined(1 IN t)", "true");
    check("SELECT VALUE isUndefined(1 IN nothing)", "true");
    check_select(
        "SELECT t WHERE 'light' IN (SELECT VALUE n FROM e)",
        EVENTS,
        Some(r#"{"t":31.5}"#),
    );
    check_select("SELECT t WHERE EXISTS(SELECT n FROM e WHERE v < 0)", EVENTS, None);
}

#[test]
fn select_value_gives_the_bare_value() {
    check("SELECT VALUE t", "31.5");
    check("SELECT VALUE one.n", "\"x\"");
    check("SELECT VALUE 'text'", "\"text\"");
    check("SELECT VALUE list", r#"[1,2,"a",null]"#);
    check("SELECT VALUE [t, 1 + 1]", "[31.5,2]");
    check("SELECT VALUE {'a': t}", r#"{"a":31.5}"#);
    check("SELECT VALUE nil", "null");
    check("SELECT VALUE nothing", "");
    check_select("SELECT VALUE *", "{\"a\": 1}", Some("{\"a\":1}"));
    check_select("SELECT VALUE *", "80", Some("80"));
    // A member of that name.
    check_select("SELECT value", r#"{"value":5}"#, Some(r#"{"value":5}"#));
    check_select("SELECT value, value + 1 AS x", r#"{"value":5}"#, Some(r#"{"value":5,"x":6}"#));
    check_select("SELECT value * 2 AS x", r#"{"value":5}"#, Some(r#"{"x":10}"#));
    check_select("SELECT value.a AS x", r#"{"value":{"a":1}}"#, Some(r#"{"x":1}"#));
}

#[test]
fn literals_take_expressions() {
    check(
        "SELECT {'a': t, \"b c\": [1, {'d': NULL}], e: 1} AS x",
        r#"{"x":{"a":31.5,"b c":[1,{"d":null}],"e":1}}"#,
    );
    check("SELECT {} AS a, [] AS b", r#"{"a":{},"b":[]}"#);
    check("SELECT {'a': nothing} AS x", r#"{"x":{}}"#);
    check("SELECT {'a': {'b': 7}}.a.b AS x", r#"{"x":7}"#);
    check("SELECT [5, 6][1] AS x", r#"{"x":6}"#);
    check(
        "SELECT list[2] AS a, e[0].n AS b, list[9] AS c, matrix[0][1] AS d, one['n'] AS f",
        r#"{"a":"a","b":"temperature","d":2,"f":"x"}"#,
    );
}

#[test]
fn case_takes_the_first_value_that_is_equal() {
    check("SELECT VALUE CASE one.n WHEN 'y' THEN 1 WHEN 'x' THEN 2 ELSE 3 END", "2");
    check("SELECT VALUE CASE one.n WHEN 'y' THEN 1 ELSE 3 END", "3");
    check("SELECT VALUE CASE one.n WHEN 'y' THEN 1 END", "");
    check("SELECT VALUE CASE nothing WHEN 'y' THEN 1 ELSE 3 END", "");
    check("SELECT VALUE CASE one.n WHEN nothing THEN 1 ELSE 3 END", "3");
    check("SELECT VALUE CASE nil WHEN NULL THEN 1 ELSE 3 END", "1");
    check("SELECT VALUE CASE t > 30 WHEN true THEN 'hot' ELSE 'cold' END", "\"hot\"");
    check("SELECT VALUE CASE WHEN t > 40 THEN 'hot' WHEN t > 30 THEN 'warm' END", "\"warm\"");
    check("SELECT VALUE CASE WHEN nothing THEN 1 ELSE 2 END", "2");
    check("SELECT VALUE CASE 1 WHEN 1.0 THEN CASE 2 WHEN 2 THEN 'in' END END", "\"in\"");
}

#[test]
fn variables_are_set_once_and_seen_everywhere() {
    check("SET @a = t * 2 SELECT @a AS x", r#"{"x":63}"#);
    check("SET @a = t, @b = @a + 1 SELECT @b", r#"{"b":32.5}"#);
    check("SET @o = one SELECT @o.n, @o.nothing AS y", r#"{"n":"x"}"#);
    check_select("SET @c = (t - 32) * 5 / 9 SELECT @c AS c WHERE @c > 0", EVENTS, None);
    check_select(
        "SET @c = (t - 32) * 5 / 9 SELECT @c AS c WHERE @c < 0",
        EVENTS,
        Some(r#"{"c":-0.2777777777777778}"#),
    );
    check("SET @u = nothing SELECT isUndefined(@u) AS x", r#"{"x":true}"#);
    let many = |n: usize| {
        let set: Vec<_> = (0..n).map(|i| format!("@v{i} = {i}")).collect();
        format!("SET {} SELECT @v0", set.join(", "))
    };
    check(&many(10), r#"{"v0":0}"#);
    let error = Statement::parse(&many(11)).unwrap_err();
    assert_eq!(error.message, "a statement sets at most 10 variables");
    let error =
        Statement::parse(&format!("SET @{} = 1 SELECT 1 AS x", "a".repeat(65))).unwrap_err();
    assert_eq!(error.message, "the name of a variable has at most 64 characters");
}

#[test]
fn the_payload_is_a_value_and_bytes() {
    check_select("SELECT encode(*, 'base64') AS x", "{\"a\": 1}", Some(r#"{"x":"eyJhIjogMX0="}"#));
    check_select("SELECT numbytes(*) AS x", "{\"a\": 1}", Some(r#"{"x":8}"#));
    // The guide's example of a payload that is no object.
    check_select(
        "SELECT decode(encode(*, 'base64'), 'base64') AS value WHERE decode(encode(*, 'base64'), 'base64') > 50",
        "80",
        Some(r#"{"value":80}"#),
    );
    let binary = |sql: &str| run(sql, Version::V2016, b"\xff\x00").unwrap().unwrap();
    assert_eq!(&*binary("SELECT encode(*, 'base64') AS x"), br#"{"x":"/wA="}"#);
    assert_eq!(&*binary("SELECT VALUE *"), b"\xff\x00");
    assert_eq!(&*binary("SELECT VALUE decode(encode(*, 'base64'), 'base64')"), b"\xff\x00");
    assert_eq!(&*binary("SELECT * AS x"), br#"{"x":"/wA="}"#);
    assert_eq!(&*binary("SELECT md5(*) AS x"), br#"{"x":"e0e8bfafbb0689563b2fba789c97b3cc"}"#);
}

#[test]
fn arithmetic_is_that_of_decimal_digits() {
    check("SELECT VALUE 0.1 + 0.2", "0.3");
    check("SELECT VALUE 1.1 * 1.1", "1.21");
    check("SELECT VALUE 0.3 / 0.1", "3");
    check("SELECT VALUE 215 / 9", "23.88888888888889");
    check("SELECT VALUE 5.5 % 0.1", "0");
    check("SELECT VALUE 4.35 * 100", "435");
}

#[test]
fn nested_selects_are_bounded_in_time_and_memory() {
    let payload = format!("{{\"e\":[{}]}}", vec!["1"; 60_000].join(","));
    let run = |sql: &str| run(sql, Version::V2016, payload.as_bytes());
    let square =
        "SET @e = e SELECT (SELECT VALUE (SELECT VALUE 1 FROM @e WHERE * = 2) FROM @e) AS x";
    assert_eq!(run(square), Err(EvaluationError::TooLong));
    let many: Vec<_> =
        (0..500).map(|n| format!("(SELECT VALUE * FROM e WHERE * = 2) AS x{n}")).collect();
    assert_eq!(run(&format!("SELECT {}", many.join(", "))), Err(EvaluationError::TooLong));
    let wide = "SELECT (SELECT VALUE [*, *, *, *, *, *, *, *, *, *] FROM e) AS x";
    assert_eq!(run(wide), Err(EvaluationError::TooLarge));
}

fn render(set: &str, template: &str) -> Result<Option<String>, String> {
    let statement = Statement::parse_version(&format!("{set} SELECT t AS alias"), Version::V2016);
    let statement = statement.unwrap();
    let template = Template::parse(&statement, template).map_err(|error| error.to_string())?;
    let input = Input {
        message: &message(EVENTS.as_bytes()),
        now: Timestamp::from_millis(1_700_000_000_123),
        random: &SeededRandom::new(1),
        account: "1",
        answers: &Answers::NONE,
    };
    let rendered = template.map(|template| template.render(&statement, &input)).transpose();
    rendered.map_err(|error| error.to_string())
}

#[test]
fn a_template_takes_expressions_over_the_message() {
    for (template, expected) in [
        ("plain", None),
        ("$aws/$$x {y}", None),
        ("alarm/${topic(2)}", Some("alarm/hall")),
        ("${t}", Some("31.5")),
        ("a${t}b${one.n}c", Some("a31.5bxc")),
        ("${get({'a': '}'}, 'a')}!", Some("}!")),
        ("${@v + 1}", Some("2")),
        ("${list}", Some(r#"[1,2,"a",null]"#)),
        ("$${timestamp()}", Some("$1700000000123")),
        ("é${ 'ü' }", Some("éü")),
    ] {
        assert_eq!(render("SET @v = 1", template), Ok(expected.map(str::to_owned)), "{template}");
    }
    for (template, error) in [
        ("a/${topic(2", "line 1, column 3: this template is not closed; expected `}`"),
        (
            "a/${}",
            "line 1, column 5: expected a value, a name or a function, found the end of the statement",
        ),
        (
            "a/${1 2}",
            "line 1, column 7: expected an operator or the end of the template, found a number",
        ),
        ("${@w}", "line 1, column 3: @w is not set; set it before SELECT by SET"),
        ("${alias}", "the template ${alias} is Undefined or Null"),
        ("${nil}", "the template ${nil} is Undefined or Null"),
    ] {
        assert_eq!(render("SET @v = 1", template), Err(error.to_owned()), "{template}");
    }
}

#[test]
fn the_trace_has_every_part_and_its_value() {
    let random = SeededRandom::new(1);
    let message = message(EVENTS.as_bytes());
    let input = Input {
        message: &message,
        now: Timestamp::from_millis(0),
        random: &random,
        account: "1",
        answers: &Answers::NONE,
    };
    let sql = "SET @a = t\nSELECT @a + 1 AS x, nothing FROM 'a' WHERE upper(one.n) = 'X'";
    let traced = trace(sql, Version::V2016, &input).unwrap();
    let shown: Vec<_> = traced
        .iter()
        .map(|it| {
            let value = it.value.clone().unwrap();
            format!("{}:{} {} {}", it.line, it.column, it.text, value.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1:10 t 31.5",
            "2:8 @a + 1 32.5",
            "2:8 @a 31.5",
            "2:13 1 1",
            "2:21 nothing -",
            "2:44 upper(one.n) = 'X' true",
            "2:44 upper(one.n) \"X\"",
            "2:50 one.n \"x\"",
            "2:50 one {\"n\":\"x\",\"v\":1}",
            "2:59 'X' \"X\"",
        ]
    );
}

fn call(callee: Callee, arguments: &[Option<&str>]) -> ExternalCall {
    let datum = |json: &Option<&str>| json.map_or(Datum::Undefined, |it| Datum::Json(it.into()));
    ExternalCall { callee, arguments: arguments.iter().map(datum).collect() }
}

#[test]
fn what_only_the_host_knows_is_asked_for_and_evaluated_again() {
    let random = SeededRandom::new(1);
    let message = message(EVENTS.as_bytes());
    let run = |sql: &str, answers: &Answers| {
        let statement = Statement::parse_version(sql, Version::V2016).unwrap();
        let now = Timestamp::from_millis(0);
        let result = evaluate(
            &statement,
            &Input { message: &message, now, random: &random, account: "1", answers },
        );
        result.map(|json| json.map(|json| String::from_utf8(json.to_vec()).unwrap()))
    };
    let sql =
        "SELECT double(t) AS d, get_thing_shadow(one.n, 'arn').state AS s, double(nothing) AS u";
    let double = call(Callee::Custom("double".into()), &[Some("31.5")]);
    let shadow = call(Callee::ThingShadow, &[Some("\"x\""), Some("\"arn\"")]);
    let undefined = call(Callee::Custom("double".into()), &[None]);
    let mut answers = Answers::default();
    for (needed, answer) in [
        (double, Ok(Datum::Json("63".into()))),
        (shadow, Ok(Datum::Json(r#"{"state":{"on":true}}"#.into()))),
        (undefined.clone(), Ok(Datum::Undefined)),
    ] {
        assert_eq!(run(sql, &answers), Err(EvaluationError::Needs(Box::new(needed.clone()))));
        answers.add(needed, answer);
    }
    assert_eq!(run(sql, &answers).unwrap().unwrap(), r#"{"d":63,"s":{"on":true}}"#);
    let mut failed = Answers::default();
    failed.add(undefined, Err("no such function".into()));
    let error = run("SELECT double(nothing) AS x", &failed).unwrap_err();
    assert_eq!(error.to_string(), "function double: no such function");
    assert_eq!(
        run("SELECT get_or_default(double(nothing), 5) AS x", &failed).unwrap().unwrap(),
        r#"{"x":5}"#
    );
    let mut bytes = Answers::default();
    let echo = ExternalCall {
        callee: Callee::Custom("echo".into()),
        arguments: vec![Datum::Bytes("\u{1}".into())],
    };
    bytes.add(echo, Ok(Datum::Bytes("\u{2}".into())));
    let binary = Message { payload: "\u{1}".into(), ..message.clone() };
    let statement = Statement::parse_version("SELECT echo(*) AS e", Version::V2016).unwrap();
    let now = Timestamp::from_millis(0);
    let input = Input { message: &binary, now, random: &random, account: "1", answers: &bytes };
    assert_eq!(evaluate(&statement, &input).unwrap().unwrap(), r#"{"e":"Ag=="}"#);
    let mut full = Answers::default();
    for n in 0..EXTERNAL_CALLS_MAX {
        full.add(call(Callee::Lambda, &[Some(&n.to_string())]), Ok(Datum::Undefined));
    }
    let error = run("SELECT double(nothing) AS x", &full).unwrap_err();
    assert_eq!(error.to_string(), "function double: a message may make at most 16 such calls");
}
