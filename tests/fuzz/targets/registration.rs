//! What strangers bring to be registered: certificates, and parameters for a template's functions.
//!
//! Input: bytes. The first four are edits of a good certificate, in pairs of place and byte; the rest is a
//! PEM text, and JSON that names the thing in a template. Nothing may panic, and a template that fails leaves
//! nothing behind.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz registration`.

#![no_main]

use gnomon_core::ids::Account;
use gnomon_core::provisioning::{NoHooks, Provisioner};
use gnomon_core::random::SeededRandom;
use gnomon_core::registry::{
    CertificateStatus, IssueError, Issued, Issuer, PageRequest, Ports, Registry, ThingFilter,
};
use gnomon_core::storage::MemoryStore;
use gnomon_core::time::{ManualClock, Timestamp};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const DEVICE: &str = include_str!("../../../host/core/tests/data/device-1.pem");
const ALL: PageRequest<'_> = PageRequest { limit: 10, after: None };

struct NoIssuer;

impl Issuer for NoIssuer {
    fn issue(&self) -> Result<Issued, IssueError> {
        Err(IssueError::Failed("no certificates here".to_owned()))
    }

    fn sign(&self, _request_pem: &str) -> Result<String, IssueError> {
        Err(IssueError::Failed("no certificates here".to_owned()))
    }

    fn is_signed_by(&self, _certificate: &[u8], _ca: &[u8]) -> bool {
        true
    }
}

fuzz_target!(|input: (u16, u8, u16, u8, &str)| {
    let (at, byte, then, another, text) = input;
    let registry = Registry::new(Ports {
        storage: Arc::new(MemoryStore::default()),
        clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_795_435_200_000))),
        random: Arc::new(SeededRandom::new(1)),
        issuer: Arc::new(NoIssuer),
        account: Account::default(),
        limits: Arc::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut pem = DEVICE.as_bytes().to_vec();
        for (at, byte) in [(at, byte), (then, another)] {
            let at = usize::from(at) % pem.len();
            pem[at] = byte;
        }
        for pem in [&String::from_utf8_lossy(&pem), text] {
            let status = CertificateStatus::Active;
            let _ = registry.register_certificate_without_ca(pem, status).await;
        }
        let _ = registry.register_presented(text.as_bytes()).await;

        let name: Value = serde_json::from_str(text).unwrap_or_else(|_| json!({"Fn::Sub": text}));
        let template = json!({
            "Parameters": {"Serial": {"Type": "String"}},
            "Mappings": {"M": {"a": {"b": "c"}}},
            "Resources": {"t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": name}}},
        });
        let provisioner = Provisioner::new(registry.clone(), Arc::new(NoHooks));
        let parameters = BTreeMap::from([("Serial".to_owned(), text.chars().take(300).collect())]);
        let made = provisioner.register_thing(&template.to_string(), &parameters).await;
        let things = registry.list_things(&ThingFilter::default(), ALL).await.unwrap();
        assert_eq!(things.items.len(), usize::from(made.is_ok()));
    });
});
