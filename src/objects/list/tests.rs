#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use sluice_provider::{DeleteWhen, ETag, Provider, PutBody, PutOptions, Seal, Versioning};

use super::*;
use crate::meta::BucketRecord;
use crate::mounts::probe::Probe;
use crate::uploads::Uploads;

/// Mounts with what lies on them, hidden or not.
type Layout = BTreeMap<String, BTreeSet<String>>;

async fn namespace(layout: &Layout) -> (Namespace, BTreeMap<String, Arc<Probe>>) {
    let mut probes = BTreeMap::new();
    let mut mounts = Vec::new();
    for (prefix, keys) in layout {
        let probe = Probe::new();
        for key in keys {
            let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Default::default() };
            let body = PutBody::from_bytes("x".into(), seal);
            probe.put(&Key::new(key).unwrap(), body, &PutOptions::default()).await.unwrap();
        }
        probe.take_calls();
        let provider: Arc<dyn Provider> = Arc::clone(&probe) as _;
        mounts.push(Mount { prefix: prefix.as_str().into(), kind: "probe".into(), provider, authoriser: None });
        probes.insert(prefix.clone(), probe);
    }
    let bucket = BucketRecord { name: "bucket".into(), owner: "me".into(), created: 0, location: String::new() };
    (Namespace::new(bucket, MountTable::new(mounts), BTreeMap::new()), probes)
}

async fn objects() -> Objects {
    let store = crate::meta::SqliteStore::open_in_memory().await.unwrap();
    Objects::new(Arc::new(Uploads::new(Arc::new(store))), crate::handles::Registry::new(Default::default()))
}

fn layout(mounts: &[(&str, &[&str])]) -> Layout {
    mounts.iter().map(|(prefix, keys)| ((*prefix).to_owned(), keys.iter().map(|k| (*k).to_owned()).collect())).collect()
}

fn names(page: &ListPage) -> Vec<&str> {
    page.entries.iter().map(ListEntry::name).collect()
}

fn query(prefix: &str, delimiter: Option<&str>, limit: usize) -> ListQuery {
    ListQuery { prefix: prefix.to_owned(), delimiter: delimiter.map(str::to_owned), from: ListFrom::Start, limit }
}

/// What a client may see: keys whose mount is the longest that serves them.
fn visible(layout: &Layout) -> BTreeSet<String> {
    let all = layout.iter().flat_map(|(prefix, keys)| keys.iter().map(move |key| (prefix, format!("{prefix}{key}"))));
    let seen = all.filter(|(prefix, full)| {
        let serving = layout.keys().filter(|p| p.len() < full.len() && full.starts_with(p.as_str())).max_by_key(|p| p.len());
        serving == Some(*prefix)
    });
    seen.map(|(_, full)| full).collect()
}

fn model(keys: &BTreeSet<String>, query: &ListQuery) -> (Vec<String>, bool) {
    let mut names: Vec<String> = Vec::new();
    for key in keys.iter().filter(|k| k.starts_with(&query.prefix) && !query.from.skips(k)) {
        let rest = &key[query.prefix.len()..];
        let rolled = query.delimiter.as_ref().and_then(|d| rest.find(d.as_str()).map(|at| at + d.len()));
        let name = rolled.map_or(key.as_str(), |end| &key[..query.prefix.len() + end]);
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }
    let more = names.len() > query.limit;
    names.truncate(query.limit);
    (names, more)
}

#[tokio::test]
async fn mounts_are_merged_in_key_order() {
    let layout = layout(&[("", &["a", "b/hidden", "b/", "c"]), ("b/", &["x", "y/z"]), ("b/y/", &["0"])]);
    let (ns, _) = namespace(&layout).await;
    let objects = objects().await;
    let page = objects.list(&ns, &query("", None, 10)).await.unwrap();
    assert_eq!(names(&page), ["a", "b/", "b/x", "b/y/0", "c"]);
    let page = objects.list(&ns, &query("", Some("/"), 10)).await.unwrap();
    assert_eq!(names(&page), ["a", "b/", "c"]);
    let page = objects.list(&ns, &query("b/", Some("/"), 10)).await.unwrap();
    assert_eq!(names(&page), ["b/", "b/x", "b/y/"]);
}

#[tokio::test]
async fn an_empty_mount_makes_no_prefix_and_a_hidden_key_neither() {
    let layout = layout(&[("", &["a", "dir/hidden"]), ("dir/", &[]), ("empty/", &[]), ("x/y/z/", &[])]);
    let (ns, _) = namespace(&layout).await;
    let page = objects().await.list(&ns, &query("", Some("/"), 10)).await.unwrap();
    assert_eq!(names(&page), ["a"]);
    assert!(!page.more);
}

#[tokio::test]
async fn a_prefix_that_spans_mounts_appears_once() {
    let layout = layout(&[("", &["dir/a"]), ("dir/b/", &["1"]), ("dir/c/", &["2"])]);
    let (ns, _) = namespace(&layout).await;
    let page = objects().await.list(&ns, &query("", Some("/"), 10)).await.unwrap();
    assert_eq!(names(&page), ["dir/"]);
}

#[tokio::test]
async fn a_failing_mount_fails_only_the_listings_that_touch_it() {
    let layout = layout(&[("", &["a", "z"]), ("m/", &["1"])]);
    let (ns, probes) = namespace(&layout).await;
    probes["m/"].down.store(true, Ordering::SeqCst);
    let objects = objects().await;
    assert_eq!(names(&objects.list(&ns, &query("z", None, 10)).await.unwrap()), ["z"]);
    let page = objects.list(&ns, &query("", None, 1)).await.unwrap();
    assert!(names(&page) == ["a"] && page.more, "a full page does not need the mount behind it");
    let error = objects.list(&ns, &query("", None, 10)).await.unwrap_err();
    assert!(error.is_provider(sluice_provider::ErrorKind::Unavailable), "{error}");
}

#[tokio::test]
async fn a_page_costs_what_it_returns() {
    let keys: BTreeSet<String> = (0..500).map(|n| format!("k{n:04}")).collect();
    let layout = Layout::from([(String::new(), keys.clone()), ("k0250/".into(), keys.clone()), ("zz/".into(), keys)]);
    let (ns, probes) = namespace(&layout).await;
    let objects = objects().await;
    let page = objects.list(&ns, &query("", None, 100)).await.unwrap();
    assert!(page.more && page.entries.len() == 100);
    assert_eq!(probes[""].take_calls().get("list"), Some(&1));
    assert!(probes["k0250/"].take_calls().is_empty() && probes["zz/"].take_calls().is_empty(), "out of reach, not asked");
    // A plain namespace is asked once, with the query as it is.
    let page = objects.list(&ns, &ListQuery { from: ListFrom::After("zz/k0100".into()), ..query("", None, 10) }).await.unwrap();
    assert_eq!(names(&page)[0], "zz/k0101");
}

#[tokio::test]
async fn ten_thousand_mounts_are_listed_with_one_call_each() {
    let one: BTreeSet<String> = ["x".to_owned()].into();
    let mut layout: Layout = (0..1000).map(|n| (format!("m{n:04}/"), one.clone())).collect();
    layout.insert(String::new(), (0..100).map(|n| format!("z{n}")).collect());
    let (ns, probes) = namespace(&layout).await;
    let page = objects().await.list(&ns, &query("", Some("/"), 1000)).await.unwrap();
    assert!(page.more && page.entries.len() == 1000);
    let calls: usize = probes.values().map(|p| p.take_calls().values().sum::<usize>()).sum();
    assert!(calls <= 1001 + 2, "{calls} calls");
}

fn name(max: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just('a'), Just('b'), Just('/')], 0..max).prop_map(|c| c.into_iter().collect())
}

fn from() -> impl Strategy<Value = ListFrom> {
    prop_oneof![
        2 => Just(ListFrom::Start),
        1 => name(6).prop_map(ListFrom::After),
        1 => name(5).prop_filter("a prefix", |p| !p.is_empty()).prop_map(ListFrom::AfterPrefix),
    ]
}

/// Mounts with keys, and what happened to each: a write, or (true) a deletion.
type Histories = BTreeMap<String, BTreeMap<String, Vec<bool>>>;

/// Makes them happen; each key of the bucket, hidden or not, with its versions from the newest to the oldest.
async fn happened(ns: &Namespace, histories: &Histories) -> BTreeMap<(String, String), Vec<String>> {
    let table = ns.mounts.load_full();
    let mut made = BTreeMap::new();
    for (prefix, keys) in histories {
        let provider = Arc::clone(&table.at(prefix).unwrap().provider);
        let versions = provider.versions().unwrap();
        for (name, history) in keys {
            let key = Key::new(name).unwrap();
            let mut ids = Vec::new();
            for deletion in history {
                let info = if *deletion {
                    versions.mark_deleted(&key, &DeleteWhen::Always, Versioning::Enabled).await
                } else {
                    let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Default::default() };
                    let body = PutBody::from_bytes("x".into(), seal);
                    versions.put_version(&key, body, &PutOptions::default(), Versioning::Enabled).await
                };
                ids.insert(0, version_of(&info.unwrap().attributes).to_string());
            }
            made.insert((prefix.clone(), format!("{prefix}{name}")), ids);
        }
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The same of versions: of any mounts, with any histories of keys on them, the pages put together are all versions of the keys
    /// that are seen, in key order, those of a key from the newest to the oldest, on whichever version of a key a page ends.
    #[test]
    fn lists_versions_like_the_model(
        histories in proptest::collection::btree_map(
            name(5),
            proptest::collection::btree_map(
                name(5).prop_filter("a key", |k| !k.is_empty()),
                proptest::collection::vec(any::<bool>(), 1..4),
                0..6,
            ),
            0..5,
        ),
        prefix in name(3),
        delimiter in prop_oneof![2 => Just(None), 1 => Just(Some("/")), 1 => Just(Some("a/"))],
        limit in 1..6_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mounts: Layout = histories.keys().map(|prefix| (prefix.clone(), BTreeSet::new())).collect();
        let (ns, _) = runtime.block_on(namespace(&mounts));
        let made = runtime.block_on(happened(&ns, &histories));
        let layout: Layout = histories.iter().map(|(prefix, keys)| (prefix.clone(), keys.keys().cloned().collect())).collect();
        let seen = visible(&layout);
        // A key that is seen is served by the mount with the longest prefix that is not the whole of it.
        let serving = |key: &str| layout.keys().filter(|p| p.len() < key.len() && key.starts_with(p.as_str())).max_by_key(|p| p.len());
        let mut expected: Vec<(String, Option<String>)> = Vec::new();
        for key in seen.iter().filter(|key| key.starts_with(&prefix)) {
            let rest = &key[prefix.len()..];
            match delimiter.and_then(|d| rest.find(d).map(|at| prefix.len() + at + d.len())) {
                Some(end) => expected.push((key[..end].to_owned(), None)),
                None => {
                    let ids = &made[&(serving(key).unwrap().clone(), key.clone())];
                    expected.extend(ids.iter().map(|id| (key.clone(), Some(id.clone()))));
                }
            }
        }
        expected.dedup();
        let mut query = ListQuery { prefix, delimiter: delimiter.map(str::to_owned), from: ListFrom::Start, limit };
        let mut together = Vec::new();
        loop {
            let page = runtime.block_on(page(&ns, &query, What::Versions)).unwrap();
            prop_assert!(page.entries.len() <= limit && (!page.more || page.entries.len() == limit), "{page:?}");
            for entry in page.entries {
                query.from = What::Versions.after(entry.name().to_owned(), &entry);
                together.push(match entry {
                    ListEntry::Object(info) => (info.key.to_string(), Some(version_of(&info.attributes).to_string())),
                    ListEntry::Prefix(prefix) => {
                        query.from = ListFrom::AfterPrefix(prefix.clone());
                        (prefix, None)
                    }
                });
            }
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(together, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any mounts, any keys on them, any query: the listing is that of the keys that are seen; and its pages put together, going on
    /// from the last name of each, are the whole listing.
    #[test]
    fn lists_like_the_model(
        layout in proptest::collection::btree_map(name(5), proptest::collection::btree_set(name(5).prop_filter("a key", |k| !k.is_empty()), 0..8), 0..6),
        prefix in name(4),
        delimiter in prop_oneof![Just(None), Just(Some("/")), Just(Some("a")), Just(Some("a/")), Just(Some("//"))],
        from in from(),
        limit in 1..6_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (ns, _) = runtime.block_on(namespace(&layout));
        let keys = visible(&layout);
        let query = ListQuery { prefix, delimiter: delimiter.map(str::to_owned), from, limit };
        let table = ns.mounts.load_full();
        let list = |query: &ListQuery| {
            let page = match only_mount(&table, query) {
                Some(mount) => runtime.block_on(list_one(mount, query, What::Objects)),
                None => runtime.block_on(merge(&table, query, What::Objects)),
            };
            let page = page.unwrap();
            (names(&page).into_iter().map(str::to_owned).collect::<Vec<_>>(), page.more)
        };
        prop_assert_eq!(list(&query), model(&keys, &query));

        let (whole, _) = model(&keys, &ListQuery { limit: usize::MAX - 1, ..query.clone() });
        let (mut together, mut from) = (Vec::new(), query.from.clone());
        loop {
            let (page, more) = list(&ListQuery { from: from.clone(), ..query.clone() });
            together.extend(page);
            if !more {
                break;
            }
            let last: &String = together.last().unwrap();
            let rolled = query.delimiter.as_ref().is_some_and(|d| last[query.prefix.len()..].contains(d.as_str()));
            from = if rolled { ListFrom::AfterPrefix(last.clone()) } else { ListFrom::After(last.clone()) };
        }
        prop_assert_eq!(together, whole);
    }
}
