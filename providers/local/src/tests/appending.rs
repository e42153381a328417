//! Appends in place: what readers, other programs and processes that die see of them.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use sluice_provider::{Append, AppendOptions, AttributeChange, CopyOptions, Growth, Rename, RenameOptions};

use super::*;
use crate::meta::Meta;
use crate::object::XATTR;

fn at(offset: u64) -> AppendOptions {
    let growth = Growth::new(|info, appended| {
        let etag = ETag::new(format!("{}-append", md5(info.etag.as_str().as_bytes())))?;
        let mut attributes = info.attributes.clone();
        attributes.set("last", appended.bytes.to_string());
        Ok(Seal { etag, attributes })
    });
    AppendOptions { offset, put: PutOptions::default(), growth }
}

async fn append(m: &Mount, name: &str, offset: u64, content: &str) {
    m.local.append(&key(name), body(content.as_bytes()), &at(offset)).await.unwrap();
}

/// Leaves a file as a process leaves it that dies while it appends.
fn die_while_appending(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut stored = [0; 2048];
    let length = fgetxattr(&file, XATTR, &mut stored).unwrap();
    let meta = Meta { growing: true, ..Meta::decode(&stored[..length]).unwrap() };
    fsetxattr(&file, XATTR, &meta.encode(), XattrFlags::empty()).unwrap();
    file.write_all_at(b"half of what", meta.stamp.size).unwrap();
}

#[tokio::test]
async fn it_costs_what_is_appended() {
    let m = mount();
    m.put("k", &"a".repeat(3_000_000)).await;
    let before = std::fs::metadata(m.path("k")).unwrap();
    let held = File::open(m.path("k")).unwrap();
    append(&m, "k", 3_000_000, "tail").await;
    append(&m, "k", 3_000_004, &"b".repeat(2_000_000)).await;
    let after = std::fs::metadata(m.path("k")).unwrap();
    assert_eq!((after.ino(), after.len()), (before.ino(), 5_000_004), "it was copied");
    let mut byte = [0];
    held.read_exact_at(&mut byte, 2_999_999).unwrap();
    assert_eq!(&byte, b"a");
    let inode = after.ino();
    m.local.rename(&key("k"), &key("d/l"), &RenameOptions::default()).await.unwrap();
    assert_eq!(std::fs::metadata(m.path("d/l")).unwrap().ino(), inode);
}

#[tokio::test]
async fn a_file_with_another_name_is_not_touched() {
    let m = mount();
    m.put("k", "one").await;
    let backup = m.dir.path().join("backup");
    std::fs::hard_link(m.path("k"), &backup).unwrap();
    append(&m, "k", 3, " two").await;
    assert_eq!(std::fs::read(&backup).unwrap(), b"one");
    assert_eq!(m.get("k").await.unwrap(), "one two");
}

#[tokio::test]
async fn what_somebody_died_while_appending_is_not_there() {
    let m = mount();
    m.put_with("k", "content", &[("a", "1")]).await;
    let before = m.local.head(&key("k"), &ReadOptions::default()).await.unwrap();
    die_while_appending(&m.path("k"));
    for restarted in [false, true] {
        let local = if restarted { Local::open(settings(&m.root())).unwrap() } else { m.local.clone() };
        let info = local.head(&key("k"), &ReadOptions::default()).await.unwrap();
        assert_eq!((info.size, &info.etag, info.modified), (7, &before.etag, before.modified));
        assert_eq!(info.attributes, before.attributes);
        let listed = local.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
        let ListEntry::Object(listed) = &listed.entries[0] else { panic!("{listed:?}") };
        assert_eq!((listed.size, &listed.etag), (7, &before.etag));
    }
    assert_eq!(m.get("k").await.unwrap(), "content");
    m.local.copy(&key("k"), &key("copy"), &CopyOptions::default()).await.unwrap();
    assert_eq!(m.get("copy").await.unwrap(), "content");
    // A change of attributes is no end of it.
    let change = AttributeChange { if_match: None, set: vec![("a".into(), Some("2".into()))] };
    m.local.set_attributes(&key("k"), &change).await.unwrap();
    assert_eq!(m.get("k").await.unwrap(), "content");
    append(&m, "k", 7, "!").await;
    assert_eq!((m.get("k").await.unwrap().as_str(), std::fs::metadata(m.path("k")).unwrap().len()), ("content!", 8));
    let info = m.local.head(&key("k"), &ReadOptions::default()).await.unwrap();
    assert_eq!((info.attributes.get("a"), info.attributes.get("last")), (Some("2"), Some("1")));
}

#[tokio::test]
async fn what_others_write_is_appended_to_and_seen() {
    let m = mount();
    std::fs::write(m.path("k"), "theirs").unwrap();
    append(&m, "k", 6, " and ours").await;
    assert_eq!(m.get("k").await.unwrap(), "theirs and ours");
    let mut file = File::options().append(true).open(m.path("k")).unwrap();
    std::io::Write::write_all(&mut file, b", and theirs").unwrap();
    assert_eq!(m.get("k").await.unwrap(), "theirs and ours, and theirs");
}
