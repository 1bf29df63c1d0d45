use crate::iot::fleet_indexing::tests::{indexed, until};
use crate::test_host::TestHost;
use serde_json::{Value, json};

const INVALID: &str = "InvalidRequestException";

async fn lamp(host: &TestHost, name: &str, line: &str) {
    let body = json!({"attributePayload": {"attributes": {"line": line}}}).to_string();
    host.iot("POST", &format!("/things/{name}"), &body).await;
}

async fn create(host: &TestHost, name: &str, query: &str) -> Value {
    let body = json!({"queryString": query}).to_string();
    host.iot("POST", &format!("/dynamic-thing-groups/{name}"), &body).await
}

async fn has(host: &TestHost, group: &str, things: &[&str]) {
    let target = format!("/thing-groups/{group}/things");
    until(async || host.iot("GET", &target, "").await == json!({"things": things})).await;
}

#[tokio::test]
async fn a_dynamic_group_has_the_things_that_its_query_finds() {
    let host = indexed().await;
    lamp(&host, "a", "3").await;
    lamp(&host, "b", "4").await;
    let made = create(&host, "Third", "attributes.line:3").await;
    let arn = "arn:aws:iot:us-east-1:123456789012:thinggroup/Third";
    let expected = json!({
        "thingGroupName": "Third",
        "thingGroupArn": arn,
        "thingGroupId": made["thingGroupId"],
        "indexName": "AWS_Things",
        "queryString": "attributes.line:3",
        "queryVersion": "2017-09-30",
    });
    assert_eq!(made, expected);
    assert_eq!(create(&host, "Third", "attributes.line:3").await, expected, "the same again");
    has(&host, "Third", &["a"]).await;
    let described = host.iot("GET", "/thing-groups/Third", "").await;
    assert_eq!(described["status"], "ACTIVE");
    assert_eq!(described["queryString"], "attributes.line:3");
    assert_eq!(described["indexName"], "AWS_Things");
    assert_eq!(described["queryVersion"], "2017-09-30");
    host.iot("PATCH", "/things/b", r#"{"attributePayload": {"attributes": {"line": "3"}}}"#).await;
    has(&host, "Third", &["a", "b"]).await;
    let first = host.iot("GET", "/thing-groups/Third/things?maxResults=1", "").await;
    assert_eq!(first["things"], json!(["a"]));
    let token = first["nextToken"].as_str().unwrap();
    let rest = host.iot("GET", &format!("/thing-groups/Third/things?nextToken={token}"), "").await;
    assert_eq!(rest, json!({"things": ["b"]}));
    let groups = json!({"thingGroups": [{"groupName": "Third", "groupArn": arn}]});
    until(async || host.iot("GET", "/things/a/thing-groups", "").await == groups).await;
    assert_eq!(host.iot("GET", "/thing-groups", "").await, groups);
    let body = r#"{"queryString": "thingName:a"}"#;
    let answer = host.iot("POST", "/indices/search", body).await;
    assert_eq!(answer["things"][0]["thingGroupNames"], json!(["Third"]));
    host.iot("DELETE", "/things/a", "").await;
    has(&host, "Third", &["b"]).await;
}

#[tokio::test]
async fn a_dynamic_group_is_changed_and_deleted_by_its_own_operations() {
    let host = indexed().await;
    lamp(&host, "a", "3").await;
    create(&host, "Some", "attributes.line:3").await;
    let (target, group) = ("/dynamic-thing-groups/Some", "/thing-groups/Some");
    let body = r#"{"queryString": "attributes.line:4",
        "thingGroupProperties": {"thingGroupDescription": "four"}}"#;
    assert_eq!(host.iot("PATCH", target, body).await, json!({"version": 2}));
    has(&host, "Some", &[]).await;
    let described = host.iot("GET", group, "").await;
    assert_eq!(described["thingGroupProperties"]["thingGroupDescription"], "four");
    // The query stays when none is given.
    let body = r#"{"thingGroupProperties": {}, "expectedVersion": 2}"#;
    assert_eq!(host.iot("PATCH", target, body).await, json!({"version": 3}));
    assert_eq!(host.iot("GET", group, "").await["queryString"], "attributes.line:4");
    let stale = r#"{"thingGroupProperties": {}, "expectedVersion": 1}"#;
    host.check_refused("PATCH", target, stale, "VersionConflictException", "version 3").await;
    let stale = "/dynamic-thing-groups/Some?expectedVersion=1";
    host.check_refused("DELETE", stale, "", "VersionConflictException", "version 3").await;
    assert_eq!(host.iot("DELETE", target, "").await, json!({}));
    assert_eq!(host.iot("DELETE", target, "").await, json!({}), "again");
    host.check_refused("GET", group, "", "ResourceNotFoundException", "Some").await;
}

#[tokio::test]
async fn what_only_static_groups_have_is_refused() {
    let host = indexed().await;
    lamp(&host, "a", "3").await;
    create(&host, "Some", "attributes.line:3").await;
    host.iot("POST", "/thing-groups/Static", "").await;
    let document = r#"{"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}"#;
    let policy = json!({"policyDocument": document});
    host.iot("POST", "/policies/P", &policy.to_string()).await;
    let member = r#"{"thingName": "a", "thingGroupName": "Some"}"#;
    let attach =
        json!({"target": "arn:aws:iot:us-east-1:123456789012:thinggroup/Some"}).to_string();
    for (method, target, body) in [
        ("PUT", "/thing-groups/addThingToThingGroup", member),
        ("PUT", "/thing-groups/removeThingFromThingGroup", member),
        ("PATCH", "/thing-groups/Some", r#"{"thingGroupProperties": {}}"#),
        ("DELETE", "/thing-groups/Some", ""),
        ("POST", "/thing-groups/Below", r#"{"parentGroupName": "Some"}"#),
        ("PUT", "/target-policies/P", &attach),
    ] {
        host.check_refused(method, target, body, INVALID, "thing group Some is dynamic").await;
    }
    let all = r#"{"queryString": "*"}"#;
    let target = "/dynamic-thing-groups/GnomonQuarantine";
    host.check_refused("POST", target, all, INVALID, "things in quarantine").await;
    let level = json!({"logTarget": {"targetType": "THING_GROUP", "targetName": "Some"},
        "logLevel": "DEBUG"});
    host.iot("POST", "/v2LoggingOptions", r#"{"defaultLogLevel": "INFO"}"#).await;
    let says = "thing group Some is dynamic";
    host.check_refused("POST", "/v2LoggingLevel", &level.to_string(), INVALID, says).await;
    let properties = r#"{"thingGroupProperties": {}}"#;
    for (method, body) in [("PATCH", properties), ("DELETE", "")] {
        let target = "/dynamic-thing-groups/Static";
        host.check_refused(method, target, body, INVALID, "thing group Static is static").await;
    }
    let exists = "ResourceAlreadyExistsException";
    let body = r#"{"queryString": "*"}"#;
    for name in ["Static", "Some"] {
        let target = format!("/dynamic-thing-groups/{name}");
        host.check_refused("POST", &target, body, exists, "exists with another").await;
    }
    host.check_refused("POST", "/thing-groups/Some", "", exists, "exists with another").await;
}

#[tokio::test]
async fn a_dynamic_group_needs_the_index_and_a_query() {
    let host = TestHost::new().await;
    let target = "/dynamic-thing-groups/Some";
    let body = r#"{"queryString": "*"}"#;
    host.check_refused("POST", target, body, INVALID, "needs the index AWS_Things").await;
    let host = indexed().await;
    for (body, exception, says) in [
        ("{}", INVALID, "queryString"),
        (r#"{"queryString": "a:"}"#, "InvalidQueryException", "a value has to follow"),
        (r#"{"queryString": "*", "indexName": "AWS_ThingGroups"}"#, INVALID, "must be AWS_Things"),
        (r#"{"queryString": "*", "queryVersion": "1"}"#, INVALID, "2017-09-30"),
    ] {
        host.check_refused("POST", target, body, exception, says).await;
    }
    create(&host, "Some", "*").await;
    let body = r#"{"thingGroupProperties": {}, "queryString": "(("}"#;
    host.check_refused("PATCH", target, body, "InvalidQueryException", "").await;
    let off = r#"{"thingIndexingConfiguration": {"thingIndexingMode": "OFF"}}"#;
    host.check_refused("POST", "/indexing/config", off, INVALID, "Some is dynamic").await;
    host.iot("DELETE", target, "").await;
    host.iot("POST", "/indexing/config", off).await;
}

#[tokio::test]
async fn who_joins_and_leaves_is_told() {
    let host = indexed().await;
    let classes = r#"{"eventConfigurations": {"THING_GROUP_MEMBERSHIP": {"Enabled": true}}}"#;
    host.iot("PATCH", "/event-configurations", classes).await;
    create(&host, "Third", "attributes.line:3").await;
    let (seen, _receiver) = host.listen(&["$aws/events/thingGroupMembership/#"]);
    lamp(&host, "other", "4").await;
    lamp(&host, "a", "3").await;
    has(&host, "Third", &["a"]).await;
    host.iot("PATCH", "/things/a", r#"{"attributePayload": {"attributes": {"line": "4"}}}"#).await;
    has(&host, "Third", &[]).await;
    let operations = || -> Vec<_> {
        let event = |event: Value| (event["operation"].clone(), event["groupArn"].clone());
        seen.take().into_iter().map(event).collect()
    };
    let arn = json!("arn:aws:iot:us-east-1:123456789012:thinggroup/Third");
    let mut told = Vec::new();
    for _ in 0..1_000 {
        told.extend(operations());
        if told.len() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(told, [(json!("ADDED"), arn.clone()), (json!("REMOVED"), arn)]);
}

#[tokio::test]
async fn a_static_group_of_the_same_name_has_none_of_its_things() {
    let host = indexed().await;
    lamp(&host, "a", "3").await;
    create(&host, "Some", "*").await;
    has(&host, "Some", &["a"]).await;
    let of_a = async || host.iot("GET", "/things/a/thing-groups", "").await["thingGroups"].clone();
    until(async || of_a().await != json!([])).await;
    host.iot("DELETE", "/dynamic-thing-groups/Some", "").await;
    host.iot("POST", "/thing-groups/Some", "").await;
    until(async || of_a().await == json!([])).await;
    has(&host, "Some", &[]).await;
}

#[tokio::test]
async fn there_is_a_bound_on_dynamic_groups() {
    let host = indexed().await;
    for n in 0..gnomon_core::registry::DYNAMIC_GROUPS_MAX {
        create(&host, &format!("g{n}"), "*").await;
    }
    let (target, body) = ("/dynamic-thing-groups/more", r#"{"queryString": "*"}"#);
    host.check_refused("POST", target, body, "LimitExceededException", "100 dynamic").await;
    create(&host, "g7", "*").await;
}
