//! Sets of keys: from a secret, and fetched.

use super::*;
use gnomon_sdk::{Error, Level, Response};
use std::cell::RefCell;
use std::rc::Rc;

const URL: &str = "https://id.example/keys";

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys, "more": 1 }).to_string()
}

fn named(kid: &str, mut jwk: Value) -> Value {
    jwk["kid"] = json!(kid);
    jwk
}

fn es256_token(kid: &str) -> String {
    token(&json!({ "alg": "ES256", "kid": kid }), &claims(), es256)
}

fn by_url(more: &Value) -> Value {
    let mut jwks = json!({ "url": URL });
    jwks.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config_with(&json!({ "keys": [], "jwks": jwks }))
}

/// A plugin with this set as a secret.
fn with_secret(document: impl AsRef<[u8]>) -> (MockHost, Result<JwtAuthorizer, String>) {
    let host = MockHost::new();
    host.set_now_ms(NOW_S * 1_000);
    host.set_secret("issuer", document.as_ref());
    let config = config_with(&json!({ "keys": [], "jwks": { "secret": "issuer" } }));
    (host, plugin(&config))
}

/// Nothing when the client is let in, else the reason.
fn present(plugin: &mut JwtAuthorizer, token: &str) -> Option<String> {
    let response = plugin.authorize(&request(None, Some(token.as_bytes()))).unwrap();
    (!response.is_authenticated).then(|| response.attributes[0].1.clone())
}

/// An issuer whose answer can be changed, and a plugin that fetches from it.
struct Issuer {
    host: MockHost,
    answer: Rc<RefCell<Result<Response, Error>>>,
    plugin: JwtAuthorizer,
}

impl Issuer {
    fn new(config: &Value) -> Self {
        let host = MockHost::new();
        host.set_now_ms(NOW_S * 1_000);
        let answer = Rc::new(RefCell::new(Err(Error::Timeout)));
        let given = answer.clone();
        host.on_request(move |_| given.borrow().clone());
        Self { host, answer, plugin: plugin(config).unwrap() }
    }

    fn publish(&self, keys: &[Value]) {
        *self.answer.borrow_mut() = Ok(Response::text(200, &set(keys)));
    }

    fn fetches(&self) -> usize {
        self.host.requests().len()
    }

    fn warnings(&self) -> Vec<String> {
        let logs = self.host.logs().into_iter();
        logs.filter(|(level, _)| *level == Level::Warn).map(|(_, text)| text).collect()
    }

    /// Presents a token so many seconds after the beginning.
    fn at(&mut self, second: u64, token: &str) -> Option<String> {
        self.host.set_now_ms((NOW_S + second) * 1_000);
        present(&mut self.plugin, token)
    }
}

#[test]
fn a_set_in_a_secret_has_keys_of_all_kinds() {
    let oct = json!({ "kty": "oct", "k": BASE64URL.encode(SECRET), "kid": "h" });
    let keys = [named("r", rsa_jwk()), named("e", ec_jwk(&EC)), oct];
    let (host, plugin) = with_secret(set(&keys));
    let mut plugin = plugin.unwrap();
    let tokens = [
        token(&json!({ "alg": "RS256", "kid": "r" }), &claims(), rs256),
        es256_token("e"),
        token(&json!({ "alg": "HS256", "kid": "h" }), &claims(), |s| hs256(SECRET, s)),
        token(&json!({ "alg": "ES256" }), &claims(), es256),
    ];
    for token in &tokens {
        assert_eq!(present(&mut plugin, token), None);
    }
    let no_key = "no configured key has the token's alg and kid";
    assert_eq!(present(&mut plugin, &es256_token("r")).as_deref(), Some(no_key));
    let confused = token(&json!({ "alg": "HS256" }), &claims(), |s| hs256(rsa_pem().as_bytes(), s));
    assert!(present(&mut plugin, &confused).unwrap().contains("signature"));
    assert_eq!((host.logs(), host.requests().len()), (vec![], 0));
}

#[test]
fn keys_for_something_else_are_passed_over_with_a_line_in_the_log() {
    let with = |mut jwk: Value, member: &str, value: Value| {
        jwk[member] = value;
        jwk
    };
    let cases = [
        (with(rsa_jwk(), "use", json!("enc")), "the JWK's use is not sig"),
        (with(rsa_jwk(), "alg", json!("PS256")), "none of RS256, ES256 and HS256"),
        (with(rsa_jwk(), "alg", json!("ES256")), "ES256 needs a JWK with kty EC"),
        (with(rsa_jwk(), "n", json!("AQAB")), "unusable RSA key"),
        (with(rsa_jwk(), "d", json!("hidden")), "private key (d)"),
        (with(ec_jwk(&EC), "crv", json!("P-384")), "crv P-256"),
        (with(ec_jwk(&EC), "y", json!("AA")), "no point of P-256"),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": "hidden" }), "none of RS256"),
        (json!({ "kty": "oct", "k": "hidden12" }), "fewer than 32 bytes"),
        (json!({ "kty": 7, "k": "hidden" }), "it is not a JWK"),
        (json!({ "k": "hidden" }), "it is not a JWK"),
        (json!("hidden"), "it is not a JWK"),
        (json!(null), "it is not a JWK"),
    ];
    let mut keys: Vec<_> = cases.iter().map(|(key, _)| key.clone()).collect();
    keys.push(named("e", ec_jwk(&EC)));
    let (host, plugin) = with_secret(set(&keys));
    assert_eq!(present(&mut plugin.unwrap(), &es256_token("e")), None);
    let logs = host.logs();
    assert_eq!(logs.len(), cases.len());
    for (index, ((level, line), (_, expected))) in logs.iter().zip(&cases).enumerate() {
        let start = format!("JWK set: keys[{index}] is passed over: ");
        assert!(line.starts_with(&start) && line.contains(expected), "{line}");
        assert!(*level == Level::Info && !line.contains("hidden"), "{line}");
    }
}

#[test]
fn a_secret_without_a_usable_key_is_refused() {
    let no_set = "jwks: that is no JWK set";
    let cases = [
        ("", no_set),
        ("null", no_set),
        ("[]", no_set),
        ("{}", no_set),
        ("{\"keys\":{}}", no_set),
        ("{\"keys\":[{}]", no_set),
        ("{\"keys\":[]}", "jwks: none of its keys can be used"),
        ("{\"keys\":[{\"kty\":\"oct\",\"k\":\"hunter2\"}]}", "jwks: none of its keys can be used"),
        (&"[".repeat(60_000), no_set),
        (&" ".repeat(65_537), "jwks: the set has 65537 bytes; at most 65536 are allowed"),
    ];
    for (document, expected) in cases {
        let error = with_secret(document).1.err().unwrap();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
    let error = plugin(&config_with(&json!({ "jwks": { "secret": "other" } }))).err().unwrap();
    assert!(error.contains("jwks: denied: secret other"), "{error}");
}

#[test]
fn any_bytes_in_place_of_a_set_are_no_panic() {
    let whole = set(&[named("r", rsa_jwk()), named("e", ec_jwk(&EC))]).into_bytes();
    for at in 0..whole.len() {
        assert!(with_secret(&whole[..at]).1.is_err());
        for byte in [0, b'"', b'{', b'-', b'A', 0xff] {
            let mut changed = whole.clone();
            changed[at] = byte;
            let _ = with_secret(changed);
        }
    }
}

#[test]
fn there_is_room_for_sixteen_keys_in_all() {
    let keys: Vec<_> = (0..17).map(|n| named(&n.to_string(), ec_jwk(&EC))).collect();
    let (host, plugin) = with_secret(set(&keys));
    let mut plugin = plugin.unwrap();
    assert_eq!(present(&mut plugin, &es256_token("15")), None);
    assert!(present(&mut plugin, &es256_token("16")).is_some());
    let left = "JWK set: there is room for 16 keys; keys[16] and later ones are left out";
    assert_eq!(host.logs(), [(Level::Warn, left.into())]);

    // Keys of the configuration count.
    host.set_secret("issuer", set(&keys[..2]).as_bytes());
    let own = |count| {
        let keys = vec![json!({ "alg": "ES256", "key": ec_jwk(&EC) }); count];
        self::plugin(&config_with(&json!({ "keys": keys, "jwks": { "secret": "issuer" } })))
    };
    assert!(own(14).is_ok());
    assert_eq!(host.logs().len(), 1);
    assert!(own(15).is_ok());
    assert_eq!(host.logs().len(), 2);
    assert_eq!(own(16).err().unwrap(), "keys leaves no room for those of jwks");
    assert!(own(17).err().unwrap().starts_with("keys must have 1 to 16 keys"));
}

#[test]
fn a_set_is_fetched_with_the_first_token_and_when_it_is_old() {
    let mut issuer = Issuer::new(&by_url(&json!({ "refresh_s": 100 })));
    assert_eq!(issuer.fetches(), 0);
    issuer.publish(&[named("a", ec_jwk(&EC))]);
    for second in [0, 1, 99] {
        assert_eq!(issuer.at(second, &es256_token("a")), None);
        assert_eq!(issuer.fetches(), 1);
    }
    let request = &issuer.host.requests()[0];
    assert_eq!((request.method.as_str(), request.url.as_str()), ("GET", URL));
    assert_eq!(request.timeout_ms, Some(3_000));
    // What the issuer withdraws is gone then.
    issuer.publish(&[named("b", ec_jwk(&EC))]);
    assert!(issuer.at(100, &es256_token("a")).is_some());
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(issuer.at(101, &es256_token("b")), None);
    issuer.publish(&[]);
    assert!(issuer.at(200, &es256_token("b")).is_some());
    assert_eq!(issuer.warnings(), ["JWK set: it has no key that can be used"]);
}

#[test]
fn an_unknown_key_is_asked_for_every_thirty_seconds() {
    let mut issuer = Issuer::new(&by_url(&json!({})));
    issuer.publish(&[named("a", ec_jwk(&EC))]);
    assert_eq!(issuer.at(0, &es256_token("a")), None);
    // Not by a token without a name, nor within thirty seconds after another attempt.
    issuer.publish(&[named("a", ec_jwk(&new_ec_key())), named("b", ec_jwk(&EC))]);
    assert!(issuer.at(29, &es256_token("b")).unwrap().contains("alg and kid"));
    assert_eq!(issuer.at(40, &token(&json!({ "alg": "ES256" }), &claims(), es256)), None);
    assert_eq!(issuer.fetches(), 1);
    assert_eq!(issuer.at(41, &es256_token("b")), None);
    assert_eq!(issuer.fetches(), 2);
    for second in [42, 50, 70] {
        assert!(issuer.at(second, &es256_token("stranger")).is_some());
    }
    assert_eq!(issuer.fetches(), 2);
    assert!(issuer.at(71, &es256_token("stranger")).is_some());
    assert_eq!(issuer.fetches(), 3);
    // What is no token at all asks for nothing.
    assert!(issuer.at(200, "x").is_some());
    assert_eq!(issuer.fetches(), 3);
}

#[test]
fn the_last_keys_stay_while_no_new_ones_come() {
    let mut issuer = Issuer::new(&by_url(&json!({ "refresh_s": 60 })));
    assert!(issuer.at(0, &es256_token("a")).unwrap().contains("no configured key"));
    assert_eq!(issuer.warnings(), ["no new keys, 0 stay: no answer in time"]);
    issuer.publish(&[named("a", ec_jwk(&EC))]);
    assert!(issuer.at(29, &es256_token("a")).is_some(), "the next attempt is later");
    assert_eq!(issuer.at(30, &es256_token("a")), None);
    let cases = [
        (Ok(Response::text(500, "{\"keys\":[]}")), "the answer has status 500"),
        (Ok(Response::text(302, "")), "the answer has status 302"),
        (Ok(Response::text(200, "<html>")), "that is no JWK set"),
        (Ok(Response::text(200, &" ".repeat(65_537))), "the set has 65537 bytes"),
        (Err(Error::Denied("add x".into())), "denied: add x"),
        (Err(Error::Unavailable("refused".into())), "unavailable: refused"),
    ];
    for (round, (answer, expected)) in (1..).zip(cases) {
        *issuer.answer.borrow_mut() = answer;
        assert_eq!(issuer.at(60 + 60 * round, &es256_token("a")), None, "{expected}");
        let warning = issuer.warnings().pop().unwrap();
        assert!(warning.starts_with("no new keys, 1 stay: "), "{warning}");
        assert!(warning.contains(expected), "{warning}");
    }
    assert_eq!(issuer.fetches(), 8);
}

#[test]
fn the_same_set_again_is_not_told_again() {
    let mut issuer = Issuer::new(&by_url(&json!({})));
    issuer.publish(&[json!({ "kty": "OKP" }), named("a", ec_jwk(&EC))]);
    for round in 0..3 {
        assert_eq!(issuer.at(round * 300, &es256_token("a")), None);
    }
    assert_eq!((issuer.fetches(), issuer.host.logs().len()), (3, 1));
}

#[test]
fn a_published_secret_is_no_key() {
    let mut issuer = Issuer::new(&by_url(&json!({})));
    issuer.publish(&[json!({ "kty": "oct", "k": BASE64URL.encode(SECRET) })]);
    assert!(issuer.at(0, &hs256_token(&claims())).unwrap().contains("no configured key"));
    let (_, line) = &issuer.host.logs()[0];
    assert!(line.contains("what is published is not secret"), "{line}");
}

#[test]
fn where_a_set_is_must_make_sense() {
    let neither = "jwks is neither { secret = \"NAME\" } nor { url";
    for (jwks, expected) in [
        (json!({ "url": "id.example/keys" }), "jwks: url must begin with https:// or http://"),
        (json!({ "url": URL, "refresh_s": 29 }), "jwks: refresh_s must be 30 to 86400"),
        (json!({ "url": URL, "refresh_s": 86_401 }), "jwks: refresh_s must be 30 to 86400"),
        (json!({ "url": URL, "secret": "a" }), neither),
        (json!({ "url": URL, "refresh": 1 }), neither),
        (json!({}), neither),
        (json!(URL), neither),
    ] {
        check_config(&json!({ "jwks": jwks }), expected);
    }
}
