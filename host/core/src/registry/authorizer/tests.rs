//! Authorizers from their creation to their end, and what is refused.

use super::*;
use crate::registry::tests::{check_refused, registry, registry_on};
use crate::storage::{Fault, FaultyStore, MemoryStore};
use std::time::Duration;

const TOKEN_KEYS: [&str; 2] = [
    include_str!("../../../tests/data/token-key-1.pem"),
    include_str!("../../../tests/data/token-key-2.pem"),
];

fn name(name: &str) -> AuthorizerName {
    AuthorizerName::parse(name).unwrap()
}

fn keys(pems: &[&str]) -> Result<TokenKeys, RegistryError> {
    let pairs = pems.iter().enumerate().map(|(n, pem)| (format!("k{n}"), (*pem).to_owned()));
    TokenKeys::parse(pairs)
}

/// Asks the plugin `keeper`, tokens are signed.
fn settings() -> AuthorizerSettings {
    AuthorizerSettings {
        function: AuthorizerFunction::parse("arn:aws:lambda:us-east-1:1:function:keeper").unwrap(),
        token_key_name: Some(TokenKeyName::parse("token").unwrap()),
        token_keys: keys(&TOKEN_KEYS).unwrap(),
        signing_disabled: false,
        status: AuthorizerStatus::Active,
        caches_http: false,
    }
}

fn inactive() -> AuthorizerUpdate {
    AuthorizerUpdate { status: Some(AuthorizerStatus::Inactive), ..Default::default() }
}

#[tokio::test]
async fn an_authorizer_is_created_changed_and_deleted() {
    let (registry, clock) = registry_on(Arc::new(MemoryStore::default()));
    let own = name("a=b,c@d_e-F1");
    let made = registry.create_authorizer(&own, settings()).await.unwrap();
    assert_eq!(registry.describe_authorizer(&own).await.unwrap(), made);
    assert_eq!(made.settings.function.plugin().as_str(), "keeper");
    assert_eq!(made.created_at, made.modified_at);
    let again = registry.create_authorizer(&own, settings()).await;
    check_refused(again, "ResourceAlreadyExists", "exists");

    clock.advance(Duration::from_secs(60));
    let update = AuthorizerUpdate {
        function: Some(AuthorizerFunction::parse("arn:aws:lambda:r:1:function:other:7").unwrap()),
        token_key_name: Some(TokenKeyName::parse("other").unwrap()),
        token_keys: Some(keys(&TOKEN_KEYS[1..]).unwrap()),
        caches_http: Some(true),
        ..inactive()
    };
    let changed = registry.update_authorizer(&own, update).await.unwrap();
    let AuthorizerSettings { function, token_key_name, token_keys, .. } = &changed.settings;
    assert_eq!(function.plugin().as_str(), "other");
    assert_eq!(token_key_name.as_ref().unwrap().as_str(), "other");
    assert_eq!(token_keys.iter().collect::<Vec<_>>(), [("k0", TOKEN_KEYS[1])]);
    assert!(changed.settings.caches_http && !changed.settings.signing_disabled);
    assert_eq!(changed.created_at, made.created_at);
    assert_eq!(changed.modified_at.as_millis(), made.modified_at.as_millis() + 60_000);
    let (revision, known) = registry.known_authorizer(&own).await.unwrap().unwrap();
    assert_eq!(*known, changed);

    // Nothing new: nothing is written.
    clock.advance(Duration::from_secs(60));
    let same = registry.update_authorizer(&own, inactive()).await.unwrap();
    assert_eq!(same, changed);
    assert_eq!(registry.known_authorizer(&own).await.unwrap().unwrap().0, revision);
    registry.delete_authorizer(&own).await.unwrap();
    assert!(registry.known_authorizer(&own).await.unwrap().is_none());
    let gone = registry.delete_authorizer(&own).await;
    check_refused(gone, "ResourceNotFound", "does not exist");
    let gone = registry.update_authorizer(&own, inactive()).await;
    check_refused(gone, "ResourceNotFound", "does not exist");
}

#[tokio::test]
async fn who_is_active_or_the_default_stays() {
    let registry = registry();
    let (first, second) = (name("first"), name("second"));
    for name in [&first, &second] {
        registry.create_authorizer(name, settings()).await.unwrap();
    }
    let active = registry.delete_authorizer(&first).await;
    check_refused(active, "DeleteConflict", "is ACTIVE");
    let none = registry.describe_default_authorizer().await;
    check_refused(none, "ResourceNotFound", "no default authorizer");
    let none = registry.clear_default_authorizer().await;
    check_refused(none, "ResourceNotFound", "no default authorizer");
    let none = registry.set_default_authorizer(&name("none")).await;
    check_refused(none, "ResourceNotFound", "none does not exist");

    registry.set_default_authorizer(&first).await.unwrap();
    assert_eq!(registry.describe_default_authorizer().await.unwrap().name, first);
    for name in [&first, &second] {
        let set = registry.set_default_authorizer(name).await;
        check_refused(set, "ResourceAlreadyExists", "first is the default");
    }
    // In an emergency it must be possible at once: it then refuses everybody.
    registry.update_authorizer(&first, inactive()).await.unwrap();
    let default = registry.delete_authorizer(&first).await;
    check_refused(default, "DeleteConflict", "is the default");
    registry.clear_default_authorizer().await.unwrap();
    registry.delete_authorizer(&first).await.unwrap();
    registry.set_default_authorizer(&second).await.unwrap();
}

#[tokio::test]
async fn a_list_has_an_order_a_status_and_pages() {
    let registry = registry();
    for letter in ["a", "b", "c", "d"] {
        let mut settings = settings();
        if letter == "b" {
            settings.status = AuthorizerStatus::Inactive;
        }
        registry.create_authorizer(&name(letter), settings).await.unwrap();
    }
    let list = async |status, is_ascending, after, limit| {
        let page = PageRequest { limit, after };
        let page = registry.list_authorizers(status, is_ascending, page).await.unwrap();
        let names: String = page.items.iter().map(|it| it.name.as_str()).collect();
        (names, page.next)
    };
    let active = Some(AuthorizerStatus::Active);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(list(None, true, None, 250).await, ("abcd".to_owned(), None));
    assert_eq!(list(None, false, None, 250).await, ("dcba".to_owned(), None));
    assert_eq!(list(active, true, None, 2).await, ("ac".to_owned(), some("c")));
    assert_eq!(list(active, true, Some("c"), 2).await, ("d".to_owned(), None));
    assert_eq!(list(active, false, None, 2).await, ("dc".to_owned(), some("c")));
    assert_eq!(list(active, false, Some("c"), 2).await, ("a".to_owned(), None));
    let inactive = Some(AuthorizerStatus::Inactive);
    assert_eq!(list(inactive, false, None, 1).await, ("b".to_owned(), None));
    assert!(registry.is_authorizers_plugin("keeper").await.unwrap());
    assert!(!registry.is_authorizers_plugin("a").await.unwrap());
}

#[tokio::test]
async fn there_is_room_for_so_many() {
    let registry = registry();
    let idle = AuthorizerSettings { status: AuthorizerStatus::Inactive, ..settings() };
    for n in 0..100 {
        let settings = if n < 32 { settings() } else { idle.clone() };
        registry.create_authorizer(&name(&format!("n{n}")), settings).await.unwrap();
    }
    let full = registry.create_authorizer(&name("more"), idle).await;
    check_refused(full, "LimitExceeded", "100 authorizers");
    let activate =
        || AuthorizerUpdate { status: Some(AuthorizerStatus::Active), ..Default::default() };
    let full = registry.update_authorizer(&name("n40"), activate()).await;
    check_refused(full, "LimitExceeded", "32 authorizers are ACTIVE");
    registry.update_authorizer(&name("n3"), activate()).await.unwrap();
    registry.update_authorizer(&name("n3"), inactive()).await.unwrap();
    registry.update_authorizer(&name("n40"), activate()).await.unwrap();
}

#[tokio::test]
async fn what_is_signed_needs_a_token_and_keys() {
    let registry = registry();
    let own = name("own");
    let no_name = AuthorizerSettings { token_key_name: None, ..settings() };
    let no_name = registry.create_authorizer(&own, no_name).await;
    check_refused(no_name, "InvalidRequest", "needs tokenKeyName");
    let no_keys = AuthorizerSettings { token_keys: TokenKeys::default(), ..settings() };
    let no_keys = registry.create_authorizer(&own, no_keys).await;
    check_refused(no_keys, "InvalidRequest", "needs tokenSigningPublicKeys");
    registry.create_authorizer(&own, settings()).await.unwrap();
    let empty = AuthorizerUpdate { token_keys: Some(TokenKeys::default()), ..Default::default() };
    let refused = registry.update_authorizer(&own, empty.clone()).await;
    check_refused(refused, "InvalidRequest", "needs tokenSigningPublicKeys");
    let unsigned = AuthorizerSettings {
        token_key_name: None,
        token_keys: TokenKeys::default(),
        signing_disabled: true,
        ..settings()
    };
    registry.create_authorizer(&name("unsigned"), unsigned).await.unwrap();
    registry.update_authorizer(&name("unsigned"), empty).await.unwrap();
}

#[test]
fn a_key_that_is_none_is_refused_with_its_id() {
    assert_eq!(keys(&TOKEN_KEYS).unwrap().public_keys().count(), 2);
    let short = include_str!("../../../tests/data/token-key-short.pem");
    let curve = include_str!("../../../tests/data/token-key-ec.pem");
    let certificate = include_str!("../../../tests/data/device-1.pem");
    let cut = TOKEN_KEYS[0].replace("MIIBIjANBgkq", "MIIBIjAN");
    let empty = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n";
    let long = format!("{}{}", TOKEN_KEYS[0], " ".repeat(5_120));
    for (pem, says) in [
        ("", "key \"k0\" is no PEM block"),
        ("-----BEGIN PUBLIC KEY-----", "is no PEM block"),
        (certificate, "is no PEM block"),
        (empty, "does not hold a public key"),
        (&cut, "key \"k0\""),
        (short, "has 1024 bits; 2048 to 8192 are allowed"),
        (curve, "is no RSA key"),
        (&long, "more than 5120 bytes"),
    ] {
        check_refused(keys(&[pem]), "InvalidRequest", says);
    }
    for id in ["", "a b", "ä", &"k".repeat(129)] {
        let parsed = TokenKeys::parse([(id.to_owned(), TOKEN_KEYS[0].to_owned())]);
        check_refused(parsed, "InvalidRequest", "must have an id");
    }
    check_refused(keys(&[TOKEN_KEYS[0]; 11]), "LimitExceeded", "11 tokenSigningPublicKeys");
}

#[test]
fn a_function_is_a_plugin() {
    for (arn, says) in [
        ("keeper", "authorizerFunctionArn must read arn:aws:lambda"),
        ("arn:aws:s3:us-east-1:1:function:keeper", "must read"),
        ("arn:aws:lambda:us-east-1:1:function:", "plugin name is empty"),
        ("arn:aws:lambda:us-east-1:1:function:a.b", "authorizerFunctionArn: plugin name"),
        (&format!("arn:aws:lambda:r:1:function:a:{}", "7".repeat(2_048)), "must read"),
    ] {
        check_refused(AuthorizerFunction::parse(arn), "InvalidRequest", says);
    }
    check_refused(AuthorizerStatus::parse("active"), "InvalidRequest", "ACTIVE or INACTIVE");
}

#[tokio::test]
async fn changes_are_told_also_when_their_answer_is_lost() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
    let (registry, _) = registry_on(store.clone());
    let own = name("own");
    let (mut of_own, mut of_default) = (0, 0);
    let mut changed = || {
        let own = registry.authorizer_generation(own.as_str());
        let default = registry.default_authorizer_generation();
        (
            std::mem::replace(&mut of_own, own) != own,
            std::mem::replace(&mut of_default, default) != default,
        )
    };
    registry.create_authorizer(&own, settings()).await.unwrap();
    assert_eq!(changed(), (true, false));
    registry.set_default_authorizer(&own).await.unwrap();
    assert_eq!(changed(), (false, true));
    registry.describe_authorizer(&own).await.unwrap();
    assert_eq!(changed(), (false, false));
    // Two reads, then the write.
    store.fail_next([None, None, Some(Fault::AnswerLost)]);
    registry.update_authorizer(&own, inactive()).await.unwrap_err();
    assert_eq!(changed(), (true, false));
    let status = registry.describe_authorizer(&own).await.unwrap().settings.status;
    assert_eq!(status, AuthorizerStatus::Inactive);
    registry.clear_default_authorizer().await.unwrap();
    assert_eq!(changed(), (false, true));
    registry.delete_authorizer(&own).await.unwrap();
    assert_eq!(changed(), (true, false));
}
