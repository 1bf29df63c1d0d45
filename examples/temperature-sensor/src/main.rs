//! `cargo demo`: the customer's example, whole and real, with nothing asked.
//!
//! Sets up what is missing, builds plugins and host, starts the host as its own process, and is
//! from then on an ordinary user of it: signs REST requests (`provision`), connects a simulated
//! sensor by MQTT over mutual TLS (`sensor`), and takes what the rule's WebAssembly action posts
//! (`receiver`). State lives in `gnomon-data`; a second start finds it.

mod host;
mod provision;
mod receiver;
mod sensor;

use host::{Host, Process};
use receiver::Receiver;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Everything that the demo makes, beside the host's own files.
const DATA: &str = "gnomon-data";

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("\nThe demo cannot go on: {error}"));
            let mut source = error.source();
            while let Some(cause) = source {
                say(&format!("  because {cause}"));
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    say("Gnomon demo: a temperature sensor, a rule, and a WebAssembly action\n");
    say("[1/4] Building the plugins (adds the WebAssembly target when it is missing)");
    let plugins = cargo_gnomon::build(&workspace, &["webhook"], &mut say)?;
    let webhook = plugins.first().ok_or("the webhook plugin was not built")?;
    say("[2/4] Building the host (the first time takes some minutes)");
    let binary = host::build(&workspace)?;
    let data = PathBuf::from(DATA);
    std::fs::create_dir_all(&data)?;
    let receiver = Receiver::open().await?;
    say("[3/4] Starting the host\n");
    let config = configuration(&webhook.folder, &receiver);
    let (mut process, host) = Process::start(&binary, &data, &config).await?;

    let result = tokio::select! {
        result = show(&host, &data, &receiver) => result,
        status = process.wait() => Err(format!("the host has stopped ({})", status?).into()),
        ended = asked_to_end() => ended,
    };
    say("\nStopping; `cargo demo` goes on from here.");
    process.stop().await?;
    result
}

/// Waits for Ctrl-C or SIGTERM.
async fn asked_to_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}

/// Provisions and runs the sensor until something fails.
async fn show(host: &Host, data: &Path, receiver: &Receiver) -> Result<()> {
    say("\n[4/4] Setting up the sensor, as anybody would by the AWS CLI:");
    let credentials = provision::provision(host, data, receiver).await?;
    say("\nRunning. The rule fires above 30 degrees. Ctrl-C ends it.\n");
    tokio::try_join!(sensor::run(host, &credentials), receiver.run())?;
    Ok(())
}

/// What the operator grants: the webhook plugin may post to the demo's own receiver, and nowhere
/// else.
fn configuration(webhook: &Path, receiver: &Receiver) -> String {
    format!(
        "# Written by `cargo demo` at every start.\n\
         [plugins.webhook]\n\
         path = {:?}\n\
         [plugins.webhook.grants]\n\
         http = [{:?}]\n",
        webhook.display().to_string(),
        receiver.origin(),
    )
}

/// Tells the user.
#[allow(clippy::print_stdout, reason = "the terminal is what the demo is for")]
pub fn say(text: &str) {
    println!("{text}");
}
