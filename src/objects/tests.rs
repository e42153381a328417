#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use sluice_provider as provider;
use sluice_provider::{
    Attributes, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Key, PartNumber, Provider, PutBody, PutOptions, PutWhen, RangeSpec,
    ReadOptions,
};

use super::*;
use crate::error::{ErrorKind, Result};
use crate::handles::Registry;
use crate::meta::{BucketRecord, MetaStore, SqliteStore};
use crate::mounts::probe::Probe;
use crate::mounts::{Mount, MountTable};
use crate::namespaces::Namespace;
use crate::transfer::{Algorithm, ChecksumType, Declared, Hasher, encode, md5_hex, verify};
use crate::uploads::{CompleteRequest, NamedPart, NewUpload, Uploads, parse_parts};

struct Bench {
    objects: Arc<Objects>,
    uploads: Arc<Uploads>,
    handles: Registry,
    ns: Arc<Namespace>,
    root: Arc<Probe>,
    other: Arc<Probe>,
}

impl Bench {
    /// A bucket with a mount for everything and one at `m/`.
    async fn new() -> Self {
        let store = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let bucket = BucketRecord { name: "bucket".into(), owner: "me".into(), created: 0, location: String::new() };
        store.create_bucket(&bucket, &[]).await.unwrap();
        let (root, other) = (Probe::new(), Probe::new());
        let mount = |prefix: &str, probe: &Arc<Probe>| Mount {
            prefix: prefix.into(),
            kind: "probe".into(),
            provider: Arc::clone(probe) as _,
            authoriser: None,
        };
        let table = MountTable::new(vec![mount("", &root), mount("m/", &other)]);
        let ns = Arc::new(Namespace::new(bucket, table, BTreeMap::new()));
        let handles = Registry::new(Default::default());
        let uploads = Arc::new(Uploads::new(store).with_handles(handles.clone()));
        let objects = Arc::new(Objects::new(Arc::clone(&uploads), handles.clone()));
        Self { objects, uploads, handles, ns, root, other }
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> provider::ObjectInfo {
        let attributes: Attributes = [("content-type", "text/plain"), ("meta.a", "b")].into_iter().collect();
        let put = PutOptions { attributes, ..PutOptions::default() };
        self.objects.put(&self.ns, key, body(bytes, &[Algorithm::Crc32]), put).await.unwrap()
    }

    async fn get(&self, key: &str, read: &ReadRequest) -> Result<(Found, Bytes)> {
        let opened = self.objects.get(&self.ns, key, read).await?;
        Ok((opened.found, all(opened.body).await.unwrap()))
    }

    /// An object of two parts of 5 MiB and 7 bytes.
    async fn multipart(&self, key: &str) -> Bytes {
        let new = NewUpload { checksum: Some((Algorithm::Crc32, ChecksumType::Composite)), ..NewUpload::default() };
        let id = self.uploads.create(&self.ns, key, new).await.unwrap().upload_id;
        let bytes = bytes(5 * 1024 * 1024 + 7);
        let (one, two) = (bytes.slice(..5 * 1024 * 1024), bytes.slice(5 * 1024 * 1024..));
        let mut parts = Vec::new();
        for (n, part) in [(1, one), (3, two)] {
            let number = PartNumber::new(n).unwrap();
            self.uploads.put_part(&self.ns, key, &id, number, body(&part, &[Algorithm::Crc32])).await.unwrap();
            parts.push(NamedPart { number, etag: md5_hex(&part), checksums: Vec::new() });
        }
        let request = CompleteRequest { parts, ..CompleteRequest::default() };
        self.uploads.complete(&self.ns, key, &id, request).await.unwrap();
        bytes
    }
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect::<Vec<_>>().into()
}

fn body(bytes: &Bytes, compute: &[Algorithm]) -> PutBody {
    let chunks: Vec<_> = bytes.chunks(64 * 1024).map(|chunk| Ok(bytes.slice_ref(chunk))).collect();
    let declared = Declared { size: Some(bytes.len() as u64), compute: compute.to_vec(), ..Declared::default() };
    verify(futures::stream::iter(chunks).boxed(), declared)
}

async fn all(body: OpenBody) -> provider::Result<Bytes> {
    match body {
        OpenBody::Full(bytes) => Ok(bytes),
        OpenBody::Pieces(_) => panic!("nobody asked for pieces"),
        OpenBody::Stream(mut stream) => {
            let mut whole = Vec::new();
            while let Some(chunk) = stream.next().await {
                whole.extend_from_slice(&chunk?);
            }
            Ok(whole.into())
        }
    }
}

fn crc32(bytes: &[u8]) -> String {
    encode(&Hasher::once(Algorithm::Crc32, bytes))
}

fn range(spec: RangeSpec) -> ReadRequest {
    ReadRequest { range: Some(spec), ..ReadRequest::default() }
}

fn part(n: i64) -> ReadRequest {
    ReadRequest { part: PartNumber::new(n), ..ReadRequest::default() }
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("an error").kind().clone()
}

fn one(etag: &ETag) -> Option<ETagCondition> {
    Some(ETagCondition::OneOf(vec![etag.clone()]))
}

fn stale() -> ETag {
    ETag::new("stale").unwrap()
}

/// The front end runs these on a multi-threaded runtime.
#[test]
fn futures_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    #[allow(clippy::too_many_arguments, reason = "everything there is")]
    fn calls(
        o: &Objects,
        u: &Uploads,
        n: &crate::namespaces::Namespaces,
        ns: &Namespace,
        b: PutBody,
        b2: PutBody,
        r: &ReadRequest,
    ) {
        is_send(o.get(ns, "k", r));
        is_send(o.head(ns, "k", r));
        is_send(o.put(ns, "k", b, PutOptions::default()));
        is_send(o.copy((ns, "a"), (ns, "b"), CopyRequest::default()));
        is_send(o.copy_part((ns, "a", None), &PartCopy::default(), (ns, "b"), "u", PartNumber::new(1).unwrap()));
        is_send(o.delete(ns, Vec::new()));
        is_send(o.list(ns, &provider::ListQuery::default()));
        is_send(o.is_empty(ns));
        is_send(u.create(ns, "k", NewUpload::default()));
        is_send(u.put_part(ns, "k", "u", PartNumber::new(1).unwrap(), b2));
        is_send(u.complete(ns, "k", "u", CompleteRequest::default()));
        is_send(u.abort(ns, "k", "u"));
        is_send(u.parts(ns, "k", "u", 0, 1));
        is_send(u.list(ns, "", None, &Default::default(), 1));
        is_send(u.sweep(n, Duration::ZERO));
        is_send(n.get("b"));
        is_send(n.create("b", "o", ""));
        is_send(n.delete("b"));
        is_send(n.set_setting("b", "s", None));
    }
    let _ = calls;
}

#[tokio::test]
async fn what_is_put_is_got_with_one_call() {
    let bench = Bench::new().await;
    for key in ["k", "m/k"] {
        let data = bytes(100);
        let info = bench.put(key, &data).await;
        assert_eq!((info.key.as_str(), info.size, info.etag.as_str()), (key, 100, md5_hex(&data).as_str()));
        bench.root.take_calls();
        bench.other.take_calls();
        let (found, got) = bench.get(key, &ReadRequest::default()).await.unwrap();
        assert_eq!(got, data);
        assert_eq!((found.info.key.as_str(), found.range, found.parts), (key, None, None));
        assert_eq!(found.info.attributes.get("meta.a"), Some("b"));
        assert_eq!(found.info.attributes.get("checksum.crc32"), Some(crc32(&data).as_str()));
        let probe = if key == "k" { &bench.root } else { &bench.other };
        assert_eq!(probe.take_calls(), BTreeMap::from([("get", 1)]), "no second look");
        assert!(bench.handles.is_empty());
    }
    assert!(matches!(kind(bench.get("nope", &ReadRequest::default()).await), ErrorKind::Provider(provider::ErrorKind::NotFound)));
    let long = "x".repeat(1025);
    assert!(matches!(
        kind(bench.get(&long, &ReadRequest::default()).await),
        ErrorKind::Provider(provider::ErrorKind::InvalidKey)
    ));
}

/// E12 at this level.
#[tokio::test]
async fn the_range_matrix() {
    let bench = Bench::new().await;
    let data = bytes(1000);
    let etag = bench.put("k", &data).await.etag;
    bench.put("empty", &Bytes::new()).await;
    for (spec, expected) in [
        (RangeSpec::Between(0, 499), 0..500),
        (RangeSpec::From(500), 500..1000),
        (RangeSpec::Last(200), 800..1000),
        (RangeSpec::Between(0, 999), 0..1000),
        (RangeSpec::Between(0, 0), 0..1),
        (RangeSpec::Between(0, 1000), 0..1000),
        (RangeSpec::Last(2000), 0..1000),
    ] {
        let (found, got) = bench.get("k", &range(spec)).await.unwrap();
        assert_eq!(found.range, Some(expected.clone()), "{spec:?}");
        assert_eq!(got, data.slice(expected.start as usize..expected.end as usize));
        assert_eq!(bench.objects.head(&bench.ns, "k", &range(spec)).await.unwrap().range, Some(expected));
    }
    for (key, spec, size) in [
        ("k", RangeSpec::From(1000), 1000),
        ("k", RangeSpec::Last(0), 1000),
        ("empty", RangeSpec::From(0), 0),
        ("empty", RangeSpec::Last(5), 0),
    ] {
        let expected = provider::ErrorKind::RangeNotSatisfiable { size };
        assert!(bench.get(key, &range(spec)).await.unwrap_err().is_provider(expected), "{key} {spec:?}");
        assert!(bench.objects.head(&bench.ns, key, &range(spec)).await.unwrap_err().is_provider(expected));
        // A condition that does not hold outweighs the range.
        let conditions = ReadConditions { if_match: one(&stale()), ..ReadConditions::default() };
        let read = ReadRequest { conditions, ..range(spec) };
        assert!(matches!(kind(bench.get(key, &read).await), ErrorKind::PreconditionFailed("If-Match")));
        // And so does an If-Range of another version.
        let read = ReadRequest { if_range: Some(IfRange::ETag(stale())), ..range(spec) };
        assert_eq!(bench.get(key, &read).await.unwrap().0.range, None);
    }
    let read = |if_range| ReadRequest { if_range: Some(if_range), ..range(RangeSpec::Between(0, 9)) };
    assert_eq!(bench.get("k", &read(IfRange::ETag(etag))).await.unwrap().1.len(), 10);
    let (found, got) = bench.get("k", &read(IfRange::ETag(stale()))).await.unwrap();
    assert_eq!((found.range, got), (None, data.clone()));
    assert_eq!(bench.get("k", &read(IfRange::Date(SystemTime::UNIX_EPOCH))).await.unwrap().1, data);
    assert!(bench.handles.is_empty());
}

#[tokio::test]
async fn not_modified_carries_what_the_answer_needs() {
    let bench = Bench::new().await;
    let etag = bench.put("m/k", &bytes(10)).await.etag;
    let conditions = ReadConditions { if_none_match: Some(ETagCondition::Any), ..ReadConditions::default() };
    let read = ReadRequest { conditions, ..ReadRequest::default() };
    for outcome in [bench.get("m/k", &read).await.map(drop), bench.objects.head(&bench.ns, "m/k", &read).await.map(drop)] {
        let ErrorKind::NotModified(info) = kind(outcome) else { panic!("not a 304") };
        assert_eq!((info.key.as_str(), info.etag), ("m/k", etag.clone()));
    }
    assert!(bench.handles.is_empty());
}

#[tokio::test]
async fn parts_are_read_one_by_one() {
    let bench = Bench::new().await;
    let data = bench.multipart("m/big").await;
    let border = 5 * 1024 * 1024;
    let (found, got) = bench.get("m/big", &part(1)).await.unwrap();
    assert_eq!((found.range, found.parts, got), (Some(0..border), Some(2), data.slice(..border as usize)));
    let (found, got) = bench.get("m/big", &part(3)).await.unwrap();
    assert_eq!((found.range, got), (Some(border..border + 7), data.slice(border as usize..)));
    assert_eq!(bench.objects.head(&bench.ns, "m/big", &part(3)).await.unwrap().range, Some(border..border + 7));
    for n in [2, 4] {
        assert!(matches!(kind(bench.get("m/big", &part(n)).await), ErrorKind::InvalidPartNumber));
    }
    bench.put("plain", &bytes(10)).await;
    assert_eq!(bench.get("plain", &part(1)).await.unwrap().0.range, Some(0..10));
    assert!(matches!(kind(bench.get("plain", &part(2)).await), ErrorKind::InvalidPartNumber));
    let both = ReadRequest { range: Some(RangeSpec::From(0)), ..part(1) };
    assert!(matches!(kind(bench.get("plain", &both).await), ErrorKind::InvalidRequest(_)));
}

/// A part is of the object whose parts were looked at, even if another one comes in between.
#[tokio::test]
async fn a_part_is_never_of_another_object() {
    let bench = Bench::new().await;
    bench.multipart("m/big").await;
    let (other, new) = (Arc::clone(&bench.other), bytes(50));
    let replacement = new.clone();
    *bench.other.before_get.lock() = Some(Box::pin(async move {
        other.put(&Key::new("big").unwrap(), body(&replacement, &[]), &PutOptions::default()).await.unwrap();
    }));
    let (found, got) = bench.get("m/big", &part(1)).await.unwrap();
    assert_eq!((found.range, got), (Some(0..50), new));
}

/// E13 at this level: whoever hangs up leaves nothing open, and what breaks off does not end cleanly.
#[tokio::test]
async fn a_body_dropped_half_way_leaves_no_handle() {
    let bench = Bench::new().await;
    let data = bytes(3 * 1024 * 1024);
    bench.put("k", &data).await;
    let mut open = Vec::new();
    for _ in 0..1000 {
        let opened = bench.objects.get(&bench.ns, "k", &ReadRequest::default()).await.unwrap();
        let OpenBody::Stream(mut stream) = opened.body else { panic!("a large body is a stream") };
        stream.next().await.unwrap().unwrap();
        open.push(stream);
    }
    assert_eq!(bench.handles.len(), 1000);
    drop(open);
    assert_eq!(bench.handles.len(), 0);
}

#[tokio::test]
async fn a_read_error_in_mid_body_is_an_error() {
    let bench = Bench::new().await;
    bench.put("k", &bytes(3 * 1024 * 1024)).await;
    bench.root.break_after.store(1000, Ordering::SeqCst);
    let opened = bench.objects.get(&bench.ns, "k", &ReadRequest::default()).await.unwrap();
    assert!(all(opened.body).await.is_err());
    // Nor does a copy publish half of it.
    let copied = bench.objects.copy((&bench.ns, "k"), (&bench.ns, "m/k"), CopyRequest::default()).await;
    assert!(copied.is_err());
    assert!(bench.other.head(&Key::new("k").unwrap(), &ReadOptions::default()).await.is_err());
    assert!(bench.handles.is_empty());
}

#[tokio::test]
async fn a_handle_closed_from_outside_ends_the_body() {
    let bench = Bench::new().await;
    bench.put("k", &bytes(3 * 1024 * 1024)).await;
    let opened = bench.objects.get(&bench.ns, "k", &ReadRequest::default()).await.unwrap();
    let OpenBody::Stream(mut stream) = opened.body else { panic!("a large body is a stream") };
    stream.next().await.unwrap().unwrap();
    assert_eq!(bench.handles.close_all(), 1);
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), &provider::ErrorKind::TimedOut);
    assert!(stream.next().await.is_none());

    let (sender, receiver) = futures::channel::mpsc::unbounded();
    sender.unbounded_send(Ok(Bytes::from("x"))).unwrap();
    let slow = verify(receiver.boxed(), Declared::default());
    let mut putting = Box::pin(bench.objects.put(&bench.ns, "new", slow, PutOptions::default()));
    assert!(futures::poll!(&mut putting).is_pending());
    assert_eq!(bench.handles.close_all(), 1);
    let fault = provider::ErrorKind::Body(provider::BodyFault::TimedOut);
    assert!(putting.await.unwrap_err().is_provider(fault));
    assert!(matches!(kind(bench.get("new", &ReadRequest::default()).await), ErrorKind::Provider(provider::ErrorKind::NotFound)));
}

#[tokio::test]
async fn a_copy_keeps_what_is_still_true() {
    let bench = Bench::new().await;
    let data = bytes(100_000);
    bench.put("k", &data).await;
    for (to, calls) in
        [("copy", BTreeMap::from([("head", 1), ("copy", 1)])), ("m/copy", BTreeMap::from([("head", 1), ("get", 1)]))]
    {
        bench.root.take_calls();
        let info = bench.objects.copy((&bench.ns, "k"), (&bench.ns, to), CopyRequest::default()).await.unwrap();
        assert_eq!(bench.root.take_calls(), calls, "{to}");
        assert_eq!((info.key.as_str(), info.etag.as_str()), (to, md5_hex(&data).as_str()));
        let (found, got) = bench.get(to, &ReadRequest::default()).await.unwrap();
        assert_eq!(got, data);
        assert_eq!(found.info.attributes.get("meta.a"), Some("b"));
        assert_eq!(found.info.attributes.get("checksum.crc32"), Some(crc32(&data).as_str()));
        // Other attributes, the same bytes, another checksum.
        let attributes = Some([("meta.c", "d")].into_iter().collect());
        let copy = CopyRequest { attributes, checksum: Some(Algorithm::Sha256), ..CopyRequest::default() };
        bench.objects.copy((&bench.ns, "k"), (&bench.ns, to), copy).await.unwrap();
        let (found, _) = bench.get(to, &ReadRequest::default()).await.unwrap();
        let attributes: Vec<_> = found.info.attributes.iter().map(|(n, _)| n.to_owned()).collect();
        assert_eq!(attributes, ["checksum.sha256", "meta.c"]);
    }
    // Onto itself, to change the attributes.
    let copy = CopyRequest { attributes: Some([("meta.e", "f")].into_iter().collect()), ..CopyRequest::default() };
    bench.objects.copy((&bench.ns, "k"), (&bench.ns, "k"), copy).await.unwrap();
    let (found, got) = bench.get("k", &ReadRequest::default()).await.unwrap();
    assert_eq!((found.info.attributes.get("meta.e"), got), (Some("f"), data.clone()));
    assert_eq!(found.info.attributes.get("checksum.crc32"), Some(crc32(&data).as_str()));
    assert!(bench.handles.is_empty());
}

#[tokio::test]
async fn a_copy_of_a_multipart_object_is_a_plain_one() {
    let bench = Bench::new().await;
    let data = bench.multipart("m/big").await;
    let source = bench.get("m/big", &ReadRequest::default()).await.unwrap().0.info;
    assert_eq!(parse_parts(source.attributes.get(attribute::PARTS).unwrap()).unwrap().len(), 2);
    for to in ["m/plain", "plain", "m/big"] {
        let info = bench.objects.copy((&bench.ns, "m/big"), (&bench.ns, to), CopyRequest::default()).await.unwrap();
        assert_eq!(info.etag.as_str(), md5_hex(&data), "{to}");
        let (found, got) = bench.get(to, &ReadRequest::default()).await.unwrap();
        assert_eq!((found.parts, &got), (None, &data));
        let attributes: Vec<_> = found.info.attributes.iter().collect();
        assert_eq!(attributes, [("checksum.crc32", crc32(&data).as_str())], "no longer composite");
    }
}

#[tokio::test]
async fn conditions_of_a_copy() {
    let bench = Bench::new().await;
    let etag = bench.put("k", &bytes(10)).await.etag;
    bench.put("there", &bytes(11)).await;
    bench.put("m/there", &bytes(11)).await;
    let source = |source| CopyRequest { source, ..CopyRequest::default() };
    let none = ReadConditions::default;
    for to in ["new", "m/new"] {
        for failing in [
            ReadConditions { if_match: one(&stale()), ..none() },
            ReadConditions { if_none_match: one(&etag), ..none() },
            ReadConditions { if_modified_since: Some(SystemTime::now()), ..none() },
            ReadConditions { if_unmodified_since: Some(SystemTime::UNIX_EPOCH), ..none() },
        ] {
            let got = kind(bench.objects.copy((&bench.ns, "k"), (&bench.ns, to), source(failing)).await);
            assert!(matches!(got, ErrorKind::PreconditionFailed(_)), "{got:?}");
        }
        bench
            .objects
            .copy((&bench.ns, "k"), (&bench.ns, to), source(ReadConditions { if_match: one(&etag), ..none() }))
            .await
            .unwrap();
    }
    for to in ["there", "m/there"] {
        let copy = CopyRequest { when: PutWhen::IfAbsent, ..CopyRequest::default() };
        let copied = bench.objects.copy((&bench.ns, "k"), (&bench.ns, to), copy).await;
        assert!(copied.unwrap_err().is_provider(provider::ErrorKind::PreconditionFailed));
        assert_eq!(bench.get(to, &ReadRequest::default()).await.unwrap().1.len(), 11);
    }
    let copied = bench.objects.copy((&bench.ns, "nope"), (&bench.ns, "x"), CopyRequest::default()).await;
    assert!(copied.unwrap_err().is_provider(provider::ErrorKind::NotFound));
}

/// The source is replaced between the look at it and the reading: what is copied is one object, with its own attributes.
#[tokio::test]
async fn a_copy_is_of_one_object() {
    let bench = Bench::new().await;
    bench.put("k", &bytes(10)).await;
    let (root, new) = (Arc::clone(&bench.root), bytes(50));
    let replacement = new.clone();
    *bench.root.before_get.lock() = Some(Box::pin(async move {
        root.put(&Key::new("k").unwrap(), body(&replacement, &[]), &PutOptions::default()).await.unwrap();
    }));
    bench.objects.copy((&bench.ns, "k"), (&bench.ns, "m/k"), CopyRequest::default()).await.unwrap();
    let (found, got) = bench.get("m/k", &ReadRequest::default()).await.unwrap();
    assert_eq!(got, new);
    assert_eq!(found.info.attributes.get("meta.a"), None);
}

#[tokio::test]
async fn a_part_is_copied_from_a_range() {
    let bench = Bench::new().await;
    let data = bytes(1000);
    let etag = bench.put("k", &data).await.etag;
    let new = NewUpload { checksum: Some((Algorithm::Crc32c, ChecksumType::FullObject)), ..NewUpload::default() };
    let id = bench.uploads.create(&bench.ns, "m/new", new).await.unwrap().upload_id;
    let copy = |range, source: ReadConditions| {
        let (bench, id) = (&bench, &id);
        async move {
            let (to, how) = ((&*bench.ns, "m/new"), PartCopy { source, range, ..PartCopy::default() });
            bench.objects.copy_part((&bench.ns, "k", None), &how, to, id, PartNumber::new(1).unwrap()).await
        }
    };
    let none = ReadConditions::default;
    let part = copy(Some((100, 199)), none()).await.unwrap();
    assert_eq!((part.size, part.etag), (100, md5_hex(&data[100..200])));
    assert!(part.checksums.contains_key("checksum.crc32c"));
    assert_eq!(copy(None, none()).await.unwrap().size, 1000);
    for bad in [(0, 1000), (1000, 1000), (5, 4)] {
        let kind = kind(copy(Some(bad), none()).await);
        assert!(matches!(kind, ErrorKind::Provider(provider::ErrorKind::RangeNotSatisfiable { size: 1000 })), "{bad:?}");
    }
    let failing = ReadConditions { if_none_match: one(&etag), ..none() };
    assert!(matches!(kind(copy(None, failing).await), ErrorKind::PreconditionFailed("x-amz-copy-source-If-None-Match")));
    let to = (&*bench.ns, "m/new");
    let how = PartCopy::default();
    let gone = bench.objects.copy_part((&bench.ns, "k", None), &how, to, "nope", PartNumber::new(1).unwrap()).await;
    assert!(matches!(kind(gone), ErrorKind::NoSuchUpload));
    assert!(bench.handles.is_empty());
}

#[tokio::test]
async fn attributes_change_without_the_data() {
    let bench = Bench::new().await;
    let before = bench.put("m/k", &bytes(10)).await;
    let set = vec![("tags".to_owned(), Some("a=b".to_owned())), ("meta.a".to_owned(), None)];
    let change = provider::AttributeChange { if_match: Some(before.etag.clone()), set };
    let info = bench.objects.set_attributes(&bench.ns, "m/k", &change).await.unwrap();
    assert_eq!((info.key.as_str(), &info.etag, info.modified), ("m/k", &before.etag, before.modified));
    assert_eq!((info.attributes.get("tags"), info.attributes.get("meta.a")), (Some("a=b"), None));
}

#[tokio::test]
async fn deletes_are_answered_in_order_with_one_call_per_mount() {
    let bench = Bench::new().await;
    for (key, len) in [("a", 1), ("m/b", 2), ("c", 3)] {
        bench.put(key, &bytes(len)).await;
    }
    bench.root.take_calls();
    bench.other.take_calls();
    let key = |key: &str| DeleteKey::from(Key::new(key).unwrap());
    let guarded = DeleteWhen::IfMatch { etag: Some(stale()), modified: None, size: None };
    let keys = vec![key("m/b"), key("a"), key("nope"), DeleteKey { when: guarded, ..key("c") }, key("m/nope")];
    let outcomes = bench.objects.delete(&bench.ns, keys).await;
    let sizes: Vec<_> = outcomes.iter().map(|o| o.as_ref().ok()).collect();
    assert_eq!(
        sizes,
        [
            Some(&DeleteOutcome::Deleted { size: 2 }),
            Some(&DeleteOutcome::Deleted { size: 1 }),
            Some(&DeleteOutcome::Absent),
            None,
            Some(&DeleteOutcome::Absent)
        ]
    );
    for probe in [&bench.root, &bench.other] {
        assert_eq!(probe.take_calls(), BTreeMap::from([("delete", 1)]));
    }
    bench.other.down.store(true, Ordering::SeqCst);
    let outcomes = bench.objects.delete(&bench.ns, vec![key("c"), key("m/x")]).await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_err(), "one mount that is down fails its own keys");
    bench.ns.mounts.store(Arc::new(bench.ns.mounts.load().without("")));
    let outcomes = bench.objects.delete(&bench.ns, vec![key("c")]).await;
    assert!(matches!(outcomes[0].as_ref().unwrap_err().kind(), ErrorKind::NoSuchBucket));
}

/// What was acknowledged can be read: also when mounts come and go while it is written.
#[tokio::test]
async fn nothing_is_acknowledged_that_another_mount_hides_by_then() {
    let bench = Bench::new().await;
    let fresh = Probe::new();
    let table = bench.ns.mounts.load_full();
    let covered = table.with(Mount { prefix: "k".into(), kind: "probe".into(), provider: fresh.clone() as _, authoriser: None });
    let slow = || {
        let (sender, receiver) = futures::channel::mpsc::unbounded::<provider::Result<Bytes>>();
        (sender, verify(receiver.boxed(), Declared::default()))
    };

    let (sender, stream) = slow();
    let mut putting = Box::pin(bench.objects.put(&bench.ns, "k/x", stream, PutOptions::default()));
    sender.unbounded_send(Ok(Bytes::from("x"))).unwrap();
    assert!(futures::poll!(&mut putting).is_pending());
    bench.ns.mounts.store(Arc::new(covered.clone()));
    drop(sender);
    assert!(matches!(kind(putting.await), ErrorKind::SlowDown));
    // The client tries again.
    bench.put("k/x", &bytes(3)).await;
    assert_eq!(fresh.take_calls().get("put"), Some(&1));

    // And the other way round: the mount goes.
    let (sender, stream) = slow();
    let mut putting = Box::pin(bench.objects.put(&bench.ns, "k/y", stream, PutOptions::default()));
    assert!(futures::poll!(&mut putting).is_pending());
    bench.ns.mounts.store(table);
    sender.unbounded_send(Ok(Bytes::from("y"))).unwrap();
    drop(sender);
    assert!(matches!(kind(putting.await), ErrorKind::SlowDown));
}
