//! Keys, not paths.

use std::collections::BTreeMap;

use super::Subject;
use super::bodies::content;
use super::hard_keys::hard_keys;
use super::subject::{Line, key};
use crate::{CopyOptions, DeleteOutcome};

/// All hard keys side by side: each keeps its own bytes, all are listed in byte order, and each goes alone.
pub async fn hard_keys_live_side_by_side(subject: &Subject) {
    let mut names = hard_keys();
    names.extend(subject.hard_keys().iter().cloned());
    // Backwards as well as forwards: `a/b` before `a` is another problem than `a` before `a/b`.
    let half = names.len() / 2;
    names[half..].reverse();
    let mut expected = BTreeMap::new();
    for (n, name) in names.iter().enumerate() {
        let bytes = content(n as u64, n % 50);
        let info = subject.put(name, bytes.clone()).await;
        assert_eq!(info.key.as_str(), name);
        expected.insert(name.clone(), bytes);
    }
    assert_listed(subject, &expected).await;
    for (name, bytes) in &expected {
        assert_eq!(subject.read(name).await, bytes, "{name:?}");
        assert_eq!(subject.head(name).await.size, bytes.len() as u64, "{name:?}");
    }
    let names: Vec<_> = expected.keys().cloned().collect();
    for (n, name) in names.iter().enumerate() {
        let size = expected.remove(name).map_or(0, |bytes| bytes.len() as u64);
        assert_eq!(subject.delete(name).await, DeleteOutcome::Deleted { size }, "{name:?}");
        assert_eq!(subject.delete(name).await, DeleteOutcome::Absent, "{name:?}");
        if n % 16 == 0 {
            assert_listed(subject, &expected).await;
        }
    }
    assert!(subject.keys().await.is_empty());
    assert!(subject.list("", Some("/")).await.is_empty(), "prefixes of keys that are gone");
}

/// Each hard key alone in the store is found by its own listing, and by nothing else.
pub async fn hard_keys_are_listed_alone(subject: &Subject) {
    for name in hard_keys().iter().chain(subject.hard_keys()) {
        subject.put(name, "x").await;
        assert_eq!(subject.keys().await, [name.as_str()]);
        assert_eq!(subject.list(name, None).await, [Line::object(name.as_str())], "the key as a prefix");
        let rolled = match name.find('/') {
            Some(at) => Line::prefix(&name[..=at]),
            None => Line::object(name.as_str()),
        };
        assert_eq!(subject.list("", Some("/")).await, [rolled], "{name:?}");
        let other = format!("{name}x");
        assert!(subject.list(&other, None).await.is_empty(), "{other:?} is no prefix of {name:?}");
        subject.delete(name).await;
        assert!(subject.list("", Some("/")).await.is_empty(), "{name:?} left a prefix behind");
    }
}

/// Hard keys as source and destination of a copy.
pub async fn hard_keys_are_copied(subject: &Subject) {
    subject.put("source", "source").await;
    for name in hard_keys() {
        let to = key(&name);
        let copied = subject.provider().copy(&key("source"), &to, &CopyOptions::default()).await;
        assert_eq!(copied.unwrap_or_else(|e| panic!("copy to {name:?}: {e}")).key, to);
        let copied = subject.provider().copy(&to, &key("back"), &CopyOptions::default()).await;
        copied.unwrap_or_else(|e| panic!("copy from {name:?}: {e}"));
        assert_eq!(subject.read("back").await, "source");
        subject.delete(&name).await;
    }
    assert_eq!(subject.keys().await, ["back", "source"]);
}

/// `a`, `a/` and `a/b` in every order of coming and going.
pub async fn an_object_and_what_lies_below_it(subject: &Subject) {
    let names = ["a", "a/", "a/b", "a//b"];
    for first in 0..names.len() {
        for step in [1, 3] {
            let order: Vec<_> = (0..names.len()).map(|n| names[(first + n * step) % names.len()]).collect();
            let mut there = BTreeMap::new();
            for name in &order {
                subject.put(name, name.to_string()).await;
                there.insert(name.to_string(), name.to_string().into());
                assert_listed(subject, &there).await;
            }
            for name in &order {
                assert_eq!(subject.read(name).await, name.as_bytes());
            }
            for name in order.iter().rev() {
                subject.delete(name).await;
                there.remove(*name);
                assert_listed(subject, &there).await;
                for name in there.keys() {
                    assert_eq!(subject.read(name).await, name.as_bytes());
                }
            }
        }
    }
}

/// A prefix is listed as long as something lies beneath it, and no longer.
pub async fn no_phantom_prefixes(subject: &Subject) {
    subject.put("a/b/c/d", "1").await;
    subject.put("a/b/e", "2").await;
    subject.put("a/f", "3").await;
    assert_eq!(top(subject).await, [Line::prefix("a/")]);
    subject.delete("a/b/c/d").await;
    assert_eq!(subject.list("a/b/", Some("/")).await, [Line::object("a/b/e")]);
    subject.delete("a/b/e").await;
    assert_eq!(subject.list("a/", Some("/")).await, [Line::object("a/f")]);
    subject.delete("a/f").await;
    assert!(top(subject).await.is_empty());

    // What was deleted above leaves what is below, and the reverse.
    for name in ["a", "a/", "a/b"] {
        subject.put(name, name).await;
    }
    subject.delete("a/b").await;
    assert_eq!(top(subject).await, [Line::object("a"), Line::prefix("a/")]);
    subject.delete("a/").await;
    assert_eq!(top(subject).await, [Line::object("a")]);
    subject.put("a/b", "below again").await;
    subject.delete("a").await;
    assert_eq!(top(subject).await, [Line::prefix("a/")]);
    assert_eq!(subject.read("a/b").await, "below again");
    subject.delete("a/b").await;
    assert!(top(subject).await.is_empty());
}

async fn assert_listed(subject: &Subject, expected: &BTreeMap<String, bytes::Bytes>) {
    let keys = subject.keys().await;
    let expected: Vec<_> = expected.keys().cloned().collect();
    for window in keys.windows(2) {
        assert!(window[0] < window[1], "{:?} is listed before {:?}", window[0], window[1]);
    }
    for key in &expected {
        assert!(keys.contains(key), "{key:?} is not listed");
    }
    assert_eq!(keys, expected);
}

async fn top(subject: &Subject) -> Vec<Line> {
    subject.list("", Some("/")).await
}
