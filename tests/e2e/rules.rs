//! Rules on a real host: a target that is away, a host that is killed meanwhile, and what the
//! operator sees of a rule that fails.

use crate::aws::Aws;
use crate::customer_example::Example;
use crate::host::{Host, LAB, wait};
use crate::mqtt::Client;
use crate::plugins;
use crate::receiver::Receiver;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Lives of the host while the target is away, and messages in each.
const LIVES: usize = 3;
const MESSAGES: usize = 100;

/// Runs `gnomon … --json` and reads what it prints.
#[track_caller]
fn gnomon(host: &Host, arguments: &[&str]) -> Value {
    let output = host.gnomon(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn create_rule(host: &Host, aws: &Aws, name: &str, rule: &Value) {
    let file = host.path(&format!("{name}.json"));
    std::fs::write(&file, rule.to_string()).unwrap();
    let payload = format!("file://{}", file.display());
    aws.ok(&["iot", "create-topic-rule", "--rule-name", name, "--topic-rule-payload", &payload]);
}

#[test]
fn a_target_that_was_away_gets_every_acknowledged_message_though_the_host_was_killed() {
    let port = Receiver::closed_port();
    let origin = format!("http://127.0.0.1:{port}");
    let Some(webhook) = plugins::webhook(&origin, &origin) else { return };
    let mut host = Host::start(&format!("{LAB}{webhook}"));
    let Some(aws) = Aws::of(&host) else { return };
    aws.create_lab_policy();
    let function = "arn:aws:lambda:us-east-1:123456789012:function:webhook";
    let rule = json!({
        "sql": "SELECT n FROM 'count' WHERE n >= 0",
        "actions": [{"lambda": {"functionArn": function}}],
    });
    create_rule(&host, &aws, "Count", &rule);
    for life in 0..LIVES {
        let mut client = Client::plain(&host, "lab");
        assert_eq!(client.connect("counter"), 0);
        for n in 0..MESSAGES {
            // Each is acknowledged before the next.
            client.publish("count", &format!("{{\"n\":{}}}", life * MESSAGES + n));
        }
        client.publish("count", "{\"n\":-1}");
        host.kill_and_restart();
    }
    let shown = gnomon(&host, &["rule", "show", "Count"]);
    assert_eq!(shown["figures"]["waiting"], LIVES * MESSAGES, "{shown}");
    let receiver = Receiver::open_at(port);
    let mut got = BTreeSet::new();
    while got.len() < LIVES * MESSAGES {
        let body = receiver.next_if_any().unwrap_or_else(|| panic!("only {} came", got.len()));
        let body: Value = serde_json::from_str(&body).unwrap();
        got.insert(body["n"].as_u64().unwrap());
    }
    assert!(got.into_iter().eq(0..(LIVES * MESSAGES) as u64));
}

#[test]
fn a_rule_that_fails_for_want_of_a_grant_is_seen_at_once() {
    let Some(example) = Example::without_grant() else { return };
    let host = &example.host;
    let mut client = example.connect();
    client.publish("sensor/temp", "{\"temp\": 31}");
    let line = host.expect_log("rule=HighTemp plugin=webhook topic=sensor/temp");
    assert!(line.contains("was not granted `http`"), "{line}");
    let shown = gnomon(host, &["rule", "show", "HighTemp"]);
    let figures = &shown["figures"];
    assert_eq!((&figures["passed"], &figures["failed"]), (&json!(1), &json!(1)), "{shown}");
    let last = figures["lastFailure"].as_str().unwrap();
    assert!(last.starts_with("action 0: ") && last.contains("was not granted `http`"), "{last}");
    let metrics = metrics(host);
    for line in [
        "gnomon_rule_failed_total{rule=\"HighTemp\"} 1",
        "gnomon_rule_dead_letters{rule=\"HighTemp\"} 1",
        "gnomon_actions_failed_total 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let letters = gnomon(host, &["rule", "dead-letters", "HighTemp"]);
    let letter = &letters["deadLetters"][0];
    assert_eq!(letter["topic"], "sensor/temp");
    assert_eq!(letter["failedIn"], "action 0");
    assert_eq!(letter["payloadBase64"], "eyJ0ZW1wIjogMzF9");
    let text = host.gnomon(&["rule", "dead-letters", "HighTemp"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("sensor/temp  action 0: "), "{text}");
    let replayed = gnomon(host, &["rule", "dead-letters", "HighTemp", "--replay"]);
    assert_eq!(replayed, json!({"deadLetters": 1}));
}

fn metrics(host: &Host) -> String {
    let address = host.api();
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_statement_is_tested_from_the_command_line() {
    let host = Host::start(LAB);
    let test = |arguments: &[&str]| {
        let command = ["rule", "test", "--topic", "sensor/hall"];
        let output = host.gnomon(&[&command, arguments].concat());
        let errors = String::from_utf8(output.stderr).unwrap();
        String::from_utf8(output.stdout).unwrap() + &errors
    };
    let sql = "SELECT temp * 2 AS t, topic(2) AS room FROM 'sensor/+' WHERE temp > 30";
    let hot = ["--sql", sql, "--payload", "{\"temp\":31}"];
    assert_eq!(test(&hot), "{\"t\":62,\"room\":\"hall\"}\n");
    let traced = test(&[&hot[..], &["--trace"]].concat());
    assert!(traced.contains("1:8     temp * 2 = 62\n"), "{traced}");
    assert!(traced.contains("temp > 30 = true\n"), "{traced}");
    let cold = test(&["--sql", sql, "--payload", "{\"temp\":29}"]);
    assert_eq!(cold, "the message does not pass WHERE\n");
    let wrong = test(&["--sql", "SELECT * FROM 'a' WHERE", "--payload", "{}"]);
    assert!(wrong.contains("line 1, column 24: expected a value"), "{wrong}");
}

#[test]
fn a_rule_republishes_and_takes_basic_ingest() {
    let host = Host::start(LAB);
    let Some(aws) = Aws::of(&host) else { return };
    aws.create_lab_policy();
    let rule = json!({
        "sql": "SELECT temp, topic(1) AS first FROM 'sensor/#' WHERE temp > 30",
        "awsIotSqlVersion": "2016-03-23",
        "actions": [{"republish": {
            "roleArn": "arn:aws:iam::123456789012:role/any",
            "topic": "alarm/${topic(2)}",
            "qos": 1,
        }}],
    });
    create_rule(&host, &aws, "Alarm", &rule);
    let mut listener = Client::plain(&host, "lab");
    assert_eq!(listener.connect("listener"), 0);
    assert_eq!(listener.subscribe("alarm/#"), 1);
    let mut sensor = Client::plain(&host, "lab");
    assert_eq!(sensor.connect("sensor"), 0);
    sensor.publish("sensor/hall", "{\"temp\":31}");
    let expected = ("alarm/hall".to_owned(), "{\"temp\":31,\"first\":\"sensor\"}".to_owned());
    assert_eq!(listener.message(), expected);
    sensor.publish("$aws/rules/Alarm/direct/kitchen", "{\"temp\":32}");
    let expected = ("alarm/kitchen".to_owned(), "{\"temp\":32,\"first\":\"direct\"}".to_owned());
    assert_eq!(listener.message(), expected);
    sensor.publish("$aws/rules/Missing/direct", "{\"temp\":32}");
    host.expect_log("RuleNotFound");
}

#[test]
fn a_table_keeps_readings_once_though_the_host_is_killed() {
    let mut host = Host::start(LAB);
    let Some(aws) = Aws::of(&host) else { return };
    aws.create_lab_policy();
    let rule = json!({
        "sql": "SELECT temp, topic(2) AS room, tags FROM 'sensor/+' WHERE temp > 0",
        "actions": [{"table": {"tableName": "readings"}}],
    });
    let put = |host: &Host| {
        let file = host.path("keep.json");
        std::fs::write(&file, rule.to_string()).unwrap();
        let output = host.gnomon(&["rule", "put", "Keep", file.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    };
    put(&host);
    for life in 0..LIVES {
        let mut sensor = Client::plain(&host, "lab");
        assert_eq!(sensor.connect("sensor"), 0);
        for n in 0..MESSAGES {
            let temp = life * MESSAGES + n + 1;
            sensor.publish("sensor/hall", &format!("{{\"temp\":{temp},\"tags\":[1]}}"));
        }
        host.kill_and_restart();
        // Replacing it changes nothing of what waits.
        put(&host);
    }
    let all = LIVES * MESSAGES;
    let sql = "SELECT count(*), count(DISTINCT temp), sum(temp) FROM readings";
    let expected = json!([[all, all, all * (all + 1) / 2]]);
    let found = wait(Duration::from_secs(30), || {
        let answer = host.gnomon(&["query", sql, "--json"]).stdout;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        (answer["rows"] == expected).then_some(())
    });
    assert!(found.is_some(), "{:?}", host.gnomon(&["query", sql]));
    let text = |arguments: &[&str]| {
        let output = host.gnomon(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        String::from_utf8(output.stdout).unwrap() + &errors
    };
    let sql = "SELECT temp, room, tags FROM readings WHERE temp > ?1 ORDER BY temp LIMIT 1";
    assert_eq!(text(&["query", sql, "7"]), "temp  room  tags\n8     hall  [1]\n");
    let wrong = text(&["query", "SELECT humidity FROM readings"]);
    assert!(wrong.contains("line 1, column 8: no such column: humidity"), "{wrong}");
    assert_eq!(text(&["table", "retain", "readings", "--max-rows", "10"]), "");
    let tables = gnomon(&host, &["table", "list"]);
    assert_eq!(tables["tables"][0]["retention"], json!({"maxAgeS": 0, "maxRows": 10}));
    assert_eq!(text(&["table", "delete", "readings"]), "");
    assert_eq!(gnomon(&host, &["table", "list"]), json!({"tables": []}));
}

#[test]
fn a_statement_calls_functions_of_plugins() {
    let Some(geo) = plugins::folder("geo") else { return };
    let areas = "depot = [[13, 52], [14, 52], [14, 53], [13, 53]]";
    let host = Host::start(&format!(
        "{LAB}[plugins.geo]\npath = {geo:?}\n[plugins.geo.config.areas]\n{areas}\n"
    ));
    let Some(aws) = Aws::of(&host) else { return };
    aws.create_lab_policy();
    let lambda = "arn:aws:lambda:us-east-1:123456789012:function:geo:geo_distance";
    let rule = json!({
        "sql": "SELECT truck, round(geo_distance(lat, lon, 52.5, 13.5)) AS m, \
                get_or_default(aws_lambda('arn:aws:lambda:us-east-1:1:function:none', lat), 'none') AS l \
                FROM 'truck/+' WHERE NOT geo_within(lat, lon, 'depot')",
        "awsIotSqlVersion": "2016-03-23",
        "actions": [{"republish": {"topic": "away/${truck}", "qos": 1, "roleArn": "arn:aws:iam::1:role/x"}}],
    });
    create_rule(&host, &aws, "Away", &rule);
    let mut listener = Client::plain(&host, "lab");
    assert_eq!(listener.connect("listener"), 0);
    assert_eq!(listener.subscribe("away/#"), 1);
    let mut truck = Client::plain(&host, "lab");
    assert_eq!(truck.connect("truck"), 0);
    truck.publish("truck/1", r#"{"truck":1,"lat":52.5,"lon":13.6}"#);
    truck.publish("truck/2", r#"{"truck":2,"lat":52.5,"lon":14.5}"#);
    let expected = r#"{"truck":2,"m":67691,"l":"none"}"#;
    assert_eq!(listener.message(), ("away/2".to_owned(), expected.to_owned()));
    let test = |sql: &str| {
        let payload = r#"{"a":52.5}"#;
        let arguments = ["rule", "test", "--topic", "a", "--payload", payload, "--sql", sql];
        let output = host.gnomon(&arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        String::from_utf8(output.stdout).unwrap() + &errors
    };
    let called = test(&format!("SELECT VALUE aws_lambda('{lambda}', a) FROM 'a'"));
    // One argument where the function takes four.
    assert_eq!(called, "the result is empty\n");
    let several = test("SELECT VALUE aws_lambda('arn:aws:lambda:r:1:function:geo', a) FROM 'a'");
    let expected =
        "error: function aws_lambda: plugin geo has several functions: add :<function>\n";
    assert_eq!(several, expected);
    let unknown = test("SELECT geo_nothing(a) FROM 'a'");
    assert!(unknown.contains("line 1, column 8: "), "{unknown}");
}

#[test]
fn a_statement_asks_the_registry() {
    let host = Host::start(LAB);
    let Some(aws) = Aws::of(&host) else { return };
    let properties = "searchableAttributes=watts";
    let of_type = ["--thing-type-name", "Lamp"];
    let create = ["iot", "create-thing-type", of_type[0], of_type[1]];
    aws.ok(&[&create[..], &["--thing-type-properties", properties]].concat());
    let thing = ["--thing-name", "L1"];
    aws.ok(&["iot", "create-thing", thing[0], thing[1], of_type[0], of_type[1]]);
    let group = ["--thing-group-name", "hall"];
    aws.ok(&["iot", "create-thing-group", group[0], group[1]]);
    let add = ["iot", "add-thing-to-thing-group", group[0], group[1], thing[0], thing[1]];
    aws.ok(&add);
    let things = aws.ok(&["iot", "list-things-in-thing-group", group[0], group[1]]);
    assert_eq!(things["things"], json!(["L1"]));
    let test = |operation: &str, member: &str| {
        let sql = format!("SELECT VALUE get_registry_data('{operation}', 'L1', 'arn').{member}");
        let output =
            host.gnomon(&["rule", "test", "--topic", "a", "--payload", "{}", "--sql", &sql]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(test("DescribeThing", "thingTypeName"), "\"Lamp\"\n");
    let groups = test("ListThingGroupsForThing", "thingGroups");
    let groups: Value = serde_json::from_str(&groups).unwrap();
    let arn = "arn:aws:iot:us-east-1:123456789012:thinggroup/hall";
    assert_eq!(groups, json!([{ "groupName": "hall", "groupArn": arn }]));
    let other = test("DeleteThing", "x");
    assert!(other.contains("DeleteThing is not offered"), "{other}");
}
