//! What is stored beside the bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Subject;
use super::bodies::{body, bytes_of, content, etag_of};
use super::subject::{assert_same, key, kind};
use crate::{AttributeChange, Attributes, CopyOptions, ErrorKind, ObjectInfo, PutOptions, RangeSpec, ReadOptions};

/// Attributes come back as they went in, from every call that answers with them.
pub async fn attributes_come_back(subject: &Subject) {
    if !subject.features().attributes {
        return refused(subject).await;
    }
    let longest = "n".repeat(255);
    let value = "v".repeat(2048);
    let sets: [Vec<(&str, &str)>; 5] = [
        vec![("content-type", "text/plain")],
        vec![("empty", ""), ("blank", " "), ("lines", "a\nb\r\n"), ("nul", "a\0b"), ("tab", "\t")],
        vec![("umlaut", "Äpfel"), ("nfd", "A\u{308}pfel"), ("wide", "日本語"), ("emoji", "👩\u{200d}💻"), ("last", "\u{10ffff}")],
        vec![("a.b:c/d-e_f", "1"), ("A", "upper"), ("a", "lower"), (" ", "space"), ("%", "%25"), ("=", "="), (&longest, "long")],
        vec![("meta", &value)],
    ];
    for set in sets {
        let attributes: Attributes = set.iter().copied().collect();
        let put = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
        let info = subject.provider().put(&key("k"), body(&Bytes::from("bytes")), &put).await.expect("put");
        assert_eq!(info.attributes, attributes);
        assert_complete(subject, "k", &attributes).await;
    }
}

/// 64 KiB of them, in one value, in many, and on an object of no bytes.
pub async fn sixty_four_kibibytes(subject: &Subject) {
    if !subject.features().attributes {
        return;
    }
    let one: Attributes = [("n".to_owned(), "x".repeat(65_535))].into_iter().collect();
    let many: Attributes = (0..512).map(|n| (format!("name{n:04}"), "y".repeat(120))).collect();
    let wide: Attributes = (0..64).map(|n| (format!("name{n:04}"), "é".repeat(508))).collect();
    for (n, attributes) in [one, many, wide].into_iter().enumerate() {
        for bytes in [Bytes::new(), content(n as u64, 10)] {
            let put = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
            subject.provider().put(&key("big"), body(&bytes), &put).await.expect("put with 64 KiB of attributes");
            assert_complete(subject, "big", &attributes).await;
            let copied = subject.provider().copy(&key("big"), &key("copy"), &CopyOptions::default()).await.expect("copy");
            assert_eq!(copied.attributes, attributes);
            assert_complete(subject, "copy", &attributes).await;
            let change = AttributeChange { if_match: None, set: vec![("name0001".into(), Some("small".into()))] };
            let mut changed = attributes.clone();
            changed.apply(&change);
            subject.provider().set_attributes(&key("big"), &change).await.expect("change of 64 KiB of attributes");
            assert_complete(subject, "big", &changed).await;
            assert_complete(subject, "copy", &attributes).await;
        }
    }
    assert_eq!(subject.keys().await, ["big", "copy"]);
    subject.put("big", "plain again").await;
    assert_complete(subject, "big", &Attributes::new()).await;
}

/// A change sets, replaces and removes names, and touches neither data nor ETag nor time.
pub async fn a_change_keeps_the_object(subject: &Subject) {
    if !subject.features().attributes {
        return;
    }
    let p = subject.provider();
    let put = PutOptions { attributes: [("a", "1"), ("b", "1"), ("c", "1")].into_iter().collect(), ..PutOptions::default() };
    let before = p.put(&key("k"), body(&content(9, 3000)), &put).await.expect("put");
    let change = |if_match, set: &[(&str, Option<&str>)]| AttributeChange {
        if_match,
        set: set.iter().map(|(n, v)| ((*n).into(), v.map(Into::into))).collect(),
    };
    let steps = [
        (
            change(None, &[("b", Some("2")), ("c", None), ("d", Some("neu")), ("none", None)]),
            vec![("a", "1"), ("b", "2"), ("d", "neu")],
        ),
        (change(Some(before.etag.clone()), &[("a", None), ("d", Some(""))]), vec![("b", "2"), ("d", "")]),
        (change(None, &[]), vec![("b", "2"), ("d", "")]),
        (change(None, &[("x", Some("1")), ("x", Some("2")), ("b", None), ("d", None)]), vec![("x", "2")]),
        (change(None, &[("x", None)]), vec![]),
    ];
    for (change, expected) in steps {
        let after = p.set_attributes(&key("k"), &change).await.expect("set_attributes");
        let expected: Attributes = expected.into_iter().collect();
        assert_eq!(after.attributes, expected);
        assert_same(&before, &after);
        assert_same(&before, &assert_complete(subject, "k", &expected).await);
        assert_eq!(subject.read("k").await, content(9, 3000));
    }
    let stale = change(Some(etag_of(b"other")), &[("x", Some("1"))]);
    assert_eq!(kind(p.set_attributes(&key("k"), &stale).await), ErrorKind::PreconditionFailed);
    assert_complete(subject, "k", &Attributes::new()).await;
    assert_eq!(kind(p.set_attributes(&key("none"), &stale).await), ErrorKind::NotFound);
    assert_eq!(subject.keys().await, ["k"]);
}

/// Changes of different names that race all arrive.
pub async fn racing_changes_all_arrive(subject: &Subject) {
    const RACERS: usize = 10;
    if !subject.features().attributes {
        return;
    }
    let before = subject.put("k", "bytes").await;
    let start = Arc::new(Barrier::new(RACERS));
    let mut racers = JoinSet::new();
    for n in 0..RACERS {
        let (provider, start) = (subject.instance(n), start.clone());
        racers.spawn(async move {
            start.wait().await;
            for step in 0..5 {
                let set = vec![(format!("racer{n}"), Some(format!("{step}")))];
                provider.set_attributes(&key("k"), &AttributeChange { if_match: None, set }).await.expect("set_attributes");
            }
        });
    }
    racers.join_all().await;
    let expected: Attributes = (0..RACERS).map(|n| (format!("racer{n}"), "4")).collect();
    assert_same(&before, &assert_complete(subject, "k", &expected).await);
}

/// A change that races with a put never brings the old object back, nor puts the old attributes beside the new bytes.
pub async fn a_change_never_undoes_a_put(subject: &Subject) {
    if !subject.features().attributes {
        return;
    }
    for round in 0..40_u64 {
        let name = "k";
        let put =
            |edition: &str| PutOptions { attributes: [("edition", edition)].into_iter().collect(), ..PutOptions::default() };
        let (old, new) = (content(round, 400), content(round + 1000, 700));
        subject.provider().put(&key(name), body(&old), &put("old")).await.expect("put");
        let change = AttributeChange { if_match: None, set: vec![("changed".into(), Some("yes".into()))] };
        let (writer, changer) = (subject.instance(0), subject.instance(1));
        let (put, new_body) = (put("new"), body(&new));
        let put = tokio::spawn(async move { writer.put(&key(name), new_body, &put).await });
        let changed = tokio::spawn(async move { changer.set_attributes(&key(name), &change).await });
        put.await.expect("the put task").expect("put");
        changed.await.expect("the task of the change").expect("set_attributes");
        assert_eq!(subject.read(name).await, new, "the put was undone");
        assert_eq!(subject.head(name).await.attributes.get("edition"), Some("new"), "old attributes beside new bytes");
    }
}

/// What keeps no attributes refuses them.
async fn refused(subject: &Subject) {
    let put = PutOptions { attributes: [("a", "1")].into_iter().collect(), ..PutOptions::default() };
    let p = subject.provider();
    assert_eq!(kind(p.put(&key("k"), body(&Bytes::from("x")), &put).await), ErrorKind::Unsupported);
    subject.assert_absent("k").await;
    subject.put("k", "x").await;
    let change = AttributeChange { if_match: None, set: vec![("a".into(), Some("1".into()))] };
    assert_eq!(kind(p.set_attributes(&key("k"), &change).await), ErrorKind::Unsupported);
    assert!(subject.head("k").await.attributes.is_empty());
}

/// Head, get and a ranged get all tell of exactly these attributes.
async fn assert_complete(subject: &Subject, name: &str, expected: &Attributes) -> ObjectInfo {
    let head = subject.head(name).await;
    assert_eq!(head.attributes, *expected, "head of {name:?}");
    let whole = subject.provider().get(&key(name), &ReadOptions::default()).await.expect("get");
    assert_eq!(whole.info.attributes, *expected, "get of {name:?}");
    assert_same(&head, &whole.info);
    if head.size > 0 {
        let read = ReadOptions { range: Some(RangeSpec::Last(1)), if_match: None };
        let part = subject.provider().get(&key(name), &read).await.expect("ranged get");
        assert_eq!(part.info.attributes, *expected, "ranged get of {name:?}");
        assert_eq!(bytes_of(part).await.len(), 1);
    }
    head
}
