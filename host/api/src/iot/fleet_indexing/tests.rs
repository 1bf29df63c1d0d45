use crate::test_host::TestHost;
use gnomon_core::broker::clients::{Client, Opening};
use gnomon_core::ids::{ClientId, ThingName};
use gnomon_core::packet::Reason;
use gnomon_core::session::Left;
use gnomon_core::time::Now;
use serde_json::{Value, json};
use std::time::Duration;

const NOT_READY: &str = "IndexNotReadyException";
const INVALID: &str = "InvalidRequestException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFIGURATION: &str = "/indexing/config";
const SEARCH: &str = "/indices/search";

/// What the clock of a host says when it begins.
const NOW_MS: u64 = 1_795_435_200_500;

/// An index over all that can be indexed.
pub(crate) async fn indexed() -> TestHost {
    let host = TestHost::new().await;
    configure(&host, "REGISTRY_AND_SHADOW", "STATUS").await;
    host
}

async fn configure(host: &TestHost, mode: &str, connectivity: &str) {
    let body = json!({
        "thingIndexingConfiguration": {
            "thingIndexingMode": mode,
            "thingConnectivityIndexingMode": connectivity,
            "namedShadowIndexingMode": "ON",
            "filter": {
                "namedShadowNames": ["config"],
                "connectivity": {"includeSocketInformation": ["GET_THING_CONNECTIVITY_DATA"]},
            },
            "customFields": [
                {"name": "attributes.line", "type": "Number"},
                {"name": "shadow.reported.temperature", "type": "Number"},
            ],
        },
        "thingGroupIndexingConfiguration": {"thingGroupIndexingMode": "ON"},
    });
    assert_eq!(host.iot("POST", CONFIGURATION, &body.to_string()).await, json!({}));
    until(async || {
        let things = host.iot("GET", "/indices/AWS_Things", "").await;
        let groups = host.iot("GET", "/indices/AWS_ThingGroups", "").await;
        things["indexStatus"] == "ACTIVE" && groups["indexStatus"] == "ACTIVE"
    })
    .await;
}

/// Waits until something is so: the index follows soon.
pub(crate) async fn until(is_so: impl AsyncFn() -> bool) {
    for _ in 0..2_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not become so");
}

/// Names that a query finds in an index.
async fn found(host: &TestHost, index: &str, query: &str) -> Vec<String> {
    let body = json!({"indexName": index, "queryString": query}).to_string();
    let answer = host.iot("POST", SEARCH, &body).await;
    let (list, name) = match index {
        "AWS_Things" => ("things", "thingName"),
        _ => ("thingGroups", "thingGroupName"),
    };
    let documents = answer[list].as_array().unwrap().iter();
    documents.map(|document| document[name].as_str().unwrap().to_owned()).collect()
}

/// Waits until a query finds these things.
async fn finds(host: &TestHost, query: &str, expected: &[&str]) {
    until(async || found(host, "AWS_Things", query).await == expected).await;
}

async fn thing(host: &TestHost, name: &str, attributes: Value) {
    let body = json!({"attributePayload": {"attributes": attributes}}).to_string();
    host.iot("POST", &format!("/things/{name}"), &body).await;
}

async fn report(host: &TestHost, target: &str, state: Value) {
    let body = json!({"state": state}).to_string();
    let target = format!("/things/{target}");
    TestHost::json(&host.call("iotdata", "POST", &target, &body).await);
}

/// A device connects.
async fn connect(host: &TestHost, name: &str) -> Client {
    connect_as(host, name, None).await
}

/// The device of a thing connects, under any client id.
async fn connect_as(host: &TestHost, name: &str, thing: Option<&ThingName>) -> Client {
    let client_id = ClientId::parse(name).unwrap();
    let opening = Opening {
        client_id: &client_id,
        principal: None,
        predecessor: None,
        ip: [10, 1, 2, 3].into(),
        thing,
        session_identifier: 7,
        clean_start: true,
        session_expiry_s: 0,
        will: None,
    };
    host.clients.open(&opening, Now::of(&*host.clock)).await.unwrap().0
}

fn disconnect(host: &TestHost, client: Client, reason: Option<Reason>) {
    client.close(Now::of(&*host.clock), reason, Left::default());
}

#[tokio::test]
async fn indexing_is_off_until_it_is_configured() {
    let host = TestHost::new().await;
    let off = host.iot("GET", CONFIGURATION, "").await;
    let things = &off["thingIndexingConfiguration"];
    assert_eq!(things["thingIndexingMode"], "OFF");
    assert_eq!(things["thingConnectivityIndexingMode"], "OFF");
    assert_eq!(things["namedShadowIndexingMode"], "OFF");
    let managed = things["managedFields"].as_array().unwrap();
    assert!(managed.contains(&json!({"name": "connectivity.connected", "type": "Boolean"})));
    assert_eq!(off["thingGroupIndexingConfiguration"]["thingGroupIndexingMode"], "OFF");
    assert_eq!(host.iot("GET", "/indices", "").await, json!({"indexNames": []}));
    host.check_refused("GET", "/indices/AWS_Things", "", NOT_FOUND, "is off").await;
    host.check_refused("GET", "/indices/Others", "", NOT_FOUND, "no index \"Others\"").await;
    for (path, more) in [
        ("search", ""),
        ("statistics", ""),
        ("cardinality", ""),
        ("percentiles", ""),
        (
            "buckets",
            r#", "aggregationField": "thingName", "bucketsAggregationType": {"termsAggregation": {}}"#,
        ),
    ] {
        let body = format!(r#"{{"queryString": "*"{more}}}"#);
        let target = format!("/indices/{path}");
        host.check_refused("POST", &target, &body, NOT_READY, "AWS_Things is off").await;
    }
    thing(&host, "Lamp", json!({})).await;
    let target = "/things/Lamp/connectivity-data";
    host.check_refused("POST", target, "{}", NOT_READY, "thingConnectivityIndexingMode").await;
    host.check_refused("POST", "/things/No/connectivity-data", "{}", NOT_FOUND, "No does not")
        .await;
}

#[tokio::test]
async fn a_configuration_is_replaced_part_by_part() {
    let host = indexed().await;
    let now = host.iot("GET", CONFIGURATION, "").await;
    let things = &now["thingIndexingConfiguration"];
    assert_eq!(things["thingIndexingMode"], "REGISTRY_AND_SHADOW");
    assert_eq!(
        things["filter"],
        json!({
            "namedShadowNames": ["config"],
            "connectivity": {"includeSocketInformation": ["GET_THING_CONNECTIVITY_DATA"]},
        })
    );
    assert_eq!(things["customFields"][0], json!({"name": "attributes.line", "type": "Number"}));
    let names = json!({"indexNames": ["AWS_ThingGroups", "AWS_Things"]});
    assert_eq!(host.iot("GET", "/indices", "").await, names);
    let first = host.iot("GET", "/indices?maxResults=1", "").await;
    assert_eq!(first["indexNames"], json!(["AWS_ThingGroups"]));
    let second = format!("/indices?nextToken={}", first["nextToken"].as_str().unwrap());
    assert_eq!(host.iot("GET", &second, "").await, json!({"indexNames": ["AWS_Things"]}));
    let index = host.iot("GET", "/indices/AWS_Things", "").await;
    assert_eq!(index["schema"], "MULTI_INDEXING_MODE");
    // The other index stays.
    let body = json!({"thingIndexingConfiguration": {"thingIndexingMode": "REGISTRY"}});
    host.iot("POST", CONFIGURATION, &body.to_string()).await;
    let index = host.iot("GET", "/indices/AWS_Things", "").await;
    assert_eq!(index["schema"], "REGISTRY");
    let body = json!({"thingIndexingConfiguration": {"thingIndexingMode": "OFF"}});
    host.iot("POST", CONFIGURATION, &body.to_string()).await;
    let names = json!({"indexNames": ["AWS_ThingGroups"]});
    assert_eq!(host.iot("GET", "/indices", "").await, names);
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_said() {
    let host = TestHost::new().await;
    for (configuration, says) in [
        (json!({"thingIndexingMode": "ON"}), "must be one of OFF, REGISTRY, REGISTRY_AND_SHADOW"),
        (json!({}), "thingIndexingMode"),
        (
            json!({"thingIndexingMode": "OFF", "thingConnectivityIndexingMode": "STATUS"}),
            "have to be OFF while",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY", "namedShadowIndexingMode": "ON"}),
            "filter.namedShadowNames",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY", "deviceDefenderIndexingMode": "VIOLATIONS"}),
            "no Device Defender",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY", "filter": {"geoLocations": [{"name": "a"}]}}),
            "no queries by location",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY",
                "filter": {"connectivity": {"includeSocketInformation": ["SEARCH_INDEX"]}}}),
            "there is GET_THING_CONNECTIVITY_DATA",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY", "filter": {"namedShadowNames": ["a/b"]}}),
            "shadow name has a character at byte 1",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY",
                "customFields": [{"name": "attributes.a", "type": "Text"}]}),
            "there are Number, String, Boolean",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY",
                "customFields": [{"name": "thingName", "type": "String"}]}),
            "managed field",
        ),
        (
            json!({"thingIndexingMode": "REGISTRY",
                "customFields": [{"name": "a", "type": "String"}, {"name": "a", "type": "Number"}]}),
            "a is there with two types",
        ),
    ] {
        let body = json!({"thingIndexingConfiguration": configuration}).to_string();
        host.check_refused("POST", CONFIGURATION, &body, INVALID, says).await;
    }
    let fields: Vec<_> =
        (0..6).map(|n| json!({"name": format!("f{n}"), "type": "Number"})).collect();
    let configuration = json!({"thingGroupIndexingMode": "ON", "customFields": fields});
    let body = json!({"thingGroupIndexingConfiguration": configuration}).to_string();
    host.check_refused("POST", CONFIGURATION, &body, INVALID, "at most 5 are allowed").await;
}

#[tokio::test]
async fn a_search_finds_what_the_registry_has_now() {
    let host = indexed().await;
    thing(&host, "Lamp-1", json!({"line": "3", "place": "hall"})).await;
    thing(&host, "Lamp-2", json!({"line": "4"})).await;
    finds(&host, "attributes.line:3", &["Lamp-1"]).await;
    finds(&host, "thingName:lamp*", &["Lamp-1", "Lamp-2"]).await;
    let body = r#"{"attributePayload": {"attributes": {"line": "3"}}}"#;
    host.iot("PATCH", "/things/Lamp-2", body).await;
    finds(&host, "attributes.line:3", &["Lamp-1", "Lamp-2"]).await;
    host.iot("POST", "/thing-groups/Hall", "").await;
    let body = r#"{"thingName": "Lamp-1", "thingGroupName": "Hall"}"#;
    host.iot("PUT", "/thing-groups/addThingToThingGroup", body).await;
    finds(&host, "thingGroupNames:Hall", &["Lamp-1"]).await;
    host.iot("DELETE", "/things/Lamp-1", "").await;
    finds(&host, "attributes.line:3", &["Lamp-2"]).await;
    let answer = host.iot("POST", SEARCH, r#"{"queryString": "thingName:Lamp-2"}"#).await;
    let id = host.iot("GET", "/things/Lamp-2", "").await["thingId"].clone();
    let document = json!({
        "thingName": "Lamp-2",
        "thingId": id,
        "thingGroupNames": [],
        "attributes": {"line": "3"},
        "connectivity": {"connected": false, "clientId": "Lamp-2"},
    });
    assert_eq!(answer, json!({"things": [document]}));
}

#[tokio::test]
async fn a_search_finds_shadows_and_tells_them_as_one_text() {
    let host = indexed().await;
    thing(&host, "Lamp", json!({})).await;
    let state = json!({"reported": {"temperature": 21.5, "on": true}, "desired": {"on": false}});
    report(&host, "Lamp/shadow", state).await;
    report(&host, "Lamp/shadow?name=config", json!({"reported": {"rate": 5}})).await;
    report(&host, "Lamp/shadow?name=other", json!({"reported": {"rate": 6}})).await;
    finds(&host, "shadow.reported.temperature>21 AND shadow.hasDelta:true", &["Lamp"]).await;
    finds(&host, "shadow.name.config.reported.rate:5", &["Lamp"]).await;
    finds(&host, "shadow.name.other.reported.rate:6", &[]).await;
    let answer = host.iot("POST", SEARCH, r#"{"queryString": "shadow.version:1"}"#).await;
    let shadow = answer["things"][0]["shadow"].as_str().unwrap();
    let mut shadow: Value = serde_json::from_str(shadow).unwrap();
    let at = json!({"timestamp": NOW_MS / 1_000});
    assert_eq!(shadow["metadata"]["reported"]["temperature"], at);
    shadow.as_object_mut().unwrap().remove("metadata");
    shadow["name"]["config"].as_object_mut().unwrap().remove("metadata");
    let expected = json!({
        "reported": {"temperature": 21.5, "on": true},
        "desired": {"on": false},
        "delta": {"on": false},
        "hasDelta": true,
        "version": 1,
        "name": {"config": {"reported": {"rate": 5}, "hasDelta": false, "version": 1}},
    });
    assert_eq!(shadow, expected);
    host.call("iotdata", "DELETE", "/things/Lamp/shadow", "").await;
    finds(&host, "shadow.reported.temperature:*", &[]).await;
    finds(&host, "shadow.name.config.reported.rate:5", &["Lamp"]).await;
}

#[tokio::test]
async fn a_search_finds_who_is_connected() {
    let host = indexed().await;
    thing(&host, "Lamp", json!({"line": "3"})).await;
    thing(&host, "Dark", json!({"line": "3"})).await;
    let query = "connectivity.connected:true AND attributes.line:3";
    finds(&host, query, &[]).await;
    let client = connect(&host, "Lamp").await;
    // A client that is no thing.
    let other = connect(&host, "somebody/else").await;
    finds(&host, query, &["Lamp"]).await;
    let target = "/things/Lamp/connectivity-data";
    let body = r#"{"includeSocketInformation": true}"#;
    let expected = json!({
        "thingName": "Lamp",
        "connected": true,
        "timestamp": 1_795_435_200.5,
        "sourceIp": "10.1.2.3",
        "clientId": "Lamp",
    });
    assert_eq!(host.iot("POST", target, body).await, expected);
    host.clock.advance(Duration::from_secs(60));
    disconnect(&host, client, Some(Reason::KeepAliveTimeout));
    disconnect(&host, other, None);
    finds(&host, "connectivity.disconnectReason:MQTT_KEEP_ALIVE_TIMEOUT", &["Lamp"]).await;
    finds(&host, query, &[]).await;
    finds(&host, "connectivity.connected:false", &["Dark", "Lamp"]).await;
    finds(&host, &format!("connectivity.timestamp>{NOW_MS}"), &["Lamp"]).await;
    let expected = json!({
        "thingName": "Lamp",
        "connected": false,
        "timestamp": 1_795_435_260.5,
        "disconnectReason": "MQTT_KEEP_ALIVE_TIMEOUT",
        "sourceIp": "10.1.2.3",
        "clientId": "Lamp",
    });
    assert_eq!(host.iot("POST", target, body).await, expected);
    let without = host.iot("POST", target, "{}").await;
    assert_eq!(without["sourceIp"], Value::Null);
    let never = json!({"thingName": "Dark", "connected": false, "clientId": "Dark"});
    assert_eq!(host.iot("POST", "/things/Dark/connectivity-data", "").await, never);
    // Another thing of the name later has never been connected.
    host.iot("DELETE", "/things/Lamp", "").await;
    thing(&host, "Lamp", json!({})).await;
    until(async || found(&host, "AWS_Things", "connectivity.timestamp>0").await.is_empty()).await;
    let never = json!({"thingName": "Lamp", "connected": false, "clientId": "Lamp"});
    assert_eq!(host.iot("POST", target, "{}").await, never);
}

#[tokio::test]
async fn a_thing_with_a_certificate_of_its_own_is_connected_under_any_client_id() {
    let host = indexed().await;
    thing(&host, "Lamp", json!({})).await;
    let client = connect_as(&host, "some-id", Some(&ThingName::parse("Lamp").unwrap())).await;
    finds(&host, "connectivity.connected:true", &["Lamp"]).await;
    let answer = host.iot("POST", "/things/Lamp/connectivity-data", "").await;
    assert_eq!((&answer["clientId"], &answer["connected"]), (&json!("some-id"), &json!(true)));
    // It is looked at again without being taken for lost.
    host.iot("PATCH", "/things/Lamp", r#"{"attributePayload": {"attributes": {"a": "b"}}}"#).await;
    finds(&host, "attributes.a:b AND connectivity.connected:true", &["Lamp"]).await;
    disconnect(&host, client, None);
    finds(&host, "connectivity.disconnectReason:CONNECTION_LOST", &["Lamp"]).await;
    // What no event told is found by the id that it had.
    configure(&host, "REGISTRY", "OFF").await;
    host.clock.advance(Duration::from_secs(5));
    let client = connect_as(&host, "some-id", Some(&ThingName::parse("Lamp").unwrap())).await;
    configure(&host, "REGISTRY", "STATUS").await;
    finds(&host, "connectivity.connected:true", &["Lamp"]).await;
    host.iot("PATCH", "/things/Lamp", r#"{"attributePayload": {"attributes": {"a": "c"}}}"#).await;
    finds(&host, "attributes.a:c AND connectivity.connected:true", &["Lamp"]).await;
    disconnect(&host, client, None);
}

#[tokio::test]
async fn a_thing_that_is_created_late_is_connected_already() {
    let host = indexed().await;
    let client = connect(&host, "Lamp").await;
    thing(&host, "Lamp", json!({})).await;
    finds(&host, "connectivity.connected:true", &["Lamp"]).await;
    disconnect(&host, client, Some(Reason::Success));
    finds(&host, "connectivity.disconnectReason:CLIENT_INITIATED_DISCONNECT", &["Lamp"]).await;
    // What happens while connectivity is not indexed is seen when it is again.
    configure(&host, "REGISTRY", "OFF").await;
    host.clock.advance(Duration::from_secs(5));
    let client = connect(&host, "Lamp").await;
    configure(&host, "REGISTRY", "STATUS").await;
    finds(&host, "connectivity.connected:true", &["Lamp"]).await;
    configure(&host, "REGISTRY", "OFF").await;
    disconnect(&host, client, None);
    configure(&host, "REGISTRY", "STATUS").await;
    finds(&host, "connectivity.disconnectReason:CONNECTION_LOST", &["Lamp"]).await;
}

#[tokio::test]
async fn results_come_in_pages() {
    let host = indexed().await;
    for n in 0..7 {
        thing(&host, &format!("Lamp-{n}"), json!({})).await;
    }
    finds(&host, "*", &["Lamp-0", "Lamp-1", "Lamp-2", "Lamp-3", "Lamp-4", "Lamp-5", "Lamp-6"])
        .await;
    let (mut names, mut token) = (Vec::new(), Value::Null);
    for expected in [3, 3, 1] {
        let body = json!({"queryString": "*", "maxResults": 3, "nextToken": token}).to_string();
        let page = host.iot("POST", SEARCH, &body).await;
        let things = page["things"].as_array().unwrap();
        assert_eq!(things.len(), expected);
        names.extend(things.iter().map(|it| it["thingName"].as_str().unwrap().to_owned()));
        token = page["nextToken"].clone();
    }
    assert_eq!((names.len(), &*names[6], token), (7, "Lamp-6", Value::Null));
    for (body, exception, says) in [
        (json!({"queryString": "*", "nextToken": "?"}), INVALID, "the token is not one"),
        (json!({"queryString": "*", "maxResults": 0}), INVALID, "at least 1"),
        (json!({"queryString": "*", "maxResults": -1}), INVALID, "-1"),
        (json!({"queryString": "a:(b"}), "InvalidQueryException", "not closed (at character 3)"),
        (json!({"queryString": ""}), "InvalidQueryException", "empty"),
        (json!({"queryString": 7}), INVALID, "expected a string"),
        (json!({}), INVALID, "queryString"),
        (json!({"queryString": "*", "indexName": "Mine"}), NOT_FOUND, "no index \"Mine\""),
        (json!({"queryString": "*", "queryVersion": "2"}), INVALID, "there is 2017-09-30"),
    ] {
        host.check_refused("POST", SEARCH, &body.to_string(), exception, says).await;
    }
}

#[tokio::test]
async fn groups_have_an_index_of_their_own() {
    let host = indexed().await;
    let body = r#"{"thingGroupProperties": {"thingGroupDescription": "ground floor",
        "attributePayload": {"attributes": {"floor": "0"}}}}"#;
    host.iot("POST", "/thing-groups/Site", body).await;
    host.iot("POST", "/thing-groups/Hall", r#"{"parentGroupName": "Site"}"#).await;
    let groups = "AWS_ThingGroups";
    until(async || found(&host, groups, "parentGroupNames:Site").await == ["Hall"]).await;
    until(async || found(&host, groups, "description:floor").await == ["Site"]).await;
    let body = r#"{"indexName": "AWS_ThingGroups", "queryString": "thingGroupName:Hall"}"#;
    let answer = host.iot("POST", SEARCH, body).await;
    let id = host.iot("GET", "/thing-groups/Hall", "").await["thingGroupId"].clone();
    let document = json!({
        "thingGroupName": "Hall",
        "thingGroupId": id,
        "attributes": {},
        "parentGroupNames": ["Site"],
    });
    assert_eq!(answer, json!({"thingGroups": [document]}));
    host.iot("DELETE", "/thing-groups/Hall", "").await;
    until(async || found(&host, groups, "*").await == ["Site"]).await;
}

#[tokio::test]
async fn figures_are_told_in_aws_words() {
    let host = indexed().await;
    for (name, line, temperature) in [("a", "1", 10.0), ("b", "1", 20.0), ("c", "2", 60.0)] {
        thing(&host, name, json!({"line": line})).await;
        let state = json!({"reported": {"temperature": temperature}});
        report(&host, &format!("{name}/shadow"), state).await;
    }
    finds(&host, "shadow.reported.temperature>0", &["a", "b", "c"]).await;
    let ask = async |path: &str, body: Value| {
        host.iot("POST", &format!("/indices/{path}"), &body.to_string()).await
    };
    let field = "shadow.reported.temperature";
    let body = json!({"queryString": "*", "aggregationField": field});
    let answer = ask("statistics", body.clone()).await;
    let expected = json!({
        "count": 3, "average": 30.0, "sum": 90.0, "minimum": 10.0, "maximum": 60.0,
        "sumOfSquares": 4_100.0, "variance": answer["statistics"]["variance"],
        "stdDeviation": answer["statistics"]["stdDeviation"],
    });
    assert_eq!(answer["statistics"], expected);
    let variance = answer["statistics"]["variance"].as_f64().unwrap();
    assert!((variance - 1_400.0 / 3.0).abs() < 1e-9, "{variance}");
    let text = json!({"queryString": "*", "aggregationField": "thingName"});
    assert_eq!(ask("statistics", text).await, json!({"statistics": {"count": 3}}));
    let none = ask("statistics", json!({"queryString": "thingName:a"})).await;
    assert_eq!(none["statistics"]["average"], 1.0, "the version of a thing");
    let lines = json!({"queryString": "*", "aggregationField": "attributes.line"});
    assert_eq!(ask("cardinality", lines.clone()).await, json!({"cardinality": 2}));
    let mut body = body;
    body["percents"] = json!([0, 50, 100]);
    let expected = json!({"percentiles": [
        {"percent": 0.0, "value": 10.0},
        {"percent": 50.0, "value": 20.0},
        {"percent": 100.0, "value": 60.0},
    ]});
    assert_eq!(ask("percentiles", body.clone()).await, expected);
    body["percents"] = json!([]);
    assert_eq!(ask("percentiles", body).await["percentiles"].as_array().unwrap().len(), 7);
    let mut lines = lines;
    lines["bucketsAggregationType"] = json!({"termsAggregation": {"maxBuckets": 1}});
    let expected = json!({"totalCount": 3, "buckets": [{"keyValue": "1", "count": 2}]});
    assert_eq!(ask("buckets", lines).await, expected);
}

#[tokio::test]
async fn what_cannot_be_aggregated_is_refused() {
    let host = indexed().await;
    let buckets = json!({"termsAggregation": {"maxBuckets": 10_001}});
    for (path, body, exception, says) in [
        (
            "statistics",
            json!({"queryString": "*", "aggregationField": "attributes.place"}),
            "InvalidAggregationException",
            "neither a managed field nor",
        ),
        (
            "percentiles",
            json!({"queryString": "*", "aggregationField": "thingName"}),
            "InvalidAggregationException",
            "not a field of numbers",
        ),
        (
            "percentiles",
            json!({"queryString": "*", "percents": [101]}),
            "InvalidAggregationException",
            "101",
        ),
        ("percentiles", json!({"queryString": "*", "percents": vec![1; 101]}), INVALID, "percents"),
        (
            "buckets",
            json!({"queryString": "*", "aggregationField": "thingName",
                "bucketsAggregationType": buckets}),
            INVALID,
            "1 to 10000",
        ),
        (
            "buckets",
            json!({"queryString": "*", "aggregationField": "thingName",
                "bucketsAggregationType": {}}),
            INVALID,
            "termsAggregation",
        ),
        (
            "buckets",
            json!({"queryString": "*", "bucketsAggregationType": {"termsAggregation": {}}}),
            INVALID,
            "aggregationField",
        ),
        ("cardinality", json!({"queryString": "*", "aggregationField": ""}), INVALID, "empty"),
        ("cardinality", json!({"queryString": "*x"}), "InvalidQueryException", "wildcard"),
    ] {
        let target = format!("/indices/{path}");
        host.check_refused("POST", &target, &body.to_string(), exception, says).await;
    }
}
