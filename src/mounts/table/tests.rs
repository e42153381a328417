#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn table(prefixes: &[&str]) -> MountTable {
    let provider: Arc<dyn Provider> = Arc::new(sluice_provider_memory::Memory::new(Default::default()));
    let mount = |prefix: &&str| Mount {
        prefix: (*prefix).into(),
        kind: "memory".into(),
        provider: Arc::clone(&provider),
        authoriser: None,
    };
    MountTable::new(prefixes.iter().map(mount).collect())
}

fn resolved(table: &MountTable, key: &str) -> Option<(String, String)> {
    table.resolve(key).map(|(mount, key)| (mount.prefix.to_string(), key.to_string()))
}

fn pair(prefix: &str, key: &str) -> Option<(String, String)> {
    Some((prefix.to_owned(), key.to_owned()))
}

#[test]
fn a_key_goes_to_the_longest_prefix() {
    let table = table(&["", "data/", "data/raw/"]);
    assert_eq!(resolved(&table, "x"), pair("", "x"));
    assert_eq!(resolved(&table, "data/x"), pair("data/", "x"));
    assert_eq!(resolved(&table, "data/raw/x"), pair("data/raw/", "x"));
    assert_eq!(resolved(&table, "data/rawx"), pair("data/", "rawx"));
    assert_eq!(resolved(&table, "data"), pair("", "data"));
}

#[test]
fn a_key_that_equals_a_prefix_belongs_to_the_next_shorter_mount() {
    let two = table(&["", "data/"]);
    assert_eq!(resolved(&two, "data/"), pair("", "data/"));
    assert_eq!(resolved(&table(&["data/"]), "data/"), None);
}

#[test]
fn without_a_mount_for_everything_some_keys_have_none() {
    let table = table(&["a/", "b/"]);
    assert_eq!(resolved(&table, "c"), None);
    assert_eq!(resolved(&table, ""), None);
    assert_eq!(resolved(&table, "b/x"), pair("b/", "x"));
    assert_eq!(resolved(&MountTable::default(), "x"), None);
}

#[test]
fn a_sibling_with_a_longer_name_is_another_mount() {
    let two = table(&["data", "database/"]);
    assert_eq!(resolved(&two, "data/x"), pair("data", "/x"));
    assert_eq!(resolved(&two, "database/x"), pair("database/", "x"));
    assert_eq!(resolved(&two, "databas"), pair("data", "bas"));
    let slashes = table(&["", "data/", "database/"]);
    assert_eq!(resolved(&slashes, "database"), pair("", "database"));
}

#[test]
fn mounts_come_and_go() {
    let one = table(&[""]);
    let mount = table(&["a/"]).at("a/").unwrap().clone();
    let two = one.with(mount.clone());
    assert_eq!(resolved(&two, "a/x"), pair("a/", "x"));
    assert_eq!(resolved(&one, "a/x"), pair("", "a/x"), "the old table is untouched");
    assert_eq!(two.with(mount).len(), 2, "the same prefix twice is one mount");
    assert_eq!(resolved(&two.without("a/"), "a/x"), pair("", "a/x"));
    assert_eq!(two.without("nope").len(), 2);
    assert_eq!(two.iter().map(|m| m.prefix.to_string()).collect::<Vec<_>>(), ["", "a/"]);
    assert!(two.at("a").is_none() && two.any_within("a") && !two.any_within("b"));
}

#[test]
fn of_two_with_the_same_prefix_the_later_counts() {
    let mut mounts: Vec<_> = table(&["a"]).iter().cloned().collect();
    mounts.push(Mount { kind: "later".into(), ..mounts[0].clone() });
    assert_eq!(&*MountTable::new(mounts).at("a").unwrap().kind, "later");
}

#[test]
fn the_deepest_prefix_leaves_one_byte() {
    let prefix = "x".repeat(1023);
    let table = table(&["", &prefix]);
    assert_eq!(resolved(&table, &"x".repeat(1024)), pair(&prefix, "x"));
    assert_eq!(resolved(&table, &"x".repeat(1025)).map(|(p, _)| p), None, "no key is that long");
}

/// E16: 10 000 mounts, the worst-case key included: one that shares all but the last byte with a deep nest of mounts.
#[test]
fn ten_thousand_mounts_resolve_in_no_time() {
    let mut prefixes: Vec<String> = (1..=1000).map(|n| "d".repeat(n)).collect();
    prefixes.extend((0..9000).map(|n| format!("tenant-{n:04}/data/")));
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let began = Instant::now();
    let table = table(&prefixes);
    assert!(began.elapsed() < Duration::from_millis(100), "ready after {:?}", began.elapsed());

    let worst = format!("{}{}", "d".repeat(500), "e".repeat(500));
    let keys = [worst, "d".repeat(1024), "tenant-4567/data/x".to_owned(), "tenant-4567/other".to_owned(), "zzz".to_owned()];
    let mut times: Vec<Duration> = (0..5000)
        .map(|n| {
            let key = &keys[n % keys.len()];
            let began = Instant::now();
            std::hint::black_box(table.resolve(key));
            began.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[4950] < Duration::from_millis(1), "p99 {:?}", times[4950]);
    assert_eq!(resolved(&table, &keys[0]).unwrap().0.len(), 500);
}

fn model(prefixes: &BTreeSet<String>, key: &str) -> Option<(String, String)> {
    let longest = prefixes.iter().filter(|p| p.len() < key.len() && key.starts_with(p.as_str())).max_by_key(|p| p.len())?;
    pair(longest, &key[longest.len()..])
}

fn name() -> impl Strategy<Value = String> {
    "[ab/]{0,5}"
}

fn from() -> impl Strategy<Value = ListFrom> {
    prop_oneof![Just(ListFrom::Start), name().prop_map(ListFrom::After), name().prop_map(ListFrom::AfterPrefix)]
}

proptest! {
    #[test]
    fn resolves_like_the_model(prefixes in proptest::collection::btree_set(name(), 0..8), key in "[ab/]{1,7}") {
        let table = table(&prefixes.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(resolved(&table, &key), model(&prefixes, &key));
    }

    /// The segments cover each key at or after `from` exactly once, with the mount that serves it, in key order.
    #[test]
    fn segments_cut_the_keys(
        prefixes in proptest::collection::btree_set(name(), 0..8),
        keys in proptest::collection::btree_set("[ab/]{1,7}", 0..60),
        prefix in "[ab/]{0,3}",
        from in from(),
    ) {
        let table = table(&prefixes.iter().map(String::as_str).collect::<Vec<_>>());
        let expected: Vec<_> = keys.iter().filter(|k| k.starts_with(&prefix) && !from.skips(k) && table.resolve(k).is_some()).collect();
        let mut seen = Vec::new();
        for segment in table.segments(&prefix, &from) {
            let mount = table.get(segment.mount).unwrap();
            for key in &keys {
                let inside = key.starts_with(&prefix) && key.len() > mount.prefix.len() && key.starts_with(&*mount.prefix)
                    && !segment.from.skips(key) && !segment.ends_before(key);
                if inside {
                    prop_assert_eq!(&table.resolve(key).unwrap().0.prefix, &mount.prefix, "{} in {:?}", key, segment);
                    seen.push(key);
                }
            }
        }
        prop_assert_eq!(seen, expected);
    }
}
