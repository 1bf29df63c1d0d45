//! The CA from outside: what it keeps, what it issues, and whether others believe it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use gnomon_core::random::{Random, SeededRandom};
use gnomon_core::registry::{ExpiringKind, IssueError, Issuer};
use gnomon_core::time::{Clock, ManualClock, Timestamp};
use gnomon_pki::{Authority, AuthorityError, ServerCertificate};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

/// A folder with a CA, and a clock at 2026-11-01.
struct Setup {
    folder: TempDir,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
}

impl Setup {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_793_491_200_000))),
            random: Arc::new(SeededRandom::new(1)),
        }
    }

    fn try_open(&self) -> Result<Authority, AuthorityError> {
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) =
            (self.clock.clone(), self.random.clone());
        Authority::open_or_create(self.folder.path(), clock, random)
    }

    fn open(&self) -> Authority {
        self.try_open().unwrap()
    }

    /// What a TLS peer does: a chain to the CA, validity, usage, and for servers the name.
    #[track_caller]
    fn verify(&self, authority: &Authority, leaf: &CertificateDer<'_>, usage: KeyUsage) {
        self.verify_with(&authority.ca_pem(), leaf, usage);
    }

    /// The same by a peer that trusts this file.
    #[track_caller]
    fn verify_with(&self, ca_pem: &str, leaf: &CertificateDer<'_>, usage: KeyUsage) {
        let ca = der(ca_pem).into();
        let anchor = anchor_from_trusted_cert(&ca).unwrap();
        let now = Duration::from_secs(self.clock.wall().as_secs());
        EndEntityCert::try_from(leaf)
            .unwrap()
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                &[],
                UnixTime::since_unix_epoch(now),
                usage,
                None,
                None,
            )
            .unwrap();
    }
}

fn der(pem: &str) -> Vec<u8> {
    parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

fn with_certificate<T>(pem: &str, f: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = der(pem);
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    f(&certificate)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_ca_is_made_once_and_kept_and_its_key_is_private() {
    let setup = Setup::new();
    let first = setup.open().ca_pem();
    let again = setup.open();
    assert_eq!(again.ca_pem(), first);
    assert_eq!(fs::read_to_string(again.ca_path()).unwrap(), first);
    assert_eq!(mode(&again.ca_path()), 0o644);
    assert_eq!(mode(&setup.folder.path().join("ca-key.pem")), 0o600);
    with_certificate(&first, |ca| {
        assert!(ca.is_ca());
        assert_eq!(ca.validity().not_after.timestamp(), 2_524_607_999);
    });
}

#[test]
fn a_device_gets_an_rsa_key_and_a_certificate_that_the_ca_vouches_for() {
    let setup = Setup::new();
    let authority = setup.open();
    let issued = authority.issue().unwrap();
    let leaf = der(&issued.certificate_pem).into();
    setup.verify(&authority, &leaf, KeyUsage::client_auth());
    let key = KeyPair::from_pem(&issued.private_key_pem).unwrap();
    assert_eq!(key.public_key_pem(), issued.public_key_pem);
    with_certificate(&issued.certificate_pem, |certificate| {
        assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
        assert_eq!(certificate.public_key().parsed().unwrap().key_size(), 2_048);
        assert_eq!(certificate.validity().not_after.timestamp(), 2_524_607_999);
        assert_eq!(certificate.raw_serial().len(), 20);
        assert!(!certificate.is_ca());
    });
    // The CA is still the same after a restart, and so is the chain.
    setup.verify(&setup.open(), &leaf, KeyUsage::client_auth());
    assert_ne!(authority.issue().unwrap().certificate_pem, issued.certificate_pem);
}

#[test]
fn a_request_is_signed_for_its_key_and_name() {
    let setup = Setup::new();
    let authority = setup.open();
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256]
    {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::new(["wanted.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Lamp");
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let pem = authority.sign(&request).unwrap();
        setup.verify(&authority, &der(&pem).into(), KeyUsage::client_auth());
        with_certificate(&pem, |certificate| {
            assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
            assert_eq!(certificate.subject().to_string(), "CN=Lamp");
            // Names of servers are not for devices to choose.
            assert!(certificate.subject_alternative_name().unwrap().is_none());
        });
    }
}

#[test]
fn requests_of_openssl_are_signed_whatever_hash_they_use() {
    let setup = Setup::new();
    let authority = setup.open();
    for request in [include_str!("data/p384-sha256.csr"), include_str!("data/rsa-sha512.csr")] {
        let pem = authority.sign(request).unwrap();
        setup.verify(&authority, &der(&pem).into(), KeyUsage::client_auth());
    }
}

#[test]
fn a_request_cannot_make_a_device_a_ca() {
    let setup = Setup::new();
    let pem = setup.open().sign(include_str!("data/p521-wants-ca.csr")).unwrap();
    with_certificate(&pem, |certificate| {
        assert!(!certificate.is_ca());
        assert_eq!(certificate.subject().to_string(), "O=Example, CN=p521");
    });
}

#[test]
fn a_request_that_is_none_is_refused_with_the_reason() {
    let setup = Setup::new();
    let authority = setup.open();
    let good = include_str!("data/p521-wants-ca.csr");
    let (head, tail) = good.split_at(good.len() - 60);
    let forged = format!("{head}{}", tail.replacen(['A', 'B', 'C', 'd', 'e'], "z", 1));
    let cases = [
        (String::new(), "is no PEM block"),
        (authority.ca_pem(), "is no PEM block"),
        (good.replacen("MI", "AA", 1), "in DER form"),
        (forged, "is not signed with the key"),
        (include_str!("data/rsa-1024.csr").to_owned(), "an RSA key of 1024 bits"),
        (include_str!("data/ed25519.csr").to_owned(), "neither RSA nor EC"),
        (include_str!("data/secp256k1.csr").to_owned(), "neither RSA nor EC"),
        ("x".repeat(5_000), "more than 4096 bytes"),
    ];
    for (request, says) in cases {
        let Err(IssueError::Request(problem)) = authority.sign(&request) else {
            panic!("signed, or failed otherwise: {says}");
        };
        assert!(problem.contains(says), "{problem:?} does not say {says:?}");
    }
}

fn server(authority: &Authority, names: &[&str]) -> ServerCertificate {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    authority.server_certificate(&names).unwrap()
}

#[test]
fn the_server_is_believed_under_each_of_its_names() {
    let setup = Setup::new();
    let authority = setup.open();
    let made = server(&authority, &["iot.example", "192.0.2.7"]);
    setup.verify(&authority, &made.chain[0], KeyUsage::server_auth());
    let leaf = EndEntityCert::try_from(&made.chain[0]).unwrap();
    for name in ["localhost", "127.0.0.1", "::1", "iot.example", "192.0.2.7"] {
        leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).unwrap();
    }
    let other = ServerName::try_from("other.example").unwrap();
    assert!(leaf.verify_is_valid_for_subject_name(&other).is_err());
    assert_eq!(mode(&setup.folder.path().join("server-key.pem")), 0o600);
}

#[test]
fn the_server_certificate_is_kept_until_names_change_or_it_is_about_to_expire() {
    let setup = Setup::new();
    let authority = setup.open();
    let first = server(&authority, &["a.example"]);
    let day = Duration::from_secs(24 * 3_600);
    setup.clock.advance(day * 260);
    let kept = server(&setup.open(), &["a.example"]);
    assert_eq!((&kept.chain, &kept.key), (&first.chain, &first.key));
    let renamed = server(&authority, &["b.example"]);
    assert_ne!(renamed.chain, first.chain);
    setup.clock.advance(day * 370);
    let renewed = server(&authority, &["b.example"]);
    assert_ne!(renewed.chain, renamed.chain);
    setup.verify(&authority, &renewed.chain[0], KeyUsage::server_auth());
}

#[test]
fn a_server_certificate_that_fits_nothing_is_made_anew() {
    let setup = Setup::new();
    let authority = setup.open();
    let folder = setup.folder.path();
    let damages: [&dyn Fn(); 3] = [
        &|| fs::write(folder.join("server.pem"), "x").unwrap(),
        &|| fs::remove_file(folder.join("server-key.pem")).unwrap(),
        &|| {
            let key = KeyPair::generate().unwrap();
            fs::write(folder.join("server-key.pem"), key.serialize_pem()).unwrap();
        },
    ];
    for damage in damages {
        let before = server(&authority, &[]);
        damage();
        let after = server(&authority, &[]);
        assert_ne!(before.chain, after.chain);
        setup.verify(&authority, &after.chain[0], KeyUsage::server_auth());
    }
    // Another CA in the folder: what the old one signed is of no use.
    let before = server(&authority, &[]);
    fs::remove_file(folder.join("ca.pem")).unwrap();
    fs::remove_file(folder.join("ca-key.pem")).unwrap();
    let other = setup.open();
    let after = server(&other, &[]);
    assert_ne!(before.chain, after.chain);
    setup.verify(&other, &after.chain[0], KeyUsage::server_auth());
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused() {
    let setup = Setup::new();
    let authority = setup.open();
    for bad in ["", "a b", "ä.example", "-a.example", "a..b", "*.*.b", "http://a", &"a".repeat(64)]
    {
        let refused = authority.server_certificate(&[bad.to_owned()]);
        assert!(matches!(refused, Err(AuthorityError::Name { name }) if name == bad), "{bad}");
    }
    server(&authority, &["*.example.com", "gateway_1"]);
}

#[track_caller]
fn check_refused(setup: &Setup, says: &str) {
    let error = setup.try_open().err().unwrap().to_string();
    assert!(error.contains(says), "{error:?} does not say {says:?}");
}

#[test]
fn a_damaged_ca_is_reported_with_its_file_and_never_replaced() {
    let setup = Setup::new();
    let ca = setup.open().ca_pem();
    let (ca_path, key_path) =
        (setup.folder.path().join("ca.pem"), setup.folder.path().join("ca-key.pem"));
    let key = fs::read_to_string(&key_path).unwrap();

    fs::write(&ca_path, "x").unwrap();
    check_refused(&setup, "ca.pem does not hold a certificate in PEM form");
    assert_eq!(fs::read_to_string(&ca_path).unwrap(), "x");
    fs::write(&ca_path, &ca).unwrap();

    fs::write(&key_path, "x").unwrap();
    check_refused(&setup, "ca-key.pem does not hold a private key");
    fs::write(&key_path, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    check_refused(&setup, "ca.pem does not belong to ca-key.pem");
    fs::remove_file(&key_path).unwrap();
    check_refused(&setup, "ca-key.pem is missing although ca.pem is there");
    fs::create_dir(&key_path).unwrap();
    check_refused(&setup, "cannot read");
    fs::remove_dir(&key_path).unwrap();

    fs::write(&key_path, &key).unwrap();
    let device = setup.open().issue().unwrap();
    fs::write(&ca_path, &device.certificate_pem).unwrap();
    check_refused(&setup, "is not one of a CA");
}

#[test]
fn a_lost_ca_certificate_is_made_anew_with_the_same_name_and_key() {
    let setup = Setup::new();
    let authority = setup.open();
    let leaf = der(&authority.issue().unwrap().certificate_pem).into();
    fs::remove_file(authority.ca_path()).unwrap();
    let again = setup.open();
    assert_ne!(again.ca_pem(), authority.ca_pem());
    setup.verify(&again, &leaf, KeyUsage::client_auth());
}

/// 23 years and some days: within the last year of what was made on 2026-11-01.
const NEAR_THE_END: Duration = Duration::from_secs((22 * 365 + 100) * 24 * 3_600);

/// The end in seconds since the Unix epoch.
fn end(pem: &str) -> i64 {
    with_certificate(pem, |certificate| certificate.validity().not_after.timestamp())
}

#[test]
fn the_ca_is_renewed_near_its_end_and_believed_by_old_and_new_clients() {
    let setup = Setup::new();
    let authority = setup.open();
    let (old_ca, old_leaf) = (authority.ca_pem(), authority.issue().unwrap().certificate_pem);
    assert!(!authority.renew_ca_when_due().unwrap());
    setup.clock.advance(NEAR_THE_END);
    assert!(authority.renew_ca_when_due().unwrap());
    assert!(!authority.renew_ca_when_due().unwrap(), "once");
    let new_ca = authority.ca_pem();
    assert_eq!(fs::read_to_string(authority.ca_path()).unwrap(), new_ca);
    assert!(end(&new_ca) > end(&old_ca) + 20 * 365 * 24 * 3_600);
    // Who has the new file believes what was signed before.
    setup.verify(&authority, &der(&old_leaf).into(), KeyUsage::client_auth());
    // Who has the old one believes what is signed now, by the running host and after a restart.
    let new_leaf = authority.issue().unwrap().certificate_pem;
    assert!(end(&new_leaf) > end(&old_ca));
    let server = server(&setup.open(), &[]);
    for leaf in [der(&new_leaf).into(), server.chain[0].clone()] {
        let usage =
            if leaf == server.chain[0] { KeyUsage::server_auth() } else { KeyUsage::client_auth() };
        setup.verify_with(&old_ca, &leaf, usage);
        setup.verify_with(&new_ca, &leaf, usage);
    }
    assert_eq!(setup.open().ca_pem(), new_ca);
}

#[test]
fn a_ca_that_has_ended_is_renewed_when_the_host_starts() {
    let setup = Setup::new();
    let old = setup.open().ca_pem();
    setup.clock.advance(Duration::from_secs(24 * 366 * 24 * 3_600));
    let new = setup.open().ca_pem();
    assert!(end(&new) > end(&old));
}

#[test]
fn a_ca_that_was_made_elsewhere_is_never_replaced() {
    let setup = Setup::new();
    setup.open();
    let key = fs::read_to_string(setup.folder.path().join("ca-key.pem")).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Example Ltd");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let own = params.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap().pem();
    let path = setup.folder.path().join("ca.pem");
    fs::write(&path, &own).unwrap();
    let authority = setup.open();
    assert!(!authority.renew_ca_when_due().unwrap());
    let refused = authority.renew_ca().unwrap_err().to_string();
    assert!(refused.contains("was not made here"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), own);
    setup.clock.advance(Duration::from_secs(366 * 24 * 3_600));
    check_refused(&setup, "ca.pem has expired and was not made here");
}

#[test]
fn the_server_certificate_is_made_anew_when_asked_for() {
    let setup = Setup::new();
    let authority = setup.open();
    let names = ["a.example".to_owned()];
    let first = authority.server_certificate(&names).unwrap();
    let second = authority.renew_server_certificate(&names).unwrap();
    assert_ne!(first.chain, second.chain);
    assert_eq!(authority.server_certificate(&names).unwrap().chain, second.chain);
    setup.verify(&authority, &second.chain[0], KeyUsage::server_auth());
    assert!(authority.renew_server_certificate(&["a b".to_owned()]).is_err());
}

#[test]
fn the_hosts_own_certificates_are_told_with_their_ends() {
    let setup = Setup::new();
    let authority = setup.open();
    let kinds = |authority: &Authority| -> Vec<_> {
        let own = authority.own_certificates();
        own.iter().map(|it| (it.kind, it.days_left(setup.clock.wall()))).collect()
    };
    assert_eq!(kinds(&authority), [(ExpiringKind::HostCa, 8_462)]);
    server(&authority, &[]);
    assert_eq!(kinds(&authority)[1], (ExpiringKind::Server, 397));
}
