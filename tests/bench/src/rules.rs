//! `rules`: evaluations of Rules SQL per CPU second, from the raw payload.
//!
//! In: how long. Out: a table, with a native filter of the same question beside each statement:
//! what a programmer would have written by hand, with serde.

use crate::cpu::Rate;
use crate::table::{Cell, Table};
use crate::{Result, progress};
use gnomon_core::message::{Message, Publisher};
use gnomon_core::random::SeededRandom;
use gnomon_core::rules::sql::{self, Answers, Input, Statement, Version};
use gnomon_core::time::Timestamp;
use gnomon_core::topic::TopicName;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Evaluations between two looks at the clock: below a millisecond.
const BATCH: u32 = 256;

/// Takes turns, so that a change of the machine's speed meets both sides.
const TURNS: u32 = 4;

/// Fields that the large statement compares.
const CONDITIONS: usize = 20;

/// Measures all statements.
pub fn measure(measured: Duration) -> Result<Table> {
    let mut table = Table::new(
        "Rules: evaluations per CPU second of one thread, from the raw payload",
        &["statement and payload", "rule", "native", "rule/native", "rule, ns"],
    );
    let one = "SELECT * FROM 'sensor/temp' WHERE temp > 30";
    for (name, statement, payload, native) in [
        ("1 condition, passes, 64 B", one.into(), reading(31, 64), hot as Native),
        ("1 condition, fails, 64 B", one.into(), reading(29, 64), hot as Native),
        ("1 condition, passes, 1 KiB", one.into(), reading(31, 1_024), hot as Native),
        (
            "20 conditions, passes, 1 KiB",
            many_conditions(),
            many_fields(1_024),
            all_in_range as Native,
        ),
        ("nested array of 10, passes, 1 KiB", NESTED.into(), events(1_024), any_hot as Native),
    ] {
        progress(&format!("rules: {name}"));
        let statement = Statement::parse_version(&statement, Version::V2016)?;
        let message = message(payload)?;
        let random = SeededRandom::new(1);
        let input = Input {
            message: &message,
            now: Timestamp::from_millis(0),
            random: &random,
            account: "123456789012",
            answers: &Answers::NONE,
        };
        let rule = || sql::evaluate(&statement, &input).is_ok_and(|result| result.is_some());
        let native = || native(&message.payload);
        if rule() != native() {
            return Err(format!("the rule and the native filter disagree: {name}").into());
        }
        let [mut by_rule, mut by_native] = [Rate::default(); 2];
        for _ in 0..TURNS {
            by_rule.run(measured / TURNS, || repeat(rule))?;
            by_native.run(measured / TURNS, || repeat(native))?;
        }
        table.row([
            name.into(),
            Cell::Number(by_rule.per_second()),
            Cell::Number(by_native.per_second()),
            Cell::Number(by_rule.per_second() / by_native.per_second()),
            Cell::Number(by_rule.nanos()),
        ]);
    }
    table.note("Native: serde_json into a struct of the fields that are compared, then `if`.");
    Ok(table)
}

fn repeat(question: impl Fn() -> bool) -> Result<u32> {
    for _ in 0..BATCH {
        black_box(question());
    }
    Ok(BATCH)
}

type Native = fn(&[u8]) -> bool;

fn hot(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Reading {
        temp: f64,
    }
    serde_json::from_slice(payload).is_ok_and(|reading: Reading| reading.temp > 30.0)
}

fn all_in_range(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Readings {
        readings: Fields,
    }
    /// Named as [`many_fields`] names them.
    #[derive(Deserialize)]
    #[rustfmt::skip]
    struct Fields {
        f0: f64, f1: f64, f2: f64, f3: f64, f4: f64, f5: f64, f6: f64, f7: f64, f8: f64, f9: f64,
        f10: f64, f11: f64, f12: f64, f13: f64, f14: f64, f15: f64, f16: f64, f17: f64, f18: f64,
        f19: f64,
    }
    serde_json::from_slice(payload).is_ok_and(|Readings { readings: f }: Readings| {
        #[rustfmt::skip]
        let fields: [f64; CONDITIONS] = [
            f.f0, f.f1, f.f2, f.f3, f.f4, f.f5, f.f6, f.f7, f.f8, f.f9,
            f.f10, f.f11, f.f12, f.f13, f.f14, f.f15, f.f16, f.f17, f.f18, f.f19,
        ];
        fields.iter().all(|field| *field > 30.0)
    })
}

/// What is selected from the elements of an array, if one of them passes.
const NESTED: &str = "SELECT (SELECT VALUE v FROM e WHERE n = 'temperature') AS t \
    FROM 'sensor/temp' WHERE EXISTS (SELECT v FROM e WHERE n = 'temperature' AND v > 30)";

fn any_hot(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Events {
        e: Vec<Event>,
    }
    #[derive(Deserialize)]
    struct Event {
        n: String,
        v: f64,
    }
    #[derive(Serialize)]
    struct Selected {
        t: Vec<f64>,
    }
    let Ok(Events { e }) = serde_json::from_slice(payload) else { return false };
    let t: Vec<_> = e.iter().filter(|it| it.n == "temperature").map(|it| it.v).collect();
    let passes = t.iter().any(|v| *v > 30.0);
    if passes {
        black_box(serde_json::to_vec(&Selected { t }).unwrap_or_default());
    }
    passes
}

/// Ten readings in an array, among other members.
fn events(bytes: usize) -> String {
    let event = |number: u32| match number {
        7 => r#"{"n":"temperature","v":31.5}"#.to_owned(),
        _ => format!(r#"{{"n":"humidity{number}","v":{number}.5}}"#),
    };
    let events: Vec<_> = (0..10).map(event).collect();
    padded(&format!(r#","e":[{}]}}"#, events.join(",")), bytes)
}

/// A temperature among other members.
fn reading(temp: u32, bytes: usize) -> String {
    padded(&format!(r#","temp":{temp},"unit":"C"}}"#), bytes)
}

fn many_conditions() -> String {
    let conditions: Vec<_> =
        (0..CONDITIONS).map(|number| format!("readings.f{number} > 30")).collect();
    format!("SELECT * FROM 'sensor/temp' WHERE {}", conditions.join(" AND "))
}

/// Everything that [`many_conditions`] compares, among other members.
fn many_fields(bytes: usize) -> String {
    let fields: Vec<_> =
        (0..CONDITIONS).map(|number| format!(r#""f{number}":{}.25"#, number + 31)).collect();
    padded(&format!(r#","readings":{{{}}}}}"#, fields.join(",")), bytes)
}

/// An object of this length; `end` are its last members.
fn padded(end: &str, bytes: usize) -> String {
    let mut payload = String::from(r#"{"device":"sensor-1""#);
    let note = r#","note":"""#;
    for number in 0.. {
        let field = format!(r#","field{number}":{number}.5"#);
        if payload.len() + field.len() + note.len() + end.len() > bytes {
            break;
        }
        payload += &field;
    }
    let filler = bytes.saturating_sub(payload.len() + note.len() + end.len());
    payload + &format!(r#","note":"{:x<filler$}"{end}"#, "")
}

fn message(payload: String) -> Result<Message> {
    let topic = TopicName::parse("sensor/temp")?;
    let publisher = Arc::new(Publisher::default());
    Ok(Message::new(topic, payload, publisher, Timestamp::from_millis(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_of_the_length_that_the_table_says() {
        for (payload, bytes) in [
            (reading(31, 64), 64),
            (reading(31, 1_024), 1_024),
            (many_fields(1_024), 1_024),
            (events(1_024), 1_024),
        ] {
            assert_eq!(payload.len(), bytes, "{payload}");
            assert!(serde_json::from_str::<serde_json::Value>(&payload).is_ok(), "{payload}");
        }
    }
}
