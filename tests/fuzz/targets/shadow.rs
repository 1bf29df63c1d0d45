//! Shadows: whatever is asked, what is stored is what was told, and a report empties the delta.
//!
//! Each line is an update. Each document is read back from the store, so it was encoded and decoded;
//! merge and delta are compared with those that the simulation has, written a second time.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz shadow`.

#![no_main]

use bytes::Bytes;
use gnomon_core::broker::Broker;
use gnomon_core::ids::ThingName;
use gnomon_core::limits::Limits;
use gnomon_core::shadow::{Service, ShadowId};
use gnomon_core::storage::MemoryStore;
use gnomon_core::time::{ManualClock, Timestamp};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use tokio::runtime::Runtime;

#[path = "../../sim/shadow/reference.rs"]
mod reference;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

/// Small, so that the bound is met.
const STATE_BYTES_MAX: u32 = 1_024;

struct Shadow {
    service: Service,
    id: ShadowId,
}

impl Shadow {
    fn new() -> Self {
        let limits = Limits { shadow_bytes: STATE_BYTES_MAX, ..Limits::default() };
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let store = Arc::new(MemoryStore::default());
        let (broker, limits) = (Broker::in_memory(), Arc::new(limits));
        let service = Service::start(store, broker, clock, limits, Arc::default());
        Self { service, id: ShadowId { thing: ThingName::parse("T").unwrap(), name: None } }
    }

    /// What is told of an accepted update; the code of a rejected one.
    async fn update(&self, request: &[u8]) -> Result<Value, u16> {
        let request = Bytes::copy_from_slice(request);
        let accepted = self.service.update(self.id.clone(), request).await;
        accepted.map(|it| serde_json::from_slice(&it).unwrap()).map_err(|error| error.code())
    }

    /// State, delta and version of what is stored; the metadata is looked at here.
    async fn read(&self) -> (Value, Value, u64) {
        let Ok(document) = self.service.get(self.id.clone()).await else {
            return (json!({}), Value::Null, 0);
        };
        let mut document: Value = serde_json::from_slice(&document).unwrap();
        let version = document["version"].as_u64().unwrap();
        let mut state = document["state"].take();
        let delta = state.as_object_mut().unwrap().remove("delta").unwrap_or_default();
        assert!(has_shape(&state, &document["metadata"], 0), "{state} {document}");
        (state, delta, version)
    }
}

/// Times are where values are.
fn has_shape(state: &Value, times: &Value, level: usize) -> bool {
    match (state, times) {
        (Value::Object(state), Value::Object(times)) => {
            state.len() == times.len()
                && state.iter().all(|(name, value)| {
                    times.get(name).is_some_and(|times| has_shape(value, times, level + 1))
                })
        }
        (Value::Array(state), Value::Array(times)) => {
            state.len() == times.len()
                && state.iter().zip(times).all(|(value, times)| has_shape(value, times, level + 1))
        }
        (Value::Object(_) | Value::Array(_), _) => false,
        (_, times) => *times == json!({ "timestamp": 1_800_000_000 }) && level > 1,
    }
}

/// Whether all numbers are such that JSON's values compare as the service compares them.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(is_plain),
        Value::Object(fields) => fields.values().all(is_plain),
        _ => true,
    }
}

async fn run(requests: &[u8]) {
    let shadow = Shadow::new();
    for request in requests.split(|byte| *byte == b'\n').take(20) {
        let (before, _, version) = shadow.read().await;
        let answer = shadow.update(request).await;
        let (after, delta, next) = shadow.read().await;
        let Ok(accepted) = answer else {
            let code = answer.unwrap_err();
            assert!([400, 409, 413, 415].contains(&code), "{code}");
            assert_eq!((&after, next), (&before, version), "rejected");
            continue;
        };
        let request: Value = serde_json::from_slice(request).unwrap();
        assert_eq!((next, &accepted["version"]), (version + 1, &json!(next)));
        assert_eq!(accepted["state"], request["state"]);
        assert_eq!(after, reference::merged(&before, &request["state"]), "{before} {request}");
        if is_plain(&after) {
            assert_eq!(delta, reference::delta(&after));
        }
    }
    settle(&shadow).await;
    shadow.service.shutdown().await;
}

/// The device reports all that is outstanding, if that fits.
async fn settle(shadow: &Shadow) {
    let (before, delta, version) = shadow.read().await;
    if delta.is_null() {
        return;
    }
    let report = json!({ "state": { "reported": delta }, "version": version });
    let answer = shadow.update(report.to_string().as_bytes()).await;
    let (after, delta, _) = shadow.read().await;
    match answer {
        Ok(_) => assert_eq!((&delta, &after["desired"]), (&Value::Null, &before["desired"])),
        Err(code) => assert_eq!(code, 413, "{report}"),
    }
}

fuzz_target!(|requests: &[u8]| RUNTIME.block_on(run(requests)));
