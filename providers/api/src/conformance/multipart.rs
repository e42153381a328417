//! Parts that arrive in any order and become one object at once.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;

use super::Subject;
use super::atomic::polled_at_most;
use super::bodies::{body, broken, chunked, content, etag_of, held, hesitant};
use super::hard_keys::hard_keys;
use super::subject::{assert_same, key, kind, upload_id};
use crate::{
    BodyFault, DeleteOutcome, ETag, ErrorKind, Multipart, ObjectInfo, PartNumber, PutOptions, PutWhen, Result, UploadId,
};

/// An upload of one test: its key, its id, and the parts to be completed.
struct Upload<'a> {
    multipart: &'a dyn Multipart,
    name: &'a str,
    id: UploadId,
}

impl<'a> Upload<'a> {
    async fn begin(multipart: &'a dyn Multipart, name: &'a str, id: &str) -> Self {
        let id = upload_id(id);
        multipart.create(&key(name), &id).await.unwrap_or_else(|e| panic!("create of an upload to {name:?}: {e}"));
        Self { multipart, name, id }
    }

    async fn part(&self, number: i64, content: &Bytes) -> (String, u64) {
        let token = self.try_part(number, content).await.unwrap_or_else(|e| panic!("part {number}: {e}"));
        assert!(!token.is_empty() && token.len() <= 256, "a token of {} bytes", token.len());
        assert!(token.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "a token that cannot be printed: {token:?}");
        (token, content.len() as u64)
    }

    async fn try_part(&self, number: i64, content: &Bytes) -> Result<String> {
        self.multipart.put_part(&key(self.name), &self.id, part_number(number), body(content)).await
    }

    async fn complete(&self, parts: &[(String, u64)], put: &PutOptions) -> Result<ObjectInfo> {
        self.multipart.complete(&key(self.name), &self.id, parts, &composite(parts.len()), put).await
    }

    /// Nothing knows of it any more.
    async fn assert_gone(&self, parts: &[(String, u64)]) {
        assert_eq!(kind(self.try_part(1, &Bytes::from("late")).await), ErrorKind::NotFound, "a part of an upload that is over");
        let late = self.complete(parts, &PutOptions::default()).await;
        assert_eq!(kind(late), ErrorKind::NotFound, "a second end of an upload");
        self.multipart.abort(&key(self.name), &self.id).await.expect("abort of what is over");
    }
}

/// Parts out of order, of odd sizes, become the object with the ETag and the attributes of the call; the upload is then over.
pub async fn parts_become_one_object(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let sizes = [(3, 70_001), (1, 1), (10_000, 12), (2, 5 * 1024 * 1024 + 7), (4, 0), (77, 65_536)];
    for (n, name) in ["k", "dir/k"].into_iter().enumerate() {
        let upload = Upload::begin(multipart, name, &format!("upload-{n}_X")).await;
        let mut parts = Vec::new();
        for (number, size) in sizes {
            let bytes = content(number, size);
            let body = chunked(&bytes, &[1000, 77, 65_536], number % 2 == 0);
            let number = i64::try_from(number).expect("small");
            let token = multipart.put_part(&key(name), &upload.id, part_number(number), body).await.expect("put_part");
            parts.push((number, bytes, token));
            subject.assert_absent(name).await;
        }
        parts.sort_by_key(|(number, ..)| *number);
        let whole = parts.iter().fold(BytesMut::new(), |mut all, (_, bytes, _)| {
            all.extend_from_slice(bytes);
            all
        });
        let listed: Vec<_> = parts.iter().map(|(_, bytes, token)| (token.clone(), bytes.len() as u64)).collect();
        let put = PutOptions { attributes: subject.attributes(&[("a", "1"), ("content-type", "x/y")]), ..PutOptions::default() };
        let info = upload.complete(&listed, &put).await.expect("complete");
        assert_eq!((info.key.as_str(), info.size), (name, whole.len() as u64));
        assert_eq!((&info.etag, &info.attributes), (&composite(sizes.len()), &put.attributes));
        let head = subject.head(name).await;
        assert_same(&info, &head);
        assert_eq!(head.attributes, put.attributes);
        assert!(subject.read(name).await == whole, "the object is not its parts");
        upload.assert_gone(&listed).await;
        assert!(subject.read(name).await == whole, "a late call changed the object");
    }
    assert_eq!(subject.keys().await, ["dir/k", "k"]);
}

/// One part, and parts without a byte.
pub async fn one_part_and_empty_parts(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    for (n, sizes) in [vec![5], vec![0], vec![0, 0, 0], vec![0, 3, 0], vec![2, 0, 2]].into_iter().enumerate() {
        let name = format!("k{n}");
        let upload = Upload::begin(multipart, &name, &format!("u{n}")).await;
        let (mut parts, mut whole) = (Vec::new(), BytesMut::new());
        for (number, size) in (1..).zip(sizes) {
            let bytes = content(number, size);
            whole.extend_from_slice(&bytes);
            parts.push(upload.part(i64::try_from(number).expect("small"), &bytes).await);
        }
        let info = upload.complete(&parts, &PutOptions::default()).await.expect("complete");
        assert_eq!(info.size, whole.len() as u64);
        assert_eq!(subject.read(&name).await, whole);
    }
}

/// A thousand parts of a few bytes each.
pub async fn a_thousand_small_parts(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let upload = Upload::begin(multipart, "k", "many").await;
    let (mut parts, mut whole) = (Vec::new(), BytesMut::new());
    for number in 1..=1000 {
        let bytes = content(number, 1 + number as usize % 37);
        whole.extend_from_slice(&bytes);
        parts.push(upload.part(i64::try_from(number).expect("small"), &bytes).await);
    }
    upload.complete(&parts, &PutOptions::default()).await.expect("complete");
    assert_eq!(subject.read("k").await, whole);
}

/// Parts that are sent at the same time.
pub async fn parts_at_the_same_time(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let upload = Upload::begin(multipart, "k", "together").await;
    let mut senders = JoinSet::new();
    for number in 1..=16_u64 {
        let (provider, id) = (subject.instance(number as usize), upload.id.clone());
        senders.spawn(async move {
            let bytes = content(number, 50_000 + number as usize);
            let multipart = provider.multipart().expect("the facet that its peer has");
            let number = i64::try_from(number).expect("small");
            let token = multipart.put_part(&key("k"), &id, part_number(number), hesitant(&bytes, 5000)).await.expect("put_part");
            (number, bytes, token)
        });
    }
    let mut parts = senders.join_all().await;
    parts.sort_by_key(|(number, ..)| *number);
    let listed: Vec<_> = parts.iter().map(|(_, bytes, token)| (token.clone(), bytes.len() as u64)).collect();
    upload.complete(&listed, &PutOptions::default()).await.expect("complete");
    let whole: Vec<u8> = parts.iter().flat_map(|(_, bytes, _)| bytes.iter().copied()).collect();
    assert!(subject.read("k").await == whole, "the object is not its parts");
}

/// A part that is sent again has another token; the old one stays until it is discarded.
pub async fn a_part_sent_again(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let (old, new) = (Bytes::from("old part,"), Bytes::from("a newer part,"));
    for (n, (pick_new, discard)) in [(true, false), (true, true), (false, false), (false, true)].into_iter().enumerate() {
        let name = format!("k{n}");
        let upload = Upload::begin(multipart, &name, &format!("u{n}")).await;
        let first = upload.part(1, &old).await;
        let second = upload.part(1, &new).await;
        assert_ne!(first.0, second.0, "the same token for another part");
        let last = upload.part(2, &Bytes::from("the end")).await;
        let (picked, left) = if pick_new { (second, first) } else { (first, second) };
        if discard {
            multipart.discard_part(&key(&name), &upload.id, &left.0).await.expect("discard_part");
            multipart.discard_part(&key(&name), &upload.id, &left.0).await.expect("discard_part of what is gone");
            multipart.discard_part(&key(&name), &upload.id, "no-such-token").await.expect("discard_part of no part");
            let missing = upload.complete(&[left], &PutOptions::default()).await;
            assert_eq!(kind(missing), ErrorKind::NotFound, "a part that was discarded");
        }
        match upload.complete(&[picked, last], &PutOptions::default()).await {
            Ok(_) => {
                let expected = if pick_new { "a newer part,the end" } else { "old part,the end" };
                assert_eq!(subject.read(&name).await, expected);
            }
            // The NotFound above may have ended the upload.
            Err(e) => assert!(discard && *e.kind() == ErrorKind::NotFound, "{e}"),
        }
    }
}

/// A part that was replaced and discarded takes nothing from the others.
pub async fn discarding_spares_the_rest(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let upload = Upload::begin(multipart, "k", "u").await;
    let same = content(1, 5000);
    let one = upload.part(1, &same).await;
    let again = upload.part(1, &same).await;
    let two = upload.part(2, &same).await;
    multipart.discard_part(&key("k"), &upload.id, &one.0).await.expect("discard_part");
    multipart.discard_part(&key("k"), &upload.id, "../../k").await.expect("discard_part of no part");
    multipart.discard_part(&key("k"), &upload_id("other"), &again.0).await.expect("discard_part of no upload");
    upload.complete(&[again, two], &PutOptions::default()).await.expect("complete");
    assert_eq!(subject.read("k").await, [same.clone(), same].concat());
}

/// Only the listed parts become the object.
pub async fn only_the_listed_parts(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let upload = Upload::begin(multipart, "k", "u").await;
    let parts = [upload.part(1, &"one".into()).await, upload.part(2, &"two".into()).await, upload.part(3, &"three".into()).await];
    upload.complete(&[parts[0].clone(), parts[2].clone()], &PutOptions::default()).await.expect("complete");
    assert_eq!(subject.read("k").await, "onethree");
    upload.assert_gone(&parts).await;
    assert_eq!(subject.keys().await, ["k"]);
}

/// A body that breaks leaves no part, and the other parts as they were.
pub async fn a_broken_part_spares_the_rest(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let upload = Upload::begin(multipart, "k", "u").await;
    let first = upload.part(1, &"first,".into()).await;
    let second = upload.part(2, &"second".into()).await;
    for declare in [true, false] {
        for number in [1, 2, 3] {
            let broken = broken(&content(1, 100_000), 99_000, 10_000, declare);
            let refusal = multipart.put_part(&key("k"), &upload.id, part_number(number), broken).await;
            assert_eq!(kind(refusal), ErrorKind::Body(BodyFault::Incomplete));
        }
    }
    let (body, mut hold) = held(&content(2, 100_000));
    {
        let name = key("k");
        let mut dropped = std::pin::pin!(multipart.put_part(&name, &upload.id, part_number(1), body));
        tokio::select! {
            done = &mut dropped => panic!("a part ended before its body did: {done:?}"),
            () = hold.reached() => {}
        }
    }
    subject.assert_absent("k").await;
    upload.complete(&[first, second], &PutOptions::default()).await.expect("complete");
    assert_eq!(subject.read("k").await, "first,second");
}

/// A refused condition leaves the object and all the parts; the upload can then be completed without it.
pub async fn complete_under_conditions(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let old = subject.put("k", "old").await.etag;
    let upload = Upload::begin(multipart, "k", "u").await;
    let parts = [upload.part(1, &"new ".into()).await, upload.part(2, &"bytes".into()).await];
    let when = |when| PutOptions { when, ..PutOptions::default() };
    if !subject.features().conditions {
        for condition in [PutWhen::IfAbsent, PutWhen::IfPresent, PutWhen::IfMatch(old)] {
            assert_eq!(kind(upload.complete(&parts, &when(condition)).await), ErrorKind::Unsupported);
        }
        assert_eq!(subject.read("k").await, "old");
        return;
    }
    for refused in [PutWhen::IfAbsent, PutWhen::IfMatch(etag_of(b"other"))] {
        assert_eq!(kind(upload.complete(&parts, &when(refused)).await), ErrorKind::PreconditionFailed);
        assert_eq!(subject.read("k").await, "old");
    }
    upload.complete(&parts, &when(PutWhen::IfMatch(old.clone()))).await.expect("complete on the current ETag");
    assert_eq!(subject.read("k").await, "new bytes");

    let fresh = Upload::begin(multipart, "fresh", "f").await;
    let parts = [fresh.part(1, &"x".into()).await];
    // NotFound of the object may not be told from NotFound of the upload, so nothing is asked of the parts after it.
    assert_eq!(kind(fresh.complete(&parts, &when(PutWhen::IfMatch(old))).await), ErrorKind::NotFound);
    subject.assert_absent("fresh").await;
    let created = Upload::begin(multipart, "created", "c").await;
    let parts = [created.part(1, &"x".into()).await];
    created.complete(&parts, &when(PutWhen::IfAbsent)).await.expect("complete of what is absent");
    assert_eq!(subject.read("created").await, "x");
}

/// Uploads that race to create one key: exactly one does, and the others keep their parts.
pub async fn one_of_many_completes(subject: &Subject) {
    const RACERS: usize = 8;
    if subject.multipart().is_none() || !subject.features().conditions {
        return;
    }
    for round in 0..3 {
        let name = format!("race/{round}");
        let start = std::sync::Arc::new(tokio::sync::Barrier::new(RACERS));
        let mut racers = JoinSet::new();
        for n in 0..RACERS {
            let (provider, name, start) = (subject.instance(n), name.clone(), start.clone());
            racers.spawn(async move {
                let multipart = provider.multipart().expect("the facet that its peer has");
                let upload = Upload::begin(multipart, &name, &format!("u-{round}-{n}")).await;
                let parts = [upload.part(1, &content(n as u64, 3000)).await, upload.part(2, &Bytes::from(n.to_string())).await];
                start.wait().await;
                let put = PutOptions { when: PutWhen::IfAbsent, ..PutOptions::default() };
                let outcome = upload.complete(&parts, &put).await.map(drop);
                if outcome.is_err() {
                    multipart.abort(&key(&name), &upload.id).await.expect("abort of a loser");
                }
                (n, outcome)
            });
        }
        let mut winners = Vec::new();
        for (n, outcome) in racers.join_all().await {
            match outcome {
                Ok(()) => winners.push(n),
                Err(e) => assert!(matches!(e.kind(), ErrorKind::PreconditionFailed | ErrorKind::Conflict), "{e}"),
            }
        }
        let [winner] = winners[..] else { panic!("exactly one winner was due, not {winners:?}") };
        let expected = [content(winner as u64, 3000), Bytes::from(winner.to_string())].concat();
        assert_eq!(subject.read(&name).await, expected);
    }
}

/// The same upload completed twice at the same time is one object, whole, and at least one call succeeds.
pub async fn the_same_complete_twice(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    for round in 0..5 {
        let name = format!("k{round}");
        let upload = Upload::begin(multipart, &name, &format!("u{round}")).await;
        let parts = vec![upload.part(1, &content(1, 9000)).await, upload.part(2, &content(2, 900)).await];
        let mut calls = JoinSet::new();
        for n in 0..4 {
            let (provider, name, id, parts) = (subject.instance(n), name.clone(), upload.id.clone(), parts.clone());
            calls.spawn(async move {
                let multipart = provider.multipart().expect("the facet that its peer has");
                multipart.complete(&key(&name), &id, &parts, &composite(2), &PutOptions::default()).await.map(drop)
            });
        }
        let outcomes = calls.join_all().await;
        assert!(outcomes.iter().any(Result::is_ok), "{outcomes:?}");
        for refusal in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(refusal.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{refusal}");
        }
        assert!(subject.read(&name).await == [content(1, 9000), content(2, 900)].concat());
        upload.assert_gone(&parts).await;
    }
}

/// An abort frees everything, may be repeated, and leaves the object alone.
pub async fn abort_frees_everything(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    subject.put("k", "old").await;
    for name in ["k", "new", "deep/new"] {
        let upload = Upload::begin(multipart, name, &format!("u-{}", name.len())).await;
        let parts = [upload.part(1, &content(1, 100_000)).await, upload.part(2, &content(2, 10)).await];
        multipart.abort(&key(name), &upload.id).await.expect("abort");
        multipart.abort(&key(name), &upload.id).await.expect("second abort");
        upload.assert_gone(&parts).await;
    }
    multipart.abort(&key("none"), &upload_id("never-was")).await.expect("abort of what never was");
    assert_eq!(subject.read("k").await, "old");
    assert_eq!(subject.keys().await, ["k"]);
    assert_eq!(subject.list("", Some("/")).await.len(), 1);
}

/// What never began is not there.
pub async fn no_upload_no_parts(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let never = Upload { multipart, name: "k", id: upload_id("never-was") };
    assert_eq!(kind(never.try_part(1, &"x".into()).await), ErrorKind::NotFound);
    let upload = Upload::begin(multipart, "k", "u").await;
    let part = upload.part(1, &"x".into()).await;
    let unknown = upload.complete(&[part, ("no-such-token".into(), 1)], &PutOptions::default()).await;
    assert_eq!(kind(unknown), ErrorKind::NotFound);
    assert!(subject.keys().await.is_empty());
}

/// Uploads do not show: neither in listings nor as objects, and several of one key know nothing of each other.
pub async fn uploads_do_not_show(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    let one = Upload::begin(multipart, "dir/k", "one").await;
    let two = Upload::begin(multipart, "dir/k", "two").await;
    let other = Upload::begin(multipart, "dir/k/", "other").await;
    let of_one = [one.part(1, &"1".into()).await];
    let of_two = [two.part(1, &"22".into()).await];
    let of_other = [other.part(1, &"333".into()).await];
    subject.assert_absent("dir/k").await;
    assert!(subject.list("", Some("/")).await.is_empty());
    assert_eq!(subject.delete("dir/k").await, DeleteOutcome::Absent);
    two.complete(&of_two, &PutOptions::default()).await.expect("complete");
    assert_eq!(subject.keys().await, ["dir/k"]);
    subject.delete("dir/k").await;
    assert!(subject.list("", Some("/")).await.is_empty());
    one.complete(&of_one, &PutOptions::default()).await.expect("complete after a delete of the object");
    other.complete(&of_other, &PutOptions::default()).await.expect("complete");
    assert_eq!((subject.read("dir/k").await, subject.read("dir/k/").await), ("1".into(), "333".into()));
}

/// Hard keys take uploads too.
pub async fn uploads_to_hard_keys(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    for (n, name) in hard_keys().iter().chain(subject.hard_keys()).enumerate() {
        let upload = Upload::begin(multipart, name, &format!("hard-{n}")).await;
        let parts = [upload.part(1, &"a".into()).await, upload.part(2, &"b".into()).await];
        upload.complete(&parts, &PutOptions::default()).await.unwrap_or_else(|e| panic!("complete of {name:?}: {e}"));
        assert_eq!(subject.read(name).await, "ab");
        subject.delete(name).await;
    }
    assert!(subject.keys().await.is_empty());
}

/// A complete that is dropped half way has happened or has not; then the parts are still there.
pub async fn a_dropped_complete_is_whole(subject: &Subject) {
    let Some(multipart) = subject.multipart() else { return };
    for polls in 0..8 {
        subject.put("k", "old").await;
        let upload = Upload::begin(multipart, "k", &format!("u{polls}")).await;
        let parts = [upload.part(1, &content(1, 20_000)).await, upload.part(2, &content(2, 20)).await];
        let whole = [content(1, 20_000), content(2, 20)].concat();
        polled_at_most(polls, upload.complete(&parts, &PutOptions::default())).await;
        let seen = subject.read("k").await;
        assert!(seen == "old" || seen == whole, "neither the state before nor the one after");
        // The first call may still be at work; what it leaves is either the object or the parts to try again with.
        while let Err(e) = upload.complete(&parts, &PutOptions::default()).await {
            match e.kind() {
                ErrorKind::NotFound => break,
                ErrorKind::Conflict => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => panic!("{e}"),
            }
        }
        assert!(subject.read("k").await == whole, "a complete was lost, and its parts with it");
    }
}

fn part_number(number: i64) -> PartNumber {
    PartNumber::new(number).expect("1 to 10 000")
}

/// An ETag as S3 gives it to an object of parts; its dash tells the suite that it is no MD5 of the bytes.
fn composite(parts: usize) -> ETag {
    ETag::new(format!("{}-{parts}", etag_of(b"parts"))).expect("a sound ETag")
}
