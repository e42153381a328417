//! Whole or not at all.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;

use super::Subject;
use super::bodies::{broken, content, etag_of, held, hesitant};
use super::subject::{key, kind};
use crate::{AttributeChange, BodyFault, CopyOptions, DeleteOutcome, ErrorKind, PutOptions, PutWhen, ReadOptions};

/// A body that ends in an error is never published: what was there stays, byte for byte, and nothing new is listed.
pub async fn a_broken_body_changes_nothing(subject: &Subject) {
    let old = content(1, 3000);
    let attributes = subject.attributes(&[("old", "yes")]);
    let put = PutOptions { attributes, ..PutOptions::default() };
    let before = subject.provider().put(&key("dir/old"), super::bodies::body(&old), &put).await.expect("put");
    let cases = [(10_000, 0, 10), (10_000, 1, 1), (10_000, 9_999, 4096), (10_000, 10_000, 4096), (3_000_000, 2_900_000, 65_536)];
    for (size, good, chunk) in cases.into_iter().filter(|(size, ..)| subject.takes(*size as u64)) {
        for declare in [true, false] {
            for name in ["dir/old", "dir/new", "other/deep/new"] {
                let body = broken(&content(2, size), good, chunk, declare);
                let refusal = subject.provider().put(&key(name), body, &PutOptions::default()).await;
                // What the body said is what the caller hears, or the wire would tell of another fault.
                assert_eq!(kind(refusal), ErrorKind::Body(BodyFault::Incomplete), "{name}: {good} of {size} bytes");
            }
            assert_eq!(subject.read("dir/old").await, old);
            let after = subject.head("dir/old").await;
            assert_eq!((after.modified, &after.attributes), (before.modified, &put.attributes));
            subject.assert_absent("dir/new").await;
            assert_eq!(subject.keys().await, ["dir/old"]);
            assert_eq!(subject.list("", Some("/")).await.len(), 1, "a prefix with nothing beneath it");
        }
    }
}

/// Until a body has ended, readers and listings see what was there before.
pub async fn nothing_shows_before_the_end(subject: &Subject) {
    subject.put("old", "old").await;
    for name in ["old", "new", "deep/new"] {
        let bytes = content(3, 200_000);
        let (body, mut hold) = held(&bytes);
        let provider = subject.instance(0);
        let put = tokio::spawn(async move { provider.put(&key(name), body, &PutOptions::default()).await });
        hold.reached().await;
        assert_eq!(subject.read("old").await, "old");
        if name != "old" {
            subject.assert_absent(name).await;
        }
        let reader = subject.instance(1);
        let seen = reader.head(&key(name), &ReadOptions::default()).await;
        assert_eq!(
            seen.map(|info| info.size).map_err(|e| *e.kind()),
            if name == "old" { Ok(3) } else { Err(ErrorKind::NotFound) }
        );
        assert!(subject.list("deep/", None).await.is_empty());
        assert_eq!(subject.list("", Some("/")).await.len(), 1);
        hold.release();
        put.await.expect("the put task").expect("put");
        assert_eq!(subject.read(name).await, bytes);
        subject.delete(name).await;
        subject.put("old", "old").await;
    }
}

/// A put that is dropped half way leaves what was there, and no trace of itself.
pub async fn a_dropped_put_leaves_no_trace(subject: &Subject) {
    subject.put("old", "old").await;
    for name in ["old", "new", "deep/new"] {
        let (body, mut hold) = held(&content(4, 300_000));
        {
            let put = PutOptions::default();
            let name = key(name);
            let mut put = pin!(subject.provider().put(&name, body, &put));
            tokio::select! {
                done = &mut put => panic!("a put ended before its body did: {done:?}"),
                () = hold.reached() => {}
            }
        }
        assert_eq!(subject.read("old").await, "old");
        assert_eq!(subject.keys().await, ["old"]);
        assert_eq!(subject.list("", Some("/")).await.len(), 1, "a prefix with nothing beneath it");
        // The key is not left locked either.
        assert_eq!(subject.put(name, "again").await.size, 5);
        if name != "old" {
            subject.delete(name).await;
        }
        subject.put("old", "old").await;
    }
}

/// Whatever is dropped at whichever point leaves the state before the call or the one after it.
pub async fn dropped_anywhere_it_is_before_or_after(subject: &Subject) {
    let (old, new) = (content(5, 9_000), content(6, 12_000));
    for polls in 0..24 {
        subject.put("k", old.clone()).await;
        subject.put("source", new.clone()).await;
        let (target, source) = (key("k"), key("source"));
        match polls % 4 {
            0 | 1 => {
                let put = PutOptions::default();
                let put = subject.provider().put(&target, hesitant(&new, 1000), &put);
                polled_at_most(polls, put).await;
                assert_one_of(subject, &[&old, &new]).await;
            }
            2 => {
                let copy = CopyOptions::default();
                polled_at_most(polls / 4, subject.provider().copy(&source, &target, &copy)).await;
                assert_one_of(subject, &[&old, &new]).await;
            }
            _ => {
                let keys = [target.clone().into()];
                polled_at_most(polls / 4, subject.provider().delete(&keys)).await;
                let there = subject.provider().get(&target, &ReadOptions::default()).await;
                match there {
                    Ok(object) => assert_eq!(super::bodies::bytes_of(object).await, old),
                    Err(e) => assert_eq!(*e.kind(), ErrorKind::NotFound),
                }
            }
        }
    }
    // Work that outlived its future must not come back over what is written now.
    subject.put("k", "last").await;
    assert_eq!(subject.read("k").await, "last");
    assert_eq!(subject.keys().await, ["k", "source"]);
}

/// A change of attributes that is dropped has happened or has not.
pub async fn a_dropped_attribute_change_is_whole(subject: &Subject) {
    if !subject.features().attributes {
        return;
    }
    subject.put("k", "bytes").await;
    let long = "x".repeat(8000);
    for polls in 0..6 {
        let value = format!("{polls}{long}");
        let change = AttributeChange {
            if_match: None,
            set: vec![("one".into(), Some(value.clone())), ("two".into(), Some(value.clone()))],
        };
        polled_at_most(polls, subject.provider().set_attributes(&key("k"), &change)).await;
        let attributes = subject.head("k").await.attributes;
        assert_eq!(attributes.get("one"), attributes.get("two"), "half a change after {polls} polls");
        assert_eq!(subject.read("k").await, "bytes");
    }
}

/// A refused condition changes nothing, and a key that was refused is not left behind in any listing.
pub async fn a_refused_put_changes_nothing(subject: &Subject) {
    subject.put("k", "old").await;
    let wrong = etag_of(b"something else");
    for when in [PutWhen::IfAbsent, PutWhen::IfMatch(wrong.clone())] {
        let refusal = kind(subject.try_put("k", content(7, 50_000), when).await);
        let expected = if subject.features().conditions { ErrorKind::PreconditionFailed } else { ErrorKind::Unsupported };
        assert_eq!(refusal, expected);
        assert_eq!(subject.read("k").await, "old");
    }
    for when in [PutWhen::IfPresent, PutWhen::IfMatch(wrong)] {
        let refusal = kind(subject.try_put("deep/none", content(7, 50_000), when).await);
        assert_eq!(refusal, if subject.features().conditions { ErrorKind::NotFound } else { ErrorKind::Unsupported });
        subject.assert_absent("deep/none").await;
    }
    assert_eq!(subject.list("", Some("/")).await.len(), 1);
    assert_eq!(subject.delete("k").await, DeleteOutcome::Deleted { size: 3 });
    assert!(subject.list("", Some("/")).await.is_empty());
}

async fn assert_one_of(subject: &Subject, states: &[&Bytes]) {
    let seen = subject.read("k").await;
    assert!(states.iter().any(|state| **state == seen), "neither the state before nor the one after");
}

/// Polls a future at most so many times, then drops it.
pub(super) async fn polled_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
