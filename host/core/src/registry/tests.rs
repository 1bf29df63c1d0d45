//! The registry's operations on the store in memory, and on one that fails.

use super::*;
use crate::ids::{PolicyName, ThingName};
use crate::random::SeededRandom;
use crate::storage::{FaultyStore, MemoryStore, Record, Watch};
use crate::time::{ManualClock, Timestamp};
use bytes::Bytes;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub(crate) const DEVICES: [&str; 3] = [
    include_str!("../../tests/data/device-1.pem"),
    include_str!("../../tests/data/device-2.pem"),
    include_str!("../../tests/data/device-3.pem"),
];

const ALLOW_ALL: &str = r#"{"Version":"2012-10-17",
    "Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#;

/// Hands out the certificates of [`DEVICES`], one after the other.
#[derive(Default)]
pub(crate) struct Shelf(AtomicUsize);

impl Issuer for Shelf {
    fn issue(&self) -> Result<Issued, IssueError> {
        let certificate_pem = self.sign("CSR")?;
        let (public_key_pem, private_key_pem) = ("public".to_owned(), "private".to_owned());
        Ok(Issued { certificate_pem, public_key_pem, private_key_pem })
    }

    fn sign(&self, request_pem: &str) -> Result<String, IssueError> {
        if request_pem != "CSR" {
            return Err(IssueError::Request("no request".to_owned()));
        }
        let next = DEVICES.get(self.0.fetch_add(1, Ordering::Relaxed));
        next.map(|&pem| pem.to_owned()).ok_or(IssueError::Failed("shelf is empty".to_owned()))
    }

    fn is_signed_by(&self, _certificate: &[u8], _ca: &[u8]) -> bool {
        false
    }
}

/// A registry whose clock stands at 2026-01-15.
pub(crate) fn registry_on(storage: Arc<dyn Storage>) -> (Registry, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_768_435_200_000)));
    let registry = Registry::new(Ports {
        storage,
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(7)),
        issuer: Arc::new(Shelf::default()),
        account: Account::default(),
        limits: Arc::default(),
    });
    (registry, clock)
}

pub(crate) fn registry() -> Registry {
    registry_on(Arc::new(MemoryStore::default())).0
}

fn thing(name: &str) -> ThingName {
    ThingName::parse(name).unwrap()
}

fn policy(name: &str) -> PolicyName {
    PolicyName::parse(name).unwrap()
}

fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Attributes::parse(pairs).unwrap()
}

async fn certificate(registry: &Registry) -> CertificateId {
    registry.create_keys_and_certificate(true).await.unwrap().certificate.id
}

const ALL: PageRequest<'static> = PageRequest { limit: 250, after: None };

/// The variant of the error, as AWS names the exception.
#[track_caller]
pub(crate) fn check_refused<T>(result: Result<T, RegistryError>, variant: &str, says: &str) {
    let Err(error) = result else { panic!("expected {variant}, got a success") };
    assert!(format!("{error:?}").starts_with(variant), "{error:?} is no {variant}");
    assert!(error.to_string().contains(says), "{error} does not say {says:?}");
}

#[tokio::test]
async fn creating_the_same_thing_again_succeeds_and_another_is_refused() {
    let registry = registry();
    let first =
        registry.create_thing(&thing("Lamp"), None, attributes(&[("a", "1")])).await.unwrap();
    let again =
        registry.create_thing(&thing("Lamp"), None, attributes(&[("a", "1")])).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(first.version, 1);
    let other = registry.create_thing(&thing("Lamp"), None, Attributes::default()).await;
    check_refused(other, "ResourceAlreadyExists", "another configuration");
}

#[tokio::test]
async fn updates_replace_or_merge_attributes_and_count_versions() {
    let registry = registry();
    let lamp = thing("Lamp");
    registry.create_thing(&lamp, None, attributes(&[("a", "1"), ("b", "2")])).await.unwrap();
    let cases = [
        (attributes(&[("c", "3"), ("a", "")]), true, vec![("b", "2"), ("c", "3")]),
        (attributes(&[("b", "4")]), true, vec![("b", "4"), ("c", "3")]),
        (attributes(&[("x", "5"), ("y", "")]), false, vec![("x", "5")]),
    ];
    for (index, (changes, merge, expected)) in cases.iter().enumerate() {
        let change = ThingUpdate {
            attributes: Some(changes.clone()),
            merge: *merge,
            ..ThingUpdate::default()
        };
        registry.update_thing(&lamp, &change).await.unwrap();
        let found = registry.describe_thing(&lamp).await.unwrap();
        let values: Vec<_> =
            found.attributes.values().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(&values, expected);
        assert_eq!(found.version, index as u64 + 2);
    }
    let stale = registry
        .update_thing(&lamp, &ThingUpdate { expected_version: Some(1), ..ThingUpdate::default() })
        .await;
    check_refused(stale, "VersionConflict", "has version 4, expected was 1");
    let many = attributes(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    let many = registry
        .update_thing(&lamp, &ThingUpdate { attributes: Some(many), ..ThingUpdate::default() })
        .await;
    check_refused(many, "InvalidRequest", "4 attributes; at most 3");
}

#[test]
fn attributes_that_break_a_rule_are_named() {
    let parse = |name: &str, value: &str| Attributes::parse([(name.to_owned(), value.to_owned())]);
    check_refused(parse("", "x"), "InvalidRequest", "attribute name \"\"");
    check_refused(parse("a b", "x"), "InvalidRequest", "attribute name \"a b\"");
    check_refused(parse("a", "x y"), "InvalidRequest", "value of attribute \"a\"");
    check_refused(parse(&"a".repeat(129), "x"), "InvalidRequest", "at most 128");
    check_refused(parse("a", &"x".repeat(801)), "InvalidRequest", "at most 800");
    assert!(parse("a.b/c", "[x=1]").is_ok());
}

#[tokio::test]
async fn deleting_a_thing_is_idempotent_but_not_while_it_has_principals() {
    let registry = registry();
    let lamp = thing("Lamp");
    registry.create_thing(&lamp, None, Attributes::default()).await.unwrap();
    let id = certificate(&registry).await;
    registry.attach_thing_principal(&lamp, &id).await.unwrap();
    let refused = registry.delete_thing(&lamp, None).await;
    check_refused(refused, "InvalidRequest", "still has principals");
    registry.detach_thing_principal(&lamp, &id).await.unwrap();
    check_refused(registry.delete_thing(&lamp, Some(9)).await, "VersionConflict", "expected was 9");
    registry.delete_thing(&lamp, Some(1)).await.unwrap();
    registry.delete_thing(&lamp, None).await.unwrap();
    check_refused(registry.describe_thing(&lamp).await, "ResourceNotFound", "Lamp");
}

#[tokio::test]
async fn an_exclusive_thing_is_its_principals_only_one() {
    use ThingPrincipalType::{Exclusive, NonExclusive};
    let registry = registry();
    let (lamp, fan) = (thing("Lamp"), thing("Fan"));
    for name in [&lamp, &fan] {
        registry.create_thing(name, None, Attributes::default()).await.unwrap();
    }
    let (one, other) = (certificate(&registry).await, certificate(&registry).await);
    let attach = async |name: &ThingName, id: &CertificateId, wanted| match wanted {
        Some(wanted) => registry.attach_thing_principal_as(name, id, wanted).await,
        None => registry.attach_thing_principal(name, id).await,
    };
    for _ in 0..2 {
        attach(&lamp, &one, Some(Exclusive)).await.unwrap();
    }
    // Without a type it may stay as it is.
    attach(&lamp, &one, None).await.unwrap();
    let says = "is attached to thing Lamp as EXCLUSIVE_THING; detach it first";
    check_refused(attach(&lamp, &one, Some(NonExclusive)).await, "InvalidRequest", says);
    for wanted in [None, Some(NonExclusive), Some(Exclusive)] {
        let says = "is attached to thing Lamp as EXCLUSIVE_THING, and can be attached exclusively";
        check_refused(attach(&fan, &one, wanted).await, "InvalidRequest", says);
    }
    // It is the principal's only thing, not the thing's only principal.
    attach(&lamp, &other, Some(NonExclusive)).await.unwrap();
    attach(&fan, &other, None).await.unwrap();
    for name in [&lamp, &fan] {
        let refused = attach(name, &other, Some(Exclusive)).await;
        check_refused(refused, "InvalidRequest", "as NON_EXCLUSIVE_THING");
    }
    let listed = async |wanted| {
        let page = registry.list_typed_thing_principals(&lamp, wanted, ALL).await.unwrap();
        page.items.into_iter().collect::<std::collections::HashMap<_, _>>()
    };
    let (exclusive, shared) = ((one.clone(), Exclusive), (other.clone(), NonExclusive));
    assert_eq!(listed(None).await, [exclusive.clone(), shared.clone()].into());
    assert_eq!(listed(Some(Exclusive)).await, [exclusive].into());
    assert_eq!(listed(Some(NonExclusive)).await, [shared].into());
    let things_of = async |id: &CertificateId, wanted| {
        registry.list_typed_principal_things(id, wanted, ALL).await.unwrap().items
    };
    assert_eq!(things_of(&one, None).await, [(lamp.clone(), Exclusive)]);
    assert_eq!(things_of(&one, Some(NonExclusive)).await, []);
    let shared = [(fan.clone(), NonExclusive), (lamp.clone(), NonExclusive)];
    assert_eq!(things_of(&other, Some(NonExclusive)).await, shared);
    // Detached it is as any.
    registry.detach_thing_principal(&lamp, &one).await.unwrap();
    attach(&fan, &one, None).await.unwrap();
    attach(&lamp, &one, None).await.unwrap();
    assert!(!registry.describe_certificate(&one).await.unwrap().is_exclusive);
}

#[tokio::test]
async fn lists_come_in_pages_and_only_what_fits_the_filter() {
    let registry = registry();
    for number in 0..230 {
        let colour = if number % 2 == 0 { "red" } else { "green" };
        let name = thing(&format!("t{number:03}"));
        registry.create_thing(&name, None, attributes(&[("colour", colour)])).await.unwrap();
    }
    let filter = ThingFilter {
        attribute_name: Some("colour".to_owned()),
        attribute_value: Some("re".to_owned()),
        value_is_prefix: true,
        type_name: None,
    };
    let mut after: Option<String> = None;
    let mut found = Vec::new();
    loop {
        let page = PageRequest { limit: 50, after: after.as_deref() };
        let page = registry.list_things(&filter, page).await.unwrap();
        found.extend(page.items.iter().map(|thing| thing.name.as_str().to_owned()));
        after = page.next;
        if after.is_none() {
            break;
        }
        assert_eq!(page.items.len(), 50);
    }
    let expected: Vec<_> = (0..230).step_by(2).map(|number| format!("t{number:03}")).collect();
    assert_eq!(found, expected);
    // A page that ends exactly at the end has nothing behind it.
    let exact = PageRequest { limit: 230, after: None };
    assert_eq!(registry.list_things(&ThingFilter::default(), exact).await.unwrap().next, None);
}

#[tokio::test]
async fn a_certificate_goes_through_its_life() {
    let (registry, clock) = registry_on(Arc::new(MemoryStore::default()));
    let issued = registry.create_keys_and_certificate(false).await.unwrap();
    let id = issued.certificate.id;
    assert_eq!(issued.private_key_pem, "private");
    assert_eq!(issued.certificate.status, CertificateStatus::Inactive);
    // 2049-12-31T23:59:59Z.
    assert_eq!(issued.certificate.not_after.as_secs(), 2_524_607_999);
    clock.advance(Duration::from_secs(60));
    registry.update_certificate(&id, CertificateStatus::Active).await.unwrap();
    let found = registry.describe_certificate(&id).await.unwrap();
    assert_eq!((found.status, found.customer_version), (CertificateStatus::Active, 2));
    assert_eq!(found.modified_at.as_secs() - found.created_at.as_secs(), 60);
    check_refused(registry.delete_certificate(&id, true).await, "CertificateState", "is ACTIVE");
    registry.update_certificate(&id, CertificateStatus::Revoked).await.unwrap();
    registry.create_policy(&policy("P"), ALLOW_ALL).await.unwrap();
    registry.attach_policy(&policy("P"), &id).await.unwrap();
    check_refused(registry.delete_certificate(&id, false).await, "DeleteConflict", "policy P");
    registry.delete_certificate(&id, true).await.unwrap();
    check_refused(registry.describe_certificate(&id).await, "ResourceNotFound", id.as_str());
    let targets = registry.list_policy_principals(&policy("P"), ALL).await.unwrap();
    assert_eq!(targets.items, []);
}

#[tokio::test]
async fn a_certificate_attached_to_a_thing_is_not_deleted_even_with_force() {
    let registry = registry();
    let id = registry.create_certificate_from_csr("CSR", false).await.unwrap().id;
    registry.create_thing(&thing("Lamp"), None, Attributes::default()).await.unwrap();
    registry.attach_thing_principal(&thing("Lamp"), &id).await.unwrap();
    check_refused(registry.delete_certificate(&id, true).await, "DeleteConflict", "thing Lamp");
}

#[tokio::test]
async fn what_is_no_certificate_is_refused() {
    let registry = registry();
    let (short, begin) = (DEVICES[0], "-----BEGIN CERTIFICATE-----");
    let cases = [
        (String::new(), "is no PEM block"),
        ("hello".to_owned(), "is no PEM block"),
        (begin.to_owned(), "is no PEM block"),
        (short.replace(" CERTIFICATE", " RSA PRIVATE KEY"), "something else than a CERTIFICATE"),
        (format!("{short}{short}"), "more than one PEM block"),
        (format!("{begin}\nAAAA\n-----END CERTIFICATE-----\n"), "in DER form"),
        ("x".repeat(70_000), "more than 65536 bytes"),
    ];
    for (pem, says) in cases {
        let refused =
            registry.register_certificate_without_ca(&pem, CertificateStatus::Active).await;
        check_refused(refused, "CertificateValidation", says);
    }
    let registered =
        registry.register_certificate_without_ca(short, CertificateStatus::Active).await.unwrap();
    assert_eq!(registered.mode, CertificateMode::SniOnly);
    let again = registry.register_certificate_without_ca(short, CertificateStatus::Active).await;
    check_refused(again, "ResourceAlreadyExists", registered.id.as_str());
    check_refused(
        registry.create_certificate_from_csr("x", true).await,
        "InvalidRequest",
        "no request",
    );
}

#[tokio::test]
async fn policies_have_versions_of_which_one_is_in_force() {
    let registry = registry();
    let name = policy("P");
    check_refused(registry.create_policy(&name, "{}").await, "MalformedPolicy", "missing field");
    registry.create_policy(&name, ALLOW_ALL).await.unwrap();
    let again = registry.create_policy(&name, ALLOW_ALL).await;
    check_refused(again, "ResourceAlreadyExists", "policy P exists");
    for expected in 2..=5 {
        let (_, id) = registry.create_policy_version(&name, ALLOW_ALL, false).await.unwrap();
        assert_eq!(id, expected);
    }
    let sixth = registry.create_policy_version(&name, ALLOW_ALL, false).await;
    check_refused(sixth, "VersionsLimitExceeded", "has 5 versions");
    let default = registry.delete_policy_version(&name, 1).await;
    check_refused(default, "DeleteConflict", "version 1 is the default");
    registry.set_default_policy_version(&name, 3).await.unwrap();
    registry.delete_policy_version(&name, 1).await.unwrap();
    check_refused(
        registry.set_default_policy_version(&name, 1).await,
        "ResourceNotFound",
        "no version 1",
    );
    // Ids are not used again.
    let (found, id) = registry.create_policy_version(&name, ALLOW_ALL, true).await.unwrap();
    assert_eq!((id, found.default_version), (6, 6));
    check_refused(registry.delete_policy(&name).await, "DeleteConflict", "has 5 versions");
    for id in 2..=5 {
        registry.delete_policy_version(&name, id).await.unwrap();
    }
    registry.delete_policy(&name).await.unwrap();
    check_refused(registry.delete_policy(&name).await, "ResourceNotFound", "policy P");
}

#[tokio::test]
async fn attachments_are_seen_from_both_sides() {
    let registry = registry();
    let (one, two) = (certificate(&registry).await, certificate(&registry).await);
    let lamp = thing("Lamp");
    registry.create_thing(&lamp, None, Attributes::default()).await.unwrap();
    check_refused(
        registry.attach_policy(&policy("P"), &one).await,
        "ResourceNotFound",
        "policy P does not exist",
    );
    registry.create_policy(&policy("P"), ALLOW_ALL).await.unwrap();
    let nobody = certificate_id(b"");
    check_refused(
        registry.attach_policy(&policy("P"), &nobody).await,
        "ResourceNotFound",
        "certificate e3b0c442",
    );
    for id in [&one, &two, &one] {
        registry.attach_policy(&policy("P"), id).await.unwrap();
        registry.attach_thing_principal(&lamp, id).await.unwrap();
    }
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(registry.list_policy_principals(&policy("P"), ALL).await.unwrap().items, both);
    assert_eq!(registry.list_thing_principals(&lamp, ALL).await.unwrap().items, both);
    let policies = registry.list_attached_policies(&one, ALL).await.unwrap();
    assert_eq!(policies, Page { items: vec![policy("P")], next: None });
    assert_eq!(
        registry.list_principal_things(&one, ALL).await.unwrap().items,
        std::slice::from_ref(&lamp)
    );
    check_refused(registry.delete_policy(&policy("P")).await, "DeleteConflict", "is attached");
    let first = PageRequest { limit: 1, after: None };
    let page = registry.list_thing_principals(&lamp, first).await.unwrap();
    assert_eq!(page, Page { items: both[..1].to_vec(), next: Some(both[0].to_string()) });
    for id in [&one, &two, &one] {
        registry.detach_policy(&policy("P"), id).await.unwrap();
        registry.detach_thing_principal(&lamp, id).await.unwrap();
    }
    assert_eq!(registry.list_thing_principals(&lamp, ALL).await.unwrap().items, []);
    registry.delete_policy(&policy("P")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_takes_ten_policies() {
    let registry = registry();
    let id = certificate(&registry).await;
    for number in 0..11 {
        let name = policy(&format!("P{number}"));
        registry.create_policy(&name, ALLOW_ALL).await.unwrap();
        let attached = registry.attach_policy(&name, &id).await;
        if number < 10 {
            attached.unwrap();
        } else {
            check_refused(attached, "LimitExceeded", "has 10 policies");
        }
    }
    assert_eq!(registry.effective_policies(Some(&id), None).await.unwrap().len(), 10);
}

#[tokio::test]
async fn an_arn_names_a_certificate_of_this_account_or_is_refused() {
    let registry = registry();
    let id = certificate_id(b"x");
    assert_eq!(registry.parse_certificate_arn(&registry.certificate_arn(&id)).unwrap(), id);
    for wrong in [
        "arn:aws:iot:us-east-1:123456789012:thinggroup/g".to_owned(),
        "arn:aws:iot:us-east-1:123456789012:cert/abc".to_owned(),
        registry.certificate_arn(&id).replace("123456789012", "999999999999"),
        id.to_string(),
    ] {
        let refused = registry.parse_certificate_arn(&wrong);
        check_refused(refused, "InvalidRequest", "is not the ARN of a certificate");
    }
}

#[tokio::test]
async fn connections_learn_when_their_permissions_may_have_changed() {
    let registry = registry();
    let (one, two) = (certificate(&registry).await, certificate(&registry).await);
    registry.create_policy(&policy("P"), ALLOW_ALL).await.unwrap();
    let mut changes = registry.watch_permissions();
    let generations = || {
        (registry.permissions_generation(Some(&one)), registry.permissions_generation(Some(&two)))
    };
    let mut before = generations();
    let mut check = |one: bool, two: bool| {
        let after = generations();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!((after.0 > before.0, after.1 > before.1), (one, two));
        before = after;
    };
    registry.attach_policy(&policy("P"), &one).await.unwrap();
    check(true, false);
    registry.update_certificate(&two, CertificateStatus::Revoked).await.unwrap();
    check(false, true);
    registry.create_policy_version(&policy("P"), ALLOW_ALL, true).await.unwrap();
    check(true, true);
    registry.create_thing(&thing("Lamp"), None, Attributes::default()).await.unwrap();
    registry.attach_thing_principal(&thing("Lamp"), &one).await.unwrap();
    check(true, false);
    let red = attributes(&[("colour", "red")]);
    let change = ThingUpdate { attributes: Some(red), ..ThingUpdate::default() };
    registry.update_thing(&thing("Lamp"), &change).await.unwrap();
    check(true, false);
}

#[tokio::test]
async fn a_record_of_another_version_is_an_error_not_an_absence() {
    let storage = Arc::new(MemoryStore::default());
    let (registry, _) = registry_on(storage.clone());
    for value in [&b""[..], b"\x09{}", b"\x01{"] {
        let key = Key::new("policy", &["P"]);
        storage.put(&key, Bytes::from_static(value), Expect::Any).await.unwrap();
        check_refused(registry.get_policy(&policy("P")).await, "Record", "policy/P");
    }
}

/// Lets other tasks run before every operation, some of them several times.
struct Interleaving {
    inner: Arc<dyn Storage>,
    dice: SeededRandom,
}

impl Interleaving {
    async fn pause(&self) {
        let [turns, _] = random_bytes(&self.dice);
        for _ in 0..turns % 4 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait::async_trait]
impl Storage for Interleaving {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.pause().await;
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.pause().await;
        self.inner.put(key, value, expect).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError> {
        self.pause().await;
        self.inner.delete(key, expect).await
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.pause().await;
        self.inner.scan(prefix, after, limit).await
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.inner.watch(prefix)
    }
}

/// Attaches and detaches while the store fails now and then, from three tasks at once; whatever a
/// certificate's record says must then be found from the other side.
#[tokio::test]
async fn the_way_back_is_never_missing_whatever_fails() {
    for seed in 0..1_000 {
        let storage = Arc::new(MemoryStore::default());
        let (calm, _) = registry_on(storage.clone());
        let ids = [certificate(&calm).await, certificate(&calm).await];
        calm.create_policy(&policy("P"), ALLOW_ALL).await.unwrap();
        let faults = Arc::new(SeededRandom::new(seed));
        let faulty = Arc::new(FaultyStore::at_random(storage, faults, 20));
        let dice = SeededRandom::new(seed + 2_000);
        let (faulty, _) = registry_on(Arc::new(Interleaving { inner: faulty, dice }));
        let work = |seed: u64| {
            let (faulty, ids) = (faulty.clone(), ids.clone());
            async move {
                let dice = SeededRandom::new(seed);
                for _ in 0..5 {
                    let [what, which] = random_bytes(&dice);
                    let id = &ids[usize::from(which & 1)];
                    // Failures are the point; what remains is checked below.
                    let _ = match what % 16 {
                        0 => faulty.create_policy(&policy("P"), ALLOW_ALL).await.map(|_| ()),
                        1 => faulty.delete_policy(&policy("P")).await,
                        2..9 => faulty.attach_policy(&policy("P"), id).await,
                        _ => faulty.detach_policy(&policy("P"), id).await,
                    };
                }
            }
        };
        tokio::join!(work(seed), work(seed + 1_000), work(seed + 5_000));
        calm.create_policy(&policy("P"), ALLOW_ALL).await.ok();
        let targets = calm.list_policy_principals(&policy("P"), ALL).await.unwrap().items;
        for id in &ids {
            let attached = calm.describe_certificate(id).await.unwrap().policies;
            assert_eq!(attached.contains("P"), targets.contains(id), "seed {seed}");
        }
    }
}

fn random_bytes(random: &dyn Random) -> [u8; 2] {
    crate::random::bytes(random)
}

#[tokio::test]
async fn log_levels_of_groups_follow_their_things_and_survive_a_restart() {
    use crate::ids::{ClientId, ThingGroupName};
    use crate::logging::{Level, Target};
    let storage = Arc::new(MemoryStore::default());
    let (registry, _) = registry_on(storage.clone());
    let group = |name: &str| ThingGroupName::parse(name).unwrap();
    let properties = ThingGroupProperties::default();
    for (name, parent) in [("site", None), ("hall", Some(group("site"))), ("yard", None)] {
        registry.create_thing_group(&group(name), parent, properties.clone()).await.unwrap();
    }
    for name in ["lamp", "fan"] {
        registry.create_thing(&thing(name), None, Attributes::default()).await.unwrap();
    }
    registry.add_thing_to_group(&thing("lamp"), &group("hall")).await.unwrap();
    registry.set_log_options(None, Some(Level::Error), None).await.unwrap();
    for (name, level) in [("site", Level::Info), ("yard", Level::Debug)] {
        registry.set_log_level(Target::ThingGroup(group(name)), level).await.unwrap();
    }
    let check = |registry: &Registry, lamp: Level, fan: Level| {
        let of = |id: &str| registry.log_levels().level_for(Some(id), None, None);
        assert_eq!((of("lamp"), of("fan")), (Some(lamp), Some(fan)));
    };
    check(&registry, Level::Info, Level::Error);
    registry.add_thing_to_group(&thing("lamp"), &group("yard")).await.unwrap();
    registry.add_thing_to_group(&thing("fan"), &group("hall")).await.unwrap();
    check(&registry, Level::Debug, Level::Info);
    let (again, _) = registry_on(storage);
    assert_eq!(again.log_levels().most(), None);
    again.load_log_levels().await.unwrap();
    check(&again, Level::Debug, Level::Info);
    registry.delete_thing_group(&group("yard"), None).await.unwrap();
    registry.delete_thing(&thing("fan"), None).await.unwrap();
    check(&registry, Level::Info, Level::Error);
    // The group is gone; its level waits for another of that name.
    registry
        .set_log_level(Target::ClientId(ClientId::parse("fan").unwrap()), Level::Warn)
        .await
        .unwrap();
    check(&registry, Level::Info, Level::Warn);
}

#[tokio::test]
async fn the_targets_of_log_levels_are_bounded() {
    use crate::ids::ClientId;
    use crate::logging::{Level, Target};
    let registry = registry();
    registry.set_log_options(None, None, None).await.unwrap();
    let target = |n: usize| Target::ClientId(ClientId::parse(&n.to_string()).unwrap());
    for n in 0..500 {
        registry.set_log_level(target(n), Level::Warn).await.unwrap();
    }
    let more = registry.set_log_level(target(500), Level::Warn).await;
    check_refused(more, "LimitExceeded", "500 targets");
    registry.set_log_level(target(7), Level::Debug).await.unwrap();
    registry.delete_log_level(&target(3)).await.unwrap();
    registry.set_log_level(target(500), Level::Warn).await.unwrap();
}
