//! Older versions and a loss of power: the shelf is gone, as it may be while it was not flushed, and the spare name is not.

use super::*;
use crate::versions::SPARES_OF_A_DIRECTORY;
use sluice_provider::{AttributeChange, DeleteWhen, Guard, VersionId, Versioning, Versions, version_of};
use std::fs;

/// `None` where the file system is none that spare names are used on.
fn durable() -> Option<Mount> {
    let mount = mount_with(|settings| settings.durability = Durability::Fsync);
    mount.local.0.spares.used().then_some(mount)
}

async fn put(mount: &Mount, name: &str, content: &str) -> VersionId {
    let put = PutOptions::default();
    let info = mount.local.put_version(&key(name), body(content.as_bytes()), &put, Versioning::Enabled).await.unwrap();
    version_of(&info.attributes)
}

async fn read(mount: &Mount, name: &str, version: &VersionId) -> Result<String, ErrorKind> {
    let object = mount.local.get_version(&key(name), version, &ReadOptions::default()).await.map_err(|e| *e.kind())?;
    let Body::Bytes(bytes) = object.body else { panic!("small objects are read at once") };
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn remove(mount: &Mount, name: &str, version: &VersionId) {
    mount.local.remove_version(&key(name), version, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
}

/// How many versions are listed.
async fn count(mount: &Mount) -> usize {
    mount.local.list_versions(&ListQuery { limit: 1000, ..ListQuery::default() }).await.unwrap().entries.len()
}

fn spares(mount: &Mount) -> usize {
    mount.hidden("spare").len()
}

/// The process ends, everything that was not flushed on a shelf is lost, and the next process opens the root.
fn lose_power(mut mount: Mount) -> Mount {
    let shelves = mount.path(".sluice/versions");
    fs::remove_dir_all(&shelves).unwrap();
    fs::create_dir(&shelves).unwrap();
    reopen(&mut mount);
    mount
}

fn reopen(mount: &mut Mount) {
    let settings = |root: PathBuf| Settings { durability: Durability::Fsync, ..Settings::new(root) };
    // The old one must have let go of its lock first.
    let elsewhere = mount.dir.path().join("elsewhere");
    drop(std::mem::replace(&mut mount.local, Local::open(settings(elsewhere)).unwrap()));
    mount.local = Local::open(settings(mount.root())).unwrap();
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_loss_of_power() {
    let Some(mount) = durable() else { return };
    let odd = "a%2F/~ä/k";
    mount.put("null/k", "zero").await;
    put(&mount, "null/k", "one").await;
    let (first, second) = (put(&mount, odd, "one").await, put(&mount, odd, "two").await);
    let third = put(&mount, odd, "three").await;
    assert_eq!((spares(&mount), count(&mount).await), (3, 5));
    let mount = lose_power(mount);
    assert_eq!(count(&mount).await, 5);
    assert_eq!(read(&mount, "null/k", &VersionId::Null).await.unwrap(), "zero");
    for (version, content) in [(first, "one"), (second, "two"), (third, "three")] {
        assert_eq!(read(&mount, odd, &version).await.unwrap(), content);
    }
    assert_eq!(fs::read_dir(mount.path(".sluice/spare")).unwrap().count(), 1, "nothing but the lock");
}

/// A check of a file system without a journal finds the name of a directory that was never written on another file.
#[tokio::test]
async fn what_is_no_directory_makes_place() {
    let Some(mut mount) = durable() else { return };
    let first = put(&mount, "k", "one").await;
    put(&mount, "k", "two").await;
    let below = put(&mount, "d/k", "one").await;
    put(&mount, "d/k", "two").await;
    for lost in [".sluice/versions/.sluice%k%00", ".sluice/versions/d"] {
        fs::remove_dir_all(mount.path(lost)).unwrap();
        fs::hard_link(mount.path("k"), mount.path(lost)).unwrap();
    }
    reopen(&mut mount);
    assert_eq!(count(&mount).await, 4);
    assert_eq!(read(&mount, "k", &first).await.unwrap(), "one");
    assert_eq!(read(&mount, "d/k", &below).await.unwrap(), "one");
    assert_eq!(mount.get("k").await.unwrap(), "two");
}

#[tokio::test]
async fn a_write_that_did_not_happen_leaves_nothing() {
    let Some(mount) = durable() else { return };
    let first = put(&mount, "k", "one").await;
    put(&mount, "k", "two").await;
    // The names were made, and the power went before the new object was published.
    fs::rename(mount.path(".sluice/versions/.sluice%k%00").join(first.to_string()), mount.path("k")).unwrap();
    let mount = lose_power(mount);
    assert_eq!(mount.local.sweep().await.unwrap().keys, 1);
    assert_eq!((count(&mount).await, read(&mount, "k", &first).await.unwrap().as_str()), (1, "one"));
    remove(&mount, "k", &first).await;
    assert_eq!(count(&mount).await, 0);
}

#[tokio::test]
async fn what_was_removed_does_not_come_back() {
    let Some(mount) = durable() else { return };
    let (first, second) = (put(&mount, "k", "one").await, put(&mount, "k", "two").await);
    let third = put(&mount, "k", "three").await;
    remove(&mount, "k", &first).await;
    assert_eq!(spares(&mount), 1);
    // The next takes the place of the one that goes, and goes.
    remove(&mount, "k", &third).await;
    assert_eq!((spares(&mount), count(&mount).await), (0, 1));
    let mount = lose_power(mount);
    assert_eq!((count(&mount).await, mount.get("k").await.unwrap().as_str()), (1, "two"));
    remove(&mount, "k", &second).await;
    // Nor the bytes of a version that has none any more.
    let first = put(&mount, "k", "one").await;
    put(&mount, "k", "two").await;
    let change = AttributeChange::default();
    mount.local.hollow_version(&key("k"), &first, &change, &Guard::none()).await.unwrap();
    assert_eq!((spares(&mount), read(&mount, "k", &first).await.unwrap().as_str()), (0, ""));
}

#[tokio::test]
async fn shelves_that_are_on_disk_need_no_spare_names() {
    let Some(mount) = durable() else { return };
    let first = put(&mount, "k", "one").await;
    put(&mount, "k", "two").await;
    assert_eq!(spares(&mount), 1);
    mount.local.sweep().await.unwrap();
    assert_eq!((spares(&mount), count(&mount).await), (0, 2));
    // The same without a sweep, when there are many.
    for number in 0..=SPARES_OF_A_DIRECTORY {
        put(&mount, &format!("{}", number % 4), "again").await;
    }
    let until = SystemTime::now() + Duration::from_secs(60);
    while spares(&mount) > SPARES_OF_A_DIRECTORY / 2 {
        assert!(SystemTime::now() < until, "{} spare names", spares(&mount));
        tokio::time::sleep(Duration::from_millis(5)).await;
        // Whoever ended a directory may have found too few; the next write looks again.
        put(&mount, "0", "again").await;
    }
    assert_eq!(read(&mount, "k", &first).await.unwrap(), "one");
}

#[tokio::test]
async fn spare_names_of_the_living_are_left_alone_and_used() {
    let Some(mount) = durable() else { return };
    let first = put(&mount, "k", "one").await;
    put(&mount, "k", "two").await;
    let other = Local::open(Settings { durability: Durability::Fsync, ..Settings::new(mount.root()) }).unwrap();
    other.sweep().await.unwrap();
    assert_eq!(spares(&mount), 1);
    // Another process removes what we keep.
    other.remove_version(&key("k"), &first, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
    assert_eq!((spares(&mount), count(&mount).await), (0, 1));
}

#[tokio::test]
async fn a_key_without_a_spare_name_is_kept_all_the_same() {
    let Some(mount) = durable() else { return };
    let name = "long/".repeat(80);
    let name = format!("{name}k");
    let first = put(&mount, &name, "one").await;
    put(&mount, &name, "two").await;
    assert_eq!(spares(&mount), 0);
    assert_eq!(read(&mount, &name, &first).await.unwrap(), "one");
}
