//! Rules SQL: whatever the statement and the payload, an evaluation ends within its bounds.
//!
//! Input: a statement, a NUL, a payload. A statement that parses is evaluated on the payload, and a
//! result of columns is a JSON object; the trace agrees with the statement that it is one; templates
//! end too. A seed corpus of statements makes it reach further.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz sql`.

#![no_main]

use gnomon_core::message::Message;
use gnomon_core::random::SeededRandom;
use gnomon_core::rules::sql::{
    Answers, Datum, EvaluationError, Input, Statement, Template, Version, evaluate, trace,
};
use gnomon_core::time::Timestamp;
use gnomon_core::topic::TopicName;
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let Ok(text) = std::str::from_utf8(&bytes[..at]) else { return };
    let payload = bytes.get(at + 1..).unwrap_or_default();
    let topic = TopicName::parse("site/hall/temp").expect("it is a topic");
    let message = Message::new(topic, payload.to_vec(), Arc::default(), Timestamp::default());
    for version in [Version::V2015, Version::V2016] {
        let statement = match Statement::parse_version(text, version) {
            Ok(statement) => statement,
            Err(error) => {
                assert!(error.line >= 1 && error.column >= 1);
                continue;
            }
        };
        let random = SeededRandom::new(1);
        let mut answers = Answers::default();
        // Every call that is asked for is answered, so this ends.
        let result = loop {
            let input = Input {
                message: &message,
                now: Timestamp::from_millis(1_700_000_000_123),
                random: &random,
                account: "123456789012",
                answers: &answers,
            };
            match evaluate(&statement, &input) {
                Err(EvaluationError::Needs(call)) => {
                    let answer = match call.arguments.len() % 3 {
                        0 => Ok(Datum::Json(r#"{"state":{"a":[1,2]}}"#.to_owned())),
                        1 => Ok(call.arguments[0].clone()),
                        _ => Err("no answer".to_owned()),
                    };
                    answers.add(*call, answer);
                }
                result => break result,
            }
        };
        let upper = text.trim_start().to_ascii_uppercase();
        let is_columns = !upper.contains("VALUE") && !upper.contains('*');
        if let Ok(Some(json)) = &result
            && is_columns
            && !upper.starts_with("SET")
        {
            let parsed: serde_json::Value = serde_json::from_slice(json).expect("it is JSON");
            assert!(parsed.is_object(), "{parsed}");
        }
        let input = Input {
            message: &message,
            now: Timestamp::default(),
            random: &random,
            account: "1",
            answers: &answers,
        };
        // Each part again from the beginning: too slow for the largest statements.
        if text.len() < 1_000 {
            trace(text, version, &input).expect("it parses");
        }
        if let Ok(Some(template)) = Template::parse(&statement, text) {
            let _ = template.render(&statement, &input);
        }
    }
});
