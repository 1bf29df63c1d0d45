//! Signatures of requests: what was signed is taken, what was altered afterwards is not, and whatever a
//! client claims in its header is refused without harm.
//!
//! Input: lines: path and query, a header's value, an `Authorization` header, the body.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz signature`.

#![no_main]

use bytes::Bytes;
use gnomon_api::sigv4::{self, Claim};
use gnomon_core::time::Timestamp;
use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_795_435_200_000);

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (target, value, authorization, body) = (line(), line(), line(), line());
    let request = Request::builder()
        .method("POST")
        .uri(format!("/{target}"))
        .header("host", "localhost")
        .header("x-amz-thing", value)
        .body(Bytes::copy_from_slice(body.as_bytes()));
    let Ok(mut request) = request else { return };
    sigv4::sign(&mut request, "AKID", "secret", "us-east-1", "iot", NOW);
    let (mut parts, body) = request.into_parts();
    let Ok(claim) = Claim::read(&parts) else { return };
    if claim.verify(&parts, &body, "secret", NOW).is_ok() {
        assert!(claim.verify(&parts, &[&body[..], b"x"].concat(), "secret", NOW).is_err());
        assert!(claim.verify(&parts, &body, "secreT", NOW).is_err());
        let mut altered = parts.clone();
        altered.headers.insert("x-amz-thing", HeaderValue::from_static("altered by somebody"));
        assert!(
            value == "altered by somebody" || claim.verify(&altered, &body, "secret", NOW).is_err()
        );
    }
    if let Ok(authorization) = HeaderValue::from_str(authorization) {
        parts.headers.insert("authorization", authorization);
        if let Ok(claim) = Claim::read(&parts) {
            let _ = claim.verify(&parts, &body, "another secret", NOW);
        }
    }
});
