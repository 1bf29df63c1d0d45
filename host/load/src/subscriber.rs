//! One subscriber: acknowledges, counts, and gives publishers their credit.

use crate::decode::Packet;
use crate::dial::{Dialed, Session, ping_due};
use crate::encode;
use crate::error::Failure;
use crate::payload;
use crate::reason::Reason;
use crate::sequence::Arrival;
use crate::topology::Subscription;
use crate::traffic::{State, Trackers, Traffic, trackers};
use std::rc::Rc;
use tokio::sync::OwnedSemaphorePermit;

/// Runs subscriber `number` until the end of the run; `permit` is for its opening.
pub async fn run(traffic: Rc<Traffic>, number: usize, permit: OwnedSemaphorePermit) {
    let subscriber = Subscriber::new(&traffic, number);
    let opened = subscriber.open(number).await;
    drop(permit);
    traffic.settle();
    let result = match opened {
        Ok(dialed) => {
            let result = subscriber.live(dialed, number).await;
            traffic.stats().connected.sub_one();
            result
        }
        Err(failure) => Err(failure),
    };
    if let Err(failure) = result {
        traffic.failed(&failure);
        if !traffic.plan.topology.shared {
            for publisher in traffic.plan.topology.publishers_of(number) {
                traffic.windows[publisher].receiver_gone();
            }
        }
    }
}

struct Subscriber<'a> {
    traffic: &'a Traffic,
    subscription: &'a Subscription,
    /// Of the publishers that the subscription covers; of all of them when it is shared.
    trackers: Trackers,
    first_publisher: u32,
}

impl<'a> Subscriber<'a> {
    fn new(traffic: &'a Traffic, number: usize) -> Self {
        let subscription = &traffic.plan.topology.subscriptions[number];
        let (trackers, first_publisher) = match &traffic.group {
            Some(group) => (group.clone(), 0),
            None => (trackers(subscription.covers.len()), subscription.covers.start),
        };
        Self { traffic, subscription, trackers, first_publisher }
    }

    async fn open(&self, number: usize) -> Result<Dialed, Failure> {
        let (dialer, plan) = (&self.traffic.dialer, &self.traffic.dialer.plan);
        let client_id = format!("{}-sub-{number}", plan.client_id);
        let session = Session {
            client_id: &client_id,
            clean: plan.clean,
            session_expiry_s: plan.session_expiry_s,
        };
        // A session that was there before may have messages, even before SUBACK.
        let mut dialed = dialer.dial(session, |packet, out| self.take(&packet, out)).await?;
        let filter = &self.subscription.filter;
        let take = |packet: Packet<'_>, out: &mut Vec<u8>| self.take(&packet, out);
        if let Err(failure) = dialer.subscribe(&mut dialed.link, filter, take).await {
            self.traffic.stats().connected.sub_one();
            return Err(failure);
        }
        Ok(dialed)
    }

    async fn live(&self, dialed: Dialed, number: usize) -> Result<(), Failure> {
        let Dialed { mut link, mut pings, .. } = dialed;
        let wake = &self.traffic.wakes[number];
        loop {
            if self.traffic.state() == State::Closing {
                link.close().await;
                return Ok(());
            }
            // All are cancel-safe: bytes stay in the link, and `wake` keeps its permit.
            tokio::select! {
                result = link.turn(|packet, out| self.take(&packet, out)) => result?,
                () = wake.notified() => {}
                () = ping_due(&mut pings) => link.out.extend(encode::PINGREQ),
            }
        }
    }

    fn take(&self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match *packet {
            Packet::Publish { qos, packet_id, payload } => {
                match qos {
                    0 => {}
                    1 => encode::acknowledge(out, encode::PUBACK, packet_id),
                    _ => encode::acknowledge(out, encode::PUBREC, packet_id),
                }
                self.message(payload);
                Ok(())
            }
            Packet::Acknowledgement { first: encode::PUBREL, packet_id, .. } => {
                encode::acknowledge(out, encode::PUBCOMP, packet_id);
                Ok(())
            }
            Packet::PingResp => Ok(()),
            Packet::Disconnect(code) => Err(Failure::Disconnected(Reason::of(code))),
            _ => Err(Failure::Unexpected("a subscriber")),
        }
    }

    fn message(&self, payload: &[u8]) {
        let (traffic, stats) = (self.traffic, self.traffic.stats());
        stats.received.add(1);
        let header = payload::read(payload).filter(|header| header.run == traffic.run);
        let own = header.and_then(|header| {
            let window = traffic.windows.get(header.publisher as usize)?;
            let tracker = header.publisher.checked_sub(self.first_publisher)? as usize;
            // Nobody can have a message that was not sent.
            window.has_sent(header.sequence).then_some((header, window, tracker))
        });
        let mut trackers = self.trackers.borrow_mut();
        let own =
            own.and_then(|(header, window, at)| Some((header, window, trackers.get_mut(at)?)));
        let Some((header, window, tracker)) = own else {
            stats.foreign.add(1);
            return;
        };
        // Members of a shared subscription overtake each other; it is no loss and no disorder.
        let in_order = !traffic.plan.topology.shared;
        match tracker.arrived(header.sequence) {
            Arrival::New { skipped } => {
                stats.unique.add(1);
                if in_order {
                    skipped.for_each(|sequence| window.received(sequence));
                }
                window.received(header.sequence);
            }
            Arrival::Late => {
                stats.unique.add(1);
                if in_order {
                    stats.reordered.add(1);
                } else {
                    window.received(header.sequence);
                }
            }
            Arrival::Duplicate => stats.duplicated.add(1),
        }
        if header.micros != payload::NO_TIME {
            traffic.record_latency(header.micros);
        }
    }
}
