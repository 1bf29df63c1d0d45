//! The load: MQTT 3.1.1 clients that publish under a credit and count what arrives.
//!
//! In: a [`Scenario`] and the broker's address. Out: a [`Sample`]; or idle [`subscribe`]d
//! connections. Packets are written by hand: a client library would cost more than the broker.
//! Everything runs on one thread; the tasks share their counters without locks.
//!
//! A publisher has at most `credit` messages that are not yet received by every subscriber (QoS
//! 1: and acknowledged by the broker). So no queue in a broker has to overflow, and a slow
//! subscriber slows its publisher down instead of turning the test into one of queue limits.

use crate::Result;
use gnomon_core::time::{Clock, SystemClock};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

/// Load before the measurement begins: connections, caches and queues settle.
const WARM_UP: Duration = Duration::from_millis(500);

/// Wait for an answer to CONNECT or SUBSCRIBE.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A window that has not moved for so long has lost its messages.
const STALL: Duration = Duration::from_secs(1);

/// Bytes that a connection reads at once: 64 messages of 1 KiB.
const READ_BYTES: usize = 64 * 1_024;

/// Publisher (4 bytes) and sequence number (8 bytes) at the beginning of each payload.
const PAYLOAD_HEADER_BYTES: usize = 12;

/// Who publishes what to whom.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Each has its own topic.
    pub publishers: u32,
    /// Each gets everything.
    pub subscribers: u32,
    /// Of the messages and the subscriptions.
    pub qos: Qos,
    /// At least 12.
    pub payload_bytes: usize,
    /// Messages that a publisher has under way.
    pub credit: u16,
}

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Messages that arrived at subscribers while it was measured.
    pub delivered: u64,
    /// CPU time that the broker took for them.
    pub cpu: Duration,
    /// How long it was measured.
    pub wall: Duration,
    /// Messages that never arrived, warm-up included.
    pub lost: u64,
}

/// Runs the load; `cpu` reads the CPU time that the broker has taken so far.
pub async fn run(
    scenario: &Scenario,
    address: SocketAddr,
    measured: Duration,
    cpu: impl Fn() -> Result<Duration>,
) -> Result<Sample> {
    let load = Rc::new(Load::new(scenario));
    let local = LocalSet::new();
    let run = async {
        let mut tasks = load.clone().start(address).await?;
        tokio::select! {
            // Whoever ends, ends because of an error.
            Some(ended) = tasks.join_next() => {
                ended??;
                Err("a client ended before the measurement did".into())
            }
            sample = load.measure(measured, cpu) => sample,
        }
    };
    local.run_until(run).await
}

/// Connects a client and subscribes it with QoS 1; it stays idle for as long as it is kept.
pub async fn subscribe(address: SocketAddr, id: &str, filter: &str) -> Result<TcpStream> {
    let mut stream = connect(address, id).await?;
    subscribe_on(&mut stream, filter, Qos::AtLeastOnce).await?;
    Ok(stream)
}

struct Load {
    scenario: Scenario,
    windows: Vec<Window>,
    sent: Cell<u64>,
    delivered: Cell<u64>,
    stop: Cell<bool>,
}

impl Load {
    fn new(scenario: &Scenario) -> Self {
        let acknowledgements = match scenario.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
        };
        let receipts = scenario.subscribers + acknowledgements;
        let window = |_| Window::new(scenario.credit, receipts);
        Self {
            scenario: *scenario,
            windows: (0..scenario.publishers).map(window).collect(),
            sent: Cell::new(0),
            delivered: Cell::new(0),
            stop: Cell::new(false),
        }
    }

    /// Connects everyone, subscribers first, and starts them.
    async fn start(self: Rc<Self>, address: SocketAddr) -> Result<JoinSet<Result<()>>> {
        let mut tasks = JoinSet::new();
        for number in 0..self.scenario.subscribers {
            let mut stream = connect(address, &format!("bench-subscriber-{number}")).await?;
            subscribe_on(&mut stream, "bench/+", self.scenario.qos).await?;
            tasks.spawn_local(self.clone().receive(stream));
        }
        for number in 0..self.scenario.publishers {
            let stream = connect(address, &format!("bench-publisher-{number}")).await?;
            let (reader, writer) = stream.into_split();
            tasks.spawn_local(self.clone().publish(number, writer));
            tasks.spawn_local(self.clone().take_acknowledgements(number, reader));
        }
        Ok(tasks)
    }

    async fn measure(
        &self,
        measured: Duration,
        cpu: impl Fn() -> Result<Duration>,
    ) -> Result<Sample> {
        self.wait(WARM_UP).await;
        let (start, cpu_before, delivered_before) =
            (SystemClock.now(), cpu()?, self.delivered.get());
        self.wait(measured).await;
        let delivered = self.delivered.get() - delivered_before;
        let (cpu, wall) = (cpu()?.saturating_sub(cpu_before), start.elapsed());
        self.stop.set(true);
        let lost = self.drain().await;
        Ok(Sample { delivered, cpu, wall, lost })
    }

    /// Lets the load run on, and gives stalled publishers their credit back.
    async fn wait(&self, duration: Duration) {
        let end = SystemClock.now() + duration;
        loop {
            let left = end.saturating_duration_since(SystemClock.now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(STALL)).await;
            if left >= STALL {
                self.windows.iter().for_each(Window::forgive_if_stalled);
            }
        }
    }

    /// Waits for what is still under way; returns how much never arrived.
    async fn drain(&self) -> u64 {
        let missing = || {
            let expected = self.sent.get() * u64::from(self.scenario.subscribers);
            expected.saturating_sub(self.delivered.get())
        };
        let mut before = u64::MAX;
        while missing() > 0 && missing() < before {
            before = missing();
            for _ in 0..100 {
                sleep(STALL / 100).await;
                if missing() == 0 {
                    break;
                }
            }
        }
        missing()
    }

    async fn publish(self: Rc<Self>, number: u32, mut writer: OwnedWriteHalf) -> Result<()> {
        let window = &self.windows[number as usize];
        let mut template = Template::new(number, &self.scenario);
        let mut batch = Vec::new();
        loop {
            batch.clear();
            while !self.stop.get()
                && let Some(sequence) = window.take()
            {
                batch.extend_from_slice(template.fill(sequence, window.packet_id(sequence)));
                self.sent.set(self.sent.get() + 1);
            }
            if batch.is_empty() {
                window.freed.notified().await;
            } else {
                writer.write_all(&batch).await?;
            }
        }
    }

    async fn take_acknowledgements(
        self: Rc<Self>,
        number: u32,
        mut reader: OwnedReadHalf,
    ) -> Result<()> {
        let window = &self.windows[number as usize];
        let mut buffer = Buffer::new();
        loop {
            buffer.read(&mut reader).await?;
            while let Some(packet) = buffer.next()? {
                match packet {
                    (0x40, [high, low]) => {
                        window.acknowledged(u16::from_be_bytes([*high, *low]));
                    }
                    (first, _) => {
                        return Err(
                            format!("a publisher got packet {first:#04x}, not PUBACK").into()
                        );
                    }
                }
            }
        }
    }

    async fn receive(self: Rc<Self>, mut stream: TcpStream) -> Result<()> {
        let mut expected = vec![0; self.windows.len()];
        let mut buffer = Buffer::new();
        let mut acknowledgements = Vec::new();
        loop {
            buffer.read(&mut stream).await?;
            while let Some((first, body)) = buffer.next()? {
                let publish = Publish::read(first, body)?;
                if let Some([high, low]) = publish.packet_id {
                    acknowledgements.extend_from_slice(&[0x40, 2, high, low]);
                }
                let publisher = publish.publisher as usize;
                let window = self.windows.get(publisher).ok_or("no such publisher")?;
                // [MQTT-4.6.0-6]; counted as delivered, a repetition would hide a loss.
                if publish.sequence < expected[publisher] {
                    return Err("the broker sent a message twice or out of order".into());
                }
                self.delivered.set(self.delivered.get() + 1);
                window.received(&mut expected[publisher], publish.sequence);
            }
            if !acknowledgements.is_empty() {
                stream.write_all(&acknowledgements).await?;
                acknowledgements.clear();
            }
        }
    }
}

/// What a publisher has under way: the sequence numbers from `first` to before `next`.
struct Window {
    /// Receipts that each message needs.
    receipts: u32,
    state: RefCell<WindowState>,
    /// Told whenever `first` moves.
    freed: Notify,
}

struct WindowState {
    first: u64,
    next: u64,
    /// Receipts that are missing, at the sequence number modulo the credit.
    missing: Vec<u32>,
    /// `first` at the last look for a stall.
    first_before: u64,
}

impl Window {
    fn new(credit: u16, receipts: u32) -> Self {
        let missing = vec![0; usize::from(credit)];
        let state = WindowState { first: 0, next: 0, missing, first_before: 0 };
        Self { receipts, state: RefCell::new(state), freed: Notify::new() }
    }

    /// The next sequence number, if there is credit for it.
    fn take(&self) -> Option<u64> {
        let state = &mut *self.state.borrow_mut();
        let sequence = state.next;
        if sequence - state.first >= state.missing.len() as u64 {
            return None;
        }
        let slot = state.slot(sequence);
        state.missing[slot] = self.receipts;
        state.next += 1;
        Some(sequence)
    }

    /// Unique among what is under way; 1 to the credit.
    fn packet_id(&self, sequence: u64) -> u16 {
        let slot = self.state.borrow().slot(sequence);
        u16::try_from(slot + 1).expect("the credit is a u16 and the slot is below it")
    }

    /// A PUBACK came.
    fn acknowledged(&self, packet_id: u16) {
        let first = self.state.borrow().first;
        let slot_of_first = self.packet_id(first) - 1;
        let credit = self.state.borrow().missing.len() as u64;
        let slot = u64::from(packet_id.saturating_sub(1));
        self.receipt(first + (slot + credit - u64::from(slot_of_first)) % credit);
        self.advance();
    }

    /// A subscriber, which expected `expected`, got `sequence`: what lies between is lost to it.
    fn received(&self, expected: &mut u64, sequence: u64) {
        for sequence in *expected..=sequence {
            self.receipt(sequence);
        }
        *expected = sequence + 1;
        self.advance();
    }

    fn receipt(&self, sequence: u64) {
        let state = &mut *self.state.borrow_mut();
        if (state.first..state.next).contains(&sequence) {
            let slot = state.slot(sequence);
            state.missing[slot] = state.missing[slot].saturating_sub(1);
        }
    }

    fn advance(&self) {
        let state = &mut *self.state.borrow_mut();
        let before = state.first;
        while state.first < state.next && state.missing[state.slot(state.first)] == 0 {
            state.first += 1;
        }
        if state.first > before {
            self.freed.notify_one();
        }
    }

    /// Gives the credit of lost messages back; they are counted at the end.
    fn forgive_if_stalled(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.first == state.first_before && state.first < state.next {
            state.first = state.next;
            self.freed.notify_one();
        }
        state.first_before = state.first;
    }
}

impl WindowState {
    fn slot(&self, sequence: u64) -> usize {
        usize::try_from(sequence % self.missing.len() as u64).expect("below the length of a Vec")
    }
}

/// A PUBLISH packet of one publisher; only packet identifier and sequence number change.
struct Template {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    sequence_at: usize,
}

impl Template {
    fn new(publisher: u32, scenario: &Scenario) -> Self {
        let mut body = text(&format!("bench/{publisher}"));
        let packet_id_at = match scenario.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(body.len()),
        };
        body.extend(packet_id_at.map(|_| [0; 2]).into_iter().flatten());
        body.extend(publisher.to_be_bytes());
        let sequence_at = body.len();
        body.extend([0; 8]);
        body.resize(body.len() + scenario.payload_bytes.saturating_sub(PAYLOAD_HEADER_BYTES), b'x');
        let bytes = packet(0x30 | (scenario.qos as u8) << 1, &body);
        let header = bytes.len() - body.len();
        Self {
            bytes,
            packet_id_at: packet_id_at.map(|at| at + header),
            sequence_at: sequence_at + header,
        }
    }

    fn fill(&mut self, sequence: u64, packet_id: u16) -> &[u8] {
        if let Some(at) = self.packet_id_at {
            self.bytes[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        self.bytes[self.sequence_at..self.sequence_at + 8].copy_from_slice(&sequence.to_be_bytes());
        &self.bytes
    }
}

/// What a subscriber reads of a PUBLISH.
#[derive(Debug, PartialEq, Eq)]
struct Publish {
    packet_id: Option<[u8; 2]>,
    publisher: u32,
    sequence: u64,
}

impl Publish {
    fn read(first: u8, body: &[u8]) -> Result<Self> {
        if first >> 4 != 3 {
            return Err(
                format!("the broker sent packet type {} instead of PUBLISH", first >> 4).into()
            );
        }
        let parse = || {
            let (topic_len, rest) = body.split_first_chunk::<2>()?;
            let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
            let mut packet_id = None;
            if first & 0b110 != 0 {
                let (id, after) = rest.split_first_chunk::<2>()?;
                (packet_id, rest) = (Some(*id), after);
            }
            let (publisher, rest) = rest.split_first_chunk::<4>()?;
            let sequence = u64::from_be_bytes(*rest.first_chunk::<8>()?);
            Some(Self { packet_id, publisher: u32::from_be_bytes(*publisher), sequence })
        };
        parse().ok_or_else(|| "the broker sent a PUBLISH that is too short".into())
    }
}

/// Bytes that were read and not yet taken as packets.
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; READ_BYTES].into(), start: 0, end: 0 }
    }

    async fn read(&mut self, reader: &mut (impl AsyncReadExt + Unpin)) -> Result<()> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.bytes.len() {
            return Err("the broker sent a packet beyond 64 KiB".into());
        }
        match reader.read(&mut self.bytes[self.end..]).await? {
            0 => Err("the broker closed a connection".into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }

    /// First byte and body of the next whole packet.
    fn next(&mut self) -> Result<Option<(u8, &[u8])>> {
        let unread = &self.bytes[self.start..self.end];
        let mut len = 0;
        for (index, byte) in unread.iter().enumerate().skip(1) {
            if index > 4 {
                return Err("the broker sent a malformed Remaining Length".into());
            }
            len |= usize::from(byte & 0x7f) << (7 * (index - 1));
            if byte & 0x80 == 0 {
                let body = self.start + index + 1;
                if body + len > self.end {
                    return Ok(None);
                }
                let first = unread[0];
                self.start = body + len;
                return Ok(Some((first, &self.bytes[body..self.start])));
            }
        }
        Ok(None)
    }
}

async fn connect(address: SocketAddr, id: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // Level 4 (3.1.1), Clean Session, Keep Alive 0 (none).
    let mut body = text("MQTT");
    body.extend([4, 2, 0, 0]);
    body.extend(text(id));
    stream.write_all(&packet(0x10, &body)).await?;
    let answer: [u8; 4] = answer(&mut stream).await?;
    if answer != [0x20, 2, 0, 0] {
        return Err(format!("the broker answered {answer:02x?} to CONNECT").into());
    }
    Ok(stream)
}

async fn subscribe_on(stream: &mut TcpStream, filter: &str, qos: Qos) -> Result<()> {
    let mut body = vec![0, 1];
    body.extend(text(filter));
    body.push(qos as u8);
    stream.write_all(&packet(0x82, &body)).await?;
    let answer: [u8; 5] = answer(stream).await?;
    if answer != [0x90, 3, 0, 1, qos as u8] {
        return Err(format!("the broker answered {answer:02x?} to SUBSCRIBE").into());
    }
    Ok(())
}

async fn answer<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N]> {
    let mut answer = [0; N];
    match timeout(ANSWER_TIMEOUT, stream.read_exact(&mut answer)).await {
        Ok(Ok(_)) => Ok(answer),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// A fixed header and its body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let digit = u8::try_from(left & 0x7f).expect("seven bits");
        left >>= 7;
        bytes.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A text with its length in front.
fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("the texts of this file are short");
    [&len.to_be_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAN_IN: Scenario = Scenario {
        publishers: 2,
        subscribers: 1,
        qos: Qos::AtLeastOnce,
        payload_bytes: 200,
        credit: 3,
    };

    #[tokio::test]
    async fn what_a_template_writes_is_read_back_from_pieces() {
        let mut template = Template::new(1, &FAN_IN);
        let bytes: Vec<u8> =
            [template.fill(0, 1).to_vec(), template.fill(1 << 40, 3).to_vec()].concat();
        let (mut buffer, mut seen) = (Buffer::new(), Vec::new());
        for piece in bytes.chunks(7) {
            buffer.read(&mut &*piece).await.unwrap();
            while let Some((first, body)) = buffer.next().unwrap() {
                seen.push(Publish::read(first, body).unwrap());
            }
        }
        let publish = |packet_id, sequence| Publish { packet_id, publisher: 1, sequence };
        assert_eq!(seen, [publish(Some([0, 1]), 0), publish(Some([0, 3]), 1 << 40)]);
    }

    #[test]
    fn credit_comes_back_in_order_when_everyone_has_the_message() {
        let window = Window::new(2, 2);
        assert_eq!([window.take(), window.take(), window.take()], [Some(0), Some(1), None]);
        let mut expected = 0;
        window.acknowledged(2);
        window.received(&mut expected, 0);
        assert_eq!(window.take(), None, "the broker has not acknowledged message 0");
        window.acknowledged(1);
        assert_eq!(window.take(), Some(2));
        window.received(&mut expected, 1);
        assert_eq!([window.take(), window.take()], [Some(3), None]);
    }

    #[test]
    fn what_a_subscriber_skipped_gives_its_credit_back() {
        let window = Window::new(3, 1);
        while window.take().is_some() {}
        let mut expected = 0;
        window.received(&mut expected, 2);
        assert_eq!((expected, window.take()), (3, Some(3)));
    }

    #[test]
    fn a_window_that_does_not_move_is_given_up() {
        let window = Window::new(1, 1);
        assert_eq!([window.take(), window.take()], [Some(0), None]);
        window.forgive_if_stalled();
        assert_eq!(window.take(), Some(1));
        // The late receipt must not count for the next message.
        window.received(&mut 0, 0);
        assert_eq!(window.take(), None);
    }
}
