//! Files that somebody else wrote, and objects that somebody else touched.

use super::*;
use rustix::fs::{fgetxattr, fsetxattr};
use sluice_provider::AttributeChange;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, symlink};

fn has_xattr(path: &Path) -> bool {
    fgetxattr(fs::File::open(path).unwrap(), "user.sluice", &mut [0; 4096]).is_ok()
}

#[tokio::test]
async fn a_foreign_file_is_an_object_at_once() {
    for xattrs in [true, false] {
        let mount = mount_with(|settings| settings.xattrs = xattrs);
        fs::create_dir_all(mount.path("in/here")).unwrap();
        fs::write(mount.path("in/here/f"), "hello").unwrap();
        assert_eq!(mount.get("in/here/f").await.unwrap(), "hello");
        let page = mount.local.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
        let [ListEntry::Object(info)] = &page.entries[..] else { panic!("{page:?}") };
        assert_eq!((info.key.as_str(), info.size, info.etag.as_str()), ("in/here/f", 5, md5(b"hello").as_str()));
        mount.put("in/here/f", "ours now").await;
        assert_eq!(mount.get("in/here/f").await.unwrap(), "ours now");
    }
}

#[tokio::test]
async fn its_etag_is_computed_once_when_it_is_settled() {
    let mount = mount();
    let path = mount.path("f");
    fs::write(&path, "hello").unwrap();
    age(&path);
    mount.get("f").await.unwrap();
    assert!(has_xattr(&path));
    // Content that changes without its stamp shows that nobody reads it again.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_at(b"J", 0).unwrap();
    set_modified(&path, modified);
    let info = mount.local.head(&key("f"), &ReadOptions::default()).await.unwrap();
    assert_eq!(info.etag.as_str(), md5(b"hello"));
}

#[tokio::test]
async fn the_etag_of_a_file_that_may_still_be_written_is_not_stored() {
    let mount = mount();
    let path = mount.path("f");
    fs::write(&path, "hello").unwrap();
    set_modified(&path, SystemTime::now() + Duration::from_secs(3));
    mount.get("f").await.unwrap();
    assert!(!has_xattr(&path));
    // So far ahead that somebody must have set it: the next write would move it.
    set_modified(&path, SystemTime::now() + Duration::from_secs(1000));
    mount.get("f").await.unwrap();
    assert!(has_xattr(&path));
}

#[tokio::test]
async fn an_outside_edit_is_noticed_and_drops_the_attributes() {
    for xattrs in [true, false] {
        for large in [1, 5000] {
            let mount = mount_with(|settings| settings.xattrs = xattrs);
            mount.put_with("f", "hello", &[("content-type", "text/x"), ("meta.big", &"x".repeat(large))]).await;
            assert_eq!(mount.attributes("f").await.get("content-type"), Some("text/x"));
            // In place, of the same size, in the same inode: only the modification time tells.
            fs::OpenOptions::new().write(true).open(mount.path("f")).unwrap().write_at(b"HELLO", 0).unwrap();
            assert_eq!(mount.get("f").await.unwrap(), "HELLO");
            assert!(mount.attributes("f").await.is_empty());
        }
    }
}

#[tokio::test]
async fn attributes_can_be_set_on_a_foreign_file() {
    for xattrs in [true, false] {
        let mount = mount_with(|settings| settings.xattrs = xattrs);
        fs::write(mount.path("f"), "hello").unwrap();
        age(&mount.path("f"));
        let before = mount.local.head(&key("f"), &ReadOptions::default()).await.unwrap();
        let change = AttributeChange { if_match: Some(before.etag.clone()), set: vec![("tags".into(), Some("a=b".into()))] };
        let after = mount.local.set_attributes(&key("f"), &change).await.unwrap();
        assert_eq!((after.etag, after.modified), (before.etag, before.modified));
        assert_eq!(mount.attributes("f").await.get("tags"), Some("a=b"));
        assert_eq!(mount.get("f").await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn nonsense_in_the_attribute_makes_a_file_foreign() {
    let mount = mount();
    for nonsense in [&b""[..], b"\x01", &[0xff; 300]] {
        mount.put_with("f", "hello", &[("content-type", "text/x")]).await;
        let file = fs::File::open(mount.path("f")).unwrap();
        fsetxattr(file.as_fd(), "user.sluice", nonsense, rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(mount.get("f").await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn a_root_without_xattrs_can_move_to_where_there_are() {
    let mount = mount_with(|settings| settings.xattrs = false);
    mount.put_with("f", "hello", &[("content-type", "text/x")]).await;
    let with = Local::open(settings(&mount.root())).unwrap();
    let info = with.head(&key("f"), &ReadOptions::default()).await.unwrap();
    assert_eq!(info.attributes.get("content-type"), Some("text/x"));
}

/// What another root over the same files has read is nothing to one that keeps attributes elsewhere.
#[tokio::test]
async fn a_root_without_xattrs_lists_what_it_reads() {
    let with = mount();
    let without = Local::open(Settings { xattrs: false, ..settings(&with.root()) }).unwrap();
    with.put_with("f", "hello", &[("content-type", "text/with")]).await;
    std::thread::sleep(std::time::Duration::from_millis(30));
    let look = async || {
        // The one that has them tells everybody of the inode.
        assert_eq!(with.attributes("f").await.get("content-type"), Some("text/with"));
        let page = without.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
        let [ListEntry::Object(listed)] = &page.entries[..] else { panic!("{page:?}") };
        let read = without.head(&key("f"), &ReadOptions::default()).await.unwrap();
        assert_eq!((&listed.etag, &listed.attributes), (&read.etag, &read.attributes));
        read.attributes.get("content-type").map(str::to_owned)
    };
    assert_eq!(look().await, None);
    let set = vec![("content-type".into(), Some("text/without".into()))];
    let change = AttributeChange { if_match: None, set };
    without.set_attributes(&key("f"), &change).await.unwrap();
    assert_eq!(look().await.as_deref(), Some("text/without"));
}

#[tokio::test]
async fn what_is_not_a_file_is_not_an_object() {
    let mount = mount();
    fs::write(mount.dir.path().join("secret"), "secret").unwrap();
    symlink("../secret", mount.path("file")).unwrap();
    symlink("..", mount.path("dir")).unwrap();
    fs::create_dir(mount.path("empty")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, mount.path("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(mount.names("", None).await, [""; 0]);
    assert_eq!(mount.names("", Some("/")).await, [""; 0]);
    for name in ["file", "dir", "dir/secret", "empty", "fifo", "../secret", "dir/root/file"] {
        assert_eq!(mount.get(name).await, Err(ErrorKind::NotFound), "{name}");
    }
    // What is in the way stays, and the object is kept beside it.
    for name in ["file", "fifo", "empty"] {
        mount.put(name, "x").await;
        assert_eq!(mount.get(name).await.unwrap(), "x");
    }
    assert_eq!(mount.names("", None).await, ["empty", "fifo", "file"]);
    let refused = mount.local.put(&key("dir/new"), body(b"x"), &PutOptions::default()).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(fs::read(mount.dir.path().join("secret")).unwrap(), b"secret");
    assert!(!mount.dir.path().join("new").exists());
    for name in ["file", "fifo", "empty"] {
        mount.delete(name).await.unwrap();
    }
    assert!(mount.path("file").is_symlink());
    assert_eq!(mount.names("", None).await, [""; 0]);
}

#[tokio::test]
async fn links_are_followed_when_wanted_but_never_out_of_the_root() {
    let mount = mount_with(|settings| settings.follow_symlinks = true);
    fs::write(mount.dir.path().join("secret"), "secret").unwrap();
    mount.put("real/f", "content").await;
    fs::create_dir(mount.path("sub")).unwrap();
    symlink("../real/f", mount.path("sub/link")).unwrap();
    symlink("../../secret", mount.path("sub/out")).unwrap();
    symlink(mount.dir.path().join("secret"), mount.path("sub/absolute")).unwrap();
    symlink(".", mount.path("sub/cycle")).unwrap();
    symlink("../real", mount.path("sub/dir")).unwrap();
    assert_eq!(mount.get("sub/link").await.unwrap(), "content");
    for name in ["sub/out", "sub/absolute", "sub/cycle/link", "sub/dir/f"] {
        assert_eq!(mount.get(name).await, Err(ErrorKind::NotFound), "{name}");
    }
    assert_eq!(mount.names("", None).await, ["real/f", "sub/link"]);
    mount.put("sub/link", "new").await;
    assert_eq!((mount.get("sub/link").await.unwrap(), mount.get("real/f").await.unwrap()), ("new".into(), "content".into()));
}

#[tokio::test]
async fn a_file_that_was_copied_with_its_attributes_keeps_them() {
    let mount = mount();
    mount.put_with("f", "hello", &[("content-type", "text/x")]).await;
    let mut value = [0; 4096];
    let length = fgetxattr(fs::File::open(mount.path("f")).unwrap(), "user.sluice", &mut value).unwrap();
    fs::copy(mount.path("f"), mount.path("restored")).unwrap();
    let restored = fs::File::open(mount.path("restored")).unwrap();
    fsetxattr(restored.as_fd(), "user.sluice", &value[..length], rustix::fs::XattrFlags::empty()).unwrap();
    set_modified(&mount.path("restored"), fs::metadata(mount.path("f")).unwrap().modified().unwrap());
    assert_eq!(mount.attributes("restored").await.get("content-type"), Some("text/x"));
}
