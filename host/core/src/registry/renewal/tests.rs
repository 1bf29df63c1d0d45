//! Old and new certificate beside each other, and what becomes of them.

use super::super::tests::registry_on;
use super::super::{Attributes, PageRequest, ThingPrincipalType};
use super::*;
use crate::ids::{PolicyName, ThingName};
use crate::storage::{MemoryStore, Storage};
use crate::time::ManualClock;
use std::sync::Arc;

const DAY: Duration = Duration::from_secs(24 * 3_600);

struct Bed {
    registry: Registry,
    clock: Arc<ManualClock>,
    store: Arc<dyn Storage>,
    /// An ACTIVE certificate with a policy and a thing.
    old: CertificateId,
}

impl Bed {
    async fn new() -> Self {
        let store: Arc<dyn Storage> = Arc::new(MemoryStore::default());
        let (registry, clock) = registry_on(store.clone());
        let old = registry.create_keys_and_certificate(true).await.unwrap().certificate.id;
        registry.create_thing(&lamp(), None, Attributes::default()).await.unwrap();
        let document = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}"#;
        registry.create_policy(&policy(), document).await.unwrap();
        registry.attach_thing_principal(&lamp(), &old).await.unwrap();
        registry.attach_policy(&policy(), &old).await.unwrap();
        Self { registry, clock, store, old }
    }

    async fn renew(&self) -> Certificate {
        self.registry.renew_certificate(&self.old, Some("CSR")).await.unwrap().certificate
    }

    async fn status(&self, id: &CertificateId) -> Option<CertificateStatus> {
        self.registry.describe_certificate(id).await.ok().map(|it| it.status)
    }

    /// A day later, seen to.
    async fn pass_a_day(&self) {
        self.clock.advance(DAY);
        self.registry.finish_renewals().await.unwrap();
    }

    async fn principals(&self) -> Vec<CertificateId> {
        let all = PageRequest { limit: 99, after: None };
        self.registry.list_thing_principals(&lamp(), all).await.unwrap().items
    }

    async fn waiting(&self) -> usize {
        self.store.scan(&Key::prefix(OVERLAP), None, 99).await.unwrap().len()
    }
}

fn lamp() -> ThingName {
    ThingName::parse("Lamp").unwrap()
}

fn policy() -> PolicyName {
    PolicyName::parse("P").unwrap()
}

const ACTIVE: Option<CertificateStatus> = Some(CertificateStatus::Active);

#[tokio::test]
async fn the_new_certificate_of_an_exclusive_thing_is_exclusive_too() {
    let bed = Bed::new().await;
    bed.registry.detach_thing_principal(&lamp(), &bed.old).await.unwrap();
    let exclusive = ThingPrincipalType::Exclusive;
    bed.registry.attach_thing_principal_as(&lamp(), &bed.old, exclusive).await.unwrap();
    let new = bed.renew().await;
    assert!(new.is_exclusive && new.things.contains(&lamp()));
    let kept = bed.registry.describe_certificate(&new.id).await.unwrap();
    assert_eq!((kept.is_exclusive, kept.things), (true, new.things));
}

#[tokio::test]
async fn the_old_one_goes_when_its_time_is_over_and_the_new_one_was_used() {
    let bed = Bed::new().await;
    let renewal = bed.registry.renew_certificate(&bed.old, None).await.unwrap();
    assert_eq!(renewal.private_key_pem.as_deref(), Some("private"));
    assert_eq!(renewal.overlap, DAY);
    let new = renewal.certificate;
    assert_eq!(new.status, CertificateStatus::Active);
    assert_eq!((&new.policies, &new.things), (&[policy()].into(), &[lamp()].into()));
    assert_eq!(bed.principals().await.len(), 2);
    bed.registry.certificate_used(&new.id).await.unwrap();
    bed.registry.finish_renewals().await.unwrap();
    assert_eq!(bed.status(&bed.old).await, ACTIVE, "its time is not over");
    bed.pass_a_day().await;
    assert_eq!(bed.status(&bed.old).await, Some(CertificateStatus::Inactive));
    assert_eq!((bed.status(&new.id).await, bed.waiting().await), (ACTIVE, 0));
    // An operator may let it in again, and it stays so.
    bed.registry.update_certificate(&bed.old, CertificateStatus::Active).await.unwrap();
    bed.pass_a_day().await;
    assert_eq!(bed.status(&bed.old).await, ACTIVE);
}

#[tokio::test]
async fn who_has_not_come_with_the_new_one_keeps_the_old_one() {
    let bed = Bed::new().await;
    let new = bed.renew().await;
    for _ in 0..3 {
        bed.pass_a_day().await;
        assert_eq!(bed.status(&bed.old).await, ACTIVE);
    }
    // The host was started anew since.
    let registry = registry_on(bed.store.clone()).0;
    registry.certificate_used(&new.id).await.unwrap();
    bed.pass_a_day().await;
    assert_eq!(bed.status(&bed.old).await, Some(CertificateStatus::Inactive));
}

#[tokio::test]
async fn who_asks_again_gets_another_and_the_unused_go() {
    let bed = Bed::new().await;
    let (first, second) = (bed.renew().await, bed.renew().await);
    assert_eq!(bed.principals().await.len(), 3);
    bed.registry.certificate_used(&first.id).await.unwrap();
    let refused = bed.registry.renew_certificate(&bed.old, Some("CSR")).await;
    assert!(matches!(refused, Err(RegistryError::CertificateState(why)) if why.contains("in use")));
    bed.pass_a_day().await;
    assert_eq!(bed.status(&bed.old).await, Some(CertificateStatus::Inactive));
    assert_eq!(bed.status(&first.id).await, ACTIVE);
    assert_eq!(bed.status(&second.id).await, None);
    let principals = bed.principals().await;
    assert!(principals.len() == 2 && !principals.contains(&second.id));
}

#[tokio::test]
async fn what_cannot_be_renewed_is_said_and_nothing_is_left() {
    let bed = Bed::new().await;
    let none = CertificateId::parse(&"0".repeat(64)).unwrap();
    let refused = bed.registry.renew_certificate(&none, Some("CSR")).await;
    assert!(matches!(refused, Err(RegistryError::ResourceNotFound(_))));
    let refused = bed.registry.renew_certificate(&bed.old, Some("no")).await;
    assert!(matches!(refused, Err(RegistryError::InvalidRequest(_))));
    for status in [CertificateStatus::Inactive, CertificateStatus::Revoked] {
        bed.registry.update_certificate(&bed.old, status).await.unwrap();
        let refused = bed.registry.renew_certificate(&bed.old, Some("CSR")).await;
        assert!(
            matches!(refused, Err(RegistryError::CertificateState(why)) if why.contains("only an"))
        );
    }
    assert_eq!(bed.principals().await, std::slice::from_ref(&bed.old));
    assert_eq!(bed.waiting().await, 0);
}

#[tokio::test]
async fn what_changes_while_it_is_renewed_is_not_undone() {
    let bed = Bed::new().await;
    let before = bed.registry.describe_certificate(&bed.old).await.unwrap();
    bed.registry.detach_policy(&policy(), &bed.old).await.unwrap();
    let id = CertificateId::parse(&"1".repeat(64)).unwrap();
    let until = bed.registry.now();
    let refused = bed.registry.link(&before, &id, until).await;
    assert!(matches!(refused, Err(RegistryError::Busy)));
    bed.registry.update_certificate(&bed.old, CertificateStatus::Revoked).await.unwrap();
    let refused = bed.registry.link(&before, &id, until).await;
    assert!(matches!(refused, Err(RegistryError::CertificateState(_))));
}

#[tokio::test]
async fn unused_renewals_are_bounded() {
    let bed = Bed::new().await;
    let first = bed.renew().await;
    let copied = bed.registry.describe_certificate(&bed.old).await.unwrap();
    let until = bed.registry.now();
    let id = |digit: &str| CertificateId::parse(&digit.repeat(64)).unwrap();
    assert_eq!(bed.registry.link(&copied, &id("1"), until).await.unwrap(), None);
    assert_eq!(bed.registry.link(&copied, &id("2"), until).await.unwrap(), None);
    let displaced = bed.registry.link(&copied, &id("3"), until).await.unwrap();
    assert_eq!(displaced, Some(first.id.clone()));
    bed.registry.drop_unused(&first.id).await.unwrap();
    assert_eq!(bed.status(&first.id).await, None);
}
