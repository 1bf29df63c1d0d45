//! The authorizer as the host sees it. The hashes are made by the reference implementation in C.

use super::*;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use gnomon_sdk::mock::MockHost;
use gnomon_sdk::{Endpoint, HttpInfo, MqttInfo, Protocol};
use serde_json::{Value, json};
use std::time::Instant;

/// Of `wonderland`, at the least cost that is allowed.
const ALICE: &str = "$argon2id$v=19$m=7168,t=1,p=1$c2FsdCBvZiAxNiBieXRlcw\
                     $7M+FLr3HB8ViMp1fIt+uYy6l1G7nXzne9E9IwL8WMak";

/// Of `looking-glass`.
const BOB: &str = "$argon2id$v=19$m=7168,t=1,p=1$YW5vdGhlciBzYWx0IDE2Yg\
                   $CbEaE2Z/kUIpaMTtO+qc2uaRLeidWULiZ81UvgpD5EY";

fn file() -> String {
    format!("# users\n\nalice:{ALICE}\r\n  bob:{BOB}  \n")
}

fn policy(resource: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "iot:*", "Resource": resource }],
    })
}

/// A plugin with this file, and other members on top of its configuration.
fn plugin(file: impl AsRef<[u8]>, more: &Value) -> Result<PasswordAuthorizer, String> {
    MockHost::new().set_secret("users", file.as_ref());
    let mut config = json!({ "users": { "secret": "users" }, "policies": [policy("*")] });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    PasswordAuthorizer::new(serde_json::from_value(config).map_err(|e| e.to_string())?)
}

fn request(mqtt: Option<(&str, &[u8])>, authorization: Option<&str>) -> AuthRequest {
    AuthRequest {
        connection_id: "1".into(),
        peer: Endpoint { address: "192.0.2.1".into(), port: 40_000 },
        listener: "mqtt".into(),
        token: None,
        signature_verified: false,
        protocols: vec![Protocol::Tls],
        tls: None,
        http: authorization.map(|value| HttpInfo {
            method: "POST".into(),
            path: "/topics/a".into(),
            query_string: String::new(),
            headers: vec![("host".into(), "a".into()), ("authorization".into(), value.into())],
        }),
        mqtt: mqtt.map(|(username, password)| MqttInfo {
            client_id: Some("client".into()),
            username: Some(username.into()),
            password: Some(password.into()),
        }),
        attributes: Vec::new(),
    }
}

/// The principal, or the reason of the refusal.
fn ask(plugin: &mut PasswordAuthorizer, request: &AuthRequest) -> Result<String, String> {
    let response = plugin.authorize(request).unwrap();
    if response.is_authenticated {
        return Ok(response.principal_id);
    }
    assert_eq!(response.policy_documents, [""; 0]);
    let [(name, reason)] = &response.attributes[..] else { panic!("no reason") };
    assert_eq!(name, "reason");
    Err(reason.clone())
}

const UNKNOWN: &str = "no such user, or another password";

#[test]
fn a_user_with_its_own_password_is_let_in() {
    let mut plugin = plugin(file(), &json!({})).unwrap();
    let mut log_in = |user: &str, password: &str| {
        ask(&mut plugin, &request(Some((user, password.as_bytes())), None))
    };
    assert_eq!(log_in("alice", "wonderland").as_deref(), Ok("alice"));
    assert_eq!(log_in("bob", "looking-glass").as_deref(), Ok("bob"));
    let query = "alice?x-amz-customauthorizer-name=a&SDK=Python";
    assert_eq!(log_in(query, "wonderland").as_deref(), Ok("alice"));
    for (user, password) in [
        ("alice", "looking-glass"),
        ("alice", "wonderlan"),
        ("alice", "wonderland\0"),
        ("alice", ""),
        ("bob", "wonderland"),
        // Who does not exist is checked against the first user's hash.
        ("carol", "wonderland"),
        ("carol", "x"),
        ("Alice", "wonderland"),
        ("alice ", "wonderland"),
        ("", "wonderland"),
        ("?alice", "wonderland"),
        ("# users", "wonderland"),
        ("alice:", "wonderland"),
    ] {
        assert_eq!(log_in(user, password).unwrap_err(), UNKNOWN, "{user} {password}");
    }
}

#[test]
fn hashes_of_another_cost_and_length_are_taken() {
    let hash = "$argon2id$v=19$m=8192,t=2,p=2$OCBieXRlcyE$Sq50c3dB/RkzMgq1k9G+Zg";
    let mut plugin = plugin(format!("u:{hash}"), &json!({})).unwrap();
    let mut log_in =
        |password: &str| ask(&mut plugin, &request(Some(("u", password.as_bytes())), None));
    assert_eq!(log_in("pässword\0x").as_deref(), Ok("u"));
    assert_eq!(log_in("pässword").unwrap_err(), UNKNOWN);

    let hash = "$argon2id$v=19$m=9216,t=4,p=1$c2FsdCBvZiAxNiBieXRlcw\
                $cUbES65K7NKZcBhuznP24NeXGHDOiy3af4v3jU5AERQ";
    assert!(hash.contains(&format!("${}$", verifier::RECOMMENDED)));
    let mut plugin = self::plugin(format!("u:{hash}"), &json!({})).unwrap();
    assert!(ask(&mut plugin, &request(Some(("u", b"wonderland")), None)).is_ok());
}

#[test]
fn http_basic_authentication_counts_where_connect_has_no_password() {
    let mut plugin = plugin(file(), &json!({})).unwrap();
    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    let good = basic("alice:wonderland");
    let unpadded = format!("bAsIc {}", BASE64_STANDARD_NO_PAD.encode("alice:wonderland"));
    let query = basic("alice?SDK=x:wonderland");
    for header in [&good, &unpadded, &query] {
        assert_eq!(ask(&mut plugin, &request(None, Some(header))).as_deref(), Ok("alice"));
    }
    let mut upgrade = request(Some(("ignored", b"")), Some(&good));
    upgrade.mqtt.as_mut().unwrap().password = None;
    assert!(ask(&mut plugin, &upgrade).is_ok());
    upgrade.mqtt.as_mut().unwrap().username = None;
    assert!(ask(&mut plugin, &upgrade).is_ok());
    let both = request(Some(("alice", b"wrong")), Some(&good));
    assert_eq!(ask(&mut plugin, &both).unwrap_err(), UNKNOWN, "CONNECT goes first");

    for text in ["alice:wrong", "alice:wonderland:", ":wonderland", "alice:"] {
        let request = request(None, Some(&basic(text)));
        assert_eq!(ask(&mut plugin, &request).unwrap_err(), UNKNOWN, "{text}");
    }
    let no_utf8 = format!("Basic {}", BASE64_STANDARD.encode(b"\xff:a"));
    let bearer = good.replace("Basic", "Bearer");
    for header in ["", "Basic", "Basic ", "Basic !", "Basic YWxpY2U=", &no_utf8, &bearer] {
        let reason = ask(&mut plugin, &request(None, Some(header))).unwrap_err();
        assert!(reason.starts_with("no password: "), "{header}: {reason}");
    }
    assert!(ask(&mut plugin, &request(None, None)).unwrap_err().starts_with("no password: "));
}

#[test]
fn a_long_password_is_refused_before_it_is_hashed() {
    let mut plugin = plugin(file(), &json!({})).unwrap();
    let mut log_in = |len| ask(&mut plugin, &request(Some(("alice", &vec![b'a'; len])), None));
    assert_eq!(log_in(1_024).unwrap_err(), UNKNOWN);
    let reason = log_in(1_025).unwrap_err();
    assert_eq!(reason, "the password has 1025 bytes; at most 1024 are allowed");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "real time is what this is about")]
fn an_unknown_user_costs_as_much_time_as_a_wrong_password() {
    let mut plugin = plugin(file(), &json!({})).unwrap();
    let mut time = |user: &str| {
        let start = Instant::now();
        ask(&mut plugin, &request(Some((user, b"wrong")), None)).unwrap_err();
        start.elapsed()
    };
    // In turns, and the best of several: whatever else the machine does only adds. Without
    // hashing it would be a thousandth.
    let times: Vec<_> = (0..10).map(|_| (time("bob"), time("nobody"))).collect();
    let known = times.iter().map(|(known, _)| known).min().unwrap();
    let unknown = times.iter().map(|(_, unknown)| unknown).min().unwrap();
    assert!(*unknown * 4 > *known, "{known:?} and {unknown:?}");
}

#[test]
fn the_user_fills_the_policies_and_can_be_principal_and_thing() {
    let file = format!("lamp_1:{ALICE}");
    let arn = "arn:aws:iot:us-east-1:123456789012:topic/";
    let more = json!({
        "principal": "sha256",
        "user_is_thing": true,
        "policies": [policy(&format!("{arn}${{user}}/${{iot:ClientId}}")), policy("*").to_string()],
    });
    let mut plugin = plugin(&file, &more).unwrap();
    let response = plugin.authorize(&request(Some(("lamp_1", b"wonderland")), None)).unwrap();
    let expected = policy(&format!("{arn}lamp_1/${{iot:ClientId}}"));
    assert_eq!(response.policy_documents, [expected.to_string(), policy("*").to_string()]);
    assert_eq!(response.attributes, [("thing-name".into(), "lamp_1".into())]);
    // `printf lamp_1 | sha256sum`
    let sha256 = "1711ac5b85e8e04613bc53e6a4aa1652f8957a8fc2de4eda2286e18a341d3b32";
    assert_eq!(response.principal_id, sha256.to_uppercase());
    assert_eq!((response.disconnect_after_seconds, response.refresh_after_seconds), (0, 0));
}

#[test]
fn a_mistake_in_the_file_is_told_by_its_line() {
    let line = |hash: &str| format!("# users\nalice:{ALICE}\n\nbob:{hash}\n");
    let cost = |cost: &str| line(&ALICE.replace("m=7168,t=1,p=1", cost));
    let name = |name: &str| format!("\n{name}:{ALICE}");
    let shape = "behind the user name there must be $argon2id$v=19$m=…,t=…,p=…$salt$hash";
    let characters = "line 2: a user name has 1 to 128 of";
    let (head, _) = ALICE.rsplit_once('$').unwrap();
    let cases = [
        (String::new(), "users: the file has no users"),
        ("# a\n\n \r\n#b".into(), "users: the file has no users"),
        (line("hunter2"), &format!("users: line 4: {shape}")),
        (line(""), shape),
        (line(&ALICE.replace("argon2id", "argon2i")), shape),
        (line(&ALICE.replace("v=19", "v=16")), shape),
        (line(&ALICE.replace("$v=19", "")), shape),
        (line(&format!("{ALICE}$")), shape),
        (line(&ALICE[1..]), shape),
        (line("$2y$10$abcdefghijklmnopqrstuv"), shape),
        (cost("t=1,m=7168,p=1"), shape),
        (cost("m=7168,t=1"), shape),
        (cost("m=7168,t=1,p=1,keyid=x"), shape),
        (cost("m=7167,t=1,p=1"), "line 4: m= must be 7168 to 65536; m=9216,t=4,p=1 is recommended"),
        (cost("m=65537,t=1,p=1"), "m= must be"),
        (cost("m=4294967295,t=1,p=1"), "m= must be"),
        (cost("m=99999999999999999999,t=1,p=1"), "m= must be"),
        (cost("m=-7168,t=1,p=1"), "m= must be"),
        (cost("m=+7168,t=1,p=1"), "m= must be"),
        (cost("m=,t=1,p=1"), "m= must be"),
        (cost("m=7168,t=0,p=1"), "t= must be 1 to 16"),
        (cost("m=7168,t=17,p=1"), "t= must be 1 to 16"),
        (cost("m=7168,t=1,p=0"), "p= must be 1 to 4"),
        (cost("m=7168,t=1,p=5"), "p= must be 1 to 4"),
        (cost("m=65536,t=3,p=1"), "m times t may be 131072 at most"),
        (
            cost("m=7168,t=2,p=1"),
            "line 4: the cost is m=7168,t=2,p=1, in line 2 m=7168,t=1,p=1; all users must have \
             the same",
        ),
        (
            line(&ALICE.replace("c2FsdCBvZiAxNiBieXRlcw", "c2FsdA")),
            "line 4: the salt is not 8 to 64",
        ),
        (
            line(&ALICE.replace("c2FsdCBvZiAxNiBieXRlcw", "c2FsdCB*ZiAxNiBieXRlcw")),
            "the salt is not",
        ),
        (line(&format!("{head}$")), "line 4: the hash is not 16 to 64 bytes"),
        (line(&format!("{ALICE}=")), "the hash is not 16 to 64 bytes"),
        (line(&format!("{head}${}", "A".repeat(90))), "the hash is not 16 to 64 bytes"),
        (format!("alice:{ALICE}\nalice:{BOB}"), "line 2: the user is there twice"),
        (format!("a\n{ALICE}"), "line 1: there is no colon"),
        (name(""), characters),
        (name("a b"), characters),
        (name("ü"), characters),
        (name("a*"), characters),
        (name("${iot"), characters),
        (name(&"a".repeat(129)), characters),
        (name("a-b"), "line 2: the user name is no principal"),
    ];
    for (file, expected) in cases {
        check_file(&file, &json!({}), expected);
    }
    check_file(&name("a.b"), &json!({ "principal": "sha256", "user_is_thing": true }), "no thing");
    let many: String = (0..=5_000).map(|n| format!("u{n}:{ALICE}\n")).collect();
    check_file(&many, &json!({}), "line 5001: more than 5000 users");
}

#[track_caller]
fn check_file(file: &str, more: &Value, expected: &str) {
    let error = plugin(file, more).err().unwrap_or_else(|| panic!("{file} was taken"));
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    for secret in ["hunter2", "c2FsdC", "7M+FLr3", "abcdefgh"] {
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    let whole = file().into_bytes();
    // Each prefix, and the file with each byte replaced by ones that mean something.
    for end in 0..whole.len() {
        let _ = plugin(&whole[..end], &json!({}));
        for byte in [0, b'$', b':', b'\n', b',', b'=', b'9', 0xff] {
            let mut changed = whole.clone();
            changed[end] = byte;
            let _ = plugin(&changed, &json!({}));
        }
    }
    for hostile in [
        &b"\xff"[..],
        b"\0",
        b":",
        b"::",
        b"$$$$$",
        b"a:$$$$$$",
        b"\n\n\xc3\x28:",
        b"\xef\xbb\xbfa:",
    ] {
        assert!(plugin(hostile, &json!({})).is_err());
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (more, expected) in [
        (json!({ "users": { "secret": "other" } }), "users: denied: secret other"),
        (json!({ "users": "alice" }), "invalid type"),
        (json!({ "users": { "file": "users" } }), "unknown field `file`"),
        (json!({ "principal": "sub" }), "unknown variant `sub`"),
        (json!({ "password": "x" }), "unknown field `password`"),
        (json!({ "policies": [] }), "policies must have 1 to 10 documents"),
        (json!({ "policies": [policy("topic/${claim:sub}")] }), "neither ${user} nor one of"),
    ] {
        let error = plugin(file(), &more).err().unwrap();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}
