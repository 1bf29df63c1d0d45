use crate::test_host::TestHost;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const KEEPER: &str = "arn:aws:lambda:us-east-1:123456789012:function:keeper";
const INVALID: &str = "InvalidRequestException";
const MISSING: &str = "ResourceNotFoundException";

/// Signs tokens.
struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn pem(&self) -> String {
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(self.0.public_key()).unwrap();
        let base64 = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let lines = lines.join("\n");
        format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n")
    }

    fn sign(&self, token: &str) -> String {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = SystemRandom::new();
        self.0.sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature).unwrap();
        STANDARD.encode(signature)
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:iot:us-east-1:123456789012:authorizer/{name}")
}

fn named(name: &str) -> Value {
    json!({"authorizerName": name, "authorizerArn": arn(name)})
}

async fn create(host: &TestHost, name: &str, status: &str) {
    let body = json!({"authorizerFunctionArn": KEEPER, "signingDisabled": true, "status": status});
    let made = host.iot("POST", &format!("/authorizer/{name}"), &body.to_string()).await;
    assert_eq!(made, named(name));
}

#[tokio::test]
async fn an_authorizer_lives_from_create_to_delete() {
    let host = TestHost::new().await;
    let pem = Signer::new().pem();
    let body = json!({
        "authorizerFunctionArn": KEEPER,
        "tokenKeyName": "token",
        "tokenSigningPublicKeys": {"first": pem},
        "tags": [{"Key": "k", "Value": "v"}],
    })
    .to_string();
    let made = host.iot("POST", "/authorizer/a=b,c@d", &body).await;
    assert_eq!(made, named("a=b,c@d"));
    let exists = "ResourceAlreadyExistsException";
    host.check_refused("POST", "/authorizer/a=b,c@d", &body, exists, "exists").await;
    let mut expected = json!({"authorizerDescription": {
        "authorizerName": "a=b,c@d",
        "authorizerArn": arn("a=b,c@d"),
        "authorizerFunctionArn": KEEPER,
        "tokenKeyName": "token",
        "tokenSigningPublicKeys": {"first": pem},
        "status": "ACTIVE",
        "creationDate": 1_795_435_200.5,
        "lastModifiedDate": 1_795_435_200.5,
        "signingDisabled": false,
        "enableCachingForHttp": false,
    }});
    // The path is the same with a slash behind it.
    assert_eq!(host.iot("GET", "/authorizer/a=b,c@d/", "").await, expected);
    let tags = format!("/tags?resourceArn={}", arn("a=b,c@d").replace(',', "%2C"));
    assert_eq!(host.iot("GET", &tags, "").await, json!({"tags": [{"Key": "k", "Value": "v"}]}));

    host.clock.advance(std::time::Duration::from_secs(1));
    let update = r#"{"status": "INACTIVE", "enableCachingForHttp": true, "tokenKeyName": "t"}"#;
    let updated = host.iot("PUT", "/authorizer/a=b,c@d", update).await;
    assert_eq!(updated, named("a=b,c@d"));
    let description = &mut expected["authorizerDescription"];
    description["status"] = "INACTIVE".into();
    description["enableCachingForHttp"] = true.into();
    description["tokenKeyName"] = "t".into();
    description["lastModifiedDate"] = 1_795_435_201.5.into();
    assert_eq!(host.iot("GET", "/authorizer/a=b,c@d", "").await, expected);
    assert_eq!(host.iot("DELETE", "/authorizer/a=b,c@d", "").await, json!({}));
    host.check_refused("GET", "/authorizer/a=b,c@d", "", MISSING, "a=b,c@d").await;
    host.check_refused("DELETE", "/authorizer/a=b,c@d", "", MISSING, "a=b,c@d").await;
    create(&host, "a=b,c@d", "ACTIVE").await;
    assert_eq!(host.iot("GET", &tags, "").await, json!({"tags": []}));
}

#[tokio::test]
async fn a_list_has_pages_an_order_and_a_status() {
    let host = TestHost::new().await;
    for (name, status) in [("a", "ACTIVE"), ("b", "INACTIVE"), ("c", "ACTIVE")] {
        create(&host, name, status).await;
    }
    let all = json!({"authorizers": [named("a"), named("b"), named("c")]});
    assert_eq!(host.iot("GET", "/authorizers/", "").await, all);
    let active = host.iot("GET", "/authorizers?status=ACTIVE", "").await;
    assert_eq!(active, json!({"authorizers": [named("a"), named("c")]}));
    let first = host.iot("GET", "/authorizers/?pageSize=2&isAscendingOrder=false", "").await;
    assert_eq!(first["authorizers"], json!([named("c"), named("b")]));
    let marker = first["nextMarker"].as_str().unwrap();
    let rest = format!("/authorizers/?marker={marker}&isAscendingOrder=false");
    let rest = host.iot("GET", &rest, "").await;
    assert_eq!(rest, json!({"authorizers": [named("a")]}));
}

#[tokio::test]
async fn one_is_the_default() {
    let host = TestHost::new().await;
    create(&host, "a", "ACTIVE").await;
    create(&host, "b", "ACTIVE").await;
    let path = "/default-authorizer";
    for method in ["GET", "DELETE"] {
        host.check_refused(method, path, "", MISSING, "no default authorizer").await;
    }
    let set = host.iot("POST", path, r#"{"authorizerName": "a"}"#).await;
    assert_eq!(set, named("a"));
    let described = host.iot("GET", path, "").await;
    assert_eq!(described, host.iot("GET", "/authorizer/a", "").await);
    for name in ["a", "b"] {
        let body = json!({"authorizerName": name}).to_string();
        let exists = "ResourceAlreadyExistsException";
        host.check_refused("POST", path, &body, exists, "a is the default").await;
    }
    host.iot("PUT", "/authorizer/a", r#"{"status": "INACTIVE"}"#).await;
    let conflict = "DeleteConflictException";
    host.check_refused("DELETE", "/authorizer/a", "", conflict, "is the default").await;
    host.check_refused("DELETE", "/authorizer/b", "", conflict, "is ACTIVE").await;
    assert_eq!(host.iot("DELETE", path, "").await, json!({}));
    host.iot("DELETE", "/authorizer/a", "").await;
}

#[tokio::test]
async fn what_is_no_authorizer_is_said() {
    let host = TestHost::new().await;
    create(&host, "unsigned", "ACTIVE").await;
    let signer = Signer::new().pem();
    let with = |members: Value| {
        let mut body = json!({"authorizerFunctionArn": KEEPER, "signingDisabled": true});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body.to_string()
    };
    let keys = |keys: Value| with(json!({"tokenSigningPublicKeys": keys}));
    let (a, create) = ("/authorizer/a", "POST");
    let long = format!("/authorizer/{}", "n".repeat(129));
    let default = "/default-authorizer";
    for (method, target, body, exception, says) in [
        (create, "/authorizer/a%20b", with(json!({})), INVALID, "authorizer name has a character"),
        (create, "/authorizer/a.b", with(json!({})), INVALID, "must match [\\w=,@-]+"),
        (create, &long, with(json!({})), INVALID, "at most 128"),
        (create, a, "{}".into(), INVALID, "give authorizerFunctionArn"),
        (create, a, "[]".into(), INVALID, "expected an object"),
        (create, a, with(json!({"authorizerFunctionArn": 1})), INVALID, "authorizerFunctionArn: "),
        (create, a, with(json!({"authorizerFunctionArn": "keeper"})), INVALID, "must read arn:aws"),
        (create, a, with(json!({"authorizerFunctionArn": arn("a")})), INVALID, "must read arn:aws"),
        (create, a, with(json!({"status": "active"})), INVALID, "ACTIVE or INACTIVE"),
        (create, a, with(json!({"tokenKeyName": "a b"})), INVALID, "token key name"),
        (create, a, with(json!({"tokenKeyName": ""})), INVALID, "token key name is empty"),
        (create, a, with(json!({"signingDisabled": "yes"})), INVALID, "signingDisabled: "),
        (create, a, with(json!({"enableCachingForHttp": 1})), INVALID, "enableCachingForHttp: "),
        (create, a, with(json!({"signingDisabled": false})), INVALID, "needs tokenKeyName"),
        (
            create,
            a,
            with(json!({"signingDisabled": false, "tokenKeyName": "t"})),
            INVALID,
            "needs tokenSigningPublicKeys",
        ),
        (create, a, keys(json!({"k": "x"})), INVALID, "key \"k\" is no PEM block"),
        (create, a, keys(json!({"a b": signer})), INVALID, "must have an id"),
        (create, a, keys(json!({"k": 1})), INVALID, "tokenSigningPublicKeys.k: "),
        (create, a, keys(json!([])), INVALID, "tokenSigningPublicKeys: "),
        (create, a, with(json!({"tags": [{"Key": "<"}]})), INVALID, "its key"),
        ("PUT", "/authorizer/none", "{}".into(), MISSING, "none does not exist"),
        (
            "PUT",
            "/authorizer/unsigned",
            r#"{"status": "ON"}"#.into(),
            INVALID,
            "ACTIVE or INACTIVE",
        ),
        ("GET", "/authorizers?status=x", String::new(), INVALID, "ACTIVE or INACTIVE"),
        ("GET", "/authorizers?pageSize=0", String::new(), INVALID, "at least 1"),
        ("GET", "/authorizers?marker=*", String::new(), INVALID, "token"),
        ("GET", "/authorizers?isAscendingOrder=1", String::new(), INVALID, "isAscendingOrder"),
        (create, default, "{}".into(), INVALID, "authorizerName"),
        (create, default, r#"{"authorizerName": "a b"}"#.into(), INVALID, "authorizer name"),
        (create, default, r#"{"authorizerName": "none"}"#.into(), MISSING, "none does not exist"),
    ] {
        host.check_refused(method, target, &body, exception, says).await;
    }
    host.check_refused("GET", a, "", MISSING, "a does not exist").await;
    // What cannot change is no member of this operation, and those are ignored.
    host.iot("PUT", "/authorizer/unsigned", r#"{"signingDisabled": false}"#).await;
    let described = host.iot("GET", "/authorizer/unsigned", "").await;
    assert_eq!(described["authorizerDescription"]["signingDisabled"], true);
}

#[tokio::test]
async fn a_test_shows_what_an_authorizer_answers() {
    let host = TestHost::new().await;
    let (signer, other) = (Signer::new(), Signer::new());
    let signed = json!({"authorizerFunctionArn": KEEPER, "tokenKeyName": "token",
        "tokenSigningPublicKeys": {"k": signer.pem()}, "status": "INACTIVE"});
    host.iot("POST", "/authorizer/signed", &signed.to_string()).await;
    create(&host, "open", "ACTIVE").await;
    let body = |token: &str, signer: &Signer| {
        json!({"token": token, "tokenSignature": signer.sign(token)}).to_string()
    };
    let path = "/authorizer/signed/test";
    let answer = host.iot("POST", path, &body("allow", &signer)).await;
    let documents = answer["policyDocuments"].as_array().unwrap();
    assert!(documents[0].as_str().unwrap().contains("topic/kept"), "{answer}");
    assert_eq!(
        answer,
        json!({"isAuthenticated": true, "principalId": "ada", "policyDocuments": documents,
            "refreshAfterInSeconds": 300, "disconnectAfterInSeconds": 3_600})
    );
    let refused = host.iot("POST", path, &body("refuse", &signer)).await;
    assert_eq!(refused["isAuthenticated"], false);
    let signature = signer.sign("allow");
    let query = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let contexts = json!({
        "httpContext": {
            "headers": {"token": "allow"},
            "queryString": format!("?x-amz-customauthorizer-signature={query}"),
        },
        "tlsContext": {"serverName": "iot.example"},
    });
    let answer = host.iot("POST", path, &contexts.to_string()).await;
    assert_eq!(answer["isAuthenticated"], true);
    let password = json!({"mqttContext": {"username": "u", "password": STANDARD.encode("right"),
        "clientId": "Lamp"}});
    let answer = host.iot("POST", "/authorizer/open/test", &password.to_string()).await;
    assert_eq!(answer["principalId"], "ada");

    let response = "InvalidResponseException";
    for (target, body, exception, says) in [
        ("/authorizer/none/test", "{}".to_owned(), MISSING, "none does not exist"),
        ("/authorizer/open/test", "{}".to_owned(), response, "open failed: no order"),
        (path, body("none", &signer), response, "signed failed: no order"),
        (path, body("principal", &signer), response, "principalId"),
        (path, body("allow", &other), INVALID, "by none of its keys"),
        (path, r#"{"token": "allow"}"#.into(), INVALID, "has no signature"),
        (path, "{}".into(), INVALID, "there is no token"),
        (path, r#"{"token": "allow", "tokenSignature": "*"}"#.into(), INVALID, "not base64"),
        (path, json!({"token": "t".repeat(6_145)}).to_string(), INVALID, "more than 6144"),
        (path, r#"{"mqttContext": {"password": "*"}}"#.into(), INVALID, "mqttContext.password"),
        (path, r#"{"mqttContext": {"clientId": ""}}"#.into(), INVALID, "client id is empty"),
        (path, r#"{"httpContext": {"headers": {"a b": "c"}}}"#.into(), INVALID, "httpContext"),
        (path, r#"{"httpContext": {"queryString": "a b"}}"#.into(), INVALID, "httpContext"),
        (path, r#"{"httpContext": {"headers": []}}"#.into(), INVALID, "headers"),
    ] {
        host.check_refused("POST", target, &body, exception, says).await;
    }
    let lost = json!({"authorizerFunctionArn": KEEPER.replace("keeper", "lost"),
        "signingDisabled": true});
    host.iot("POST", "/authorizer/lost", &lost.to_string()).await;
    host.check_refused("POST", "/authorizer/lost/test", "{}", INVALID, "asks plugin lost").await;
}

#[tokio::test]
async fn a_device_with_a_token_publishes_over_https() {
    let host = TestHost::new().await;
    let signer = Signer::new();
    let signed = json!({"authorizerFunctionArn": KEEPER, "tokenKeyName": "token",
        "tokenSigningPublicKeys": {"k": signer.pem()}, "enableCachingForHttp": true});
    host.iot("POST", "/authorizer/signed", &signed.to_string()).await;
    let publish = async |topic: &str, token: &str, signature: &str| {
        let mut request = TestHost::request("POST", &format!("/topics/{topic}"), "payload");
        for (name, value) in [
            ("x-amz-customauthorizer-name", "signed"),
            ("x-amz-customauthorizer-signature", signature),
            ("token", token),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let response = host.send(request).await;
        TestHost::error_type(&response).map(ToOwned::to_owned)
    };
    let forbidden = Some("ForbiddenException".to_owned());
    let good = signer.sign("allow");
    for _ in 0..2 {
        assert_eq!(publish("kept", "allow", &good).await, None);
    }
    assert_eq!(publish("other", "allow", &good).await, forbidden);
    assert_eq!(publish("kept", "refuse", &signer.sign("refuse")).await, forbidden);
    assert_eq!(publish("kept", "allow", &Signer::new().sign("allow")).await, forbidden);
    host.iot("PUT", "/authorizer/signed", r#"{"status": "INACTIVE"}"#).await;
    assert_eq!(publish("kept", "allow", &good).await, forbidden);
    let unsigned = host.send(TestHost::request("POST", "/topics/kept", "")).await;
    assert_eq!(TestHost::error_type(&unsigned), Some("MissingAuthenticationTokenException"));
}
