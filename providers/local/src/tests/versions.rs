//! Versions on disk: where they lie, and what becomes of a call that was cut short at each of its steps.

use super::*;
use crate::versions::Newcomer;
use sluice_provider::{DeleteWhen, Guard, VERSION_ATTRIBUTE, Version, VersionId, Versioning, Versions, is_marker, version_of};
use std::fs;

async fn put(local: &Local, name: &str, content: &str) -> VersionId {
    let put = PutOptions::default();
    let info = local.put_version(&key(name), body(content.as_bytes()), &put, Versioning::Enabled).await.unwrap();
    version_of(&info.attributes)
}

async fn mark(local: &Local, name: &str) -> VersionId {
    version_of(&local.mark_deleted(&key(name), &DeleteWhen::Always, Versioning::Enabled).await.unwrap().attributes)
}

async fn listed(local: &Local) -> Vec<(String, VersionId, bool)> {
    listed_in_pages(local, 1000).await
}

async fn listed_in_pages(local: &Local, limit: usize) -> Vec<(String, VersionId, bool)> {
    let mut query = ListQuery { limit, ..ListQuery::default() };
    let mut told = Vec::new();
    loop {
        let page = local.list_versions(&query).await.unwrap();
        for entry in &page.entries {
            let ListEntry::Object(info) = entry else { panic!("{entry:?}") };
            told.push((info.key.to_string(), version_of(&info.attributes), is_marker(info)));
            query.from = ListFrom::AfterVersion(info.key.to_string(), version_of(&info.attributes));
        }
        if !page.more {
            return told;
        }
    }
}

fn shelf(mount: &Mount) -> PathBuf {
    mount.root().join(".sluice/versions/a/.sluice%k%00")
}

fn entry(id: VersionId, marker: bool) -> (String, VersionId, bool) {
    ("a/k".into(), id, marker)
}

#[tokio::test]
async fn older_versions_are_plain_files_in_the_hidden_space() {
    let mount = mount();
    let first = put(&mount.local, "a/k", "one").await;
    assert!(!shelf(&mount).exists(), "one version needs no shelf");
    let second = put(&mount.local, "a/k", "two").await;
    assert_eq!(fs::read(shelf(&mount).join(first.to_string())).unwrap(), b"one");
    assert_eq!(fs::read(mount.root().join("a/k")).unwrap(), b"two");
    let marker = mark(&mount.local, "a/k").await;
    assert!(!mount.root().join("a").exists(), "a deleted key leaves no empty directories");
    assert!(shelf(&mount).join(format!("{marker}.marker")).exists());
    for id in [marker, second, first] {
        mount.local.remove_version(&key("a/k"), &id, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
    }
    assert_eq!(fs::read_dir(mount.root().join(".sluice/versions")).unwrap().count(), 0, "empty shelves go");
    assert!(mount.hidden("records").is_empty() && mount.hidden("staging").is_empty());
}

#[tokio::test]
async fn what_is_published_last_is_the_newest_whenever_it_was_named() {
    for xattrs in [true, false] {
        let mount = mount_with(|settings| settings.xattrs = xattrs);
        let (store, name) = (&mount.local.0, key("a/k"));
        // A write gets its name, and others write and delete before it is published.
        let early = Version::after(None).unwrap();
        let first = put(&mount.local, "a/k", "one").await;
        let marker = mark(&mount.local, "a/k").await;
        let mut staged = store.space.stage().unwrap();
        crate::write::write_all(staged.fd(), &[b"two"], 0).unwrap();
        let attributes = [(VERSION_ATTRIBUTE, early.to_string().as_str())].into_iter().collect();
        let info = store.seal(&mut staged, &name, ETag::new(md5(b"two")).unwrap(), attributes).unwrap();
        let new = Newcomer { versioning: Versioning::Enabled, info, flushed: false };
        let last = version_of(&store.publish(&name, staged, &PutWhen::Always, new).unwrap().attributes);
        let all = [entry(last, false), entry(marker, true), entry(first, false)];
        assert_eq!(listed(&mount.local).await, all);
        assert_eq!(listed_in_pages(&mount.local, 1).await, all, "a page that ends between them skips none");
        assert_eq!(mount.get("a/k").await.unwrap(), "two");
        // And a marker is newer than all there is, too.
        let gone = mark(&mount.local, "a/k").await;
        assert_eq!(listed_in_pages(&mount.local, 1).await[0], entry(gone, true));
    }
}

#[tokio::test]
async fn a_write_that_was_cut_short_leaves_no_second_version() {
    let mount = mount();
    let first = put(&mount.local, "a/k", "one").await;
    let second = put(&mount.local, "a/k", "two").await;
    // The current file has its second name already, and nothing was published.
    fs::hard_link(mount.root().join("a/k"), shelf(&mount).join(second.to_string())).unwrap();
    assert_eq!(listed(&mount.local).await, [entry(second, false), entry(first, false)]);
    assert_eq!(mount.local.sweep().await.unwrap().keys, 1);
    assert!(!shelf(&mount).join(second.to_string()).exists() && mount.root().join("a/k").exists());
    assert_eq!(mount.local.sweep().await.unwrap().keys, 0);
    // The same, and the next write comes before the sweep.
    fs::hard_link(mount.root().join("a/k"), shelf(&mount).join(second.to_string())).unwrap();
    let third = put(&mount.local, "a/k", "three").await;
    assert_eq!(listed(&mount.local).await, [entry(third, false), entry(second, false), entry(first, false)]);
    // And a removal of what has two names.
    fs::hard_link(mount.root().join("a/k"), shelf(&mount).join(third.to_string())).unwrap();
    mount.local.remove_version(&key("a/k"), &third, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
    assert_eq!(listed(&mount.local).await, [entry(second, false), entry(first, false)]);
    assert_eq!(mount.get("a/k").await.unwrap(), "two");
}

#[tokio::test]
async fn what_had_two_names_leaves_no_record() {
    let mount = mount_with(|settings| settings.xattrs = false);
    for removal in [Removal::Version, Removal::Sweep, Removal::Overwrite] {
        let first = put(&mount.local, "a/k", "one").await;
        let second = put(&mount.local, "a/k", "two").await;
        mount.local.remove_version(&key("a/k"), &first, &DeleteWhen::Always, &Guard::none()).await.unwrap();
        // The current file has its second name already, and nothing was published.
        fs::create_dir_all(shelf(&mount)).unwrap();
        fs::hard_link(mount.root().join("a/k"), shelf(&mount).join(second.to_string())).unwrap();
        match removal {
            Removal::Version => {}
            Removal::Sweep => assert_eq!(mount.local.sweep().await.unwrap().keys, 1),
            Removal::Overwrite => drop(put(&mount.local, "a/k", "three").await),
        }
        for (_, id, _) in listed(&mount.local).await {
            mount.local.remove_version(&key("a/k"), &id, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
        }
        assert!(mount.hidden("records").is_empty(), "{:?} after {removal:?}", mount.hidden("records"));
        assert!(mount.hidden("versions").is_empty() && mount.hidden("staging").is_empty());
    }
}

#[derive(Debug)]
enum Removal {
    Version,
    Sweep,
    Overwrite,
}

#[tokio::test]
async fn a_deletion_that_was_cut_short_did_not_happen() {
    let mount = mount();
    for by_sweep in [true, false] {
        let first = put(&mount.local, "a/k", "one").await;
        let second = put(&mount.local, "a/k", "two").await;
        // Moved to the shelf, and no marker beside it.
        fs::rename(mount.root().join("a/k"), shelf(&mount).join(second.to_string())).unwrap();
        fs::remove_dir(mount.root().join("a")).unwrap();
        assert_eq!(listed(&mount.local).await, [entry(second, false), entry(first, false)]);
        if by_sweep {
            assert_eq!(mount.local.sweep().await.unwrap().keys, 1);
        } else {
            let newest = mount.local.head_version(&key("a/k"), None, &ReadOptions::default()).await.unwrap();
            assert_eq!(version_of(&newest.attributes), second);
        }
        assert_eq!(mount.get("a/k").await.unwrap(), "two");
        assert_eq!(listed(&mount.local).await, [entry(second, false), entry(first, false)]);
        for id in [second, first] {
            mount.local.remove_version(&key("a/k"), &id, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn null_versions_that_were_left_behind_are_not_seen() {
    let mount = mount();
    mount.put("a/k", "null").await;
    let first = put(&mount.local, "a/k", "one").await;
    // An older null version, as a write leaves it that was cut short between its publication and the end of the old one.
    let newer = fs::read_dir(shelf(&mount)).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let older = format!("z{}", &newer[1..]);
    fs::copy(shelf(&mount).join(&newer), shelf(&mount).join(&older)).unwrap();
    assert_eq!(listed(&mount.local).await, [entry(first, false), entry(VersionId::Null, false)]);
    assert_eq!(mount.local.sweep().await.unwrap().keys, 1);
    assert!(shelf(&mount).join(newer).exists() && !shelf(&mount).join(older).exists());
}

#[tokio::test]
async fn files_of_others_are_null_versions() {
    let mount = mount();
    fs::create_dir(mount.root().join("a")).unwrap();
    fs::write(mount.root().join("a/k"), "theirs").unwrap();
    assert_eq!(listed(&mount.local).await, [entry(VersionId::Null, false)]);
    let first = put(&mount.local, "a/k", "ours").await;
    assert_eq!(listed(&mount.local).await, [entry(first, false), entry(VersionId::Null, false)]);
    let object = mount.local.get_version(&key("a/k"), &VersionId::Null, &ReadOptions::default()).await.unwrap();
    assert_eq!(object.info.etag.as_str(), md5(b"theirs"));
    // An outside edit of a version makes it theirs.
    fs::write(mount.root().join("a/k"), "edited").unwrap();
    assert_eq!(listed(&mount.local).await, [entry(VersionId::Null, false)], "the current null version hides the older one");
    let second = put(&mount.local, "a/k", "ours again").await;
    assert_eq!(listed(&mount.local).await, [entry(second, false), entry(VersionId::Null, false)]);
}
