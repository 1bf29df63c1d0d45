//! A guest of the host's tests: functions for rules, each misbehaving in its own way.

use gnomon_sdk::{Plugin, RuleFunction, Value, export};
use std::hint::black_box;
use std::ops::RangeInclusive;

export!(Functions: RuleFunction);

struct Functions;

impl Plugin for Functions {
    type Config = serde_json::Value;

    fn new(_: serde_json::Value) -> Result<Self, String> {
        Ok(Self)
    }
}

impl RuleFunction for Functions {
    const FUNCTIONS: &'static [(&'static str, RangeInclusive<u32>)] = &[
        ("first", 1..=u32::MAX),
        ("refuse", 0..=0),
        ("crash", 0..=0),
        ("spin", 0..=0),
        ("swell", 0..=0),
    ];

    #[allow(clippy::panic, reason = "it is asked to")]
    fn call(&mut self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        match name {
            "first" => Ok(arguments[0].clone()),
            "crash" => panic!("asked to"),
            "spin" => loop {
                black_box(());
            },
            "swell" => Ok("x".repeat(3 * 1_024 * 1_024).into()),
            _ => Err("no".into()),
        }
    }
}
