//! Requests that no client should send: two lengths, torn chunks, endless headers, bodies that do
//! not come. Source: RFC 9112, 11.2 (request smuggling) and 6 (lengths).

use super::{Host, host_of};
use bytes::Bytes;
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Remembers method, path and length of the body of what came through, and answers with it.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

#[async_trait::async_trait]
impl HttpHandler for Seen {
    async fn handle(&self, request: HttpRequest) -> http::Response<Bytes> {
        let http = request.http;
        let text = format!("{} {} {}", http.method(), http.uri().path(), http.body().len());
        self.0.lock().unwrap().push(text.clone());
        http::Response::new(text.into())
    }
}

struct Setup {
    host: Host,
    seen: Arc<Seen>,
}

impl Setup {
    async fn new() -> Self {
        let seen = Arc::<Seen>::default();
        Self { host: host_of(seen.clone(), false, None, 8).await, seen }
    }

    /// Everything that is answered to these bytes, until the host closes.
    async fn answers(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.host.address).await.unwrap();
        // Refused meanwhile: then the answer says why.
        let _ = socket.write_all(bytes).await;
        let mut answers = Vec::new();
        let read = socket.read_to_end(&mut answers);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await;
        let _ = read.unwrap_or_else(|_| panic!("not closed: {}", bytes.escape_ascii()));
        String::from_utf8(answers).unwrap()
    }

    /// These bytes are answered with these statuses, the connection is closed then, and what came
    /// through is this. The host serves others.
    async fn check(&self, bytes: impl AsRef<[u8]>, statuses: &[u16], through: &[&str]) -> String {
        let bytes = bytes.as_ref();
        let answers = self.answers(bytes).await;
        let what = bytes[..bytes.len().min(300)].escape_ascii();
        assert_eq!(statuses_of(&answers), statuses, "{what}: {answers}");
        assert_eq!(std::mem::take(&mut *self.seen.0.lock().unwrap()), through, "{what}");
        let canary = self.answers(b"GET /canary HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert!(canary.await.ends_with("GET /canary 0"));
        self.seen.0.lock().unwrap().clear();
        answers
    }
}

fn statuses_of(answers: &str) -> Vec<u16> {
    answers
        .match_indices("HTTP/1.")
        .map(|(at, _)| answers[at + "HTTP/1.1 ".len()..][..3].parse().unwrap())
        .collect()
}

/// A POST of `/a` with these lines of headers and this body.
fn post(headers: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}")
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_request_behind_two_lengths_is_not_heard() {
    let setup = Setup::new().await;
    // RFC 9112, 6.3: chunks win, and the connection ends behind the answer.
    for headers in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        "content-length: 44\r\ntRANSFER-eNCODING: Chunked\r\n",
    ] {
        let body = format!("0\r\n\r\n{SMUGGLED}");
        setup.check(post(headers, &body), &[200], &["POST /a 0"]).await;
    }
    // Nobody knows where these end.
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 18446744073709551621\r\n",
        "Content-Length : 5\r\n",
        "Content-Length:\r\n 5\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
    ] {
        let body = format!("5\r\nabcde\r\n0\r\n\r\n{SMUGGLED}");
        setup.check(post(headers, &body), &[400], &[]).await;
    }
    let old = "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    setup.check(format!("{old}{SMUGGLED}"), &[400], &[]).await;
}

#[tokio::test]
async fn a_chunk_whose_size_is_none_ends_the_connection() {
    let setup = Setup::new().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    for body in [
        "fffffffffffffffff\r\n",
        "-1\r\n\r\n0\r\n\r\n",
        "0x5\r\nabcde\r\n0\r\n\r\n",
        "\r\n\r\n0\r\n\r\n",
        "g\r\n\r\n0\r\n\r\n",
        "5\r\nabcdefgh0\r\n\r\n",
        "5\nabcde\n0\n\n",
        "0\r\nbroken trailer\r\n\r\n",
    ] {
        let request = post(chunked, &format!("{body}{SMUGGLED}"));
        let answers = setup.answers(request.as_bytes()).await;
        assert_eq!(statuses_of(&answers), [400], "{body:?}: {answers}");
        assert_eq!(setup.seen.0.lock().unwrap().len(), 0, "{body:?}");
    }
    let extended = format!("5;{}\r\nabcde\r\n0\r\n\r\n", "e".repeat(20_000));
    setup.check(post(chunked, &extended), &[400], &[]).await;
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    setup.check(post(chunked, &trailers), &[400], &[]).await;
    let whole =
        post("Transfer-Encoding: chunked\r\nConnection: close\r\n", "5\r\nabcde\r\n0\r\n\r\n");
    setup.check(whole, &[200], &["POST /a 5"]).await;
}

#[tokio::test]
async fn a_request_says_once_whom_it_is_for() {
    let setup = Setup::new().await;
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = setup.check(request, &[400], &[]).await;
        assert!(answer.contains("x-amzn-errortype: InvalidRequestException\r\n"), "{answer}");
        assert!(answer.ends_with(r#"{"message":"one header Host is needed"}"#), "{answer}");
    }
    setup.check("GET / HTTP/1.0\r\n\r\n", &[200], &["GET / 0"]).await;
    // Whatever stands in front of the path.
    let absolute = "GET http://other/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    setup.check(absolute, &[200], &["GET /a 0"]).await;
}

#[tokio::test]
async fn heads_that_are_none_are_refused() {
    let setup = Setup::new().await;
    for head in [
        "GET /\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
        "GET / HTTP/3\r\nHost: h\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nna me: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nname: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nname: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nname\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "CONNECT other:443 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "G\x01T / HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        setup.check(head, &[400], &[]).await;
    }
    // HTTP/2, so that no stream of it can be reset.
    setup.check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[], &[]).await;
}

#[tokio::test]
async fn headers_are_bounded_in_size_and_number() {
    let setup = Setup::new().await;
    let request =
        |headers: &str| format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
    setup.check(request(&format!("a: {}\r\n", "x".repeat(60_000))), &[200], &["GET / 0"]).await;
    for too_much in [
        format!("a: {}\r\n", "x".repeat(100_000)),
        // Of which the end does not come either.
        format!("a: {}", "x".repeat(1_000_000)),
        "a: b\r\n".repeat(10_000),
        "a: b\r\n".repeat(99),
    ] {
        setup.check(request(&too_much), &[431], &[]).await;
    }
    setup.check(request(&"a: b\r\n".repeat(98)), &[200], &["GET / 0"]).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(100_000));
    setup.check(long, &[431], &[]).await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_answered_before_the_connection_ends() {
    let setup = Setup::new().await;
    let says = |answer: &str| {
        assert!(
            answer.contains("x-amzn-errortype: RequestEntityTooLargeException\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with(r#"{"message":"the body has more than 1024 bytes"}"#), "{answer}");
    };
    for length in [1_025, 10_000_000] {
        let headers = format!("Connection: close\r\nContent-Length: {length}\r\n");
        let request = post(&headers, &"x".repeat(length));
        says(&setup.check(request, &[413], &[]).await);
        let chunk = format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length));
        let request = post("Connection: close\r\nTransfer-Encoding: chunked\r\n", &chunk);
        says(&setup.check(request, &[413], &[]).await);
    }
    let whole = post("Connection: close\r\nContent-Length: 1024\r\n", &"x".repeat(1_024));
    setup.check(whole, &[200], &["POST /a 1024"]).await;
    // What is only announced costs nothing; who goes on sending is cut off.
    let endless = post("Content-Length: 9223372036854775807\r\n", &"x".repeat(40 << 20));
    setup.check(endless, &[413], &[]).await;
}

#[tokio::test]
async fn who_asks_whether_to_send_is_told() {
    let setup = Setup::new().await;
    let expect = "Connection: close\r\nExpect: 100-continue\r\nContent-Length: ";
    let good = setup.check(post(&format!("{expect}3\r\n"), "abc"), &[100, 200], &["POST /a 3"]);
    good.await;
    setup.check(post(&format!("{expect}1025\r\n"), ""), &[413], &[]).await;
    // RFC 9110, 10.1.1: what is not known may be ignored.
    let other = post("Connection: close\r\nExpect: coffee\r\nContent-Length: 3\r\n", "abc");
    setup.check(other, &[200], &["POST /a 3"]).await;
}

#[tokio::test]
async fn methods_without_meaning_here_are_the_handlers() {
    let setup = Setup::new().await;
    for (line, through) in [
        ("HEAD /a", "HEAD /a 0"),
        ("OPTIONS *", "OPTIONS * 0"),
        ("TRACE /a", "TRACE /a 0"),
        ("BREW /a", "BREW /a 0"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let answer = setup.check(request, &[200], &[through]).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, if line.starts_with("HEAD") { "" } else { through }, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let setup = Setup::new().await;
    for head in ["", "GET", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        let answer = setup.check(head, &[], &[]).await;
        assert_eq!(answer, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_of_which_no_end_comes_is_a_body_that_is_too_long() {
    let setup = Setup::new().await;
    let body = format!("fffffffffffffff0\r\n{}", "x".repeat(2_000));
    setup.check(post("Transfer-Encoding: chunked\r\n", &body), &[413], &[]).await;
    let length = format!("Content-Length: {}\r\n", u64::MAX - 2);
    setup.check(post(&length, &"x".repeat(2_000)), &[413], &[]).await;
    setup.check(post(&format!("Content-Length: {}\r\n", u64::MAX), ""), &[431], &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_told_so() {
    let setup = Setup::new().await;
    for (headers, body) in [
        ("Content-Length: 3\r\n", "ab"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nab"),
        ("Transfer-Encoding: chunked\r\n", ""),
    ] {
        let mut socket = TcpStream::connect(setup.host.address).await.unwrap();
        socket.write_all(post(headers, body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert_eq!(statuses_of(&answer), [408], "{answer}");
        assert!(answer.contains("x-amzn-errortype: RequestTimeoutException\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off() {
    tokio::time::pause();
    let setup = Setup::new().await;
    let mut socket = TcpStream::connect(setup.host.address).await.unwrap();
    socket.write_all(post("Content-Length: 1000\r\n", "").as_bytes()).await.unwrap();
    let mut sent = 0;
    while socket.write_all(b"x").await.is_ok() {
        sent += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(sent < 100, "still read after {sent} s");
        let mut answer = [0; 12];
        if let Ok(12) = socket.try_read(&mut answer) {
            assert_eq!(&answer, b"HTTP/1.1 408");
            break;
        }
    }
    assert!((29..=32).contains(&sent), "{sent}");
}
