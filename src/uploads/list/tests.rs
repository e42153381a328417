#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::meta::{BucketRecord, MetaStore, SqliteStore, UploadRecord};
use crate::mounts::MountTable;

async fn bench(keys: &[String]) -> (Uploads, Namespace) {
    let store = Arc::new(SqliteStore::open_in_memory().await.unwrap());
    let bucket = BucketRecord { name: "bucket".into(), owner: "me".into(), created: 0, location: String::new() };
    store.create_bucket(&bucket, &[]).await.unwrap();
    for (n, key) in keys.iter().enumerate() {
        let upload = UploadRecord {
            upload_id: format!("id{n}"),
            bucket: "bucket".into(),
            key: key.clone(),
            mount_prefix: String::new(),
            initiator: "me".into(),
            created: 0,
            attributes: BTreeMap::new(),
            checksum_algorithm: String::new(),
            checksum_type: String::new(),
        };
        store.create_upload(&upload).await.unwrap();
    }
    (Uploads::new(store), Namespace::new(bucket, MountTable::default(), BTreeMap::new()))
}

/// Everything, page by page: keys with ids, and prefixes.
async fn all(
    uploads: &Uploads,
    ns: &Namespace,
    prefix: &str,
    delimiter: Option<&str>,
    limit: usize,
) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes, mut after) = (Vec::new(), Vec::new(), UploadCursor::default());
    loop {
        let page = uploads.list(ns, prefix, delimiter, &after, limit).await.unwrap();
        assert!(page.uploads.len() + page.prefixes.len() <= limit);
        keys.extend(page.uploads.into_iter().map(|u| format!("{} {}", u.key, u.upload_id)));
        prefixes.extend(page.prefixes);
        match page.next {
            Some(next) => after = next,
            None => return (keys, prefixes),
        }
    }
}

#[tokio::test]
async fn uploads_of_one_key_are_told_apart_by_the_cursor() {
    let (uploads, ns) = bench(&["a".into(), "a".into(), "b".into()]).await;
    let page = uploads.list(&ns, "", None, &UploadCursor::default(), 1).await.unwrap();
    assert_eq!(page.next, Some(UploadCursor { key: "a".into(), upload_id: "id0".into() }));
    let only_key = UploadCursor { key: "a".into(), upload_id: String::new() };
    let page = uploads.list(&ns, "", None, &only_key, 10).await.unwrap();
    assert_eq!(page.uploads.iter().map(|u| u.key.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(page.next, None);
}

#[tokio::test]
async fn a_page_that_ends_with_a_prefix_goes_on_behind_it() {
    let keys = ["a", "d/1", "d/2", "d/3", "e"].map(String::from);
    let (uploads, ns) = bench(&keys).await;
    let page = uploads.list(&ns, "", Some("/"), &UploadCursor::default(), 2).await.unwrap();
    assert_eq!((page.uploads.len(), &page.prefixes[..]), (1, &["d/".to_owned()][..]));
    let page = uploads.list(&ns, "", Some("/"), &page.next.unwrap(), 2).await.unwrap();
    assert_eq!(page.uploads[0].key, "e");
    // A key of the client's choice is a key, not a prefix.
    let after = UploadCursor { key: "d/1".into(), upload_id: String::new() };
    assert_eq!(uploads.list(&ns, "", Some("/"), &after, 9).await.unwrap().prefixes, ["d/"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn pages_put_together_are_the_whole(
        keys in proptest::collection::vec("[ab/]{1,4}", 0..12),
        prefix in "[ab/]{0,2}",
        delimiter in prop_oneof![Just(None), Just(Some("/")), Just(Some("a"))],
        limit in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (uploads, ns) = runtime.block_on(bench(&keys));
        let mut expected: Vec<(String, String)> = keys.iter().enumerate().map(|(n, k)| (k.clone(), format!("id{n}"))).collect();
        expected.retain(|(key, _)| key.starts_with(&prefix));
        expected.sort();
        let (rolled, plain): (Vec<_>, Vec<_>) = expected.iter().partition(|(k, _)| rolled_up(k, &prefix, delimiter).is_some());
        let mut prefixes: Vec<_> = rolled.iter().filter_map(|(k, _)| rolled_up(k, &prefix, delimiter)).map(str::to_owned).collect();
        prefixes.dedup();
        let plain: Vec<_> = plain.iter().map(|(k, id)| format!("{k} {id}")).collect();
        prop_assert_eq!(runtime.block_on(all(&uploads, &ns, &prefix, delimiter, limit)), (plain, prefixes));
    }
}
