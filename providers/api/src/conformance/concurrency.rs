//! Readers beside writers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Subject;
use super::bodies::{body, bytes_of, chunked, content, etag_of, try_bytes_of};
use super::subject::key;
use crate::{Body, CopyOptions, ErrorKind, Object, PutOptions, RangeSpec, ReadOptions};

/// While one writer replaces an object again and again, readers see one whole version each time, with its own ETag and size.
pub async fn readers_never_see_a_mix(subject: &Subject) {
    const READERS: usize = 4;
    let sizes = [10, 5_000, 70_000, 300_000, 70_000, 1_100_000].into_iter().filter(|size| subject.takes(*size as u64));
    let versions: Vec<Bytes> = sizes.enumerate().map(|(n, size)| content(n as u64, size)).collect();
    let by_etag: Arc<HashMap<_, _>> = Arc::new(versions.iter().map(|v| (etag_of(v), v.clone())).collect());
    subject.put("k", versions[0].clone()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let (provider, by_etag, stop) = (subject.instance(n), by_etag.clone(), stop.clone());
        readers.spawn(async move {
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) || reads == 0 {
                let range = [None, Some(RangeSpec::Last(7)), Some(RangeSpec::Between(3, 8)), Some(RangeSpec::From(1))][reads % 4];
                let object = provider.get(&key("k"), &ReadOptions { range, if_match: None }).await.expect("get");
                let version = by_etag.get(&object.info.etag).expect("an ETag that was written");
                assert_eq!(object.info.size, version.len() as u64, "the size of another version");
                let range = object.range.start as usize..object.range.end as usize;
                if let Some(bytes) = whole_or_broken(object).await {
                    assert!(bytes == version.slice(range), "bytes of another version than the ETag's");
                }
                reads += 1;
                tokio::task::yield_now().await;
            }
        });
    }
    for round in 0..60 {
        let version = &versions[round % versions.len()];
        let body = chunked(version, &[65_536, 1000], round % 2 == 0);
        subject.instance(round).put(&key("k"), body, &PutOptions::default()).await.expect("put");
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    readers.join_all().await;
}

/// Writers of one key without a condition: all succeed, and what stays is one of them, whole.
pub async fn the_last_writer_stays_whole(subject: &Subject) {
    for round in 0..5_u64 {
        let mut writers = JoinSet::new();
        for n in 0..8_u64 {
            let provider = subject.instance(n as usize);
            writers.spawn(async move {
                let bytes = content(round * 100 + n, 10_000 + n as usize);
                let put = PutOptions::default();
                loop {
                    match provider.put(&key("dir/k"), body(&bytes), &put).await {
                        Ok(info) => return (info.etag, info.size),
                        Err(e) => assert_eq!(*e.kind(), ErrorKind::Conflict, "{e}"),
                    }
                }
            });
        }
        let written = writers.join_all().await;
        let head = subject.head("dir/k").await;
        assert!(written.contains(&(head.etag, head.size)), "what stayed was never written");
        subject.read("dir/k").await;
        assert_eq!(subject.keys().await, ["dir/k"]);
    }
}

/// Puts and deletes of neighbours in one place (`a`, `a/`, `a/b`, ...) never get in each other's way.
pub async fn neighbours_come_and_go(subject: &Subject) {
    let names = ["d/a", "d/a/", "d/a/b", "d/a/b/c", "d/x/y/z", "d/x/y/w"];
    let mut workers = JoinSet::new();
    for (n, name) in names.into_iter().enumerate() {
        let provider = subject.instance(n);
        workers.spawn(async move {
            for _ in 0..40 {
                let bytes = Bytes::from(name);
                provider
                    .put(&key(name), body(&bytes), &PutOptions::default())
                    .await
                    .unwrap_or_else(|e| panic!("put {name}: {e}"));
                let object = provider.get(&key(name), &ReadOptions::default()).await;
                let object = object.unwrap_or_else(|e| panic!("get {name}: {e}"));
                assert_eq!(bytes_of(object).await, bytes);
                let outcome = provider.delete(&[key(name).into()]).await.pop().expect("one outcome");
                outcome.unwrap_or_else(|e| panic!("delete {name}: {e}"));
            }
        });
    }
    workers.join_all().await;
    assert!(subject.list("", Some("/")).await.is_empty(), "prefixes of keys that are gone");
}

/// What was opened is read to its end as it was, though it is replaced or deleted meanwhile.
pub async fn an_open_object_stays_as_it_was(subject: &Subject) {
    let old = content(1, 700_000);
    for range in [None, Some(RangeSpec::Between(1000, 600_000))] {
        let expected = range.map_or(old.clone(), |_| old.slice(1000..=600_000));
        for change in ["replace", "delete", "copy over", "delete and put"] {
            subject.put("k", old.clone()).await;
            subject.put("other", content(2, 650_000)).await;
            let open = subject.provider().get(&key("k"), &ReadOptions { range, if_match: None }).await.expect("get");
            assert_eq!(open.info.etag, etag_of(&old));
            if change.starts_with("delete") {
                subject.delete("k").await;
            }
            match change {
                "replace" | "delete and put" => drop(subject.put("k", content(3, 800_000)).await),
                "copy over" => {
                    let copied = subject.instance(1).copy(&key("other"), &key("k"), &CopyOptions::default()).await;
                    copied.expect("copy");
                }
                _ => {}
            }
            if let Some(bytes) = whole_or_broken(open).await {
                assert!(bytes == expected, "an open object changed by {change}");
            }
        }
    }
}

/// What one instance was told is done, another one sees at once.
pub async fn peers_see_each_other(subject: &Subject) {
    let (here, there) = (subject.instance(0), subject.instance(1));
    let read = ReadOptions::default();
    for round in 0..10_u64 {
        let bytes = content(round, 500 + round as usize);
        here.put(&key("dir/k"), body(&bytes), &PutOptions::default()).await.expect("put");
        let object = there.get(&key("dir/k"), &read).await.expect("get of what a peer put");
        assert_eq!((&object.info.etag, object.info.size), (&etag_of(&bytes), bytes.len() as u64));
        assert_eq!(bytes_of(object).await, bytes);
        if subject.features().attributes {
            let set = vec![("round".into(), Some(round.to_string()))];
            there.set_attributes(&key("dir/k"), &crate::AttributeChange { if_match: None, set }).await.expect("set_attributes");
            let seen = here.head(&key("dir/k"), &read).await.expect("head").attributes;
            assert_eq!(seen.get("round"), Some(round.to_string().as_str()));
        }
        if round % 3 == 2 {
            there.delete(&[key("dir/k").into()]).await.pop().expect("one outcome").expect("delete");
            let gone = here.head(&key("dir/k"), &read).await.map_err(|e| *e.kind());
            assert_eq!(gone.map(|info| info.etag), Err(ErrorKind::NotFound));
        }
    }
}

/// The bytes of a read. A stream from elsewhere may break when its object goes away, but must then say so.
async fn whole_or_broken(object: Object) -> Option<Bytes> {
    let may_break = matches!(object.body, Body::Socket(_) | Body::Stream(_));
    match try_bytes_of(object).await {
        Ok(bytes) => Some(bytes),
        Err(e) => {
            assert!(may_break, "{e}");
            None
        }
    }
}
