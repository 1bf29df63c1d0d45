#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use std::future::poll_fn;
use std::sync::mpsc;
use std::task::Poll as Polled;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(10);

fn one() -> EventLoops {
    EventLoops::start(NonZeroUsize::MIN).unwrap()
}

/// A client, and the server's end for a loop.
async fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0.into_std().unwrap())
}

/// Sends back what comes, until nothing does.
fn spawn_echo(loops: &EventLoops, stream: std::net::TcpStream) {
    loops.spawn(move |entrance| {
        let mut socket = entrance.socket(stream)?;
        Ok(async move {
            let mut buffer = vec![0; 4_096];
            loop {
                let read = socket.read(&mut buffer).await.unwrap();
                if read == 0 {
                    return socket.shutdown().await.unwrap();
                }
                socket.write_all(&buffer[..read]).await.unwrap();
            }
        })
    });
}

#[tokio::test]
async fn what_comes_goes_back_whole_and_in_order_through_full_buffers() {
    let loops = one();
    // More than a socket holds, in pieces that fill a read and that do not.
    let sent: Vec<u8> = (0..16_000).flat_map(|block: u32| block.to_be_bytes().repeat(63)).collect();
    for chunk in [1_000_000, 4_096, 977] {
        let (client, server) = pair().await;
        spawn_echo(&loops, server);
        let (mut reader, mut writer) = client.into_split();
        let bytes = sent.clone();
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            for piece in bytes.chunks(chunk) {
                writer.write_all(piece).await.unwrap();
            }
            // Dropped: the end of what the server reads.
        });
        let mut received = Vec::new();
        let read = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut received));
        read.await.unwrap().unwrap();
        assert!(received == sent, "pieces of {chunk}: {} bytes came", received.len());
        writing.join_all().await;
    }
    loops.stop();
}

#[tokio::test]
async fn what_came_before_the_start_is_read_and_so_is_the_end() {
    let loops = one();
    let (mut client, server) = pair().await;
    client.write_all(b"early").await.unwrap();
    client.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    spawn_echo(&loops, server);
    let mut received = Vec::new();
    tokio::time::timeout(PATIENCE, client.read_to_end(&mut received)).await.unwrap().unwrap();
    assert_eq!(received, b"early");
    loops.stop();
}

#[tokio::test]
async fn a_future_that_panics_ends_alone_and_its_seat_is_taken_again() {
    let loops = one();
    let (mut silent, server) = pair().await;
    loops.spawn(move |entrance| {
        let mut socket = entrance.socket(server)?;
        Ok(async move {
            socket.read_u8().await.unwrap();
            panic!("on purpose");
        })
    });
    let (mut client, server) = pair().await;
    spawn_echo(&loops, server);
    silent.write_all(b"!").await.unwrap();
    // Closed, not kept.
    let read = tokio::time::timeout(PATIENCE, silent.read(&mut [0])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
    let (mut other, server) = pair().await;
    spawn_echo(&loops, server);
    for client in [&mut client, &mut other] {
        client.write_all(b"?").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'?');
    }
    loops.stop();
}

#[tokio::test]
async fn wakes_from_anywhere_and_timers_are_heard() {
    let loops = one();
    let (send_waker, wakers) = mpsc::channel();
    let (send_done, mut done) = tokio::sync::mpsc::channel(2);
    let sent = send_done.clone();
    loops.spawn(move |_| {
        let mut polls = 0;
        Ok(poll_fn(move |context| {
            polls += 1;
            send_waker.send(context.waker().clone()).unwrap();
            if polls < 1_000 {
                return Polled::Pending;
            }
            sent.try_send("polled").unwrap();
            Polled::Ready(())
        }))
    });
    std::thread::spawn(move || wakers.iter().for_each(Waker::wake));
    loops.spawn(move |_| {
        Ok(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
            send_done.send("slept").await.unwrap();
        })
    });
    let mut came = Vec::new();
    for _ in 0..2 {
        came.push(tokio::time::timeout(PATIENCE, done.recv()).await.unwrap().unwrap());
    }
    came.sort_unstable();
    assert_eq!(came, ["polled", "slept"]);
    loops.stop();
}

#[tokio::test]
async fn a_stop_ends_what_runs() {
    let loops = EventLoops::start(NonZeroUsize::new(2).unwrap()).unwrap();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (mut client, server) = pair().await;
        spawn_echo(&loops, server);
        client.write_all(b"?").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'?');
        clients.push(client);
    }
    loops.stop();
    let (late, mut end) = tokio::sync::mpsc::channel::<()>(1);
    loops.spawn(move |_| {
        Ok(async move {
            late.send(()).await.unwrap();
        })
    });
    assert_eq!(end.recv().await, None);
    for mut client in clients {
        let read = tokio::time::timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)));
    }
}
