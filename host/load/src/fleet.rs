//! Clients that are connected and do nothing: for the cost of connecting, and of being connected.
//!
//! In: a plan with `connections_only`. Out: counters; the connections live as long as the
//! [`Fleet`].

use crate::decode::Packet;
use crate::dial::{Dialer, Gate, Session, ping_due};
use crate::encode;
use crate::error::{Failure, LoadError};
use crate::files;
use crate::plan::{Hold, Plan, Work};
use crate::reason::Reason;
use crate::report::Report;
use crate::stats::Stats;
use crate::topology::expand;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// For all clients to say DISCONNECT.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that grow in number; dropping it drops them. Lives in a
/// [`LocalSet`](tokio::task::LocalSet).
pub struct Fleet {
    shared: Rc<Shared>,
    tasks: JoinSet<()>,
    close: watch::Sender<bool>,
    begun: u32,
}

struct Shared {
    dialer: Dialer,
    filter: Option<String>,
    /// Clients that are connected and subscribed, or failed to be.
    settled: Cell<u32>,
    changed: Notify,
}

impl Fleet {
    /// No connection yet; makes sure that somebody listens and that enough files may be open.
    ///
    /// # Errors
    /// The plan is not for connections only, the broker is not there, or the system allows too
    /// few files.
    pub async fn new(plan: Plan) -> Result<Self, LoadError> {
        let Work::Hold(Hold { filter, .. }) = &plan.work else {
            let what = "a fleet only connects; set it to how many clients it may become";
            return Err(LoadError::option("connections-only", what));
        };
        let filter = filter.clone();
        files::allow(plan.connections())?;
        let address = plan.target.resolve().await?;
        let dialer = Dialer::new(Rc::new(plan), Rc::new(Stats::new()), address);
        let (settled, changed) = (Cell::new(0), Notify::new());
        let shared = Rc::new(Shared { dialer, filter, settled, changed });
        Ok(Self { shared, tasks: JoinSet::new(), close: watch::Sender::new(false), begun: 0 })
    }

    /// Opens so many more connections; returns when each is connected and subscribed, or failed.
    /// Failures are counted in the report.
    pub async fn grow(&mut self, connections: u32) {
        let mut gate = Gate::new(self.shared.dialer.plan.connect_rate);
        for _ in 0..connections {
            let permit = gate.pass().await;
            let close = self.close.subscribe();
            self.tasks.spawn_local(hold(self.shared.clone(), self.begun, permit, close));
            self.begun += 1;
        }
        while self.shared.settled.get() < self.begun {
            self.shared.changed.notified().await;
        }
    }

    /// What has been counted so far.
    pub fn report(&self) -> Report {
        Report::of_connections(self.stats(), self.shared.dialer.plan.qos)
    }

    /// Disconnects all.
    pub async fn close(mut self) {
        self.close.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // Whoever takes longer is aborted with the set.
        let _ = timeout(CLOSE_TIMEOUT, all).await;
    }

    pub(crate) fn stats(&self) -> &Rc<Stats> {
        &self.shared.dialer.stats
    }
}

async fn hold(
    shared: Rc<Shared>,
    number: u32,
    permit: OwnedSemaphorePermit,
    close: watch::Receiver<bool>,
) {
    if let Err(failure) = live(&shared, number, permit, close).await {
        let stats = &shared.dialer.stats;
        stats.failed.add(1);
        stats.error(&failure.to_string());
    }
}

async fn live(
    shared: &Shared,
    number: u32,
    permit: OwnedSemaphorePermit,
    mut close: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let (dialer, stats) = (&shared.dialer, &shared.dialer.stats);
    let settle = || {
        shared.settled.set(shared.settled.get() + 1);
        shared.changed.notify_one();
    };
    let client_id = format!("{}-{number}", dialer.plan.client_id);
    let session = Session {
        client_id: &client_id,
        clean: dialer.plan.clean,
        session_expiry_s: dialer.plan.session_expiry_s,
    };
    let dialed = dialer.dial(session, take).await.inspect_err(|_| settle())?;
    let (mut link, mut pings) = (dialed.link, dialed.pings);
    let mut result = Ok(());
    if let Some(filter) = &shared.filter {
        result = dialer.subscribe(&mut link, &expand(filter, number), take).await;
    }
    drop(permit);
    settle();
    while result.is_ok() {
        // All are cancel-safe: bytes stay in the link.
        tokio::select! {
            biased; // The end must not wait for a busy broker.
            _ = close.wait_for(|close| *close) => {
                link.close().await;
                break;
            }
            turned = link.turn(take) => result = turned,
            () = ping_due(&mut pings) => link.out.extend(encode::PINGREQ),
        }
    }
    stats.connected.sub_one();
    result
}

/// Messages that somebody else publishes are acknowledged and not looked at.
fn take(packet: Packet<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    match packet {
        Packet::Publish { qos: 1, packet_id, .. } => {
            encode::acknowledge(out, encode::PUBACK, packet_id);
        }
        Packet::Publish { qos: 2, packet_id, .. } => {
            encode::acknowledge(out, encode::PUBREC, packet_id);
        }
        Packet::Acknowledgement { first: encode::PUBREL, packet_id, .. } => {
            encode::acknowledge(out, encode::PUBCOMP, packet_id);
        }
        Packet::Publish { .. } | Packet::PingResp => {}
        Packet::Disconnect(code) => return Err(Failure::Disconnected(Reason::of(code))),
        _ => return Err(Failure::Unexpected("a client")),
    }
    Ok(())
}
