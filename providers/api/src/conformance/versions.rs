//! Older versions. A provider without the facet has nothing to show here.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Subject;
use super::bodies::{body, broken, bytes_of, content, etag_of};
use super::hard_keys::hard_keys;
use super::subject::{key, kind, upload_id};
use crate::{
    AttributeChange, CopyOptions, DeleteWhen, ETag, ErrorKind, Guard, ListEntry, ListFrom, ListQuery, ObjectInfo, PartNumber,
    Provider, PutOptions, PutWhen, ReadOptions, VersionId, Versioning, Versions, is_marker, version_of,
};

/// A version as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) key: String,
    pub(super) id: VersionId,
    pub(super) marker: bool,
    pub(super) size: u64,
}

impl From<&ObjectInfo> for Told {
    fn from(info: &ObjectInfo) -> Self {
        Self { key: info.key.as_str().into(), id: version_of(&info.attributes), marker: is_marker(info), size: info.size }
    }
}

fn facet(subject: &Subject) -> Option<&dyn Versions> {
    subject.provider().versions()
}

async fn put(provider: &dyn Provider, name: &str, bytes: &Bytes, versioning: Versioning) -> VersionId {
    let versions = provider.versions().expect("the facet");
    let info = versions.put_version(&key(name), body(bytes), &PutOptions::default(), versioning).await;
    version_of(&info.unwrap_or_else(|e| panic!("put of a version of {name:?}: {e}")).attributes)
}

async fn mark(versions: &dyn Versions, name: &str, versioning: Versioning) -> VersionId {
    let marker = versions.mark_deleted(&key(name), &DeleteWhen::Always, versioning).await.expect("a marker");
    assert!(is_marker(&marker), "the answer is no marker");
    version_of(&marker.attributes)
}

async fn remove(versions: &dyn Versions, name: &str, id: &VersionId) -> Option<ObjectInfo> {
    let removed = versions.remove_version(&key(name), id, &DeleteWhen::Always, &Guard::none()).await;
    removed.unwrap_or_else(|e| panic!("removal of {id} of {name:?}: {e}"))
}

async fn read(versions: &dyn Versions, name: &str, id: &VersionId) -> Bytes {
    let object = versions.get_version(&key(name), id, &ReadOptions::default()).await;
    let object = object.unwrap_or_else(|e| panic!("get of {id} of {name:?}: {e}"));
    assert_eq!(version_of(&object.info.attributes), *id, "another version of {name:?}");
    assert_eq!(object.info.key.as_str(), name);
    let (etag, marker) = (object.info.etag.clone(), is_marker(&object.info));
    let bytes = bytes_of(object).await;
    assert!(marker || etag.as_str().contains('-') || etag == etag_of(&bytes), "the ETag of {id} speaks of other bytes");
    bytes
}

/// All versions in listing order, in pages of `limit`.
pub(super) async fn walk(versions: &dyn Versions, prefix: &str, limit: usize) -> Vec<Told> {
    let mut query = ListQuery { prefix: prefix.into(), limit, ..ListQuery::default() };
    let mut told = Vec::new();
    loop {
        let page = versions.list_versions(&query).await.unwrap_or_else(|e| panic!("list versions {query:?}: {e}"));
        assert!(page.entries.len() <= limit, "a page larger than its limit");
        for entry in &page.entries {
            let ListEntry::Object(info) = entry else { panic!("a prefix without a delimiter") };
            told.push(Told::from(info));
            query.from = ListFrom::AfterVersion(info.key.as_str().into(), version_of(&info.attributes));
        }
        if !page.more {
            return told;
        }
        assert!(!page.entries.is_empty(), "an empty page with more to come");
    }
}

async fn ids(versions: &dyn Versions, name: &str) -> Vec<VersionId> {
    walk(versions, name, 1000).await.into_iter().filter(|told| told.key == name).map(|told| told.id).collect()
}

/// What is replaced stays, whole, under its name; the newest is the object of the key.
pub async fn what_is_replaced_is_kept(subject: &Subject) {
    let Some(versions) = facet(subject) else { return };
    let contents: Vec<_> = (0..4).map(|n| content(n, [10, 0, 300_000, 77][n as usize])).collect();
    let mut written = Vec::new();
    for bytes in &contents {
        written.push(put(subject.provider(), "a/k", bytes, Versioning::Enabled).await);
    }
    assert_eq!(written.iter().collect::<std::collections::HashSet<_>>().len(), 4, "names are unique: {written:?}");
    for (id, bytes) in written.iter().zip(&contents) {
        assert_eq!(read(versions, "a/k", id).await, bytes, "{id}");
        let info = versions.head_version(&key("a/k"), Some(id), &ReadOptions::default()).await.unwrap();
        assert_eq!(info.size, bytes.len() as u64);
    }
    assert_eq!(subject.read("a/k").await, contents[3]);
    assert_eq!(version_of(&subject.head("a/k").await.attributes), written[3]);
    written.reverse();
    assert_eq!(ids(versions, "a/k").await, written, "from the newest to the oldest");
    assert_eq!(subject.keys().await, ["a/k"], "older versions are no keys");
    let unknown = VersionId::Named(crate::Version::after(None).unwrap());
    for id in [&unknown, &VersionId::Null] {
        assert_eq!(kind(versions.head_version(&key("a/k"), Some(id), &ReadOptions::default()).await), ErrorKind::NotFound);
        assert_eq!(kind(versions.get_version(&key("a/k"), id, &ReadOptions::default()).await), ErrorKind::NotFound);
        assert!(remove(versions, "a/k", id).await.is_none());
    }
    assert_eq!(kind(versions.head_version(&key("a"), None, &ReadOptions::default()).await), ErrorKind::NotFound);
}

/// A marker takes the key away, and gives it back when it is removed.
pub async fn a_marker_hides_the_key(subject: &Subject) {
    let Some(versions) = facet(subject) else { return };
    let (one, two) = (content(1, 100), content(2, 200));
    let first = put(subject.provider(), "k", &one, Versioning::Enabled).await;
    let second = put(subject.provider(), "k", &two, Versioning::Enabled).await;
    let marker = mark(versions, "k", Versioning::Enabled).await;
    subject.assert_absent("k").await;
    let newest = versions.head_version(&key("k"), None, &ReadOptions::default()).await.unwrap();
    assert!(is_marker(&newest) && version_of(&newest.attributes) == marker);
    assert_eq!(ids(versions, "k").await, [marker, second, first]);
    assert_eq!(read(versions, "k", &second).await, two);
    let again = mark(versions, "k", Versioning::Enabled).await;
    assert_eq!(ids(versions, "k").await, [again, marker, second, first]);
    assert!(is_marker(&remove(versions, "k", &again).await.unwrap()));
    subject.assert_absent("k").await;
    remove(versions, "k", &marker).await.unwrap();
    assert_eq!(subject.read("k").await, two, "the newest of what is left");
    assert_eq!(version_of(&subject.head("k").await.attributes), second);
    assert_eq!(remove(versions, "k", &second).await.unwrap().size, 200);
    assert_eq!(subject.read("k").await, one);
    remove(versions, "k", &first).await.unwrap();
    subject.assert_absent("k").await;
    assert!(walk(versions, "", 10).await.is_empty());
    // A key that never was can be marked too.
    let marker = mark(versions, "never", Versioning::Enabled).await;
    assert_eq!(ids(versions, "never").await, [marker]);
    let third = put(subject.provider(), "never", &one, Versioning::Enabled).await;
    assert_eq!(ids(versions, "never").await, [third, marker]);
    assert_eq!(subject.read("never").await, one);
    remove(versions, "never", &third).await.unwrap();
    subject.assert_absent("never").await;
}

/// Objects of before have the name null, and so has what is written while versioning is suspended: one of them at a time.
pub async fn null_is_one_version(subject: &Subject) {
    let Some(versions) = facet(subject) else { return };
    let contents: Vec<_> = (0..6).map(|n| content(n, 50 + n as usize)).collect();
    subject.put("k", contents[0].clone()).await;
    assert_eq!(ids(versions, "k").await, [VersionId::Null]);
    let one = put(subject.provider(), "k", &contents[1], Versioning::Enabled).await;
    assert_eq!(ids(versions, "k").await, [one, VersionId::Null]);
    assert_eq!(read(versions, "k", &VersionId::Null).await, contents[0]);
    assert_eq!(put(subject.provider(), "k", &contents[2], Versioning::Suspended).await, VersionId::Null);
    assert_eq!(ids(versions, "k").await, [VersionId::Null, one], "the null version of before has gone");
    assert_eq!(read(versions, "k", &VersionId::Null).await, contents[2]);
    assert_eq!(put(subject.provider(), "k", &contents[3], Versioning::Suspended).await, VersionId::Null);
    assert_eq!(ids(versions, "k").await, [VersionId::Null, one]);
    let two = put(subject.provider(), "k", &contents[4], Versioning::Enabled).await;
    assert_eq!(ids(versions, "k").await, [two, VersionId::Null, one]);
    assert_eq!(read(versions, "k", &VersionId::Null).await, contents[3]);
    // A suspended delete ends the null version, wherever it is, and is the null version itself.
    assert_eq!(mark(versions, "k", Versioning::Suspended).await, VersionId::Null);
    assert_eq!(ids(versions, "k").await, [VersionId::Null, two, one]);
    subject.assert_absent("k").await;
    assert_eq!(put(subject.provider(), "k", &contents[5], Versioning::Suspended).await, VersionId::Null);
    assert_eq!(ids(versions, "k").await, [VersionId::Null, two, one]);
    assert_eq!(subject.read("k").await, contents[5]);
    assert_eq!(mark(versions, "k", Versioning::Suspended).await, VersionId::Null);
    assert!(is_marker(&remove(versions, "k", &VersionId::Null).await.unwrap()));
    assert_eq!(ids(versions, "k").await, [two, one]);
    assert_eq!(subject.read("k").await, contents[4]);
    // An object of before that is deleted.
    subject.put("old", contents[0].clone()).await;
    let marker = mark(versions, "old", Versioning::Enabled).await;
    assert_eq!(ids(versions, "old").await, [marker, VersionId::Null]);
    assert_eq!(remove(versions, "old", &VersionId::Null).await.unwrap().size, 50);
    assert_eq!(ids(versions, "old").await, [marker]);
}

/// Versions of keys that are hard are versions of those keys, and are listed in the order of the keys.
pub async fn versions_of_hard_keys(subject: &Subject) {
    let Some(versions) = facet(subject) else { return };
    let names: BTreeSet<String> = hard_keys().into_iter().chain(subject.hard_keys().iter().cloned()).collect();
    let mut due = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let bytes = [content(n as u64, 20), content(n as u64 + 1, 30)];
        let first = put(subject.provider(), name, &bytes[0], Versioning::Enabled).await;
        let second = put(subject.provider(), name, &bytes[1], Versioning::Enabled).await;
        let told = |id, marker, size| Told { key: name.clone(), id, marker, size };
        if n % 2 == 0 {
            due.push(told(mark(versions, name, Versioning::Enabled).await, true, 0));
        }
        due.extend([told(second, false, 30), told(first, false, 20)]);
    }
    let is = walk(versions, "", 7).await;
    for (is, due) in is.iter().zip(&due) {
        assert_eq!(is, due);
    }
    assert_eq!(is.len(), due.len());
    for told in &due {
        remove(versions, &told.key, &told.id).await.unwrap_or_else(|| panic!("{told:?} is gone"));
    }
    assert!(walk(versions, "", 10).await.is_empty() && subject.keys().await.is_empty());
}

/// Pages of any size, with prefixes and delimiters, follow the whole.
pub async fn pages_of_versions(subject: &Subject) {
    let Some(versions) = facet(subject) else { return };
    for (n, name) in ["a", "a-b", "a/b", "a/b/c", "a/d", "b", "b/", "b/x"].iter().enumerate() {
        for round in 0..=n % 3 {
            put(subject.provider(), name, &content(round as u64, n), Versioning::Enabled).await;
        }
        if n % 3 != 1 {
            mark(versions, name, Versioning::Enabled).await;
        }
    }
    let whole = walk(versions, "", 1000).await;
    assert!(whole.len() > 15);
    for limit in 1..8 {
        assert_eq!(walk(versions, "", limit).await, whole, "pages of {limit}");
        let below: Vec<_> = whole.iter().filter(|told| told.key.starts_with("a/")).cloned().collect();
        assert_eq!(walk(versions, "a/", limit).await, below);
    }
    for (prefix, delimiter) in [("", "/"), ("a", "/"), ("a/", "/"), ("", "b"), ("", "-"), ("b", "/")] {
        let mut due: Vec<String> = Vec::new();
        for told in whole.iter().filter(|told| told.key.starts_with(prefix)) {
            match told.key[prefix.len()..].find(delimiter) {
                Some(at) => due.push(format!("{}*", &told.key[..prefix.len() + at + delimiter.len()])),
                None => due.push(format!("{}@{}", told.key, told.id)),
            }
        }
        due.dedup();
        for limit in 1..5 {
            let mut is = Vec::new();
            let mut query = ListQuery { prefix: prefix.into(), delimiter: Some(delimiter.into()), limit, ..ListQuery::default() };
            loop {
                let page = versions.list_versions(&query).await.expect("a page");
                for entry in &page.entries {
                    match entry {
                        ListEntry::Object(info) => {
                            let id = version_of(&info.attributes);
                            is.push(format!("{}@{id}", info.key));
                            query.from = ListFrom::AfterVersion(info.key.as_str().into(), id);
                        }
                        ListEntry::Prefix(rolled) => {
                            is.push(format!("{rolled}*"));
                            query.from = ListFrom::AfterPrefix(rolled.clone());
                        }
                    }
                }
                if !page.more {
                    break;
                }
            }
            assert_eq!(is, due, "prefix {prefix:?}, delimiter {delimiter:?}, pages of {limit}");
        }
    }
    let query = ListQuery { from: ListFrom::After("a/b".into()), limit: 1, ..ListQuery::default() };
    let page = versions.list_versions(&query).await.expect("a page");
    assert_eq!(page.entries.first().map(ListEntry::name), Some("a/b/c"), "after a key is after all its versions");
}

/// Racing writers of one key: each that succeeded made a version, whole, and nobody sees a mix.
pub async fn racing_writers_lose_nothing(subject: &Subject) {
    if facet(subject).is_none() {
        return;
    }
    const WRITERS: u64 = 8;
    const EACH: u64 = 6;
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        let provider = subject.instance(n as usize);
        writers.spawn(async move {
            let mut written = Vec::new();
            for round in 0..EACH {
                let bytes = content(n * 100 + round, 1000 + (n * 37 + round) as usize);
                let versions = provider.versions().expect("the facet");
                match versions.put_version(&key("d/k"), body(&bytes), &PutOptions::default(), Versioning::Enabled).await {
                    Ok(info) => written.push((version_of(&info.attributes), bytes)),
                    Err(error) => assert_eq!(*error.kind(), ErrorKind::Conflict, "{error}"),
                }
                if round % 3 == 2 {
                    mark(versions, "d/k", Versioning::Enabled).await;
                }
            }
            written
        });
    }
    let written: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let versions = facet(subject).expect("the facet");
    let listed = walk(versions, "", 1000).await;
    let objects: BTreeSet<_> = listed.iter().filter(|told| !told.marker).map(|told| told.id.to_string()).collect();
    assert_eq!(objects, written.iter().map(|(id, _)| id.to_string()).collect::<BTreeSet<_>>());
    assert_eq!(listed.iter().filter(|told| told.marker).count() as u64, WRITERS * (EACH / 3));
    for (id, bytes) in &written {
        assert_eq!(read(versions, "d/k", id).await, bytes);
    }
    assert!(listed.is_sorted_by(|a, b| a.id.to_string() < b.id.to_string()), "an order that no clock can disturb");
}

/// Versions that are removed while others are written: what is left is what nobody removed.
pub async fn racing_removals_take_only_theirs(subject: &Subject) {
    if facet(subject).is_none() {
        return;
    }
    let mut racers = JoinSet::new();
    for n in 0..6_u64 {
        let provider: Arc<dyn Provider> = subject.instance(n as usize);
        racers.spawn(async move {
            let mut left = Vec::new();
            for round in 0..8_u64 {
                let bytes = content(n * 100 + round, 500 + n as usize);
                let versions = provider.versions().expect("the facet");
                let id = put(&*provider, "k", &bytes, Versioning::Enabled).await;
                if round % 2 == 0 {
                    let removed = remove(versions, "k", &id).await.expect("a version that was just written");
                    assert_eq!(removed.size, bytes.len() as u64);
                } else {
                    assert_eq!(read(versions, "k", &id).await, bytes, "a version is found while others come and go");
                    left.push(id.to_string());
                }
            }
            left
        });
    }
    let left: BTreeSet<_> = racers.join_all().await.into_iter().flatten().collect();
    let versions = facet(subject).expect("the facet");
    let listed: BTreeSet<_> = walk(versions, "", 1000).await.iter().map(|told| told.id.to_string()).collect();
    assert_eq!(listed, left);
    let newest = versions.head_version(&key("k"), None, &ReadOptions::default()).await.expect("the newest");
    assert_eq!(version_of(&subject.head("k").await.attributes), version_of(&newest.attributes));
}

/// Conditions look at the current object; of many writers that want there to be none, one wins.
pub async fn conditions_look_at_the_current_one(subject: &Subject) {
    let Some(versions) = facet(subject).filter(|_| subject.features().conditions) else { return };
    let bytes = content(1, 64);
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let (provider, bytes) = (subject.instance(n), bytes.clone());
        writers.spawn(async move {
            let absent = PutOptions { when: PutWhen::IfAbsent, ..PutOptions::default() };
            let versions = provider.versions().expect("the facet");
            versions.put_version(&key("k"), body(&bytes), &absent, Versioning::Enabled).await.is_ok()
        });
    }
    assert_eq!(writers.join_all().await.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(walk(versions, "", 10).await.len(), 1, "a refused write leaves no version");
    let wrong = PutOptions { when: PutWhen::IfMatch(etag_of(b"other")), ..PutOptions::default() };
    let refused = versions.put_version(&key("k"), body(&bytes), &wrong, Versioning::Enabled).await;
    assert_eq!(kind(refused), ErrorKind::PreconditionFailed);
    let other = DeleteWhen::IfMatch { etag: Some(etag_of(b"other")), modified: None, size: None };
    assert_eq!(kind(versions.mark_deleted(&key("k"), &other, Versioning::Enabled).await), ErrorKind::PreconditionFailed);
    mark(versions, "k", Versioning::Enabled).await;
    let absent = PutOptions { when: PutWhen::IfAbsent, ..PutOptions::default() };
    versions.put_version(&key("k"), body(&bytes), &absent, Versioning::Enabled).await.expect("a deleted key is free");
    assert_eq!(walk(versions, "", 10).await.len(), 3);
    let broken_off =
        versions.put_version(&key("k"), broken(&bytes, 10, 5, true), &PutOptions::default(), Versioning::Enabled).await;
    assert!(broken_off.is_err());
    assert_eq!(walk(versions, "", 10).await.len(), 3, "a broken body leaves no version");
}

/// A guard that says no keeps everything as it is, wherever the version lies.
pub async fn a_guard_has_the_last_word(subject: &Subject) {
    let Some(versions) = facet(subject).filter(|_| subject.features().attributes) else { return };
    let attributes = subject.attributes(&[("held", "yes")]);
    let held = PutOptions { attributes, ..PutOptions::default() };
    let guard = Guard::new(|info| info.attributes.get("held").is_none());
    let old = versions.put_version(&key("k"), body(&content(1, 10)), &held, Versioning::Enabled).await.unwrap();
    let new = versions.put_version(&key("k"), body(&content(2, 10)), &held, Versioning::Enabled).await.unwrap();
    for id in [version_of(&old.attributes), version_of(&new.attributes)] {
        let refused = versions.remove_version(&key("k"), &id, &DeleteWhen::Always, &guard).await;
        assert_eq!(kind(refused), ErrorKind::Guarded);
        let change = AttributeChange { if_match: None, set: vec![("held".into(), None)] };
        assert_eq!(kind(versions.change_version(&key("k"), Some(&id), &change, &guard).await), ErrorKind::Guarded);
        assert_eq!(read(versions, "k", &id).await.len(), 10);
        versions.change_version(&key("k"), Some(&id), &change, &Guard::none()).await.expect("without a guard");
        versions.remove_version(&key("k"), &id, &DeleteWhen::Always, &guard).await.expect("held no longer").expect("there");
    }
    assert!(walk(versions, "", 10).await.is_empty());
}

/// A version can give up its bytes, and keeps all else.
pub async fn a_version_without_its_bytes(subject: &Subject) {
    let Some(versions) = facet(subject).filter(|_| subject.features().attributes) else { return };
    let attributes = subject.attributes(&[("a", "1"), ("b", "2")]);
    let with = PutOptions { attributes, ..PutOptions::default() };
    let plain = subject.provider().put(&key("plain"), body(&content(9, 70_000)), &with).await.unwrap();
    let old = versions.put_version(&key("d/k"), body(&content(1, 70_000)), &with, Versioning::Enabled).await.unwrap();
    let new = versions.put_version(&key("d/k"), body(&content(2, 70_000)), &with, Versioning::Enabled).await.unwrap();
    let set = vec![("a".to_owned(), None), (crate::SIZE_ATTRIBUTE.to_owned(), Some("70000".to_owned()))];
    for before in [&plain, &old, &new] {
        let (at, id) = (before.key.clone(), version_of(&before.attributes));
        let refused = AttributeChange { if_match: Some(ETag::new("another").unwrap()), set: set.clone() };
        let refused = versions.hollow_version(&at, &id, &refused, &Guard::none()).await;
        assert_eq!(kind(refused), ErrorKind::PreconditionFailed);
        let change = AttributeChange { if_match: Some(before.etag.clone()), set: set.clone() };
        assert_eq!(kind(versions.hollow_version(&at, &id, &change, &Guard::new(|_| false)).await), ErrorKind::Guarded);
        assert_eq!(read(versions, at.as_str(), &id).await.len(), 70_000);
        let modified = before.modified;
        let guard = Guard::new(move |info| info.modified == modified && info.size == 70_000);
        // Twice: one that is hollow already can be changed the same way.
        let hollow = versions.hollow_version(&at, &id, &change, &guard).await.expect("hollow");
        versions.hollow_version(&at, &id, &change, &Guard::none()).await.expect("hollow again");
        let found = versions.head_version(&at, Some(&id), &ReadOptions::default()).await.expect("there");
        for info in [hollow, found] {
            assert_eq!((info.size, crate::known_size(&info)), (0, 70_000));
            assert_eq!((&info.etag, info.modified, version_of(&info.attributes)), (&before.etag, before.modified, id));
            assert_eq!((info.attributes.get("a"), info.attributes.get("b")), (None, Some("2")));
        }
        let object = versions.get_version(&at, &id, &ReadOptions::default()).await.expect("open");
        assert_eq!(bytes_of(object).await.len(), 0);
    }
    let listed: Vec<_> = walk(versions, "", 10).await;
    assert_eq!(listed.len(), 3);
    assert_eq!(subject.head("d/k").await.etag, new.etag, "the newest is still the current one");
    remove(versions, "d/k", &version_of(&new.attributes)).await;
    assert_eq!(subject.head("d/k").await.etag, old.etag, "and the next takes its place");
    let marker = mark(versions, "d/k", Versioning::Enabled).await;
    let change = AttributeChange { if_match: None, set: Vec::new() };
    for (at, id) in [("d/k", marker), ("nothing", VersionId::Null)] {
        assert_eq!(kind(versions.hollow_version(&key(at), &id, &change, &Guard::none()).await), ErrorKind::NotFound);
    }
}

/// Attributes belong to a version and stay with it.
pub async fn attributes_of_versions(subject: &Subject) {
    let Some(versions) = facet(subject).filter(|_| subject.features().attributes) else { return };
    let old = put(subject.provider(), "k", &content(1, 10), Versioning::Enabled).await;
    let change = |value: &str| AttributeChange { if_match: None, set: vec![("a".into(), Some(value.into()))] };
    versions.change_version(&key("k"), Some(&old), &change("old"), &Guard::none()).await.expect("a change of the current one");
    let new = put(subject.provider(), "k", &content(2, 10), Versioning::Enabled).await;
    let attribute = async |id: &VersionId| {
        let info = versions.head_version(&key("k"), Some(id), &ReadOptions::default()).await.expect("head");
        info.attributes.get("a").map(str::to_owned)
    };
    assert_eq!((attribute(&old).await.as_deref(), attribute(&new).await), (Some("old"), None));
    let long = "v".repeat(10_000);
    versions.change_version(&key("k"), Some(&old), &change(&long), &Guard::none()).await.expect("a change of an older one");
    versions.change_version(&key("k"), None, &change("new"), &Guard::none()).await.expect("a change of the current one");
    assert_eq!((attribute(&old).await, attribute(&new).await.as_deref()), (Some(long), Some("new")));
    let listed = versions.list_versions(&ListQuery { limit: 10, ..ListQuery::default() }).await.expect("list");
    let length = |entry: &ListEntry| match entry {
        ListEntry::Object(info) => info.attributes.get("a").map(str::len),
        ListEntry::Prefix(_) => None,
    };
    let listed: Vec<_> = listed.entries.iter().map(length).collect();
    assert_eq!(listed, [Some(3), Some(10_000)], "listed versions carry their attributes");
    let marker = mark(versions, "k", Versioning::Enabled).await;
    for id in [Some(&marker), None] {
        assert_eq!(kind(versions.change_version(&key("k"), id, &change("x"), &Guard::none()).await), ErrorKind::NotFound);
    }
    remove(versions, "k", &marker).await;
    remove(versions, "k", &new).await;
    assert_eq!(subject.head("k").await.attributes.get("a").map(str::len), Some(10_000));
}

/// A version is copied as it is, and what a copy replaces is kept.
pub async fn copies_of_versions(subject: &Subject) {
    let Some(versions) = facet(subject) else { return };
    let (one, two) = (content(1, 100), content(2, 200));
    let first = put(subject.provider(), "k", &one, Versioning::Enabled).await;
    let second = put(subject.provider(), "k", &two, Versioning::Enabled).await;
    let copy = CopyOptions::default();
    let restored = versions
        .copy_version((&key("k"), Some(&first)), &key("k"), &copy, Versioning::Enabled)
        .await
        .expect("a copy onto the key");
    let third = version_of(&restored.attributes);
    assert!(third != first && third != second);
    assert_eq!(subject.read("k").await, one);
    assert_eq!(ids(versions, "k").await, [third, second, first]);
    versions.copy_version((&key("k"), None), &key("other"), &copy, Versioning::Off).await.expect("a copy into a plain key");
    assert_eq!(ids(versions, "other").await, [VersionId::Null]);
    let marker = mark(versions, "k", Versioning::Enabled).await;
    for id in [Some(&marker), None] {
        let refused = versions.copy_version((&key("k"), id), &key("other"), &copy, Versioning::Enabled).await;
        assert_eq!(kind(refused), ErrorKind::NotFound);
    }
    let plain = subject.provider().copy(&key("other"), &key("plain"), &copy).await.expect("a plain copy");
    assert_eq!(version_of(&plain.attributes), VersionId::Null);
}

/// An upload becomes a version.
pub async fn uploads_become_versions(subject: &Subject) {
    let (Some(versions), Some(multipart)) = (facet(subject), subject.multipart()) else { return };
    let old = put(subject.provider(), "k", &content(1, 100), Versioning::Enabled).await;
    let (upload, bytes, etag) = (upload_id("u"), content(2, 300), etag_of(b"parts"));
    multipart.create(&key("k"), &upload).await.expect("create");
    let part = PartNumber::new(1).expect("a number");
    let token = multipart.put_part(&key("k"), &upload, part, body(&bytes)).await.expect("a part");
    let put = PutOptions::default();
    let parts = [(token, 300)];
    let info = versions.complete_version(&key("k"), &upload, &parts, &etag, &put, Versioning::Enabled).await.expect("complete");
    let new = version_of(&info.attributes);
    assert_eq!(ids(versions, "k").await, [new, old]);
    assert_eq!(bytes_of(versions.get_version(&key("k"), &new, &ReadOptions::default()).await.expect("get")).await, bytes);
    assert_eq!(read(versions, "k", &old).await.len(), 100);
}
