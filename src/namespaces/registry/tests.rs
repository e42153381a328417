#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use sluice_provider::{ETag, ListQuery, Provider, PutBody, PutOptions, ReadOptions, Seal};

use super::super::watch;
use super::*;
use crate::meta::SqliteStore;
use crate::mounts::probe::Probe;

/// An opener that counts, and fails or hangs when told to.
#[derive(Default)]
struct Desk {
    opened: AtomicUsize,
    fails: AtomicBool,
    hangs: AtomicBool,
    last: parking_lot::Mutex<Option<MountRecord>>,
}

impl Desk {
    fn opener(self: &Arc<Self>) -> Opener {
        let desk = Arc::clone(self);
        Arc::new(move |record: MountRecord| {
            let desk = Arc::clone(&desk);
            Box::pin(async move {
                desk.opened.fetch_add(1, Ordering::SeqCst);
                *desk.last.lock() = Some(record.clone());
                tokio::task::yield_now().await;
                let bad = record.settings.contains_key("bad");
                if bad && desk.hangs.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                if bad && desk.fails.load(Ordering::SeqCst) {
                    return Err(Error::new(ErrorKind::Internal, "the disk is on fire"));
                }
                Ok(Probe::new() as Arc<dyn Provider>)
            })
        })
    }
}

fn default_mount() -> DefaultMount {
    let settings = BTreeMap::from([("root".to_owned(), "/data/{bucket}/{bucket}".to_owned())]);
    DefaultMount { provider: "memory".to_owned(), settings }
}

async fn store() -> Arc<dyn MetaStore> {
    Arc::new(SqliteStore::open_in_memory().await.unwrap())
}

async fn namespaces() -> (Arc<Namespaces>, Arc<Desk>, Arc<dyn MetaStore>) {
    let (desk, store) = (Arc::new(Desk::default()), store().await);
    (again(&store, &desk), desk, store)
}

/// As after a restart.
fn again(store: &Arc<dyn MetaStore>, desk: &Arc<Desk>) -> Arc<Namespaces> {
    Arc::new(Namespaces::with_opener(Arc::clone(store), default_mount(), desk.opener()))
}

fn mount(bucket: &str, prefix: &str, settings: &[(&str, &str)]) -> MountRecord {
    let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    MountRecord { bucket: bucket.into(), prefix: prefix.into(), provider: "memory".into(), settings }
}

fn body() -> PutBody {
    let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Default::default() };
    PutBody::from_bytes("x".into(), seal)
}

async fn put(ns: &Namespace, key: &str) -> provider::Result<()> {
    let (provider, inner, _) = ns.resolve(key).unwrap();
    let (body, passage) = watch(body(), None, Some(ns.gate().clone()));
    let stored = provider.put(&inner, body, &PutOptions::default()).await;
    drop(passage);
    stored.map(drop)
}

fn kind<T: fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("an error").kind().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_first_requests_load_once() {
    let (first, desk, store) = namespaces().await;
    first.create("bucket", "me", "").await.unwrap();
    let namespaces = again(&store, &desk);
    desk.opened.store(0, Ordering::SeqCst);
    let asked = (0..100).map(|_| {
        let namespaces = Arc::clone(&namespaces);
        tokio::spawn(async move { namespaces.get("bucket").await.unwrap() })
    });
    let all: Vec<_> = join_all(asked).await.into_iter().map(|n| n.unwrap()).collect();
    assert_eq!(desk.opened.load(Ordering::SeqCst), 1);
    assert!(all.iter().all(|n| Arc::ptr_eq(n, &all[0])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_creators_one_creates() {
    let (namespaces, desk, _) = namespaces().await;
    let asked = (0..100).map(|n| {
        let namespaces = Arc::clone(&namespaces);
        tokio::spawn(async move { namespaces.create("bucket", if n % 2 == 0 { "me" } else { "you" }, "eu").await })
    });
    let all: Vec<_> = join_all(asked).await.into_iter().map(|n| n.unwrap()).collect();
    let winner = all.iter().find_map(|n| n.as_ref().ok()).unwrap().bucket.owner.clone();
    assert_eq!(all.iter().filter(|n| n.is_ok()).count(), 1);
    assert_eq!(desk.opened.load(Ordering::SeqCst), 1);
    for (n, outcome) in all.into_iter().enumerate() {
        let owner = if n % 2 == 0 { "me" } else { "you" };
        match outcome.map_err(|e| e.kind().clone()) {
            Ok(_) => {}
            Err(ErrorKind::BucketAlreadyOwnedByYou) => assert_eq!(owner, winner),
            Err(ErrorKind::BucketAlreadyExists) => assert_ne!(owner, winner),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn unknown_names_leave_nothing_behind() {
    let (namespaces, desk, _) = namespaces().await;
    for n in 0..200 {
        assert!(matches!(kind(namespaces.get(&format!("bucket-{n}")).await), ErrorKind::NoSuchBucket));
    }
    assert!(matches!(kind(namespaces.get("../../etc").await), ErrorKind::NoSuchBucket));
    // Given up half way too.
    for _ in 0..10 {
        let mut asking = Box::pin(namespaces.get("bucket"));
        assert!(futures::poll!(&mut asking).is_pending());
        assert_eq!(namespaces.cells.len(), 1);
        drop(asking);
    }
    assert_eq!(namespaces.cells.len(), 0);
    assert_eq!(desk.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_bucket_name_becomes_part_of_the_default_mount_and_cannot_leave_it() {
    let (namespaces, desk, store) = namespaces().await;
    namespaces.create("my.bucket", "me", "").await.unwrap();
    assert_eq!(desk.last.lock().as_ref().unwrap().settings["root"], "/data/my.bucket/my.bucket");
    assert_eq!(store.mounts("my.bucket").await.unwrap()[0].settings["root"], "/data/my.bucket/my.bucket");
    for bad in ["..", "a/b", "../x", "A", ".hidden", "a..b"] {
        assert!(matches!(kind(namespaces.create(bad, "me", "").await), ErrorKind::InvalidBucketName), "{bad}");
    }
    assert_eq!(desk.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_bucket_whose_mount_does_not_open_is_not_created() {
    let desk = Arc::new(Desk::default());
    desk.fails.store(true, Ordering::SeqCst);
    let settings = BTreeMap::from([("bad".to_owned(), String::new())]);
    let store = store().await;
    let default_mount = DefaultMount { provider: "memory".to_owned(), settings };
    let namespaces = Namespaces::with_opener(Arc::clone(&store), default_mount, desk.opener());
    assert!(matches!(kind(namespaces.create("bucket", "me", "").await), ErrorKind::Internal));
    assert_eq!(store.bucket("bucket").await.unwrap(), None);
    desk.fails.store(false, Ordering::SeqCst);
    namespaces.create("bucket", "me", "").await.unwrap();
}

#[tokio::test]
async fn one_bad_mount_leaves_the_others_alone() {
    let (first, desk, store) = namespaces().await;
    first.create("bucket", "me", "").await.unwrap();
    first.mount(mount("bucket", "bad/", &[("bad", "")])).await.unwrap();
    desk.fails.store(true, Ordering::SeqCst);
    let ns = again(&store, &desk).get("bucket").await.unwrap();
    put(&ns, "good").await.unwrap();
    let error = put(&ns, "bad/x").await.unwrap_err();
    assert_eq!(error.kind(), &provider::ErrorKind::Unavailable);
    assert!(error.to_string().contains("on fire"), "{error}");
}

/// E16: a mount that hangs while it opens affects only itself, and is tried again.
#[tokio::test(start_paused = true)]
async fn a_hanging_mount_is_tried_again() {
    let desk = Arc::new(Desk::default());
    desk.hangs.store(true, Ordering::SeqCst);
    let opening = Opening::new(desk.opener());
    let mounts = opening.open_all(vec![mount("bucket", "", &[]), mount("bucket", "bad/", &[("bad", "")])]).await;
    let bucket = BucketRecord { name: "bucket".into(), owner: "me".into(), created: 0, location: String::new() };
    let ns = Namespace::new(bucket, MountTable::new(mounts), BTreeMap::new());
    put(&ns, "good").await.unwrap();
    let error = put(&ns, "bad/x").await.unwrap_err();
    assert_eq!(error.kind(), &provider::ErrorKind::Unavailable);
    assert!(error.to_string().contains("TimedOut"), "{error}");
    desk.hangs.store(false, Ordering::SeqCst);
    let opened = desk.opened.load(Ordering::SeqCst);
    assert!(put(&ns, "bad/x").await.is_err(), "not before the pause is over");
    assert_eq!(desk.opened.load(Ordering::SeqCst), opened);
    tokio::time::advance(Duration::from_secs(6)).await;
    put(&ns, "bad/x").await.unwrap();
    put(&ns, "bad/y").await.unwrap();
    assert_eq!(desk.opened.load(Ordering::SeqCst), opened + 1);
}

#[tokio::test]
async fn mounts_come_and_go_while_it_runs() {
    let (namespaces, _, store) = namespaces().await;
    let ns = namespaces.create("bucket", "me", "").await.unwrap();
    put(&ns, "logs/hidden").await.unwrap();
    namespaces.mount(mount("bucket", "logs/", &[])).await.unwrap();
    let prefix = |ns: &Namespace| ns.resolve("logs/x").unwrap().2.to_string();
    assert_eq!(prefix(&ns), "logs/", "seen by who holds the namespace already");
    assert!(matches!(kind(namespaces.mount(mount("bucket", "logs/", &[])).await), ErrorKind::EntityExists));
    assert!(matches!(kind(namespaces.mount(mount("no-bucket", "", &[])).await), ErrorKind::NoSuchBucket));
    assert!(matches!(kind(namespaces.mount(mount("bucket", &"x".repeat(1024), &[])).await), ErrorKind::InvalidArgument(_)));
    assert_eq!(namespaces.mounts("bucket").await.unwrap().iter().map(|m| m.prefix.as_str()).collect::<Vec<_>>(), ["", "logs/"]);
    assert_eq!(store.mounts("bucket").await.unwrap().len(), 2);
    let (old, inner, _) = ns.resolve("logs/x").unwrap();
    namespaces.unmount("bucket", "logs/").await.unwrap();
    assert_eq!(prefix(&ns), "");
    assert!(old.put(&inner, body(), &PutOptions::default()).await.is_ok(), "who was under way keeps the provider");
    assert!(matches!(kind(namespaces.unmount("bucket", "logs/").await), ErrorKind::NoSuchEntity));
}

#[tokio::test]
async fn the_same_storage_is_opened_once_and_memory_each_time() {
    let (namespaces, desk, _) = namespaces().await;
    for name in ["bucket-a", "bucket-b"] {
        namespaces.create(name, "me", "").await.unwrap();
        namespaces.mount(MountRecord { provider: "local".into(), ..mount(name, "shared/", &[("root", "/srv")]) }).await.unwrap();
    }
    assert_eq!(desk.opened.load(Ordering::SeqCst), 2 + 1);
    let provider = |ns: &Namespace, key: &str| ns.resolve(key).unwrap().0;
    let (a, b) = (namespaces.get("bucket-a").await.unwrap(), namespaces.get("bucket-b").await.unwrap());
    assert!(Arc::ptr_eq(&provider(&a, "shared/x"), &provider(&b, "shared/x")));
    assert!(!Arc::ptr_eq(&provider(&a, "x"), &provider(&b, "x")));
}

#[tokio::test]
async fn settings_are_kept_and_cached() {
    let (namespaces, desk, store) = namespaces().await;
    namespaces.create("bucket", "me", "").await.unwrap();
    namespaces.set_setting("bucket", "cors", Some("<x/>")).await.unwrap();
    assert_eq!(namespaces.setting("bucket", "cors").await.unwrap().as_deref(), Some("<x/>"));
    assert_eq!(again(&store, &desk).setting("bucket", "cors").await.unwrap().as_deref(), Some("<x/>"));
    namespaces.set_setting("bucket", "cors", None).await.unwrap();
    assert_eq!(namespaces.setting("bucket", "cors").await.unwrap(), None);
    assert!(matches!(kind(namespaces.set_setting("no-bucket", "cors", None).await), ErrorKind::NoSuchBucket));
}

#[tokio::test]
async fn a_bucket_goes_when_it_is_empty_on_all_mounts() {
    let (namespaces, _, store) = namespaces().await;
    let ns = namespaces.create("bucket", "me", "").await.unwrap();
    namespaces.mount(mount("bucket", "a/", &[])).await.unwrap();
    put(&ns, "a/x").await.unwrap();
    assert!(matches!(kind(namespaces.delete("bucket").await), ErrorKind::BucketNotEmpty));
    put(&ns, "y").await.unwrap();
    let (provider, inner, _) = ns.resolve("a/x").unwrap();
    provider.delete(&[inner.into()]).await;
    assert!(matches!(kind(namespaces.delete("bucket").await), ErrorKind::BucketNotEmpty));
    let (provider, inner, _) = ns.resolve("y").unwrap();
    provider.delete(&[inner.into()]).await;
    namespaces.delete("bucket").await.unwrap();
    assert!(matches!(kind(namespaces.delete("bucket").await), ErrorKind::NoSuchBucket));
    assert_eq!(store.mounts("bucket").await.unwrap().len(), 0);
    assert!(put(&ns, "late").await.is_err(), "who still holds the namespace cannot write into it");
    let new = namespaces.create("bucket", "you", "").await.unwrap();
    put(&new, "x").await.unwrap();
}

/// Of a PUT and a DeleteBucket at the same time either the object is in a bucket that exists, or the PUT failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_object_is_left_in_a_deleted_bucket() {
    let (namespaces, _, _) = namespaces().await;
    for round in 0..200 {
        let name = format!("bucket-{round}");
        let ns = namespaces.create(&name, "me", "").await.unwrap();
        let writing = tokio::spawn({
            let ns = Arc::clone(&ns);
            async move { put(&ns, "k").await.is_ok() }
        });
        let deleting = tokio::spawn({
            let namespaces = Arc::clone(&namespaces);
            async move { namespaces.delete(&name).await.is_ok() }
        });
        let (written, deleted) = (writing.await.unwrap(), deleting.await.unwrap());
        assert!(written != deleted, "round {round}: written {written}, deleted {deleted}");
        let (provider, inner, _) = ns.resolve("k").unwrap();
        assert_eq!(provider.head(&inner, &ReadOptions::default()).await.is_ok(), written);
    }
}

#[tokio::test]
async fn a_slow_upload_does_not_hold_up_the_deletion() {
    let (namespaces, _, _) = namespaces().await;
    let ns = namespaces.create("bucket", "me", "").await.unwrap();
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let stream = futures::StreamExt::boxed(receiver);
    let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Default::default() };
    let slow = PutBody::new(stream, None, Arc::new(std::sync::OnceLock::from(seal)));
    let (slow, passage) = watch(slow, None, Some(ns.gate().clone()));
    let (provider, inner, _) = ns.resolve("k").unwrap();
    let options = PutOptions::default();
    let mut writing = Box::pin(provider.put(&inner, slow, &options));
    sender.unbounded_send(Ok("x".into())).unwrap();
    assert!(futures::poll!(&mut writing).is_pending());
    namespaces.delete("bucket").await.unwrap();
    drop(sender);
    assert!(writing.await.is_err());
    drop(passage);
    assert!(provider.list(&ListQuery { limit: 1, ..Default::default() }).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_thousand_buckets_are_listed() {
    let (namespaces, _, store) = namespaces().await;
    for n in 0..1000 {
        let bucket = BucketRecord { name: format!("b{n:04}"), owner: "me".into(), created: 0, location: String::new() };
        store.create_bucket(&bucket, &[]).await.unwrap();
    }
    let began = std::time::Instant::now();
    let all = namespaces.list(Some("me"), "", "", 1000).await.unwrap();
    assert!(all.len() == 1000 && began.elapsed() < Duration::from_millis(100), "{} in {:?}", all.len(), began.elapsed());
    assert_eq!(namespaces.list(None, "b09", "b0990", 5).await.unwrap()[0].name, "b0991");
}
