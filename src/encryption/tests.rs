//! What is sealed comes back, in whole and in ranges, and nothing else does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use sluice_provider as provider;
use sluice_provider::{Attributes, Body, ETag, Key, ObjectInfo, PartNumber, PutBody, Seal, known_size};

use super::envelope::{ENVELOPE_ATTRIBUTE, LAYOUT_ATTRIBUTE, SESSION_ATTRIBUTE};
use super::layout::{SEALED_BYTES, SEGMENT_BYTES};
use super::{At, CustomerKey, Encryption, Fetch, Settings, Wish, stored_part_bytes};
use crate::error::{EncryptionFault, ErrorKind, Result};
use crate::tokens::{Keyring, MasterKeys};

const S: u64 = SEGMENT_BYTES;
const HERE: At<'static> = At { bucket: "bucket", key: "a/key" };

fn encryption() -> Encryption {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    std::fs::write(&path, format!("one {}\ntwo {}\n", "11".repeat(32), "22".repeat(32))).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = Settings { keyring_file: path.to_str().unwrap().to_owned(), ..Settings::default() };
    let master = Keyring::new(&MasterKeys::from([7; 32]), None).unwrap();
    Encryption::new(&settings, Some(master), None).unwrap()
}

fn customer(byte: u8) -> CustomerKey {
    CustomerKey::new(&[byte; 32], "md5").unwrap()
}

fn kms(key: &str) -> Wish {
    Wish::Kms { key: Some(key.to_owned()), context: BTreeMap::from([("a".into(), "b".into())]), bucket_key: false }
}

/// Content that differs everywhere.
fn content(bytes: u64) -> Bytes {
    (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into()
}

/// A body that comes in chunks of so many bytes.
fn body(content: &Bytes, chunk: usize) -> PutBody {
    let chunks: Vec<_> = content.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let seal = Seal { etag: ETag::new("0".repeat(32)).unwrap(), attributes: Attributes::new() };
    let seal = std::sync::Arc::new(std::sync::OnceLock::from(seal));
    PutBody::new(futures::stream::iter(chunks).boxed(), Some(content.len() as u64), seal)
}

/// An object as a mount has it.
#[derive(Clone)]
struct Stored {
    bytes: Vec<u8>,
    info: ObjectInfo,
}

impl Stored {
    async fn of(mut body: PutBody) -> Self {
        let declared = body.size();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await.unwrap() {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(declared, Some(bytes.len() as u64));
        let Seal { etag, attributes } = body.seal().unwrap();
        Self::new(bytes, etag, attributes)
    }

    fn new(bytes: Vec<u8>, etag: ETag, attributes: Attributes) -> Self {
        let size = bytes.len() as u64;
        let modified = std::time::SystemTime::UNIX_EPOCH;
        Self { bytes, info: ObjectInfo { key: Key::new("a/key").unwrap(), size, etag, modified, attributes } }
    }

    fn with_bytes(&self, bytes: Vec<u8>) -> Self {
        Self::new(bytes, self.info.etag.clone(), self.info.attributes.clone())
    }

    async fn read(&self, on: &Encryption, key: Option<&CustomerKey>, range: Range<u64>) -> Result<Vec<u8>> {
        self.read_parts(on, key, range, None).await
    }

    async fn read_parts(
        &self,
        on: &Encryption,
        key: Option<&CustomerKey>,
        range: Range<u64>,
        parts: Option<Vec<(u16, u64)>>,
    ) -> Result<Vec<u8>> {
        let opener = on.open(HERE, &self.info, || parts, key).await?.unwrap();
        let body = opener.read(range.clone(), self).await?;
        Ok(gathered(body).await?)
    }
}

async fn gathered(body: Body) -> provider::Result<Vec<u8>> {
    match body {
        Body::Bytes(bytes) => Ok(bytes.to_vec()),
        Body::Stream(mut stream) => {
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk?);
            }
            Ok(bytes)
        }
        body => panic!("ciphertext: {body:?}"),
    }
}

#[async_trait]
impl Fetch for Stored {
    async fn fetch(&self, stored: Range<u64>) -> Result<Body> {
        let bytes = Bytes::copy_from_slice(&self.bytes[stored.start as usize..stored.end as usize]);
        // In pieces that meet no border.
        let chunks: Vec<_> = bytes.chunks(100_003).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(Body::Stream(futures::stream::iter(chunks).boxed()))
    }
}

#[tokio::test]
async fn every_size_at_a_border_comes_back() {
    let on = encryption();
    for bytes in [0, 1, S - 1, S, S + 1, 2 * S, 4 * S - 1, 4 * S, 4 * S + 1, 5 * S, 8 * S, 8 * S + 1, 17 * S + 3] {
        let content = content(bytes);
        for chunk in [1 << 20, 70_000, S as usize] {
            let stored = Stored::of(on.seal(HERE, &Wish::Gateway, body(&content, chunk)).await.unwrap()).await;
            assert_eq!(known_size(&stored.info), bytes);
            assert_eq!(stored.info.etag.as_str(), "0".repeat(32), "SSE-S3 keeps the MD5");
            assert_eq!(stored.read(&on, None, 0..bytes).await.unwrap(), content);
        }
    }
}

#[tokio::test]
async fn only_the_right_key_opens_and_only_here() {
    let on = encryption();
    let text = content(100);
    let sealed = |wish: Wish| {
        let on = &on;
        let text = text.clone();
        async move { Stored::of(on.seal(HERE, &wish, body(&text, 7)).await.unwrap()).await }
    };
    let fault = |outcome: Result<Vec<u8>>| match outcome.unwrap_err().kind() {
        ErrorKind::Encryption(fault) => fault.clone(),
        other => panic!("{other:?}"),
    };
    let object = sealed(Wish::Customer(customer(1))).await;
    assert_ne!(object.info.etag.as_str(), "0".repeat(32), "an ETag that tells nothing");
    assert_eq!(object.read(&on, Some(&customer(1)), 0..100).await.unwrap(), text);
    assert_eq!(fault(object.read(&on, None, 0..100).await), EncryptionFault::KeyNeeded);
    assert_eq!(fault(object.read(&on, Some(&customer(2)), 0..100).await), EncryptionFault::OtherKey);
    for wish in [Wish::Gateway, kms("one")] {
        let object = sealed(wish).await;
        assert_eq!(object.read(&on, None, 0..100).await.unwrap(), text);
        assert_eq!(fault(object.read(&on, Some(&customer(1)), 0..100).await), EncryptionFault::NotApplicable);
        for at in [At { bucket: "other", ..HERE }, At { key: "other", ..HERE }] {
            assert!(on.open(at, &object.info, || None, None).await.is_err(), "a key belongs to its place");
        }
        // Said of another key, or in another context.
        for (from, to) in [("\"one\"", "\"two\""), ("\"b\"", "\"c\"")] {
            let text = object.info.attributes.get(ENVELOPE_ATTRIBUTE).unwrap().replace(from, to);
            let mut other = object.clone();
            if text != object.info.attributes.get(ENVELOPE_ATTRIBUTE).unwrap() {
                other.info.attributes.set(ENVELOPE_ATTRIBUTE, text);
                assert!(other.read(&on, None, 0..100).await.is_err());
            }
        }
    }
    let missing = on.seal(HERE, &kms("three"), body(&text, 7)).await.unwrap_err();
    assert!(matches!(missing.kind(), ErrorKind::Encryption(EncryptionFault::NoSuchKey(name)) if name == "three"));
    let wish = Wish::Kms { key: None, context: BTreeMap::new(), bucket_key: false };
    // Without a name and without a default, the gateway has a key of its own.
    let object = sealed(wish).await;
    assert_eq!(object.read(&on, None, 0..100).await.unwrap(), text.slice(0..100));
    // Another gateway, with other master keys.
    let master = Keyring::new(&MasterKeys::from([8; 32]), None).unwrap();
    let strange = Encryption::new(&Settings::default(), Some(master), None).unwrap();
    assert!(sealed(Wish::Gateway).await.read(&strange, None, 0..100).await.is_err());
}

#[tokio::test]
async fn nothing_that_was_sealed_shows() {
    let on = encryption();
    let text = Bytes::from(vec![b'x'; 3 * S as usize]);
    let stored = Stored::of(on.seal(HERE, &Wish::Customer(customer(0x41)), body(&text, 5000)).await.unwrap()).await;
    assert!(!stored.bytes.windows(8).any(|window| window == b"xxxxxxxx"));
    assert_ne!(stored.bytes[..S as usize], stored.bytes[SEALED_BYTES as usize..][..S as usize], "no two segments are alike");
    for (_, value) in stored.info.attributes.iter() {
        assert!(!value.contains("AAAA") && !value.contains("QUFBQUFB"), "a key is not stored: {value}");
    }
}

#[tokio::test]
async fn what_was_changed_is_noticed() {
    let on = encryption();
    let text = content(3 * S + 100);
    let stored = Stored::of(on.seal(HERE, &Wish::Gateway, body(&text, 1 << 20)).await.unwrap()).await;
    let other = Stored::of(on.seal(HERE, &Wish::Gateway, body(&text, 1 << 20)).await.unwrap()).await;
    let whole = 0..3 * S + 100;
    let (one, two) = (SEALED_BYTES as usize, 2 * SEALED_BYTES as usize);
    let bytes = &stored.bytes;
    let mut wrong: Vec<(&str, Vec<u8>)> = Vec::new();
    for at in [0, 1, one - 1, one, one + 5, two - 16, bytes.len() - 116, bytes.len() - 1] {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            wrong.push(("a bit", flipped));
        }
    }
    wrong.push(("segments in another order", [&bytes[one..two], &bytes[..one], &bytes[two..]].concat()));
    wrong.push(("a segment of another object", [&other.bytes[..one], &bytes[one..]].concat()));
    wrong.push(("another object", other.bytes.clone()));
    wrong.push(("a segment twice", [&bytes[..one], &bytes[..one], &bytes[two..]].concat()));
    for (what, bytes) in wrong {
        let changed = stored.with_bytes(bytes);
        assert!(changed.read(&on, None, whole.clone()).await.is_err(), "{what}");
    }
    // Cut off, with the size made to fit: at a border of segments, before the last and in the midst of one.
    for cut in [0, 1, one, two, bytes.len() - 116, bytes.len() - 1] {
        let mut changed = stored.with_bytes(bytes[..cut].to_vec());
        for size in [cut as u64, (cut - cut.div_ceil(one) * 16 % (cut + 1)) as u64, S, 2 * S, 3 * S] {
            changed.info.attributes.set("size", size.to_string());
            assert!(changed.read(&on, None, 0..size).await.is_err(), "cut at {cut}, {size} bytes");
        }
    }
    // What was not touched can be read still.
    let mut flipped = bytes.clone();
    flipped[two + 5] ^= 1;
    let changed = stored.with_bytes(flipped);
    assert_eq!(changed.read(&on, None, 5..S + 9).await.unwrap(), text[5..S as usize + 9]);
    assert!(changed.read(&on, None, 2 * S..2 * S + 1).await.is_err());
}

/// An upload as a mount has it, with its parts.
async fn uploaded(on: &Encryption, wish: &Wish, key: Option<&CustomerKey>, sizes: &[u64]) -> (Stored, Vec<(u16, u64)>, Vec<u8>) {
    let mut attributes = Attributes::new();
    on.begin_upload(HERE, wish, &mut attributes).await.unwrap();
    let session: BTreeMap<_, _> = attributes.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let (mut bytes, mut parts, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for (at, size) in sizes.iter().enumerate() {
        // Numbers with gaps.
        let number = 3 * at as u16 + 2;
        let text = content(*size);
        let part = on.seal_part(HERE, &session, PartNumber::new(number.into()).unwrap(), key, body(&text, 90_000)).await.unwrap();
        let part = Stored::of(part).await;
        assert_eq!((known_size(&part.info), part.info.size), (*size, stored_part_bytes(*size)));
        bytes.extend_from_slice(&part.bytes);
        whole.extend_from_slice(&text);
        parts.push((number, *size));
    }
    on.finish_upload(HERE, &mut attributes, &parts).await.unwrap();
    assert!(attributes.get(SESSION_ATTRIBUTE).is_none());
    (Stored::new(bytes, ETag::new("x-1").unwrap(), attributes), parts, whole)
}

#[tokio::test]
async fn parts_come_back_and_belong_together() {
    let on = encryption();
    let key = customer(3);
    let sizes = [2 * S, S + 1, 4 * S, 0];
    let (stored, parts, whole) = uploaded(&on, &Wish::Customer(key.clone()), Some(&key), &sizes).await;
    let bytes = whole.len() as u64;
    let read = |stored: Stored, range: Range<u64>, parts: Vec<(u16, u64)>| {
        let (on, key) = (&on, key.clone());
        async move { stored.read_parts(on, Some(&key), range, Some(parts)).await }
    };
    assert_eq!(read(stored.clone(), 0..bytes, parts.clone()).await.unwrap(), whole);
    for border in [0, S, 2 * S, 3 * S, 3 * S + 1, 7 * S, bytes] {
        for range in [border.saturating_sub(2)..(border + 2).min(bytes), border.saturating_sub(S + 1)..border.min(bytes)] {
            let due = &whole[range.start as usize..range.end as usize];
            assert_eq!(read(stored.clone(), range.clone(), parts.clone()).await.unwrap(), due, "{range:?}");
        }
    }
    // A part fewer, another order, other numbers, a head exchanged.
    let first = stored_part_bytes(sizes[0]) as usize;
    let second = first + stored_part_bytes(sizes[1]) as usize;
    let less = stored_part_bytes(0) as usize;
    let mut fewer = stored.with_bytes(stored.bytes[..stored.bytes.len() - less].to_vec());
    fewer.info.attributes.set("size", bytes.to_string());
    assert!(read(fewer, 0..bytes, parts[..3].to_vec()).await.is_err());
    let turned = [&stored.bytes[first..second], &stored.bytes[..first], &stored.bytes[second..]].concat();
    let order = vec![parts[1], parts[0], parts[2], parts[3]];
    assert!(read(stored.with_bytes(turned.clone()), 0..bytes, order).await.is_err());
    assert!(read(stored.with_bytes(turned), 0..bytes, parts.clone()).await.is_err());
    let renumbered: Vec<_> = parts.iter().map(|(number, size)| (number + 1, *size)).collect();
    assert!(read(stored.clone(), 0..bytes, renumbered).await.is_err());
    let (again, ..) = uploaded(&on, &Wish::Customer(key.clone()), Some(&key), &sizes).await;
    let mixed = [&again.bytes[..first], &stored.bytes[first..]].concat();
    assert!(read(stored.with_bytes(mixed), 0..10, parts.clone()).await.is_err());
    let mut unvouched = stored.clone();
    unvouched.info.attributes.set(LAYOUT_ATTRIBUTE, again.info.attributes.get(LAYOUT_ATTRIBUTE).unwrap());
    assert!(read(unvouched, 0..10, parts).await.is_err());
}

#[tokio::test]
async fn a_part_needs_what_its_upload_began_with() {
    let on = encryption();
    let mut attributes = Attributes::new();
    on.begin_upload(HERE, &Wish::Customer(customer(1)), &mut attributes).await.unwrap();
    let session: BTreeMap<_, _> = attributes.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let one = PartNumber::new(1).unwrap();
    let part = |session: BTreeMap<String, String>, key: Option<CustomerKey>| {
        let on = &on;
        async move { on.seal_part(HERE, &session, one, key.as_ref(), body(&content(5), 5)).await.map(|b| b.size()) }
    };
    assert_eq!(part(session.clone(), Some(customer(1))).await.unwrap(), Some(stored_part_bytes(5)));
    assert_eq!(part(BTreeMap::new(), None).await.unwrap(), Some(5), "not encrypted");
    for (session, key) in [(session.clone(), None), (session, Some(customer(2))), (BTreeMap::new(), Some(customer(1)))] {
        assert!(matches!(part(session, key).await.unwrap_err().kind(), ErrorKind::Encryption(_)));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_sealed() {
    let on = encryption();
    let broken = || provider::Error::new(provider::ErrorKind::Body(provider::BodyFault::Incomplete), "body");
    let chunks = vec![Ok(content(5 * S)), Err(broken())];
    let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() };
    let seal = std::sync::Arc::new(std::sync::OnceLock::from(seal));
    let whole = PutBody::new(futures::stream::iter(chunks).boxed(), None, seal);
    let mut sealed = on.seal(HERE, &Wish::Gateway, whole).await.unwrap();
    assert!(sealed.chunk().await.unwrap().is_some());
    assert!(sealed.chunk().await.is_err() && sealed.seal().is_err());
    assert!(sealed.chunk().await.unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_range_is_the_slice(bytes in 1..9 * S, from in 0.0..1.0, length in 0.0..1.0, cut in 0..3usize, chunk in 1000..200_000usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let on = encryption();
            let start = ((bytes as f64 * from) as u64).min(bytes - 1);
            let end = (start + 1 + ((bytes - start) as f64 * length) as u64).min(bytes);
            let range = start..end;
            let text = content(bytes);
            let stored = Stored::of(on.seal(HERE, &Wish::Gateway, body(&text, chunk)).await.unwrap()).await;
            let due = |whole: &[u8]| whole[start as usize..end as usize].to_vec();
            assert_eq!(stored.read(&on, None, range.clone()).await.unwrap(), due(&text));
            let sizes = [bytes / 3, bytes / 4, bytes - bytes / 3 - bytes / 4];
            let (stored, parts, whole) = uploaded(&on, &Wish::Gateway, None, &sizes[cut.min(2)..]).await;
            if end <= whole.len() as u64 {
                assert_eq!(stored.read_parts(&on, None, range, Some(parts)).await.unwrap(), due(&whole));
            }
        });
    }
}
