//! `kill -9` under load: nothing acknowledged is lost, and QoS 2 is delivered once.
//!
//! Publishers and subscribers with persistent sessions (3.1.1, Clean Session 0) work while the
//! host is killed and started again. Each keeps what the protocol tells it to keep, so that its
//! next connection goes on where the last one was lost. In the end what publishers were told is
//! held against what subscribers got.

use crate::aws::Aws;
use crate::host::{Host, LAB};
use crate::mqtt::{packet, text};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KILLS: usize = 6;
const PUBLISHERS: usize = 4;
const WINDOW: usize = 16;
/// Acknowledgements between two kills.
const ACKNOWLEDGED_PER_LIFE: usize = 1_500;
/// Half seconds without a message after which nothing more is expected.
const QUIET: usize = 6;

/// What all clients of the test see.
#[derive(Default)]
struct World {
    /// 0 while no host runs.
    port: AtomicU16,
    acknowledged: AtomicUsize,
    /// Publishers finish what they began and end.
    is_over: AtomicBool,
    /// Nothing more is published: subscribers end when nothing more comes.
    is_drained: AtomicBool,
}

/// One connection; errors mean that it is lost.
struct Link(TcpStream);

impl Link {
    /// Connects with Clean Session 0; `None` when no host answers.
    fn open(world: &World, client_id: &str) -> Option<Self> {
        let port = world.port.load(Ordering::SeqCst);
        let mut link = Self(TcpStream::connect(("127.0.0.1", port)).ok()?);
        link.0.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0];
        text(&mut body, client_id);
        link.send(&packet(0x10, &body))?;
        let (first, connack) = link.next()??;
        assert_eq!((first, connack[1]), (0x20, 0), "{client_id}: {connack:02x?}");
        Some(link)
    }

    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.write_all(bytes).ok()
    }

    fn acknowledge(&mut self, first: u8, id: u16) -> Option<()> {
        let [high, low] = id.to_be_bytes();
        self.send(&[first, 2, high, low])
    }

    /// The next packet, `Some(None)` when nothing comes for half a second.
    fn next(&mut self) -> Option<Option<(u8, Vec<u8>)>> {
        let mut first = [0];
        match self.0.read(&mut first) {
            Ok(1) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(None),
            _ => return None,
        }
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let mut byte = [0];
            self.0.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some(Some((first[0], body)))
    }
}

fn id(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// How far the handshake of a message has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// PUBLISH is to be sent, again with DUP.
    Publish { dup: bool },
    /// PUBREC came: PUBREL is to be sent.
    Release,
}

/// Publishes until the world is over; returns what was acknowledged, with its QoS.
fn publish(world: &World, number: usize) -> Vec<(String, u8)> {
    let client_id = format!("publisher-{number}");
    let mut acknowledged = Vec::new();
    let mut inflight: BTreeMap<u16, (String, u8, Stage)> = BTreeMap::new();
    // The order of identifiers is the order of sending: they are given out once.
    let mut last_id = 0_u16;
    while !(world.is_over.load(Ordering::SeqCst) && inflight.is_empty()) {
        let Some(mut link) = Link::open(world, &client_id) else {
            std::thread::yield_now();
            continue;
        };
        for (id, (payload, qos, stage)) in &mut inflight {
            if send(&mut link, *id, payload, *qos, stage).is_none() {
                break;
            }
        }
        loop {
            while inflight.len() < WINDOW && !world.is_over.load(Ordering::SeqCst) {
                last_id += 1;
                let qos = 1 + u8::from(last_id.is_multiple_of(2));
                let payload = format!("{number}-{last_id}");
                let mut stage = Stage::Publish { dup: false };
                let sent = send(&mut link, last_id, &payload, qos, &mut stage);
                inflight.insert(last_id, (payload, qos, stage));
                if sent.is_none() {
                    break;
                }
            }
            if inflight.is_empty() {
                break;
            }
            let Some(next) = link.next() else { break };
            let Some((first, body)) = next else { continue };
            let id = id(&body);
            match first {
                // PUBACK, PUBCOMP
                0x40 | 0x70 => {
                    if let Some((payload, qos, _)) = inflight.remove(&id) {
                        acknowledged.push((payload, qos));
                        world.acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                }
                // PUBREC
                0x50 => {
                    let Some((_, _, stage)) = inflight.get_mut(&id) else { continue };
                    *stage = Stage::Release;
                    if link.acknowledge(0x62, id).is_none() {
                        break;
                    }
                }
                other => panic!("{client_id} got a packet {other:#x}"),
            }
        }
    }
    acknowledged
}

fn send(link: &mut Link, id: u16, payload: &str, qos: u8, stage: &mut Stage) -> Option<()> {
    match stage {
        Stage::Release => link.acknowledge(0x62, id),
        Stage::Publish { dup } => {
            let first = 0x30 | qos << 1 | u8::from(*dup) << 3;
            *dup = true;
            let mut body = Vec::new();
            text(&mut body, &format!("durable/{payload}"));
            body.extend(id.to_be_bytes());
            body.extend(payload.as_bytes());
            link.send(&packet(first, &body))
        }
    }
}

/// Takes everything with this QoS until nothing more comes; returns how often each came.
fn subscribe(world: &World, client_id: &str, qos: u8, ready: &AtomicUsize) -> HashMap<String, u32> {
    let mut got = HashMap::new();
    let mut unreleased = BTreeSet::new();
    let mut is_subscribed = false;
    let mut quiet = 0;
    while quiet < QUIET {
        let Some(mut link) = Link::open(world, client_id) else {
            std::thread::yield_now();
            continue;
        };
        if !is_subscribed {
            let mut body = vec![0, 1];
            text(&mut body, "durable/#");
            body.push(qos);
            let _ = link.send(&packet(0x82, &body));
        }
        while quiet < QUIET {
            let Some(next) = link.next() else { break };
            let Some((first, body)) = next else {
                quiet += usize::from(world.is_drained.load(Ordering::SeqCst));
                continue;
            };
            quiet = 0;
            let answered = match first & 0xf0 {
                0x90 => {
                    assert_eq!(body[2], qos, "SUBACK");
                    is_subscribed = true;
                    ready.fetch_add(1, Ordering::SeqCst);
                    Some(())
                }
                0x30 => {
                    let at = 2 + usize::from(id(&body));
                    let message_id = id(&body[at..]);
                    let payload = String::from_utf8(body[at + 2..].to_vec()).unwrap();
                    let is_qos_2 = first & 0x06 == 0x04;
                    // [MQTT-4.3.3-2]: not again until it was released.
                    if !is_qos_2 || unreleased.insert(message_id) {
                        *got.entry(payload).or_insert(0) += 1;
                    }
                    link.acknowledge(if is_qos_2 { 0x50 } else { 0x40 }, message_id)
                }
                0x60 => {
                    unreleased.remove(&id(&body));
                    link.acknowledge(0x70, id(&body))
                }
                other => panic!("{client_id} got a packet {other:#x}"),
            };
            if answered.is_none() {
                break;
            }
        }
    }
    got
}

#[allow(clippy::disallowed_methods, reason = "another process lives in real time")]
fn wait_until(what: &str, timeout: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_host_is_killed_again_and_again() {
    let configuration = format!("[limits]\nqueue_messages = 60000\nqueue_bytes = 99999999\n{LAB}");
    let mut host = Host::start(&configuration);
    let Some(aws) = Aws::of(&host) else { return };
    aws.create_lab_policy();
    let world = Arc::new(World::default());
    world.port.store(host.port("lab"), Ordering::SeqCst);
    let ready = Arc::new(AtomicUsize::new(0));
    let got: Arc<Mutex<BTreeMap<u8, HashMap<String, u32>>>> = Arc::default();
    let subscribers = [1, 2].map(|qos| {
        let (world, ready, got) = (world.clone(), ready.clone(), got.clone());
        std::thread::spawn(move || {
            let all = subscribe(&world, &format!("subscriber-{qos}"), qos, &ready);
            got.lock().unwrap().insert(qos, all);
        })
    });
    wait_until("subscribed", Duration::from_secs(30), || ready.load(Ordering::SeqCst) == 2);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let world = world.clone();
            std::thread::spawn(move || publish(&world, number))
        })
        .collect();
    for life in 1..=KILLS {
        wait_until("acknowledged", Duration::from_secs(120), || {
            world.acknowledged.load(Ordering::SeqCst) >= life * ACKNOWLEDGED_PER_LIFE
        });
        world.port.store(0, Ordering::SeqCst);
        host.kill_and_restart();
        world.port.store(host.port("lab"), Ordering::SeqCst);
    }
    world.is_over.store(true, Ordering::SeqCst);
    let acknowledged: Vec<_> =
        publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect();
    assert!(acknowledged.len() >= KILLS * ACKNOWLEDGED_PER_LIFE);
    world.is_drained.store(true, Ordering::SeqCst);
    for subscriber in subscribers {
        subscriber.join().unwrap();
    }

    let got = got.lock().unwrap();
    for (payload, sent_with) in &acknowledged {
        for (qos, messages) in &*got {
            let times = messages.get(payload).copied().unwrap_or(0);
            assert!(times > 0, "{payload} was acknowledged and is lost for QoS {qos}");
            // Once, if both ends spoke QoS 2.
            if *qos == 2 && *sent_with == 2 {
                assert_eq!(times, 1, "{payload}");
            }
        }
    }
}
