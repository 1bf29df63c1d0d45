//! A client that does what a test says, and nothing by itself.
//!
//! In: bytes, or packets built by hand with [`wire`]. Out: every packet that comes, and the end of
//! the connection. It acknowledges nothing unless told to. Bounds: every wait ends after [`WAIT`]
//! with a panic.

use crate::packets::{Connect, Message, ack, subscribe, unsubscribe};
use crate::read::{self, Packet, Properties, Publish};
use crate::server;
use crate::wire::{self, Version};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for anything: far more than a healthy broker on loopback needs.
pub const WAIT: Duration = Duration::from_secs(10);

/// Runs a test that takes its time for both versions at once.
pub fn side_by_side(test: fn(Version)) {
    std::thread::scope(|scope| {
        for version in wire::BOTH {
            scope.spawn(move || test(version));
        }
    });
}

impl Connect {
    /// Opens a connection on which nothing larger than the client takes may come.
    #[track_caller]
    pub fn dial_at(&self, address: SocketAddr) -> Client {
        let mut client = Client::dial_at(address, self.version);
        client.packet_bytes_max = self.packet_bytes_max;
        client
    }

    /// Connects to the broker under test.
    #[track_caller]
    pub fn open(&self) -> Client {
        self.open_at(server::address()).0
    }

    /// Connects; also gives Session Present and the properties of CONNACK.
    #[track_caller]
    pub fn open_at(&self, address: SocketAddr) -> (Client, bool, Properties) {
        let mut client = self.dial_at(address);
        client.send(&self.bytes());
        match client.packet() {
            Packet::ConnAck { session_present, reason: 0, properties } => {
                (client, session_present, properties)
            }
            other => panic!("not connected: {other:?}"),
        }
    }

    /// Connects and says whether there was a session.
    #[track_caller]
    pub fn resume(&self) -> (Client, bool) {
        let (client, present, _) = self.open_at(server::address());
        (client, present)
    }

    /// The reason by which the broker refuses the CONNECT; it closes the connection then.
    #[track_caller]
    pub fn refused(&self) -> u8 {
        self.refused_at(server::address())
    }

    /// As [`Connect::refused`].
    #[track_caller]
    pub fn refused_at(&self, address: SocketAddr) -> u8 {
        let mut client = self.dial_at(address);
        client.send(&self.bytes());
        client.refused()
    }
}

/// A connection.
pub struct Client {
    pub version: Version,
    socket: TcpStream,
    unread: Vec<u8>,
    /// Messages that came while something else was waited for.
    held: VecDeque<Packet>,
    last_packet_id: u16,
    packet_bytes_max: Option<u32>,
}

impl Client {
    /// Opens a connection and sends nothing.
    #[track_caller]
    pub fn dial(version: Version) -> Self {
        Self::dial_at(server::address(), version)
    }

    /// As [`Client::dial`].
    #[track_caller]
    pub fn dial_at(address: SocketAddr, version: Version) -> Self {
        let socket = TcpStream::connect_timeout(&address, WAIT).expect("a broker that listens");
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket.set_write_timeout(Some(WAIT)).unwrap();
        Self {
            version,
            socket,
            unread: Vec::new(),
            held: VecDeque::new(),
            last_packet_id: 0,
            packet_bytes_max: None,
        }
    }

    /// A client with a clean session.
    #[track_caller]
    pub fn connect(version: Version) -> Self {
        Connect::new(version).open()
    }

    /// Sends bytes. A broker that has closed the connection already is no error: the test sees it
    /// when it reads.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        match self.socket.write_all(bytes) {
            Err(error) if is_end(error.kind()) => {}
            result => result.expect("a broker that reads"),
        }
    }

    /// The next packet.
    #[track_caller]
    pub fn packet(&mut self) -> Packet {
        self.next().expect("the broker closed the connection instead of sending a packet")
    }

    /// The next packet; `None` when the connection has ended.
    #[track_caller]
    pub fn next(&mut self) -> Option<Packet> {
        match self.held.pop_front() {
            Some(packet) => Some(packet),
            None => self.read(),
        }
    }

    /// The next packet from the socket.
    #[track_caller]
    fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, len)) = read::read(self.version, &self.unread) {
                let is_taken = self.packet_bytes_max.is_none_or(|max| len <= max as usize);
                assert!(is_taken, "{len} bytes are more than the client takes: {packet:?}");
                self.unread.drain(..len);
                return Some(packet);
            }
            let mut buffer = [0; 16 * 1_024];
            match self.socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => self.unread.extend_from_slice(&buffer[..len]),
                Err(error) if is_end(error.kind()) => break,
                Err(error) => panic!("neither packet nor end within {WAIT:?}: {error}"),
            }
        }
        let (rest, first) = (self.unread.len(), self.unread.iter().take(32).collect::<Vec<_>>());
        assert!(rest == 0, "{rest} bytes of a packet at the end: {first:x?} …");
        None
    }

    /// The socket, for what a client should not do.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// True when the broker has closed the connection by now, whatever it sent before.
    pub fn has_ended(&mut self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1_024];
        let is_ended = loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break is_end(error.kind()),
            }
        };
        self.socket.set_nonblocking(false).unwrap();
        is_ended
    }

    /// The broker closes the connection and sends nothing more.
    #[track_caller]
    pub fn closed(mut self) {
        let next = self.next();
        assert_eq!(next, None, "instead of the end of the connection");
    }

    /// The broker refuses the CONNECT, then closes: with which reason.
    #[track_caller]
    pub fn refused(mut self) -> u8 {
        match self.packet() {
            Packet::ConnAck { session_present: false, reason, .. } if reason != 0 => {
                self.closed();
                reason
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The broker ends the connection: MQTT 5 clients are told this reason.
    #[track_caller]
    pub fn ended(mut self, expected: u8) {
        if !server::is_gnomon() {
            // The standard asks for the end, and only wishes for the reason.
            return self.thrown_out();
        }
        if self.version == Version::V5 {
            match self.packet() {
                Packet::Disconnect { reason, .. } => {
                    assert_eq!(reason, expected, "{reason:#x} is not {expected:#x}");
                }
                other => panic!("no DISCONNECT: {other:?}"),
            }
        }
        self.closed();
    }

    /// The broker ends the connection, whatever it says.
    #[track_caller]
    pub fn thrown_out(mut self) {
        match self.next() {
            None => {}
            Some(
                Packet::ConnAck { reason: 1.., .. } | Packet::Disconnect { reason: 0x80.., .. },
            ) => {
                self.closed();
            }
            Some(other) => panic!("instead of the end of the connection: {other:?}"),
        }
    }

    /// Sends nothing more; the broker ends the connection, after packets of whatever kind.
    #[track_caller]
    pub fn finished(mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        while self.next().is_some() {}
    }

    /// Everything was answered and nothing else came: a PINGREQ is answered at once.
    #[track_caller]
    pub fn quiet(&mut self) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.packet(), Packet::PingResp);
    }

    /// Closes the connection without a DISCONNECT.
    pub fn cut(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Sends DISCONNECT and waits for the end.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.send(&[0xe0, 0]);
        self.closed();
    }

    /// A packet identifier that is not in use.
    pub fn packet_id(&mut self) -> u16 {
        self.last_packet_id += 1;
        self.last_packet_id
    }

    /// Subscribes and expects success; the options are QoS and, in MQTT 5, the flags above it.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) {
        let reason = self.try_subscribe(filter, options);
        assert_eq!(reason, options & 3, "{filter} is not granted");
    }

    /// Subscribes; the reason in SUBACK.
    #[track_caller]
    pub fn try_subscribe(&mut self, filter: &str, options: u8) -> u8 {
        let reasons = self.subscribe_all(&[(filter, options)], &[]);
        reasons[0]
    }

    /// Subscribes to all in one packet, with the encoded properties; the reasons in SUBACK.
    #[track_caller]
    pub fn subscribe_all(&mut self, filters: &[(&str, u8)], properties: &[u8]) -> Vec<u8> {
        let packet_id = self.packet_id();
        self.send(&subscribe(self.version, packet_id, filters, properties));
        match self.answer() {
            Packet::SubAck { packet_id: it, reasons, .. } if it == packet_id => reasons,
            other => panic!("no SUBACK of {packet_id}: {other:?}"),
        }
    }

    /// Unsubscribes; the reasons in UNSUBACK, none in 3.1.1.
    #[track_caller]
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let packet_id = self.packet_id();
        self.send(&unsubscribe(self.version, packet_id, filters));
        match self.answer() {
            Packet::UnsubAck { packet_id: it, reasons, .. } if it == packet_id => reasons,
            other => panic!("no UNSUBACK of {packet_id}: {other:?}"),
        }
    }

    /// Publishes and completes the handshake of the QoS.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8) {
        self.publish_with(&Message { qos, ..Message::new(topic, payload) });
    }

    /// Publishes a retained message with QoS 1.
    #[track_caller]
    pub fn retain(&mut self, topic: &str, payload: &str) {
        self.publish_with(&Message { qos: 1, retain: true, ..Message::new(topic, payload) });
    }

    /// As [`Client::publish`].
    #[track_caller]
    pub fn publish_with(&mut self, message: &Message<'_>) {
        let packet_id = self.packet_id();
        self.send(&message.bytes(self.version, packet_id));
        if message.qos == 1 {
            self.settled(0x40, packet_id);
        }
        if message.qos == 2 {
            self.settled(0x50, packet_id);
            self.send(&ack(0x62, packet_id));
            self.settled(0x70, packet_id);
        }
    }

    /// The next packet is this acknowledgement, with success.
    #[track_caller]
    pub fn acknowledged(&mut self, first: u8, packet_id: u16) {
        let (id, reason) = self.ack(first);
        // 0x10 is success too: nobody has subscribed.
        assert!(reason == 0 || reason == 0x10, "not acknowledged: {reason:#x}");
        assert_eq!(id, packet_id);
    }

    /// The next packet is an acknowledgement of this kind: its identifier and reason.
    #[track_caller]
    pub fn ack(&mut self, first: u8) -> (u16, u8) {
        match self.packet() {
            Packet::Ack { first: it, packet_id, reason, .. } if it == first => (packet_id, reason),
            other => panic!("no acknowledgement {first:#x}: {other:?}"),
        }
    }

    /// The next packet is a PUBLISH; acknowledges nothing.
    #[track_caller]
    pub fn message(&mut self) -> Publish {
        match self.packet() {
            Packet::Publish(publish) => publish,
            other => panic!("no PUBLISH: {other:?}"),
        }
    }

    /// The next packet is a PUBLISH with this payload; completes the handshake of its QoS.
    #[track_caller]
    pub fn receive(&mut self, payload: &str) -> Publish {
        let publish = self.message();
        assert_eq!(String::from_utf8_lossy(&publish.payload), payload);
        match publish.qos {
            1 => self.send(&ack(0x40, publish.packet_id)),
            2 => {
                self.send(&ack(0x50, publish.packet_id));
                self.settled(0x62, publish.packet_id);
                self.send(&ack(0x70, publish.packet_id));
            }
            _ => {}
        }
        publish
    }

    /// This acknowledgement comes, with success.
    #[track_caller]
    fn settled(&mut self, first: u8, id: u16) {
        match self.answer() {
            Packet::Ack { first: it, packet_id, reason: 0 | 0x10, .. }
                if (it, packet_id) == (first, id) => {}
            other => panic!("no acknowledgement {first:#x} of {id}: {other:?}"),
        }
    }

    /// The next packet that is no message; messages stay for later.
    #[track_caller]
    fn answer(&mut self) -> Packet {
        loop {
            match self.read().expect("an answer instead of the end of the connection") {
                message @ Packet::Publish(_) => self.held.push_back(message),
                answer => return answer,
            }
        }
    }
}

/// What a connection that the other end closed, or threw away, says.
fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}
