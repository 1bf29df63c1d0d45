//! Opening connections: TCP, TLS, WebSocket, CONNECT, SUBSCRIBE; and how many at a time.
//!
//! Bounds: [`AT_ONCE`] connections are being opened at a time; the broker has
//! `error::ANSWER_TIMEOUT` to answer.

use crate::decode::{ConnAck, Packet};
use crate::encode::{self, Connect};
use crate::error::{ANSWER_TIMEOUT, Failure};
use crate::link::{Link, Stream};
use crate::plan::Plan;
use crate::reason::Reason;
use crate::stats::Stats;
use crate::target;
use crate::websocket::ByteStream;
use rustls::HandshakeKind;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, interval_at, sleep_until, timeout};

/// Connections that are being opened at a time; below the backlog of any listener.
const AT_ONCE: usize = 64;

/// Opens the connections of a run.
pub struct Dialer {
    /// What all have in common.
    pub plan: Rc<Plan>,
    /// Where they are counted.
    pub stats: Rc<Stats>,
    address: SocketAddr,
    opened: Cell<u64>,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Not empty.
    pub client_id: &'a str,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// 5.0 only.
    pub session_expiry_s: u32,
}

/// A connection whose CONNECT was accepted.
pub struct Dialed {
    /// The connection.
    pub link: Link,
    /// Messages with QoS 1 and 2 that the broker takes at once.
    pub receive_max: u16,
    /// When to send PINGREQ, if ever.
    pub pings: Option<Interval>,
}

impl Dialer {
    /// Opens connections to one address.
    pub fn new(plan: Rc<Plan>, stats: Rc<Stats>, address: SocketAddr) -> Self {
        Self { plan, stats, address, opened: Cell::new(0) }
    }

    /// Connects a client; `take` gets what the broker sends behind its CONNACK.
    pub async fn dial(
        &self,
        session: Session<'_>,
        take: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<Dialed, Failure> {
        let number = self.opened.replace(self.opened.get() + 1);
        let opening = self.open(number, session, take);
        timeout(ANSWER_TIMEOUT, opening).await.unwrap_or(Err(Failure::TimedOut("CONNECT")))
    }

    async fn open(
        &self,
        number: u64,
        session: Session<'_>,
        mut take: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<Dialed, Failure> {
        let (plan, begin) = (&*self.plan, Instant::now());
        let (stream, handshake) = self.stream(number).await?;
        let mut link = Link::new(stream, plan.protocol);
        let connect = Connect {
            protocol: plan.protocol,
            client_id: session.client_id,
            username: plan.username.as_deref(),
            password: plan.password.as_deref(),
            clean: session.clean,
            session_expiry_s: session.session_expiry_s,
            keep_alive_s: plan.keep_alive_s,
        };
        encode::connect(&mut link.out, &connect);
        let mut answer = None;
        while answer.is_none() {
            let accept = |packet: Packet<'_>, out: &mut Vec<u8>| match packet {
                Packet::ConnAck(connack) => {
                    answer = Some(connack);
                    Ok(())
                }
                other => take(other, out),
            };
            link.turn(accept).await?;
        }
        let Some(ConnAck { code: 0, receive_max, server_keep_alive_s }) = answer else {
            let code = answer.map_or(0, |connack| connack.code);
            return Err(Failure::ConnectRefused(Reason::of_connect(plan.protocol, code)));
        };
        self.stats.opened(begin.elapsed(), handshake);
        let pings = pings(server_keep_alive_s.unwrap_or(plan.keep_alive_s));
        Ok(Dialed { link, receive_max, pings })
    }

    async fn stream(&self, number: u64) -> Result<(Stream, Option<HandshakeKind>), Failure> {
        let (stream, handshake) = self.socket(number).await?;
        let Some(uri) = self.plan.target.websocket.clone() else { return Ok((stream, handshake)) };
        let stream = ByteStream::connect(uri, stream).await.map_err(Failure::Upgrade)?;
        Ok((Stream::WebSocket(Box::new(stream)), handshake))
    }

    async fn socket(&self, number: u64) -> Result<(Stream, Option<HandshakeKind>), Failure> {
        let stream = target::open(self.address, number).await.map_err(Failure::Connect)?;
        let Some(tls) = &self.plan.tls else { return Ok((Stream::Plain(stream), None)) };
        let handshake = tls.connector.connect(tls.server_name.clone(), stream);
        let stream = handshake.await.map_err(Failure::Handshake)?;
        let kind = stream.get_ref().1.handshake_kind();
        Ok((Stream::Tls(Box::new(stream)), kind))
    }

    /// Subscribes a client; `take` gets what arrives meanwhile.
    pub async fn subscribe(
        &self,
        link: &mut Link,
        filter: &str,
        mut take: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        encode::subscribe(&mut link.out, self.plan.protocol, filter, self.plan.qos);
        let mut answer = None;
        let answered = async {
            while answer.is_none() {
                let accept = |packet: Packet<'_>, out: &mut Vec<u8>| match packet {
                    Packet::SubAck(code) => {
                        answer = Some(code);
                        Ok(())
                    }
                    other => take(other, out),
                };
                link.turn(accept).await?;
            }
            Ok(())
        };
        timeout(ANSWER_TIMEOUT, answered).await.unwrap_or(Err(Failure::TimedOut("SUBSCRIBE")))?;
        match answer {
            Some(granted) if granted < self.plan.qos.level() => {
                let level = self.plan.qos.level();
                self.stats.error(&format!("QoS {granted} granted instead of {level}"));
                Ok(())
            }
            Some(code @ 0x80..) => Err(Failure::SubscribeRefused(Reason::of(code))),
            _ => Ok(()),
        }
    }
}

/// A quarter before the keep-alive is over.
fn pings(keep_alive_s: u16) -> Option<Interval> {
    let period = Duration::from_secs(keep_alive_s.into()) * 3 / 4;
    (!period.is_zero()).then(|| interval_at(Instant::now() + period, period))
}

/// Waits for the next PINGREQ that is due; cancel-safe, and for ever without keep-alive.
pub async fn ping_due(pings: &mut Option<Interval>) {
    match pings {
        Some(pings) => {
            pings.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Lets connections begin: so many per second, and so many at a time.
pub struct Gate {
    begin: Instant,
    rate: Option<f64>,
    passed: u32,
    permits: Arc<Semaphore>,
}

impl Gate {
    /// Opens now.
    pub fn new(rate: Option<f64>) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self { begin: Instant::now(), rate, passed: 0, permits }
    }

    /// Waits until one more may begin; the permit is for as long as it is being opened.
    pub async fn pass(&mut self) -> OwnedSemaphorePermit {
        if let Some(rate) = self.rate {
            let after = Duration::from_secs_f64(f64::from(self.passed) / rate);
            sleep_until(self.begin + after).await;
        }
        self.passed += 1;
        let permit = self.permits.clone().acquire_owned().await;
        permit.expect("nobody closes the semaphore")
    }
}
