//! MQTT over WebSocket (both standards, 6; RFC 6455).

use crate::client::WAIT;
use crate::packets::{Connect, Message, subscribe, topic};
use crate::read::{self, Packet};
use crate::server;
use crate::wire::{BOTH, Version};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

pub const BINARY: u8 = 2;
const TEXT: u8 = 1;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A WebSocket client, no more than the tests need.
pub struct Socket {
    pub stream: TcpStream,
    /// The packets' bytes that came.
    unread: Vec<u8>,
}

impl Socket {
    /// The response to the upgrade request with this list of subprotocols, headers in lower case.
    pub fn upgrade(protocols: &str) -> Option<(Self, String)> {
        let address = server::websocket()?;
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocols}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        Some((Self { stream, unread: Vec::new() }, head))
    }

    /// An open WebSocket for MQTT; `None` against another broker.
    #[track_caller]
    pub fn open() -> Option<Self> {
        let (socket, head) = Self::upgrade("Sec-WebSocket-Protocol: mqtt\r\n")?;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        Some(socket)
    }

    /// Sends a frame.
    pub fn frame(&mut self, is_last: bool, opcode: u8, payload: &[u8]) {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![u8::from(is_last) << 7 | opcode];
        match u16::try_from(payload.len()) {
            Ok(len @ 0..126) => bytes.push(0x80 | u8::try_from(len).unwrap()),
            Ok(len) => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        // A server that closed already is seen when reading.
        let _ = self.stream.write_all(&bytes);
    }

    pub fn send(&mut self, payload: &[u8]) {
        self.frame(true, BINARY, payload);
    }

    /// Fills the buffer; `None` at the end of the connection.
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) => {
                let is_silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!is_silent, "neither frame nor end within {WAIT:?}");
                None
            }
        }
    }

    /// The next frame; `None` at the end of the connection.
    pub fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.read(&mut head)?;
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.read(&mut len)?;
                u16::from_be_bytes(len).into()
            }
            127 => {
                let mut len = [0; 8];
                self.read(&mut len)?;
                usize::try_from(u64::from_be_bytes(len)).unwrap()
            }
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.read(&mut payload)?;
        Some((head[0] & 0x0f, payload))
    }

    /// The next packet.
    #[track_caller]
    pub fn packet(&mut self, version: Version) -> Packet {
        loop {
            if let Some((packet, len)) = read::read(version, &self.unread) {
                self.unread.drain(..len);
                return packet;
            }
            let (opcode, payload) = self.next_frame().expect("a packet");
            assert!(matches!(opcode, BINARY | CONTINUATION), "a frame of type {opcode}");
            self.unread.extend_from_slice(&payload);
        }
    }

    /// The server closes the connection; it sends no packet before.
    #[track_caller]
    pub fn closed(mut self) {
        while let Some((opcode, payload)) = self.next_frame() {
            assert_eq!(opcode, CLOSE, "{payload:x?}");
        }
    }

    #[track_caller]
    fn connect(&mut self, version: Version) {
        self.send(&Connect::new(version).bytes());
        let packet = self.packet(version);
        assert!(matches!(packet, Packet::ConnAck { reason: 0, .. }), "{packet:?}");
    }
}

/// 3.1.1: 6.0.0-4
/// 5.0: 6.0.0-4
#[test]
fn the_server_chooses_the_subprotocol_mqtt() {
    for protocols in ["mqtt", "mqttv3.1, mqtt", "mqtt, mqttv3.1"] {
        let header = format!("Sec-WebSocket-Protocol: {protocols}\r\n");
        let Some((_, head)) = Socket::upgrade(&header) else { return };
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("\r\nsec-websocket-protocol: mqtt\r\n"), "{head}");
        assert!(
            head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{head}"
        );
    }
}

/// 3.1.1: 6.0.0-3
/// 5.0: 6.0.0-3
#[test]
fn an_upgrade_without_the_subprotocol_is_refused() {
    for header in ["", "Sec-WebSocket-Protocol: other\r\n", "Sec-WebSocket-Protocol: mqttv3.1\r\n"]
    {
        let Some((_, head)) = Socket::upgrade(header) else { return };
        assert!(head.starts_with("http/1.1 4"), "{head}");
    }
}

/// 3.1.1: 6.0.0-1
/// 5.0: 6.0.0-1
#[test]
fn packets_go_through_binary_frames_both_ways() {
    for version in BOTH {
        let Some(mut socket) = Socket::open() else { return };
        socket.connect(version);
        let topic = topic();
        socket.send(&subscribe(version, 1, &[(&topic, 0)], &[]));
        assert!(matches!(socket.packet(version), Packet::SubAck { packet_id: 1, .. }));
        for len in [0, 1_000, 65_500, 100_000] {
            let payload = "x".repeat(len);
            socket.send(&Message::new(&topic, &payload).bytes(version, 0));
            match socket.packet(version) {
                Packet::Publish(publish) => assert_eq!(publish.payload, payload.as_bytes()),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// 3.1.1: 6.0.0-1
/// 5.0: 6.0.0-1
#[test]
fn a_text_frame_ends_the_connection() {
    for version in BOTH {
        let Some(mut socket) = Socket::open() else { return };
        socket.connect(version);
        socket.frame(true, TEXT, &[0x30, 3, 0, 1, b'a']);
        socket.closed();
        let Some(mut socket) = Socket::open() else { return };
        socket.frame(true, TEXT, b"hello");
        socket.closed();
    }
}

/// 3.1.1: 6.0.0-2
/// 5.0: 6.0.0-2
#[test]
fn packets_need_not_be_aligned_with_frames() {
    for version in BOTH {
        let Some(mut socket) = Socket::open() else { return };
        let topic = topic();
        let subscribe = subscribe(version, 1, &[(&topic, 0)], &[]);
        let publish = Message::new(&topic, "x").bytes(version, 0);
        let all = [&Connect::new(version).bytes()[..], &subscribe, &publish].concat();
        // Frames that end anywhere, an empty one, a message in fragments with a ping between.
        let (first, rest) = all.split_at(5);
        socket.send(first);
        socket.send(&[]);
        let (second, rest) = rest.split_at(7);
        socket.frame(false, BINARY, second);
        socket.frame(true, PING, b"?");
        let (third, rest) = rest.split_at(3);
        socket.frame(false, CONTINUATION, third);
        socket.frame(true, CONTINUATION, rest);
        let (opcode, payload) = socket.next_frame().unwrap();
        let packets_first = opcode == BINARY;
        if packets_first {
            socket.unread.extend_from_slice(&payload);
        } else {
            assert_eq!((opcode, &payload[..]), (PONG, &b"?"[..]));
        }
        assert!(matches!(socket.packet(version), Packet::ConnAck { reason: 0, .. }));
        assert!(matches!(socket.packet(version), Packet::SubAck { .. }));
        assert!(matches!(socket.packet(version), Packet::Publish(_)));
    }
}
