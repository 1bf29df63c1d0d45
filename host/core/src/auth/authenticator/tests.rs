//! Every way in, and every way to be refused.

use super::*;
use crate::auth::{AuthorizerRequest, AuthorizerResponse};
use crate::ids::{ClientId, ThingGroupName, ThingTypeName};
use crate::packet::UserProperties;
use crate::payload_schema::SchemaDefinition;
use crate::registry::tests::{DEVICES, registry_on};
use crate::registry::{
    Attributes, IssuedKeys, OffenceKind, PropagatingAttribute, QuarantineEntry,
    ThingGroupProperties, ThingPrincipalType, ThingTypeProperties, ThingTypeUpdate, ThingUpdate,
};
use crate::storage::{Expect, Fault, FaultyStore, Key, MemoryStore, Storage};
use crate::time::{ManualClock, Timestamp};
use crate::topic::TopicName;
use async_trait::async_trait;
use bytes::Bytes;

/// Connects as itself, publishes below its own thing's name.
const OWN: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:Connect",
     "Resource":"arn:aws:iot:us-east-1:123456789012:client/${iot:ClientId}"},
    {"Effect":"Allow","Action":"iot:Publish",
     "Resource":"arn:aws:iot:us-east-1:123456789012:topic/${iot:Connection.Thing.ThingName}/*"},
    {"Effect":"Allow","Action":"iot:Publish",
     "Resource":"arn:aws:iot:us-east-1:123456789012:topic/${iot:Certificate.Subject.CommonName}"}]}"#;

const EVERYTHING: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#;

const SHORT: &str = include_str!("../../../tests/data/device-short.pem");

fn der(pem: &str) -> Bytes {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    pem.contents.into()
}

fn credentials() -> Credentials {
    Credentials {
        connection_id: 1,
        peer: "192.0.2.1:4000".parse().unwrap(),
        listener: "mqtts".into(),
        anonymous_policy: None,
        server_name: None,
        certificate: None,
        http: None,
        client_id: Some(ClientId::parse("Lamp").unwrap()),
        username: None,
        password: None,
        has_will: false,
        is_persistent: false,
    }
}

fn with_certificate(pem: &str) -> Credentials {
    Credentials { certificate: Some(der(pem)), ..credentials() }
}

/// What the authorizer of the tests does; the token is its order.
struct Obedient;

#[async_trait]
impl Authorizer for Obedient {
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String> {
        let mut response = AuthorizerResponse {
            is_authenticated: true,
            principal_id: "device7".to_owned(),
            policy_documents: vec![OWN.to_owned()],
            disconnect_after_s: 0,
            refresh_after_s: 0,
            attributes: Vec::new(),
        };
        match request.token.as_deref() {
            Some("allow") => {}
            Some("refuse") => {
                response.is_authenticated = false;
                response.attributes.push(("reason".to_owned(), "no such user".to_owned()));
            }
            Some("fail") => return Err("out of order".to_owned()),
            Some("hang") => std::future::pending().await,
            Some("principal") => response.principal_id = "not a word".to_owned(),
            Some("policies") => response.policy_documents = vec![OWN.to_owned(); 11],
            Some("malformed") => response.policy_documents.push("{".to_owned()),
            Some("nothing") => response.policy_documents.clear(),
            Some("everything") => response.policy_documents = vec![EVERYTHING.to_owned()],
            Some("refresh") => {
                (response.disconnect_after_s, response.refresh_after_s) = (900, 300);
            }
            _ => return Err("no order".to_owned()),
        }
        Ok(response)
    }
}

struct Setup {
    registry: Registry,
    clock: Arc<ManualClock>,
    store: Arc<FaultyStore>,
    authenticator: Authenticator,
    device: CertificateId,
}

/// `DEVICES[0]` is active, has the policy `Own` and is attached to the thing `Lamp`; the
/// authorizer `obedient` is there, and the default where the test says so.
async fn setup(default_authorizer: bool) -> Setup {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
    let (registry, clock) = registry_on(store.clone());
    let IssuedKeys { certificate, .. } = registry.create_keys_and_certificate(true).await.unwrap();
    let (policy, thing) = (PolicyName::parse("Own").unwrap(), ThingName::parse("Lamp").unwrap());
    registry.create_policy(&policy, OWN).await.unwrap();
    registry.create_thing(&thing, None, Attributes::default()).await.unwrap();
    registry.attach_policy(&policy, &certificate.id).await.unwrap();
    registry.attach_thing_principal(&thing, &certificate.id).await.unwrap();
    let obedient =
        CustomAuthorizer { authorizer: Arc::new(Obedient), token_key_name: Some("token".into()) };
    let authorizers = Authorizers {
        by_name: [("obedient".into(), obedient)].into(),
        default: default_authorizer.then(|| "obedient".into()),
        ..Authorizers::default()
    };
    let authenticator = Authenticator::new(registry.clone(), clock.clone(), authorizers);
    Setup { registry, clock, store, authenticator, device: certificate.id }
}

#[track_caller]
fn check_refused(result: Result<Identity, Refusal>, variant: &str, says: &str) {
    let refusal = result.unwrap_err();
    assert!(format!("{refusal:?}").starts_with(variant), "{refusal:?} is no {variant}");
    assert!(refusal.to_string().contains(says), "{refusal} does not say {says:?}");
}

#[tokio::test]
async fn a_device_with_an_active_certificate_is_itself_and_its_thing() {
    let Setup { authenticator, device, .. } = setup(false).await;
    // SDKs say who they are in a user name, also beside a certificate.
    let sdk = Some("?SDK=PythonV2&Version=1.31".into());
    let credentials = Credentials { username: sdk, ..with_certificate(DEVICES[0]) };
    let identity = authenticator.authenticate(&credentials).await.unwrap();
    assert_eq!(identity.principal.unwrap().as_str(), device.as_str());
    assert_eq!(identity.thing.unwrap().as_str(), "Lamp");
    let may_publish = |topic| identity.permissions.allows(Action::Publish, Resource::Topic(topic));
    assert!(may_publish("Lamp/x"));
    assert!(may_publish("device-1"));
    assert!(!may_publish("Other/x"));
}

#[tokio::test]
async fn policies_of_groups_hold_for_their_things_and_change_at_once() {
    let Setup { authenticator, registry, device, .. } = setup(false).await;
    let group = |name: &str| ThingGroupName::parse(name).unwrap();
    let nothing = ThingGroupProperties::default;
    registry.create_thing_group(&group("site"), None, nothing()).await.unwrap();
    let parent = Some(group("site"));
    registry.create_thing_group(&group("hall"), parent, nothing()).await.unwrap();
    let lamp = ThingName::parse("Lamp").unwrap();
    let shared = PolicyName::parse("Shared").unwrap();
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish",
        "Resource":"arn:aws:iot:us-east-1:123456789012:topic/shared"}]}"#;
    registry.create_policy(&shared, document).await.unwrap();
    let may = async || {
        let identity = authenticator.authenticate(&with_certificate(DEVICES[0])).await.unwrap();
        identity.permissions.allows(Action::Publish, Resource::Topic("shared"))
    };
    let mut generation = registry.permissions_generation(Some(&device));
    let mut has_changed = || {
        let now = registry.permissions_generation(Some(&device));
        std::mem::replace(&mut generation, now) != now
    };
    assert!(!may().await);
    registry.add_thing_to_group(&lamp, &group("hall")).await.unwrap();
    assert!(has_changed() && !may().await);
    registry.attach_group_policy(&shared, &group("site")).await.unwrap();
    assert!(has_changed() && may().await);
    registry.remove_thing_from_group(&lamp, &group("hall")).await.unwrap();
    assert!(has_changed() && !may().await);
    registry.add_thing_to_group(&lamp, &group("hall")).await.unwrap();
    assert!(may().await);
    registry.detach_group_policy(&shared, &group("site")).await.unwrap();
    assert!(!may().await);
    registry.attach_group_policy(&shared, &group("hall")).await.unwrap();
    assert!(may().await);
    has_changed();
    registry.delete_thing_group(&group("hall"), None).await.unwrap();
    assert!(has_changed() && !may().await);
    registry.delete_policy(&shared).await.unwrap();
}

#[tokio::test]
async fn a_client_id_that_is_no_attached_thing_has_no_thing() {
    let Setup { authenticator, registry, .. } = setup(false).await;
    let other = ThingName::parse("Other").unwrap();
    registry.create_thing(&other, None, Attributes::default()).await.unwrap();
    for id in ["Other", "no thing name!"] {
        let client_id = Some(ClientId::parse(id).unwrap());
        let credentials = Credentials { client_id, ..with_certificate(DEVICES[0]) };
        let identity = authenticator.authenticate(&credentials).await.unwrap();
        assert_eq!(identity.thing, None);
        let topic = Resource::Topic("Other/x");
        assert!(!identity.permissions.allows(Action::Publish, topic), "{id}");
    }
}

#[tokio::test]
async fn a_policy_sees_by_which_name_a_client_came_also_later() {
    let Setup { authenticator, registry, device, .. } = setup(false).await;
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
        "Action":"iot:Receive","Resource":"arn:aws:iot:*:*:topic/${iot:DomainName}"}]}"#;
    let policy = PolicyName::parse("ByName").unwrap();
    registry.create_policy(&policy, document).await.unwrap();
    registry.attach_policy(&policy, &device).await.unwrap();
    let (action, topic) = (Action::Receive, Resource::Topic("iot.example.com"));
    for (name, expected) in [(Some("iot.example.com"), true), (Some("other"), false), (None, false)]
    {
        let server_name = name.map(Into::into);
        let credentials = Credentials { server_name, ..with_certificate(DEVICES[0]) };
        let (identity, admission) = authenticator.admit(&credentials).await.unwrap();
        assert_eq!(identity.permissions.allows(action, topic), expected);
        let id = credentials.client_id.unwrap();
        let again = authenticator.authenticate_again(&mut admission.unwrap(), &id).await.unwrap();
        assert_eq!(again.permissions.allows(action, topic), expected);
    }
}

#[tokio::test]
async fn an_exclusive_thing_is_that_of_its_principal_under_any_client_id() {
    let Setup { authenticator, registry, device, .. } = setup(false).await;
    let open = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iot:Connect","Resource":"*",
            "Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}},
        {"Effect":"Allow","Action":"iot:Publish",
            "Resource":"arn:aws:iot:*:*:topic/${iot:Connection.Thing.ThingName}/state"}]}"#;
    let (policy, lamp) = (PolicyName::parse("Open").unwrap(), ThingName::parse("Lamp").unwrap());
    registry.create_policy(&policy, open).await.unwrap();
    registry.attach_policy(&policy, &device).await.unwrap();
    registry.detach_policy(&PolicyName::parse("Own").unwrap(), &device).await.unwrap();
    let mut credentials = with_certificate(DEVICES[0]);
    credentials.client_id = ClientId::parse("other").ok();
    let refused = authenticator.authenticate(&credentials).await;
    check_refused(refused, "NotAuthorized", "may not iot:Connect");
    registry.detach_thing_principal(&lamp, &device).await.unwrap();
    let exclusive = ThingPrincipalType::Exclusive;
    registry.attach_thing_principal_as(&lamp, &device, exclusive).await.unwrap();
    let (identity, admission) = authenticator.admit(&credentials).await.unwrap();
    assert_eq!(identity.exclusive_thing(), Some(&lamp));
    let (action, topic) = (Action::Publish, Resource::Topic("Lamp/state"));
    assert!(identity.permissions.allows(action, topic));
    // Over HTTP, where there is no client id, too.
    let http = Credentials { client_id: None, ..credentials.clone() };
    let identity = authenticator.authenticate(&http).await.unwrap();
    assert_eq!(identity.thing, Some(lamp.clone()));
    assert!(identity.permissions.allows(action, topic));
    // It ends with the attachment, for a live connection too.
    let (mut admission, id) = (admission.unwrap(), credentials.client_id.unwrap());
    registry.detach_thing_principal(&lamp, &device).await.unwrap();
    registry.attach_thing_principal(&lamp, &device).await.unwrap();
    assert!(authenticator.has_changed(&mut admission));
    let refusal = authenticator.authenticate_again(&mut admission, &id).await.unwrap_err();
    assert!(refusal.to_string().contains("may not iot:Connect"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_that_is_unknown_inactive_or_out_of_date_is_refused() {
    let Setup { authenticator, registry, clock, device, .. } = setup(false).await;
    let unknown = authenticator.authenticate(&with_certificate(DEVICES[1])).await;
    check_refused(unknown, "NotAuthenticated", "is not registered");
    let garbage = Credentials { certificate: Some(Bytes::from_static(b"x")), ..credentials() };
    let garbage = authenticator.authenticate(&garbage).await;
    check_refused(garbage, "NotAuthenticated", "is not registered");
    for status in [CertificateStatus::Inactive, CertificateStatus::Revoked] {
        registry.update_certificate(&device, status).await.unwrap();
        let refused = authenticator.authenticate(&with_certificate(DEVICES[0])).await;
        check_refused(refused, "NotAuthenticated", status.as_str());
    }
    let active = CertificateStatus::Active;
    let short = registry.register_certificate_without_ca(SHORT, active).await.unwrap().id;
    registry.attach_policy(&PolicyName::parse("Own").unwrap(), &short).await.unwrap();
    authenticator.authenticate(&with_certificate(SHORT)).await.unwrap();
    clock.advance(Duration::from_secs(17 * 24 * 3_600 + 1));
    let expired = authenticator.authenticate(&with_certificate(SHORT)).await;
    check_refused(expired, "NotAuthenticated", "has expired");
    let (registry, _) = registry_on(Arc::new(MemoryStore::default()));
    registry.register_certificate_without_ca(SHORT, active).await.unwrap();
    let past = Arc::new(ManualClock::new(crate::time::Timestamp::from_millis(0)));
    let early = Authenticator::new(registry, past, Authorizers::default());
    let early = early.authenticate(&with_certificate(SHORT)).await;
    check_refused(early, "NotAuthenticated", "is not valid yet");
}

#[tokio::test]
async fn without_a_policy_for_the_client_id_nobody_connects() {
    let Setup { authenticator, registry, device, .. } = setup(false).await;
    registry.detach_policy(&PolicyName::parse("Own").unwrap(), &device).await.unwrap();
    let refused = authenticator.authenticate(&with_certificate(DEVICES[0])).await;
    check_refused(refused, "NotAuthorized", "no statement allows it");
    // Over HTTPS there is no client id to ask about; every request is asked about instead.
    let https = Credentials { client_id: None, ..with_certificate(DEVICES[0]) };
    let identity = authenticator.authenticate(&https).await.unwrap();
    assert!(!identity.permissions.allows(Action::Publish, Resource::Topic("a")));
    assert_eq!(identity.thing, None);
}

#[tokio::test]
async fn anonymous_clients_have_the_policy_of_their_listener() {
    let Setup { authenticator, .. } = setup(false).await;
    let open = Credentials { anonymous_policy: Some("Own".into()), ..credentials() };
    let identity = authenticator.authenticate(&open).await.unwrap();
    assert_eq!(identity.principal, None);
    let missing = Credentials { anonymous_policy: Some("None".into()), ..credentials() };
    let missing = authenticator.authenticate(&missing).await;
    check_refused(missing, "NotAuthorized", "policy \"None\"");
    let closed = authenticator.authenticate(&credentials()).await;
    check_refused(closed, "NotAuthenticated", "presents no certificate");
    // Nobody can check a name: it neither helps nor harms.
    let named = Credentials { username: Some("bob".into()), ..open.clone() };
    assert_eq!(authenticator.authenticate(&named).await.unwrap().principal, None);
    let closed = Credentials { anonymous_policy: None, ..named };
    let closed = authenticator.authenticate(&closed).await;
    check_refused(closed, "NotAuthenticated", "presents no certificate");
    // A certificate that is refused is not forgotten either.
    let stranger = Credentials { certificate: Some(der(DEVICES[1])), ..open };
    let stranger = authenticator.authenticate(&stranger).await;
    check_refused(stranger, "NotAuthenticated", "is not registered");
}

#[tokio::test(start_paused = true)]
async fn a_custom_authorizer_decides_and_its_answer_is_checked() {
    let Setup { authenticator, .. } = setup(false).await;
    let ask = |order: &str| {
        let username = format!("u?x-amz-customauthorizer-name=obedient&token={order}");
        Credentials { username: Some(username.into()), ..credentials() }
    };
    let identity = authenticator.authenticate(&ask("allow")).await.unwrap();
    assert_eq!(identity.principal.unwrap().as_str(), "device7");
    assert_eq!(identity.disconnect_after, None);
    let identity = authenticator.authenticate(&ask("refresh")).await.unwrap();
    assert_eq!(identity.disconnect_after, Some(Duration::from_secs(900)));
    let cases = [
        ("refuse", "NotAuthenticated", "refused the client: no such user"),
        ("fail", "NotAuthenticated", "failed: out of order"),
        ("hang", "NotAuthenticated", "did not answer within 5 s"),
        ("principal", "NotAuthenticated", "principalId"),
        ("policies", "NotAuthenticated", "11 policy documents; at most 10"),
        ("malformed", "NotAuthenticated", "policy document 1, which is refused"),
        ("nothing", "NotAuthorized", "device7 may not iot:Connect"),
    ];
    for (order, variant, says) in cases {
        check_refused(authenticator.authenticate(&ask(order)).await, variant, says);
    }
    let other = Some("u?x-amz-customauthorizer-name=other".into());
    // Naming an authorizer goes before the certificate: the client wants to be checked by it.
    let other = Credentials { username: other, ..with_certificate(DEVICES[0]) };
    let other = authenticator.authenticate(&other).await;
    check_refused(other, "NotAuthenticated", "custom authorizer that does not exist");
}

#[tokio::test]
async fn a_custom_authorizer_is_found_in_headers_and_urls_too() {
    let Setup { authenticator, .. } = setup(false).await;
    let by = |request: http::request::Builder| {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Credentials { http: Some(Arc::new(parts)), ..credentials() }
    };
    let header = by(http::Request::get("/mqtt")
        .header("x-amz-customauthorizer-name", "obedient")
        .header("token", "allow"));
    authenticator.authenticate(&header).await.unwrap();
    let url = by(http::Request::get("/mqtt?x-amz-customauthorizer-name=obedient&token=%61llow"));
    authenticator.authenticate(&url).await.unwrap();
}

#[tokio::test]
async fn a_signed_url_goes_to_whoever_checks_signatures() {
    let setup = setup(false).await;
    let signed = |query| {
        let request = http::Request::builder().uri(format!("/mqtt?{query}")).body(()).unwrap();
        Credentials { http: Some(Arc::new(request.into_parts().0)), ..credentials() }
    };
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&token=refuse";
    let result = setup.authenticator.authenticate(&signed(query)).await;
    check_refused(result, "NotAuthenticated", "presents no certificate");

    let checker =
        CustomAuthorizer { authorizer: Arc::new(Obedient), token_key_name: Some("token".into()) };
    let authenticator = Authenticator::new(
        setup.registry.clone(),
        setup.clock.clone(),
        Authorizers { by_name: [(SIGNATURES.into(), checker)].into(), ..Authorizers::default() },
    );
    let result = authenticator.authenticate(&signed(query)).await;
    check_refused(result, "NotAuthenticated", "no such user");
    let result = authenticator.authenticate(&signed("token=allow")).await;
    check_refused(result, "NotAuthenticated", "presents no certificate");
}

#[tokio::test]
async fn the_default_authorizer_takes_whoever_has_nothing_better() {
    let Setup { authenticator, .. } = setup(true).await;
    let token = Credentials { username: Some("u?token=allow".into()), ..credentials() };
    authenticator.authenticate(&token).await.unwrap();
    let nothing = authenticator.authenticate(&credentials()).await;
    check_refused(nothing, "NotAuthenticated", "failed: no order");
    let device = authenticator.authenticate(&with_certificate(DEVICES[0])).await.unwrap();
    assert_eq!(device.thing.unwrap().as_str(), "Lamp");
}

#[tokio::test]
async fn a_store_that_fails_admits_nobody_and_says_that_it_is_not_the_clients_fault() {
    let Setup { authenticator, store, .. } = setup(false).await;
    // Certificate, policy, thing: each is read once.
    for reads in 0..3 {
        let pass = std::iter::repeat_n(None, reads);
        store.fail_next(pass.chain([Some(Fault::Refused)]));
        let refused = authenticator.authenticate(&with_certificate(DEVICES[0])).await;
        check_refused(refused, "Unavailable", "the store is not available");
    }
    authenticator.authenticate(&with_certificate(DEVICES[0])).await.unwrap();
}

#[tokio::test]
async fn a_new_default_version_counts_at_the_next_authentication() {
    let Setup { authenticator, registry, .. } = setup(false).await;
    let credentials = with_certificate(DEVICES[0]);
    authenticator.authenticate(&credentials).await.unwrap();
    let none = OWN.replace("Allow", "Deny");
    let name = PolicyName::parse("Own").unwrap();
    registry.create_policy_version(&name, &none, true).await.unwrap();
    let refused = authenticator.authenticate(&credentials).await;
    check_refused(refused, "NotAuthorized", "denied by statement 0 of policy Own");
    registry.set_default_policy_version(&name, 1).await.unwrap();
    authenticator.authenticate(&credentials).await.unwrap();
}

#[tokio::test]
async fn a_live_connection_sees_its_own_changes_only_and_each_once() {
    let Setup { authenticator, registry, device, .. } = setup(true).await;
    let other = registry.create_keys_and_certificate(true).await.unwrap().certificate.id;
    registry.attach_policy(&PolicyName::parse("Own").unwrap(), &other).await.unwrap();
    let admit = async |pem| authenticator.admit(&with_certificate(pem)).await.unwrap().1.unwrap();
    let (mut own, mut others) = (admit(DEVICES[0]).await, admit(DEVICES[1]).await);
    assert!(!authenticator.has_changed(&mut own));
    registry.update_certificate(&device, CertificateStatus::Revoked).await.unwrap();
    assert!(authenticator.has_changed(&mut own));
    assert!(!authenticator.has_changed(&mut own));
    assert!(!authenticator.has_changed(&mut others));
    let name = PolicyName::parse("Own").unwrap();
    registry.create_policy_version(&name, OWN, true).await.unwrap();
    assert!(authenticator.has_changed(&mut others));
    assert!(authenticator.has_changed(&mut own));
}

#[tokio::test]
async fn deciding_again_asks_what_the_first_decision_asked() {
    let Setup { authenticator, registry, device, .. } = setup(true).await;
    let credentials = with_certificate(DEVICES[0]);
    let (first, admission) = authenticator.admit(&credentials).await.unwrap();
    let mut admission = admission.unwrap();
    let id = credentials.client_id.as_ref().unwrap();
    let again = authenticator.authenticate_again(&mut admission, id).await.unwrap();
    assert_eq!(again.principal, first.principal);
    assert_eq!(again.thing, first.thing);
    assert_eq!(format!("{:?}", again.permissions), format!("{:?}", first.permissions));
    registry.update_certificate(&device, CertificateStatus::Revoked).await.unwrap();
    let refusal = authenticator.authenticate_again(&mut admission, id).await.unwrap_err();
    assert!(refusal.to_string().contains("is REVOKED"), "{refusal}");
}

/// May connect, and has nothing to say.
fn check_silent(identity: &Identity, is_silent: bool) {
    let Identity { permissions, .. } = identity;
    assert_eq!(permissions.is_quarantined(), is_silent);
    assert!(permissions.allows(Action::Connect, Resource::Client("Lamp")));
    let topic = if identity.thing.is_some() { "Lamp/x" } else { "device-1" };
    assert_eq!(permissions.allows(Action::Publish, Resource::Topic(topic)), !is_silent);
}

async fn enter(registry: &Registry, id: &str) {
    let entry = QuarantineEntry {
        offender: Offender::parse(id).unwrap(),
        kind: OffenceKind::Limits,
        reason: String::new(),
        count: 1,
        client_id: None,
        principal: None,
        since: Timestamp::default(),
    };
    assert!(registry.enter_quarantine(&entry).await.unwrap());
}

#[tokio::test]
async fn a_quarantine_silences_a_connected_client_at_once_and_until_it_is_lifted() {
    let Setup { authenticator, registry, device, .. } = setup(false).await;
    let credentials = with_certificate(DEVICES[0]);
    let id = credentials.client_id.clone().unwrap();
    let (identity, admission) = authenticator.admit(&credentials).await.unwrap();
    check_silent(&identity, false);
    let mut admission = admission.unwrap();
    let certificate = format!("principal:{device}");
    for offender in ["thing:Lamp", &certificate] {
        enter(&registry, offender).await;
        assert!(authenticator.has_changed(&mut admission), "{offender}");
        let identity = authenticator.authenticate_again(&mut admission, &id).await.unwrap();
        check_silent(&identity, true);
        assert_eq!(identity.thing.as_ref().map(ThingName::as_str), Some("Lamp"));
        registry.leave_quarantine(&Offender::parse(offender).unwrap()).await.unwrap();
        assert!(authenticator.has_changed(&mut admission), "{offender}");
        let identity = authenticator.authenticate_again(&mut admission, &id).await.unwrap();
        check_silent(&identity, false);
    }
}

#[tokio::test]
async fn nobody_leaves_the_quarantine_by_another_client_id_or_over_http() {
    let Setup { authenticator, registry, device, .. } = setup(false).await;
    let credentials = with_certificate(DEVICES[0]);
    let other = Credentials { client_id: ClientId::parse("Other").ok(), ..credentials.clone() };
    let http = Credentials { client_id: None, ..credentials };
    enter(&registry, "thing:Lamp").await;
    for credentials in [&other, &http] {
        let identity = authenticator.authenticate(credentials).await.unwrap();
        assert_eq!(identity.thing, None);
        assert!(identity.permissions.is_quarantined());
        let resource = Resource::Topic("device-1");
        assert!(!identity.permissions.allows(Action::Publish, resource));
    }
    // Another thing of the same certificate is another device.
    let name = ThingName::parse("Other").unwrap();
    registry.create_thing(&name, None, Attributes::default()).await.unwrap();
    registry.attach_thing_principal(&name, &device).await.unwrap();
    let identity = authenticator.authenticate(&other).await.unwrap();
    assert!(!identity.permissions.is_quarantined());
}

#[tokio::test]
async fn a_client_of_an_authorizer_is_silent_by_its_principal() {
    let Setup { authenticator, registry, .. } = setup(true).await;
    let token = Credentials { username: Some("u?token=everything".into()), ..credentials() };
    let may_publish = async || {
        let Identity { permissions, .. } = authenticator.authenticate(&token).await.unwrap();
        assert!(permissions.allows(Action::Connect, Resource::Client("Lamp")));
        (permissions.is_quarantined(), permissions.allows(Action::Publish, Resource::Topic("x")))
    };
    assert_eq!(may_publish().await, (false, true));
    enter(&registry, "principal:device7").await;
    assert_eq!(may_publish().await, (true, false));
    registry.leave_quarantine(&Offender::parse("principal:device7").unwrap()).await.unwrap();
    assert_eq!(may_publish().await, (false, true));
}

#[tokio::test]
async fn a_client_has_the_schema_of_its_things_type_as_it_is_now() {
    let Setup { authenticator, registry, store, .. } = setup(false).await;
    let credentials = with_certificate(DEVICES[0]);
    let id = credentials.client_id.clone().unwrap();
    let admission = authenticator.admit(&credentials).await.unwrap().1;
    let mut admission = admission.unwrap();
    let pump = ThingTypeName::parse("Pump").unwrap();
    let definition = SchemaDefinition {
        topic_filter: None,
        schema: r#"{"type": "number"}"#.to_owned(),
        enforce: false,
    };
    registry.create_thing_type(&pump, ThingTypeProperties::default()).await.unwrap();
    let lamp = ThingName::parse("Lamp").unwrap();
    let typed = ThingUpdate { type_name: Some(pump.clone()), ..ThingUpdate::default() };
    registry.update_thing(&lamp, &typed).await.unwrap();
    assert!(authenticator.has_changed(&mut admission));
    let mut schema = async || {
        assert!(authenticator.has_changed(&mut admission));
        let identity = authenticator.authenticate_again(&mut admission, &id).await.unwrap();
        identity.payload_schema
    };
    registry.set_thing_type_schema(&pump, definition.clone()).await.unwrap();
    let first = schema().await.unwrap();
    let topic = TopicName::parse("a").unwrap();
    assert!(first.check(&topic, b"x").is_err());
    // All clients of the type share one.
    let other = authenticator.authenticate(&credentials).await.unwrap().payload_schema.unwrap();
    assert!(Arc::ptr_eq(&first, &other));
    let anything = SchemaDefinition { schema: "true".to_owned(), ..definition.clone() };
    registry.set_thing_type_schema(&pump, anything).await.unwrap();
    assert_eq!(schema().await.unwrap().check(&topic, b"1"), Ok(()));
    registry.delete_thing_type_schema(&pump).await.unwrap();
    assert!(schema().await.is_none());
    // It goes with its type.
    registry.set_thing_type_schema(&pump, definition.clone()).await.unwrap();
    registry.deprecate_thing_type(&pump, false).await.unwrap();
    registry.delete_thing_type(&pump).await.unwrap();
    assert!(schema().await.is_none());
    let none = registry.set_thing_type_schema(&pump, definition.clone()).await.unwrap_err();
    assert!(matches!(none, RegistryError::ResourceNotFound(_)), "{none:?}");
    registry.create_thing_type(&pump, ThingTypeProperties::default()).await.unwrap();
    assert!(registry.thing_type_schema(&pump).await.is_err());
    // One that this host cannot use keeps nobody out.
    let record =
        b"\x01{\"schema\": \"{\\\"type\\\": 1}\", \"enforce\": true, \"modified_at_ms\": 0}";
    let key = Key::new("thing-type-schema", &["Pump"]);
    store.put(&key, Bytes::from_static(record), Expect::Any).await.unwrap();
    let identity = authenticator.authenticate(&credentials).await.unwrap();
    assert!(identity.payload_schema.is_none());
}

#[tokio::test]
async fn a_client_adds_to_its_messages_what_its_things_type_says_now() {
    let Setup { authenticator, registry, .. } = setup(true).await;
    let credentials = with_certificate(DEVICES[0]);
    let id = credentials.client_id.clone().unwrap();
    let (identity, admission) = authenticator.admit(&credentials).await.unwrap();
    assert_eq!(identity.propagated, None);
    let mut admission = admission.unwrap();
    let mut propagated = async || {
        assert!(authenticator.has_changed(&mut admission));
        let identity = authenticator.authenticate_again(&mut admission, &id).await.unwrap();
        let pairs = |user: &UserProperties| -> Vec<_> {
            user.iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        identity.propagated.map(|user| pairs(&user).join(" "))
    };
    let attribute = |property: &str, thing: Option<&str>, connection: Option<&str>| {
        let (property, thing) = (Some(property.to_owned()), thing.map(str::to_owned));
        PropagatingAttribute::new(property, thing, connection).unwrap()
    };
    let attributes = vec![
        attribute("a", Some("site"), None),
        attribute("b", None, Some("iot:ClientId")),
        attribute("c", None, Some("iot:Thing.ThingName")),
    ];
    let (pump, lamp) = (ThingTypeName::parse("Pump").unwrap(), ThingName::parse("Lamp").unwrap());
    let properties = ThingTypeProperties::default().propagating(attributes.clone()).unwrap();
    registry.create_thing_type(&pump, properties).await.unwrap();
    let typed = ThingUpdate { type_name: Some(pump.clone()), ..ThingUpdate::default() };
    registry.update_thing(&lamp, &typed).await.unwrap();
    // The thing has no attribute `site` yet.
    assert_eq!(propagated().await.as_deref(), Some("b=Lamp c=Lamp"));
    let site = Attributes::parse([("site".to_owned(), "hall".to_owned())]).unwrap();
    let site = ThingUpdate { attributes: Some(site), ..ThingUpdate::default() };
    registry.update_thing(&lamp, &site).await.unwrap();
    assert_eq!(propagated().await.as_deref(), Some("a=hall b=Lamp c=Lamp"));
    let one = ThingTypeUpdate {
        propagating_attributes: Some(attributes[..1].to_vec()),
        ..ThingTypeUpdate::default()
    };
    registry.update_thing_type(&pump, &one).await.unwrap();
    assert_eq!(propagated().await.as_deref(), Some("a=hall"));
    registry.deprecate_thing_type(&pump, false).await.unwrap();
    registry.delete_thing_type(&pump).await.unwrap();
    assert_eq!(propagated().await, None);
}

#[tokio::test]
async fn who_connects_with_a_renewed_certificate_has_used_it() {
    let Setup { authenticator, registry, device, .. } = setup(true).await;
    let new = registry.renew_certificate(&device, Some("CSR")).await.unwrap().certificate.id;
    let is_used = async || {
        let certificate = registry.describe_certificate(&new).await.unwrap();
        certificate.lineage.is_used
    };
    let second = with_certificate(DEVICES[1]);
    let request = Credentials { client_id: None, ..second.clone() };
    authenticator.authenticate(&request).await.unwrap();
    assert!(!is_used().await, "only a connection counts");
    let policy = PolicyName::parse("Own").unwrap();
    registry.detach_policy(&policy, &new).await.unwrap();
    authenticator.authenticate(&second).await.unwrap_err();
    assert!(!is_used().await, "it was not let in");
    registry.attach_policy(&policy, &new).await.unwrap();
    let identity = authenticator.authenticate(&second).await.unwrap();
    assert_eq!(identity.predecessor.unwrap().as_str(), device.as_str());
    assert!(is_used().await);
    let first = authenticator.authenticate(&with_certificate(DEVICES[0])).await.unwrap();
    assert_eq!(first.predecessor, None);
}
