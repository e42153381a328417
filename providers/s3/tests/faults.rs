//! Remotes that misbehave: each fault is the error that says what it is, and never a wrong answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod server;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use server::{DATE, Reply, Server, answer, bucket_and, fault, object};
use sluice_provider::{
    Body, BodyFault, DeleteWhen, ETag, Error, ErrorKind, Key, ListQuery, Provider, PutBody, PutOptions, PutWhen, ReadOptions,
    Seal,
};
use sluice_provider_s3::{Conditions, S3};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn key() -> Key {
    Key::new("k").unwrap()
}

fn seal() -> Seal {
    Seal { etag: ETag::new("etag").unwrap(), attributes: Default::default() }
}

fn body(size: usize) -> PutBody {
    PutBody::from_bytes(Bytes::from(vec![7; size]), seal())
}

/// A body in pieces that ends in an error when all but its last piece went, as one whose checksum is wrong does.
fn bad_body(size: usize, piece: usize) -> PutBody {
    let pieces = (0..size / piece - 1).map(move |_| Ok(Bytes::from(vec![7; piece])));
    let end = Err(Error::new(ErrorKind::Body(BodyFault::Md5Mismatch), "test"));
    PutBody::new(stream::iter(pieces.chain([end]).collect::<Vec<_>>()).boxed(), Some(size as u64), Arc::new(OnceLock::new()))
}

async fn read_kind(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> ErrorKind {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(bucket_and(script)).await;
    let mount = S3::open(server.settings(&dir)).await.unwrap();
    let object = match mount.get(&key(), &ReadOptions::default()).await {
        Ok(object) => object,
        Err(error) => return *error.kind(),
    };
    let mut body = match object.body {
        Body::Socket(body) => body.into_stream(),
        Body::Stream(body) => body,
        body => panic!("no stream: {body:?}"),
    };
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => bytes += chunk.len(),
            Err(error) => return *error.kind(),
        }
    }
    panic!("a clean end after {bytes} bytes");
}

#[tokio::test]
async fn reads_of_remotes_that_misbehave() {
    assert_eq!(read_kind(|_, _| fault("404 Not Found", "NoSuchKey")).await, ErrorKind::NotFound);
    assert_eq!(read_kind(|_, _| fault("404 Not Found", "NoSuchBucket")).await, ErrorKind::Unavailable);
    assert_eq!(read_kind(|_, _| answer("404 Not Found", "", "<html>nobody here</html>")).await, ErrorKind::Unavailable);
    assert_eq!(read_kind(|_, _| fault("503 Slow Down", "SlowDown")).await, ErrorKind::Busy);
    assert_eq!(read_kind(|_, _| answer("500 Oops", "", "garbage")).await, ErrorKind::Unavailable);
    assert_eq!(read_kind(|_, _| fault("403 Forbidden", "AccessDenied")).await, ErrorKind::PermissionDenied);
    assert_eq!(read_kind(|_, _| Reply::Hang).await, ErrorKind::TimedOut);
    assert_eq!(read_kind(|_, _| Reply::Cut(String::new())).await, ErrorKind::Unavailable);
    assert_eq!(read_kind(|_, _| Reply::Cut("nonsense\r\n\r\n".into())).await, ErrorKind::Unavailable);
    // Headers that are missing, or make no sense.
    assert_eq!(read_kind(|_, _| answer("200 OK", "", "body")).await, ErrorKind::Unavailable);
    let untagged = format!("etag: \"\"\r\nlast-modified: {DATE}\r\n");
    assert_eq!(read_kind(move |_, _| answer("200 OK", &untagged, "body")).await, ErrorKind::Unavailable);
    let ranged = format!("etag: \"t\"\r\nlast-modified: {DATE}\r\ncontent-range: bytes 5-2/3\r\n");
    assert_eq!(read_kind(move |_, _| answer("206 Partial Content", &ranged, "body")).await, ErrorKind::Unavailable);
    // Bodies that end too soon, or do not go on.
    let promised = format!("HTTP/1.1 200 OK\r\netag: \"t\"\r\nlast-modified: {DATE}\r\ncontent-length: 100\r\n\r\nshort");
    let text = promised.clone();
    assert_eq!(read_kind(move |_, _| Reply::Cut(text.clone())).await, ErrorKind::Unavailable);
    assert_eq!(read_kind(move |_, _| Reply::Say(promised.clone())).await, ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_missing_bucket_is_never_a_missing_key() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = gone.clone();
    let server = Server::start(move |head, _| match head {
        _ if told.load(std::sync::atomic::Ordering::Relaxed) => answer("404 Not Found", "", ""),
        _ if head.starts_with("HEAD /b HTTP") => answer("200 OK", "", ""),
        _ => answer("404 Not Found", "", ""),
    })
    .await;
    let mount = S3::open(server.settings(&dir)).await.unwrap();
    assert_eq!(*mount.head(&key(), &ReadOptions::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    gone.store(true, std::sync::atomic::Ordering::Relaxed);
    // That it was seen is believed for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(*mount.head(&key(), &ReadOptions::default()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = mount.check().await.unwrap_err();
    assert!(error.to_string().contains("no such bucket") && error.to_string().contains(&server.address), "{error}");
}

#[tokio::test]
async fn what_may_be_repeated_is_and_what_may_not_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(bucket_and(|head, nth| match nth {
        0 if head.starts_with("HEAD /b/k") => answer("500 Oops", "", ""),
        1 if head.starts_with("HEAD /b/k") => Reply::Cut(String::new()),
        _ if head.starts_with("HEAD /b/k") => object(head, "body"),
        0 if head.contains("if-none-match") => answer("500 Oops", "", ""),
        _ => answer("200 OK", "etag: \"tag\"\r\n", ""),
    }))
    .await;
    let mount = S3::open(server.settings(&dir)).await.unwrap();
    assert_eq!(mount.head(&key(), &ReadOptions::default()).await.unwrap().size, 4);
    assert_eq!(server.asked("HEAD /b/k").len(), 3);
    // Perhaps it was done: a second try would then be refused, and the winner told that it lost.
    let put = PutOptions { when: PutWhen::IfAbsent, ..PutOptions::default() };
    assert_eq!(*mount.put(&key(), body(10), &put).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.asked("PUT /b/k").len(), 1);
}

#[tokio::test]
async fn a_bad_body_never_ends() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(bucket_and(|_, _| answer("200 OK", "etag: \"tag\"\r\n", ""))).await;
    let mount = S3::open(server.settings(&dir)).await.unwrap();
    for (size, piece) in [(500, 100), (5_000, 1000), (4_000_000, 50_000)] {
        let error = mount.put(&key(), bad_body(size, piece), &PutOptions::default()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Body(BodyFault::Md5Mismatch));
    }
    // Nothing was sent of the one that is held; the others broke off before their end.
    tokio::time::timeout(Duration::from_secs(10), async {
        while server.asked("PUT /b/k").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    for seen in server.asked("PUT /b/") {
        assert!(!seen.whole && seen.body < 4_000_000, "{seen:?}");
    }
}

#[tokio::test]
async fn a_refusal_in_mid_body_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 8192];
                let n = connection.read(&mut head).await.unwrap();
                let text = if head[..n].starts_with(b"HEAD") {
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()
                } else {
                    let xml = "<Error><Code>SlowDown</Code></Error>";
                    format!("HTTP/1.1 503 Slow Down\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{xml}", xml.len())
                };
                connection.write_all(text.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            });
        }
    });
    let server = Server { address, seen: Arc::default(), connections: Arc::default() };
    let mount = S3::open(server.settings(&dir)).await.unwrap();
    let error = mount.put(&key(), body(3_000_000), &PutOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unavailable), "{error}");
}

#[tokio::test]
async fn a_remote_that_ignores_ranges_or_conditions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(bucket_and(|head, _| match head {
        _ if head.starts_with("GET") || head.starts_with("HEAD") => object(head, "0123456789"),
        _ if head.contains("x-amz-copy-source") => {
            answer("200 OK", "", "<CopyObjectResult><ETag>\"t\"</ETag></CopyObjectResult>")
        }
        _ if head.starts_with("POST") => {
            answer("200 OK", "", "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        }
        _ if head.starts_with("DELETE") => answer("204 No Content", "", ""),
        _ => answer("200 OK", "etag: \"tag\"\r\n", ""),
    }))
    .await;
    let mut settings = server.settings(&dir);
    settings.conditions = Conditions::Probe;
    let mount = S3::open(settings).await.unwrap();
    assert!(!mount.features().conditions);
    for when in [PutWhen::IfAbsent, PutWhen::IfPresent, PutWhen::IfMatch(ETag::new("tag").unwrap())] {
        let put = PutOptions { when, ..PutOptions::default() };
        assert_eq!(*mount.put(&key(), body(1), &put).await.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    let when = DeleteWhen::IfMatch { etag: None, modified: None, size: Some(1) };
    let delete = mount.delete(&[sluice_provider::DeleteKey { key: key(), when }]).await.pop().unwrap();
    assert_eq!(*delete.unwrap_err().kind(), ErrorKind::Unsupported);
    let read = ReadOptions { range: Some(sluice_provider::RangeSpec::From(3)), if_match: None };
    assert_eq!(*mount.get(&key(), &read).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn listings_that_make_no_sense() {
    let pages = [
        "nonsense",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key><LastModified>then</LastModified><ETag>\"t\"</ETag><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key><LastModified>2025-02-01T10:00:00Z</LastModified><ETag>\"t\"</ETag><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents>",
        "<Error><Code>NoSuchBucket</Code></Error>",
    ];
    for page in pages {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(bucket_and(move |_, _| answer("200 OK", "", page))).await;
        let mount = S3::open(server.settings(&dir)).await.unwrap();
        let error = mount.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable, "{page}");
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| answer("404 Not Found", "", "")).await;
    let error = S3::open(server.settings(&dir)).await.unwrap_err();
    assert!(*error.kind() == ErrorKind::Unavailable && error.to_string().contains("no such bucket"), "{error}");
    let server = Server::start(|_, _| answer("403 Forbidden", "", "")).await;
    let error = S3::open(server.settings(&dir)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PermissionDenied);
    let server = Server::start(bucket_and(|_, _| fault("403 Forbidden", "AccessDenied"))).await;
    let mut settings = server.settings(&dir);
    settings.conditions = Conditions::Probe;
    let error = S3::open(settings.clone()).await.unwrap_err();
    assert!(*error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("read_only"), "{error}");
    settings.read_only = true;
    let mount = S3::open(settings).await.unwrap();
    assert!(!mount.features().writable && mount.multipart().is_none());
    assert_eq!(*mount.put(&key(), body(1), &PutOptions::default()).await.unwrap_err().kind(), ErrorKind::Unsupported);
    // A web server that has a page for everything.
    let server = Server::start(|_, _| answer("200 OK", "", "<html>come back later</html>")).await;
    let mut settings = server.settings(&dir);
    settings.conditions = Conditions::Probe;
    let error = S3::open(settings).await.unwrap_err();
    assert!(*error.kind() == ErrorKind::Unavailable && error.to_string().contains("not S3"), "{error}");
    // Nobody listens there.
    let mut settings = server.settings(&dir);
    settings.endpoint = "http://127.0.0.1:1".parse().unwrap();
    let error = S3::open(settings).await.unwrap_err();
    assert!(*error.kind() == ErrorKind::Unavailable && error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(!error.to_string().contains("S3CRET"));
}
