//! Bodies and parts that are streamed to the remote, the space that is hidden there, and what others see of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod remote;

use std::sync::{Arc, Mutex, OnceLock, Weak};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use remote::{Remote, shared};
use sluice_provider::{
    AttributeChange, Attributes, Body, BodyFault, ByteStream, CopyOptions, ETag, Error, ErrorKind, Key, ListQuery, PartNumber,
    Provider, PutBody, PutOptions, PutWhen, ReadOptions, Seal, UploadId,
};
use sluice_provider_s3::{Answers, S3, Settings};

static REMOTE: Mutex<Weak<Remote>> = Mutex::new(Weak::new());

/// A mount, and the gateway behind it.
struct Held {
    mount: S3,
    _remote: Arc<Remote>,
}

impl std::ops::Deref for Held {
    type Target = S3;

    fn deref(&self) -> &S3 {
        &self.mount
    }
}

/// A mount whose answers are quick, and one of the same bucket that has nothing hidden: what others see.
async fn open() -> (Held, Settings) {
    let remote = shared(&REMOTE, "local");
    let mut settings = remote.settings();
    settings.answers = Answers::Quick;
    let mount = S3::open(settings.clone()).await.unwrap();
    assert!(mount.features().conditions, "the remote is a gateway that keeps them");
    (Held { mount, _remote: remote }, settings)
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn content(seed: u8, size: usize) -> Bytes {
    (0..size).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<_>>().into()
}

/// A body in pieces, of a length that is declared or not; its seal tells its attributes only at its end.
fn body(bytes: &Bytes, piece: usize, declare: bool) -> PutBody {
    sealing(bytes, piece, declare, Arc::default())
}

/// The same, with the slot that tells whether it was read to its end.
fn sealing(bytes: &Bytes, piece: usize, declare: bool, slot: Arc<OnceLock<Seal>>) -> PutBody {
    let fill = slot.clone();
    let pieces: Vec<Bytes> = (0..bytes.len()).step_by(piece).map(|at| bytes.slice(at..bytes.len().min(at + piece))).collect();
    let seal = Seal { etag: ETag::new("given").unwrap(), attributes: [("sum", "computed")].into_iter().collect() };
    let end = stream::once(async move {
        let _ = fill.set(seal);
    });
    let stream = stream::iter(pieces.into_iter().map(|p| Some(Ok(p)))).chain(end.map(|()| None));
    let stream = stream.filter_map(futures::future::ready).boxed();
    PutBody::new(stream, declare.then_some(bytes.len() as u64), slot)
}

fn broken(size: usize, declare: bool) -> PutBody {
    let pieces = (0..size / 65_536).map(|_| Ok(Bytes::from(vec![1; 65_536])));
    let end = Err(Error::new(ErrorKind::Body(BodyFault::ChecksumMismatch("CRC32")), "test"));
    let stream = stream::iter(pieces.chain([end]).collect::<Vec<_>>()).boxed();
    PutBody::new(stream, declare.then_some(size as u64 + 65_536), Arc::default())
}

async fn read(mount: &S3, name: &str) -> Bytes {
    let object = mount.get(&key(name), &ReadOptions::default()).await.unwrap();
    match object.body {
        Body::Bytes(bytes) => bytes,
        Body::Stream(stream) => gathered(stream).await,
        Body::Socket(body) => gathered(body.into_stream()).await,
        Body::File { .. } => panic!("no file"),
    }
}

async fn gathered(stream: ByteStream) -> Bytes {
    let chunks: Vec<Bytes> = stream.map(Result::unwrap).collect().await;
    chunks.concat().into()
}

async fn names(mount: &S3, prefix: &str) -> Vec<String> {
    let query = ListQuery { prefix: prefix.into(), limit: 1000, ..ListQuery::default() };
    mount.list(&query).await.unwrap().entries.iter().map(|entry| entry.name().to_owned()).collect()
}

/// What lies in the hidden space, as a mount sees it that has another one.
async fn hidden(settings: &Settings, kind: &str) -> Vec<String> {
    let mut inside = settings.clone();
    inside.prefix = ".sluice-s3/".into();
    names(&S3::open(Settings { read_only: true, ..inside }).await.unwrap(), kind).await
}

#[tokio::test]
async fn large_bodies_go_as_they_come_and_keep_what_the_end_tells() {
    let (mount, settings) = open().await;
    let bytes = content(1, 9_000_000);
    let put = PutOptions {
        attributes: [("content-type", "text/x-test"), ("meta.colour", "blue"), ("sum", "given")].into_iter().collect(),
        ..PutOptions::default()
    };
    for (name, declare) in [("declared", true), ("not", false)] {
        let info = mount.put(&key(name), body(&bytes, 70_001, declare), &put).await.unwrap();
        let head = mount.head(&key(name), &ReadOptions::default()).await.unwrap();
        assert_eq!((info.size, info.etag.as_str(), head.etag.as_str()), (9_000_000, "given", "given"));
        assert_eq!(head.attributes.get("sum"), Some("computed"));
        assert_eq!(head.attributes.get("content-type"), Some("text/x-test"));
        assert!(read(&mount, name).await == bytes, "{name}");
    }
    assert_eq!(names(&mount, "").await, ["declared", "not"]);
    assert_eq!(hidden(&settings, "r/").await.len(), 2);
    for outcome in mount.delete(&[key("declared").into(), key("not").into()]).await {
        outcome.unwrap();
    }
    assert_eq!(hidden(&settings, "").await, [""; 0], "records of objects that are gone");
}

#[tokio::test]
async fn broken_bodies_leave_nothing() {
    let (mount, settings) = open().await;
    let old = content(2, 5_000_000);
    mount.put(&key("k"), body(&old, 100_000, true), &PutOptions::default()).await.unwrap();
    for (size, declare) in [(200_000, true), (6_000_000, true), (20_000_000, false)] {
        for name in ["k", "new"] {
            let error = mount.put(&key(name), broken(size, declare), &PutOptions::default()).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Body(BodyFault::ChecksumMismatch("CRC32")), "{error}");
        }
    }
    assert_eq!(names(&mount, "").await, ["k"]);
    assert!(read(&mount, "k").await == old);
    assert_eq!(hidden(&settings, "").await.len(), 1);
}

#[tokio::test]
async fn conditions_hold_for_streamed_bodies_too() {
    let (mount, _) = open().await;
    let when = |when| PutOptions { when, ..PutOptions::default() };
    let (one, two) = (content(3, 5_000_000), content(4, 5_500_000));
    let given = ETag::new("given").unwrap();
    for declare in [true, false] {
        mount.put(&key("k"), body(&one, 100_000, declare), &when(PutWhen::IfAbsent)).await.unwrap();
        let again = mount.put(&key("k"), body(&two, 100_000, declare), &when(PutWhen::IfAbsent)).await.unwrap_err();
        assert_eq!(*again.kind(), ErrorKind::PreconditionFailed);
        let other = when(PutWhen::IfMatch(ETag::new("other").unwrap()));
        let refused = mount.put(&key("k"), body(&two, 100_000, declare), &other).await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::PreconditionFailed);
        assert!(read(&mount, "k").await == one);
        mount.put(&key("k"), body(&two, 100_000, declare), &when(PutWhen::IfMatch(given.clone()))).await.unwrap();
        assert!(read(&mount, "k").await == two);
        mount.delete(&[key("k").into()]).await.pop().unwrap().unwrap();
    }
}

#[tokio::test]
async fn parts_of_an_upload_are_parts_at_the_remote() {
    let (mount, settings) = open().await;
    let multipart = mount.multipart().unwrap();
    let (name, upload) = (key("dir/big"), UploadId::new("upload-1").unwrap());
    multipart.create(&name, &upload).await.unwrap();
    let number = |n| PartNumber::new(n).unwrap();
    let (one, two, three) = (content(5, 5 * 1024 * 1024), content(6, 6_000_000), content(7, 1234));
    let mut parts = Vec::new();
    for (n, bytes) in [(3, &three), (2, &two), (1, &one)] {
        let seal = Arc::default();
        let part = sealing(bytes, 65_536, true, Arc::clone(&seal));
        let token = multipart.put_part(&name, &upload, number(n), part).await.unwrap();
        assert_eq!(token.starts_with('n'), n < 3, "{token}");
        assert!(seal.get().is_some(), "a part was stored before its body had ended");
        parts.insert(0, (token, bytes.len() as u64));
    }
    // One that breaks takes nothing away, one that is sent again has another token and leaves the old one.
    let error = multipart.put_part(&name, &upload, number(1), broken(6_000_000, true)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Body(BodyFault::ChecksumMismatch("CRC32")));
    let newer = content(8, 5_300_000);
    let again = multipart.put_part(&name, &upload, number(2), body(&newer, 65_536, true)).await.unwrap();
    assert_ne!(again, parts[1].0);
    let put =
        PutOptions { attributes: [("content-type", "a/b"), ("tags", "x=y")].into_iter().collect(), ..PutOptions::default() };
    let picked = [parts[0].clone(), (again, newer.len() as u64), parts[2].clone()];
    let etag = ETag::new("0123456789abcdef0123456789abcdef-3").unwrap();
    let info = multipart.complete(&name, &upload, &picked, &etag, &put).await.unwrap();
    assert_eq!((info.size, &info.etag), ((one.len() + newer.len() + three.len()) as u64, &etag));
    assert!(read(&mount, "dir/big").await == [one, newer, three].concat());
    assert_eq!(mount.head(&name, &ReadOptions::default()).await.unwrap().attributes, put.attributes);
    let staged: Vec<_> = hidden(&settings, "").await.into_iter().filter(|name| !name.starts_with("r/")).collect();
    assert_eq!(staged, [""; 0], "parts that are left behind");
    let over = multipart.put_part(&name, &upload, number(4), body(&content(1, 5), 5, true)).await.unwrap_err();
    assert_eq!(*over.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn small_parts_before_a_large_one_are_refused_whole() {
    let (mount, _) = open().await;
    let multipart = mount.multipart().unwrap();
    let (name, upload) = (key("k"), UploadId::new("u").unwrap());
    multipart.create(&name, &upload).await.unwrap();
    let mut parts = Vec::new();
    for (n, size) in [(1, 10), (2, 6_000_000)] {
        let bytes = content(1, size);
        let token = multipart.put_part(&name, &upload, PartNumber::new(n).unwrap(), body(&bytes, 65_536, true)).await.unwrap();
        parts.push((token, size as u64));
    }
    let refused = multipart.complete(&name, &upload, &parts, &ETag::new("e-2").unwrap(), &PutOptions::default()).await;
    assert_eq!(*refused.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(*mount.head(&name, &ReadOptions::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    multipart.abort(&name, &upload).await.unwrap();
}

#[tokio::test]
async fn a_prefix_is_a_world_of_its_own() {
    let (_held, settings) = open().await;
    let below = S3::open(Settings { prefix: "team/a/".into(), ..settings.clone() }).await.unwrap();
    let beside = S3::open(Settings { prefix: "team/b/".into(), ..settings.clone() }).await.unwrap();
    let whole = S3::open(settings).await.unwrap();
    for name in ["x", "../b/y", "/z"] {
        below.put(&key(name), body(&content(1, 10), 10, true), &PutOptions::default()).await.unwrap();
    }
    assert_eq!(names(&below, "").await, ["../b/y", "/z", "x"]);
    assert!(names(&beside, "").await.is_empty());
    assert_eq!(names(&whole, "").await, ["team/a/../b/y", "team/a//z", "team/a/x"]);
    let reserved = below.put(&key(".sluice-s3/x"), body(&content(1, 1), 1, true), &PutOptions::default()).await.unwrap_err();
    assert_eq!(*reserved.kind(), ErrorKind::InvalidKey);
    let long = below.put(&key(&"k".repeat(1024)), body(&content(1, 1), 1, true), &PutOptions::default()).await.unwrap_err();
    assert_eq!(*long.kind(), ErrorKind::InvalidKey);
    assert_eq!(*below.head(&key(".sluice-s3/x"), &ReadOptions::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_change_of_attributes_leaves_a_copy_as_it_was() {
    let (mount, settings) = open().await;
    let attributes: Attributes = [("content-type", "a/b"), ("tags", "a=1")].into_iter().collect();
    let put = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    mount.put(&key("k"), body(&content(1, 100), 50, true), &put).await.unwrap();
    let change = AttributeChange { if_match: None, set: vec![("tags".into(), Some("a=2".into()))] };
    mount.set_attributes(&key("k"), &change).await.unwrap();
    mount.copy(&key("k"), &key("copy"), &CopyOptions::default()).await.unwrap();
    let change = AttributeChange { if_match: None, set: vec![("tags".into(), Some("a=3".into()))] };
    mount.set_attributes(&key("k"), &change).await.unwrap();
    let tags = async |name: &str| {
        mount.head(&key(name), &ReadOptions::default()).await.unwrap().attributes.get("tags").map(str::to_owned)
    };
    assert_eq!((tags("k").await.as_deref(), tags("copy").await.as_deref()), (Some("a=3"), Some("a=2")));
    // The record goes with its object.
    mount.delete(&[key("k").into()]).await.pop().unwrap().unwrap();
    assert_eq!(hidden(&settings, "r/").await, [""; 0]);
}

#[tokio::test]
async fn a_sweep_removes_what_no_object_names() {
    let (mount, settings) = open().await;
    let (one, two) = (content(1, 4_500_000), content(2, 4_600_000));
    for bytes in [&one, &two] {
        mount.put(&key("k"), body(bytes, 100_000, true), &PutOptions::default()).await.unwrap();
    }
    mount.put(&key("other"), body(&one, 100_000, true), &PutOptions::default()).await.unwrap();
    assert_eq!(hidden(&settings, "r/").await.len(), 3);
    mount.sweep().await.unwrap();
    assert_eq!(hidden(&settings, "r/").await.len(), 3, "a young one may still get its object");
    // The next one begins where that one ended, and the one after it at the beginning again.
    let none = std::time::Duration::ZERO;
    assert_eq!((mount.sweep_records(none).await.unwrap(), mount.sweep_records(none).await.unwrap()), (0, 1));
    assert_eq!(hidden(&settings, "r/").await.len(), 2);
    assert!(read(&mount, "k").await == two && read(&mount, "other").await == one);
}
