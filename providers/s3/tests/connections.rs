//! Connections to a remote: used again where that is sound, and never with anything of another answer on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use server::{DATE, Reply, Server, answer, bucket_and, fault, object};
use sluice_provider::{Body, ETag, ErrorKind, Key, Provider, PutBody, PutOptions, ReadOptions, Result, Seal};
use sluice_provider_s3::{S3, Settings};

fn key() -> Key {
    Key::new("k").unwrap()
}

fn body(size: usize) -> PutBody {
    let seal = Seal { etag: ETag::new("etag").unwrap(), attributes: Default::default() };
    PutBody::from_bytes(Bytes::from(vec![7; size]), seal)
}

async fn open(server: &Server, change: impl FnOnce(&mut Settings)) -> S3 {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = server.settings(&dir);
    settings.answer_timeout = Duration::from_secs(20);
    change(&mut settings);
    S3::open(settings).await.unwrap()
}

async fn read(mount: &S3) -> Result<Vec<u8>> {
    let object = mount.get(&key(), &ReadOptions::default()).await?;
    let mut stream = match object.body {
        Body::Bytes(bytes) => return Ok(bytes.to_vec()),
        Body::Socket(body) => body.into_stream(),
        Body::Stream(stream) => stream,
        body => panic!("{body:?}"),
    };
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

fn count(server: &Server) -> usize {
    server.connections.load(Ordering::SeqCst)
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let large = "x".repeat(3_000_000);
    let server = Server::start(bucket_and(move |head, nth| match head.split(' ').next().unwrap() {
        "DELETE" => Reply::Say(format!("HTTP/1.1 204 No Content\r\ndate: {DATE}\r\n\r\n")),
        "PUT" => answer("200 OK", "etag: \"tag\"\r\n", ""),
        "GET" if nth % 3 == 2 => fault("404 Not Found", "NoSuchKey"),
        _ => object(head, if nth % 3 == 0 { &large } else { "small" }),
    }))
    .await;
    let mount = open(&server, |_| {}).await;
    for round in 0..4 {
        let before = count(&server);
        assert_eq!(read(&mount).await.unwrap().len(), 3_000_000);
        assert_eq!(read(&mount).await.unwrap(), b"small");
        assert_eq!(*read(&mount).await.unwrap_err().kind(), ErrorKind::NotFound);
        mount.head(&key(), &ReadOptions::default()).await.unwrap();
        assert_eq!(count(&server), before, "round {round}");
        // A PUT writes a record first.
        mount.put(&key(), body(100_000), &PutOptions::default()).await.unwrap();
        assert!(count(&server) <= 2, "round {round}");
    }
    assert!(server.asked("PUT").len() >= 4);
    // Two at a time need two, and a body that was not read to its end takes its connection along.
    let half = mount.get(&key(), &ReadOptions::default()).await.unwrap();
    assert_eq!(read(&mount).await.unwrap(), b"small");
    assert_eq!(count(&server), 2);
    drop(half);
    assert_eq!(*read(&mount).await.unwrap_err().kind(), ErrorKind::NotFound);
    mount.delete(&[key().into()]).await.pop().unwrap().unwrap();
    assert_eq!(count(&server), 2);
}

/// A connection lies idle for all runtimes of a process, and outlives the one that it was used in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_one_runtime_after_the_other() {
    let large = "x".repeat(3_000_000);
    let server = Server::start(bucket_and(move |head, _| object(head, &large))).await;
    let mount = Arc::new(open(&server, |_| {}).await);
    assert_eq!(read(&mount).await.unwrap().len(), 3_000_000);
    for _ in 0..3 {
        let mount = Arc::clone(&mount);
        let elsewhere = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // The second of them needs a connection more, once.
            runtime.block_on(async { tokio::join!(read(&mount), read(&mount)) })
        });
        let (one, other) = elsewhere.await.unwrap();
        assert_eq!((one.unwrap().len(), other.unwrap().len()), (3_000_000, 3_000_000));
        assert_eq!(count(&server), 2);
    }
}

#[tokio::test]
async fn requests_leave_no_tasks_behind() {
    let server = Server::start(bucket_and(|head, _| object(head, "small"))).await;
    let mount = open(&server, |settings| settings.idle = Duration::from_millis(400)).await;
    read(&mount).await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..200 {
        read(&mount).await.unwrap();
    }
    assert_eq!((tasks(), count(&server)), (before, 1));
    // Who looks after idle connections goes with the last of them, and the server's part of it.
    tokio::time::timeout(Duration::from_secs(60), async {
        while tasks() >= before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    read(&mount).await.unwrap();
    assert_eq!((tasks(), count(&server)), (before, 2));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_lay_idle_is_not_noticed() {
    // It says nothing of closing, and a body that is sent once cannot be sent again.
    let server = Server::start(bucket_and(|head, _| match head.split(' ').next().unwrap() {
        "PUT" => match answer("200 OK", "etag: \"tag\"\r\n", "") {
            Reply::Say(text) => Reply::Cut(text),
            other => other,
        },
        _ => object(head, ""),
    }))
    .await;
    let mount = open(&server, |settings| settings.retries = 0).await;
    for _ in 0..5 {
        let pieces = (0..8).map(|_| Ok(Bytes::from(vec![7; 65_536])));
        let stream = futures::stream::iter(pieces.collect::<Vec<_>>()).boxed();
        let seal = Seal { etag: ETag::new("etag").unwrap(), attributes: Default::default() };
        mount
            .put(&key(), PutBody::new(stream, Some(8 * 65_536), std::sync::Arc::new(seal.into())), &PutOptions::default())
            .await
            .unwrap();
        // Until what ends the connection is here.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(count(&server) >= 5);
}

#[tokio::test]
async fn what_comes_beyond_an_answer_belongs_to_none() {
    let server = Server::start(bucket_and(|head, nth| match object(head, "good") {
        Reply::Say(text) if nth == 0 => Reply::Say(format!("{text}HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad")),
        other => other,
    }))
    .await;
    let mount = open(&server, |_| {}).await;
    for _ in 0..3 {
        assert_eq!(read(&mount).await.unwrap(), b"good");
    }
    assert_eq!(count(&server), 2);
}

#[tokio::test]
async fn answers_that_end_their_connection_or_are_framed_otherwise_are_read() {
    let server = Server::start(bucket_and(|_, nth| {
        let headers = format!("etag: \"tag\"\r\nlast-modified: {DATE}\r\n");
        match nth {
            0 => answer("200 OK", &format!("{headers}connection: Keep-Alive, Close\r\n"), "good"),
            1 => Reply::Cut(format!("HTTP/1.0 200 OK\r\n{headers}content-length: 4\r\n\r\ngood")),
            _ => object("GET", "good"),
        }
    }))
    .await;
    let mount = open(&server, |_| {}).await;
    for connections in [1, 2, 3, 3] {
        assert_eq!(read(&mount).await.unwrap(), b"good");
        assert_eq!(count(&server), connections);
    }
    // In chunks an answer has no length, and an object has to have one.
    let chunked = Server::start(bucket_and(|_, _| {
        Reply::Say(format!("HTTP/1.1 200 OK\r\netag: \"tag\"\r\nlast-modified: {DATE}\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n"))
    }))
    .await;
    let mount = open(&chunked, |settings| settings.retries = 0).await;
    assert_eq!(*read(&mount).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // An error's document may come so.
    let refusing = Server::start(bucket_and(|_, _| {
        let text = "<Error><Code>NoSuchKey</Code><Message>m</Message></Error>";
        Reply::Say(format!("HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n", text.len()))
    }))
    .await;
    let mount = open(&refusing, |_| {}).await;
    assert_eq!(*read(&mount).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_body_was_sent_takes_the_connection_along() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(bucket_and(|head, _| object(head, "good"))).await;
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((mut connection, _)) = listener.accept().await {
            let refuses = std::mem::take(&mut first);
            tokio::spawn(async move {
                let mut input = vec![0; 65_536];
                while let Ok(1..) = connection.read(&mut input).await {
                    let text = match (refuses, input.starts_with(b"HEAD /b HTTP")) {
                        (_, true) => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
                        (true, _) => "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned(),
                        _ => format!("HTTP/1.1 200 OK\r\netag: \"t\"\r\nlast-modified: {DATE}\r\ncontent-length: 4\r\n\r\ngood"),
                    };
                    let _ = connection.write_all(text.as_bytes()).await;
                    if refuses && !input.starts_with(b"HEAD") {
                        // Nothing of the body is taken.
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    let mount = open(&server, |settings| {
        settings.endpoint = format!("http://{address}").parse().unwrap();
        settings.retries = 0;
    })
    .await;
    let refused = mount.put(&key(), body(30_000_000), &PutOptions::default()).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(read(&mount).await.unwrap(), b"good");
}
