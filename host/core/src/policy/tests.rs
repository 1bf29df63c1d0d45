//! The rules of "AWS IoT Core policies" as tables, one test for each subject.

use super::*;
use crate::ids::Account;
use proptest::prelude::*;

const OWN: &str = "arn:aws:iot:us-east-1:123456789012:";

/// A document with these statements, `ARN:` short for region and account.
fn document(statements: &str) -> String {
    let statements = statements.replace("ARN:", OWN);
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

fn allow(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}"#)
}

fn deny(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Deny","Action":"{action}","Resource":"{resource}"}}"#)
}

#[track_caller]
fn permissions(statements: &str, context: &Context) -> Permissions {
    let policy = Policy::parse("P", &document(statements), &Account::default()).unwrap();
    Permissions::new([&policy], context)
}

fn client(id: &str) -> Context {
    Context { client_id: Some(ClientId::parse(id).unwrap()), ..Context::default() }
}

/// Client `lamp`, which is an attached thing with a type and the attribute `site` = `hall-2`.
fn lamp() -> Context {
    let thing = ThingContext {
        name: ThingName::parse("lamp").unwrap(),
        type_name: Some("Light".into()),
        attributes: [("site".to_owned(), "hall-2".to_owned())].into(),
    };
    Context {
        thing: Some(thing),
        certificate: [
            ("Subject.CommonName", vec!["cn-1".to_owned(), "cn-2".to_owned()]),
            ("SerialNumber", vec!["10525622389124227206".to_owned()]),
        ]
        .into(),
        source_ip: Some("10.1.2.3".parse().unwrap()),
        domain_name: Some("iot.example.com".into()),
        ..client("lamp")
    }
}

#[track_caller]
fn check(statements: &str, context: &Context, cases: &[(Action, Resource<'_>, bool)]) {
    let permissions = permissions(statements, context);
    for &(action, resource, expected) in cases {
        let decision = permissions.explain(action, resource);
        assert_eq!(
            permissions.allows(action, resource),
            expected,
            "{action:?} {resource:?}: {decision} in {statements}"
        );
    }
}

#[track_caller]
fn check_refused(document: &str, expected: &str) {
    let error = Policy::parse("P", document, &Account::default()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

use Action::{Connect, Publish, Receive, RetainPublish, Subscribe};
use Resource::{Client, Thing, Topic, TopicFilter};

#[test]
fn without_a_policy_nothing_is_allowed() {
    let none = Permissions::default();
    assert!(!none.allows(Connect, Client("a")));
    assert_eq!(none.explain(Publish, Topic("a")), Decision::ImplicitDeny);
}

#[test]
fn the_policy_of_the_example_allows_what_it_says() {
    let statements = [
        allow("iot:Connect", "ARN:client/TemperatureSensor1"),
        allow("iot:Publish", "ARN:topic/sensor/temp"),
    ];
    check(
        &statements.join(","),
        &client("TemperatureSensor1"),
        &[
            (Connect, Client("TemperatureSensor1"), true),
            (Connect, Client("TemperatureSensor2"), false),
            (Publish, Topic("sensor/temp"), true),
            (Publish, Topic("sensor/tempo"), false),
            (Publish, Topic("xsensor/temp"), false),
            (RetainPublish, Topic("sensor/temp"), false),
            (Receive, Topic("sensor/temp"), false),
            (Subscribe, TopicFilter("sensor/temp"), false),
        ],
    );
}

#[test]
fn a_denial_wins_wherever_it_stands_and_in_whichever_policy() {
    let parse = |text: &str| Policy::parse("P", &document(text), &Account::default()).unwrap();
    let wide = parse(&allow("iot:*", "*"));
    let narrow = parse(&deny("iot:Publish", "ARN:topic/secret/*"));
    for policies in [[&wide, &narrow], [&narrow, &wide]] {
        let permissions = Permissions::new(policies, &client("a"));
        assert!(permissions.allows(Publish, Topic("open")));
        assert!(!permissions.allows(Publish, Topic("secret/x")));
        assert!(permissions.allows(Receive, Topic("secret/x")));
    }
}

#[test]
fn the_decision_names_the_statement() {
    let statements = r#"{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Sid":"NoSecrets","Effect":"Deny","Action":"iot:Publish","Resource":"ARN:topic/secret"}"#;
    let permissions = permissions(statements, &client("a"));
    let explain = |topic| permissions.explain(Publish, Topic(topic)).to_string();
    assert_eq!(explain("secret"), "denied by statement 1 (NoSecrets) of policy P");
    assert_eq!(explain("open"), "allowed by statement 0 of policy P");
}

#[test]
fn wildcards_of_policies_are_star_and_question_mark_only() {
    let cases = [
        ("ARN:topic/*", "a/b/c", true),
        ("ARN:topic/a/*", "a/", true),
        ("ARN:topic/a/*", "a", false),
        ("ARN:topic/a/?", "a/b", true),
        ("ARN:topic/a/?", "a/é", true),
        ("ARN:topic/a/?", "a/bc", false),
        ("ARN:topic/a/?", "a/", false),
        ("ARN:topic/*/state", "a/b/state", true),
        ("ARN:topic/$aws/things/*/shadow/update", "$aws/things/x/shadow/update", true),
        ("ARN:topic/a/+/b", "a/x/b", false),
        ("ARN:topic/${*}", "x", false),
        ("ARN:topic/${*}${?}${$}", "*?$", true),
        // The star may stand anywhere in the ARN.
        ("*", "a", true),
        ("arn:aws:iot:*:*:topic/a", "a", true),
        ("arn:aws:iot:us-east-1:*:topic/a", "b", false),
        ("arn:aws:iot:*", "a", true),
        ("arn:aws:iot:*:client/*", "a", false),
        ("arn:aws:iot:us-east-1:123456789012:top?c/a", "a", true),
        ("*/a", "x/a", true),
        ("*ic/a", "a", true),
        // Another account or region is never ours.
        ("arn:aws:iot:us-east-1:999999999999:topic/a", "a", false),
        ("arn:aws:iot:eu-west-1:123456789012:topic/a", "a", false),
        ("arn:aws:iot:us-east-1:123456789012:", "", false),
    ];
    for (pattern, topic, expected) in cases {
        check(&allow("iot:Publish", pattern), &client("a"), &[(Publish, Topic(topic), expected)]);
    }
}

#[test]
fn mqtt_wildcards_are_plain_characters_of_a_filter() {
    // AWS IoT, "Pub/Sub policy examples", on wildcards in MQTT and in policies.
    check(
        &[
            allow("iot:Subscribe", "ARN:topicfilter/a/*"),
            allow("iot:Subscribe", "ARN:topicfilter/some/+/topic"),
            deny("iot:Subscribe", "ARN:topicfilter/a/restricted/*"),
        ]
        .join(","),
        &client("c"),
        &[
            (Subscribe, TopicFilter("a/#"), true),
            (Subscribe, TopicFilter("a/restricted/x"), false),
            (Subscribe, TopicFilter("some/+/topic"), true),
            (Subscribe, TopicFilter("some/x/topic"), false),
            (Subscribe, TopicFilter("#"), false),
        ],
    );
}

#[test]
fn a_shared_subscription_is_matched_in_both_forms() {
    let statements = [
        allow("iot:Subscribe", "ARN:topicfilter/a/*"),
        deny("iot:Subscribe", "ARN:topicfilter/a/x"),
    ];
    check(
        &statements.join(","),
        &client("c"),
        &[
            (Subscribe, TopicFilter("$share/g/a/b"), true),
            (Subscribe, TopicFilter("$share/g/a/x"), false),
            (Subscribe, TopicFilter("$share/a/b"), false),
        ],
    );
    check(
        &allow("iot:Subscribe", "ARN:topicfilter/$share/g/*"),
        &client("c"),
        &[
            (Subscribe, TopicFilter("$share/g/a"), true),
            (Subscribe, TopicFilter("$share/h/a"), false),
            (Subscribe, TopicFilter("a"), false),
        ],
    );
    // Everything but `secret/*`: neither form may get around it.
    let but_secret = r#"{"Effect":"Allow","Action":"iot:Subscribe",
        "NotResource":"ARN:topicfilter/secret/*"}"#;
    check(
        but_secret,
        &client("c"),
        &[
            (Subscribe, TopicFilter("$share/g/secret/x"), false),
            (Subscribe, TopicFilter("$share/g/open"), true),
        ],
    );
}

#[test]
fn actions_have_wildcards_and_no_case() {
    let cases = [
        ("*", Publish, true),
        ("iot:*", Publish, true),
        ("iot:Pub*", Publish, true),
        ("IOT:publish", Publish, true),
        ("iot:*Publish", RetainPublish, true),
        ("iot:Get*", Action::GetThingShadow, true),
        ("iot:Get*", Action::UpdateThingShadow, false),
        ("iot:CreateThing", Publish, false),
        ("s3:*", Publish, false),
    ];
    for (name, action, expected) in cases {
        check(&allow(name, "*"), &client("a"), &[(action, Topic("a"), expected)]);
    }
}

#[test]
fn not_action_and_not_resource_mean_all_others() {
    check(
        r#"{"Effect":"Allow","NotAction":["iot:Publish","iot:RetainPublish"],"Resource":"*"}"#,
        &client("a"),
        &[(Publish, Topic("a"), false), (Receive, Topic("a"), true)],
    );
    check(
        r#"{"Effect":"Deny","Action":"iot:*","NotResource":"ARN:topic/own/*"},
           {"Effect":"Allow","Action":"iot:*","Resource":"*"}"#,
        &client("a"),
        &[(Publish, Topic("own/x"), true), (Publish, Topic("x"), false)],
    );
}

#[test]
fn named_shadows_have_a_resource_of_their_own() {
    check(
        &allow("iot:GetThingShadow", "ARN:thing/lamp/mode"),
        &client("a"),
        &[
            (Action::GetThingShadow, Thing("lamp", Some("mode")), true),
            (Action::GetThingShadow, Thing("lamp", None), false),
        ],
    );
}

#[test]
fn variables_stand_for_the_connections_own_values() {
    let cases = [
        ("a/${iot:ClientId}", "a/lamp", true),
        ("a/${iot:clientid}", "a/lamp", true),
        ("a/${iot:ClientId}/*", "a/lamp/x", true),
        ("a/${iot:ClientId}", "a/other", false),
        ("${iot:Connection.Thing.ThingName}", "lamp", true),
        ("${iot:Connection.Thing.ThingTypeName}/x", "Light/x", true),
        ("${iot:Connection.Thing.Attributes[site]}", "hall-2", true),
        ("${iot:Connection.Thing.Attributes[none]}", "", false),
        ("${iot:Connection.Thing.IsAttached}", "true", true),
        ("${iot:Certificate.Subject.CommonName}", "cn-1", true),
        ("${iot:Certificate.Subject.CommonName.1}", "cn-2", true),
        ("${iot:Certificate.Subject.CommonName.2}", "cn-2", false),
        ("${iot:Certificate.Subject.Country}", "", false),
        ("${iot:Certificate.SerialNumber}", "10525622389124227206", true),
        ("${iot:DomainName}", "iot.example.com", true),
        ("${aws:SourceIp}", "10.1.2.3", true),
    ];
    for (pattern, topic, expected) in cases {
        let statement = allow("iot:Publish", &format!("ARN:topic/{pattern}"));
        check(&statement, &lamp(), &[(Publish, Topic(topic), expected)]);
    }
}

#[test]
fn a_thing_that_is_not_attached_has_no_name_in_policies() {
    let named = allow("iot:Publish", "ARN:topic/${iot:Connection.Thing.ThingName}/*");
    check(
        &named,
        &client("lamp"),
        &[
            (Publish, Topic("lamp/x"), false),
            (Publish, Topic("/x"), false),
            (Publish, Topic("${iot:Connection.Thing.ThingName}/x"), false),
        ],
    );
    let other = r#"{"Effect":"Allow","Action":"iot:Publish",
        "NotResource":"ARN:topic/${iot:Connection.Thing.ThingName}"}"#;
    check(other, &client("lamp"), &[(Publish, Topic("x"), false)]);
}

#[test]
fn a_client_id_cannot_widen_a_policy() {
    let own = [
        allow("iot:Subscribe", "ARN:topicfilter/own/${iot:ClientId}"),
        allow("iot:Publish", "ARN:topic/${iot:ClientId}/get"),
    ]
    .join(",");
    check(&own, &client("#"), &[(Subscribe, TopicFilter("own/#"), false)]);
    check(&own, &client("+"), &[(Subscribe, TopicFilter("own/+"), false)]);
    check(&own, &client("*"), &[(Subscribe, TopicFilter("own/x"), false)]);
    let shadow = "$aws/things/other/shadow";
    let get = format!("{shadow}/get");
    check(&own, &client(shadow), &[(Publish, Topic(&get), false)]);
    // A denial holds for such a client all the same, literally.
    let denied = [allow("iot:*", "*"), deny("iot:Publish", "ARN:topic/${iot:ClientId}")].join(",");
    check(&denied, &client("*"), &[(Publish, Topic("*"), false), (Publish, Topic("x"), true)]);
}

#[test]
fn conditions_decide_whether_a_statement_applies() {
    let persistent = Context { is_persistent: true, ..lamp() };
    let with_will = Context { has_will: true, ..lamp() };
    let both = Context { has_will: true, is_persistent: true, ..lamp() };
    let attributes = r#""iot:ConnectAttributes":["PersistentConnect"]"#;
    let all = format!(r#"{{"ForAllValues:StringEquals":{{{attributes}}}}}"#);
    let any = format!(r#"{{"ForAnyValue:StringEquals":{{{attributes}}}}}"#);
    let ip =
        |operator: &str, value: &str| format!(r#"{{"{operator}":{{"aws:SourceIp":{value}}}}}"#);
    let one = |operator: &str, key: &str, value: &str| {
        format!(r#"{{"{operator}":{{"iot:{key}":"{value}"}}}}"#)
    };
    let cases = [
        // "ForAllValues returns true for an empty set."
        (all.clone(), lamp(), true),
        (all.clone(), persistent.clone(), true),
        (all.clone(), with_will.clone(), false),
        (all, both.clone(), false),
        (any.clone(), lamp(), false),
        (any.clone(), persistent, true),
        (any, both, true),
        (ip("IpAddress", r#""10.0.0.0/8""#), lamp(), true),
        (ip("IpAddress", r#"["192.168.0.0/16","10.1.2.3"]"#), lamp(), true),
        (ip("IpAddress", r#""0.0.0.0/0""#), lamp(), true),
        (ip("IpAddress", r#""::/0""#), lamp(), false),
        (ip("NotIpAddress", r#""10.0.0.0/8""#), lamp(), false),
        (ip("IpAddress", r#""10.0.0.0/8""#), client("c"), false),
        (ip("IpAddressIfExists", r#""10.0.0.0/8""#), client("c"), true),
        (one("StringEquals", "ClientId", "lamp"), lamp(), true),
        (one("StringEquals", "ClientId", "LAMP"), lamp(), false),
        (one("StringEquals", "ClientId", "l*"), lamp(), false),
        (one("StringEqualsIgnoreCase", "ClientId", "LAMP"), lamp(), true),
        (one("StringNotEqualsIgnoreCase", "ClientId", "LAMP"), lamp(), false),
        (one("StringNotEquals", "ClientId", "other"), lamp(), true),
        (one("StringLike", "ClientId", "l?m*"), lamp(), true),
        (one("StringNotLike", "ClientId", "l*"), lamp(), false),
        (one("StringEquals", "ClientId", "${iot:Connection.Thing.ThingName}"), lamp(), true),
        (one("StringEquals", "ClientId", "${iot:Connection.Thing.ThingName}"), client("c"), false),
        (one("StringEquals", "Connection.Thing.Attributes[site]", "hall-2"), lamp(), true),
        (one("StringEquals", "Connection.Thing.Attributes[site]", "hall-2"), client("c"), false),
        (one("Bool", "Connection.Thing.IsAttached", "true"), lamp(), true),
        (one("Bool", "Connection.Thing.IsAttached", "true"), client("lamp"), false),
        (one("Bool", "Connection.Thing.IsAttached", "false"), client("lamp"), true),
        (r#"{"Bool":{"iot:Connection.Thing.IsAttached":[true]}}"#.to_owned(), lamp(), true),
        (one("Null", "Connection.Thing.ThingTypeName", "true"), lamp(), false),
        (one("Null", "Connection.Thing.ThingTypeName", "true"), client("c"), true),
        // Several operators: all must hold.
        (
            r#"{"StringLike":{"iot:ClientId":"l*"},"IpAddress":{"aws:SourceIp":"10.9.0.0/16"}}"#
                .to_owned(),
            lamp(),
            false,
        ),
    ];
    for (condition, context, expected) in cases {
        let statement = format!(
            r#"{{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{condition}}}"#
        );
        check(&statement, &context, &[(Connect, Client("x"), expected)]);
    }
}

/// Whether a statement with this condition applies to the connection.
#[track_caller]
fn check_condition(condition: &str, context: &Context, expected: bool) {
    let statement = format!(
        r#"{{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{condition}}}"#
    );
    check(&statement, context, &[(Connect, Client("x"), expected)]);
}

/// The client of [`lamp`] whose thing has this value as `site`.
fn at_site(value: &str) -> Context {
    let mut context = lamp();
    let thing = context.thing.as_mut().unwrap();
    thing.attributes.insert("site".to_owned(), value.to_owned());
    context
}

/// Of operators that have an order: below, the same, above; each with the suffix and the prefixes too.
#[track_caller]
fn check_ordered(kind: &str, [below, same, above]: [&str; 3], others: &[&str]) {
    let cases = [
        ("Equals", [false, true, false]),
        ("NotEquals", [true, false, true]),
        ("LessThan", [true, false, false]),
        ("LessThanEquals", [true, true, false]),
        ("GreaterThan", [false, false, true]),
        ("GreaterThanEquals", [false, true, true]),
    ];
    for (operator, expected) in cases {
        for form in ["OP", "OPIfExists", "ForAllValues:OP", "ForAnyValue:OP"] {
            let operator = form.replace("OP", &format!("{kind}{operator}"));
            let key = "iot:Connection.Thing.Attributes[site]";
            let condition = format!(r#"{{"{operator}":{{"{key}":"{same}"}}}}"#);
            for (value, expected) in [below, same, above].iter().zip(expected) {
                check_condition(&condition, &at_site(value), expected);
            }
            // What is none is equal to none, and in no order with any.
            for value in others {
                check_condition(&condition, &at_site(value), operator.contains("Not"));
            }
            // Absent, and for a set: empty.
            let absent = match form {
                "OP" => operator.contains("Not"),
                "ForAnyValue:OP" => false,
                _ => true,
            };
            check_condition(&condition, &client("c"), absent);
        }
    }
}

#[test]
fn numbers_are_compared_as_numbers() {
    check_ordered("Numeric", ["9", "10", "11"], &["ten", "", "1e1"]);
    check_ordered("Numeric", ["-10.5", "-10.05", "-1"], &["-"]);
    // Two serial numbers that are the same as doubles.
    let serial = |operator: &str, last| {
        let key = "iot:Certificate.SerialNumber";
        format!(r#"{{"{operator}":{{"{key}":"1052562238912422720{last}"}}}}"#)
    };
    check_condition(&serial("NumericEquals", 6), &lamp(), true);
    check_condition(&serial("NumericEquals", 7), &lamp(), false);
    check_condition(&serial("NumericLessThan", 7), &lamp(), true);
    // A JSON number is taken as its text, and several are alternatives.
    let either = r#"{"NumericEquals":{"iot:Connection.Thing.Attributes[site]":[7,8.5]}}"#;
    for (value, expected) in [("7", true), ("8.50", true), ("8", false)] {
        check_condition(either, &at_site(value), expected);
    }
    let neither = either.replace("Equals", "NotEquals");
    for (value, expected) in [("7", false), ("8.50", false), ("8", true)] {
        check_condition(&neither, &at_site(value), expected);
    }
}

#[test]
fn times_are_compared_as_times() {
    let (before, after) = ("2026-01-15T00:59:59+01:00", "2026-01-15T00:00:00.001Z");
    check_ordered("Date", [before, "2026-01-15T00:00:00Z", after], &["soon", "2026-01-15T00:00"]);
    check_ordered("Date", ["1768435199", "2026-01-15", "1768435201"], &["1.5"]);
}

#[test]
fn arns_are_compared_part_by_part() {
    let arn = "arn:aws:iot:us-east-1:123456789012:thing/lamp:a";
    let cases = [
        ("arn:aws:iot:us-east-1:123456789012:thing/lamp:a", true),
        ("arn:aws:iot:*:*:thing/*", true),
        ("arn:aws:iot:us-east-?:*:thing/lamp*", true),
        ("arn:aws:iot:us-east-1:123456789012:thing/lamp", false),
        // A star stays within its part.
        ("arn:*:123456789012:thing/lamp:a:*:*", false),
        ("arn:aws:iot:eu-*:123456789012:*", false),
    ];
    for (pattern, expected) in cases {
        for (operator, expected) in [
            ("ArnEquals", expected),
            ("ArnLike", expected),
            ("ArnNotEquals", !expected),
            ("ArnNotLike", !expected),
            ("ArnLikeIfExists", expected),
            ("ForAnyValue:ArnLike", expected),
        ] {
            let condition = format!(
                r#"{{"{operator}":{{"iot:Connection.Thing.Attributes[site]":"{pattern}"}}}}"#
            );
            check_condition(&condition, &at_site(arn), expected);
        }
    }
    let own = r#"{"ArnLike":{"iot:Connection.Thing.Attributes[site]":
        "arn:aws:iot:*:*:thing/${iot:ClientId}:*"}}"#;
    check_condition(own, &at_site(arn), true);
    check_condition(own, &at_site("arn:aws:iot:us-east-1:123456789012:thing/fan:a"), false);
    check_condition(own, &at_site("thing/lamp:a"), false);
}

#[test]
fn texts_addresses_and_booleans_take_the_suffix_and_the_prefixes() {
    let cases = [
        ("StringEquals", "iot:ClientId", "lamp", true),
        ("StringNotEquals", "iot:ClientId", "lamp", false),
        ("StringEqualsIgnoreCase", "iot:ClientId", "LAMP", true),
        ("StringNotEqualsIgnoreCase", "iot:ClientId", "LAMP", false),
        ("StringLike", "iot:ClientId", "la*", true),
        ("StringNotLike", "iot:ClientId", "la*", false),
        ("Bool", "iot:Connection.Thing.IsAttached", "true", true),
        ("Bool", "iot:Connection.Thing.IsAttached", "false", false),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", true),
        ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", false),
    ];
    for (operator, key, value, expected) in cases {
        let absent = operator.contains("Not");
        for (form, absent) in [
            (operator.to_owned(), absent),
            (format!("{operator}IfExists"), true),
            (format!("ForAllValues:{operator}"), true),
            (format!("ForAnyValue:{operator}"), false),
        ] {
            let condition = format!(r#"{{"{form}":{{"{key}":"{value}"}}}}"#);
            check_condition(&condition, &lamp(), expected);
            // Over HTTP there is no client id, hence no thing; and here no address.
            check_condition(&condition, &Context::default(), absent);
        }
    }
}

#[test]
fn every_key_can_be_asked_for() {
    let mut keys = vec![
        ("iot:ClientId".to_owned(), "lamp"),
        ("iot:DomainName".to_owned(), "iot.example.com"),
        ("aws:SourceIp".to_owned(), "10.1.2.3"),
        ("iot:ConnectAttributes".to_owned(), "LastWill"),
        ("iot:Connection.Thing.ThingName".to_owned(), "lamp"),
        ("iot:Connection.Thing.ThingTypeName".to_owned(), "Light"),
        ("iot:Connection.Thing.Attributes[site]".to_owned(), "hall-2"),
        ("iot:Connection.Thing.IsAttached".to_owned(), "true"),
        ("iot:Certificate.AvailableKeys".to_owned(), "iot:Certificate.SerialNumber"),
    ];
    let mut context = Context { has_will: true, ..lamp() };
    for name in CERTIFICATE_FIELDS {
        context.certificate.insert(name, vec!["one".to_owned(), "other".to_owned()]);
        keys.push((format!("iot:Certificate.{name}"), "one"));
        keys.push((format!("iot:Certificate.{name}.1"), "other"));
        keys.push((format!("iot:Certificate.{name}.List"), "other"));
    }
    for (key, value) in keys {
        for key in [key.clone(), key.to_ascii_uppercase().replace("[SITE]", "[site]")] {
            let condition =
                |value: &str| format!(r#"{{"ForAnyValue:StringEquals":{{"{key}":"{value}"}}}}"#);
            check_condition(&condition(value), &context, true);
            check_condition(&condition("else"), &context, false);
            let null = |absent: bool| format!(r#"{{"Null":{{"{key}":"{absent}"}}}}"#);
            check_condition(&null(false), &context, true);
            check_condition(&null(true), &context, false);
            check_condition(&null(true), &Context::default(), true);
        }
    }
}

#[test]
fn at_most_five_values_of_a_certificate_count_and_none_that_is_long_or_wild() {
    let values = (1..=6).map(|number| format!("unit-{number}")).collect();
    let units = Context { certificate: [("Subject.OrganizationalUnit", values)].into(), ..lamp() };
    let unit = "iot:Certificate.Subject.OrganizationalUnit";
    for (number, expected) in [(1, true), (5, true), (6, false)] {
        let listed = format!(r#"{{"ForAnyValue:StringEquals":{{"{unit}.List":"unit-{number}"}}}}"#);
        check_condition(&listed, &units, expected);
        let nth = number - 1;
        let single = format!(r#"{{"StringEquals":{{"{unit}.{nth}":"unit-{number}"}}}}"#);
        check_condition(&single, &units, expected);
    }
    let own = allow("iot:Publish", &format!("ARN:topic/${{{unit}}}"));
    for (value, expected) in [("a".repeat(1_024), true), ("a".repeat(1_025), false)] {
        let certificate = [("Subject.OrganizationalUnit", vec![value.clone()])].into();
        check(&own, &Context { certificate, ..lamp() }, &[(Publish, Topic(&value), expected)]);
    }
    for value in ["a*", "a?", "a+", "a#", "a$"] {
        let certificate = [("Subject.OrganizationalUnit", vec![value.to_owned()])].into();
        check(&own, &Context { certificate, ..lamp() }, &[(Publish, Topic(value), false)]);
    }
}

#[test]
fn a_malformed_document_is_refused_with_place_and_reason() {
    let one = |statement: &str| document(statement);
    let with_condition = |condition: &str| {
        one(&format!(r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}"#))
    };
    let cases = [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\n\"Version\": 1", "line 2 column 12"),
        (r#"{"Version":"2012-10-17"}"#, "missing field `Statement`"),
        (r#"{"Version":"2012-10-17","Statement":[]}"#, "Statement: is empty"),
        (
            r#"{"Version":"2012-10-17","Statement":7}"#,
            "invalid type: integer `7`, expected a statement or a list of statements",
        ),
        (&document(&allow("iot:Publish", "*")).replace("2012", "2008"), "Version: must be"),
        (&one(&allow("iot:Publish", "*").replace("Allow", "allow")), "unknown variant `allow`"),
        (&one(r#"{"Effect":"Allow","Action":"*"}"#), "Resource or NotResource is missing"),
        (
            &one(r#"{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}"#),
            "Statement[0]: has both Action and NotAction",
        ),
        (
            &one(r#"{"Effect":"Allow","Action":[],"Resource":"*"}"#),
            "Statement[0]: Action or NotAction is an empty list",
        ),
        (
            &one(r#"{"Effect":"Allow","Action":"*","Action":"*","Resource":"*"}"#),
            "duplicate field `Action`",
        ),
        (
            &one(r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#),
            "unknown field `Principal`",
        ),
        (
            &one(&allow("Publish", "*")),
            "Statement[0].Action: \"Publish\" is neither \"*\" nor of the form iot:Publish",
        ),
        (
            &one(r#"{"Effect":"Allow","Action":"*","Resource":"*"},
                   {"Effect":"Deny","Action":"*","Resource":["*","topic/a"]}"#),
            "Statement[1].Resource[1]: \"topic/a\" is neither",
        ),
        (&one(&allow("*", "ARN:topic/${iot:ClientId")), "without its \"}\""),
        (&one(&allow("*", "ARN:topic/${iot:Nothing}")), "\"iot:Nothing\" is not a key"),
        (&one(&allow("*", "ARN:topic/${iot:ConnectAttributes}")), "belongs into a Condition"),
        (
            &with_condition(r#"{"BinaryEquals":{"iot:ClientId":"QQ=="}}"#),
            "Statement[0].Condition.BinaryEquals.iot:ClientId: operator \"BinaryEquals\" is not \
             supported; supported are StringEquals",
        ),
        (&with_condition(r#"{"NumericLess":{"iot:ClientId":1}}"#), "\"NumericLess\" is not"),
        (&with_condition(r#"{"Null:":{"iot:ClientId":true}}"#), "\"Null:\" is not supported"),
        (&with_condition(r#"{"NullIfExists":{"iot:ClientId":true}}"#), "is not supported"),
        (&with_condition(r#"{"Null":{"iot:ClientId":["true","false"]}}"#), "takes one value"),
        (&with_condition(r#"{"NumericEquals":{"iot:ClientId":"x"}}"#), "\"x\" is no decimal"),
        (&with_condition(r#"{"DateEquals":{"iot:ClientId":"x"}}"#), "\"x\" is no time such as"),
        (&with_condition(r#"{"ArnLike":{"iot:ClientId":"lamp*"}}"#), "\"lamp*\" is no ARN"),
        (
            &one(&allow("*", "ARN:topic/${iot:Certificate.Subject.CommonName.List}")),
            "has many values and belongs into a Condition",
        ),
        (&one(&allow("*", "ARN:topic/${iot:Certificate.AvailableKeys}")), "has many values"),
        (&one(&allow("*", "ARN:topic/${iot:Certificate.Subject.Colour}")), "is not a key"),
        (&with_condition(r#"{"Bool":{"aws:SecureTransport":true}}"#), "is not a key"),
        (&with_condition(r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}"#), "10.0.0.0/33"),
        (&with_condition(r#"{"IpAddress":{"iot:ClientId":"10.0.0.0/8"}}"#), "only aws:SourceIp"),
        (&with_condition(r#"{"Bool":{"iot:ClientId":"maybe"}}"#), "neither \"true\" nor"),
        (
            &with_condition(r#"{"Bool":{"iot:ClientId":true,"iot:ClientId":true}}"#),
            "duplicate field \"iot:ClientId\"",
        ),
    ];
    for (document, expected) in cases {
        check_refused(document, expected);
    }
}

#[test]
fn the_length_of_a_document_counts_without_white_space() {
    let padded = |letters: usize| {
        let blanks = " \n\t".repeat(1_000);
        let bare = document(&allow("iot:Publish", "ARN:topic/")).len();
        let topic = "a".repeat(letters - bare);
        blanks + &document(&allow("iot:Publish", &format!("ARN:topic/{topic}")))
    };
    Policy::parse("P", &padded(2_048), &Account::default()).unwrap();
    check_refused(&padded(2_049), "has 2049 characters without white space; at most 2048");
}

#[test]
fn a_single_statement_needs_no_list() {
    let document = format!(r#"{{"Version":"2012-10-17","Statement":{}}}"#, allow("*", "*"));
    let policy = Policy::parse("P", &document, &Account::default()).unwrap();
    assert!(Permissions::new([&policy], &client("a")).allows(Connect, Client("a")));
}

proptest! {
    #[test]
    fn the_parser_never_panics(
        text in r#"(\{|\}|\[|\]|,|:|"|[$*?a-z]|"(Version|Statement|Effect|Allow|Action|Resource|Condition)"){0,40}"#
    ) {
        let _ = Policy::parse("P", &text, &Account::default());
    }

    #[test]
    fn a_resource_of_any_text_never_panics_and_denies_others(resource in r"(\*|\$\{|\}|iot:|ClientId|[?a-zé/+#$\[\]]){0,20}") {
        let text = serde_json::to_string(&format!("{OWN}topic/x{resource}")).unwrap();
        let statement = format!(r#"{{"Effect":"Allow","Action":"*","Resource":{text}}}"#);
        if let Ok(policy) = Policy::parse("P", &document(&statement), &Account::default()) {
            let permissions = Permissions::new([&policy], &client("c"));
            prop_assert!(!permissions.allows(Publish, Topic("y")));
            prop_assert!(!permissions.allows(Connect, Client("xc")));
        }
    }
}
