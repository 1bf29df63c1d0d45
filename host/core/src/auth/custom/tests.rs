//! The registry's authorizers: which one is asked, whether, and for how long its answer holds.

use super::*;
use crate::auth::{Admission, Authorizers, CustomAuthorizer};
use crate::ids::{ClientId, DomainConfigurationName, TokenKeyName};
use crate::policy::{Action, Resource};
use crate::registry::tests::registry_on;
use crate::registry::{
    Attributes, AuthorizerFunction, AuthorizerSettings, AuthorizerUpdate, DomainAuthorizer,
    DomainConfigurationUpdate, Registry, ServiceType, TokenKeys,
};
use crate::storage::MemoryStore;
use crate::time::ManualClock;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const TOKEN_KEYS: [&str; 2] = [
    include_str!("../../../tests/data/token-key-1.pem"),
    include_str!("../../../tests/data/token-key-2.pem"),
];

/// Connects as anybody, publishes to one topic, and below its own thing's name.
fn document(topic: &str) -> String {
    let arn = "arn:aws:iot:us-east-1:123456789012";
    format!(
        r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}},
            {{"Effect":"Allow","Action":"iot:Publish","Resource":["{arn}:topic/{topic}",
              "{arn}:topic/${{iot:Connection.Thing.Attributes[hall]}}/x"]}}]}}"#
    )
}

fn answer(topic: &str) -> AuthorizerResponse {
    AuthorizerResponse {
        is_authenticated: true,
        principal_id: "ada".to_owned(),
        policy_documents: vec![document(topic)],
        disconnect_after_s: 0,
        refresh_after_s: 0,
        attributes: Vec::new(),
    }
}

/// Answers what the test wants, and counts.
struct Keeper {
    calls: AtomicUsize,
    answer: Mutex<Result<AuthorizerResponse, String>>,
    last: Mutex<Option<AuthorizerRequest>>,
}

impl Keeper {
    fn says(&self, answer: Result<AuthorizerResponse, String>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl Authorizer for Keeper {
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        *self.last.lock().unwrap() = Some(request.clone());
        self.answer.lock().unwrap().clone()
    }
}

/// A signature is the digest of key and message.
struct Digests;

fn digest(message: &[u8], public_key: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(public_key).chain_update(message).finalize().into()
}

impl SignatureVerifier for Digests {
    fn is_signed(&self, message: &[u8], signature: &[u8], public_key: &[u8]) -> bool {
        digest(message, public_key) == signature
    }
}

/// What `Digests` takes for the signature of a token, in base64.
fn signature(token: &str, pem: &str) -> String {
    let keys = TokenKeys::parse([("k".to_owned(), pem.to_owned())]).unwrap();
    STANDARD.encode(digest(token.as_bytes(), keys.public_keys().next().unwrap()))
}

struct Setup {
    registry: Registry,
    clock: Arc<ManualClock>,
    keeper: Arc<Keeper>,
    authenticator: Authenticator,
}

/// The plugins `keeper` and `spare` are the same; the registry has the authorizer `own`, which asks
/// `keeper`, without signatures.
async fn setup() -> Setup {
    let (registry, clock) = registry_on(Arc::new(MemoryStore::default()));
    let keeper = Arc::new(Keeper {
        calls: AtomicUsize::new(0),
        answer: Mutex::new(Ok(answer("a"))),
        last: Mutex::default(),
    });
    let custom = CustomAuthorizer { authorizer: keeper.clone(), token_key_name: None };
    let authorizers = Authorizers {
        by_name: [("keeper".into(), custom.clone()), ("spare".into(), custom)].into(),
        signatures: Some(Arc::new(Digests)),
        ..Authorizers::default()
    };
    let authenticator = Authenticator::new(registry.clone(), clock.clone(), authorizers);
    registry.create_authorizer(&name("own"), settings()).await.unwrap();
    Setup { registry, clock, keeper, authenticator }
}

fn name(name: &str) -> AuthorizerName {
    AuthorizerName::parse(name).unwrap()
}

fn settings() -> AuthorizerSettings {
    AuthorizerSettings {
        function: AuthorizerFunction::parse("arn:aws:lambda:us-east-1:1:function:keeper").unwrap(),
        token_key_name: Some(TokenKeyName::parse("token").unwrap()),
        token_keys: TokenKeys::default(),
        signing_disabled: true,
        status: AuthorizerStatus::Active,
        caches_http: false,
    }
}

/// Tokens are signed by the first key.
fn signed() -> AuthorizerSettings {
    let key = ("k".to_owned(), TOKEN_KEYS[0].to_owned());
    let token_keys = TokenKeys::parse([key]).unwrap();
    AuthorizerSettings { token_keys, signing_disabled: false, ..settings() }
}

fn inactive() -> AuthorizerUpdate {
    AuthorizerUpdate { status: Some(AuthorizerStatus::Inactive), ..Default::default() }
}

/// A connection with this user name.
fn mqtt(username: &str) -> Credentials {
    Credentials {
        connection_id: 1,
        peer: "192.0.2.1:4000".parse().unwrap(),
        listener: "mqtts".into(),
        anonymous_policy: None,
        server_name: None,
        certificate: None,
        http: None,
        client_id: Some(ClientId::parse("Lamp").unwrap()),
        username: Some(username.into()),
        password: Some("secret".into()),
        has_will: false,
        is_persistent: false,
    }
}

const OWN: &str = "u?x-amz-customauthorizer-name=own&token=T";

/// An HTTP request.
fn https(target: &str, headers: &[(&str, &str)]) -> Credentials {
    let mut request = http::Request::post(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let http = Some(Arc::new(parts));
    Credentials { http, client_id: None, username: None, password: None, ..mqtt("") }
}

#[track_caller]
fn check_refused<T>(result: Result<T, Refusal>, variant: &str, says: &str) {
    let Err(refusal) = result else { panic!("expected {variant}, got a success") };
    assert!(format!("{refusal:?}").starts_with(variant), "{refusal:?} is no {variant}");
    assert!(refusal.to_string().contains(says), "{refusal} does not say {says:?}");
}

fn may_publish(identity: &Identity, topic: &str) -> bool {
    identity.permissions.allows(Action::Publish, Resource::Topic(topic))
}

#[tokio::test]
async fn an_authorizer_of_the_registry_is_its_plugin() {
    let Setup { authenticator, registry, keeper, .. } = setup().await;
    let identity = authenticator.authenticate(&mqtt(OWN)).await.unwrap();
    assert_eq!(identity.principal.as_ref().unwrap().as_str(), "ada");
    assert!(may_publish(&identity, "a") && !may_publish(&identity, "b"));
    let last = keeper.last.lock().unwrap().take().unwrap();
    assert_eq!((last.token.as_deref(), last.signature_verified), (Some("T"), false));

    registry.update_authorizer(&name("own"), inactive()).await.unwrap();
    check_refused(authenticator.authenticate(&mqtt(OWN)).await, "NotAuthenticated", "is INACTIVE");
    let missing = AuthorizerFunction::parse("arn:aws:lambda:r:1:function:missing").unwrap();
    let missing = AuthorizerSettings { function: missing, ..settings() };
    registry.create_authorizer(&name("lost"), missing).await.unwrap();
    let lost = mqtt("u?x-amz-customauthorizer-name=lost");
    let says = "authorizer lost asks plugin missing, which is no plugin of this host";
    check_refused(authenticator.authenticate(&lost).await, "Unavailable", says);
    assert_eq!(keeper.calls(), 1);
}

#[tokio::test]
async fn a_plugin_has_its_own_name_until_the_registry_uses_it_or_the_name() {
    let Setup { authenticator, registry, keeper, .. } = setup().await;
    let spare = mqtt("u?x-amz-customauthorizer-name=spare");
    authenticator.authenticate(&spare).await.unwrap();
    // What its authorizer demands of a client cannot be gone round.
    let keeper_itself = mqtt("u?x-amz-customauthorizer-name=keeper&token=T");
    let refused = authenticator.authenticate(&keeper_itself).await;
    check_refused(refused, "NotAuthenticated", "has to name that authorizer");
    registry.create_authorizer(&name("spare"), signed()).await.unwrap();
    let refused = authenticator.authenticate(&spare).await;
    check_refused(refused, "NotAuthenticated", "there is no token");
    assert_eq!(keeper.calls(), 1);
}

#[tokio::test]
async fn the_registrys_default_goes_before_the_configurations() {
    let Setup { registry, clock, keeper, authenticator } = setup().await;
    let nameless = mqtt("u?token=T");
    let refused = authenticator.authenticate(&nameless).await;
    check_refused(refused, "NotAuthenticated", "nor a default authorizer");
    let custom = CustomAuthorizer { authorizer: keeper.clone(), token_key_name: None };
    let authorizers = Authorizers {
        by_name: [("keeper".into(), custom)].into(),
        default: Some("keeper".into()),
        ..Authorizers::default()
    };
    let authenticator = Authenticator::new(registry.clone(), clock, authorizers);
    let token = || keeper.last.lock().unwrap().take().unwrap().token;
    // Its operator wants this one asked, whatever else asks it.
    authenticator.authenticate(&nameless).await.unwrap();
    assert_eq!(token(), None);
    registry.set_default_authorizer(&name("own")).await.unwrap();
    authenticator.authenticate(&nameless).await.unwrap();
    assert_eq!(token().as_deref(), Some("T"));
    registry.update_authorizer(&name("own"), inactive()).await.unwrap();
    check_refused(authenticator.authenticate(&nameless).await, "NotAuthenticated", "is INACTIVE");
}

#[tokio::test]
async fn a_token_that_is_not_signed_costs_no_call() {
    let Setup { authenticator, registry, keeper, .. } = setup().await;
    registry.create_authorizer(&name("signed"), signed()).await.unwrap();
    let good = signature("T", TOKEN_KEYS[0]);
    let with = |rest: &str| mqtt(&format!("u?x-amz-customauthorizer-name=signed{rest}"));
    let sign = |signature: &str| {
        let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        with(&format!("&token=T&x-amz-customauthorizer-signature={signature}"))
    };
    authenticator.authenticate(&sign(&good)).await.unwrap();
    assert!(keeper.last.lock().unwrap().take().unwrap().signature_verified);
    let headers = [
        ("x-amz-customauthorizer-name", "signed"),
        ("X-Amz-CustomAuthorizer-Signature", &*good),
        ("Token", "T"),
    ];
    authenticator.authenticate(&https("/topics/a", &headers)).await.unwrap();
    assert_eq!(keeper.calls(), 2);

    let none = "the token's signature is by none of its keys";
    for (credentials, says) in [
        (with("&token=T"), "the token has no signature"),
        (with(&format!("&x-amz-customauthorizer-signature={good}")), "there is no token"),
        (sign("***"), "the token's signature is not base64"),
        (sign(""), none),
        (sign(&signature("T", TOKEN_KEYS[1])), none),
        (sign(&signature("U", TOKEN_KEYS[0])), none),
    ] {
        let says = format!("authorizer signed is not asked: {says}");
        check_refused(authenticator.authenticate(&credentials).await, "NotAuthenticated", &says);
    }
    assert_eq!(keeper.calls(), 0);

    // Either key of two is good.
    let keys = TOKEN_KEYS.iter().enumerate().map(|(n, pem)| (n.to_string(), (*pem).to_owned()));
    let token_keys = Some(TokenKeys::parse(keys).unwrap());
    let update = AuthorizerUpdate { token_keys, ..Default::default() };
    registry.update_authorizer(&name("signed"), update).await.unwrap();
    for pem in TOKEN_KEYS {
        authenticator.authenticate(&sign(&signature("T", pem))).await.unwrap();
    }
}

#[tokio::test]
async fn the_thing_that_an_answer_names_fills_in_variables_if_it_exists() {
    let Setup { authenticator, registry, keeper, .. } = setup().await;
    let thing = ThingName::parse("Lamp-7").unwrap();
    let hall = Attributes::parse([("hall".to_owned(), "north".to_owned())]).unwrap();
    registry.create_thing(&thing, None, hall).await.unwrap();
    let naming = |thing: &str| {
        let attributes = vec![("thing-name".to_owned(), thing.to_owned())];
        keeper.says(Ok(AuthorizerResponse { attributes, ..answer("a") }));
    };
    naming("Lamp-7");
    let identity = authenticator.authenticate(&mqtt(OWN)).await.unwrap();
    assert!(may_publish(&identity, "north/x"));
    assert_eq!(identity.thing, Some(thing));
    naming("None");
    let identity = authenticator.authenticate(&mqtt(OWN)).await.unwrap();
    assert!(!may_publish(&identity, "north/x") && may_publish(&identity, "a"));
    assert_eq!(identity.thing, None);
    naming("no thing!");
    let refused = authenticator.authenticate(&mqtt(OWN)).await;
    check_refused(refused, "NotAuthenticated", "answered with a wrong thing-name");
}

impl Setup {
    async fn admit(&self, credentials: &Credentials) -> Admission {
        self.authenticator.admit(credentials).await.unwrap().1.unwrap()
    }

    async fn again(&self, admission: &mut Admission) -> Result<Identity, Refusal> {
        let id = ClientId::parse("Lamp").unwrap();
        self.authenticator.authenticate_again(admission, &id).await
    }

    fn refreshing(&self, topic: &str) {
        let refresh_after_s = 300;
        self.keeper.says(Ok(AuthorizerResponse { refresh_after_s, ..answer(topic) }));
    }
}

#[tokio::test]
async fn an_answer_that_ends_is_asked_for_again() {
    let setup = setup().await;
    let (clock, keeper) = (&setup.clock, &setup.keeper);
    setup.refreshing("a");
    let mut admission = setup.admit(&mqtt(OWN)).await;
    let first = keeper.last.lock().unwrap().take().unwrap();
    assert!(admission.is_custom());
    let refresh_at = admission.refresh_at().unwrap();
    assert_eq!(refresh_at, setup.authenticator.now() + Duration::from_secs(300));
    clock.advance(Duration::from_millis(299_999));
    assert!(!setup.authenticator.has_changed(&mut admission));
    clock.advance(Duration::from_millis(1));
    assert!(setup.authenticator.has_changed(&mut admission));
    assert!(!setup.authenticator.has_changed(&mut admission));

    setup.refreshing("b");
    let identity = setup.again(&mut admission).await.unwrap();
    assert!(may_publish(&identity, "b") && !may_publish(&identity, "a"));
    assert_eq!(admission.refresh_at(), Some(refresh_at + Duration::from_secs(300)));
    // The same input.
    let second = keeper.last.lock().unwrap().take().unwrap();
    assert_eq!(format!("{first:?}"), format!("{second:?}"));

    keeper.says(Ok(answer("b")));
    setup.again(&mut admission).await.unwrap();
    assert_eq!(admission.refresh_at(), None);
    let refusal = AuthorizerResponse { is_authenticated: false, ..answer("b") };
    let somebody_else = AuthorizerResponse { principal_id: "bob".into(), ..answer("b") };
    let nothing = AuthorizerResponse { policy_documents: Vec::new(), ..answer("b") };
    for (answer, variant, says) in [
        (Ok(refusal), "NotAuthenticated", "refused the client"),
        (Err("out of order".to_owned()), "NotAuthenticated", "failed: out of order"),
        (Ok(somebody_else), "NotAuthorized", "somebody else"),
        (Ok(nothing), "NotAuthorized", "may not iot:Connect"),
    ] {
        keeper.says(answer);
        check_refused(setup.again(&mut admission).await, variant, says);
    }
}

#[tokio::test]
async fn clients_are_asked_about_when_their_authorizer_or_the_default_changes() {
    let setup = setup().await;
    let Setup { registry, authenticator, .. } = &setup;
    registry.create_authorizer(&name("other"), settings()).await.unwrap();
    registry.set_default_authorizer(&name("own")).await.unwrap();
    let mut named = setup.admit(&mqtt(OWN)).await;
    let mut nameless = setup.admit(&mqtt("u?token=T")).await;
    let mut spare = setup.admit(&mqtt("u?x-amz-customauthorizer-name=spare")).await;
    let changed = |admissions: [&mut Admission; 3]| {
        admissions.map(|admission| authenticator.has_changed(admission))
    };
    let update = AuthorizerUpdate { caches_http: Some(true), ..Default::default() };
    registry.update_authorizer(&name("own"), update).await.unwrap();
    assert_eq!(changed([&mut named, &mut nameless, &mut spare]), [true, true, false]);
    registry.clear_default_authorizer().await.unwrap();
    registry.set_default_authorizer(&name("other")).await.unwrap();
    assert_eq!(changed([&mut named, &mut nameless, &mut spare]), [false, true, false]);
    setup.again(&mut nameless).await.unwrap();
    // From now on it is the other's.
    registry.update_authorizer(&name("own"), inactive()).await.unwrap();
    assert_eq!(changed([&mut named, &mut nameless, &mut spare]), [true, false, false]);
    check_refused(setup.again(&mut named).await, "NotAuthenticated", "is INACTIVE");
    registry.update_authorizer(&name("other"), inactive()).await.unwrap();
    assert_eq!(changed([&mut named, &mut nameless, &mut spare]), [false, true, false]);
    registry.create_authorizer(&name("spare"), signed()).await.unwrap();
    assert_eq!(changed([&mut named, &mut nameless, &mut spare]), [false, false, true]);
    check_refused(setup.again(&mut spare).await, "NotAuthenticated", "there is no token");
    registry.clear_default_authorizer().await.unwrap();
    let refused = setup.again(&mut nameless).await;
    check_refused(refused, "NotAuthenticated", "nor a default authorizer");
}

#[tokio::test]
async fn answers_about_http_requests_are_kept_as_long_as_they_say() {
    let setup = setup().await;
    let Setup { registry, clock, keeper, authenticator } = &setup;
    let ask = async |credentials: &Credentials| {
        authenticator.authenticate(credentials).await.map(|_| keeper.calls())
    };
    let target = "/topics/a?x-amz-customauthorizer-name=own&token=T";
    let request = https(target, &[("x-api-key", "1"), ("content-length", "5")]);
    setup.refreshing("a");
    // Not asked for.
    assert_eq!(ask(&request).await, Ok(1));
    assert_eq!(ask(&request).await, Ok(1));
    let update = AuthorizerUpdate { caches_http: Some(true), ..Default::default() };
    registry.update_authorizer(&name("own"), update).await.unwrap();
    assert_eq!(ask(&request).await, Ok(1));
    assert_eq!(ask(&request).await, Ok(0));
    let elsewhere = https(&target.replace("/a?", "/b?"), &[("x-api-key", "1")]);
    assert_eq!(ask(&elsewhere).await, Ok(0));
    let peer = "192.0.2.2:4000".parse().unwrap();
    for other in [
        https(target, &[("x-api-key", "2")]),
        https(target, &[]),
        https(&target.replace("token=T", "token=U"), &[("x-api-key", "1")]),
        Credentials { peer, ..request.clone() },
        Credentials { certificate: Some("der".into()), ..request.clone() },
    ] {
        assert_eq!(ask(&other).await, Ok(1), "{other:?}");
    }
    // MQTT is asked about each time.
    for _ in 0..2 {
        let connect = Credentials { client_id: mqtt("").client_id, ..request.clone() };
        assert_eq!(ask(&connect).await, Ok(1));
    }
    clock.advance(Duration::from_secs(300));
    assert_eq!(ask(&request).await, Ok(1));
    assert_eq!(ask(&request).await, Ok(0));

    // A changed authorizer has given no answer yet, and one that is INACTIVE gives none.
    let token_key_name = Some(TokenKeyName::parse("key").unwrap());
    let update = AuthorizerUpdate { token_key_name, ..Default::default() };
    registry.update_authorizer(&name("own"), update).await.unwrap();
    let refusal =
        AuthorizerResponse { is_authenticated: false, refresh_after_s: 300, ..answer("a") };
    keeper.says(Ok(refusal));
    for _ in 0..2 {
        ask(&request).await.unwrap_err();
        assert_eq!(keeper.calls(), 1);
    }
    // It does not say for how long.
    keeper.says(Ok(answer("a")));
    assert_eq!(ask(&request).await, Ok(1));
    assert_eq!(ask(&request).await, Ok(1));
    setup.refreshing("a");
    assert_eq!(ask(&request).await, Ok(1));
    registry.update_authorizer(&name("own"), inactive()).await.unwrap();
    check_refused(ask(&request).await, "NotAuthenticated", "is INACTIVE");
}

#[tokio::test]
async fn a_test_asks_what_a_client_would_and_shows_the_answer() {
    let Setup { authenticator, registry, keeper, .. } = setup().await;
    let idle = AuthorizerSettings { status: AuthorizerStatus::Inactive, ..signed() };
    registry.create_authorizer(&name("idle"), idle).await.unwrap();
    let test = |token: Option<&str>, signature: Option<&str>| AuthorizerTest {
        credentials: mqtt("u"),
        token: token.map(ToOwned::to_owned),
        signature: signature.map(ToOwned::to_owned),
    };
    let good = signature("T", TOKEN_KEYS[0]);
    let signed = test(Some("T"), Some(&good));
    let shown = authenticator.test_authorizer(&name("idle"), &signed).await.unwrap();
    assert_eq!(shown, answer("a"));
    let in_username = AuthorizerTest { credentials: mqtt("u?token=T"), ..test(None, Some(&good)) };
    authenticator.test_authorizer(&name("idle"), &in_username).await.unwrap();
    let refusal = AuthorizerResponse { is_authenticated: false, ..answer("a") };
    keeper.says(Ok(refusal.clone()));
    assert_eq!(authenticator.test_authorizer(&name("idle"), &signed).await.unwrap(), refusal);
    keeper.calls();
    for (name_of, test, variant, says) in [
        ("none", test(None, None), "Registry", "none does not exist"),
        ("idle", test(None, None), "Refused", "there is no token"),
        ("idle", test(Some("U"), Some(&good)), "Refused", "by none of its keys"),
    ] {
        let error = authenticator.test_authorizer(&name(name_of), &test).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(variant), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(keeper.calls(), 0);
    for (answer, says) in [
        (Err("out of order".to_owned()), "authorizer idle failed: out of order"),
        (Ok(AuthorizerResponse { principal_id: "a b".into(), ..answer("a") }), "principalId"),
        (
            Ok(AuthorizerResponse { policy_documents: vec!["{".into()], ..answer("a") }),
            "policy document 0, which is refused",
        ),
    ] {
        keeper.says(answer);
        let error = authenticator.test_authorizer(&name("idle"), &signed).await.unwrap_err();
        assert!(
            matches!(&error, AuthorizerTestError::Response(text) if text.contains(says)),
            "{error}"
        );
    }
}

/// A connection by a name of the host.
fn by(server_name: &str, username: &str) -> Credentials {
    Credentials { server_name: Some(server_name.into()), ..mqtt(username) }
}

#[tokio::test]
async fn a_domain_configuration_says_who_is_asked() {
    let Setup { authenticator, registry, keeper, .. } = setup().await;
    registry.create_authorizer(&name("other"), settings()).await.unwrap();
    let domain = DomainConfigurationName::parse("d").unwrap();
    let only_own = DomainAuthorizer { default: Some(name("own")), may_be_overridden: false };
    let made = registry.create_domain_configuration(
        &domain,
        Some("Own.example"),
        ServiceType::Data,
        Some(only_own.clone()),
    );
    made.await.unwrap();
    let plain = by("own.Example", "u?token=T");
    let (identity, admission) = authenticator.admit(&plain).await.unwrap();
    assert!(may_publish(&identity, "a"));
    assert_eq!(keeper.calls(), 1);
    let named = "u?x-amz-customauthorizer-name=own&token=T";
    assert!(authenticator.authenticate(&by("own.example", named)).await.is_ok());
    let another = by("own.example", "u?x-amz-customauthorizer-name=other&token=T");
    let says = "may not name the authorizer other";
    check_refused(authenticator.authenticate(&another).await, "NotAuthenticated", says);
    // By another name of the host nothing of it holds.
    let elsewhere = by("host.example", "u?token=T");
    let says = "presents no certificate";
    check_refused(authenticator.authenticate(&elsewhere).await, "NotAuthenticated", says);

    let may = DomainAuthorizer { may_be_overridden: true, ..only_own };
    let update = DomainConfigurationUpdate { authorizer: Some(Some(may)), is_enabled: None };
    registry.update_domain_configuration(&domain, &update).await.unwrap();
    assert!(authenticator.authenticate(&another).await.is_ok());
    // Who is connected is looked at again.
    let mut admission = admission.unwrap();
    assert!(authenticator.has_changed(&mut admission));
    let update = DomainConfigurationUpdate { authorizer: None, is_enabled: Some(false) };
    registry.update_domain_configuration(&domain, &update).await.unwrap();
    check_refused(authenticator.authenticate(&plain).await, "NotAuthenticated", says);
}
