//! The edge and the listener with small services of their own, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod sending;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Duration, timeout};

use super::*;
use crate::runtime::{Drain, Gate, ReactorThreads, Reactors};
use crate::telemetry::{ErrorCode, Metrics, RequestId};

const SOON: Duration = Duration::from_secs(10);

type TestBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

struct Rig {
    address: SocketAddr,
    drain: Drain,
    gate: Gate,
    metrics: &'static Metrics,
}

struct Given {
    idle: Duration,
    head: Option<Duration>,
    requests: usize,
    reactors: Option<Reactors>,
}

impl Default for Given {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), head: None, requests: 100, reactors: None }
    }
}

/// A crowd that comes at once, before the first of it was accepted, is not sent away.
#[tokio::test]
async fn a_crowd_waits_to_be_accepted() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let most: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let mut crowd = Vec::new();
    for number in 0..most.min(600) {
        let connected = timeout(SOON, TcpStream::connect(server.address())).await;
        crowd.push(connected.unwrap_or_else(|_| panic!("number {number} waits")).unwrap());
    }
}

/// A thousand connections that wait take little more than their buffers.
#[tokio::test]
async fn a_connection_without_tls_takes_no_memory_for_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, remote) = listener.accept().await.unwrap();
    let service = |_request| async { text(StatusCode::OK, "") };
    let edge = Edge {
        service,
        fault: s3_fault,
        gate: Gate::new(1),
        metrics: None,
        domains: Arc::from([]),
        head_timeout: None,
        instance: None,
    };
    let (edge, limits, drain) = (Arc::new(edge), limits(SOON), Drain::new());
    let served = listener::serve(stream, remote, &edge, &limits, &drain);
    assert!(size_of_val(&served) <= 4096, "{}", size_of_val(&served));
}

/// Each connection stays on the thread that it was placed on, and there is more than one.
#[tokio::test]
async fn a_connection_stays_on_its_reactor() {
    let threads = ReactorThreads::start(2, || tokio::runtime::Builder::new_current_thread().enable_all().build()).unwrap();
    let service = |_request| async { text(StatusCode::OK, &format!("{:?}.", std::thread::current().id())) };
    let given = Given { reactors: Some(threads.reactors()), ..Given::default() };
    let rig = start(service, given).await;
    let mut connections = Vec::new();
    // More than one of the two takes when they all come from one processor.
    for _ in 0..80 {
        let mut stream = connect(&rig, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let thread = read_some(&mut stream, ").").await;
        connections.push((stream, thread));
    }
    for (stream, thread) in &mut connections {
        for _ in 0..3 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            assert_eq!(body(&read_some(stream, ").").await), body(thread));
        }
    }
    let ours = format!("{:?}.", std::thread::current().id());
    let mut served: Vec<_> = connections.iter().map(|(_, thread)| body(thread)).collect();
    served.sort_unstable();
    served.dedup();
    assert!(served.len() == 2 && !served.contains(&ours.as_str()), "{served:?}");
    drop(connections);
    rig.drain.begin();
    tokio::task::spawn_blocking(move || threads.stop(SOON)).await.unwrap();
}

fn body(answer: &str) -> &str {
    answer.split("\r\n\r\n").nth(1).unwrap()
}

async fn start<S: Service>(service: S, given: Given) -> Rig {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.address();
    let metrics: &'static Metrics = Box::leak(Box::default());
    let (drain, gate) = (Drain::new(), Gate::new(given.requests));
    let edge = Edge {
        service,
        fault: s3_fault,
        gate: gate.clone(),
        metrics: Some(metrics),
        domains: Arc::from([]),
        head_timeout: given.head,
        instance: None,
    };
    tokio::spawn(server.run(edge, Limits { reactors: given.reactors, ..limits(given.idle) }, drain.clone()));
    Rig { address, drain, gate, metrics }
}

fn limits(idle: Duration) -> Limits {
    Limits { idle, connections: 100, sendfile: true, tls: None, proxies: Arc::default(), proxy_protocol: false, reactors: None }
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::copy_from_slice(text.as_bytes()))).unwrap()
}

async fn connect(rig: &Rig, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ask(rig: &Rig, head: &str) -> String {
    rest(&mut connect(rig, &format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n")).await).await
}

async fn read_some(stream: &mut TcpStream, until: &str) -> String {
    let mut seen = Vec::new();
    let mut buf = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(until) {
        let n = timeout(SOON, stream.read(&mut buf)).await.unwrap().unwrap();
        assert!(n > 0, "ended after {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buf[..n]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// A body that sends `first`, waits for the notice, and ends with `last`.
fn held(first: &'static str, go: Arc<Notify>, last: &'static str) -> TestBody {
    let start = futures::stream::iter([Ok(Frame::data(Bytes::from_static(first.as_bytes())))]);
    let end = futures::stream::once(async move {
        go.notified().await;
        Ok(Frame::data(Bytes::from_static(last.as_bytes())))
    });
    StreamBody::new(start.chain(end).boxed())
}

fn endless() -> TestBody {
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    StreamBody::new(futures::stream::repeat_with(move || Ok(Frame::data(chunk.clone()))).boxed())
}

#[tokio::test]
async fn every_answer_is_signed_by_the_house_and_counted() {
    let rig = start(
        |request: Request<RequestBody>| async move {
            // Policies look at it.
            assert!(request.extensions().get::<crate::s3::Peer>().unwrap().address.is_loopback());
            let id = request.extensions().get::<RequestId>().unwrap().0.to_string();
            let mut response = text(StatusCode::OK, &id);
            response.extensions_mut().insert(crate::s3::Operation("GetObject"));
            response
        },
        Given::default(),
    )
    .await;
    let first = ask(&rig, "GET /photos/a HTTP/1.1").await;
    let (head, body) = first.split_once("\r\n\r\n").unwrap();
    for header in [&format!("x-amz-request-id: {body}"), "x-amz-id-2: ", "server: Sluice", "date: "] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    let second = ask(&rig, "GET /photos/a HTTP/1.1").await;
    assert_ne!(second.split_once("\r\n\r\n").unwrap().1, body);
    let metrics = rig.metrics.render(false);
    let series = r#"sluice_http_requests_total{method="GET",op="GetObject",status="200",bucket="photos"} 2"#;
    assert!(metrics.contains(series), "{metrics}");
}

/// hyper sends no 100 (Continue) for a body of no bytes; a client that waits for one gets it.
#[tokio::test]
async fn an_empty_body_that_is_waited_for_has_its_interim_answer() {
    let rig = start(|_: Request<RequestBody>| async { text(StatusCode::OK, "stored") }, Given::default()).await;
    let waiting = "PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: 100-Continue\r\n\r\n";
    let mut stream = connect(&rig, waiting).await;
    for _ in 0..3 {
        let answer = read_some(&mut stream, "stored").await;
        assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
        stream.write_all(b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let answer = read_some(&mut stream, "stored").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "who does not wait gets none: {answer}");
        stream.write_all(waiting.as_bytes()).await.unwrap();
    }
}

/// What a client sends after an answer that came instead of the 100 (Continue) may be the body or its next request.
#[tokio::test]
async fn an_answer_instead_of_an_interim_one_ends_the_connection() {
    let refuses = |request: Request<RequestBody>| async move {
        if request.uri().path() == "/b/refused" {
            return text(StatusCode::FORBIDDEN, "refused");
        }
        swallow(request).await
    };
    let rig = start(refuses, Given::default()).await;
    let waiting = "Host: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = connect(&rig, &format!("PUT /b/k HTTP/1.1\r\n{waiting}")).await;
    for _ in 0..3 {
        assert!(read_some(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue\r\n\r\n"));
        stream.write_all(b"12345").await.unwrap();
        let answer = read_some(&mut stream, "got 5").await;
        assert!(!answer.contains("connection: close"), "{answer}");
        stream.write_all(format!("PUT /b/k HTTP/1.1\r\n{waiting}").as_bytes()).await.unwrap();
    }
    let mut stream = connect(&rig, &format!("PUT /b/refused HTTP/1.1\r\n{waiting}")).await;
    let answer = rest(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("connection: close") && answer.ends_with("refused"),
        "{answer}"
    );
    // Whose body follows anyway is answered as well.
    let mut stream = connect(&rig, &format!("PUT /b/refused HTTP/1.1\r\n{waiting}12345")).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn an_error_to_a_head_has_no_body() {
    let rig = start(|_: Request<RequestBody>| async { text(StatusCode::NOT_FOUND, "<Error/>") }, Given::default()).await;
    let answer = ask(&rig, "HEAD /photos/none HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(!answer.contains("content-length: 8") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_panic_is_an_answer_and_harms_nobody_else() {
    let rig = start(
        |request: Request<RequestBody>| async move {
            assert!(request.uri().path() != "/panic&", "on purpose");
            text(StatusCode::OK, "fine")
        },
        Given::default(),
    )
    .await;
    let mut alive = connect(&rig, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_some(&mut alive, "fine").await;
    let answer = ask(&rig, "GET /panic& HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("<Code>InternalError</Code>") && answer.contains("<Resource>/panic&amp;</Resource>"), "{answer}");
    alive.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_some(&mut alive, "fine").await;
    let metrics = rig.metrics.render(false);
    assert!(metrics.contains("sluice_panics_total 1") && metrics.contains(r#"code="InternalError"} 1"#), "{metrics}");
}

#[tokio::test]
async fn one_too_many_is_told_at_once_until_a_body_has_ended() {
    let go = Arc::new(Notify::new());
    let release = Arc::clone(&go);
    let service = move |_: Request<RequestBody>| {
        let go = Arc::clone(&go);
        async move { Response::new(held("first", go, "last")) }
    };
    let rig = start(service, Given { requests: 1, ..Given::default() }).await;
    let mut slow = connect(&rig, "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    read_some(&mut slow, "first").await;
    assert_eq!(rig.gate.inside(), 1, "held until the body ends");
    let began = Instant::now();
    let refused = ask(&rig, "GET /b HTTP/1.1").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("<Code>SlowDown</Code>"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    assert!(rig.metrics.render(false).contains(r#"sluice_errors_total{code="SlowDown"} 1"#));
    release.notify_one();
    assert!(rest(&mut slow).await.contains("last"));
    assert_eq!(rig.gate.inside(), 0);
    release.notify_one();
    assert!(ask(&rig, "GET /c HTTP/1.1").await.starts_with("HTTP/1.1 200"));
}

/// Answers with the length of the body, or with how it broke off.
async fn swallow(request: Request<RequestBody>) -> Response<Full<Bytes>> {
    match request.into_body().collect().await {
        Ok(body) => text(StatusCode::OK, &format!("got {}", body.to_bytes().len())),
        Err(error) => {
            let timed_out = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::TimedOut);
            text(StatusCode::BAD_REQUEST, if timed_out { "timed out" } else { "broken" })
        }
    }
}

#[tokio::test]
async fn an_upload_that_stops_is_cut_and_one_that_crawls_is_not() {
    let idle = Duration::from_millis(400);
    let rig = start(swallow, Given { idle, head: Some(idle), ..Given::default() }).await;
    let head = "PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    let mut stalled = connect(&rig, head).await;
    stalled.write_all(b"half").await.unwrap();
    let mut crawling = connect(&rig, head).await;
    let began = Instant::now();
    for byte in b"0123456789" {
        tokio::time::sleep(idle / 5).await;
        crawling.write_all(&[*byte]).await.unwrap();
    }
    assert!(began.elapsed() > idle * 3 / 2);
    assert!(read_some(&mut crawling, "got 10").await.starts_with("HTTP/1.1 200"));
    let answer = rest(&mut stalled).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("timed out"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_its_place_given_back() {
    let idle = Duration::from_millis(200);
    let rig = start(|_: Request<RequestBody>| async { Response::new(endless()) }, Given { idle, ..Given::default() }).await;
    let mut stream = connect(&rig, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_some(&mut stream, "200 OK").await;
    assert_eq!(rig.gate.inside(), 1);
    timeout(SOON, async {
        while rig.gate.inside() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the stalled answer is given up");
    assert!(rig.metrics.render(false).contains("sluice_http_responses_cut_total 1"));
}

#[tokio::test]
async fn a_head_that_never_ends_and_a_connection_without_requests_are_closed() {
    let idle = Duration::from_millis(150);
    let rig = start(|_: Request<RequestBody>| async { text(StatusCode::OK, "fine") }, Given { idle, ..Given::default() }).await;
    let mut trickle = connect(&rig, "GET / HTTP/1.1\r\nX-Slow").await;
    let mut silent = connect(&rig, "").await;
    let mut kept = connect(&rig, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_some(&mut kept, "fine").await;
    let began = Instant::now();
    // One byte of a head at a time does not buy more time.
    let (mut from, mut to) = trickle.split();
    let slowly = async {
        while to.write_all(b"l").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut buf = [0; 64];
    tokio::select! {
        () = slowly => {}
        _ = timeout(SOON, from.read(&mut buf)) => {}
    }
    assert!(rest(&mut silent).await.is_empty());
    assert!(rest(&mut kept).await.is_empty());
    assert!(began.elapsed() < SOON / 2);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_503_but_a_copy_may_take_its_time() {
    let go = Arc::new(Notify::new());
    let release = Arc::clone(&go);
    let service = move |_: Request<RequestBody>| {
        let go = Arc::clone(&go);
        async move {
            go.notified().await;
            text(StatusCode::OK, "done")
        }
    };
    let head = Some(Duration::from_millis(100));
    let rig = start(service, Given { head, ..Given::default() }).await;
    let mut copy = connect(&rig, "PUT /b/k HTTP/1.1\r\nHost: x\r\nx-amz-copy-source: /b/j\r\nConnection: close\r\n\r\n").await;
    let answer = ask(&rig, "GET /b/k HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("<Code>ServiceUnavailable</Code>"), "{answer}");
    release.notify_waiters();
    assert!(rest(&mut copy).await.contains("done"));
}

#[tokio::test]
async fn a_drain_lets_bodies_end_closes_idle_connections_and_refuses_new_ones() {
    let go = Arc::new(Notify::new());
    let release = Arc::clone(&go);
    let service = move |request: Request<RequestBody>| {
        let go = Arc::clone(&go);
        async move {
            if request.uri().path() == "/put" {
                let length = request.into_body().collect().await.unwrap().to_bytes().len();
                return Response::new(held("", Arc::new(Notify::new()), "")).map(|_| {
                    let text = Bytes::from(format!("stored {length}"));
                    StreamBody::new(futures::stream::iter([Ok(Frame::data(text))]).boxed())
                });
            }
            Response::new(held("first", go, "last"))
        }
    };
    let rig = start(service, Given::default()).await;
    let mut idle = connect(&rig, "PUT /put HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    read_some(&mut idle, "stored 0").await;
    let mut get = connect(&rig, "GET /get HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_some(&mut get, "first").await;
    let mut put = connect(&rig, "PUT /put HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf.").await;
    timeout(SOON, async {
        while rig.gate.inside() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let drain = rig.drain.clone();
    let finished = tokio::spawn(async move { drain.finish(Duration::from_secs(30), Duration::from_secs(1)).await });
    assert!(!rest(&mut idle).await.contains("HTTP/1.1"), "the idle connection is closed without another answer");
    assert!(TcpStream::connect(rig.address).await.is_err(), "a new connection is refused");
    assert!(!finished.is_finished());
    put.write_all(b"whole").await.unwrap();
    assert!(rest(&mut put).await.contains("stored 10"));
    release.notify_one();
    assert!(rest(&mut get).await.contains("last"));
    assert!(timeout(SOON, finished).await.unwrap().unwrap(), "all finished");
}

#[tokio::test]
async fn a_drain_breaks_off_what_does_not_end_and_says_so() {
    let rig = start(|_: Request<RequestBody>| async { Response::new(endless()) }, Given::default()).await;
    let mut stream = connect(&rig, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_some(&mut stream, "200 OK").await;
    let began = Instant::now();
    assert!(!rig.drain.finish(Duration::from_millis(200), Duration::from_secs(5)).await);
    assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < Duration::from_secs(3));
    assert_eq!((rig.gate.inside(), rig.drain.aborted()), (0, 1));
}

#[tokio::test]
async fn the_code_of_an_error_is_counted() {
    let service = |_: Request<RequestBody>| async {
        let mut response = text(StatusCode::FORBIDDEN, "<Error/>");
        response.extensions_mut().insert(ErrorCode("SignatureDoesNotMatch"));
        response
    };
    let rig = start(service, Given::default()).await;
    ask(&rig, "GET /a HTTP/1.1").await;
    assert!(rig.metrics.render(false).contains(r#"sluice_errors_total{code="SignatureDoesNotMatch"} 1"#));
}

#[tokio::test]
async fn a_refused_upload_reads_its_answer() {
    let refuses = |_request: Request<RequestBody>| async { text(StatusCode::FORBIDDEN, "no") };
    let rig = start(refuses, Given::default()).await;
    let bytes = vec![7; 8 << 20];
    let mut stream = connect(&rig, &format!("PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len())).await;
    // The whole body goes out before the answer is looked at, and neither is lost to a reset.
    timeout(SOON, stream.write_all(&bytes)).await.unwrap().unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("no"), "{answer}");
    // A client that never stops does not keep the connection.
    let mut stream = connect(&rig, "PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").await;
    let endless = async { while stream.write_all(&bytes).await.is_ok() {} };
    timeout(SOON, endless).await.expect("the connection is closed");
}

#[tokio::test]
async fn what_is_no_request_is_told_so_as_everything_else_is() {
    let rig = start(|_: Request<RequestBody>| async { text(StatusCode::OK, "hello") }, Given::default()).await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    for (request, code) in [
        ("GET\r\n\r\n", "BadRequest"),
        ("PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "BadRequest"),
        ("GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n", "BadRequest"),
        (&long, "RequestHeaderSectionTooLarge"),
        // After a good request on the same connection.
        ("GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n\u{1}\r\n\r\n", "BadRequest"),
    ] {
        let answer = rest(&mut connect(&rig, request).await).await;
        let (_, last) = answer.split_at(answer.rfind("HTTP/1.1 400 Bad Request\r\n").unwrap_or_default());
        let (head, body) = last.split_once("\r\n\r\n").unwrap();
        let id = head.split_once("x-amz-request-id: ").unwrap_or_else(|| panic!("{answer}")).1.lines().next().unwrap();
        assert!(body.contains(&format!("<Code>{code}</Code>")), "{body}");
        assert!(body.contains(&format!("<RequestId>{id}</RequestId>")), "{body}");
        assert!(head.contains("\r\ndate: ") && head.contains("\r\nserver: Sluice"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
    let metrics = rig.metrics.render(false);
    assert!(metrics.contains("sluice_errors_total{code=\"BadRequest\"} 4"), "{metrics}");
}
