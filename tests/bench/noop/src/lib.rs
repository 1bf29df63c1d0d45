//! The guest of the benchmarks: takes every batch and does nothing with it.

use gnomon_sdk::{ActionContext, Failure, Message, Plugin, RuleAction, export};
use serde::de::IgnoredAny;

export!(Noop: RuleAction);

struct Noop;

impl Plugin for Noop {
    type Config = IgnoredAny;

    fn new(_: IgnoredAny) -> Result<Self, String> {
        Ok(Self)
    }
}

impl RuleAction for Noop {
    type Params = IgnoredAny;

    fn invoke(
        &mut self,
        _: &ActionContext<IgnoredAny>,
        _: &[Message],
    ) -> Result<Vec<Failure>, String> {
        Ok(Vec::new())
    }
}
