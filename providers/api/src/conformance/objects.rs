//! One object at a time: put, get, head, delete, copy, ranges.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Subject;
use super::bodies::{body, bytes_of, chunked, content, etag_of, sealed_as};
use super::subject::{assert_same, key, kind};
use crate::{
    AttributeChange, Attributes, CopyOptions, DeleteKey, DeleteOutcome, ErrorKind, ListEntry, ListQuery, PutOptions, PutWhen,
    RangeSpec, ReadOptions, Seal,
};

/// What cannot be written to says so, whatever the write.
pub async fn a_read_only_store_refuses_writes(subject: &Subject) {
    let p = subject.provider();
    p.check().await.expect("a fresh store is ready");
    if subject.writable() {
        return;
    }
    let (a, b) = (key("a"), key("b"));
    assert_eq!(kind(p.put(&a, body(&Bytes::from("x")), &PutOptions::default()).await), ErrorKind::Unsupported);
    assert_eq!(kind(p.copy(&a, &b, &CopyOptions::default()).await), ErrorKind::Unsupported);
    assert_eq!(kind(p.set_attributes(&a, &AttributeChange::default()).await), ErrorKind::Unsupported);
    for outcome in p.delete(&[a.into(), b.into()]).await {
        assert_eq!(kind(outcome), ErrorKind::Unsupported);
    }
    assert!(p.multipart().is_none(), "uploads in parts to a store that takes no writes");
}

/// What was put is what is read, and all answers tell the same of it.
pub async fn put_is_read_back(subject: &Subject) {
    let before = SystemTime::now();
    let bytes = content(1, 10_000);
    let put = subject.put("dir/name.txt", bytes.clone()).await;
    assert_eq!((put.key.as_str(), put.size, &put.etag), ("dir/name.txt", 10_000, &etag_of(&bytes)));
    // Coarse clocks of file systems lag; a store elsewhere has a clock of its own.
    let slack = Duration::from_secs(5);
    assert!(put.modified + slack >= before && put.modified <= SystemTime::now() + slack, "modified {:?}", put.modified);
    assert_eq!(subject.read("dir/name.txt").await, bytes);

    let head = subject.head("dir/name.txt").await;
    assert_same(&put, &head);
    let get = subject.provider().get(&key("dir/name.txt"), &ReadOptions::default()).await.expect("get");
    assert_same(&put, &get.info);
    let page = subject.provider().list(&ListQuery { limit: 10, ..ListQuery::default() }).await.expect("list");
    match page.entries.as_slice() {
        [ListEntry::Object(listed)] => assert_same(&put, listed),
        other => panic!("one object was due in the listing, not {other:?}"),
    }
}

/// Nothing is there before it was put: neither the key, nor its parent, nor what might lie below it.
pub async fn absent_is_not_found(subject: &Subject) {
    for name in ["a", "a/", "a/b", "/", "..", "."] {
        subject.assert_absent(name).await;
    }
    subject.put("a/b", "x").await;
    for name in ["a", "a/", "a/b/", "a/b/c", "/a/b", "a//b", "./a/b"] {
        subject.assert_absent(name).await;
    }
    let p = subject.provider();
    assert_eq!(kind(p.copy(&key("none"), &key("to"), &CopyOptions::default()).await), ErrorKind::NotFound);
    subject.assert_absent("to").await;
    if subject.features().attributes {
        assert_eq!(kind(p.set_attributes(&key("none"), &AttributeChange::default()).await), ErrorKind::NotFound);
        subject.assert_absent("none").await;
    }
}

/// A later put replaces the bytes, the size, the ETag and the attributes.
pub async fn put_replaces(subject: &Subject) {
    let put = PutOptions { attributes: subject.attributes(&[("old", "1"), ("both", "1")]), ..PutOptions::default() };
    subject.provider().put(&key("k"), body(&content(1, 5000)), &put).await.expect("first put");
    let put = PutOptions { attributes: subject.attributes(&[("both", "2")]), ..PutOptions::default() };
    let second = subject.provider().put(&key("k"), body(&content(2, 70)), &put).await.expect("second put");
    assert_eq!(subject.read("k").await, content(2, 70));
    let head = subject.head("k").await;
    assert_same(&second, &head);
    assert_eq!(head.attributes, put.attributes);
    assert_eq!(subject.keys().await, ["k"]);
}

/// Objects of no bytes are objects.
pub async fn empty_objects(subject: &Subject) {
    for (name, body) in [("one", body(&Bytes::new())), ("two", chunked(&Bytes::new(), &[1], false))] {
        let info = subject.provider().put(&key(name), body, &PutOptions::default()).await.expect("put");
        assert_eq!((info.size, info.etag.as_str()), (0, "d41d8cd98f00b204e9800998ecf8427e"));
        assert_eq!(subject.read(name).await, Bytes::new());
        assert_same(&info, &subject.head(name).await);
    }
    assert_eq!(subject.keys().await, ["one", "two"]);
    assert_eq!(subject.delete("one").await, DeleteOutcome::Deleted { size: 0 });
}

/// Large bodies in chunks of any size, of a length that was declared or was not.
pub async fn large_bodies_in_odd_chunks(subject: &Subject) {
    let bytes = content(3, 8 * 1024 * 1024 + 13);
    if !subject.takes(bytes.len() as u64) {
        let refused = subject.try_put("big", bytes, PutWhen::Always).await;
        assert_eq!(kind(refused), ErrorKind::TooLarge);
        return subject.assert_absent("big").await;
    }
    let sizes: [&[usize]; 4] = [&[65_537], &[1, 4095, 4097, 131_071], &[1_048_576], &[8 * 1024 * 1024, 1]];
    for (n, sizes) in sizes.into_iter().enumerate() {
        let body = chunked(&bytes, sizes, n % 2 == 0);
        let info = subject.provider().put(&key("big"), body, &PutOptions::default()).await.expect("put");
        assert_eq!((info.size, &info.etag), (bytes.len() as u64, &etag_of(&bytes)));
        assert!(subject.read("big").await == bytes, "what was read is not what was put");
    }
    let bounds = [0, 1, 4095, 4096, 1_048_575, 1_048_576, 4_194_303, 4_194_304, 8_388_607, 8_388_608];
    for (n, start) in bounds.iter().enumerate() {
        for end in &bounds[n + 1..] {
            let read = ReadOptions { range: Some(RangeSpec::Between(*start, end - 1)), if_match: None };
            let object = subject.provider().get(&key("big"), &read).await.expect("get");
            assert_eq!(object.range, *start..*end);
            let expected = bytes.slice(usize::try_from(*start).expect("small")..usize::try_from(*end).expect("small"));
            assert!(bytes_of(object).await == expected, "bytes {start}..{end}");
        }
    }
}

/// Ranges as RFC 9110 section 14.1.2 reads them, against the size of the object that was opened.
pub async fn ranges(subject: &Subject) {
    subject.put("ten", "0123456789").await;
    subject.put("none", "").await;
    let cases = [
        (RangeSpec::Between(0, 0), "0"),
        (RangeSpec::Between(0, 9), "0123456789"),
        (RangeSpec::Between(3, 5), "345"),
        (RangeSpec::Between(9, 9), "9"),
        (RangeSpec::Between(8, 100), "89"),
        (RangeSpec::Between(0, u64::MAX), "0123456789"),
        (RangeSpec::From(0), "0123456789"),
        (RangeSpec::From(9), "9"),
        (RangeSpec::Last(1), "9"),
        (RangeSpec::Last(10), "0123456789"),
        (RangeSpec::Last(u64::MAX), "0123456789"),
    ];
    let whole = subject.head("ten").await;
    for (range, expected) in cases {
        let read = ReadOptions { range: Some(range), if_match: None };
        let object = subject.provider().get(&key("ten"), &read).await.expect("get");
        assert_same(&object.info, &whole);
        assert_eq!(Ok(object.range.clone()), range.resolve(10).map_err(|e| *e.kind()), "{range:?}");
        assert_eq!(bytes_of(object).await, expected, "{range:?}");
    }
    let unsatisfiable = [
        ("ten", RangeSpec::From(10), 10),
        ("ten", RangeSpec::Between(10, 20), 10),
        ("ten", RangeSpec::From(u64::MAX), 10),
        ("ten", RangeSpec::Last(0), 10),
        ("none", RangeSpec::From(0), 0),
        ("none", RangeSpec::Between(0, 0), 0),
        ("none", RangeSpec::Last(5), 0),
    ];
    for (name, range, size) in unsatisfiable {
        let read = ReadOptions { range: Some(range), if_match: None };
        let refusal = kind(subject.provider().get(&key(name), &read).await);
        assert_eq!(refusal, ErrorKind::RangeNotSatisfiable { size }, "{range:?} of {name:?}");
    }
    let read = ReadOptions { range: Some(RangeSpec::From(0)), if_match: None };
    assert_eq!(kind(subject.provider().get(&key("missing"), &read).await), ErrorKind::NotFound);
}

/// Reads under a condition, which is looked at before the range.
pub async fn reads_with_a_condition(subject: &Subject) {
    let old = subject.put("k", "old bytes").await.etag;
    let new = subject.put("k", "new").await.etag;
    let p = subject.provider();
    let matching = ReadOptions { range: None, if_match: Some(new.clone()) };
    assert_eq!(p.head(&key("k"), &matching).await.expect("head").etag, new);
    let object = p.get(&key("k"), &matching).await.expect("get");
    assert_eq!(bytes_of(object).await, "new");
    for range in [None, Some(RangeSpec::From(0)), Some(RangeSpec::From(5))] {
        let stale = ReadOptions { range, if_match: Some(old.clone()) };
        assert_eq!(kind(p.get(&key("k"), &stale).await), ErrorKind::PreconditionFailed, "{range:?}");
    }
    let stale = ReadOptions { range: None, if_match: Some(old) };
    assert_eq!(kind(p.head(&key("k"), &stale).await), ErrorKind::PreconditionFailed);
    assert_eq!(kind(p.head(&key("missing"), &stale).await), ErrorKind::NotFound);
    assert_eq!(kind(p.get(&key("missing"), &stale).await), ErrorKind::NotFound);
}

/// One outcome for each key, in order, that tells what was found.
pub async fn deletes_tell_what_they_found(subject: &Subject) {
    for (name, bytes) in [("a", "1"), ("a/b", "22"), ("c", "333")] {
        subject.put(name, bytes).await;
    }
    let keys: Vec<DeleteKey> = ["c", "none", "a/b", "a/"].map(|name| key(name).into()).into();
    let found: Vec<_> = subject.provider().delete(&keys).await.into_iter().map(|o| o.expect("delete")).collect();
    let expected =
        [DeleteOutcome::Deleted { size: 3 }, DeleteOutcome::Absent, DeleteOutcome::Deleted { size: 2 }, DeleteOutcome::Absent];
    assert_eq!(found, expected);
    assert_eq!(subject.keys().await, ["a"]);
    subject.assert_absent("c").await;
    assert!(subject.provider().delete(&[]).await.is_empty());

    let twice: Vec<DeleteKey> = vec![key("a").into(), key("a").into()];
    let found: Vec<_> = subject.provider().delete(&twice).await.into_iter().map(|o| o.expect("delete")).collect();
    assert_eq!(found.iter().filter(|o| **o == DeleteOutcome::Deleted { size: 1 }).count(), 1, "{found:?}");
    assert!(found.contains(&DeleteOutcome::Absent), "{found:?}");

    subject.put("a", "again").await;
    assert_eq!(subject.read("a").await, "again");
}

/// A thousand keys in one call, as an S3 DeleteObjects sends them.
pub async fn deletes_a_thousand_keys(subject: &Subject) {
    let names: Vec<String> = (0..1000).map(|n| format!("d{}/{n:03}", n % 7)).collect();
    for name in &names[..300] {
        subject.put(name, name.clone()).await;
    }
    let keys: Vec<DeleteKey> = names.iter().map(|name| key(name).into()).collect();
    let outcomes = subject.provider().delete(&keys).await;
    assert_eq!(outcomes.len(), 1000);
    for (n, (name, outcome)) in names.iter().zip(outcomes).enumerate() {
        let there = DeleteOutcome::Deleted { size: name.len() as u64 };
        assert_eq!(outcome.expect("delete"), if n < 300 { there } else { DeleteOutcome::Absent });
    }
    assert!(subject.keys().await.is_empty());
}

/// A copy is an object of its own with the ETag of its source.
pub async fn copies(subject: &Subject) {
    let p = subject.provider();
    let bytes = content(5, 100_000);
    let put = PutOptions { attributes: subject.attributes(&[("colour", "rot"), ("size", "größer")]), ..PutOptions::default() };
    let source = p.put(&key("from"), body(&bytes), &put).await.expect("put");
    subject.put("to/it", "was here before").await;
    let copy = p.copy(&key("from"), &key("to/it"), &CopyOptions::default()).await.expect("copy");
    assert_eq!((copy.key.as_str(), copy.size, &copy.etag), ("to/it", source.size, &source.etag));
    assert_eq!(copy.attributes, put.attributes);
    assert_same(&copy, &subject.head("to/it").await);
    assert_eq!(subject.head("to/it").await.attributes, put.attributes);

    // Neither follows the other.
    subject.put("from", "changed").await;
    assert_eq!(subject.read("to/it").await, bytes);
    p.copy(&key("to/it"), &key("third"), &CopyOptions::default()).await.expect("copy of a copy");
    assert_eq!(subject.delete("to/it").await, DeleteOutcome::Deleted { size: 100_000 });
    assert_eq!(subject.read("third").await, bytes);
    assert_eq!(subject.keys().await, ["from", "third"]);
}

/// A copy onto itself, and copies that replace the attributes.
pub async fn copies_onto_itself(subject: &Subject) {
    let p = subject.provider();
    let put = PutOptions { attributes: subject.attributes(&[("a", "1")]), ..PutOptions::default() };
    let first = p.put(&key("k"), body(&Bytes::from("bytes")), &put).await.expect("put");
    let same = p.copy(&key("k"), &key("k"), &CopyOptions::default()).await.expect("copy onto itself");
    assert_eq!((same.etag, same.size, same.attributes), (first.etag.clone(), 5, put.attributes));
    let other = subject.attributes(&[("b", "2")]);
    let copy = CopyOptions { attributes: Some(other.clone()), ..CopyOptions::default() };
    let replaced = p.copy(&key("k"), &key("k"), &copy).await.expect("copy with other attributes");
    assert_eq!((&replaced.etag, &replaced.attributes), (&first.etag, &other));
    assert_eq!(subject.head("k").await.attributes, other);
    assert_eq!(subject.read("k").await, "bytes");
    let none = CopyOptions { attributes: Some(Attributes::new()), ..CopyOptions::default() };
    p.copy(&key("k"), &key("bare"), &none).await.expect("copy without attributes");
    assert!(subject.head("bare").await.attributes.is_empty());
    assert_eq!(subject.head("k").await.attributes, other);
}

/// The ETag is the one of the seal, and the seal's attributes win over those of the call.
pub async fn the_seal_is_stored(subject: &Subject) {
    let given = subject.attributes(&[("kept", "call"), ("both", "call")]);
    let seal = Seal {
        etag: crate::ETag::new("any-opaque~tag!").expect("a sound ETag"),
        attributes: subject.attributes(&[("both", "seal"), ("sum", "seal")]),
    };
    let etag = seal.etag.clone();
    let put = PutOptions { attributes: given, ..PutOptions::default() };
    let info = subject.provider().put(&key("k"), sealed_as(&Bytes::from("x"), seal), &put).await.expect("put");
    let expected = subject.attributes(&[("kept", "call"), ("both", "seal"), ("sum", "seal")]);
    assert_eq!((&info.etag, &info.attributes), (&etag, &expected));
    let head = subject.head("k").await;
    assert_eq!((head.etag, head.attributes), (etag, expected));
}
