//! What a rule does by itself: republishing, templates, Basic Ingest, functions of the host.

use super::*;

fn republish(sql: &str, body: &serde_json::Value) -> RuleDefinition {
    RuleDefinition { actions: vec![json!({ "republish": body })], ..rule(sql) }
}

fn heard(messages: &Arc<Mutex<Vec<Arc<Message>>>>) -> Vec<String> {
    let text = |it: &Arc<Message>| String::from_utf8(it.payload.to_vec()).unwrap();
    let messages = std::mem::take(&mut *messages.lock().unwrap());
    messages.iter().map(|it| format!("{} {}", it.topic, text(it))).collect()
}

#[tokio::test(start_paused = true)]
async fn republish_fills_its_templates_from_the_message() {
    let bench = Bench::new().await;
    let body = json!({
        "topic": "alarm/${topic(2)}/${kind}", "qos": 1, "retain": true, "roleArn": "arn",
        "headers": {
            "payloadFormatIndicator": "UTF8_DATA", "contentType": "application/json",
            "responseTopic": "answers/${topic(1)}", "correlationData": "AQI=",
            "messageExpiry": "60", "userProperties": [{"key": "k", "value": "${t}"}],
        },
    });
    let sql = "SELECT t AS temperature FROM 'site/+' WHERE t > 30";
    bench.engine.create(name("alarm"), republish(sql, &body)).await.unwrap();
    let (_receiver, messages) = bench.listen("alarm/#");
    bench.publish("site/hall", r#"{"t":31,"kind":"hot"}"#);
    bench.publish("site/hall", r#"{"t":29,"kind":"hot"}"#);
    let message = messages.lock().unwrap()[0].clone();
    assert_eq!(heard(&messages), [r#"alarm/hall/hot {"temperature":31}"#]);
    assert_eq!((message.qos, message.retain, message.hops), (QoS::AtLeastOnce, true, 1));
    let properties = message.properties.as_deref().unwrap();
    assert!(properties.payload_is_utf8);
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(properties.response_topic.as_ref().unwrap().as_str(), "answers/site");
    assert_eq!(properties.correlation_data.as_deref(), Some(&[1, 2][..]));
    assert_eq!(properties.expiry_s, Some(60));
    assert_eq!(properties.user, [("k".into(), "31".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_template_without_value_and_a_topic_that_is_none_fail_the_action() {
    let bench = Bench::new().await;
    let error_action = Some(json!({"republish": {"topic": "errors"}}));
    let definition = RuleDefinition {
        error_action,
        ..republish("SELECT * FROM 'a'", &json!({"topic": "to/${x}"}))
    };
    bench.engine.create(name("to"), definition).await.unwrap();
    let (_receiver, messages) = bench.listen("#");
    for payload in [r#"{"x":"b"}"#, "{}", r#"{"x":"+/#"}"#, r#"{"x":"a\u0000"}"#] {
        bench.publish("a", payload);
    }
    let heard = heard(&messages);
    assert!(heard.contains(&r#"to/b {"x":"b"}"#.to_owned()));
    let errors: Vec<_> = heard.iter().filter(|it| it.starts_with("errors ")).collect();
    for (error, reason) in errors.iter().zip([
        "the template ${x} is Undefined or Null",
        "topic: topic name has the wildcard '+' at byte 3",
        "topic: topic has a NUL at byte 4",
    ]) {
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(errors.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn republish_reaches_reserved_request_topics_and_no_others() {
    let bench = Bench::new().await;
    let topic = json!({"topic": "$$aws/things/${topic(2)}/shadow/update"});
    bench.engine.create(name("shadow"), republish("SELECT * FROM 'a/+'", &topic)).await.unwrap();
    let (_receiver, messages) = bench.listen("$aws/things/#");
    bench.publish("a/T", "{}");
    assert_eq!(heard(&messages), ["$aws/things/T/shadow/update {}"]);
    let topic = json!({"topic": "$SYS/uptime"});
    bench.engine.create(name("sys"), republish("SELECT * FROM 'b'", &topic)).await.unwrap();
    bench.publish("b", "{}");
    let reason = "action 0: topic: it is reserved for the host";
    assert_eq!(bench.figures("sys").last_failure.as_deref(), Some(reason));
}

#[tokio::test(start_paused = true)]
async fn a_loop_is_cut_and_told() {
    let bench = Bench::new().await;
    let definition = republish("SELECT * FROM 'a'", &json!({"topic": "a"}));
    bench.engine.create(name("round"), definition).await.unwrap();
    bench.publish("a", "1");
    let figures = bench.figures("round");
    assert_eq!((figures.matched, figures.failed), (u64::from(HOPS_MAX) + 1, 1));
    assert!(figures.last_failure.unwrap().contains("republished 5 times already"));
    // Ten at a time: 10 + 100 + 1,000 ... are cut by their number.
    let many = vec![json!({"republish": {"topic": "b"}}); 10];
    let definition = RuleDefinition { actions: many, ..rule("SELECT * FROM 'b'") };
    bench.engine.create(name("wide"), definition).await.unwrap();
    bench.publish("b", "1");
    let figures = bench.figures("wide");
    assert!(figures.matched <= u64::from(REPUBLISHED_MAX) + 1, "{figures:?}");
}

#[tokio::test(start_paused = true)]
async fn basic_ingest_reaches_its_rule_and_nobody_else() {
    let bench = Bench::new().await;
    let definition = RuleDefinition {
        actions: vec![json!({"plugin": {"name": "log", "params": {"t": "${topic()}"}}})],
        ..rule("SELECT *, topic(1) AS t WHERE x > 1")
    };
    bench.engine.create(name("direct"), definition).await.unwrap();
    bench.engine.create(name("other"), rule("SELECT * FROM '#'")).await.unwrap();
    let (_receiver, messages) = bench.listen("$aws/#");
    bench.publish("$aws/rules/direct/site/hall", r#"{"x":2}"#);
    bench.publish("$aws/rules/direct/site", r#"{"x":1}"#);
    bench.publish("$aws/rules/missing/site", r#"{"x":2}"#);
    bench.settle(1).await;
    let params = bench.plugins.calls.lock().unwrap()[0].context.params.clone();
    assert_eq!(&*params, r#"{"t":"site/hall"}"#);
    assert_eq!(bench.calls().await, [r#"direct {"x":2,"t":"site"}"#]);
    assert!(heard(&messages).is_empty());
    assert_eq!(bench.ports.metrics.rules_not_found.get(), 1);
    bench.engine.disable(name("direct")).await.unwrap();
    bench.publish("$aws/rules/direct/site", r#"{"x":2}"#);
    assert_eq!(bench.ports.metrics.rules_not_found.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn functions_of_the_host_are_asked_by_a_worker() {
    let bench = Bench::new().await;
    let sql = "SELECT double(t) AS d, get_thing_shadow('x', 'arn').state.on AS on FROM 'a'";
    let mut definition = rule(sql);
    definition.actions.push(json!({"republish": {"topic": "to/${double(t)}"}}));
    bench.engine.create(name("ask"), definition).await.unwrap();
    let (_receiver, messages) = bench.listen("to/#");
    bench.publish("a", r#"{"t":21}"#);
    assert_eq!(bench.calls().await, [r#"ask {"d":42,"on":true}"#]);
    assert_eq!(heard(&messages), [r#"to/42 {"d":42,"on":true}"#]);
    bench.publish("a", r#"{"t":"x"}"#);
    bench.settle(1).await;
    let reason = "evaluation: function double: no number";
    assert_eq!(bench.figures("ask").last_failure.as_deref(), Some(reason));
    assert_eq!(bench.figures("ask").dead_letters, 1);
    let error = bench.engine.create(name("no"), rule("SELECT treble(t) AS x FROM 'a'")).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "line 1, column 8: there is no function `treble`, and no plugin that offers it is loaded"
    );
}

#[tokio::test(start_paused = true)]
async fn a_template_that_is_none_is_refused_with_its_place() {
    let bench = Bench::new().await;
    for (action, expected) in [
        (
            json!({"republish": {"topic": "a/${topic(}"}}),
            "action RepublishAction: /topic: line 1, column 11: expected a value, a name or a function, found the end of the statement",
        ),
        (
            json!({"plugin": {"name": "log", "params": {"a": ["${x", 1]}}}),
            "action PluginAction: /a/0: line 1, column 1: this template is not closed; expected `}`",
        ),
        (
            json!({"plugin": {"name": "log", "params": {"a": "${treble(1)}"}}}),
            "there is no function `treble` for a template",
        ),
    ] {
        let definition = RuleDefinition { actions: vec![action], ..rule("SELECT * FROM 'a'") };
        let error = bench.engine.create(name("bad"), definition).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_tested_with_the_value_of_every_part() {
    let bench = Bench::new().await;
    let message = bench.message("site/hall", r#"{"t":21}"#);
    let sql = "SELECT double(t) AS d FROM 'site/+' WHERE t > 20";
    let tested = bench.engine.test(sql, sql::Version::V2016, &message, true).await.unwrap();
    assert_eq!(tested.matches, Some(true));
    assert_eq!(tested.result.unwrap().unwrap(), r#"{"d":42}"#);
    let shown: Vec<_> = tested
        .trace
        .iter()
        .map(|it| format!("{} = {}", it.text, it.value.clone().unwrap().unwrap()))
        .collect();
    assert_eq!(shown, ["double(t) = 42", "t = 21", "t > 20 = true", "t = 21", "20 = 20"]);
    let tested = bench.engine.test("SELECT * FROM 'b'", sql::Version::V2016, &message, false).await;
    assert_eq!(tested.unwrap().matches, Some(false));
    let error = bench.engine.test("SELECT", sql::Version::V2016, &message, false).await;
    assert!(matches!(error, Err(RuleError::SqlParse(_))));
}
