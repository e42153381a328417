#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use sluice_provider::{Body, PartNumber, Provider, PutBody};

use super::super::{NewUpload, parse_parts};
use super::*;
use crate::meta::{BucketRecord, MetaStore, SqliteStore};
use crate::mounts::probe::Probe;
use crate::mounts::{Mount, MountTable};
use crate::transfer::{Declared, md5_hex, verify};

const MIB: usize = 1024 * 1024;

struct Bench {
    store: Arc<SqliteStore>,
    uploads: Arc<Uploads>,
    handles: crate::handles::Registry,
    ns: Arc<Namespace>,
    probe: Arc<Probe>,
}

impl Bench {
    async fn new() -> Self {
        let store = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let bucket = BucketRecord { name: "bucket".into(), owner: "me".into(), created: 0, location: String::new() };
        store.create_bucket(&bucket, &[]).await.unwrap();
        let probe = Probe::new();
        let ns = Arc::new(Namespace::new(bucket, MountTable::new(vec![at("m/", &probe)]), BTreeMap::new()));
        let handles = crate::handles::Registry::new(Default::default());
        let uploads = Arc::new(Uploads::new(store.clone()).with_handles(handles.clone()));
        Self { store, uploads, handles, ns, probe }
    }

    async fn create(&self, checksum: Option<(Algorithm, ChecksumType)>) -> String {
        let attributes = [("content-type", "text/plain")].into_iter().collect();
        let new = NewUpload { attributes, initiator: "me".into(), checksum, encryption: None };
        self.uploads.create(&self.ns, "m/k", new).await.unwrap().upload_id
    }

    async fn put(&self, id: &str, n: i64, bytes: &Bytes) -> Result<PartRecord> {
        self.uploads.put_part(&self.ns, "m/k", id, number(n), body(bytes, &Algorithm::ALL)).await
    }

    async fn complete(&self, id: &str, request: CompleteRequest) -> Result<ObjectInfo> {
        self.uploads.complete(&self.ns, "m/k", id, request).await
    }

    async fn read(&self) -> Vec<u8> {
        let object = self.probe.get(&Key::new("k").unwrap(), &ReadOptions::default()).await.unwrap();
        match object.body {
            Body::Bytes(bytes) => bytes.to_vec(),
            Body::Stream(stream) => stream.map(|chunk| chunk.unwrap().to_vec()).collect::<Vec<_>>().await.concat(),
            body => panic!("in memory: {body:?}"),
        }
    }

    async fn holds_nothing(&self, id: &str) {
        assert!(self.store.upload("bucket", id).await.unwrap().is_none());
        assert_eq!(self.store.parts(id, 0, 10).await.unwrap().len(), 0);
        let (key, upload) = (Key::new("k").unwrap(), provider::UploadId::new(id).unwrap());
        let late = self.probe.multipart().unwrap().put_part(&key, &upload, number(1), body(&Bytes::from("x"), &[])).await;
        assert!(is(&late.unwrap_err(), provider::ErrorKind::NotFound));
        assert!(self.handles.is_empty());
    }
}

fn at(prefix: &str, probe: &Arc<Probe>) -> Mount {
    Mount { prefix: prefix.into(), kind: "probe".into(), provider: Arc::clone(probe) as _, authoriser: None }
}

fn number(n: i64) -> PartNumber {
    PartNumber::new(n).unwrap()
}

fn body(bytes: &Bytes, compute: &[Algorithm]) -> PutBody {
    let chunks: Vec<_> = bytes.chunks(MIB).map(|chunk| Ok(bytes.slice_ref(chunk))).collect();
    verify(futures::stream::iter(chunks).boxed(), Declared { compute: compute.to_vec(), ..Declared::default() })
}

fn named(n: i64, bytes: &Bytes) -> NamedPart {
    NamedPart { number: number(n), etag: md5_hex(bytes), checksums: Vec::new() }
}

fn request(parts: Vec<NamedPart>) -> CompleteRequest {
    CompleteRequest { parts, ..CompleteRequest::default() }
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("an error").kind().clone()
}

fn big(seed: u8) -> Bytes {
    (0..5 * MIB).map(|n| (n as u8).wrapping_mul(31) ^ seed).collect::<Vec<_>>().into()
}

/// E10 in small: parts out of order, one uploaded again, ETag `…-N`, everything freed.
#[tokio::test]
async fn parts_become_an_object() {
    let bench = Bench::new().await;
    let id = bench.create(None).await;
    let (one, other, two, last) = (big(1), big(9), big(2), Bytes::from("the end"));
    bench.put(&id, 7, &last).await.unwrap();
    bench.put(&id, 2, &two).await.unwrap();
    bench.put(&id, 1, &other).await.unwrap();
    let part = bench.put(&id, 1, &one).await.unwrap();
    assert_eq!((part.size, part.etag), (one.len() as u64, md5_hex(&one)));
    assert_eq!(bench.probe.take_calls().get("discard_part"), Some(&1), "the replaced part is freed");
    let (_, parts, more) = bench.uploads.parts(&bench.ns, "m/k", &id, 1, 1).await.unwrap();
    assert!(more && parts.len() == 1 && parts[0].number == 2);

    let list = vec![named(1, &one), named(2, &two), named(7, &last)];
    let info = bench.complete(&id, request(list.clone())).await.unwrap();
    let whole = [one, two, last].concat();
    assert_eq!(info.key.as_str(), "m/k");
    assert_eq!(info.size, whole.len() as u64);
    assert!(info.etag.as_str().ends_with("-3"), "{}", info.etag);
    assert_eq!(bench.read().await, whole);
    let stored = bench.probe.head(&Key::new("k").unwrap(), &ReadOptions::default()).await.unwrap();
    assert_eq!(stored.attributes.get("content-type"), Some("text/plain"));
    let layout = parse_parts(stored.attributes.get(PARTS_ATTRIBUTE).unwrap()).unwrap();
    assert_eq!(layout.iter().map(|p| (p.number, p.size)).collect::<Vec<_>>(), [(1, 5 << 20), (2, 5 << 20), (7, 7)]);
    bench.holds_nothing(&id).await;

    let again = bench.complete(&id, request(list.clone())).await.unwrap();
    assert_eq!(again.etag, info.etag, "asked again, the same answer");
    assert!(matches!(kind(bench.complete(&id, request(list[..2].to_vec())).await), ErrorKind::NoSuchUpload));
    bench.probe.delete(&[Key::new("k").unwrap().into()]).await;
    assert!(matches!(kind(bench.complete(&id, request(list)).await), ErrorKind::NoSuchUpload), "it is gone by now");
}

#[tokio::test]
async fn the_list_of_parts_is_checked() {
    let bench = Bench::new().await;
    let id = bench.create(None).await;
    let (one, small) = (big(1), Bytes::from("small"));
    bench.put(&id, 1, &one).await.unwrap();
    bench.put(&id, 2, &small).await.unwrap();
    bench.put(&id, 3, &small).await.unwrap();
    let wrong_sum = NamedPart { checksums: vec![(Algorithm::Crc32, vec![1, 2, 3, 4])], ..named(1, &one) };
    let right_sum = NamedPart { checksums: vec![(Algorithm::Crc32, Hasher::once(Algorithm::Crc32, &one))], ..named(1, &one) };
    type Expected = fn(&ErrorKind) -> bool;
    let cases: [(Vec<NamedPart>, Expected); 7] = [
        (vec![], |k| matches!(k, ErrorKind::InvalidRequest(_))),
        (vec![named(2, &small), named(1, &one)], |k| matches!(k, ErrorKind::InvalidPartOrder)),
        (vec![named(1, &one), named(1, &one)], |k| matches!(k, ErrorKind::InvalidPartOrder)),
        (vec![named(1, &one), named(9, &small)], |k| matches!(k, ErrorKind::InvalidPart)),
        (vec![named(1, &small)], |k| matches!(k, ErrorKind::InvalidPart)),
        (vec![wrong_sum], |k| matches!(k, ErrorKind::InvalidPart)),
        (vec![named(1, &one), named(2, &small), named(3, &small)], |k| matches!(k, ErrorKind::EntityTooSmall)),
    ];
    for (parts, expected) in cases {
        let got = kind(bench.complete(&id, request(parts.clone())).await);
        assert!(expected(&got), "{parts:?}: {got:?}");
    }
    let wrong_size = CompleteRequest { size: Some(1), ..request(vec![named(1, &one)]) };
    assert!(matches!(kind(bench.complete(&id, wrong_size).await), ErrorKind::InvalidRequest(_)));
    // Nothing of it did any harm.
    let right = CompleteRequest { size: Some(one.len() as u64 + 5), ..request(vec![right_sum, named(2, &small)]) };
    assert_eq!(bench.complete(&id, right).await.unwrap().size, one.len() as u64 + 5);
}

#[tokio::test]
async fn the_checksum_of_the_whole_is_computed_and_compared() {
    let (one, last) = (big(1), Bytes::from("the end"));
    let list = vec![named(1, &one), named(2, &last)];
    let whole = encode(&Hasher::once(Algorithm::Crc64Nvme, &[one.clone(), last.clone()].concat()));
    let sums = [Hasher::once(Algorithm::Sha256, &one), Hasher::once(Algorithm::Sha256, &last)];
    let composite = format!("{}-2", encode(&Hasher::once(Algorithm::Sha256, &sums.concat())));
    for (session, value) in [
        (Some((Algorithm::Crc64Nvme, ChecksumType::FullObject)), &whole),
        (Some((Algorithm::Sha256, ChecksumType::Composite)), &composite),
        (None, &whole),
    ] {
        let bench = Bench::new().await;
        let id = bench.create(session).await;
        bench.put(&id, 1, &one).await.unwrap();
        bench.put(&id, 2, &last).await.unwrap();
        let (algorithm, kind_of) = session.unwrap_or((Algorithm::Crc64Nvme, ChecksumType::FullObject));
        let wrong = value.replacen(&value[..1], if value.starts_with('A') { "B" } else { "A" }, 1);
        let declare = |v: &str| CompleteRequest { checksum: Some((algorithm, v.to_owned())), ..request(list.clone()) };
        let fault = provider::ErrorKind::Body(BodyFault::ChecksumMismatch(algorithm.name()));
        assert!(bench.complete(&id, declare(&wrong)).await.unwrap_err().is_provider(fault));
        if session.is_some() {
            let other = if kind_of == ChecksumType::Composite { ChecksumType::FullObject } else { ChecksumType::Composite };
            let other = CompleteRequest { checksum_type: Some(other), ..declare(value) };
            assert!(matches!(kind(bench.complete(&id, other).await), ErrorKind::InvalidRequest(_)));
        }
        let info = bench.complete(&id, declare(value)).await.unwrap();
        assert_eq!(info.attributes.get(algorithm.attribute()), Some(value.as_str()));
        assert_eq!(info.attributes.get(CHECKSUM_TYPE_ATTRIBUTE), Some(kind_of.name()));
    }
}

/// The process dies between the publication and the end of the session: the Complete asked again finds its object.
#[tokio::test]
async fn a_complete_whose_answer_was_lost_is_found_again() {
    for when in [PutWhen::Always, PutWhen::IfAbsent] {
        let bench = Bench::new().await;
        let id = bench.create(None).await;
        let one = big(1);
        bench.put(&id, 1, &one).await.unwrap();
        bench.probe.lose_complete.store(true, Ordering::SeqCst);
        let ask = || CompleteRequest { when: when.clone(), ..request(vec![named(1, &one)]) };
        assert!(bench.complete(&id, ask()).await.is_err());
        assert!(bench.store.upload("bucket", &id).await.unwrap().is_some());
        let info = bench.complete(&id, ask()).await.unwrap();
        assert_eq!(info.size, one.len() as u64);
        bench.holds_nothing(&id).await;
        assert_eq!(bench.complete(&id, ask()).await.unwrap().etag, info.etag);
    }
}

#[tokio::test]
async fn an_object_of_the_same_bytes_is_not_taken_for_this_uploads() {
    let bench = Bench::new().await;
    let one = big(1);
    let (first, second) = (bench.create(None).await, bench.create(None).await);
    for id in [&first, &second] {
        bench.put(id, 1, &one).await.unwrap();
    }
    let ask = || CompleteRequest { when: PutWhen::IfAbsent, ..request(vec![named(1, &one)]) };
    bench.complete(&first, ask()).await.unwrap();
    assert!(bench.complete(&second, ask()).await.unwrap_err().is_provider(provider::ErrorKind::PreconditionFailed));
    assert!(bench.store.upload("bucket", &second).await.unwrap().is_some(), "it can be completed otherwise");
    bench.complete(&second, request(vec![named(1, &one)])).await.unwrap();
}

#[tokio::test]
async fn a_condition_on_a_missing_object_is_not_a_missing_upload() {
    let bench = Bench::new().await;
    let id = bench.create(None).await;
    let one = Bytes::from("x");
    bench.put(&id, 1, &one).await.unwrap();
    let when = PutWhen::IfMatch(ETag::new("e").unwrap());
    let asked = bench.complete(&id, CompleteRequest { when, ..request(vec![named(1, &one)]) }).await;
    assert!(asked.unwrap_err().is_provider(provider::ErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_completes_agree() {
    for _ in 0..20 {
        let bench = Arc::new(Bench::new().await);
        let id = bench.create(None).await;
        let one = Bytes::from("only");
        bench.put(&id, 1, &one).await.unwrap();
        let racers = (0..8).map(|_| {
            let (bench, id, one) = (Arc::clone(&bench), id.clone(), one.clone());
            tokio::spawn(async move { bench.complete(&id, request(vec![named(1, &one)])).await })
        });
        let outcomes: Vec<_> = join_all(racers).await.into_iter().map(|o| o.unwrap()).collect();
        let etags: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().ok()).map(|info| info.etag.clone()).collect();
        assert!(!etags.is_empty() && etags.iter().all(|e| *e == etags[0]));
        for error in outcomes.into_iter().filter_map(|o| o.err()) {
            assert!(matches!(error.kind(), ErrorKind::NoSuchUpload), "{error}");
        }
        bench.holds_nothing(&id).await;
    }
}

#[tokio::test]
async fn a_part_of_an_upload_that_is_gone_leaves_nothing() {
    let bench = Bench::new().await;
    let id = bench.create(None).await;
    let part = Bytes::from("x");
    // The row goes while the bytes arrive.
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let slow = verify(receiver.boxed(), Declared::default());
    let mut putting = Box::pin(bench.uploads.put_part(&bench.ns, "m/k", &id, number(1), slow));
    sender.unbounded_send(Ok(part.clone())).unwrap();
    while !bench.probe.take_calls().contains_key("put_part") {
        assert!(futures::poll!(&mut putting).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(bench.store.delete_upload(&id).await.unwrap());
    drop(sender);
    assert!(matches!(kind(putting.await), ErrorKind::NoSuchUpload));
    assert_eq!(bench.probe.take_calls().get("discard_part"), Some(&1));
    assert!(matches!(kind(bench.put(&id, 1, &part).await), ErrorKind::NoSuchUpload));
    for bad in ["", "nope", "../../x", &"x".repeat(100)] {
        assert!(matches!(kind(bench.put(bad, 1, &part).await), ErrorKind::NoSuchUpload));
    }
}

#[tokio::test]
async fn an_upload_belongs_to_its_bucket_and_key() {
    let bench = Bench::new().await;
    let id = bench.create(None).await;
    assert!(matches!(kind(bench.uploads.get(&bench.ns, "m/other", &id).await), ErrorKind::NoSuchUpload));
    let other = BucketRecord { name: "other".into(), owner: "you".into(), created: 0, location: String::new() };
    let other = Namespace::new(other, MountTable::new(vec![at("", &bench.probe)]), BTreeMap::new());
    assert!(matches!(kind(bench.uploads.get(&other, "m/k", &id).await), ErrorKind::NoSuchUpload));
    assert!(matches!(kind(bench.uploads.abort(&other, "m/k", &id).await), ErrorKind::NoSuchUpload));
    assert!(bench.uploads.get(&bench.ns, "m/k", &id).await.is_ok());
}

#[tokio::test]
async fn abort_frees_and_forgets() {
    let bench = Bench::new().await;
    let id = bench.create(None).await;
    bench.put(&id, 1, &big(1)).await.unwrap();
    // What cannot be freed is not forgotten.
    bench.probe.down.store(true, Ordering::SeqCst);
    assert!(bench.uploads.abort(&bench.ns, "m/k", &id).await.is_err());
    bench.probe.down.store(false, Ordering::SeqCst);
    bench.uploads.abort(&bench.ns, "m/k", &id).await.unwrap();
    bench.holds_nothing(&id).await;
    assert!(matches!(kind(bench.uploads.abort(&bench.ns, "m/k", &id).await), ErrorKind::NoSuchUpload));
}

#[tokio::test]
async fn an_object_that_another_mount_would_hide_is_not_published() {
    let bench = Bench::new().await;
    let id = bench.uploads.create(&bench.ns, "m/d/k", NewUpload::default()).await.unwrap().upload_id;
    let one = Bytes::from("x");
    let put = || bench.uploads.put_part(&bench.ns, "m/d/k", &id, number(1), body(&one, &[]));
    let complete = || bench.uploads.complete(&bench.ns, "m/d/k", &id, request(vec![named(1, &one)]));
    put().await.unwrap();
    let before = bench.ns.mounts.load_full();
    bench.ns.mounts.store(Arc::new(before.with(at("m/d/", &Probe::new()))));
    put().await.unwrap();
    assert!(matches!(kind(complete().await), ErrorKind::InvalidRequest(_)));
    bench.ns.mounts.store(Arc::new(MountTable::default()));
    assert!(matches!(kind(complete().await), ErrorKind::NoSuchUpload));
    bench.ns.mounts.store(before);
    complete().await.unwrap();
}

#[tokio::test]
async fn what_does_not_begin_is_not_remembered() {
    let bench = Bench::new().await;
    bench.probe.down.store(true, Ordering::SeqCst);
    assert!(bench.uploads.create(&bench.ns, "m/k", NewUpload::default()).await.is_err());
    let page = bench.uploads.list(&bench.ns, "", None, &Default::default(), 10).await.unwrap();
    assert!(page.uploads.is_empty());
}

#[tokio::test]
async fn what_nobody_finished_is_swept() {
    use crate::namespaces::{DefaultMount, Namespaces};
    let store = Arc::new(SqliteStore::open_in_memory().await.unwrap());
    let default_mount = DefaultMount { provider: "memory".into(), settings: BTreeMap::new() };
    let namespaces = Namespaces::new(store.clone(), default_mount);
    let uploads = Uploads::new(store.clone());
    let ns = namespaces.create("bucket", "me", "").await.unwrap();
    let id = uploads.create(&ns, "k", NewUpload::default()).await.unwrap().upload_id;
    uploads.put_part(&ns, "k", &id, number(1), body(&Bytes::from("x"), &[])).await.unwrap();
    assert_eq!(uploads.sweep(&namespaces, Duration::from_secs(3600)).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(uploads.sweep(&namespaces, Duration::ZERO).await.unwrap(), 1);
    assert!(matches!(kind(uploads.get(&ns, "k", &id).await), ErrorKind::NoSuchUpload));
    // A bucket that goes takes its uploads along.
    let id = uploads.create(&ns, "k", NewUpload::default()).await.unwrap().upload_id;
    namespaces.delete("bucket").await.unwrap();
    assert!(store.upload("bucket", &id).await.unwrap().is_none());
    assert!(matches!(kind(uploads.create(&ns, "k", NewUpload::default()).await), ErrorKind::NoSuchBucket));
}

#[tokio::test]
async fn a_mount_that_does_not_answer_keeps_no_other_from_being_swept() {
    use crate::meta::MountRecord;
    use crate::namespaces::{DefaultMount, Namespaces};
    let store = Arc::new(SqliteStore::open_in_memory().await.unwrap());
    let (silent, good) = (Probe::new(), Probe::new());
    let opener: crate::mounts::Opener = {
        let (silent, good) = (silent.clone(), good.clone());
        Arc::new(move |record: MountRecord| {
            let probe = if record.prefix.is_empty() { &silent } else { &good };
            let provider: Arc<dyn Provider> = probe.clone();
            Box::pin(async move { Ok(provider) })
        })
    };
    let default_mount = DefaultMount { provider: "memory".into(), settings: BTreeMap::new() };
    let namespaces = Namespaces::with_opener(store.clone(), default_mount, opener);
    let ns = namespaces.create("bucket", "me", "").await.unwrap();
    let record = |prefix: &str| MountRecord {
        bucket: "bucket".into(),
        prefix: prefix.into(),
        provider: "memory".into(),
        settings: BTreeMap::new(),
    };
    namespaces.mount(record("good/")).await.unwrap();
    let uploads = Uploads::new(store);
    for key in ["1", "2", "3", "good/1"] {
        uploads.create(&ns, key, NewUpload::default()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    silent.aborts_hang.store(true, Ordering::SeqCst);
    let sweep = uploads.sweep_with(&namespaces, Duration::ZERO, Duration::from_millis(20));
    assert_eq!(sweep.await.unwrap(), 1);
    assert_eq!(silent.take_calls().get("abort"), Some(&1), "asked once");
    silent.aborts_hang.store(false, Ordering::SeqCst);
    assert_eq!(uploads.sweep(&namespaces, Duration::ZERO).await.unwrap(), 3);
}
