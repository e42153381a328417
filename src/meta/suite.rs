//! What every metadata store must do. A backend runs it by naming how to make an empty one, with
//! whatever must live as long as it: `meta_suite!(async { (store, directory) })`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// One test per promise, over a fresh store each.
macro_rules! meta_suite {
    ($open:expr $(, $attribute:meta)?) => {
        $crate::meta::suite::meta_suite!($open $(, $attribute)? => buckets, bucket_pages, bucket_prefixes_are_bytes, one_of_many_creates_a_bucket,
            deleting_a_bucket_takes_everything_along, settings, mounts, mounts_of_a_new_bucket, uploads,
            upload_pages, upload_ranges_match_a_model, old_uploads, parts,
            every_replaced_part_is_answered_once, a_part_of_no_upload_is_refused, parts_race_the_end,
            one_of_many_ends_an_upload, completed, values, one_value_wins, overlay, one_swap_wins, closed);
    };
    ($open:expr $(, $attribute:meta)? => $($test:ident),+ $(,)?) => {
        $crate::meta::suite::tests_of!([$crate::meta::suite] $open, [$(#[$attribute])?] => $($test),+);
        mod identities {
            use super::*;
            $crate::meta::identities::suite::identity_suite!($open $(, $attribute)?);
        }
    };
}
pub(crate) use meta_suite;

/// One test for each function of a module.
macro_rules! tests_of {
    (one [$($module:tt)+] $open:expr, [$($attribute:tt)*], $test:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($attribute)*
        async fn $test() {
            let (store, _kept) = $open.await;
            $($module)+::$test(std::sync::Arc::new(store)).await;
        }
    };
    ($module:tt $open:expr, $attributes:tt => $($test:ident),+ $(,)?) => {
        $( $crate::meta::suite::tests_of!(one $module $open, $attributes, $test); )+
    };
}
pub(crate) use tests_of;

type Store = Arc<dyn MetaStore>;

pub(crate) fn bucket(name: &str, owner: &str) -> BucketRecord {
    BucketRecord { name: name.into(), owner: owner.into(), created: 1_700_000_000_123, location: "eu-central-1".into() }
}

pub(crate) fn mount(bucket: &str, prefix: &str) -> MountRecord {
    MountRecord {
        bucket: bucket.into(),
        prefix: prefix.into(),
        provider: "memory".into(),
        settings: map(&[("quota", "1 %_\"'\\ü")]),
    }
}

pub(crate) fn upload(bucket: &str, key: &str, upload_id: &str) -> UploadRecord {
    UploadRecord {
        upload_id: upload_id.into(),
        bucket: bucket.into(),
        key: key.into(),
        mount_prefix: "m/".into(),
        initiator: "me".into(),
        created: 1000,
        attributes: map(&[("content-type", "text/plain"), ("x-amz-meta-ü", "\u{1F600}\n")]),
        checksum_algorithm: "CRC64NVME".into(),
        checksum_type: "FULL_OBJECT".into(),
    }
}

pub(crate) fn part(number: u16, token: &str) -> PartRecord {
    PartRecord {
        number,
        token: token.into(),
        size: 5 * 1024 * 1024 * 1024,
        etag: format!("etag of {token}"),
        checksums: map(&[("crc32", "AAAAAA==")]),
        modified: 7,
    }
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The kind of the error, as text: kinds cannot be compared.
pub(crate) fn kind<T: fmt::Debug>(outcome: Result<T>) -> String {
    format!("{:?}", outcome.expect_err("an error").kind())
}

async fn names(store: &Store, owner: Option<&str>, prefix: &str, after: &str, limit: usize) -> Vec<String> {
    store.buckets(owner, prefix, after, limit).await.unwrap().into_iter().map(|bucket| bucket.name).collect()
}

async fn ids(store: &Store, prefix: &str, key: &str, upload_id: &str, limit: usize) -> Vec<(String, String)> {
    let after = UploadCursor { key: key.into(), upload_id: upload_id.into() };
    let page = store.uploads("b", prefix, &after, limit).await.unwrap();
    page.into_iter().map(|upload| (upload.key, upload.upload_id)).collect()
}

fn pair(key: &str, id: &str) -> (String, String) {
    (key.to_owned(), id.to_owned())
}

// === buckets ===

pub(crate) async fn buckets(store: Store) {
    assert_eq!(store.bucket("b").await.unwrap(), None);
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    assert_eq!(store.bucket("b").await.unwrap(), Some(bucket("b", "me")));
    assert_eq!(kind(store.create_bucket(&bucket("b", "me"), &[]).await), "BucketAlreadyOwnedByYou");
    assert_eq!(kind(store.create_bucket(&bucket("b", "you"), &[]).await), "BucketAlreadyExists");
    assert_eq!(store.bucket("b").await.unwrap(), Some(bucket("b", "me")), "a refused creation changes nothing");
    assert!(store.delete_bucket("b").await.unwrap());
    assert!(!store.delete_bucket("b").await.unwrap());
    assert_eq!(store.bucket("b").await.unwrap(), None);
    store.create_bucket(&bucket("b", "you"), &[]).await.unwrap();
}

pub(crate) async fn bucket_pages(store: Store) {
    for (name, owner) in [("a.b", "me"), ("a", "me"), ("ab", "you"), ("b", "me"), ("a-b", "me")] {
        store.create_bucket(&bucket(name, owner), &[]).await.unwrap();
    }
    assert_eq!(names(&store, None, "", "", 10).await, ["a", "a-b", "a.b", "ab", "b"]);
    assert_eq!(names(&store, Some("me"), "", "", 10).await, ["a", "a-b", "a.b", "b"]);
    assert_eq!(names(&store, Some("nobody"), "", "", 10).await, [""; 0]);
    assert_eq!(names(&store, None, "", "", 2).await, ["a", "a-b"]);
    assert_eq!(names(&store, None, "", "a-b", 2).await, ["a.b", "ab"]);
    assert_eq!(names(&store, None, "", "a-a", 2).await, ["a-b", "a.b"], "a marker need not exist");
    assert_eq!(names(&store, Some("me"), "a", "a", 10).await, ["a-b", "a.b"]);
    assert_eq!(names(&store, None, "b", "a", 10).await, ["b"], "a marker before the prefix");
    assert_eq!(names(&store, None, "a", "b", 10).await, [""; 0], "a marker after the prefix");
    assert_eq!(names(&store, None, "", "", 0).await, [""; 0]);
    assert_eq!(names(&store, None, "", "", usize::MAX).await.len(), 5);
}

pub(crate) async fn bucket_prefixes_are_bytes(store: Store) {
    for name in ["a%b", "a_b", "aXb", "Axb", "ä", "\u{10ffff}z", "a\u{d7ff}", "a\u{e000}", "'"] {
        store.create_bucket(&bucket(name, "me"), &[]).await.unwrap();
    }
    assert_eq!(names(&store, None, "a%", "", 10).await, ["a%b"]);
    assert_eq!(names(&store, None, "a_", "", 10).await, ["a_b"]);
    assert_eq!(names(&store, None, "A", "", 10).await, ["Axb"]);
    assert_eq!(names(&store, None, "ä", "", 10).await, ["ä"]);
    assert_eq!(names(&store, None, "a\u{d7ff}", "", 10).await, ["a\u{d7ff}"]);
    assert_eq!(names(&store, None, "\u{10ffff}", "", 10).await, ["\u{10ffff}z"]);
    assert_eq!(names(&store, None, "'", "", 10).await, ["'"]);
}

pub(crate) async fn one_of_many_creates_a_bucket(store: Store) {
    let attempts = join_all((0..100).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.create_bucket(&bucket("b", &format!("owner {n}")), &[mount("b", "")]).await })
    }));
    let (won, lost): (Vec<_>, Vec<_>) = attempts.await.into_iter().map(|joined| joined.unwrap()).partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|outcome| kind(outcome) == "BucketAlreadyExists"));
    assert_eq!(store.mounts("b").await.unwrap().len(), 1);
}

pub(crate) async fn deleting_a_bucket_takes_everything_along(store: Store) {
    for name in ["b", "other"] {
        store.create_bucket(&bucket(name, "me"), &[mount(name, "")]).await.unwrap();
        store.set_bucket_setting(name, "cors", Some("x")).await.unwrap();
        store.create_upload(&upload(name, "k", &format!("u-{name}"))).await.unwrap();
        store.put_part(&format!("u-{name}"), &part(1, "t")).await.unwrap();
        store.remember_completed(name, "k", &format!("c-{name}"), "request", "etag").await.unwrap();
    }
    assert!(store.delete_bucket("b").await.unwrap());
    // Nothing of it may show in a later bucket of the same name.
    store.create_bucket(&bucket("b", "you"), &[]).await.unwrap();
    assert_eq!(store.mounts("b").await.unwrap(), []);
    assert_eq!(store.bucket_settings("b").await.unwrap(), []);
    assert_eq!(store.upload("b", "u-b").await.unwrap(), None);
    assert_eq!(store.parts("u-b", 0, 10).await.unwrap(), []);
    assert_eq!(store.completed("b", "c-b").await.unwrap(), None);
    assert_eq!(store.mounts("other").await.unwrap().len(), 1);
    assert_eq!(store.bucket_settings("other").await.unwrap().len(), 1);
    assert_eq!(store.parts("u-other", 0, 10).await.unwrap().len(), 1);
    assert!(store.completed("other", "c-other").await.unwrap().is_some());
}

pub(crate) async fn settings(store: Store) {
    assert!(!store.set_bucket_setting("b", "cors", Some("x")).await.unwrap());
    assert!(!store.set_bucket_setting("b", "cors", None).await.unwrap());
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    assert!(store.set_bucket_setting("b", "tagging", Some("<t/>")).await.unwrap());
    assert!(store.set_bucket_setting("b", "cors", Some("x")).await.unwrap());
    assert!(store.set_bucket_setting("b", "cors", Some("y")).await.unwrap());
    assert_eq!(store.bucket_settings("b").await.unwrap(), [pair("cors", "y"), pair("tagging", "<t/>")]);
    assert!(store.set_bucket_setting("b", "cors", None).await.unwrap());
    assert!(store.set_bucket_setting("b", "cors", None).await.unwrap(), "the bucket is there, the setting is not");
    assert_eq!(store.bucket_settings("b").await.unwrap(), [pair("tagging", "<t/>")]);
}

// === mounts ===

pub(crate) async fn mounts(store: Store) {
    assert_eq!(kind(store.add_mount(&mount("b", "")).await), "NoSuchBucket");
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    for prefix in ["b/", "", "a-", "a/"] {
        store.add_mount(&mount("b", prefix)).await.unwrap();
    }
    assert_eq!(kind(store.add_mount(&mount("b", "a/")).await), "EntityExists");
    let prefixes = ["", "a-", "a/", "b/"];
    assert_eq!(store.mounts("b").await.unwrap(), prefixes.map(|prefix| mount("b", prefix)));
    assert!(store.remove_mount("b", "a/").await.unwrap());
    assert!(!store.remove_mount("b", "a/").await.unwrap());
    assert_eq!(store.mounts("b").await.unwrap().len(), 3);
    assert_eq!(store.mounts("none").await.unwrap(), []);
}

pub(crate) async fn mounts_of_a_new_bucket(store: Store) {
    let twice = [mount("b", ""), mount("b", "x/"), mount("b", "x/")];
    assert_eq!(kind(store.create_bucket(&bucket("b", "me"), &twice).await), "EntityExists");
    assert_eq!(store.bucket("b").await.unwrap(), None, "all or nothing");
    store.create_bucket(&bucket("b", "me"), &twice[..2]).await.unwrap();
    assert_eq!(store.mounts("b").await.unwrap(), twice[..2]);
}

// === uploads ===

pub(crate) async fn uploads(store: Store) {
    assert_eq!(kind(store.create_upload(&upload("b", "k", "u")).await), "NoSuchBucket");
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_bucket(&bucket("c", "me"), &[]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    assert_eq!(kind(store.create_upload(&upload("b", "k2", "u")).await), "EntityExists");
    assert_eq!(store.upload("b", "u").await.unwrap(), Some(upload("b", "k", "u")));
    assert_eq!(store.upload("c", "u").await.unwrap(), None, "an id is good for its own bucket only");
    assert!(store.delete_upload("u").await.unwrap());
    assert!(!store.delete_upload("u").await.unwrap());
    assert_eq!(store.upload("b", "u").await.unwrap(), None);
}

pub(crate) async fn upload_pages(store: Store) {
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_bucket(&bucket("c", "me"), &[]).await.unwrap();
    for (key, id) in [("a/b", "2"), ("a-b", "9"), ("a/b", "1"), ("b", "3"), ("a", "5"), ("a/b", "10")] {
        store.create_upload(&upload("b", key, id)).await.unwrap();
    }
    store.create_upload(&upload("c", "a", "other")).await.unwrap();
    let all = [pair("a", "5"), pair("a-b", "9"), pair("a/b", "1"), pair("a/b", "10"), pair("a/b", "2"), pair("b", "3")];
    assert_eq!(ids(&store, "", "", "", 10).await, all);
    assert_eq!(ids(&store, "a", "", "", 10).await, all[..5]);
    assert_eq!(ids(&store, "a/", "", "", 10).await, all[2..5]);
    assert_eq!(ids(&store, "", "a/b", "", 10).await, all[5..], "no upload id: after all of the key");
    assert_eq!(ids(&store, "", "a/b", "1", 10).await, all[3..]);
    assert_eq!(ids(&store, "a", "a/b", "10", 10).await, all[4..5]);
    assert_eq!(ids(&store, "a/", "a", "5", 1).await, all[2..3]);
    assert_eq!(ids(&store, "a", "b", "", 10).await, []);
    let mut walked = Vec::new();
    while let [next] =
        ids(&store, "", walked.last().map_or("", |(k, _): &(String, String)| k), walked.last().map_or("", |(_, i)| i), 1)
            .await
            .as_slice()
    {
        walked.push(next.clone());
    }
    assert_eq!(walked, all);
}

/// The order and the range of keys are those of a `BTreeSet` of strings, whatever the keys hold.
pub(crate) async fn upload_ranges_match_a_model(store: Store) {
    const TEXT: &str = "[a%_A/\u{0}\u{7f}\u{80}\u{d7ff}\u{e000}\u{10ffff}]{0,3}";
    const KEY: &str = "[a%_A/\u{0}\u{7f}\u{80}\u{d7ff}\u{e000}\u{10ffff}]{1,3}";
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    let keys = proptest::collection::vec(KEY, 60);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let model: BTreeSet<(String, String)> = {
        let keys: BTreeSet<String> = keys.new_tree(&mut runner).unwrap().current().into_iter().collect();
        keys.into_iter().enumerate().flat_map(|(n, key)| [(key.clone(), format!("{n}a")), (key, format!("{n}b"))]).collect()
    };
    for (key, id) in &model {
        store.create_upload(&upload("b", key, id)).await.unwrap();
    }
    for _ in 0..200 {
        let (prefix, after, id) = (TEXT, TEXT, "|[0-9]{1,2}[ab]").new_tree(&mut runner).unwrap().current();
        let id = if after.is_empty() { String::new() } else { id };
        let past = |(key, upload_id): &&(String, String)| {
            after.is_empty() || (if id.is_empty() { *key > after } else { (key, upload_id) > (&after, &id) })
        };
        let expected: Vec<_> = model.iter().filter(|(key, _)| key.starts_with(&prefix)).filter(past).cloned().collect();
        assert_eq!(ids(&store, &prefix, &after, &id, 1000).await, expected, "prefix {prefix:?} after {after:?} {id:?}");
    }
}

pub(crate) async fn old_uploads(store: Store) {
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    for (id, created) in [("new", 300), ("old", 100), ("middle", 200)] {
        store.create_upload(&UploadRecord { created, ..upload("b", "k", id) }).await.unwrap();
    }
    let before = |moment, limit| {
        let store = Arc::clone(&store);
        async move { store.uploads_before(moment, limit).await.unwrap().into_iter().map(|u| u.upload_id).collect::<Vec<_>>() }
    };
    assert_eq!(before(300, 10).await, ["old", "middle"]);
    assert_eq!(before(301, 1).await, ["old"]);
    assert_eq!(before(100, 10).await, [""; 0]);
}

pub(crate) async fn parts(store: Store) {
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    for number in [10_000, 2, 1, 10] {
        assert_eq!(store.put_part("u", &part(number, "first")).await.unwrap(), None);
    }
    assert_eq!(store.put_part("u", &part(2, "second")).await.unwrap(), Some(part(2, "first")));
    assert_eq!(store.put_part("u", &part(2, "third")).await.unwrap(), Some(part(2, "second")));
    let all = [part(1, "first"), part(2, "third"), part(10, "first"), part(10_000, "first")];
    assert_eq!(store.parts("u", 0, 100).await.unwrap(), all);
    assert_eq!(store.parts("u", 2, 1).await.unwrap(), all[2..3]);
    assert_eq!(store.parts("u", 10_000, 1).await.unwrap(), []);
    store.delete_upload("u").await.unwrap();
    assert_eq!(store.parts("u", 0, 100).await.unwrap(), []);
}

/// What a part replaced is freed by whoever gets it as an answer: twice would be a fault, never would be a leak.
pub(crate) async fn every_replaced_part_is_answered_once(store: Store) {
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    replace_one_part(&[Arc::clone(&store), store]).await;
}

/// Puts one part many times, through all the stores (of one database) at once.
pub(crate) async fn replace_one_part(stores: &[Store]) {
    const PUTS: usize = 60;
    let puts = (0..PUTS).map(|n| {
        let store = Arc::clone(&stores[n % stores.len()]);
        tokio::spawn(async move { store.put_part("u", &part(1, &format!("token {n}"))).await.unwrap() })
    });
    let mut seen: Vec<String> =
        join_all(puts).await.into_iter().filter_map(|joined| joined.unwrap()).map(|part| part.token).collect();
    seen.extend(stores[0].parts("u", 0, 10).await.unwrap().into_iter().map(|part| part.token));
    assert_eq!(seen.len(), PUTS);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), PUTS);
}

pub(crate) async fn a_part_of_no_upload_is_refused(store: Store) {
    assert_eq!(kind(store.put_part("none", &part(1, "t")).await), "NoSuchUpload");
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    let monster = PartRecord { size: u64::MAX, ..part(1, "t") };
    assert!(kind(store.put_part("u", &monster).await).starts_with("InvalidArgument"));
    store.put_part("u", &part(1, "t")).await.unwrap();
    store.delete_upload("u").await.unwrap();
    assert_eq!(kind(store.put_part("u", &part(1, "t")).await), "NoSuchUpload");
    assert_eq!(store.parts("u", 0, 10).await.unwrap(), []);
}

/// A part that was answered for is there or went with its upload; none is left behind.
pub(crate) async fn parts_race_the_end(store: Store) {
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    let puts = (1..=40).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            if number == 20 {
                store.delete_upload("u").await.map(|_| ())
            } else {
                store.put_part("u", &part(number, "t")).await.map(|_| ())
            }
        })
    });
    for joined in join_all(puts).await {
        let outcome = joined.unwrap();
        assert!(outcome.is_ok() || kind(outcome) == "NoSuchUpload");
    }
    assert_eq!(store.parts("u", 0, 100).await.unwrap(), []);
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    assert_eq!(store.parts("u", 0, 100).await.unwrap(), []);
}

pub(crate) async fn one_of_many_ends_an_upload(store: Store) {
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    let ends = (0..50).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.delete_upload("u").await.unwrap() })
    });
    let won = join_all(ends).await.into_iter().filter(|joined| *joined.as_ref().unwrap()).count();
    assert_eq!(won, 1);
}

pub(crate) async fn completed(store: Store) {
    assert_eq!(kind(store.remember_completed("b", "k", "u", "r", "e").await), "NoSuchBucket");
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    assert_eq!(store.completed("b", "u").await.unwrap(), None);
    store.remember_completed("b", "k", "u", "r", "e").await.unwrap();
    assert_eq!(store.completed("b", "u").await.unwrap(), Some(("k".into(), "r".into(), "e".into())));
    assert_eq!(store.completed("c", "u").await.unwrap(), None);
    store.remember_completed("b", "k", "u", "r2", "e2").await.unwrap();
    assert_eq!(store.completed("b", "u").await.unwrap(), Some(("k".into(), "r2".into(), "e2".into())));
}

// === the installation ===

pub(crate) async fn values(store: Store) {
    store.check().await.unwrap();
    assert_eq!(store.value("id").await.unwrap(), None);
    assert_eq!(store.value_or_insert("id", "1").await.unwrap(), "1");
    assert_eq!(store.value_or_insert("id", "2").await.unwrap(), "1");
    assert_eq!(store.value("id").await.unwrap().as_deref(), Some("1"));
    assert!(!store.replace_value("id", "2", "3").await.unwrap());
    assert!(store.replace_value("id", "1", "3").await.unwrap());
    assert!(!store.replace_value("none", "1", "3").await.unwrap());
    assert_eq!(store.value("id").await.unwrap().as_deref(), Some("3"));
}

pub(crate) async fn overlay(store: Store) {
    let names: Vec<String> = (0..100).map(|n| format!("k\0{n}")).collect();
    assert!(store.overlay("s", &names).await.unwrap().is_empty() && store.overlay("s", &[]).await.unwrap().is_empty());
    for name in &names {
        assert!(store.swap_overlay("s", name, None, Some(&format!("{name}="))).await.unwrap());
    }
    assert!(store.swap_overlay("other", &names[0], None, Some("other")).await.unwrap());
    let mut found = store.overlay("s", &names).await.unwrap();
    found.sort_by_key(|(name, _)| names.iter().position(|known| known == name));
    assert_eq!(found, names.iter().map(|name| (name.clone(), format!("{name}="))).collect::<Vec<_>>());
    let one = |name: &str| {
        let (store, name) = (Arc::clone(&store), name.to_owned());
        async move { store.overlay("s", &[name]).await.unwrap().pop().map(|(_, document)| document) }
    };
    let name = names[7].as_str();
    assert!(!store.swap_overlay("s", name, None, Some("2")).await.unwrap());
    assert!(!store.swap_overlay("s", name, None, None).await.unwrap());
    assert!(!store.swap_overlay("s", name, Some("1"), Some("2")).await.unwrap());
    assert!(store.swap_overlay("s", name, Some(&format!("{name}=")), Some("2\0")).await.unwrap());
    assert_eq!(one(name).await.as_deref(), Some("2\0"));
    assert!(!store.swap_overlay("s", name, Some("2"), None).await.unwrap());
    assert!(store.swap_overlay("s", name, Some("2\0"), None).await.unwrap());
    assert_eq!(one(name).await, None);
    assert!(store.swap_overlay("s", name, None, None).await.unwrap());
}

pub(crate) async fn one_swap_wins(store: Store) {
    let writers = (0..20).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.swap_overlay("s", "k", None, Some(&n.to_string())).await.unwrap() })
    });
    let won = join_all(writers).await.into_iter().filter(|joined| *joined.as_ref().unwrap()).count();
    assert_eq!(won, 1);
}

pub(crate) async fn one_value_wins(store: Store) {
    let writers = (0..50).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.value_or_insert("id", &n.to_string()).await.unwrap() })
    });
    let answers: BTreeSet<_> = join_all(writers).await.into_iter().map(|joined| joined.unwrap()).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(store.value("id").await.unwrap(), answers.into_iter().next());
}

pub(crate) async fn closed(store: Store) {
    store.close().await;
    store.close().await;
    assert_eq!(kind(store.check().await), "MetaUnavailable");
    assert_eq!(kind(store.create_bucket(&bucket("b", "me"), &[]).await), "MetaUnavailable");
}
