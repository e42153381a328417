//! Several upstreams of one mount: reads that go on elsewhere, writes that do not, connections that are kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod server;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use server::{DATE, Reply, Server, answer, bucket_and, fault, object};
use sluice_provider::{Body, ETag, ErrorKind, Key, ListQuery, Object, Provider, PutBody, PutOptions, ReadOptions, Seal};
use sluice_provider_s3::{S3, Select, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn key() -> Key {
    Key::new("k").unwrap()
}

async fn read(object: Object) -> Vec<u8> {
    match object.body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::Socket(body) => body.into_stream().map(|chunk| chunk.unwrap().to_vec()).collect::<Vec<_>>().await.concat(),
        Body::Stream(stream) => stream.map(|chunk| chunk.unwrap().to_vec()).collect::<Vec<_>>().await.concat(),
        Body::File { .. } => panic!("no file"),
    }
}

fn with(first: &Server, others: &[&Server], select: Select, dir: &tempfile::TempDir) -> Settings {
    let mut settings = first.settings(dir);
    settings.upstreams = others.iter().map(|server| format!("http://{}", server.address).parse().unwrap()).collect();
    settings.select = select;
    // Longer than any answer takes on a busy machine.
    settings.answer_timeout = Duration::from_secs(3);
    settings
}

/// A server whose object has this content.
async fn holding(content: &'static str) -> Server {
    Server::start(bucket_and(move |head, _| object(head, content))).await
}

/// The first of the names that `one` is asked for, of these two.
async fn names_at(one: &Server, mount: &S3) -> Vec<Key> {
    let mut names = Vec::new();
    for n in 0..64 {
        let key = Key::new(format!("key-{n}")).unwrap();
        let before = one.asked(&format!("/b/{key} ")).len();
        read(mount.get(&key, &ReadOptions::default()).await.unwrap()).await;
        if one.asked(&format!("/b/{key} ")).len() > before {
            names.push(key);
        }
    }
    names
}

#[tokio::test]
async fn reads_are_spread_and_writes_go_to_the_primary() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (holding("one").await, holding("two").await);
    let mount = S3::open(with(&one, &[&two], Select::Balanced, &dir)).await.unwrap();
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(read(mount.get(&key(), &ReadOptions::default()).await.unwrap()).await);
    }
    got.sort();
    assert_eq!(got, [b"one", b"one", b"two", b"two"].map(|text| text.to_vec()));
    let body = || {
        let seal = Seal { etag: ETag::new("tag").unwrap(), attributes: Default::default() };
        let chunks = futures::stream::iter([Ok(Bytes::from_static(b"new"))]).boxed();
        PutBody::new(chunks, Some(3), Arc::new(OnceLock::from(seal)))
    };
    for _ in 0..3 {
        mount.put(&key(), body(), &PutOptions::default()).await.unwrap();
        // What was just written the replica may not have.
        assert_eq!(read(mount.get(&key(), &ReadOptions::default()).await.unwrap()).await, b"one");
        assert_eq!(mount.head(&key(), &ReadOptions::default()).await.unwrap().size, 3);
    }
    assert_eq!((one.asked("PUT /b/k").len(), two.asked("PUT ").len()), (3, 0));
    let told = mount.upstreams();
    assert_eq!(told.len(), 2);
    assert!(told[0].primary && told[0].place.contains(&one.address) && !told[1].primary && told.iter().all(|u| u.available));
}

#[tokio::test]
async fn a_read_goes_on_elsewhere_until_its_first_byte_is_there() {
    let promised = format!("HTTP/1.1 200 OK\r\netag: \"t\"\r\nlast-modified: {DATE}\r\ncontent-length: 5\r\n\r\n");
    let faults: Vec<Box<dyn Fn() -> Reply + Send + Sync>> = vec![
        Box::new(|| answer("500 Oops", "", "")),
        Box::new(|| fault("503 Slow Down", "SlowDown")),
        Box::new(|| fault("403 Forbidden", "AccessDenied")),
        Box::new(|| answer("200 OK", "", "no headers")),
        Box::new(|| Reply::Cut(String::new())),
        Box::new(|| Reply::Hang),
        Box::new(move || Reply::Cut(promised.clone())),
    ];
    for (n, script) in faults.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let bad = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&bad);
        let script = move |head: &str, _| if told.load(Ordering::SeqCst) { script() } else { object(head, "whole") };
        let replica = Server::start(bucket_and(script)).await;
        let primary = holding("whole").await;
        let mount = S3::open(with(&primary, &[&replica], Select::Affinity, &dir)).await.unwrap();
        let names = names_at(&replica, &mount).await;
        bad.store(true, Ordering::SeqCst);
        let before = replica.seen.lock().unwrap().len();
        assert_eq!(read(mount.get(&names[0], &ReadOptions::default()).await.unwrap()).await, b"whole", "{n}");
        assert_eq!(replica.seen.lock().unwrap().len(), before + 1, "asked once: {n}");
        let told = mount.upstreams();
        assert!(told[1].faults > 0.0 && told[0].faults == 0.0 && told.iter().all(|upstream| upstream.in_flight == 0), "{told:?}");
    }
}

#[tokio::test]
async fn one_that_is_gone_is_left_out_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&gone);
    let replica = Server::start(move |head, _| match head {
        _ if told.load(Ordering::SeqCst) => Reply::Cut(String::new()),
        _ if head.starts_with("HEAD /b HTTP") => answer("200 OK", "", ""),
        _ => object(head, "body"),
    })
    .await;
    let primary = holding("body").await;
    let mount = S3::open(with(&primary, &[&replica], Select::Affinity, &dir)).await.unwrap();
    let names = names_at(&replica, &mount).await;
    gone.store(true, Ordering::SeqCst);
    for name in &names {
        assert_eq!(read(mount.get(name, &ReadOptions::default()).await.unwrap()).await, b"body");
    }
    assert!(!mount.upstreams()[1].available && mount.upstreams()[0].available);
    gone.store(false, Ordering::SeqCst);
    // It is looked at again while requests come, and then asked as before.
    let back = async {
        while !mount.upstreams()[1].available {
            read(mount.get(&names[0], &ReadOptions::default()).await.unwrap()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
    let before = replica.asked(&format!("GET /b/{} ", names[1])).len();
    read(mount.get(&names[1], &ReadOptions::default()).await.unwrap()).await;
    assert_eq!(replica.asked(&format!("GET /b/{} ", names[1])).len(), before + 1);
}

#[tokio::test]
async fn a_mount_whose_primary_is_gone_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Server::start(bucket_and(|head, _| {
        if head.starts_with("GET /b?") {
            let line = "<Key>k</Key><LastModified>2025-02-01T10:00:00Z</LastModified><ETag>\"t\"</ETag><Size>4</Size>";
            return answer("200 OK", "", &format!("<ListBucketResult><Contents>{line}</Contents></ListBucketResult>"));
        }
        if head.contains("/b/none ") { fault("404 Not Found", "NoSuchKey") } else { object(head, "body") }
    }))
    .await;
    let mut settings = replica.settings(&dir);
    settings.upstreams = vec![settings.endpoint.clone()];
    settings.endpoint = "http://127.0.0.1:1".parse().unwrap();
    settings.retries = 0;
    settings.answer_timeout = Duration::from_secs(60);
    let mount = S3::open(settings).await.unwrap();
    mount.check().await.unwrap();
    for _ in 0..4 {
        assert_eq!(read(mount.get(&key(), &ReadOptions::default()).await.unwrap()).await, b"body");
    }
    assert_eq!(mount.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap().entries.len(), 1);
    // It may have been written to the primary alone.
    let none = Key::new("none").unwrap();
    assert_eq!(*mount.head(&none, &ReadOptions::default()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// A server that says yes to everything. It counts its connections, and how many requests it ever had at the same time.
async fn counting() -> (String, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (open, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let counts = (Arc::clone(&open), Arc::clone(&most));
    let busy = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let (open, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
            open.fetch_add(1, Ordering::SeqCst);
            let busy = Arc::clone(&busy);
            tokio::spawn(async move {
                let mut input = Vec::new();
                while let Ok(1..) = connection.read_buf(&mut input).await {
                    if input.ends_with(b"\r\n\r\n") {
                        input.clear();
                        most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        // The others come meanwhile.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        let text =
                            format!("HTTP/1.1 200 OK\r\netag: \"t\"\r\nlast-modified: {DATE}\r\ncontent-length: 4\r\n\r\n");
                        busy.fetch_sub(1, Ordering::SeqCst);
                        let _ = connection.write_all(text.as_bytes()).await;
                    }
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, open, most)
}

#[tokio::test]
async fn so_many_connections_stay_open() {
    let dir = tempfile::tempdir().unwrap();
    let (address, open, most) = counting().await;
    let mut settings = holding("").await.settings(&dir);
    settings.endpoint = format!("http://{address}").parse().unwrap();
    (settings.min_idle, settings.idle, settings.max_connections) = (3, Duration::from_millis(400), 8);
    settings.connect_timeout = Duration::from_secs(60);
    settings.answer_timeout = Duration::from_secs(60);
    let mount = S3::open(settings).await.unwrap();
    let becomes = |wanted: usize| {
        let open = Arc::clone(&open);
        async move {
            while open.load(Ordering::SeqCst) != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    // Before anybody asks for anything.
    tokio::time::timeout(Duration::from_secs(60), becomes(3)).await.unwrap();
    let (object_key, options) = (key(), ReadOptions::default());
    let heads = (0..64).map(|_| mount.head(&object_key, &options));
    futures::future::try_join_all(heads).await.unwrap();
    // Those that keep it warm do not wait for a turn.
    assert!(most.load(Ordering::SeqCst) <= 8 + 3, "{most:?}");
    tokio::time::timeout(Duration::from_secs(60), becomes(3)).await.unwrap();
    // With the mount its connections go.
    drop(mount);
    tokio::time::timeout(Duration::from_secs(60), becomes(0)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_gets_no_turn_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(bucket_and(|head, _| {
        let headers = format!("etag: \"tag\"\r\nlast-modified: {DATE}\r\ncontent-length: 8000000\r\n");
        if head.starts_with("GET") { answer("200 OK", &headers, "begin") } else { object(head, "") }
    }))
    .await;
    let mut settings = server.settings(&dir);
    (settings.max_connections, settings.connect_timeout) = (4, Duration::from_millis(500));
    let mount = S3::open(settings).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(mount.get(&key(), &ReadOptions::default()).await.unwrap());
    }
    let busy = mount.get(&key(), &ReadOptions::default()).await.unwrap_err();
    assert!(*busy.kind() == ErrorKind::Busy && busy.to_string().contains("max_connections"), "{busy}");
    held.pop();
    mount.get(&key(), &ReadOptions::default()).await.unwrap();
}
