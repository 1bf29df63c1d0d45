//! One publisher: sends under its window, or by its schedule, and takes acknowledgements.

use crate::decode::Packet;
use crate::dial::{Dialed, Session, ping_due};
use crate::encode::{self, Template};
use crate::error::Failure;
use crate::link::Link;
use crate::payload::Header;
use crate::plan::End;
use crate::reason::Reason;
use crate::traffic::{State, Traffic};
use crate::window::Window;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

/// A message that is later than this behind its schedule waited for the broker, and its latency
/// counts from when it was due. Below, it waited for our own timer, which has steps of 1 ms.
const GRAIN: Duration = Duration::from_millis(2);

/// Runs publisher `number` until the end of the run; `permit` is for its opening.
pub async fn run(traffic: Rc<Traffic>, number: usize, permit: OwnedSemaphorePermit) {
    let plan = &traffic.dialer.plan;
    let client_id = format!("{}-pub-{number}", plan.client_id);
    let session = Session { client_id: &client_id, clean: true, session_expiry_s: 0 };
    let dialed = traffic.dialer.dial(session, |packet, _| unexpected(&packet)).await;
    drop(permit);
    let mut publisher = Publisher::new(&traffic, number);
    let result = match dialed {
        Ok(dialed) => {
            traffic.settle();
            let result = publisher.live(dialed).await;
            traffic.stats().connected.sub_one();
            result
        }
        Err(failure) => {
            traffic.settle();
            Err(failure)
        }
    };
    // In the same turn as settling, so that nobody counts on a publisher that failed.
    publisher.done();
    if let Err(failure) = result {
        traffic.failed(&failure);
    }
}

struct Publisher<'a> {
    traffic: &'a Traffic,
    number: u32,
    window: &'a Window,
    template: Template,
    /// Messages that it may still send.
    left: u64,
    sent: u64,
    done: bool,
}

impl<'a> Publisher<'a> {
    fn new(traffic: &'a Traffic, number: usize) -> Self {
        let plan = &traffic.plan;
        let topics = &plan.topology.topics;
        let common = &traffic.dialer.plan;
        let template = Template::new(
            common.protocol,
            &topics[number],
            common.qos,
            plan.retain,
            plan.payload_bytes,
        );
        let left = match plan.end {
            End::Messages(all) => {
                let (publishers, number) = (topics.len() as u64, number as u64);
                all / publishers + u64::from(number < all % publishers)
            }
            End::After(_) => u64::MAX,
        };
        Self {
            traffic,
            number: u32::try_from(number).expect("the plan bounds the publishers"),
            window: &traffic.windows[number],
            template,
            left,
            sent: 0,
            done: false,
        }
    }

    async fn live(&mut self, dialed: Dialed) -> Result<(), Failure> {
        let Dialed { mut link, receive_max, mut pings } = dialed;
        if receive_max < self.traffic.plan.window {
            self.window.limit(receive_max);
        }
        loop {
            let due = match self.traffic.state() {
                State::Publishing => self.fill(&mut link),
                State::Connecting | State::Draining => None,
                State::Closing => {
                    link.close().await;
                    return Ok(());
                }
            };
            let (traffic, window) = (self.traffic, self.window);
            // All are cancel-safe: bytes stay in the link, and `wake` keeps its permit.
            tokio::select! {
                result = link.turn(|packet, out| take(traffic, window, &packet, out)) => result?,
                () = window.wake.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = ping_due(&mut pings) => link.out.extend(encode::PINGREQ),
            }
        }
    }

    /// Appends what may be sent now; returns when the next message is due, if time decides.
    fn fill(&mut self, link: &mut Link) -> Option<Instant> {
        let stats = self.traffic.stats();
        while link.has_room() {
            if self.left == 0 {
                self.done();
                return None;
            }
            let now = Instant::now();
            let due = self.due();
            if due.is_some_and(|due| due > now) {
                return due;
            }
            let (sequence, packet_id, receivers) = self.window.take()?;
            let late = due.filter(|due| now.duration_since(*due) > GRAIN);
            let header = Header {
                run: self.traffic.run,
                publisher: self.number,
                sequence,
                micros: self.traffic.micros(late.unwrap_or(now)),
            };
            self.template.write(&mut link.out, packet_id, &header);
            (self.sent, self.left) = (self.sent + 1, self.left - 1);
            stats.sent.add(1);
            stats.expected.add(receivers.into());
        }
        None
    }

    /// When the next message is due; publishers take turns.
    fn due(&self) -> Option<Instant> {
        let rate = self.traffic.plan.rate?;
        let turn = self.sent as f64 * self.traffic.windows.len() as f64 + f64::from(self.number);
        Some(self.traffic.publishing_since() + Duration::from_secs_f64(turn / rate))
    }

    fn done(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            self.traffic.publisher_done();
        }
    }
}

fn take(
    traffic: &Traffic,
    window: &Window,
    packet: &Packet<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let Packet::Acknowledgement { first, packet_id, reason } = *packet else {
        return unexpected(packet);
    };
    let refused = reason >= 0x80;
    let name = match first {
        encode::PUBACK => "PUBACK",
        encode::PUBREC if !refused => {
            encode::acknowledge(out, encode::PUBREL, packet_id);
            return Ok(());
        }
        encode::PUBREC => "PUBREC",
        encode::PUBCOMP => "PUBCOMP",
        _ => "PUBREL",
    };
    let stats = traffic.stats();
    if refused {
        stats.error(&format!("{name}: {}", Reason::of(reason)));
    }
    if window.acknowledge(packet_id) {
        stats.acknowledged.add(1);
    } else {
        stats.error(&format!("{name} for a message that does not wait for it"));
    }
    Ok(())
}

/// What a client that only publishes may be sent.
fn unexpected(packet: &Packet<'_>) -> Result<(), Failure> {
    match packet {
        Packet::PingResp => Ok(()),
        Packet::Disconnect(code) => Err(Failure::Disconnected(Reason::of(*code))),
        _ => Err(Failure::Unexpected("a publisher")),
    }
}
