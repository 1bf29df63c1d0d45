//! RFC 7677's example, and whatever is to be refused.

use super::*;
use gnomon_sdk::Endpoint;
use gnomon_sdk::mock::MockHost;
use serde_json::json;

/// Of the password `pencil` with the salt of RFC 7677, 3; made as the module's documentation says.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn configured(users: &serde_json::Value) -> Result<ScramAuthorizer, String> {
    MockHost::new().set_secret("salt", &[7; 16]);
    let config = json!({ "salt_secret": "salt", "users": users });
    ScramAuthorizer::new(serde_json::from_value(config).unwrap())
}

fn plugin() -> ScramAuthorizer {
    configured(
        &json!({ "user": { "verifier": VERIFIER, "policies": [{ "Version": "2012-10-17" }] } }),
    )
    .unwrap()
}

fn verify(plugin: &ScramAuthorizer, first: &str, last: &str) -> Result<Grant, String> {
    let state = plugin.challenge(first, NONCE).unwrap().state;
    plugin.verify(last, &State::parse(&state).unwrap())
}

#[test]
fn speaks_the_example_of_the_rfc() {
    let plugin = plugin();
    let challenge = plugin.challenge(FIRST, NONCE).unwrap();
    assert_eq!(String::from_utf8(challenge.data).unwrap(), CHALLENGE);
    let grant = plugin.verify(FINAL, &State::parse(&challenge.state).unwrap()).unwrap();
    let data = String::from_utf8(grant.data).unwrap();
    assert_eq!(data, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(grant.principal_id, "user");
    assert_eq!(grant.policy_documents, [r#"{"Version":"2012-10-17"}"#]);
}

#[test]
fn goes_by_the_state_of_the_request() {
    let mut plugin = plugin();
    let request = |data: &[u8], state: Vec<u8>| ExchangeRequest {
        connection_id: "1".into(),
        peer: Endpoint { address: "192.0.2.1".into(), port: 4_000 },
        listener: "mqtts".into(),
        server_name: None,
        client_certificate: None,
        client_id: None,
        username: None,
        password: None,
        method: METHOD.into(),
        data: data.to_vec(),
        state,
        is_reauthentication: false,
    };
    let answer = plugin.exchange(&request(FIRST.as_bytes(), Vec::new())).unwrap();
    let ExchangeResponse::Challenged(challenge) = answer else { panic!("{answer:?}") };
    assert!(challenge.data.starts_with(b"r=rOprNGfwEbeRWgbNEkqO"));
    let answer = plugin.exchange(&request(FINAL.as_bytes(), challenge.state));
    assert!(answer.unwrap_err().contains("nonce"), "the example's nonce is not this one's");
}

#[test]
fn refuses_what_is_not_proved() {
    let plugin = plugin();
    let other_proof = FINAL.replace("p=dH", "p=eH");
    let cases = [
        ("proof", FIRST, other_proof.as_str()),
        ("binding", FIRST, &FINAL.replace("biws", "eSws")),
        ("header", &FIRST.replace("n,,", "y,,"), FINAL),
        ("nonce", FIRST, &FINAL.replace("k0,", "k1,")),
        ("no proof", FIRST, "c=biws"),
        ("nobody", &FIRST.replace("n=user", "n=nobody"), FINAL),
    ];
    for (what, first, last) in cases {
        assert!(verify(&plugin, first, last).is_err(), "{what}");
    }
}

#[test]
fn challenges_nobody_like_somebody() {
    let plugin = plugin();
    let first = FIRST.replace("n=user", "n=nobody");
    let challenge = plugin.challenge(&first, NONCE).unwrap().data;
    assert_eq!(challenge.len(), CHALLENGE.len());
    assert_eq!(challenge, plugin.challenge(&first, NONCE).unwrap().data);
    let other = FIRST.replace("n=user", "n=noone");
    assert_ne!(challenge, plugin.challenge(&other, NONCE).unwrap().data);
    let refused = |first: &str, last: &str| verify(&plugin, first, last).err();
    assert_eq!(refused(&first, FINAL), refused(FIRST, &FINAL.replace("p=dH", "p=eH")));
}

#[test]
fn refuses_malformed_first_messages() {
    let long = format!("{FIRST}{}", "x".repeat(1_024));
    for message in [
        "",
        "n,,",
        "p=tls-unique,,n=user,r=x",
        "n,a=other,n=user,r=x",
        "n,,m=ext,n=user,r=x",
        "n,,n=,r=x",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=us=er,r=x",
        "n,,n=user,r=\u{7f}",
        &long,
    ] {
        assert!(plugin().challenge(message, NONCE).is_err(), "{message:?}");
    }
    assert_eq!(ClientFirst::name("n=a=2Cb=3D,r=x").unwrap(), "a,b=");
}

#[test]
fn refuses_a_configuration_that_would_tell_who_exists() {
    let user = |verifier: &str| json!({ "verifier": verifier, "policies": ["{}"] });
    let other = VERIFIER.replace("4096", "8192");
    assert!(configured(&json!({ "a": user(VERIFIER), "b": user(&other) })).is_err());
    for verifier in ["pencil", &VERIFIER.replace("4096", "1"), &VERIFIER.replace("W22Z", "")] {
        assert!(configured(&json!({ "a": user(verifier) })).is_err(), "{verifier}");
    }
    assert!(configured(&json!({ "a b": user(VERIFIER) })).is_err(), "no principal");
    assert!(configured(&json!({})).is_err(), "nobody");
}
