//! Certificates are switched off while their owners are connected, away, and while the host is down.

use super::super::tests::{Bed, Wish, left, left_with_will, topics};
use super::*;
use crate::message::QoS;
use crate::registry::tests::registry;

const OFF: [CertificateStatus; 2] = [CertificateStatus::Inactive, CertificateStatus::Revoked];

/// An ACTIVE certificate, as it comes to the broker.
async fn certificate(registry: &Registry) -> CertificateId {
    registry.create_keys_and_certificate(true).await.unwrap().certificate.id
}

fn wish(id: &CertificateId) -> Wish<'_> {
    Wish { id: "c", principal: Some(id.as_str()), expiry_s: 600, ..Wish::default() }
}

#[tokio::test]
async fn a_connection_that_ends_by_it_leaves_no_will() {
    for status in OFF {
        let (bed, registry) = (Bed::new(), registry());
        bed.clients.heed(&registry, bed.now()).await.unwrap();
        let (mut watcher, _) = bed.open("watcher", 0).await;
        bed.subscribe(&mut watcher, &["will"]);
        let (id, other) = (certificate(&registry).await, certificate(&registry).await);
        for delay_s in [0, 5] {
            let (client, _) = bed.try_open(wish(&id)).await.unwrap();
            registry.update_certificate(&id, status).await.unwrap();
            bed.close(client, left_with_will(600, "will", delay_s));
            let is_kept = status == CertificateStatus::Inactive;
            assert_eq!(bed.clients.parked(), usize::from(is_kept), "{status}");
            bed.advance(10);
            assert_eq!(topics(&watcher), [""; 0], "{status} {delay_s}");
            registry.update_certificate(&id, CertificateStatus::Active).await.unwrap();
        }
        // Not those of others, and of the same one when it may act again.
        for id in [&other, &id] {
            let (client, _) = bed.try_open(wish(id)).await.unwrap();
            bed.close(client, left_with_will(0, "will", 0));
            assert_eq!(topics(&watcher), ["will"]);
        }
    }
}

#[tokio::test]
async fn a_session_without_connection_loses_its_will_and_goes_when_it_is_revoked() {
    for status in OFF {
        let (mut bed, registry) = (Bed::new(), registry());
        bed.clients.heed(&registry, bed.now()).await.unwrap();
        let (mut watcher, _) = bed.open("watcher", 0).await;
        bed.subscribe(&mut watcher, &["will", "$share/g/job"]);
        let id = certificate(&registry).await;
        let (mut client, _) = bed.try_open(wish(&id)).await.unwrap();
        bed.subscribe(&mut client, &["a"]);
        bed.close(client, left_with_will(600, "will", 5));
        bed.publish("a", QoS::AtLeastOnce);
        bed.commit();
        registry.update_certificate(&id, status).await.unwrap();
        bed.advance(5);
        assert_eq!(topics(&watcher), [""; 0], "{status}: it is due, and does not act");
        bed.commit();
        let bed = bed.restart();
        registry.update_certificate(&id, CertificateStatus::Active).await.unwrap();
        let (client, resumed) = bed.try_open(wish(&id)).await.unwrap();
        let is_kept = status == CertificateStatus::Inactive;
        assert_eq!((resumed.is_some(), topics(&client).len()), (is_kept, usize::from(is_kept)));
    }
}

#[tokio::test]
async fn what_goes_with_a_session_is_for_nobody_but_its_group() {
    let (mut bed, registry) = (Bed::new(), registry());
    bed.clients.heed(&registry, bed.now()).await.unwrap();
    let id = certificate(&registry).await;
    let (mut client, _) = bed.try_open(wish(&id)).await.unwrap();
    bed.subscribe(&mut client, &["own", "$share/g/job"]);
    bed.close(client, left(600));
    bed.publish("own", QoS::AtLeastOnce);
    bed.publish("job", QoS::AtLeastOnce);
    bed.commit();
    let (mut member, _) = bed.open("member", 0).await;
    bed.subscribe(&mut member, &["$share/g/job"]);
    registry.update_certificate(&id, CertificateStatus::Inactive).await.unwrap();
    registry.delete_certificate(&id, false).await.unwrap();
    bed.advance(1);
    assert_eq!(bed.clients.parked(), 0);
    assert_eq!(topics(&member), ["job"]);
    assert_eq!(bed.publish("own", QoS::AtLeastOnce).receivers, 0);
}

#[tokio::test]
async fn a_new_owner_of_the_client_id_does_not_set_the_will_off() {
    let (bed, registry) = (Bed::new(), registry());
    bed.clients.heed(&registry, bed.now()).await.unwrap();
    let (mut watcher, _) = bed.open("watcher", 0).await;
    bed.subscribe(&mut watcher, &["will"]);
    let (id, other) = (certificate(&registry).await, certificate(&registry).await);
    bed.close(bed.try_open(wish(&id)).await.unwrap().0, left_with_will(600, "will", 60));
    registry.update_certificate(&id, CertificateStatus::Inactive).await.unwrap();
    bed.try_open(wish(&other)).await.unwrap();
    assert_eq!(topics(&watcher), [""; 0]);
}

#[tokio::test]
async fn what_happened_while_the_host_was_down_is_carried_out_at_its_start() {
    let (mut bed, registry) = (Bed::new(), registry());
    let (id, gone) = (certificate(&registry).await, certificate(&registry).await);
    let away = certificate(&registry).await;
    let wishes = [("id", &id), ("gone", &gone), ("away", &away), ("app", &away)];
    for (name, principal) in wishes {
        let principal = if name == "app" { "app" } else { principal.as_str() };
        let will = Some(("will", 2));
        let wish = Wish { id: name, principal: Some(principal), will, ..wish(&id) };
        // Forgotten, not dropped: a host that is killed drops nothing.
        std::mem::forget(bed.try_open(wish).await.unwrap());
    }
    bed.commit();
    registry.update_certificate(&id, CertificateStatus::Inactive).await.unwrap();
    registry.update_certificate(&gone, CertificateStatus::Revoked).await.unwrap();
    registry.delete_certificate(&gone, false).await.unwrap();
    let bed = bed.restart();
    bed.clients.heed(&registry, bed.now()).await.unwrap();
    assert_eq!(bed.clients.parked(), 3, "of the deleted one nothing is left");
    let (mut watcher, _) = bed.open("watcher", 0).await;
    bed.subscribe(&mut watcher, &["will"]);
    bed.advance(2);
    assert_eq!(topics(&watcher), ["will", "will"], "of those that may act");
}
