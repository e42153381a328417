//! Growing at the end, and getting another name.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Subject;
use super::bodies::{body, broken, bytes_of, content, etag_of};
use super::subject::{assert_same, key, kind};
use crate::{
    Append, AppendOptions, AttributeChange, Attributes, DeleteOutcome, ETag, Error, ErrorKind, Growth, ObjectInfo, PutOptions,
    PutWhen, RangeSpec, ReadOptions, Rename, RenameOptions, Result, SEQUENCE_ATTRIBUTE, Seal,
};

const RACERS: usize = 8;

/// What a grown object is called: its bytes cannot be read again for an MD5.
fn grown(etag: &ETag) -> ETag {
    let count = etag.as_str().rsplit_once('-').and_then(|(_, count)| count.parse::<u32>().ok()).unwrap_or(1);
    ETag::new(format!("{:032x}-{}", count + 1, count + 1)).expect("a sound ETag")
}

fn growth() -> Growth {
    Growth::new(|info, appended| {
        let mut attributes = info.attributes.clone();
        attributes.extend(appended.seal.attributes.iter());
        Ok(Seal { etag: grown(&info.etag), attributes })
    })
}

fn at(offset: u64) -> AppendOptions {
    AppendOptions { offset, put: PutOptions::default(), growth: growth() }
}

async fn append(facet: &dyn Append, name: &str, offset: u64, bytes: impl Into<Bytes>) -> Result<ObjectInfo> {
    facet.append(&key(name), body(&bytes.into()), &at(offset)).await
}

fn facet(subject: &Subject) -> Option<&dyn Append> {
    subject.provider().appends()
}

fn names(subject: &Subject) -> Option<&dyn Rename> {
    subject.provider().renames()
}

/// Piece by piece, small and large, and each answer and each read in between tells of the whole.
pub async fn objects_grow(subject: &Subject) {
    let Some(facet) = facet(subject) else { return };
    let mut whole = BytesMut::new();
    let large = if subject.takes(8 << 20) { 3 << 20 } else { 100_000 };
    for (seed, length) in [1, 1, 5, 4096, 70_000, 1, large, 17].into_iter().enumerate() {
        let piece = content(seed as u64, length);
        let info = append(facet, "grown", whole.len() as u64, piece.clone()).await.expect("an append at the end");
        whole.extend_from_slice(&piece);
        assert_eq!(info.size, whole.len() as u64);
        assert_same(&info, &subject.head("grown").await);
        assert_eq!(subject.read("grown").await, whole, "after {length} more bytes");
    }
    let seam = RangeSpec::Between(4, 4110);
    let read = ReadOptions { range: Some(seam), if_match: None };
    let part = bytes_of(subject.provider().get(&key("grown"), &read).await.expect("a range over seams")).await;
    assert_eq!(part, whole[4..4111]);
    // What was put before grows as well.
    subject.put("put", "one").await;
    let info = append(facet, "put", 3, " two").await.expect("an append to what was put");
    assert_eq!((subject.read("put").await, info.size), ("one two".into(), 7));
    assert!(subject.list("", None).await.len() == 2);
    // And what has grown can be replaced, copied and deleted as ever.
    subject.provider().copy(&key("put"), &key("copy"), &crate::CopyOptions::default()).await.expect("copy of a grown object");
    append(facet, "put", 7, " three").await.expect("an append to the source of a copy");
    assert_eq!((subject.read("copy").await, subject.read("put").await), ("one two".into(), "one two three".into()));
    subject.put("put", "new").await;
    assert_eq!(subject.read("put").await, "new");
    assert_eq!(subject.delete("grown").await, DeleteOutcome::Deleted { size: whole.len() as u64 });
    subject.assert_absent("grown").await;
}

/// At the end, and nowhere else.
pub async fn only_at_the_end(subject: &Subject) {
    let Some(facet) = facet(subject) else { return };
    assert_eq!(kind(append(facet, "k", 1, "x").await), ErrorKind::WriteOffset { size: 0 });
    subject.assert_absent("k").await;
    append(facet, "k", 0, "abc").await.expect("an append makes an object");
    for offset in [0, 2, 4, u64::MAX] {
        assert_eq!(kind(append(facet, "k", offset, "x").await), ErrorKind::WriteOffset { size: 3 }, "at {offset}");
    }
    assert_eq!(subject.read("k").await, "abc");
    append(facet, "k", 3, "d").await.expect("an append at the end");
    assert_eq!(subject.read("k").await, "abcd");
}

/// A body that breaks off, a rule that says no and a condition that does not hold leave what was there.
pub async fn a_refused_append_changes_nothing(subject: &Subject) {
    let Some(facet) = facet(subject) else { return };
    let before = subject.put("k", "before").await;
    for length in [100, 3 << 20] {
        let whole = content(9, length);
        let broken = broken(&whole, length / 2, 60_000, true);
        assert!(facet.append(&key("k"), broken, &at(6)).await.is_err(), "a broken body was appended");
        assert_same(&subject.head("k").await, &before);
    }
    let never = Growth::new(|_, _| Err(Error::new(ErrorKind::Guarded, "a rule of the suite")));
    let refused = AppendOptions { growth: never, ..at(6) };
    assert_eq!(kind(facet.append(&key("k"), body(&"x".into()), &refused).await), ErrorKind::Guarded);
    if subject.features().conditions {
        let other = PutOptions { when: PutWhen::IfMatch(etag_of(b"other")), ..PutOptions::default() };
        let refused = AppendOptions { put: other, ..at(6) };
        assert_eq!(kind(facet.append(&key("k"), body(&"x".into()), &refused).await), ErrorKind::PreconditionFailed);
        let absent = PutOptions { when: PutWhen::IfAbsent, ..PutOptions::default() };
        let refused = AppendOptions { put: absent, ..at(6) };
        assert_eq!(kind(facet.append(&key("k"), body(&"x".into()), &refused).await), ErrorKind::PreconditionFailed);
    }
    assert_same(&subject.head("k").await, &before);
    assert_eq!(subject.read("k").await, "before");
    append(facet, "k", 6, " and after").await.expect("an append after those that were refused");
    assert_eq!(subject.read("k").await, "before and after");
}

/// Attributes of an object that is made by an append are kept, those of the rule replace them, and changes in between are not lost.
pub async fn attributes_grow_with_it(subject: &Subject) {
    let Some(facet) = facet(subject) else { return };
    if !subject.features().attributes {
        return;
    }
    let long = "v".repeat(20_000);
    let made = PutOptions { when: PutWhen::Always, attributes: subject.attributes(&[("a", "1"), ("b", &long)]) };
    let made = facet.append(&key("k"), body(&"x".into()), &AppendOptions { put: made, ..at(0) }).await.expect("an append");
    assert_eq!((made.attributes.get("a"), made.attributes.get("b").map(str::len)), (Some("1"), Some(20_000)));
    let change = AttributeChange { if_match: None, set: vec![("b".into(), None), ("c".into(), Some("3".into()))] };
    subject.provider().set_attributes(&key("k"), &change).await.expect("a change between two appends");
    let rule = Growth::new(|info, appended| {
        let mut attributes = info.attributes.clone();
        attributes.set("bytes", appended.bytes.to_string());
        Ok(Seal { etag: grown(&info.etag), attributes })
    });
    let mut info =
        facet.append(&key("k"), body(&"yz".into()), &AppendOptions { growth: rule, ..at(1) }).await.expect("an append");
    // Of the answer alone.
    info.attributes.remove(SEQUENCE_ATTRIBUTE);
    let want: Attributes = [("a", "1"), ("bytes", "2"), ("c", "3")].into_iter().collect();
    assert_eq!((info.attributes, subject.head("k").await.attributes), (want.clone(), want));
    assert_eq!(subject.read("k").await, "xyz");
}

/// Of racing writers at one offset one wins; when all look again, all their pieces are there, whole.
pub async fn racing_appends_lose_nothing(subject: &Subject) {
    if facet(subject).is_none() {
        return;
    }
    let barrier = Arc::new(Barrier::new(RACERS));
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let (provider, barrier) = (subject.instance(racer), Arc::clone(&barrier));
        racers.spawn(async move {
            let facet = provider.appends().expect("an instance with the facet");
            let piece = Bytes::from(vec![b'a' + racer as u8; 1000 + racer]);
            let mut offset = 0;
            let mut first = true;
            barrier.wait().await;
            loop {
                match facet.append(&key("k"), body(&piece), &at(offset)).await {
                    Ok(_) => return first,
                    Err(error) => match *error.kind() {
                        ErrorKind::WriteOffset { size } => offset = size,
                        // Another writer made it.
                        ErrorKind::Conflict | ErrorKind::PreconditionFailed => {}
                        _ => panic!("a racing append: {error}"),
                    },
                }
                first = false;
            }
        });
    }
    let won = racers.join_all().await.into_iter().filter(|first| *first).count();
    assert_eq!(won, 1, "appends at offset 0 that went through");
    let whole = subject.read("k").await;
    let runs: Vec<_> = whole.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    assert_eq!(runs.len(), RACERS, "pieces are mixed: {runs:?}");
    assert!(runs.iter().all(|(letter, length)| *length == 1000 + usize::from(letter - b'a')), "{runs:?}");
}

/// While an object grows, whoever reads it sees one of its states, and what was opened stays as it was.
pub async fn readers_of_what_grows_see_a_state(subject: &Subject) {
    if facet(subject).is_none() {
        return;
    }
    let whole = content(4, 400_000);
    let piece = 8000;
    let writer = {
        let (provider, whole) = (subject.instance(0), whole.clone());
        tokio::spawn(async move {
            let facet = provider.appends().expect("an instance with the facet");
            for at_byte in (0..whole.len()).step_by(piece) {
                append(facet, "k", at_byte as u64, whole.slice(at_byte..at_byte + piece)).await.expect("an append");
            }
        })
    };
    let mut states = 0;
    let mut held = None;
    while !writer.is_finished() {
        match subject.instance(states).get(&key("k"), &ReadOptions::default()).await {
            Ok(object) => {
                let info = object.info.clone();
                assert_eq!(object.range, 0..info.size);
                let at_most = info.size / piece as u64;
                assert_eq!(info.size % piece as u64, 0, "a read of half a piece");
                if at_most > 1 {
                    assert!(info.etag.as_str().ends_with(&format!("-{at_most}")), "{} bytes as {}", info.size, info.etag);
                }
                if states == 3 {
                    held = Some(object);
                } else {
                    assert_eq!(bytes_of(object).await, whole[..info.size as usize]);
                }
                states += 1;
            }
            Err(error) => assert_eq!(*error.kind(), ErrorKind::NotFound, "{error}"),
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer");
    if let Some(object) = held {
        let size = object.info.size as usize;
        assert_eq!(bytes_of(object).await, whole[..size], "what was opened before it grew");
    }
    assert_eq!(subject.read("k").await, whole);
}

/// To a free name, over another object, onto itself, into and out of directories.
pub async fn objects_get_other_names(subject: &Subject) {
    let Some(facet) = names(subject) else { return };
    let attributes = subject.attributes(&[("a", "1")]);
    let put = PutOptions { when: PutWhen::Always, attributes };
    let before = subject.provider().put(&key("from"), body(&"content".into()), &put).await.expect("put");
    let plain = RenameOptions::default();
    for (from, to) in
        [("from", "to"), ("to", "d/e/f"), ("d/e/f", "d"), ("d", "d/"), ("d/", "../x"), ("../x", "long/".repeat(60).as_str())]
    {
        let info = facet.rename(&key(from), &key(to), &plain).await.unwrap_or_else(|e| panic!("{from:?} to {to:?}: {e}"));
        assert_eq!((info.key.as_str(), &info.etag, info.modified), (to, &before.etag, before.modified));
        assert_eq!(info.attributes, before.attributes);
        assert_same(&subject.head(to).await, &info);
        assert_eq!(subject.keys().await, [to]);
        subject.assert_absent(from).await;
        assert_eq!(subject.read(to).await, "content");
    }
    let last = "long/".repeat(60);
    subject.put("other", "another").await;
    facet.rename(&key(&last), &key("other"), &plain).await.expect("rename over another object");
    assert_eq!((subject.keys().await, subject.read("other").await), (vec!["other".to_owned()], "content".into()));
    let info = facet.rename(&key("other"), &key("other"), &plain).await.expect("rename to itself");
    assert_eq!(subject.read("other").await, "content");
    assert_eq!(info.etag, before.etag);
    assert_eq!(kind(facet.rename(&key("none"), &key("other"), &plain).await), ErrorKind::NotFound);
    assert_eq!(subject.read("other").await, "content");
    if subject.features().attributes {
        let set = RenameOptions { set: vec![("a".into(), None), ("b".into(), Some("2".into()))], ..plain };
        facet.rename(&key("other"), &key("last"), &set).await.expect("rename with attributes");
        let want: Attributes = [("b", "2")].into_iter().collect();
        assert_eq!(subject.head("last").await.attributes, want);
    }
}

/// Conditions on both ends.
pub async fn renames_under_conditions(subject: &Subject) {
    let Some(facet) = names(subject) else { return };
    let source = subject.put("from", "source").await.etag;
    let there = subject.put("to", "destination").await.etag;
    let (from, to) = (key("from"), key("to"));
    let stale = RenameOptions { source_if_match: Some(there.clone()), ..RenameOptions::default() };
    assert_eq!(kind(facet.rename(&from, &to, &stale).await), ErrorKind::PreconditionFailed);
    if subject.features().conditions {
        for when in [PutWhen::IfAbsent, PutWhen::IfMatch(source.clone()), PutWhen::IfNoneMatch(there.clone())] {
            let refused = RenameOptions { when, ..RenameOptions::default() };
            assert_eq!(kind(facet.rename(&from, &to, &refused).await), ErrorKind::PreconditionFailed);
        }
        let missing = RenameOptions { when: PutWhen::IfPresent, ..RenameOptions::default() };
        assert_eq!(kind(facet.rename(&from, &key("free"), &missing).await), ErrorKind::NotFound);
    }
    assert_eq!((subject.read("from").await, subject.read("to").await), ("source".into(), "destination".into()));
    let when = if subject.features().conditions { PutWhen::IfMatch(there) } else { PutWhen::Always };
    let current = RenameOptions { source_if_match: Some(source), when, set: Vec::new() };
    facet.rename(&from, &to, &current).await.expect("rename under conditions that hold");
    assert_eq!((subject.keys().await, subject.read("to").await), (vec!["to".to_owned()], "source".into()));
}

/// Of racing renames of one object one wins, and the object is there once.
pub async fn one_of_many_renames(subject: &Subject) {
    if names(subject).is_none() {
        return;
    }
    for round in 0..5 {
        let from = format!("from{round}");
        subject.put(&from, "content").await;
        let barrier = Arc::new(Barrier::new(RACERS));
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let (provider, barrier, from) = (subject.instance(racer), Arc::clone(&barrier), key(&from));
            let to = key(&format!("to{round}/{racer}"));
            racers.spawn(async move {
                barrier.wait().await;
                provider
                    .renames()
                    .expect("an instance with the facet")
                    .rename(&from, &to, &RenameOptions::default())
                    .await
                    .is_ok()
            });
        }
        let won = racers.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1);
        assert_eq!(subject.list(&format!("to{round}/"), None).await.len(), 1);
        subject.assert_absent(&from).await;
    }
}
