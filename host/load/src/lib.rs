//! MQTT load for any broker: `gnomon bench`, and what the benchmarks measure brokers with.
//!
//! In: [`Options`] of a command line. Out: a [`Report`]. Clients publish numbered messages, count
//! what arrives, and time it; or they only connect and stay ([`Fleet`]).
//! A load costs as little as it can, so that the broker is what is measured: one thread, one task
//! per connection, one buffer for all that read, packets written by hand and many with one call.
//! Not here: anything of Gnomon; the broker is whoever the URL names.
//! Reading order: `options`, `plan` (with `target`, `tls`, `topology`), `drive`, `traffic`,
//! `publisher`, `subscriber` (with `window`, `sequence`), `fleet`, `dial`, `link` (with
//! `websocket`), `encode`, `decode`, `report`.

mod decode;
mod dial;
mod drive;
mod encode;
mod error;
mod files;
mod fleet;
mod link;
mod observer;
mod options;
mod payload;
mod plan;
mod publisher;
mod reason;
mod report;
mod sequence;
mod stats;
mod subscriber;
mod target;
mod terminal;
mod tls;
mod topology;
mod traffic;
mod websocket;
mod window;

pub use drive::drive;
pub use error::LoadError;
pub use fleet::Fleet;
pub use observer::{Observer, Point, Progress};
pub use options::{Options, Protocol, Qos, Shape};
pub use plan::Plan;
pub use report::{Connections, Measured, Messages, Quantiles, Report};

/// Does what the options say and shows progress on stderr; Ctrl-C ends the run, not the report.
///
/// # Errors
/// There is nothing to report: an option is wrong, or the broker cannot be reached.
pub fn run(options: &Options) -> Result<Report, LoadError> {
    let plan = Plan::new(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminal = terminal::Terminal::new(options.quiet);
    runtime.block_on(drive(plan, &mut terminal, interrupt()))
}

async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the process, as it would without this line.
        std::future::pending::<()>().await;
    }
}
