//! `wasm`: what it costs to call a rule action that is a WebAssembly component.
//!
//! In: how long. Out: a table. The plugin (`noop`) does nothing, so all of the time is the call:
//! taking an instance, copying the messages into its memory, entering it, taking the answer. An
//! action in Rust that does nothing stands beside it.

use crate::cpu::Rate;
use crate::table::{Cell, Table};
use crate::{Result, progress};
use async_trait::async_trait;
use gnomon_core::actions::{Action, ActionContext, ActionError, Failure};
use gnomon_core::ids::{PluginName, RuleName};
use gnomon_core::message::{Message, Publisher as Author};
use gnomon_core::metrics::Metrics;
use gnomon_core::random::SeededRandom;
use gnomon_core::time::{Clock, SystemClock, Timestamp};
use gnomon_core::topic::TopicName;
use gnomon_wasm::{PluginConfig, Plugins, Ports, PublishError, Publisher};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

const PLUGIN: &str = "noop";

/// Calls between two looks at the clock.
const CALLS: u32 = 32;

/// Takes turns, so that a change of the machine's speed meets both sides.
const TURNS: u32 = 4;

/// Builds the plugin, loads it and calls it.
pub fn measure(measured: Duration) -> Result<Table> {
    progress("wasm: building the plugin");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = cargo_gnomon::build(&workspace, &[PLUGIN], &mut |line| progress(line))?;
    let plugin = built.first().ok_or("cargo gnomon built nothing")?;
    let data = tempfile::Builder::new().prefix("gnomon-bench-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let begin = SystemClock.now();
    let plugins = runtime.block_on(load(&plugin.folder, data.path()))?;
    let loaded_in = begin.elapsed();
    let name = PluginName::parse(PLUGIN)?;
    let action = plugins.action(&name).ok_or("the plugin is no rule action")?;
    let mut table = compare(measured, &runtime, &*action)?;
    runtime.block_on(plugins.shutdown());
    table.note(format!(
        "A component of {} KiB, compiled and loaded in {:.0} ms.",
        plugin.bytes.div_ceil(1_024),
        loaded_in.as_secs_f64() * 1e3
    ));
    Ok(table)
}

fn compare(measured: Duration, runtime: &Runtime, action: &dyn Action) -> Result<Table> {
    let mut table = Table::new(
        "Wasm: calls of a rule action that does nothing, CPU time of one thread",
        &["messages per call", "us per call", "native, us", "calls/s", "messages/s"],
    );
    let context = ActionContext {
        rule: RuleName::parse("bench")?,
        action: 0,
        params: "{}".into(),
        is_error_action: false,
        lane: "rule/bench/0".into(),
        positions: Vec::new(),
    };
    for (name, messages, bytes) in [
        ("1 of 64 B", 1, 64),
        ("10 of 64 B", 10, 64),
        ("100 of 64 B", 100, 64),
        ("1 of 1 KiB", 1, 1_024),
        ("100 of 1 KiB", 100, 1_024),
    ] {
        progress(&format!("wasm: {name}"));
        let batch: Vec<_> = (0..messages).map(|_| message(bytes)).collect::<Result<_>>()?;
        let [mut wasm, mut native] = [Rate::default(); 2];
        for _ in 0..TURNS {
            wasm.run(measured / TURNS, || call(runtime, action, &context, &batch))?;
            native.run(measured / TURNS, || call(runtime, &Native, &context, &batch))?;
        }
        table.row([
            name.into(),
            Cell::Number(wasm.nanos() / 1e3),
            Cell::Number(native.nanos() / 1e3),
            Cell::Number(wasm.per_second()),
            Cell::Number(wasm.per_second() * f64::from(messages)),
        ]);
    }
    Ok(table)
}

fn call(
    runtime: &Runtime,
    action: &dyn Action,
    context: &ActionContext,
    messages: &[Arc<Message>],
) -> Result<u32> {
    runtime.block_on(async {
        for _ in 0..CALLS {
            let failures = action.invoke(context, messages).await?;
            if !failures.is_empty() {
                return Err(format!("the action failed: {failures:?}").into());
            }
        }
        Ok(CALLS)
    })
}

async fn load(folder: &Path, data: &Path) -> Result<Plugins> {
    let config: PluginConfig = serde_json::from_value(json!({ "path": folder }))?;
    let ports = Ports {
        clock: Arc::new(SystemClock),
        random: Arc::new(SeededRandom::new(1)),
        metrics: Arc::new(Metrics::default()),
        publisher: Arc::new(Nowhere),
    };
    Ok(Plugins::load(BTreeMap::from([(PLUGIN.into(), config)]), data, ports).await?)
}

fn message(bytes: usize) -> Result<Arc<Message>> {
    let topic = TopicName::parse("sensor/temp")?;
    let payload = vec![b'x'; bytes];
    Ok(Arc::new(Message::new(topic, payload, Arc::<Author>::default(), Timestamp::default())))
}

/// What the plugin is compared with.
struct Native;

#[async_trait]
impl Action for Native {
    async fn invoke(
        &self,
        _: &ActionContext,
        _: &[Arc<Message>],
    ) -> std::result::Result<Vec<Failure>, ActionError> {
        Ok(Vec::new())
    }
}

/// The plugin has no grant to publish.
struct Nowhere;

#[async_trait]
impl Publisher for Nowhere {
    async fn publish(&self, _: Message) -> std::result::Result<(), PublishError> {
        Err(PublishError::Unavailable("a benchmark publishes nothing".into()))
    }
}
