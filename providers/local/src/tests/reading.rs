//! The ways of a read.

use super::*;
use sluice_provider::RangeSpec;

#[tokio::test]
async fn what_memory_holds_is_read_without_a_hop() {
    let mount = mount();
    mount.put("a/f", "hello").await;
    mount.put("a/large", &"x".repeat(100_000)).await;
    // Warms the names; the content is warm from writing.
    for name in ["a/f", "a/large"] {
        mount.local.get(&key(name), &ReadOptions::default()).await.unwrap();
    }
    if mount.local.0.tree.open_cached(mount.local.0.root(), b"a/f", rustix::fs::OFlags::RDONLY).is_err() {
        eprintln!("SKIPPED: what_memory_holds_is_read_without_a_hop needs openat2 with RESOLVE_CACHED");
        return;
    }
    mount.local.0.reads.close();
    assert_eq!(mount.get("a/f").await.unwrap(), "hello");
    assert_eq!(mount.local.head(&key("a/f"), &ReadOptions::default()).await.unwrap().size, 5);
    let object = mount.local.get(&key("a/large"), &ReadOptions::default()).await.unwrap();
    assert!(matches!(object.body, Body::File { range, .. } if range == (0..100_000)));
    let read = ReadOptions { range: Some(RangeSpec::Last(3)), ..ReadOptions::default() };
    let object = mount.local.get(&key("a/large"), &read).await.unwrap();
    assert!(matches!(object.body, Body::Bytes(bytes) if bytes == "xxx"));
}

#[tokio::test]
async fn a_file_that_is_being_read_outlives_its_object() {
    use std::os::unix::fs::FileExt;
    let mount = mount();
    let old = "o".repeat(100_000);
    mount.put("f", &old).await;
    let object = mount.local.get(&key("f"), &ReadOptions::default()).await.unwrap();
    mount.put("f", &"n".repeat(100_000)).await;
    mount.delete("f").await.unwrap();
    let Body::File { file, range } = object.body else { panic!("a large object is an open file") };
    let mut content = vec![0; 100_000];
    file.read_exact_at(&mut content, range.start).unwrap();
    assert!(content == old.as_bytes());
}

/// What is remembered of an object is forgotten with any change of it, also one by another process.
#[tokio::test]
async fn what_is_remembered_is_never_stale() {
    // What listings remember of whole directories has tests of its own.
    let mount = mount_with(|settings| settings.snapshots = crate::Snapshots::Times);
    let other = Local::open(settings(&mount.root())).unwrap();
    mount.put_with("d/f", "hello", &[("content-type", "text/a")]).await;
    // Until the change time is settled, nothing is remembered.
    let remembers = |mount: &Mount| {
        let stat = rustix::fs::stat(mount.path("d/f")).unwrap();
        crate::known::cache().get(&crate::known::Version::of(&stat)).is_some()
    };
    let listed = async || {
        let page = mount.local.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
        let [ListEntry::Object(info)] = &page.entries[..] else { panic!("{page:?}") };
        info.clone()
    };
    for round in 0..3 {
        std::thread::sleep(Duration::from_millis(30));
        assert!(!remembers(&mount));
        if round % 2 == 0 {
            mount.attributes("d/f").await
        } else {
            listed().await.attributes
        };
        assert!(remembers(&mount));
        let known = listed().await;
        assert_eq!(known.attributes.get("content-type"), Some(["text/a", "text/b", "text/c"][round]));
        assert_eq!((known.size, known.etag.as_str()), (5, md5(b"hello").as_str()));
        let next = ["text/b", "text/c", "text/d"][round];
        let change = sluice_provider::AttributeChange { if_match: None, set: vec![("content-type".into(), Some(next.into()))] };
        other.set_attributes(&key("d/f"), &change).await.unwrap();
        assert_eq!(listed().await.attributes.get("content-type"), Some(next));
        assert_eq!(mount.attributes("d/f").await.get("content-type"), Some(next));
    }
    std::thread::sleep(Duration::from_millis(30));
    listed().await;
    // In place, of the same size, its modification time put back: only the change time tells.
    let path = mount.path("d/f");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "HELLO").unwrap();
    set_modified(&path, modified);
    assert!(!remembers(&mount));
    other.put(&key("d/f"), body(b"another"), &PutOptions::default()).await.unwrap();
    assert_eq!((listed().await.size, listed().await.etag.as_str().to_owned()), (7, md5(b"another")));
}

/// What listings keep themselves is not kept a second time, where a walk over all objects would drive out those that are read.
#[tokio::test]
async fn a_listing_keeps_what_it_sees_once() {
    for (snapshots, twice) in [(crate::Snapshots::Auto, false), (crate::Snapshots::Times, true), (crate::Snapshots::Off, true)] {
        let mount = mount_with(|settings| settings.snapshots = snapshots);
        mount.put("once", "hello").await;
        mount.put("twice", "hello").await;
        std::fs::hard_link(mount.path("twice"), mount.path("thrice")).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let page = mount.local.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
        assert_eq!(page.entries.len(), 3);
        let remembers = |name: &str| {
            let stat = rustix::fs::stat(mount.path(name)).unwrap();
            crate::known::cache().get(&crate::known::Version::of(&stat)).is_some()
        };
        assert_eq!(remembers("once"), twice, "{snapshots:?}");
        assert!(remembers("twice"), "a listing is not told of changes through another name");
        // A reader keeps it.
        mount.attributes("once").await;
        assert!(remembers("once"));
    }
}
