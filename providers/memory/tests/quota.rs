//! What a memory mount holds, and that it gives back what it no longer needs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use sluice_provider::{
    AttributeChange, Attributes, Body, CopyOptions, ETag, ErrorKind, Key, Multipart, Object, PartNumber, Provider, PutBody,
    PutOptions, RangeSpec, ReadOptions, Result, Seal, UploadId,
};
use sluice_provider_memory::{BLOCK_BYTES, Memory, Settings};

const MIB: usize = 1024 * 1024;

fn memory(quota_bytes: usize) -> Memory {
    Memory::new(Settings { quota_bytes: quota_bytes as u64 })
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn seal() -> Seal {
    Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() }
}

fn body(bytes: usize) -> PutBody {
    PutBody::from_bytes(Bytes::from(vec![7; bytes]), seal())
}

/// An endless body that counts how often it was asked for 64 KiB more.
fn endless(declared: Option<u64>) -> (PutBody, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let chunk = Bytes::from(vec![1; 65_536]);
    let stream = stream::repeat_with(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(chunk.clone())
    });
    (PutBody::new(stream.boxed(), declared, Arc::default()), asked)
}

/// A body that stops for good after these bytes.
fn stalled(bytes: usize, declared: Option<u64>) -> PutBody {
    let stream = stream::iter([Ok(Bytes::from(vec![1; bytes]))]).chain(stream::pending());
    PutBody::new(stream.boxed(), declared, Arc::default())
}

async fn put(memory: &Memory, name: &str, bytes: usize) -> Result<()> {
    memory.put(&key(name), body(bytes), &PutOptions::default()).await.map(drop)
}

async fn get(memory: &Memory, name: &str, range: Option<RangeSpec>) -> Object {
    memory.get(&key(name), &ReadOptions { range, if_match: None }).await.unwrap()
}

#[track_caller]
fn slice(object: Object) -> Bytes {
    match object.body {
        Body::Bytes(bytes) => bytes,
        other => panic!("{other:?} where a slice was due"),
    }
}

#[track_caller]
fn assert_exceeded<T: std::fmt::Debug>(outcome: Result<T>) {
    assert_eq!(outcome.unwrap_err().kind(), &ErrorKind::QuotaExceeded);
}

#[tokio::test]
async fn a_read_is_a_slice_of_the_stored_bytes() {
    let memory = memory(100 * MIB);
    for bytes in [1, 4096, MIB, BLOCK_BYTES] {
        put(&memory, "k", bytes).await.unwrap();
        let used = memory.used_bytes();
        let whole = slice(get(&memory, "k", None).await);
        let again = slice(get(&memory, "k", None).await);
        assert_eq!(whole.as_ptr(), again.as_ptr());
        let middle = bytes / 2;
        let part = slice(get(&memory, "k", Some(RangeSpec::From(middle as u64))).await);
        assert_eq!(part.as_ptr() as usize, whole.as_ptr() as usize + middle);
        memory.copy(&key("k"), &key("copy"), &CopyOptions::default()).await.unwrap();
        assert_eq!(slice(get(&memory, "copy", None).await).as_ptr(), whole.as_ptr());
        memory.delete(&[key("copy").into()]).await;
        assert_eq!(memory.used_bytes(), used);
    }
}

#[tokio::test]
async fn a_large_read_is_a_stream_of_slices() {
    let memory = memory(100 * MIB);
    put(&memory, "k", 3 * BLOCK_BYTES + 5).await.unwrap();
    let used = memory.used_bytes();
    let chunks = async |range| match get(&memory, "k", range).await.body {
        Body::Stream(stream) => stream.map(|chunk| chunk.unwrap()).collect::<Vec<_>>().await,
        other => panic!("{other:?} where a stream was due"),
    };
    let (one, two) = (chunks(None).await, chunks(None).await);
    assert_eq!(one.iter().map(Bytes::len).collect::<Vec<_>>(), [BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES, 5]);
    assert!(one.iter().zip(&two).all(|(a, b)| a.as_ptr() == b.as_ptr()));
    let across = chunks(Some(RangeSpec::Between(BLOCK_BYTES as u64 - 3, BLOCK_BYTES as u64 + 3))).await;
    assert_eq!(across.iter().map(Bytes::len).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(across[1].as_ptr(), one[1].as_ptr());
    assert_eq!(memory.used_bytes(), used);
    let inside = get(&memory, "k", Some(RangeSpec::Between(BLOCK_BYTES as u64, BLOCK_BYTES as u64 + 9))).await;
    assert_eq!(slice(inside).as_ptr(), one[1].as_ptr());
}

#[tokio::test]
async fn a_small_object_does_not_pin_the_buffer_it_came_in() {
    let memory = memory(MIB);
    let buffer = Bytes::from(vec![3; 10 * MIB]);
    let body = PutBody::from_bytes(buffer.slice(5..15), seal());
    memory.put(&key("k"), body, &PutOptions::default()).await.unwrap();
    assert!(buffer.is_unique());
}

#[tokio::test]
async fn a_declared_body_that_cannot_fit_is_refused_unread() {
    let memory = memory(MIB);
    let (body, asked) = endless(Some(2 * MIB as u64));
    assert_exceeded(memory.put(&key("k"), body, &PutOptions::default()).await);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(memory.used_bytes(), 0);
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_quota() {
    let memory = memory(8 * MIB);
    for declared in [None, Some(MIB as u64)] {
        let (body, asked) = endless(declared);
        assert_exceeded(memory.put(&key("k"), body, &PutOptions::default()).await);
        assert!(asked.load(Ordering::Relaxed) <= 8 * MIB / 65_536 + 1);
        assert_eq!(memory.used_bytes(), 0);
        let upload = UploadId::new("u").unwrap();
        memory.create(&key("k"), &upload).await.unwrap();
        let (body, _) = endless(declared);
        assert_exceeded(memory.put_part(&key("k"), &upload, PartNumber::new(1).unwrap(), body).await);
        memory.abort(&key("k"), &upload).await.unwrap();
        assert_eq!(memory.used_bytes(), 0);
    }
    put(&memory, "k", 7 * MIB).await.unwrap();
}

#[tokio::test]
async fn bodies_on_their_way_in_count_until_they_are_dropped() {
    let memory = memory(4 * MIB);
    for declared in [None, Some(3 * MIB as u64)] {
        let (name, options) = (key("slow"), PutOptions::default());
        let mut slow = Box::pin(memory.put(&name, stalled(2 * MIB, declared), &options));
        assert!(futures::poll!(&mut slow).is_pending());
        assert!(memory.used_bytes() >= 2 * MIB as u64);
        assert_exceeded(put(&memory, "other", 3 * MIB).await);
        drop(slow);
        assert_eq!(memory.used_bytes(), 0);
    }
    put(&memory, "other", 3 * MIB).await.unwrap();
}

#[tokio::test]
async fn an_object_counts_until_its_last_reader_is_gone() {
    let memory = memory(4 * MIB);
    put(&memory, "k", 3 * MIB).await.unwrap();
    let reader = slice(get(&memory, "k", Some(RangeSpec::Last(1))).await);
    memory.delete(&[key("k").into()]).await;
    assert_exceeded(put(&memory, "next", 3 * MIB).await);
    assert_eq!(&*reader, [7]);
    drop(reader);
    assert_eq!(memory.used_bytes(), 0);
    put(&memory, "next", 3 * MIB).await.unwrap();
}

#[tokio::test]
async fn a_replaced_object_gives_its_bytes_back() {
    let memory = memory(8 * MIB);
    put(&memory, "k", 3 * MIB).await.unwrap();
    let used = memory.used_bytes();
    for _ in 0..10 {
        put(&memory, "k", 3 * MIB).await.unwrap();
        assert_eq!(memory.used_bytes(), used);
    }
    assert!(used >= 3 * MIB as u64 && used < 3 * MIB as u64 + 1024);
    // A refused write leaves what is there.
    assert_exceeded(put(&memory, "k", 6 * MIB).await);
    assert_eq!(slice(get(&memory, "k", None).await).len(), 3 * MIB);
    assert_eq!(memory.used_bytes(), used);
}

#[tokio::test]
async fn staged_parts_count_and_are_not_copied() {
    let memory = memory(10 * MIB);
    let upload = UploadId::new("u").unwrap();
    memory.create(&key("k"), &upload).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..=3 {
        let token = memory.put_part(&key("k"), &upload, PartNumber::new(number).unwrap(), body(3 * MIB)).await.unwrap();
        parts.push((token, 3 * MIB as u64));
    }
    let staged = memory.used_bytes();
    assert!(staged >= 9 * MIB as u64);
    assert_exceeded(memory.put_part(&key("k"), &upload, PartNumber::new(4).unwrap(), body(3 * MIB)).await);
    assert_exceeded(put(&memory, "other", 2 * MIB).await);
    // There is no room for a second copy of the parts, and none is made.
    let etag = ETag::new("e-3").unwrap();
    memory.complete(&key("k"), &upload, &parts, &etag, &PutOptions::default()).await.unwrap();
    assert!(memory.used_bytes() <= staged);
    memory.delete(&[key("k").into()]).await;
    assert_eq!(memory.used_bytes(), 0);
}

#[tokio::test]
async fn discarded_and_aborted_parts_are_given_back() {
    let memory = memory(10 * MIB);
    let upload = UploadId::new("u").unwrap();
    memory.create(&key("k"), &upload).await.unwrap();
    let empty = memory.used_bytes();
    let one = memory.put_part(&key("k"), &upload, PartNumber::new(1).unwrap(), body(MIB)).await.unwrap();
    memory.put_part(&key("k"), &upload, PartNumber::new(1).unwrap(), body(MIB)).await.unwrap();
    let two = memory.used_bytes();
    memory.discard_part(&key("k"), &upload, &one).await.unwrap();
    assert_eq!(two - memory.used_bytes(), memory.used_bytes() - empty);
    memory.abort(&key("k"), &upload).await.unwrap();
    assert_eq!(memory.used_bytes(), 0);
}

#[tokio::test]
async fn small_parts_are_read_as_one_slice() {
    let memory = memory(10 * MIB);
    let upload = UploadId::new("u").unwrap();
    memory.create(&key("k"), &upload).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..=500 {
        let token = memory.put_part(&key("k"), &upload, PartNumber::new(number).unwrap(), body(100)).await.unwrap();
        parts.push((token, 100));
    }
    memory.complete(&key("k"), &upload, &parts, &ETag::new("e").unwrap(), &PutOptions::default()).await.unwrap();
    assert_eq!(slice(get(&memory, "k", None).await), vec![7; 50_000]);
    assert!(memory.used_bytes() < 51_000);
}

#[tokio::test]
async fn keys_and_attributes_count() {
    let memory = memory(MIB);
    let mut stored = 0;
    let refusal = loop {
        match put(&memory, &format!("{stored}"), 0).await {
            Ok(()) => stored += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(refusal.kind(), &ErrorKind::QuotaExceeded);
    assert!((1000..10_000).contains(&stored), "{stored} empty objects in 1 MiB");
    let keys: Vec<_> = (0..stored).map(|n| key(&n.to_string()).into()).collect();
    assert!(memory.delete(&keys).await.iter().all(Result::is_ok));
    assert_eq!(memory.used_bytes(), 0);

    let change = |n: usize| AttributeChange { if_match: None, set: vec![(format!("n{n}"), Some("v".repeat(65_000)))] };
    put(&memory, "k", 0).await.unwrap();
    let mut changes = 0;
    while memory.set_attributes(&key("k"), &change(changes)).await.is_ok() {
        changes += 1;
        assert!(memory.used_bytes() <= MIB as u64);
    }
    assert!((4..16).contains(&changes), "{changes} changes of 65 kB in 1 MiB");
    assert_eq!(memory.head(&key("k"), &ReadOptions::default()).await.unwrap().attributes.len(), changes);
    memory.delete(&[key("k").into()]).await;
    assert_eq!(memory.used_bytes(), 0);
}
