//! Who is warned of, and how often. The clock stands at 2026-01-15; the short certificate ends on
//! 2026-02-01, the others in 2049.

use super::super::tests::{DEVICES, registry_on};
use super::super::{IssueError, Issued, Issuer, Ports};
use super::*;
use crate::ids::Account;
use crate::random::SeededRandom;
use crate::storage::{MemoryStore, Storage};
use crate::time::{Clock, ManualClock};
use std::sync::{Arc, Mutex};

const SHORT: &str = include_str!("../../../tests/data/device-short.pem");

async fn warnings(registry: &Registry, clock: &ManualClock) -> (u64, Vec<(ExpiringKind, u64)>) {
    let told = Mutex::new(Vec::new());
    let tell = |it: &Expiring| told.lock().unwrap().push((it.kind, it.days_left(clock.wall())));
    let count = registry.warn_of_expiry(tell).await.unwrap();
    (count, told.into_inner().unwrap())
}

async fn register(registry: &Registry, status: CertificateStatus) -> CertificateId {
    registry.register_certificate_without_ca(SHORT, status).await.unwrap().id
}

fn days(days: u32) -> Duration {
    DAY * days
}

#[tokio::test]
async fn each_warning_is_given_once_also_over_a_restart() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStore::default());
    let (registry, clock) = registry_on(store.clone());
    register(&registry, CertificateStatus::Active).await;
    registry.create_keys_and_certificate(true).await.unwrap();
    assert_eq!(warnings(&registry, &clock).await, (1, vec![(ExpiringKind::Device, 17)]));
    assert_eq!(warnings(&registry, &clock).await, (1, vec![]));
    let (registry, clock) = registry_on(store);
    assert_eq!(warnings(&registry, &clock).await, (1, vec![]), "after a restart");
    clock.advance(days(9));
    assert_eq!(warnings(&registry, &clock).await, (1, vec![]), "8 days");
    clock.advance(days(1));
    assert_eq!(warnings(&registry, &clock).await, (1, vec![(ExpiringKind::Device, 7)]));
    // The host was away: the last warning comes, and none that is too late.
    clock.advance(days(6) + Duration::from_secs(1));
    assert_eq!(warnings(&registry, &clock).await, (1, vec![(ExpiringKind::Device, 1)]));
    assert_eq!(warnings(&registry, &clock).await, (1, vec![]));
    clock.advance(days(1));
    assert_eq!(warnings(&registry, &clock).await, (0, vec![]), "it has ended");
}

#[tokio::test]
async fn nobody_is_warned_of_what_is_not_in_use() {
    let (registry, clock) = registry_on(Arc::new(MemoryStore::default()));
    let id = register(&registry, CertificateStatus::Inactive).await;
    assert_eq!(warnings(&registry, &clock).await, (0, vec![]));
    registry.update_certificate(&id, CertificateStatus::Active).await.unwrap();
    assert_eq!(warnings(&registry, &clock).await.1.len(), 1);
    registry.update_certificate(&id, CertificateStatus::Revoked).await.unwrap();
    registry.delete_certificate(&id, false).await.unwrap();
    let left = registry.0.ports.storage.scan(&Key::prefix(Certificate::INDEX), None, 9).await;
    assert_eq!(left.unwrap(), [], "the index forgets what is deleted");
    // Registered again it is another one.
    register(&registry, CertificateStatus::Active).await;
    assert_eq!(warnings(&registry, &clock).await.1.len(), 1);
}

#[tokio::test]
async fn certificates_from_before_the_index_are_found() {
    let store: Arc<dyn Storage> = Arc::new(MemoryStore::default());
    let (registry, clock) = registry_on(store.clone());
    let id = register(&registry, CertificateStatus::Active).await;
    let certificate = registry.describe_certificate(&id).await.unwrap();
    store.delete(&key_of(Certificate::INDEX, &certificate.expiring()), Expect::Any).await.unwrap();
    assert_eq!(warnings(&registry, &clock).await.1.len(), 1);
    // Once and not at every start: what is missing later stays missing.
    store.delete(&key_of(Certificate::INDEX, &certificate.expiring()), Expect::Any).await.unwrap();
    let (registry, clock) = registry_on(store);
    assert_eq!(warnings(&registry, &clock).await, (0, vec![]));
}

#[tokio::test]
async fn what_ends_soon_is_listed_in_pages() {
    let (registry, clock) = registry_on(Arc::new(MemoryStore::default()));
    let short = register(&registry, CertificateStatus::Active).await;
    for pem in DEVICES {
        let status = CertificateStatus::Active;
        registry.register_certificate_without_ca(pem, status).await.unwrap();
    }
    let list = async |days, limit, after: Option<&str>| {
        registry.list_expiring(days, PageRequest { limit, after }).await.unwrap()
    };
    let soon = list(30, 250, None).await;
    assert_eq!((soon.items.len(), soon.next), (1, None));
    assert_eq!(soon.items[0].id, short);
    assert_eq!(soon.items[0].days_left(clock.wall()), 17);
    assert_eq!(list(16, 250, None).await.items, []);
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = list(20_000, 2, after.as_deref()).await;
        assert!(page.items.len() <= 2);
        ids.extend(page.items.into_iter().map(|it| it.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((ids.len(), &ids[0]), (4, &short));
    assert_eq!(list(u32::MAX, 250, None).await.items.len(), 4);
}

/// The host has one certificate of its own.
struct Own(Mutex<Expiring>);

impl Issuer for Own {
    fn issue(&self) -> Result<Issued, IssueError> {
        Err(IssueError::Failed("not asked for".to_owned()))
    }

    fn sign(&self, _request_pem: &str) -> Result<String, IssueError> {
        Err(IssueError::Failed("not asked for".to_owned()))
    }

    fn is_signed_by(&self, _certificate: &[u8], _ca: &[u8]) -> bool {
        false
    }

    fn own_certificates(&self) -> Vec<Expiring> {
        vec![self.0.lock().unwrap().clone()]
    }
}

#[tokio::test]
async fn the_hosts_own_certificates_are_warned_of_until_they_are_renewed() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_768_435_200_000)));
    let server = |days: u32| {
        let id = CertificateId::parse(&"a".repeat(64)).unwrap();
        Expiring::new(id, ExpiringKind::Server, clock.wall().plus(DAY * days))
    };
    let own = Arc::new(Own(Mutex::new(server(5))));
    let registry = Registry::new(Ports {
        storage: Arc::new(MemoryStore::default()),
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(7)),
        issuer: own.clone(),
        account: Account::default(),
        limits: Arc::default(),
    });
    assert_eq!(warnings(&registry, &clock).await, (1, vec![(ExpiringKind::Server, 5)]));
    assert_eq!(warnings(&registry, &clock).await, (1, vec![]));
    let page = PageRequest { limit: 1, after: None };
    assert_eq!(registry.list_expiring(5, page).await.unwrap().items, [server(5)]);
    *own.0.lock().unwrap() = server(397);
    assert_eq!(warnings(&registry, &clock).await, (0, vec![]));
    let left = registry.0.ports.storage.scan(&Key::prefix(OWN), None, 9).await.unwrap();
    assert_eq!(left, []);
}
