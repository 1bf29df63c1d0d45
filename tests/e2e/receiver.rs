//! A web server that keeps what is posted to it: the target of the webhook plugins.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Channel, sync_channel};
use std::time::Duration;

/// A running server.
pub struct Receiver {
    port: u16,
    bodies: Channel<String>,
}

impl Receiver {
    /// Takes a free port; serves until the test ends.
    pub fn open() -> Self {
        Self::open_at(0)
    }

    /// A free port on which nobody listens.
    pub fn closed_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// Takes this port; serves until the test ends.
    pub fn open_at(port: u16) -> Self {
        Self::serve(port, |_| String::new())
    }

    /// Takes a free port; answers each body with another.
    pub fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::serve(0, answer)
    }

    fn serve(port: u16, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let socket = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (sender, bodies) = sync_channel(1_000);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let (sender, answer) = (sender.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(body) = read(&mut reader) {
                        let answer = answer(&body);
                        if sender.send(body).is_err() {
                            return;
                        }
                        let length = answer.len();
                        let response =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}");
                        let _ = reader.get_mut().write_all(response.as_bytes());
                    }
                });
            }
        });
        Self { port, bodies }
    }

    /// What the operator grants.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next body, within ten seconds.
    #[track_caller]
    pub fn next(&self) -> String {
        self.bodies.recv_timeout(Duration::from_secs(10)).expect("nothing was posted")
    }

    /// The next body, if one comes within a minute.
    pub fn next_if_any(&self) -> Option<String> {
        self.bodies.recv_timeout(Duration::from_secs(60)).ok()
    }

    /// Nothing more was posted so far.
    #[track_caller]
    pub fn expect_nothing(&self) {
        if let Ok(body) = self.bodies.try_recv() {
            panic!("posted: {body}");
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}
