//! The authorizer as the host sees it. Keys are made and tokens signed by AWS-LC, which is not
//! what verifies them.

mod jwks;

use super::*;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL};
use gnomon_sdk::mock::MockHost;
use gnomon_sdk::{Endpoint, HttpInfo, MqttInfo, Protocol};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The time in all tests, in seconds since the epoch.
const NOW_S: u64 = 1_800_000_000;

/// Made once: a key takes time.
static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static EC: LazyLock<EcdsaKeyPair> = LazyLock::new(new_ec_key);
const SECRET: &[u8] = b"a secret only for these tests, 32+";

fn new_ec_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn rs256(signed: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; RSA.public_modulus_len()];
    RSA.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).unwrap();
    signature
}

fn es256(signed: &[u8]) -> Vec<u8> {
    EC.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()
}

fn hs256(secret: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    aws_lc_rs::hmac::sign(&key, signed).as_ref().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn rsa_pem() -> String {
    pem("PUBLIC KEY", RSA.public_key().as_der().unwrap().as_ref())
}

fn ec_pem() -> String {
    pem("PUBLIC KEY", EC.public_key().as_der().unwrap().as_ref())
}

fn ec_jwk(key: &EcdsaKeyPair) -> Value {
    let point = key.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|number| BASE64URL.encode(number));
    json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "x5t": "ignored" })
}

fn rsa_jwk() -> Value {
    let key = rsa::PublicKey::from_pkcs1_der(RSA.public_key().as_ref()).unwrap();
    let [n, e] = [key.n_bytes(), key.e_bytes()].map(|number| BASE64URL.encode(number));
    json!({ "kty": "RSA", "n": n, "e": e, "alg": "RS256" })
}

/// A token; `sign` gets header and payload as they are signed.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = BASE64URL.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn claims() -> Value {
    json!({ "sub": "dev42", "exp": NOW_S + 3_600 })
}

/// Claims with others on top.
fn claims_with(more: &Value) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

fn hs256_token(claims: &Value) -> String {
    token(&json!({ "alg": "HS256" }), claims, |signed| hs256(SECRET, signed))
}

fn policy(resource: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "iot:*", "Resource": resource }],
    })
}

/// A configuration with an HS256 key, and other members on top.
fn config_with(more: &Value) -> Value {
    let mut config = json!({
        "keys": [{ "alg": "HS256", "key": BASE64_STANDARD.encode(SECRET) }],
        "policies": [policy("*")],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn plugin(config: &Value) -> Result<JwtAuthorizer, String> {
    JwtAuthorizer::new(serde_json::from_value(config.clone()).map_err(|e| e.to_string())?)
}

fn request(username: Option<&str>, password: Option<&[u8]>) -> AuthRequest {
    AuthRequest {
        connection_id: "1".into(),
        peer: Endpoint { address: "192.0.2.1".into(), port: 40_000 },
        listener: "mqtt".into(),
        token: None,
        signature_verified: false,
        protocols: vec![Protocol::Tls, Protocol::Mqtt],
        tls: None,
        http: None,
        mqtt: Some(MqttInfo {
            client_id: Some("dev42".into()),
            username: username.map(Into::into),
            password: password.map(Into::into),
        }),
        attributes: Vec::new(),
    }
}

/// The answer to a token in the password; a refusal as its reason.
fn ask(config: &Value, token: &str) -> Result<AuthResponse, String> {
    answer(config, &request(None, Some(token.as_bytes())))
}

fn answer(config: &Value, request: &AuthRequest) -> Result<AuthResponse, String> {
    MockHost::new().set_now_ms(NOW_S * 1_000);
    let response = plugin(config).unwrap().authorize(request).unwrap();
    if response.is_authenticated {
        assert!(!response.attributes.iter().any(|(name, _)| name == "reason"));
        return Ok(response);
    }
    assert_eq!(response.principal_id, "");
    assert_eq!(response.policy_documents, [""; 0]);
    let [(name, reason)] = &response.attributes[..] else { panic!("no reason") };
    assert_eq!(name, "reason");
    Err(reason.clone())
}

#[track_caller]
fn check_refused(config: &Value, token: &str, expected: &str) {
    let reason = ask(config, token).map(|r| r.principal_id).unwrap_err();
    assert!(reason.contains(expected), "{reason:?} does not say {expected:?}");
    for part in token.split('.').filter(|part| part.len() > 3) {
        assert!(!reason.contains(part), "{reason:?} has a part of the token");
    }
}

#[test]
fn a_token_of_every_kind_of_key_is_taken() {
    let (rs, es, hs) = ("RS256", "ES256", "HS256");
    let secret = BASE64_STANDARD.encode(SECRET);
    let oct = json!({ "kty": "oct", "k": BASE64URL.encode(SECRET) });
    let keys = [
        (rs, json!(rsa_pem())),
        (rs, rsa_jwk()),
        (es, json!(ec_pem())),
        (es, ec_jwk(&EC)),
        (hs, json!(secret)),
        (hs, json!(secret.trim_end_matches('='))),
        (hs, oct),
    ];
    for (alg, key) in keys {
        let config = config_with(&json!({ "keys": [{ "kid": "k", "alg": alg, "key": key }] }));
        for header in [json!({ "alg": alg }), json!({ "alg": alg, "typ": "JWT", "kid": "k" })] {
            let token = token(&header, &claims(), |signed| match alg {
                "RS256" => rs256(signed),
                "ES256" => es256(signed),
                _ => hs256(SECRET, signed),
            });
            let response = ask(&config, &token).unwrap();
            assert_eq!(response.principal_id, "dev42", "{key}");
            assert_eq!(response.disconnect_after_seconds, 3_660);
            assert_eq!(response.refresh_after_seconds, 0);
            assert_eq!(response.attributes, []);
            assert_eq!(response.policy_documents, [policy("*").to_string()]);
        }
    }
}

#[test]
fn a_pkcs1_public_key_is_an_rsa_key() {
    let key = json!(pem("RSA PUBLIC KEY", RSA.public_key().as_ref()));
    let config = config_with(&json!({ "keys": [{ "alg": "RS256", "key": key }] }));
    let token = token(&json!({ "alg": "RS256" }), &claims(), rs256);
    assert!(ask(&config, &token).is_ok());
}

#[test]
fn a_granted_secret_serves_as_key() {
    let host = MockHost::new();
    host.set_secret("jwt", format!("{}\n", BASE64URL.encode(SECRET)).as_bytes());
    host.set_now_ms(NOW_S * 1_000);
    let keys = json!([{ "alg": "HS256", "key": { "secret": "jwt" } }]);
    let mut plugin = plugin(&config_with(&json!({ "keys": keys }))).unwrap();
    let token = hs256_token(&claims());
    assert!(plugin.authorize(&request(None, Some(token.as_bytes()))).unwrap().is_authenticated);
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let rsa = config_with(&json!({ "keys": [{ "kid": "r", "alg": "RS256", "key": rsa_pem() }] }));
    let ec = config_with(&json!({ "keys": [{ "alg": "ES256", "key": ec_pem() }] }));
    let hs = config_with(&json!({}));
    let no_key = "no configured key has the token's alg and kid";
    let no_alg = "the token's alg is none of";
    let wrong = "the token's signature is not that of a configured key";
    let attacker = new_ec_key();
    let by_attacker =
        |signed: &[u8]| attacker.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec();
    // The classic confusion: the public key, in each of its forms, as the secret of an HMAC.
    let rsa_der = RSA.public_key().as_der().unwrap().as_ref().to_vec();
    for public in [rsa_pem().into_bytes(), rsa_pem().trim().into(), rsa_der] {
        for header in [json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": "r" })] {
            check_refused(&rsa, &token(&header, &claims(), |s| hs256(&public, s)), no_key);
        }
    }
    for config in [&rsa, &ec, &hs] {
        for alg in ["none", "None", "NONE", "nOnE", "", "hs256", "HS384", "RS512", "PS256", "EdDSA"]
        {
            let header = json!({ "alg": alg });
            check_refused(config, &token(&header, &claims(), |_| Vec::new()), no_alg);
            check_refused(config, &token(&header, &claims(), |s| hs256(SECRET, s)), no_alg);
        }
    }
    check_refused(&ec, &token(&json!({ "alg": "RS256" }), &claims(), rs256), no_key);
    check_refused(&rsa, &token(&json!({ "alg": "ES256" }), &claims(), es256), no_key);
    check_refused(&ec, &token(&json!({ "alg": "ES256" }), &claims(), rs256), wrong);
    // Keys that a token brings along do not count.
    let brought = json!({ "alg": "ES256", "jwk": ec_jwk(&attacker), "jku": "https://a.example/" });
    check_refused(&ec, &token(&brought, &claims(), by_attacker), wrong);
    let critical = json!({ "alg": "ES256", "crit": ["b64"], "b64": false });
    check_refused(&ec, &token(&critical, &claims(), es256), "crit");
    let twice = BASE64URL.encode(r#"{"alg":"none","alg":"HS256"}"#);
    let signed = format!("{twice}.{}", BASE64URL.encode(claims().to_string()));
    let signature = BASE64URL.encode(hs256(SECRET, signed.as_bytes()));
    check_refused(&hs, &format!("{signed}.{signature}"), "not JSON with an alg");
}

#[test]
fn kid_selects_the_key() {
    let other = new_ec_key();
    let config = config_with(&json!({ "keys": [
        { "kid": "other", "alg": "ES256", "key": ec_jwk(&other) },
        { "kid": "mine", "alg": "ES256", "key": ec_jwk(&EC) },
        { "kid": "hmac", "alg": "HS256", "key": BASE64_STANDARD.encode(SECRET) },
    ] }));
    let mine = |header| token(&header, &claims(), es256);
    assert!(ask(&config, &mine(json!({ "alg": "ES256", "kid": "mine" }))).is_ok());
    // Without kid every key of the algorithm is tried.
    assert!(ask(&config, &mine(json!({ "alg": "ES256" }))).is_ok());
    check_refused(&config, &mine(json!({ "alg": "ES256", "kid": "other" })), "signature");
    check_refused(&config, &mine(json!({ "alg": "ES256", "kid": "unknown" })), "alg and kid");
    check_refused(&config, &mine(json!({ "alg": "ES256", "kid": "hmac" })), "alg and kid");
    check_refused(&config, &mine(json!({ "alg": "ES256", "kid": 7 })), "not JSON with an alg");
    // A key without a kid is tried for every token of its algorithm.
    let config = config_with(&json!({ "keys": [{ "alg": "ES256", "key": ec_jwk(&EC) }] }));
    assert!(ask(&config, &mine(json!({ "alg": "ES256", "kid": "any" }))).is_ok());
}

#[test]
fn a_changed_token_is_refused() {
    let wrong = "the token's signature is not that of a configured key";
    let config = config_with(&json!({ "keys": [
        { "alg": "HS256", "key": BASE64_STANDARD.encode(SECRET) },
        { "alg": "RS256", "key": rsa_pem() },
        { "alg": "ES256", "key": ec_pem() },
    ] }));
    let tokens = [
        hs256_token(&claims()),
        token(&json!({ "alg": "RS256" }), &claims(), rs256),
        token(&json!({ "alg": "ES256" }), &claims(), es256),
    ];
    for token in &tokens {
        assert!(ask(&config, token).is_ok());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let other = BASE64URL.encode(claims_with(&json!({ "sub": "admin" })).to_string());
        check_refused(&config, &format!("{header}.{other}.{signature}"), wrong);
        check_refused(&config, &format!("{signed}."), wrong);
        let bytes = BASE64URL.decode(signature).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            check_refused(&config, &format!("{signed}.{}", BASE64URL.encode(changed)), wrong);
        }
        let shorter = BASE64URL.encode(&bytes[..bytes.len() - 1]);
        check_refused(&config, &format!("{signed}.{shorter}"), wrong);
        let zeros = BASE64URL.encode(vec![0; bytes.len()]);
        check_refused(&config, &format!("{signed}.{zeros}"), wrong);
    }
    let foreign = token(&json!({ "alg": "HS256" }), &claims(), |s| hs256(b"another secret", s));
    check_refused(&config, &foreign, wrong);
}

#[test]
fn garbage_is_refused() {
    let config = config_with(&json!({}));
    let header = BASE64URL.encode(r#"{"alg":"HS256"}"#);
    let cases = [
        ("x", "three parts"),
        ("..", "not JSON with an alg"),
        ("a.b", "three parts"),
        ("a.b.c.d.e", "three parts"),
        ("!!!!.e30.e30", "base64url"),
        ("e30.e30.e30", "not JSON with an alg"),
        ("eyJh.e30.e30", "not JSON with an alg"),
        ("Bearer e30.e30.e30", "base64url"),
    ];
    for (token, expected) in cases {
        let reason = ask(&config, token).unwrap_err();
        assert!(reason.contains(expected), "{token}: {reason}");
    }
    check_refused(&config, &format!("{header}=.e30.e30"), "base64url");
    check_refused(&config, &format!("{header}.e30=.e30"), "base64url");
    check_refused(&config, &format!("{header}.e30.e31"), "base64url");
    for payload in ["", "{", "[]", "\"text\"", "{\"sub\":", "\u{0}"] {
        let signed = format!("{header}.{}", BASE64URL.encode(payload));
        let signature = BASE64URL.encode(hs256(SECRET, signed.as_bytes()));
        let reason = ask(&config, &format!("{signed}.{signature}")).unwrap_err();
        assert!(reason.contains("payload is not a JSON object"), "{payload}: {reason}");
    }
    let reason = answer(&config, &request(None, Some(b"\xff\xfe"))).unwrap_err();
    assert!(reason.contains("not text"), "{reason}");
}

#[test]
fn a_huge_token_is_refused_before_it_is_read() {
    let config = config_with(&json!({}));
    let large = |len: usize| hs256_token(&claims_with(&json!({ "x": "a".repeat(len) })));
    assert!(ask(&config, &large(5_900)).is_ok());
    check_refused(&config, &large(6_200), "at most 8192 are allowed");
    let reason = ask(&config, &".".repeat(1_000_000)).unwrap_err();
    assert_eq!(reason, "the token has 1000000 bytes; at most 8192 are allowed");
}

#[test]
fn the_time_must_be_right() {
    let cases: [(Value, Result<u32, &str>); 14] = [
        (json!({}), Ok(3_660)),
        (json!({ "exp": NOW_S }), Ok(60)),
        (json!({ "exp": NOW_S - 59 }), Ok(1)),
        (json!({ "exp": NOW_S as f64 - 59.5 }), Ok(1)),
        (json!({ "exp": NOW_S - 60 }), Err("the token expired 60 s ago")),
        (json!({ "exp": 0 }), Err("the token expired 1800000000 s ago")),
        (json!({ "exp": -1e300 }), Err("the token expired 18446744073709551615 s ago")),
        (json!({ "exp": 1e300 }), Ok(u32::MAX)),
        (json!({ "exp": "soon" }), Err("claim exp is not a number of seconds")),
        (json!({ "exp": null }), Err("claim exp is not a number of seconds")),
        (json!({ "nbf": NOW_S + 60 }), Ok(3_660)),
        (json!({ "nbf": NOW_S + 61 }), Err("not valid before 61 s from now")),
        (json!({ "nbf": "x" }), Err("claim nbf is not a number of seconds")),
        (json!({ "iat": NOW_S + 9_999 }), Ok(3_660)),
    ];
    for (more, expected) in cases {
        let got = ask(&config_with(&json!({})), &hs256_token(&claims_with(&more)));
        match (got, expected) {
            (Ok(response), Ok(seconds)) => {
                assert_eq!(response.disconnect_after_seconds, seconds, "{more}");
            }
            (Err(reason), Err(text)) => assert!(reason.contains(text), "{more}: {reason}"),
            (got, _) => panic!("{more}: {got:?}"),
        }
    }
}

#[test]
fn a_token_without_expiry_needs_the_operators_consent() {
    let token = hs256_token(&json!({ "sub": "dev42" }));
    check_refused(&config_with(&json!({})), &token, "no claim exp");
    let response = ask(&config_with(&json!({ "require_exp": false })), &token).unwrap();
    assert_eq!(response.disconnect_after_seconds, 0);
    // What is there counts all the same.
    let expired = hs256_token(&json!({ "sub": "dev42", "exp": 1 }));
    check_refused(&config_with(&json!({ "require_exp": false })), &expired, "expired");
}

#[test]
fn issuer_and_audience_must_be_the_configured_ones() {
    let (issuer, audience) = ("the token is from another issuer", "for another audience");
    let rules = json!({ "issuer": "https://id.example", "audiences": ["mqtt", "iot"] });
    let good = json!({ "iss": "https://id.example", "aud": "mqtt" });
    let cases = [
        (json!({}), None),
        (json!({ "aud": ["web", "iot"] }), None),
        (json!({ "iss": "https://id.example/" }), Some(issuer)),
        (json!({ "iss": "" }), Some(issuer)),
        (json!({ "iss": ["https://id.example"] }), Some("claim iss is not text")),
        (json!({ "aud": "web" }), Some(audience)),
        (json!({ "aud": "MQTT" }), Some(audience)),
        (json!({ "aud": [] }), Some(audience)),
        (json!({ "aud": [["mqtt"]] }), Some(audience)),
        (json!({ "aud": null }), Some(audience)),
        (json!({ "aud": { "mqtt": 1 } }), Some(audience)),
    ];
    for (more, expected) in cases {
        let mut claims = claims_with(&good);
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match (ask(&config_with(&rules), &hs256_token(&claims)), expected) {
            (Ok(_), None) => {}
            (Err(reason), Some(text)) => assert!(reason.contains(text), "{more}: {reason}"),
            (got, _) => panic!("{more}: {got:?}"),
        }
    }
    check_refused(&config_with(&rules), &hs256_token(&claims()), "no claim iss");
    let config = config_with(&json!({ "audiences": ["mqtt"] }));
    check_refused(&config, &hs256_token(&claims()), "no claim aud");
    // RFC 7519, 4.1.3: who does not know its audience is not meant.
    check_refused(&config_with(&json!({})), &hs256_token(&claims_with(&good)), audience);
}

#[test]
fn the_subject_becomes_the_principal() {
    let long = "a".repeat(129);
    for sub in ["", "a-b", "auth0|1", "ü", "a b", "a\n", &long] {
        let token = hs256_token(&claims_with(&json!({ "sub": sub })));
        let reason = ask(&config_with(&json!({})), &token).unwrap_err();
        assert!(reason.contains("principal = \"sha256\" takes any sub"), "{sub}: {reason}");
        let config = config_with(&json!({ "principal": "sha256" }));
        let principal = ask(&config, &token).unwrap().principal_id;
        let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sub.as_bytes());
        let hex: String = expected.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(principal, hex);
    }
    let longest = "Z9".repeat(64);
    let token = hs256_token(&claims_with(&json!({ "sub": longest })));
    assert_eq!(ask(&config_with(&json!({})), &token).unwrap().principal_id, longest);
    let config = config_with(&json!({}));
    check_refused(&config, &hs256_token(&json!({ "exp": NOW_S + 9 })), "no claim sub");
    check_refused(&config, &hs256_token(&claims_with(&json!({ "sub": 7 }))), "sub is not text");
}

#[test]
fn a_claim_can_name_the_thing() {
    let config = config_with(&json!({ "thing_name_claim": "device" }));
    let ask =
        |device: Value| ask(&config, &hs256_token(&claims_with(&json!({ "device": device }))));
    let attributes = ask(json!("Lamp:1_a-b")).unwrap().attributes;
    assert_eq!(attributes, [("thing-name".into(), "Lamp:1_a-b".into())]);
    for name in [json!(""), json!("a/b"), json!("a b"), json!("a.b"), json!("x".repeat(129))] {
        assert!(ask(name).unwrap_err().contains("claim device is no thing name"));
    }
    assert!(ask(json!(1)).unwrap_err().contains("claim device is not text"));
    check_refused(&config, &hs256_token(&claims()), "no claim device");
}

#[test]
fn the_token_is_found_where_clients_put_it() {
    let config = config_with(&json!({}));
    let good = hs256_token(&claims());
    let query = format!("user?SDK=Python&token={good}&Platform=Unix");
    let found = [
        request(None, Some(good.as_bytes())),
        request(Some("user"), Some(good.as_bytes())),
        request(Some(&query), None),
        // In this order: the host's field, the query, the password.
        request(Some(&query), Some(b"other")),
        AuthRequest { token: Some(good.clone()), ..request(Some("u?token=x"), Some(b"other")) },
        AuthRequest {
            token: Some(good.clone()),
            mqtt: None,
            http: Some(HttpInfo {
                method: "POST".into(),
                path: "/topics/a".into(),
                query_string: String::new(),
                headers: Vec::new(),
            }),
            ..request(None, None)
        },
    ];
    for request in &found {
        assert_eq!(answer(&config, request).map(|r| r.principal_id), Ok("dev42".into()));
    }
    let named = config_with(&json!({ "token_field": "jwt" }));
    assert!(answer(&named, &request(Some(&format!("?jwt={good}")), None)).is_ok());
    let missing = [
        request(None, None),
        request(None, Some(b"")),
        request(Some("user"), None),
        request(Some(&format!("token={good}")), None),
        request(Some(&format!("user?Token={good}")), None),
        AuthRequest { mqtt: None, ..request(None, None) },
    ];
    for request in &missing {
        assert!(answer(&config, request).unwrap_err().starts_with("no token"), "{request:?}");
    }
}

#[test]
fn claims_fill_the_policies_and_the_hosts_variables_stay() {
    let arn = "arn:aws:iot:us-east-1:123456789012";
    let document = json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["iot:Publish", "iot:Receive"],
                "Resource": [
                    format!("{arn}:topic/${{claim:tenant}}/${{iot:ClientId}}/${{*}}/*"),
                    format!("{arn}:topic/a/${{claim:https://id.example/site}}${{claim:n}}"),
                ],
            },
            {
                "Effect": "Deny",
                "Action": "iot:Connect",
                "NotResource": format!("{arn}:client/${{claim:sub}}"),
                "Condition": {
                    "StringEquals": { "iot:Connection.Thing.ThingTypeName": "${claim:tenant}" },
                },
            },
        ],
    });
    // As JSON text it is the same.
    let config = config_with(&json!({ "policies": [document, document.to_string()] }));
    let more = json!({ "tenant": "acme@a.example", "https://id.example/site": "north", "n": -7 });
    let response = ask(&config, &hs256_token(&claims_with(&more))).unwrap();
    let [first, second] = &response.policy_documents[..] else { panic!("not two documents") };
    assert_eq!(first, second);
    let filled: Value = serde_json::from_str(first).unwrap();
    let resources = &filled["Statement"][0]["Resource"];
    let expected = format!("{arn}:topic/acme@a.example/${{iot:ClientId}}/${{*}}/*");
    assert_eq!(resources[0], expected.as_str());
    assert_eq!(resources[1], format!("{arn}:topic/a/north-7").as_str());
    let statement = &filled["Statement"][1];
    assert_eq!(statement["NotResource"], format!("{arn}:client/dev42").as_str());
    let condition = &statement["Condition"]["StringEquals"];
    assert_eq!(condition["iot:Connection.Thing.ThingTypeName"], "acme@a.example");
}

#[test]
fn a_claim_cannot_widen_a_policy() {
    let template = policy("arn:aws:iot:us-east-1:123456789012:topic/${claim:tenant}/*");
    let config = config_with(&json!({ "policies": [template] }));
    let long = "a".repeat(129);
    let values = [
        "*",
        "a*",
        "?",
        "$",
        "${iot:ClientId}",
        "${*}",
        "{",
        "}",
        "+",
        "#",
        "a/b",
        "a/../b",
        "",
        "a\"",
        "a\",\"Resource\":\"*",
        "a'",
        "a\\",
        "a\\u002a",
        "\n",
        "\u{0}",
        "a b",
        "a,b",
        "ü",
        "\u{ff0a}",
        "%2A",
        "a;b",
        "<a>",
        "${claim:sub}",
        &long,
    ];
    for value in values {
        let token = hs256_token(&claims_with(&json!({ "tenant": value })));
        let reason = ask(&config, &token).unwrap_err();
        let expected = "the value of ${claim:tenant} cannot be part of a policy: 1 to 128 of \
                        [a-zA-Z0-9:_.@|=~-]";
        assert_eq!(reason, expected, "{value:?}");
    }
    let others =
        [json!(null), json!(true), json!(["a"]), json!({ "a": "b" }), json!(1.5), json!(1e99)];
    for value in others {
        let token = hs256_token(&claims_with(&json!({ "tenant": value })));
        check_refused(&config, &token, "claim tenant is not text or a whole number");
    }
    check_refused(&config, &hs256_token(&claims()), "no claim tenant");
}

#[test]
fn a_filled_policy_keeps_to_the_limit() {
    // 128 + 16 x 118 characters and the rest of the document: just above, and just below.
    let fixed = format!("topic/{}/${{claim:a}}", "x".repeat(1_850));
    let config = config_with(&json!({ "policies": [policy(&fixed)] }));
    let token = |len: usize| hs256_token(&claims_with(&json!({ "a": "y".repeat(len) })));
    assert!(ask(&config, &token(100)).is_ok());
    check_refused(&config, &token(128), "at most 2048 may be");
}

#[test]
fn a_template_that_could_surprise_is_refused() {
    let statement = |more: Value| json!({ "Version": "2012-10-17", "Statement": [more] });
    let cases = [
        (json!("{"), "policies[0]: not JSON"),
        (json!([]), "an object with Version and Statement"),
        (json!({ "Version": "2012-10-17" }), "an object with Version and Statement"),
        (policy("topic/${claims:a}"), "neither ${claim:NAME} nor one of"),
        (policy("topic/${claim:}"), "neither ${claim:NAME} nor one of"),
        (policy("topic/${sub}"), "neither ${claim:NAME} nor one of"),
        (policy("topic/${iot:${claim:a}}"), "neither ${claim:NAME} nor one of"),
        (policy("topic/${claim:${iot:ClientId}}"), "neither ${claim:NAME} nor one of"),
        (policy("topic/${claim:a"), "without its"),
        (policy("${claim:a}"), "behind the resource's type only"),
        (policy("arn:aws:iot:${claim:region}:1:topic/a"), "behind the resource's type only"),
        (policy("arn:aws:iot:r:1:${claim:type}/a"), "behind the resource's type only"),
        (statement(json!({ "Action": "${claim:a}" })), "in Resource, NotResource and Condition"),
        (statement(json!({ "Effect": "${claim:a}" })), "in Resource, NotResource and Condition"),
        (statement(json!({ "${claim:a}": "x" })), "names of elements have no variables"),
        (
            statement(json!({ "Condition": { "StringEquals": { "${claim:a}": "x" } } })),
            "names of elements have no variables",
        ),
    ];
    for (document, expected) in cases {
        check_config(&json!({ "policies": [document] }), expected);
    }
}

#[test]
fn an_unsafe_configuration_is_refused() {
    let unusable = "unusable RSA key, 2048 to 4096 bits are allowed";
    let weak = json!({ "kty": "RSA", "n": BASE64URL.encode([0xff; 128]), "e": "AQAB" });
    let mut private = ec_jwk(&EC);
    private["d"] = json!("AA");
    let mut off_curve = ec_jwk(&EC);
    off_curve["y"] = off_curve["x"].clone();
    let mut for_encryption = ec_jwk(&EC);
    for_encryption["use"] = json!("enc");
    let private_pem = pem("PRIVATE KEY", b"x");
    let secret = BASE64_STANDARD.encode(SECRET);
    let key = |alg: &str, key: Value| json!({ "keys": [{ "alg": alg, "key": key }] });
    let hs = |kid: &str| json!({ "kid": kid, "alg": "HS256", "key": secret });
    let cases = [
        (json!({ "keys": [] }), "keys must have 1 to 16 keys"),
        (json!({ "keys": vec![hs("a"); 17] }), "keys must have 1 to 16 keys"),
        (json!({ "keys": [hs("a"), hs("a")] }), "keys[1]: another key has the same kid"),
        (key("none", json!("x")), "unknown variant `none`"),
        (key("HS384", json!("x")), "unknown variant `HS384`"),
        (key("HS256", json!("c2hvcnQ=")), "fewer than 32 bytes"),
        (key("HS256", json!("***")), "keys[0]: the secret is not base64"),
        (key("HS256", json!(rsa_pem())), "a public key is not secret"),
        (key("HS256", rsa_jwk()), "the JWK's own alg is not HS256"),
        (key("HS256", ec_jwk(&EC)), "HS256 needs a JWK with kty oct"),
        (key("HS256", json!({ "secret": "x" })), "denied: secret x"),
        (key("RS256", json!({ "secret": "x" })), "RS256 needs a public key"),
        (key("RS256", json!(ec_pem())), "no public key for RS256 in PEM"),
        (key("RS256", json!("x")), "no public key for RS256 in PEM"),
        (key("RS256", weak), unusable),
        (key("RS256", json!({ "kty": "RSA", "e": "AQAB" })), "the JWK has no n"),
        (key("RS256", json!({ "kty": "RSA", "n": "", "e": "" })), unusable),
        (
            key("RS256", json!({ "kty": "RSA", "n": BASE64URL.encode([0xfe; 256]), "e": "AQAB" })),
            unusable,
        ),
        (key("ES256", json!(rsa_pem())), "no public key for ES256 in PEM"),
        (key("ES256", json!(private_pem)), "that is a private key"),
        (key("ES256", private), "the JWK has a private key (d)"),
        (key("ES256", off_curve), "no point of P-256"),
        (key("ES256", for_encryption), "the JWK's use is not sig"),
        (key("ES256", json!({ "kty": "EC", "crv": "P-384" })), "crv P-256"),
        (key("ES256", json!(7)), "key is neither text"),
        (json!({ "policies": [] }), "policies must have 1 to 10 documents"),
        (json!({ "policies": vec![policy("*"); 11] }), "policies must have 1 to 10 documents"),
        (json!({ "leeway_s": 601 }), "leeway_s must be at most 600"),
        (json!({ "principal": "email" }), "unknown variant `email`"),
        (json!({ "audience": "x" }), "unknown field `audience`"),
    ];
    for (more, expected) in cases {
        check_config(&more, expected);
    }
}

#[track_caller]
fn check_config(more: &Value, expected: &str) {
    MockHost::new();
    let error = plugin(&config_with(more)).err().unwrap_or_else(|| panic!("{more} was taken"));
    assert!(error.contains(expected), "{more}: {error}");
    let secret = BASE64_STANDARD.encode(SECRET);
    assert!(!error.contains(&secret), "{error}");
}
