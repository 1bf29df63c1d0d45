//! What happens in a run: the steps, one after the other, as the dice fall, and the quiet end.

use crate::checker::{MessageId, Sent};
use crate::device::{Device, Kind, Outgoing};
use crate::topics;
use crate::world::{Disk, World, sent, subscribe};
use bytes::Bytes;
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::limits::Limits;
use gnomon_core::message::{Properties, QoS};
use gnomon_core::packet::{
    Ack, Connect, Disconnect, Packet, PacketId, Publish, Reason, Unsubscribe, Version, Will,
};
use gnomon_core::session::{Compat, Config};
use gnomon_core::topic::{TopicFilter, TopicName};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// Steps of a run.
const STEPS: usize = 1_500;

/// Rounds in which everything has to come to rest; a window of one takes four for a message.
const ROUNDS_MAX: usize = 4_000;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A host and devices of a seed.
fn world(seed: u64, disk: Disk) -> World {
    let dice = crate::dice::Dice::new(seed);
    let is_tight = dice.once_in(3);
    let limits = Limits {
        inflight_messages: dice.pick(&[1, 3, 20]),
        log_bytes: if dice.once_in(3) { 3_000 } else { 1_000_000 },
        ..Limits::default()
    };
    let bounds = QueueBounds {
        messages_max: if is_tight { 6 } else { 50_000 },
        bytes_max: if is_tight { 60 } else { 1_000_000 },
    };
    let config = Config {
        limits,
        connect_timeout: Duration::from_secs(1_000_000),
        compat: Compat::Mqtt,
        redirect: None,
        metrics: Arc::default(),
        tells_offences: false,
    };
    let devices = (0..8).map(|number| {
        let version = if dice.once_in(3) { Version::V311 } else { Version::V5 };
        let (kind, expiry_s) = match number {
            0..=3 if version == Version::V5 && dice.once_in(3) => (Kind::Durable, 60),
            0..=3 => (Kind::Durable, u32::MAX),
            4 | 5 => (Kind::Worker, u32::MAX),
            _ => (Kind::Clean, 0),
        };
        Device::new(&format!("device-{number}"), kind, version, expiry_s)
    });
    let devices = devices.collect();
    let fault_rate = dice.pick(&[0, 16, 64, 128]);
    World::new(seed, config, bounds, devices, fault_rate, disk)
}

/// Runs a seed; what the checker objects to is in the world.
pub fn run(seed: u64, disk: Disk, is_told: bool) -> World {
    let mut world = world(seed, disk);
    if is_told {
        world.tell();
    }
    let crash_rate = world.dice.pick(&[50, 200, 1_000]);
    for _ in 0..STEPS {
        step(&mut world, crash_rate);
        world.sweep();
        if !world.checker.objections.is_empty() {
            return world;
        }
    }
    finish(&mut world);
    world
}

fn step(world: &mut World, crash_rate: usize) {
    if world.dice.once_in(crash_rate) {
        return world.crash();
    }
    if world.dice.once_in(40) {
        let seconds = world.dice.pick(&[1, 3, 20]);
        return world.advance(seconds);
    }
    let device = world.dice.below(world.devices.len());
    let count = world.dice.below(6) + 1;
    let connections = world.connections.len();
    match world.dice.below(10) {
        0..=3 => act(world, device),
        4 => {
            world.commit();
        }
        5 => world.check_retained(),
        _ if connections == 0 => {}
        6 | 7 => {
            let at = world.dice.below(connections);
            world.read(at, count);
        }
        8 => {
            let at = world.dice.below(connections);
            world.poll_queue(at, count);
        }
        _ => {
            let at = world.dice.below(connections);
            if !world.connections[at].is_deserted {
                world.receive(at, count);
            }
        }
    }
}

/// One thing that a device does.
fn act(world: &mut World, device: usize) {
    if !world.devices[device].is_online {
        let clean_start = world.dice.once_in(25);
        return connect(world, device, clean_start, true);
    }
    if !world.devices[device].is_connected {
        return;
    }
    match world.dice.below(24) {
        0 => leave(world, device),
        1..=3 => wish(world, device),
        4..=13 => publish_something(world, device),
        _ => {
            let count = world.dice.below(4) + 1;
            acknowledge(world, device, count);
        }
    }
}

fn push(world: &mut World, device: usize, packet: Packet) {
    let connection = world.connection_of(device).expect("a device that is online has one");
    connection.to_server.push_back(packet);
}

fn connect(world: &mut World, device: usize, clean_start: bool, with_will: bool) {
    let Device { id, kind, version, expiry_s, .. } = &world.devices[device];
    let (client_id, version, session_expiry_s) = (id.clone(), *version, *expiry_s);
    let clean_start = *kind == Kind::Clean || (*kind == Kind::Durable && clean_start);
    let will = (with_will && world.dice.once_in(3)).then(|| {
        let id = world.checker.messages.len();
        let is_will = true;
        let message = Sent { is_will, ..sent(device, topics::WILL, QoS::AtLeastOnce, id) };
        world.checker.make(message);
        Box::new(Will {
            topic: TopicName::parse(topics::WILL).unwrap(),
            payload: id.to_string().into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            delay_s: if version == Version::V5 { world.dice.pick(&[0, 0, 5]) } else { 0 },
            properties: None,
        })
    });
    let window = NonZeroU16::new(world.dice.pick(&[1, 4, 30]));
    let connect = Connect {
        version,
        clean_start,
        keep_alive_s: 0,
        client_id: Some(client_id),
        username: None,
        password: None,
        will,
        session_expiry_s,
        receive_maximum: window.filter(|_| version == Version::V5),
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        authentication: None,
        user_properties: Vec::new(),
    };
    world.connect(device, connect);
}

/// The device says goodbye or is gone, with or without the host's knowledge.
fn leave(world: &mut World, device: usize) {
    let how = world.dice.below(3);
    let Some(at) = world.connections.iter().position(|it| it.device == device && !it.is_deserted)
    else {
        return;
    };
    let connection = &mut world.connections[at];
    connection.is_deserted = true;
    world.devices[device].disconnected();
    if how == 0 {
        let reason = Reason::Success;
        let farewell = Disconnect { reason, session_expiry_s: None, reason_string: None };
        connection.to_server.push_back(Packet::Disconnect(Box::new(farewell)));
        return;
    }
    let arrives = world.dice.below(connection.to_server.len() + 1);
    connection.to_server.truncate(arrives);
    if how == 1 {
        let count = world.dice.below(arrives + 1);
        world.read(at, count);
        world.lose(at);
    }
}

fn wish(world: &mut World, device: usize) {
    let id = world.devices[device].next_packet_id();
    if world.devices[device].kind == Kind::Worker {
        let filter = topics::SHARED[device % topics::SHARED.len()];
        return push(world, device, subscribe(id, filter, QOS[1 + device % 2]));
    }
    let which = world.dice.below(topics::FILTERS.len());
    let filter = topics::FILTERS[which];
    let packet = if world.dice.once_in(4) {
        let filters = vec![TopicFilter::parse(filter).unwrap()];
        Packet::Unsubscribe(Box::new(Unsubscribe { packet_id: id, filters }))
    } else {
        // Always the same for a device, so that a promise does not depend on which one counts.
        subscribe(id, filter, QOS[(which + device) % 3])
    };
    push(world, device, packet);
}

fn publish_something(world: &mut World, device: usize) {
    let (dice, id) = (&world.dice, world.checker.messages.len());
    let qos = QOS[dice.below(3)];
    let mut message = match dice.below(6) {
        0 => Sent { retain: true, ..sent(device, dice.pick(topics::RETAINED), qos, id) },
        1 => sent(device, topics::WORK, qos, id),
        _ => sent(device, dice.pick(topics::ORDINARY), qos, id),
    };
    if message.retain && qos > QoS::AtMostOnce && dice.once_in(4) {
        message.payload = Bytes::new();
    }
    message.expires = !message.retain && dice.once_in(10);
    publish(world, device, message);
}

fn publish(world: &mut World, device: usize, message: Sent) {
    let window = usize::from(world.config.limits.inflight_messages);
    if world.devices[device].outgoing.len() >= window {
        return;
    }
    let qos = message.qos;
    let message = world.checker.make(message);
    let owner = &mut world.devices[device];
    let packet_id = (qos > QoS::AtMostOnce).then(|| owner.next_packet_id());
    if let Some(packet_id) = packet_id {
        owner.outgoing.push_back(Outgoing { packet_id, message, is_received: false });
    }
    let packet = packet(world, message, packet_id, false);
    push(world, device, packet);
}

fn packet(world: &World, message: MessageId, packet_id: Option<PacketId>, dup: bool) -> Packet {
    let Sent { topic, qos, retain, payload, expires, .. } = &world.checker.messages[message];
    Packet::Publish(Publish {
        dup,
        qos: *qos,
        retain: *retain,
        topic: Some(TopicName::parse(topic).unwrap()),
        packet_id,
        topic_alias: None,
        payload: payload.clone(),
        properties: expires
            .then(|| Box::new(Properties { expiry_s: Some(2), ..Properties::default() })),
    })
}

/// [MQTT-4.4.0-1] what is under way is sent again, in its order.
pub fn send_again(world: &mut World, device: usize) {
    for outgoing in world.devices[device].outgoing.clone() {
        let Outgoing { packet_id, message, is_received, .. } = outgoing;
        let packet = match is_received {
            true => Packet::PubRel(Ack { packet_id, reason: Reason::Success }),
            false => packet(world, message, Some(packet_id), true),
        };
        push(world, device, packet);
    }
}

fn acknowledge(world: &mut World, device: usize, max: usize) {
    for _ in 0..max {
        let Some(packet) = world.devices[device].owed.pop_front() else { return };
        push(world, device, packet);
    }
}

/// Faults stop, everybody comes back and acknowledges: what was promised must be there.
fn finish(world: &mut World) {
    world.end_trouble();
    world.advance(10);
    rest(world);
    // Who is subscribed gets something new, too.
    for topic in topics::ORDINARY.iter().chain(topics::RETAINED).chain([&topics::WORK]) {
        let id = world.checker.messages.len();
        publish(world, 0, sent(0, topic, QoS::AtLeastOnce, id));
        rest(world);
    }
    world.check_retained();
    world.checker.finish();
    let records = world.records();
    if records > 0 {
        world.checker.objections.push(format!("the log still holds {records} records"));
    }
}

/// Goes on until nothing happens any more.
fn rest(world: &mut World) {
    for _ in 0..ROUNDS_MAX {
        let mut is_quiet = true;
        for device in 0..world.devices.len() {
            if !world.devices[device].is_online {
                is_quiet = false;
                connect(world, device, false, false);
            } else if world.devices[device].is_connected {
                acknowledge(world, device, usize::MAX);
            }
        }
        for at in 0..world.connections.len() {
            is_quiet &= !(world.read(at, 10) | world.poll_queue(at, 10));
            if !world.connections[at].is_deserted && !world.connections[at].is_over {
                is_quiet &= !world.receive(at, 20);
            }
        }
        world.sweep();
        is_quiet &= !world.commit();
        if is_quiet && world.devices.iter().all(Device::is_idle) {
            return;
        }
    }
    let under_way = world.devices.iter().map(|it| (&it.outgoing, &it.owed)).collect::<Vec<_>>();
    let what = format!("no rest after {ROUNDS_MAX} rounds: {under_way:?}");
    world.checker.objections.push(what);
}
